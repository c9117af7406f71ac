"""Results of lists: `SummaryPage` with a `SessionSummary` for each session, and `MessagePage`."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, overload

from pyai_sessions.model.fields import check_status
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.titles import check_title
from pyai_sessions.values.checks import check_id, counted
from pyai_sessions.values.codec import JSON_VALUE, TIME, TIME_OR_NONE, Document, checked, list_of, unchangeable
from pyai_sessions.values.json import frozen_object, is_array
from pyai_sessions.values.messages import Message

D = TypeVar("D", bound=Document)


@unchangeable("load the session, change that, and save it")
@dataclass(frozen=True, repr=False)
class SessionSummary(Document):
    """The entry of a session in a list of chats. Reading it does not read the session's messages.

    Attributes:
        session_id: The session's id.
        user_id: The user who owns it; None for an anonymous session.
        metadata: The session's metadata.
        message_count: How many messages are stored.
        status: Active or archived.
        created_at: When the session was created, in UTC.
        updated_at: When it last changed, in UTC.
        active_at: When a message was last added, changed or removed, in UTC: the order of lists.
        expires_at: When it expires, in UTC; None if its store has no ``ttl``.
        title: Its title. If it has none: the first words of the user's first message, or None before that.

    """

    session_id: str = field(metadata=checked(check_id))
    user_id: str | None = field(metadata=checked(check_id))
    metadata: Mapping[str, Any] = field(metadata={**JSON_VALUE, "check": frozen_object})
    message_count: int
    status: SessionStatus = field(metadata=checked(check_status, encoder=str))
    created_at: datetime = field(metadata=TIME)
    updated_at: datetime = field(metadata=TIME)
    active_at: datetime = field(metadata=TIME)
    expires_at: datetime | None = field(default=None, metadata=TIME_OR_NONE)
    title: str | None = field(default=None, metadata=checked(check_title))

    def __repr__(self) -> str:
        return f"<SessionSummary {self.session_id!r} {self.status} {counted(self.message_count, 'message')}>"


class Page(Document, Sequence[D]):
    """A page of a list: a sequence that equals a list of the same items, and an object with all fields as JSON."""

    @abstractmethod
    def _items(self) -> Sequence[D]: ...

    @overload
    def __getitem__(self, index: int) -> D: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[D]: ...
    def __getitem__(self, index: int | slice) -> D | Sequence[D]:
        return self._items()[index]

    def __len__(self) -> int:
        return len(self._items())

    def __eq__(self, other: object) -> bool:
        if is_array(other):
            return list(self) == list(other)
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


@unchangeable("it is the result of a list; for the next page, give its next_cursor to list_sessions")
@dataclass(frozen=True, repr=False, eq=False)
class SummaryPage(Page[SessionSummary]):
    """A page of a list of sessions: a sequence of summaries, and the cursor for the next page.

    It equals a list of the same summaries. As JSON it is an object with both fields, so that the cursor is kept.

    Attributes:
        sessions: The summaries.
        next_cursor: Give it to ``list_sessions`` as *cursor* for the next page; None on the last page.

    """

    sessions: Sequence[SessionSummary] = field(default_factory=list[SessionSummary], metadata=list_of(SessionSummary))
    next_cursor: str | None = None

    def _items(self) -> Sequence[SessionSummary]:
        return self.sessions

    def __repr__(self) -> str:
        return f"<SummaryPage of {counted(len(self), 'session')}{'' if self.next_cursor is None else ', more follow'}>"


@unchangeable("it is a copy of what the session contained")
@dataclass(frozen=True, repr=False, eq=False)
class MessagePage(Page[Message]):
    """Consecutive messages of a session, oldest first, and whether it has older and newer ones.

    It equals a list of the same messages. As JSON it is an object with all three fields.

    Attributes:
        messages: The messages.
        has_older: Whether the session has messages before these.
        has_newer: Whether it has messages after these.

    """

    messages: Sequence[Message] = field(default_factory=list[Message], metadata=list_of(Message))
    has_older: bool = False
    has_newer: bool = False

    def _items(self) -> Sequence[Message]:
        return self.messages

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        beside = [name for name, has in (("older", self.has_older), ("newer", self.has_newer)) if has]
        return f"<MessagePage of {counted(len(self), 'message')}{', ' if beside else ''}{' and '.join(beside)}>"
