"""Points of a conversation: `Checkpoint`, `Branch`, `Summary`, and the `Parent` of a fork."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pyai_sessions.values.checks import check_count, check_text, check_time, counted, utc_now
from pyai_sessions.values.codec import JSON_VALUE, TIME, Document, unchangeable
from pyai_sessions.values.json import frozen_object
from pyai_sessions.values.tokens import new_token


@unchangeable("make another of that name: session.checkpoint(name)")
@dataclass(frozen=True, repr=False)
class Checkpoint(Document):
    """A named point of a conversation that `Session.rewind` returns to.

    Attributes:
        name: Unique within the session.
        message_count: How many messages the conversation had.
        last_message_id: The id of the last of them, or None if there was none.
        state: The session's state at that point.
        created_at: When it was made, in UTC.

    """

    name: str
    message_count: int
    last_message_id: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict[str, Any], metadata=JSON_VALUE)
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)

    def __post_init__(self) -> None:
        """Check the fields and freeze the state."""
        check_text(self.name, "name")
        _check_place(self.message_count, self.last_message_id)
        object.__setattr__(self, "state", frozen_object(self.state, "state"))
        object.__setattr__(self, "created_at", check_time(self.created_at, "created_at"))

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name!r} at {counted(self.message_count, 'message')}>"


@unchangeable("it describes a stored branch")
@dataclass(frozen=True, repr=False)
class Branch(Document):
    """A continuation of a conversation that `Session.rewind` left; ``manager.switch`` continues it.

    Attributes:
        branch_id: A random, unique id.
        message_count: How many messages it has, including those before the point of the rewind.
        last_message_id: The id of the last of them.
        created_at: When the rewind left it, in UTC.

    """

    message_count: int
    last_message_id: str | None = None
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)
    branch_id: str = field(default_factory=lambda: new_token(12))

    def __post_init__(self) -> None:
        """Check the fields."""
        check_text(self.branch_id, "branch_id")
        _check_place(self.message_count, self.last_message_id)
        object.__setattr__(self, "created_at", check_time(self.created_at, "created_at"))

    def __repr__(self) -> str:
        return f"<Branch {self.branch_id!r} of {counted(self.message_count, 'message')}>"


@unchangeable("make another: session.compact(summary)")
@dataclass(frozen=True, repr=False)
class Summary(Document):
    """A text that replaces the first messages of a conversation when a model is given its history.

    Attributes:
        content: The text.
        message_count: How many messages it replaces.
        last_message_id: The id of the last of them.
        created_at: When it was made, in UTC.

    """

    content: str
    message_count: int
    last_message_id: str
    created_at: datetime = field(default_factory=utc_now, metadata=TIME)

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "content", check_text(self.content, "content"))
        _check_place(self.message_count, self.last_message_id)
        object.__setattr__(self, "created_at", check_time(self.created_at, "created_at"))

    def __repr__(self) -> str:
        """Without the content: a repr ends up in logs."""
        return f"<Summary of {counted(self.message_count, 'message')}>"


@unchangeable("it records where the fork began")
@dataclass(frozen=True, repr=False)
class Parent(Document):
    """The session that another was forked from, and where.

    Attributes:
        session_id: The id of that session, which may have been deleted since.
        message_count: How many of its messages the fork began with.
        message_id: The id of the last of them, or None if there was none.

    """

    session_id: str
    message_count: int
    message_id: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        check_text(self.session_id, "session_id")
        _check_place(self.message_count, self.message_id, "message_id")

    def __repr__(self) -> str:
        return f"<Parent {self.session_id!r} at {counted(self.message_count, 'message')}>"


def _check_place(count: object, message_id: object, name: str = "last_message_id") -> None:
    """Raise unless *count* is a number of messages and *message_id* an id or None."""
    check_count(count, "message_count")
    if message_id is not None:
        check_text(message_id, name)
