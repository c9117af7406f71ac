"""Session: what users hold in their hands. Its messages and its state have rooms of their own."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, cast

from typing_extensions import Self

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.model.branches import line_to_dict, lines_from_dicts
from pyai_sessions.model.conversation import PARTIAL
from pyai_sessions.model.fields import CHECKS, JSONField, check_attribute, check_checkpoints, check_status, default_of
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.history import History, Messages
from pyai_sessions.model.points import Checkpoint, Parent, Summary
from pyai_sessions.model.state import TEMP, Stateful
from pyai_sessions.model.titles import check_title
from pyai_sessions.model.transcripts import Transcript, transcript_of
from pyai_sessions.model.unrepeated import unrepeated
from pyai_sessions.values.checks import check_id, check_time, counted, kind_of, utc_now
from pyai_sessions.values.codec import JSON_VALUE, TIME, checked, list_of, maybe, time_text
from pyai_sessions.values.json import Default, is_array, is_mapping, plain_object
from pyai_sessions.values.messages import Message, check_message
from pyai_sessions.values.tokens import new_id

_TICK = timedelta(microseconds=1)
_END = datetime.max.replace(tzinfo=timezone.utc)


def new_session_id() -> str:
    """Return a new session id: ``sess_`` and 32 hex digits, 128 random bits."""
    return f"sess_{new_id()}"


def _is_none(value: object) -> bool:
    return value is None


@dataclass(repr=False)
class Session(Stateful):
    """A conversation: messages, metadata and state. One thread at a time may use one object.

    Attributes:
        session_id: Any text of 1 to 1,024 bytes; made at random if none is given.
        user_id: Whose it is, or None. It may change: the session then moves to the other user's list.
        metadata: JSON of your own that lists show: a channel, a language.
        state: JSON of your own that they do not.
        status: Active or archived.
        created_at: When it was created, in UTC.
        updated_at: When it last changed, in UTC.
        checkpoints: The points that `rewind` can return to, oldest first.
        parent: Of a fork: which session it was forked from, and where. None for others.
        messages: The history, read as a list.
        summary: What `compact` put in the place of the first messages, for models.
        title: What lists call it, 1 to 1,000 characters. None: they show the first words of the user's first message.
        message_count: How many messages the conversation has, those that were not loaded included.

    >>> session = Session(session_id="sess_abc123", user_id="user123", metadata={"channel": "web"})
    >>> session.add_message("user", "Hello!").role
    'user'
    >>> session.set_state("last_topic", "greeting")
    >>> session.get_state("last_topic"), session.message_count
    ('greeting', 1)

    """

    session_id: str = field(default_factory=new_session_id, metadata=checked(check_id))
    user_id: str | None = field(default=None, metadata=checked(check_id))
    metadata: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    state: dict[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    status: SessionStatus = field(default=SessionStatus.ACTIVE, metadata=checked(check_status, encoder=str))
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)
    updated_at: datetime = field(default_factory=utc_now, metadata=TIME)
    checkpoints: list[Checkpoint] = field(default_factory=list[Checkpoint], metadata=list_of(Checkpoint))
    parent: Parent | None = field(default=None, metadata=maybe(Parent))
    messages: Sequence[Message] = field(default_factory=list[Message], metadata=list_of(Message))
    summary: Summary | None = field(default=None, metadata=maybe(Summary))
    title: str | None = field(default=None, metadata=checked(check_title, exclude=_is_none))
    # The property, as a field: `asdict` of a part tells how many there are.
    message_count: int = field(init=False, compare=False)  # pyright: ignore[reportIncompatibleMethodOverride]

    _stored_fields = frozenset(
        {
            "format",
            "revision",
            "incarnation",
            "edition",
            "sealed",
            "dropped",
            "leading",
            "question",
            "active_at",
            "gaps",
            "branches",
            "left",
            "forked",
            "message_count",
        }
    )

    def __post_init__(self) -> None:
        """Take the given messages; the other fields were checked as they were assigned."""
        given: object = vars(self)["messages"]
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
            raise InvalidValueError("messages", f"is {kind_of(given)}; it is a list of Message")
        former = given.history if isinstance(given, Messages) else None
        if former is not None:  # by `dataclasses.replace`
            self._history = self._continued(former)
        else:
            messages = [check_message(each, f"messages[{n}]") for n, each in enumerate(cast("Iterable[object]", given))]
            self._history = History()
            self._history.extend(messages)
        vars(self)["messages"] = self._history.messages

    def _continued(self, history: History) -> History:
        """Return the history of a session that was made of another's messages: a new one, where its id is another."""
        if history.origin is not None and history.origin.head.session_id == self.session_id:
            self.keep_unknown(history.origin.unknown)
            return history.copied()
        if history.unloaded or history.hidden:
            raise InvalidValueError("messages", f"{PARTIAL}, or give a list of those that you want: list(messages)")
        return History(log=list(history.log), clock=history.clock, default=history.default)

    def __setattr__(self, name: str, value: Any) -> None:
        check = CHECKS.get(name)
        if check is not None:
            value = check(value, name)
        elif name == "messages":
            if "_history" in vars(self):
                raise InvalidValueError("messages", "was assigned to; a history changes by the session's own methods")
        elif name[0] != "_" and name not in _JSON_FIELDS:
            check_attribute(self, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIELDS:
            raise InvalidValueError(name, "cannot be deleted; assign another value")
        object.__delattr__(self, name)

    def __copy__(self) -> Self:
        """Return a session that goes on by itself: it shares nothing that changes, and can be saved beside this one."""
        made = type(self).__new__(type(self))
        vars(made).update({name: value for name, value in vars(self).items() if name[0] == "_" and name != TEMP})
        values = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "messages"}
        for name in _JSON_FIELDS:
            values[name] = plain_object(values[name], name)
        values["checkpoints"] = check_checkpoints(values["checkpoints"], "checkpoints")
        assign(made, values, history_of(self).copied())
        return made

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return what `copy.copy` does."""
        made = memo[id(self)] = self.__copy__()
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: all but the clock and the ``default`` of the manager, which are its process's."""
        copied = vars(self.__copy__())
        history = replace(copied["_history"], clock=utc_now, default=None)
        return {**{name: value for name, value in copied.items() if name != "messages"}, "_history": history}

    def __setstate__(self, state: dict[str, Any]) -> None:
        history = state["_history"]
        vars(self).update({name: value for name, value in state.items() if name != "_history"})
        assign(self, {}, history)

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        held = counted(self.message_count, "message")
        return f"<Session {self.session_id!r} user_id={self.user_id!r} {self.status} {held}>"

    @property
    def revision(self) -> str | None:
        """The opaque revision that was loaded or last saved; None before the first save.

        A `SessionStore` of your own that counts revisions sets it on the sessions that it returns and saves; it then
        raises `SessionConflictError` from ``save`` where it has stored another since.
        """
        return self._history.origin.head.revision if self._history.origin else self._history.revision

    @revision.setter
    def revision(self, revision: str | None) -> None:
        self._history.revision = revision

    @property
    def active_at(self) -> datetime:
        """When a message was last added, changed or removed, in UTC: lists are in this order.

        A new title, metadata, state, summary or checkpoint does not count.
        """
        history = self._history
        if history.origin is None:
            return history.active_at or self.updated_at
        return self.updated_at if history.is_active else history.origin.active_at

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires, as it was loaded or last saved; None if its store has no ``ttl``."""
        return self._history.origin.expires_at if self._history.origin else None

    def archive(self) -> None:
        """Mark the session archived; saving it stores that, and is the last save until ``manager.restore``."""
        self.status = SessionStatus.ARCHIVED

    def transcript(
        self,
        *,
        last: int | None = None,
        roles: Iterable[str] | None = None,
        width: int | None = None,
        zone: str | tzinfo | None = None,
    ) -> Transcript:
        """Return the conversation as a text for people: ``print`` it, or let a notebook show it.

        A call of a tool and its result are one line each, an image or a file is named. Nothing of it does anything:
        control characters and HTML are escaped. Messages that are not loaded, or left out, are counted.

        Args:
            last: The newest so many messages alone.
            roles: Messages of these roles alone; they are chosen first.
            width: Wrap lines at so many characters, 20 or more. By default they are as long as they were written.
            zone: Show times in this zone: a name (``"Europe/Vienna"``), ``"local"``, or a tzinfo. By default none.

        >>> session = Session(messages=[Message("user", "Hello!"), Message("assistant", "Hi there!")])
        >>> print(session.transcript())
        user:
            Hello!
        assistant:
            Hi there!

        """
        unloaded = self.message_count - len(self.messages)
        return transcript_of(self.messages, unloaded=unloaded, last=last, roles=roles, width=width, zone=zone)

    # JSON --------------------------------------------------------------------------------------------------------

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the whole session as JSON values, messages included: what `from_dict` takes.

        Raises:
            SessionStateError: Only a part of the messages is loaded.

        """
        if self._history.unloaded or self._history.hidden:
            raise SessionStateError(self.session_id, PARTIAL)
        made = super().to_dict(encode_json)
        branches = [
            line_to_dict(each, self._history.log)
            for each in self._history.branches
            if each.left and not each.left.unloaded
        ]
        return {
            "format": 1,
            **made,
            **({"left": branches} if branches else {}),
            **({"revision": self.revision} if self.revision else {}),
            **({} if self.active_at == self.updated_at else {"active_at": time_text(self.active_at)}),
            "message_count": self.message_count,
        }

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the session that `to_dict` made *kvs* of, or that a stored one-page document holds.

        It can be changed and saved, as long as nobody has saved the session since the JSON was made. A message whose id
        an earlier one has gets a new one: ``<id>~2``.

        Raises:
            InvalidValueError: It is of a newer format, or a part of its messages lies in other documents.

        """
        if is_mapping(kvs):
            if kvs.get("format", 1) != 1:
                raise InvalidValueError("format", f"is {kvs['format']!r}; this release reads format 1")
            if kvs.get("sealed"):
                raise InvalidValueError("sealed", "names pages that hold the older messages; load it through a store")
            count, given = kvs.get("message_count"), kvs.get("messages", ())
            if isinstance(count, int) and is_array(given) and len(given) < count:
                problem = f"are {len(given)} of the session's {counted(count, 'message')}"
                remedy = "give the session whole: manager.load_history(session); or leave message_count out"
                raise InvalidValueError("messages", f"{problem}, the others are missing; {remedy}")
            kvs, _ = unrepeated(kvs)
        made = super().from_dict(kvs, infer_missing=infer_missing)
        history = history_of(made)
        if is_mapping(kvs) and "left" in kvs:
            history.branches = lines_from_dicts(kvs["left"], history.log)
        if is_mapping(kvs) and kvs.get("active_at") is not None:
            history.active_at = check_time(kvs["active_at"], "active_at")
        if is_mapping(kvs) and isinstance(kvs.get("revision"), str):
            history.revision = kvs["revision"]
        return made

    def to_json(self, **options: Any) -> str:
        """Return the whole session as JSON text; *options* are those of `json.dumps`."""
        return json.dumps(self.to_dict(), **options)


_FIELDS = frozenset(Session.__dataclass_fields__)
_JSON_FIELDS = ("metadata", "state")
for _name in _JSON_FIELDS:
    setattr(Session, _name, JSONField(_name))

STORED = _FIELDS | {"unknown_fields"}
"""What a store keeps of a session's attributes."""


# For stores: a session and its history are two parts of one thing ---------------------------------------------------


def history_of(session: Session) -> History:
    """Return the history behind a session's messages."""
    for _ in range(2):  # a signal handler may save the session in between; then both are others
        history: History = session._history  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the one way in)
        if session.messages is history.messages:
            return history
    raise InvalidValueError("messages", "was assigned to; a history changes by the session's own methods")


def session_of(values: Mapping[str, Any], history: History) -> Session:
    """Return a session with these field values, which were read from a store: they are neither checked nor copied."""
    session = Session.__new__(Session)
    assign(session, values, history)
    return session


def assign(session: Session, values: Mapping[str, Any], history: History) -> None:
    """Let a session have these field values and this history."""
    if history.default is None:
        history.default = default_of(session)
    # In one step: an exception from outside leaves all as it was, or finds all done.
    vars(session).update({**values, "_history": history, "messages": history.messages})


def use_default(session: Session, default: Default | None) -> Session:
    """Let *default* convert what is given to a session from now on, and return the session."""
    history = history_of(session)
    if history.default is not default:
        history.default = default
        for name in _JSON_FIELDS:
            vars(session)[name] = plain_object(vars(session)[name], name)
    return session


def values_of(session: Session) -> dict[str, Any]:
    """Return a session's field values, without its messages: what `assign` takes."""
    values = {name: value for name, value in vars(session).items() if name in _FIELDS and name != "messages"}
    if session.unknown_fields:
        values["unknown_fields"] = session.unknown_fields
    return values
