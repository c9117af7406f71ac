"""Message: one message of a conversation. It cannot change."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from dataclasses_json import DataClassJsonMixin
from typing_extensions import Self

from pyai_sessions.concurrency.processes import process_id
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import EPOCH, MAX_ID_BYTES, check_id, check_text, check_time, kind_of, utc_now
from pyai_sessions.values.codec import JSON_VALUE, TIME, Document, checked, time_text, unchangeable
from pyai_sessions.values.json import (
    FrozenDict,
    check_read,
    frozen,
    frozen_object,
    frozen_read,
    is_array,
    is_mapping,
    plain,
    plain_object,
)
from pyai_sessions.values.tokens import new_timed_id

_NOTHING = FrozenDict()
"""The metadata of all messages that have none."""


_TO_DRAW = str(b"to be drawn", "ascii")
"""The default id: a new one is drawn. It is compared by identity, so an equal text is an ordinary id."""


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


_FROZEN = ("content", "metadata", "tool_calls")
"""The fields that may be containers. If a store read the message, the first access to one of them freezes them."""


class _Readable(Document):
    """The base of `Message`: until a container is accessed, a slot holds the message as the store read it.

    The slot of any other message is never set.
    """

    __slots__ = ("_read",)
    _read: ReadMessage | None

    if not TYPE_CHECKING:  # else a type checker would take any name for a field

        def __getattr__(self, name: str) -> Any:
            """Make msgspec get each field by its name. For a class without this method it would read `__dict__`."""
            return object.__getattribute__(self, name)

        @property
        def __dict__(self) -> dict[str, Any]:
            """All fields, for callers of `vars`."""
            _freeze(self, getattr(self, "_read", None))
            return _dict_of(self)


class _Field:
    """Gets a field that is not yet in the message's `__dict__`. Python looks there first."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, message: Any, kind: object = None) -> Any:
        if message is None:
            return self
        _freeze(message, message._read)  # noqa: SLF001
        return _dict_of(message)[self._name]


_set_read: Callable[[_Readable, ReadMessage | None], None] = vars(_Readable)["_read"].__set__
_dict_of: Callable[[_Readable], dict[str, Any]] = vars(DataClassJsonMixin)["__dict__"].__get__


def _freeze(message: _Readable, read: ReadMessage | None) -> None:
    """Freeze the containers that were read, and set them. Two threads that do so at once set equal values."""
    if read is not None:
        values = _dict_of(message)
        values["content"] = frozen_read(read.content)
        values["metadata"] = frozen_read(read.metadata) if read.metadata else _NOTHING
        values["tool_calls"] = frozen_read(read.tool_calls)
        _set_read(message, None)


def metadata_of(message: "Message") -> Mapping[str, Any]:
    """Return the metadata of a message to look at. Of one that was read it is not frozen, so it must not be changed.

    To freeze the containers of a message takes half as long as to read it.
    """
    if "metadata" not in _dict_of(message):
        read = message._read  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if read is not None:  # another thread has not frozen it meanwhile
            return read.metadata
    return message.metadata


GROWING, CUT_OFF = "growing_until", "cut_off"
"""The keys of what is stored of a message that is not complete: see `Message.status`."""

Status = Literal["complete", "growing", "cut off"]


@unchangeable("use session.replace_message(message, ...)")
@dataclass(frozen=True, repr=False)
class Message(_Readable):
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
        values = _dict_of(self)  # not the attributes: this runs for every message that is made
        content, role, timestamp = values["content"], values["role"], values["timestamp"]
        if type(content) is not str or not content.isascii():
            values["content"] = frozen(content, "content")
        if values["metadata"] is not _NOTHING:
            values["metadata"] = frozen_object(values["metadata"], "metadata")
        if values["tool_calls"] is not None:
            values["tool_calls"] = _frozen_list(values["tool_calls"], "tool_calls")
        if type(timestamp) is not type(EPOCH) or timestamp.tzinfo is not timezone.utc:
            values["timestamp"] = check_time(timestamp, "timestamp")
        if type(role) is not str or not role.isascii():
            values["role"] = check_text(role, "role")
        if values["message_id"] is _TO_DRAW:
            values["message_id"] = new_timed_id()
            values["_drawn_by"] = process_id()
        else:
            values["message_id"] = check_id(values["message_id"], "message_id")
        if values["tool_call_id"] is not None:
            values["tool_call_id"] = check_text(values["tool_call_id"], "tool_call_id")
        if values["name"] is not None:
            values["name"] = check_text(values["name"], "name")

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the message that ``to_dict`` made *kvs* of.

        Raises:
            InvalidValueError: It is none; the error names the field. A message without a content has tool calls.

        """
        given = cast("dict[str, Any]", kvs)
        if is_mapping(kvs) and "role" in kvs and not ("content" in kvs or kvs.get("tool_calls") or infer_missing):
            problem = "is missing, and so are tool_calls; session.add_messages takes what an API's client has instead"
            raise InvalidValueError("content", problem)
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

    @property
    def status(self) -> Status:
        """Whether ``manager.stream`` has stored all of it: ``"complete"``, ``"growing"`` or ``"cut off"``, as of now.

        All other messages are complete. One that grows is stored again and again, with the time until which its writer
        will have stored more: ``growing_until`` in its JSON. After that time it is cut off; should the writer go on
        after all, it grows again. One whose writer was stopped says ``"cut_off": true``.
        """
        return self.status_at(utc_now()) if self.unknown_fields else "complete"

    def status_at(self, time: datetime) -> Status:
        """Return the status at a time."""
        if CUT_OFF in self.unknown_fields:
            return "cut off"
        until = self.unknown_fields.get(GROWING)
        if until is None:
            return "complete"
        try:
            return "growing" if time < check_time(until, GROWING) else "cut off"
        except InvalidValueError:
            return "cut off"

    def __hash__(self) -> int:
        return hash(self.message_id)

    def __getstate__(self) -> dict[str, Any]:
        """Without the mark of a drawn id: of a message that was copied, another may be stored already."""
        return {name: value for name, value in vars(self).items() if name != "_drawn_by"}

    def __repr__(self) -> str:
        """Without the content: a repr ends up in logs."""
        return f"<Message {self.message_id!r} role={self.role!r} content: {type(self.content).__name__}>"


OF_OTHERS = frozenset({
    "openai", "responses", "anthropic", "gemini", "bedrock",
    "agent_framework", "chatkit", "claude_agent_sdk", "google_adk", "langchain", "langgraph", "openai_agents",
    "pydantic_ai", "strands",
})  # fmt: skip
"""The keys of metadata under which APIs and frameworks keep what they alone know of a message."""

_WORDS = ("role", "content", "tool_calls", "tool_call_id", "name")


def replaced(message: Message, changes: Mapping[str, Any]) -> Message:
    """Return a message with other fields. While it says the same, it keeps what APIs and frameworks know of it."""
    metadata = changes.get("metadata")
    if is_mapping(metadata) and message.metadata and not any(each in changes for each in _WORDS):
        kept = {key: each for key, each in message.metadata.items() if key in OF_OTHERS}
        changes = {**changes, "metadata": {**kept, **metadata}}
    made = replace(message, **changes)
    made.keep_unknown(message.unknown_fields)
    return made


def fields_of(message: Message) -> dict[str, Any]:
    """Return the fields of a message but its id: what puts it in the place of another."""
    return {name: getattr(message, name) for name in Message.__dataclass_fields__ if name != "message_id"}


def take_drawn(message: Message) -> bool:
    """Return whether a message's id was drawn for it and has been given to no session yet; it has from now on.

    No stored message can have such an id. One that a caller chose may be stored already, and so may a message that was
    given before, copied, unpickled or inherited from a process that forked.
    """
    return bool(_dict_of(message).pop("_drawn_by", None) == process_id())


def same_words(one: Message, other: Message) -> bool:
    """Return whether two messages are the same in all but their times: what is delivered again comes later."""
    return one is other or one.to_dict() | {"timestamp": ""} == other.to_dict() | {"timestamp": ""}


def is_same(one: Message, other: Message) -> bool:
    """Return whether two messages are the same in all fields, those that this release does not know included."""
    return one == other and one.unknown_fields == other.unknown_fields


def is_rated(one: Message, other: Message) -> bool:
    """Return whether two messages differ in their metadata alone."""
    return one is other or one.to_dict() | {"metadata": {}} == other.to_dict() | {"metadata": {}}


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
for _name in _FROZEN:  # after the dataclass was made, which would take these for defaults
    setattr(Message, _name, _Field(_name))


def messages_of(read: list[ReadMessage]) -> list[Message]:
    """Return the messages that were read from a store, all of their fields checked: a fifth of a constructor's cost.

    Raises:
        InvalidValueError: JSON holds them, and a message cannot: it is nested too deeply, for example.

    """
    made: list[Message] = []
    new: Callable[[type[Message]], Message] = Message.__new__
    utc = timezone.utc
    for each in read:
        message = new(Message)
        values = _dict_of(message)  # seldom so: the constructor's checks are done where they can fail
        values["role"] = each.role
        values["timestamp"] = (
            each.timestamp if each.timestamp.tzinfo is utc else check_time(each.timestamp, "timestamp")
        )
        values["message_id"] = each.message_id
        is_text = type(each.content) is str and each.tool_calls is None
        if is_text:
            values["content"] = each.content
            values["tool_calls"] = None
        if is_text and not each.metadata:
            values["metadata"] = _NOTHING
        else:
            for name in _FROZEN:
                check_read(getattr(each, name), name)
            _set_read(message, each)
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
