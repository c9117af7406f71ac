"""`SessionStore`: the base class for stores of your own, with four methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Sequence
from typing import Literal

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.session import Session
from pyai_sessions.values.checks import check_choice, check_items, kind_of
from pyai_sessions.values.messages import Message, check_message

OnConflict = Literal["merge", "error", "overwrite"]


class SessionStore(ABC):
    """A place where sessions are stored. A store of your own has these four methods, each ``def`` or ``async def``.

    `SessionManager` and `AsyncSessionManager` build all other features on them. ``get`` must return the session as it
    was saved, with everything that `Session.to_dict` contains. A method without ``async`` is called in several threads
    at the same time, for different sessions, if calls of the manager overlap: what these share needs a lock. Three
    additions are optional:

    - Revisions. ``get`` and the lists set ``session.revision`` to a text of your own that is never used twice. ``save``
      sets a new one, and raises `SessionConflictError` if the stored revision is not the session's (None: the session
      is new). Writers in several processes then lose nothing. Without revisions, a save reads what is stored and then
      writes.
    - ``list_by_activity(after, limit)`` returns up to *limit* sessions of all users, active and archived, ordered by
      ``(active_at, session_id)``, those after the pair *after*, or the first ones (None). Lists and counts of all
      users, `archive_inactive`, `clear_all` and `verify` need this method or an index.
    - ``close()`` is called if the manager was made with ``close_store=True``.

    If you want more from your database than that, implement the eight methods of `Storage`.

    >>> class DictStore(SessionStore):
    ...     def __init__(self):
    ...         self.rows = {}
    ...     async def save(self, session):
    ...         self.rows[session.session_id] = session.to_json()
    ...     async def get(self, session_id):
    ...         row = self.rows.get(session_id)
    ...         return row and Session.from_json(row)
    ...     async def delete(self, session_id):
    ...         self.rows.pop(session_id, None)
    ...     async def list_for_user(self, user_id):
    ...         sessions = map(Session.from_json, self.rows.values())
    ...         return [each for each in sessions if each.user_id == user_id]

    """

    @abstractmethod
    def save(self, session: Session) -> Awaitable[None] | None:
        """Store a session, new or changed."""

    @abstractmethod
    def get(self, session_id: str) -> Session | Awaitable[Session | None] | None:
        """Return a session, or None."""

    @abstractmethod
    def delete(self, session_id: str) -> object | Awaitable[object]:
        """Delete a session. It is no error if there is none."""

    @abstractmethod
    def list_for_user(self, user_id: str) -> Sequence[Session] | Awaitable[Sequence[Session]]:
        """Return a user's sessions, in any order."""


def check_on_conflict(on_conflict: object) -> None:
    """Raise unless *on_conflict* is "merge", "error" or "overwrite"."""
    check_choice(on_conflict, "on_conflict", "merge", "error", "overwrite")


def check_session(session: object) -> None:
    """Raise unless *session* is a Session."""
    if not isinstance(session, Session):
        raise InvalidValueError("session", f"is {kind_of(session)}; it is a Session")


def check_messages(messages: Iterable[Message]) -> list[Message]:
    """Return messages to append as a list; raise unless all are messages with different ids."""
    added = list(check_items(messages, "messages", "Message"))
    for n, each in enumerate(added):
        check_message(each, f"messages[{n}]")
    if len({each.message_id for each in added}) < len(added):
        raise InvalidValueError("messages", "contain one message id twice; each id is unique within its session")
    return added
