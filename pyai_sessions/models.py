"""What users hold in their hands: Message, Session, Checkpoint and SessionSummary.

They are dataclasses-json classes (``to_json``, ``from_json``, ``to_dict``, ``from_dict``, ``schema``): this is the only
module that depends on that package. Stores write the same JSON by a faster way, see `pyai_sessions.documents`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, ClassVar, NoReturn, overload
from uuid import uuid4

from dataclasses_json import DataClassJsonMixin, config
from marshmallow import fields as mm

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.values import frozen, plain

Clock = Callable[[], datetime]
"""Returns the current time, aware. Stores and tests set it; nothing else here reads the time."""

MAX_ID_BYTES = 1024
_TICK = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


def new_id() -> str:
    """Return a new message id: 32 hex digits, 122 of their bits random."""
    return uuid4().hex


def new_session_id() -> str:
    """Return a new session id: ``sess_`` and 32 hex digits, 122 of their bits random."""
    return f"sess_{uuid4().hex}"


def check_id(value: object, name: str) -> str:
    """Return *value* if it can be an id: text of 1 to 1,024 bytes in UTF-8. *name* is used in the error."""
    if not isinstance(value, str):
        raise InvalidValueError(name, f"is a {type(value).__name__}; it is text, 1 to {MAX_ID_BYTES} bytes in UTF-8")
    size = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if not 0 < size <= MAX_ID_BYTES:
        raise InvalidValueError(name, f"is {size} bytes long; it is text, 1 to {MAX_ID_BYTES} bytes in UTF-8")
    return value


def check_time(value: object, name: str) -> datetime:
    """Return *value* in UTC if it is a datetime with a time zone. *name* is used in the error."""
    if not isinstance(value, datetime):
        raise InvalidValueError(name, f"is a {type(value).__name__}; it is a datetime with a time zone")
    if value.tzinfo is timezone.utc:
        return value
    if value.tzinfo is None:
        raise InvalidValueError(name, "has no time zone; pass an aware datetime: datetime.now(timezone.utc)")
    return value.astimezone(timezone.utc)


def time_text(value: datetime) -> str:
    """Return a UTC time as ISO 8601 with a Z: ``2026-01-31T12:00:00.000001Z``."""
    return value.isoformat().removesuffix("+00:00") + "Z"


def time_from_text(text: str) -> datetime:
    """Return the aware UTC time that an ISO 8601 *text* names."""
    return check_time(datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z")), "time")


# dataclasses-json would write local-zone floats, and would rebuild JSON values by their type hints.
_TIME: dict[str, dict[str, Any]] = config(encoder=time_text, decoder=time_from_text, mm_field=mm.AwareDateTime("iso"))
_JSON_VALUE: dict[str, dict[str, Any]] = config(
    encoder=lambda value: value, decoder=lambda value: value, mm_field=mm.Raw(allow_none=True)
)


class _Document(DataClassJsonMixin):
    """JSON of a dataclass in which unknown fields survive a round trip, in ``_unknown``."""

    _unknown: ClassVar[Mapping[str, Any]] = {}
    _not_fields: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Any:
        """Return the object that ``to_dict`` made *kvs* of. Raises ValueError or TypeError where it is not one."""
        if isinstance(kvs, cls):
            return kvs
        if not isinstance(kvs, Mapping):
            raise InvalidValueError(cls.__name__, f"is made from a JSON object, not from a {type(kvs).__name__}")
        known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
        made = super().from_dict({k: v for k, v in kvs.items() if k in known}, infer_missing=infer_missing)
        unknown = {k: v for k, v in kvs.items() if k not in known and k not in cls._not_fields}
        if unknown:
            made.__dict__["_unknown"] = frozen(unknown, cls.__name__)
        return made

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the object as JSON values, unknown fields included."""
        return {**super().to_dict(encode_json), **self._unknown}


@dataclass(frozen=True, repr=False)
class Message(_Document):
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
    content: Any = field(default="", metadata=_JSON_VALUE)
    metadata: Mapping[str, Any] = field(default_factory=dict, metadata=_JSON_VALUE)
    timestamp: datetime = field(default_factory=utc_now, metadata=_TIME)
    message_id: str = field(default_factory=new_id)
    tool_calls: Sequence[Any] | None = field(default=None, metadata=_JSON_VALUE)
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the fields and freeze those that are containers."""
        values = self.__dict__
        if type(self.content) is not str:
            values["content"] = frozen(self.content, "content")
        if self.metadata or type(self.metadata) is not dict:
            if not isinstance(self.metadata, Mapping):
                raise InvalidValueError("metadata", f"is a {type(self.metadata).__name__}; it is a dict with text keys")
            values["metadata"] = frozen(dict(self.metadata), "metadata")
        if self.tool_calls is not None:
            if not isinstance(self.tool_calls, (list, tuple)):
                raise InvalidValueError("tool_calls", f"is a {type(self.tool_calls).__name__}; it is a list, or None")
            values["tool_calls"] = frozen(self.tool_calls, "tool_calls")
        if type(self.timestamp) is not datetime or self.timestamp.tzinfo is not timezone.utc:
            values["timestamp"] = check_time(self.timestamp, "timestamp")
        if type(self.role) is not str:
            _check_text(self.role, "role")
        if type(self.message_id) is not str or not 0 < len(self.message_id) <= MAX_ID_BYTES // 4:
            check_id(self.message_id, "message_id")
        if self.tool_call_id is not None:
            _check_text(self.tool_call_id, "tool_call_id")
        if self.name is not None:
            _check_text(self.name, "name")

    def __hash__(self) -> int:
        return hash(self.message_id)

    def __repr__(self) -> str:
        """Without the content: a repr ends up in logs."""
        size = len(self.content) if isinstance(self.content, (str, list, dict)) else 1
        return f"<Message {self.message_id!r} role={self.role!r} {type(self.content).__name__}[{size}]>"


@dataclass(frozen=True, repr=False)
class Checkpoint(_Document):
    """A named point of a conversation that `Session.rewind` returns to.

    Attributes:
        name: Unique within the session.
        message_count: How many messages the conversation had.
        last_message_id: The id of the last of them, or None where there was none.
        state: The session's state then.
        created_at: When it was made, in UTC.

    """

    name: str
    message_count: int
    last_message_id: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict, metadata=_JSON_VALUE)
    created_at: datetime = field(default_factory=utc_now, metadata=_TIME)

    def __post_init__(self) -> None:
        """Freeze the state: a checkpoint does not change."""
        self.__dict__["state"] = frozen(self.state, "state")
        self.__dict__["created_at"] = check_time(self.created_at, "created_at")

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name!r} at {self.message_count} messages>"


class SessionStatus(str, Enum):
    """Whether a session goes on. Equal to its text: ``session.status == "active"``."""

    ACTIVE = "active"
    ARCHIVED = "archived"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, repr=False)
class SessionSummary:
    """What a list of chats shows of a session. Reading one never reads its messages.

    Attributes:
        session_id: The session's id.
        user_id: Whose it is; None for an anonymous session.
        metadata: The session's metadata: put a title there.
        message_count: How many messages are stored.
        status: Active or archived.
        created_at: When the session was created, in UTC.
        updated_at: When it last changed, in UTC: the order of lists.

    """

    session_id: str
    user_id: str | None
    metadata: Mapping[str, Any]
    message_count: int
    status: SessionStatus
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"<SessionSummary {self.session_id!r} {self.status} {self.message_count} messages>"


class Messages(Sequence[Message]):
    """A session's messages: iterated, indexed, sliced and compared as a list, changed by the session's methods."""

    __slots__ = ("_hidden", "_log")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, log: list[Message], hidden: int = 0) -> None:
        self._log = log
        self._hidden = hidden  # how many of the loaded messages are older than what was asked for

    def __len__(self) -> int:
        return len(self._log) - self._hidden

    def __iter__(self) -> Iterator[Message]:
        return iter(self._log[self._hidden :] if self._hidden else self._log)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self._log[self._hidden :][index] if self._hidden else self._log[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Messages):
            other = list(other)
        return isinstance(other, (list, tuple)) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"<{len(self)} messages>"

    def __getattr__(self, name: str) -> NoReturn:
        remedy = ""
        if hasattr(list, name):
            remedy = "; a session's history changes by session.add_message, pop, replace_message or remove_message"
        msg = f"{type(self).__name__} has no attribute {name!r}{remedy}"
        raise AttributeError(msg)


@dataclass(frozen=True)
class Run:
    """Consecutive sealed pages: *pages* of them, holding *messages*, under one *owner* and *generation*."""

    owner: str
    generation: str
    pages: int
    messages: int


@dataclass(frozen=True)
class Origin:
    """What a store knew of a session when it was loaded or last saved: the base of a merge."""

    stamp: str
    """The start of the stored head, up to its revision: what a save compares."""
    revision: str
    incarnation: str
    """A token of the session's creation: one created anew under the same id has another."""
    edition: str
    """A token of the last rewriting of the history: while it stays, messages were only appended."""
    user_id: str | None
    status: SessionStatus
    updated_at: datetime
    state: str
    metadata: str
    checkpoints: str
    runs: tuple[Run, ...]
    message_count: int
    last_message: Message | None

    @property
    def sealed(self) -> int:
        """How many messages lie in pages."""
        return sum(run.messages for run in self.runs)


@dataclass(repr=False)
class Session(_Document):
    """A conversation: messages, metadata and state. One thread at a time may use one object.

    Attributes:
        session_id: Any text of 1 to 1,024 bytes; made at random if none is given.
        user_id: Whose it is, or None. It may change: the session then moves to the other user's list.
        metadata: JSON of your own that lists show (a title, a channel).
        state: JSON of your own that they do not.
        status: Active or archived.
        created_at: When it was created, in UTC.
        updated_at: When it last changed, in UTC.
        checkpoints: The points that `rewind` can return to, oldest first.
        messages: The history, read as a list.

    >>> session = Session(session_id="sess_abc123", user_id="user123", metadata={"channel": "web"})
    >>> session.add_message("user", "Hello!").role
    'user'
    >>> session.set_state("last_topic", "greeting")
    >>> session.get_state("last_topic"), session.message_count
    ('greeting', 1)

    """

    session_id: str = field(default_factory=new_session_id)
    user_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict, metadata=_JSON_VALUE)
    state: dict[str, Any] = field(default_factory=dict, metadata=_JSON_VALUE)
    status: SessionStatus = SessionStatus.ACTIVE
    created_at: datetime = field(default_factory=utc_now, metadata=_TIME)
    updated_at: datetime = field(default_factory=utc_now, metadata=_TIME)
    checkpoints: list[Checkpoint] = field(
        default_factory=list,
        metadata=config(
            encoder=lambda items: [each.to_dict() for each in items],
            decoder=lambda items: [Checkpoint.from_dict(each) for each in items],
            mm_field=mm.List(mm.Nested(Checkpoint.schema())),
        ),
    )
    messages: Sequence[Message] = field(
        default_factory=list,
        metadata=config(
            encoder=lambda items: [each.to_dict() for each in items],
            decoder=lambda items: [Message.from_dict(each) for each in items],
            mm_field=mm.List(mm.Nested(Message.schema())),
        ),
    )

    # What only a stored document has.
    _not_fields = frozenset({"format", "revision", "incarnation", "edition", "sealed", "message_count"})

    def __post_init__(self) -> None:
        """Check the given fields and take copies of the containers."""
        check_id(self.session_id, "session_id")
        if self.user_id is not None:
            check_id(self.user_id, "user_id")
        self.metadata = _json_object(self.metadata, "metadata")
        self.state = _json_object(self.state, "state")
        self.status = _status(self.status)
        self.created_at = check_time(self.created_at, "created_at")
        self.updated_at = check_time(self.updated_at, "updated_at")
        self.checkpoints = list(self.checkpoints)
        log = list(self.messages)
        for n, each in enumerate(log):
            if not isinstance(each, Message):
                raise InvalidValueError(f"messages[{n}]", f"is a {type(each).__name__}; it is a Message")
        self._log = log
        self.messages = Messages(log)
        self._clock: Clock = utc_now
        self._ids: set[str] | None = None
        self._origin: Origin | None = None  # what is stored, once something is
        self._page_sizes: list[int] = []  # messages in each sealed page; meaningful while all are loaded
        self._unloaded = 0  # how many stored messages precede the loaded ones
        self._rewritten_from: int | None = None  # the first stored message that was changed or removed since
        self._incarnation: str | None = None  # the token of its creation, once a save was tried
        if len({each.message_id for each in log}) != len(log):
            raise InvalidValueError("messages", "hold one message id twice; each id is unique within its session")

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        return f"<Session {self.session_id!r} user_id={self.user_id!r} {self.status} {self.message_count} messages>"

    @property
    def message_count(self) -> int:
        """How many messages the conversation has, those that were not loaded included."""
        return self._unloaded + len(self._log)

    @property
    def revision(self) -> str | None:
        """The opaque revision that was loaded or last saved; None before the first save."""
        return self._origin.revision if self._origin else None

    # The conversation --------------------------------------------------------------------------------------------

    def add_message(self, role: str, content: Any, **fields: Any) -> Message:
        """Append a message and return it; `SessionManager.save` stores it.

        *fields* are those of `Message`: metadata, timestamp, message_id, tool_calls, tool_call_id, name.

        Raises:
            InvalidValueError: JSON cannot hold a field, or the message id is taken. Nothing was appended.

        """
        fields.setdefault("timestamp", self._clock())
        message = Message(role, content, **fields)
        self._append(message)
        return message

    def _append(self, message: Message) -> None:
        if self._ids is None:
            self._ids = {each.message_id for each in self._log}
        if message.message_id in self._ids:
            raise InvalidValueError("message_id", f"{message.message_id!r} is taken by another message of this session")
        self._ids.add(message.message_id)
        self._log.append(message)
        self._touch()

    def history(self, *, last: int | None = None, roles: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the messages as a model's client takes them: dicts of role, content, and tool fields where present.

        *last* keeps the newest so many, *roles* those of these roles; roles are chosen first.
        """
        check_limit(last, "last")
        wanted = None if roles is None else frozenset(roles)
        chosen = [each for each in self.messages if wanted is None or each.role in wanted]
        if last is not None:
            chosen = chosen[len(chosen) - min(last, len(chosen)) :]
        optional = ("name", "tool_calls", "tool_call_id")
        return [
            {
                "role": each.role,
                "content": plain(each.content, "content"),
                **{name: plain(getattr(each, name), name) for name in optional if getattr(each, name) is not None},
            }
            for each in chosen
        ]

    def pop(self) -> Message:
        """Remove the last message and return it."""
        if not self._log:
            raise SessionStateError(self.session_id, "has no message to pop" if not self._unloaded else _PARTIAL)
        message = self._log[-1]
        self._rewrite(len(self._log) - 1, [])
        return message

    def replace_message(self, message_id: str, **changes: Any) -> Message:
        """Put a changed copy in the place of a message and return it; the id stays."""
        if "message_id" in changes:
            raise InvalidValueError("message_id", "names the message to replace and cannot change")
        index = self._index(message_id)
        message = replace(self._log[index], **changes)
        message.__dict__.update({k: v for k, v in self._log[index].__dict__.items() if k == "_unknown"})
        self._rewrite(index, [message, *self._log[index + 1 :]])
        return message

    def remove_message(self, message_id: str) -> Message:
        """Remove a message and return it."""
        index = self._index(message_id)
        message = self._log[index]
        self._rewrite(index, self._log[index + 1 :])
        return message

    def clear_messages(self) -> None:
        """Remove all messages; metadata and state stay."""
        if self._unloaded:
            raise SessionStateError(self.session_id, _PARTIAL)
        self._rewrite(0, [])

    def checkpoint(self, name: str) -> Checkpoint:
        """Remember this point of the conversation, state included, under *name*, and return it.

        A checkpoint of the same name is replaced.
        """
        check_id(name, "name")
        last = self._log[-1].message_id if self._log else None
        made = Checkpoint(name, self.message_count, last, plain(self.state, "state"), self._clock())
        self.checkpoints = [each for each in self.checkpoints if each.name != name] + [made]
        self._touch()
        return made

    def rewind(self, to: str | Checkpoint) -> None:
        """Return to a checkpoint, given by itself or by its name: later messages go, the state is what it was."""
        name = to.name if isinstance(to, Checkpoint) else to
        found = next((each for each in self.checkpoints if each.name == name), None)
        if found is None:
            names = ", ".join(repr(each.name) for each in self.checkpoints) or "none"
            raise InvalidValueError("to", f"is {name!r}; the session's checkpoints are: {names}")
        keep = found.message_count - self._unloaded
        if keep < 0 or (found.message_count and not self._unloaded and keep == 0):
            raise SessionStateError(self.session_id, _PARTIAL)
        if keep > len(self._log) or (keep and self._log[keep - 1].message_id != found.last_message_id):
            raise SessionStateError(self.session_id, f"no longer has the history of checkpoint {name!r}")
        if keep < len(self._log):
            self._rewrite(keep, [])
        self.checkpoints = [each for each in self.checkpoints if each.message_count <= found.message_count]
        self.state = plain(found.state, "state")
        self._touch()

    def _index(self, message_id: str) -> int:
        for index, each in enumerate(self._log):
            if each.message_id == message_id:
                return index
        problem = f"has no message {message_id!r}"
        raise SessionStateError(self.session_id, f"{problem} among those loaded; {_PARTIAL}" if self._unloaded else problem)

    def _rewrite(self, index: int, rest: list[Message]) -> None:
        """Let the loaded history go on with *rest* from *index*."""
        stored = self._origin.message_count if self._origin else 0
        at = self._unloaded + index
        if at < stored:
            self._rewritten_from = at if self._rewritten_from is None else min(at, self._rewritten_from)
        self._log[index:] = rest
        view = self.messages
        if isinstance(view, Messages):
            view._hidden = min(view._hidden, len(self._log))  # noqa: SLF001 (its own module)
        self._ids = None
        self._touch()

    @classmethod
    def _restored(  # what a store read: checked already, and not copied again
        cls, values: dict[str, Any], log: list[Message], origin: Origin, page_sizes: list[int], unloaded: int, clock: Clock
    ) -> "Session":
        session = cls.__new__(cls)
        session.__dict__.update(values)
        session.messages = Messages(log)
        session._log = log
        session._clock = clock
        session._ids = None
        session._origin = origin
        session._page_sizes = page_sizes
        session._unloaded = unloaded
        session._rewritten_from = None
        session._incarnation = origin.incarnation
        return session

    # Metadata, state, status -------------------------------------------------------------------------------------

    def set_state(self, key: str, value: Any) -> None:
        """Set a value of the state: JSON, copied.

        Raises:
            InvalidValueError: JSON cannot hold it; the error names the part.

        """
        _check_text(key, "key")
        self.state[key] = plain(value, f"state[{key!r}]")
        self._touch()

    def get_state(self, key: str, default: Any = None) -> Any:
        """Return a value of the state, or *default*."""
        return self.state.get(key, default)

    def delete_state(self, key: str) -> None:
        """Remove a value of the state; absent is fine."""
        if key in self.state:
            del self.state[key]
            self._touch()

    def archive(self) -> None:
        """Mark the session archived; saving it stores that, and is the last save until ``manager.restore``."""
        self.status = SessionStatus.ARCHIVED

    def _touch(self) -> None:
        # Never backwards, whatever the clock does: a list's order follows it.
        self.updated_at = max(self._clock(), self.updated_at + _TICK)

    # JSON --------------------------------------------------------------------------------------------------------

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the whole session as JSON values, messages included: what `from_dict` takes.

        Raises:
            SessionStateError: Only a part of the messages is loaded.

        """
        if self._unloaded:
            raise SessionStateError(self.session_id, _PARTIAL)
        made = super().to_dict(encode_json)
        made["metadata"] = plain(self.metadata, "metadata")
        made["state"] = plain(self.state, "state")
        return {"format": 1, **made, "message_count": self.message_count}

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> "Session":
        """Return the session that `to_dict` made *kvs* of, or that a stored one-page document holds.

        Raises:
            InvalidValueError: It is of a newer format, or a part of its messages lies in other documents.

        """
        if isinstance(kvs, Mapping):
            if kvs.get("format", 1) != 1:
                raise InvalidValueError("format", f"is {kvs['format']!r}; this release reads format 1")
            if kvs.get("sealed"):
                raise InvalidValueError("sealed", "names pages that hold the older messages; load it through a store")
        made: Session = super().from_dict(kvs, infer_missing=infer_missing)
        return made

    def to_json(self, **options: Any) -> str:
        """Return the whole session as JSON text; *options* are those of `json.dumps`."""
        return json.dumps(self.to_dict(), **options)


_PARTIAL = "is loaded only in part; load all of it with get_session(session_id)"


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise InvalidValueError(name, f"is a {type(value).__name__}; it is text")


def _json_object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidValueError(name, f"is a {type(value).__name__}; it is a dict with text keys")
    made: dict[str, Any] = plain(dict(value), name)
    return made


def _status(value: object) -> SessionStatus:
    try:
        return SessionStatus(value)
    except ValueError as err:
        raise InvalidValueError("status", f"is {value!r}; it is 'active' or 'archived'") from err


def check_limit(value: object, name: str) -> None:
    """Raise unless *value* is None or a whole number of 0 or more."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InvalidValueError(name, f"is {value!r}; it is a whole number of 0 or more, or None for all")
