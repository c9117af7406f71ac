"""Message: one turn's words, which never change."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, cast

import msgspec
from typing_extensions import Self

from pyai_sessions.concurrency.processes import process_id
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import EPOCH, MAX_ID_BYTES, check_id, check_text, check_time, kind_of, utc_now
from pyai_sessions.values.codec import JSON_VALUE, TIME, Document, checked, time_text, unchangeable
from pyai_sessions.values.json import FrozenDict, frozen, frozen_object, is_array, plain, plain_object
from pyai_sessions.values.tokens import new_timed_id

_NOTHING = FrozenDict()
"""The metadata of all messages that have none."""


_TO_DRAW = str(b"to be drawn", "ascii")
"""Stands for the id of a message that is given none; told by which object it is, so a text like it is an id."""


@unchangeable("use session.replace_message(message, ...)")
@dataclass(frozen=True, repr=False)
class Message(Document):
    """One message of a conversation. It cannot change; a session has methods that replace or remove it.

    Attributes:
        role: Free text: ``"user"``, ``"assistant"``, ``"system"``, ``"tool"``, or what your framework says.
        content: Text, or any JSON: multimodal parts, a tool's result, None.
        metadata: JSON of your own, by text keys.
        timestamp: When it was made, in UTC.
        message_id: Unique within its session: a message saved twice is stored once.
        tool_calls: The calls that an assistant's message asks for, as JSON.
        tool_call_id: Which call a tool's message answers.
        name: The author's name, where several share a role.

    >>> Message("user", "Hello!").role
    'user'
    >>> Message("user", {1, 2})
    Traceback (most recent call last):
    pyai_sessions.errors.InvalidValueError: content is a set, which JSON cannot hold; ...

    """

    role: str
    content: Any = field(default="", metadata=JSON_VALUE)
    metadata: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, metadata=JSON_VALUE)
    timestamp: datetime = field(default_factory=utc_now, metadata=TIME)
    message_id: str = field(default=_TO_DRAW, metadata=checked(check_id))
    tool_calls: Sequence[Any] | None = field(default=None, metadata=JSON_VALUE)
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the fields, and freeze those that are containers."""
        put = object.__setattr__  # seldom called: this runs for every message that is read
        if type(self.content) is not str or not self.content.isascii():
            put(self, "content", frozen(self.content, "content"))
        if self.metadata is not _NOTHING:
            put(self, "metadata", frozen_object(self.metadata, "metadata"))
        if self.tool_calls is not None:
            put(self, "tool_calls", _frozen_list(self.tool_calls, "tool_calls"))
        if type(self.timestamp) is not type(EPOCH) or self.timestamp.tzinfo is not timezone.utc:
            put(self, "timestamp", check_time(self.timestamp, "timestamp"))
        if type(self.role) is not str or not self.role.isascii():
            put(self, "role", check_text(self.role, "role"))
        if self.message_id is _TO_DRAW:
            vars(self).update(message_id=new_timed_id(), _drawn_by=process_id())
        elif check_id(self.message_id, "message_id") is not self.message_id:
            put(self, "message_id", check_id(self.message_id, "message_id"))
        if self.tool_call_id is not None:
            put(self, "tool_call_id", check_text(self.tool_call_id, "tool_call_id"))
        if self.name is not None:
            put(self, "name", check_text(self.name, "name"))

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the message that ``to_dict`` made *kvs* of.

        Raises:
            InvalidValueError: It is none; the error names the field.

        """
        given = cast("dict[str, Any]", kvs)
        if (
            type(kvs) is dict
            and "role" in given
            and "timestamp" in given
            and all(key in _TYPES and type(value) in _TYPES[key] for key, value in given.items())
        ):  # as it is written: a twentieth of the declared codec's cost
            return cls(**given)
        return super().from_dict(kvs, infer_missing=infer_missing)

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the message as JSON values, unknown fields included."""
        if encode_json:
            return super().to_dict(encode_json)
        return {
            "role": self.role,
            "content": self.content if type(self.content) is str else plain(self.content, "content"),
            "metadata": plain_object(self.metadata, "metadata") if self.metadata else {},
            "timestamp": time_text(self.timestamp),
            "message_id": self.message_id,
            "tool_calls": None if self.tool_calls is None else plain(self.tool_calls, "tool_calls"),
            "tool_call_id": self.tool_call_id,
            "name": self.name,
            **(plain_object(self.unknown_fields, "Message") if self.unknown_fields else {}),
        }

    def __hash__(self) -> int:
        return hash(self.message_id)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mark of a drawn id: of a message that was copied, another may be stored already."""
        return {name: value for name, value in vars(self).items() if name != "_drawn_by"}

    def __repr__(self) -> str:
        """Without the content: a repr ends up in logs."""
        return f"<Message {self.message_id!r} role={self.role!r} content: {type(self.content).__name__}>"


def take_drawn(message: Message) -> bool:
    """Return whether a message's id was drawn for it and has been given to no session yet; it has from now on.

    No stored message can have such an id. One that a caller chose may be stored already, and so may a message that was
    given before, copied, unpickled or inherited from a process that forked.
    """
    return bool(vars(message).pop("_drawn_by", None) == process_id())


def same_words(one: Message, other: Message) -> bool:
    """Return whether two messages are the same in all but their times: what is delivered again comes later."""
    return one is other or one.to_dict() | {"timestamp": ""} == other.to_dict() | {"timestamp": ""}


def taken(message_id: str) -> InvalidValueError:
    """Return the error that refuses a message whose id another message of the session has."""
    problem = (
        f"{message_id!r} is taken by another message of the session, with other content; give this one another id, or "
        "change that one with session.replace_message"
    )
    return InvalidValueError("message_id", problem)


_TEXT_OR_NONE = (str, type(None))
_JSON = (str, dict, list, int, float, bool, type(None))
_TYPES: dict[object, tuple[type, ...]] = {
    "role": (str,),
    "content": _JSON,
    "metadata": (dict,),
    "timestamp": (str,),
    "message_id": (str,),
    "tool_calls": (list, type(None)),
    "tool_call_id": _TEXT_OR_NONE,
    "name": _TEXT_OR_NONE,
}
"""The fields of a message in JSON, and their types."""


class ReadMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message as msgspec reads it from a store: the same fields, their types checked, unknown ones refused."""

    role: str
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    message_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
    content: Any = ""
    metadata: dict[str, Any] = {}
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    name: str | None = None


def messages_of(read: list[ReadMessage]) -> list[Message]:
    """Return the messages that were read from a store: a fifth of the cost of constructing each."""
    made: list[Message] = []
    new: Callable[[type[Message]], Message] = Message.__new__
    utc = timezone.utc
    for each in read:
        message = new(Message)
        values = vars(message)  # seldom so: the constructor's checks are done where they can fail
        values["role"] = each.role
        if type(each.content) is str and not each.metadata and each.tool_calls is None and each.timestamp.tzinfo is utc:
            values["content"] = each.content
            values["metadata"] = _NOTHING
            values["timestamp"] = each.timestamp
            values["message_id"] = each.message_id
            values["tool_calls"] = None
        else:
            values["content"] = frozen(each.content, "content")
            values["metadata"] = frozen_object(each.metadata, "metadata")
            values["timestamp"] = check_time(each.timestamp, "timestamp")
            values["message_id"] = each.message_id
            values["tool_calls"] = None if each.tool_calls is None else frozen(each.tool_calls, "tool_calls")
        values["tool_call_id"] = each.tool_call_id
        values["name"] = each.name
        made.append(message)
    return made


def check_message(value: object, place: str) -> Message:
    """Return *value* if it is a message of which a store keeps all fields."""
    if type(value) is not Message:
        if not isinstance(value, Message):
            raise InvalidValueError(place, f"is {kind_of(value)}; it is a Message")
        for name in vars(value).keys() - Message.__dataclass_fields__.keys() - {"unknown_fields"}:
            if not name.startswith("_"):
                problem = f"is a field of {type(value).__name__} that a store does not keep; put it into metadata"
                raise InvalidValueError(f"{place}.{name}", problem)
    return value


def id_of(message: object, name: str) -> str:
    """Return the id of a message that is given by itself or by its id."""
    if isinstance(message, Message):
        return message.message_id
    if isinstance(message, str):
        return message
    raise InvalidValueError(name, f"is {kind_of(message)}; it is a message of the session, or its id")


def _frozen_list(value: object, name: str) -> Any:
    if not is_array(value):
        raise InvalidValueError(name, f"is {kind_of(value)}; it is a list, or None")
    return frozen(value, name)
