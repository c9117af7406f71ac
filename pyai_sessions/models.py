"""What users hold in their hands: Session, Checkpoint, SessionStatus and SessionSummary; Message has its own room."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from typing_extensions import Self

from pyai_sessions.checks import check_id, check_limit, check_text, check_time, utc_now
from pyai_sessions.codec import JSON_VALUE, TIME, Document, list_of
from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.history import History, Messages
from pyai_sessions.messages import Message
from pyai_sessions.tokens import new_id
from pyai_sessions.values import frozen_object, is_mapping, plain, plain_object

_TICK = timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=timezone.utc)
_PARTIAL = "is loaded only in part; load all of it with manager.load_history(session)"


def new_session_id() -> str:
    """Return a new session id: ``sess_`` and 32 hex digits, 128 random bits."""
    return f"sess_{new_id()}"


@dataclass(frozen=True, repr=False)
class Checkpoint(Document):
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
    state: Mapping[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)

    def __post_init__(self) -> None:
        """Freeze the state: a checkpoint does not change."""
        object.__setattr__(self, "state", frozen_object(self.state, "state"))
        object.__setattr__(self, "created_at", check_time(self.created_at, "created_at"))

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name!r} at {self.message_count} messages>"


def later(now: datetime, previous: datetime) -> datetime:
    """Return the time of a change that follows one at *previous*: never backwards, as lists are in that order."""
    return max(now, previous + _TICK if previous < _END else _END)


class SessionStatus(str, Enum):
    """Whether a session goes on. Equal to its text: ``session.status == "active"``."""

    ACTIVE = "active"
    ARCHIVED = "archived"

    def __str__(self) -> str:
        return self.value


def check_status(value: object) -> SessionStatus:
    """Return the status that *value* is or names."""
    if type(value) is SessionStatus:
        return value
    try:
        return SessionStatus(value)
    except ValueError as err:
        raise InvalidValueError("status", f"is {value!r}; it is 'active' or 'archived'") from err


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


@dataclass(repr=False)
class Session(Document):
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
    metadata: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    state: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    status: SessionStatus = SessionStatus.ACTIVE
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)
    updated_at: datetime = field(default_factory=utc_now, metadata=TIME)
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint], metadata=list_of(Checkpoint))
    messages: Sequence[Message] = field(default_factory=list[Message], metadata=list_of(Message))

    _stored_fields = frozenset({"format", "revision", "incarnation", "edition", "sealed", "dropped", "message_count"})

    def __post_init__(self) -> None:
        """Check the given fields, and take copies of the containers."""
        self.session_id = check_id(self.session_id, "session_id")
        if self.user_id is not None:
            self.user_id = check_id(self.user_id, "user_id")
        self.metadata = plain_object(self.metadata, "metadata")
        self.state = plain_object(self.state, "state")
        self.status = check_status(self.status)
        self.created_at = check_time(self.created_at, "created_at")
        self.updated_at = check_time(self.updated_at, "updated_at")
        self.checkpoints = list(self.checkpoints)
        self._history = History()
        for n, each in enumerate(self.messages):
            if not isinstance(each, Message):
                raise InvalidValueError(f"messages[{n}]", f"is a {type(each).__name__}; it is a Message")
            self._history.append(each)
        self.messages = Messages(self._history)

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        return f"<Session {self.session_id!r} user_id={self.user_id!r} {self.status} {self.message_count} messages>"

    @property
    def message_count(self) -> int:
        """How many messages the conversation has, those that were not loaded included."""
        return self._history.count

    @property
    def revision(self) -> str | None:
        """The opaque revision that was loaded or last saved; None before the first save.

        A custom store that counts revisions sets it; it then raises `SessionConflictError` from ``save`` where it has
        stored another since.
        """
        return self._history.origin.revision if self._history.origin else self._history.revision

    @revision.setter
    def revision(self, revision: str | None) -> None:
        self._history.revision = revision

    # The conversation --------------------------------------------------------------------------------------------

    def add_message(self, role: str, content: Any, **fields: Any) -> Message:
        """Append a message and return it; `SessionManager.save` stores it.

        *fields* are those of `Message`: metadata, timestamp, message_id, tool_calls, tool_call_id, name.

        Raises:
            InvalidValueError: JSON cannot hold a field, or the message id is taken. Nothing was appended.

        """
        fields.setdefault("timestamp", self._history.clock())
        message = Message(role, content, **fields)
        self._history.append(message)
        self.touch()
        return message

    def history(self, *, last: int | None = None, roles: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the messages as a model's client takes them: dicts of role, content, and tool fields where present.

        *last* keeps the newest so many, *roles* those of these roles; roles are chosen first.
        """
        check_limit(last, "last")
        wanted = None if roles is None else frozenset(roles)
        chosen = [each for each in self.messages if wanted is None or each.role in wanted]
        if last is not None:
            chosen = chosen[max(0, len(chosen) - last) :]
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
        log = self._history.log
        if not log:
            raise SessionStateError(self.session_id, _PARTIAL if self._history.unloaded else "has no message to pop")
        message = log[-1]
        self._rewrite(len(log) - 1, [])
        return message

    def replace_message(self, message_id: str, /, **changes: Any) -> Message:
        """Put a changed copy in the place of a message and return it; the id stays."""
        if "message_id" in changes:
            raise InvalidValueError("message_id", "names the message to replace and cannot change")
        index = self._index(message_id)
        old = self._history.log[index]
        message = replace(old, **changes)
        message.keep_unknown(old.unknown_fields)
        self._rewrite(index, [message, *self._history.log[index + 1 :]])
        return message

    def remove_message(self, message_id: str) -> Message:
        """Remove a message and return it."""
        index = self._index(message_id)
        message = self._history.log[index]
        self._rewrite(index, self._history.log[index + 1 :])
        return message

    def clear_messages(self) -> None:
        """Remove all messages; metadata and state stay."""
        if self._history.unloaded:
            raise SessionStateError(self.session_id, _PARTIAL)
        self._rewrite(0, [])

    def checkpoint(self, name: str) -> Checkpoint:
        """Remember this point of the conversation, state included, under *name*, and return it.

        A checkpoint of the same name is replaced.
        """
        name = check_id(name, "name")
        log = self._history.log
        last = log[-1].message_id if log else None
        made = Checkpoint(name, self.message_count, last, plain_object(self.state, "state"), self._history.clock())
        self.checkpoints = [each for each in self.checkpoints if each.name != name] + [made]
        self.touch()
        return made

    def rewind(self, to: str | Checkpoint) -> None:
        """Return to a checkpoint, given by itself or by its name: later messages go, the state is what it was."""
        name = to.name if isinstance(to, Checkpoint) else to
        found = next((each for each in self.checkpoints if each.name == name), None)
        if found is None:
            names = ", ".join(repr(each.name) for each in self.checkpoints) or "none"
            raise InvalidValueError("to", f"is {name!r}; the session's checkpoints are: {names}")
        log = self._history.log
        keep = found.message_count - self._history.unloaded
        if self._history.unloaded and keep <= 0:
            raise SessionStateError(self.session_id, _PARTIAL)
        if keep > len(log) or (keep and log[keep - 1].message_id != found.last_message_id):
            raise SessionStateError(self.session_id, f"no longer has the history of checkpoint {name!r}")
        if keep < len(log):
            self._rewrite(keep, [])
        self.checkpoints = [each for each in self.checkpoints if each.message_count <= found.message_count]
        self.state = plain_object(found.state, "state")
        self.touch()

    def _index(self, message_id: str) -> int:
        index = self._history.find(message_id)
        if index is None:
            problem = f"has no message {message_id!r}"
            partly = self._history.unloaded
            raise SessionStateError(
                self.session_id, f"{problem} among those loaded; it {_PARTIAL}" if partly else problem
            )
        return index

    def _rewrite(self, index: int, rest: list[Message]) -> None:
        self._history.rewrite(index, rest)
        self.touch()

    # Metadata, state, status -------------------------------------------------------------------------------------

    def set_state(self, key: str, value: Any) -> None:
        """Set a value of the state: JSON, copied.

        Raises:
            InvalidValueError: JSON cannot hold it; the error names the part.

        """
        self.state[check_text(key, "key")] = plain(value, f"state[{key!r}]")
        self.touch()

    def get_state(self, key: str, default: Any = None) -> Any:
        """Return a value of the state, or *default*."""
        return self.state.get(key, default)

    def delete_state(self, key: str) -> None:
        """Remove a value of the state; absent is fine."""
        if key in self.state:
            del self.state[key]
            self.touch()

    def archive(self) -> None:
        """Mark the session archived; saving it stores that, and is the last save until ``manager.restore``."""
        self.status = SessionStatus.ARCHIVED

    def touch(self) -> None:
        """Count as active now. Every method that changes the session does so."""
        self.updated_at = later(self._history.clock(), self.updated_at)

    # JSON --------------------------------------------------------------------------------------------------------

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the whole session as JSON values, messages included: what `from_dict` takes.

        Raises:
            SessionStateError: Only a part of the messages is loaded.

        """
        if self._history.unloaded or self._history.hidden:
            raise SessionStateError(self.session_id, _PARTIAL)
        made = super().to_dict(encode_json)
        made["metadata"] = plain_object(self.metadata, "metadata")
        made["state"] = plain_object(self.state, "state")
        return {"format": 1, **made, "message_count": self.message_count}

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the session that `to_dict` made *kvs* of, or that a stored one-page document holds.

        Raises:
            InvalidValueError: It is of a newer format, or a part of its messages lies in other documents.

        """
        if is_mapping(kvs):
            if kvs.get("format", 1) != 1:
                raise InvalidValueError("format", f"is {kvs['format']!r}; this release reads format 1")
            if kvs.get("sealed"):
                raise InvalidValueError("sealed", "names pages that hold the older messages; load it through a store")
        return super().from_dict(kvs, infer_missing=infer_missing)

    def to_json(self, **options: Any) -> str:
        """Return the whole session as JSON text; *options* are those of `json.dumps`."""
        return json.dumps(self.to_dict(), **options)


# For stores: a session and its history are two parts of one thing ---------------------------------------------------


def history_of(session: Session) -> History:
    """Return the history behind a session's messages."""
    history: History = session._history  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the one way in)
    if not isinstance(session.messages, Messages) or not session.messages.shows(history):
        raise InvalidValueError("messages", "was assigned to; a history changes by the session's own methods")
    return history


def session_of(values: Mapping[str, Any], history: History) -> Session:
    """Return a session with these field values, which were read from a store: they are neither checked nor copied."""
    session = Session.__new__(Session)
    assign(session, values, history)
    return session


def assign(session: Session, values: Mapping[str, Any], history: History) -> None:
    """Let a session have these field values and this history."""
    for name, value in values.items():
        setattr(session, name, value)
    session._history = history  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    session.messages = Messages(history)


def values_of(session: Session) -> dict[str, Any]:
    """Return a session's field values, without its messages: what `assign` takes."""
    values = {each.name: getattr(session, each.name) for each in fields(session) if each.name != "messages"}
    if session.unknown_fields:
        values["unknown_fields"] = session.unknown_fields
    return values
