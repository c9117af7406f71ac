"""`Session`: a conversation with its metadata and state, as applications use it, and its JSON."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
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


def new_session_id() -> str:
    """Return a new session id: ``sess_`` and 32 hex digits, 128 random bits."""
    return f"sess_{new_id()}"


def _is_none(value: object) -> bool:
    return value is None


@dataclass(repr=False)
class Session(Stateful):
    """A conversation: messages, metadata and state. Only one thread at a time may use one object.

    Attributes:
        session_id: Any text of 1 to 1,024 bytes; random by default.
        user_id: The user who owns it, or None. If it changes, the session moves to the other user's list.
        metadata: JSON of your own that lists show, such as a channel or a language.
        state: JSON of your own that lists do not show.
        status: Active or archived.
        created_at: When it was created, in UTC.
        updated_at: When it last changed, in UTC.
        checkpoints: The points that `rewind` can return to, oldest first.
        parent: If it is a fork: the session that it was forked from, and where. Else None.
        messages: The messages, a list to read.
        summary: The text that `compact` made, which replaces the first messages for models.
        title: Its name in lists, 1 to 1,000 characters. None: lists show the first words of the user's first message.
        message_count: How many messages the conversation has, including those that are not loaded.

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
    # The property, as a field, so that `asdict` contains the count, also if only a part is loaded.
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
        """Make the history of the given messages. The other fields were checked when they were assigned."""
        given: object = vars(self)["messages"]
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
            raise InvalidValueError("messages", f"is {kind_of(given)}; it is a list of Message")
        former = given.history if isinstance(given, Messages) else None
        if former is not None:  # `dataclasses.replace` passes the list of the other session
            self._history = self._continued(former)
            self.keep_unknown(former.origin.unknown if former.origin else former.unknown or {})
        else:
            messages = [check_message(each, f"messages[{n}]") for n, each in enumerate(cast("Iterable[object]", given))]
            self._history = History()
            self._history.extend(messages)
        self._history.made_for = self.session_id
        vars(self)["messages"] = self._history.messages

    def _continued(self, history: History) -> History:
        """Return the history of a session that was made from another: a new history if its id is another."""
        if self.session_id == (history.origin.head.session_id if history.origin else history.made_for):
            return history.copied()
        if history.unloaded or history.hidden:
            raise InvalidValueError("messages", f"{PARTIAL}, or give a list of those that you want: list(messages)")
        return History(log=list(history.log), clock=history.clock, default=history.default)

    def keep_unknown(self, unknown: Mapping[str, Any]) -> None:
        """Keep fields of later releases. The history has them too, as `dataclasses.replace` passes nothing else on."""
        super().keep_unknown(unknown)
        self._history.unknown = unknown

    def __setattr__(self, name: str, value: Any) -> None:
        check = CHECKS.get(name)
        if check is not None:
            value = check(value, name)
        elif name == "messages":
            if "_history" in vars(self):
                raise InvalidValueError(
                    "messages",
                    "was assigned to; change it by session.add_message, pop, replace_message or remove_message",
                )
        elif name[0] != "_" and name not in _JSON_FIELDS:
            check_attribute(self, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name in _FIELDS:
            raise InvalidValueError(name, "cannot be deleted; assign another value")
        object.__delattr__(self, name)

    def __copy__(self) -> Self:
        """Return an independent copy: both objects can be changed and saved."""
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
        """Return what is pickled: everything but the manager's clock and ``default``, which stay in their process."""
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

        A `SessionStore` of your own may set it on the sessions that it returns and saves; see there.
        """
        return self._history.origin.head.revision if self._history.origin else self._history.revision

    @revision.setter
    def revision(self, revision: str | None) -> None:
        self._history.revision = revision

    @property
    def active_at(self) -> datetime:
        """When a message was last added, changed or removed, in UTC. Lists are ordered by it.

        Changes of the title, metadata, state, summary or checkpoints do not count.
        """
        history = self._history
        if history.origin is None:
            return history.active_at or self.updated_at
        return self.updated_at if history.is_active else history.origin.active_at

    @property
    def expires_at(self) -> datetime | None:
        """When the session expires, as of the load or the last save; None if its store has no ``ttl``."""
        return self._history.origin.expires_at if self._history.origin else None

    def archive(self) -> None:
        """Set the status to archived. Save it; after that, it cannot be saved until ``manager.restore``."""
        self.status = SessionStatus.ARCHIVED

    def transcript(
        self,
        *,
        last: int | None = None,
        roles: Iterable[str] | None = None,
        width: int | None = None,
        zone: str | tzinfo | None = None,
    ) -> Transcript:
        """Return the conversation as text for people: ``print`` it, or let a notebook show it.

        A tool call and its result are one line each; an image or a file is shown by its name. Control characters and
        HTML are escaped. The first line counts the messages that are not loaded or not shown.

        Args:
            last: Only the newest *last* messages.
            roles: Only messages of these roles; they are chosen before *last* counts.
            width: Wrap lines at this many characters, 20 or more. By default lines are not wrapped.
            zone: Show times in this zone: a name (``"Europe/Vienna"``), ``"local"``, or a tzinfo. By default no times.

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
        """Return the whole session as JSON values, with all messages; `from_dict` makes a session of it again.

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
        """Return the session of which `to_dict` made *kvs*, or of a stored document that contains all messages.

        The session can be changed and saved if nobody else has saved it since the JSON was made. A message that repeats
        the id of an earlier one gets a new id: ``<id>~2``.

        Raises:
            InvalidValueError: It has a newer format, or a part of its messages is in other documents.

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
"""The attributes of a session that are stored."""


# For stores: a session and its history -------------------------------------------------------------------------------


def history_of(session: Session) -> History:
    """Return the history of a session."""
    for _ in range(2):  # a signal handler may save the session in between, and replace both
        history: History = session._history  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the one way in)
        if session.messages is history.messages:
            return history
    raise InvalidValueError(
        "messages", "was assigned to; change it by session.add_message, pop, replace_message or remove_message"
    )


def session_of(values: Mapping[str, Any], history: History) -> Session:
    """Return a session with these field values. They come from a store, so they are neither checked nor copied."""
    session = Session.__new__(Session)
    assign(session, values, history)
    return session


def assign(session: Session, values: Mapping[str, Any], history: History) -> None:
    """Set the field values and the history of a session."""
    if history.default is None:
        history.default = default_of(session)
    # In one step: an exception that interrupts this leaves the session as before, or all is done.
    vars(session).update({**values, "_history": history, "messages": history.messages})


def use_default(session: Session, default: Default | None) -> Session:
    """Set the function that converts values given to a session that JSON cannot hold, and return the session."""
    history = history_of(session)
    if history.default is not default:
        history.default = default
        for name in _JSON_FIELDS:
            vars(session)[name] = plain_object(vars(session)[name], name)
    return session


def values_of(session: Session) -> dict[str, Any]:
    """Return a session's field values without its messages, as `assign` takes them."""
    values = {name: value for name, value in vars(session).items() if name in _FIELDS and name != "messages"}
    if session.unknown_fields:
        values["unknown_fields"] = session.unknown_fields
    return values
