"""The catalog of a custom store: whose sessions there are and when each was active, kept by the manager in a mapping.

It holds a head for each session, without messages, metadata or state, and so has the indexes of our own stores. An
entry says where to look; what it finds is checked against the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyai_sessions.documents.keys import decode_id, encode_id, head_key
from pyai_sessions.documents.listed import list_of, listings_of
from pyai_sessions.documents.reading import read_head
from pyai_sessions.documents.writing import Draft, amend, compose
from pyai_sessions.model.heads import Entry, SessionStatus, microseconds
from pyai_sessions.model.session import Session
from pyai_sessions.sessions.backend import backend_of
from pyai_sessions.sessions.loading import Attempts
from pyai_sessions.storage.protocol import Change, Position


class Catalog:
    """The two indexes of a custom store, in a mapping of the user's. Any thread may call any method."""

    def __init__(self, mapping: Any, timeout: float = 10.0) -> None:
        self._backend = backend_of(mapping, timeout=timeout)

    def put(self, session_id: str, user_id: str | None, status: SessionStatus, updated_at: datetime) -> None:
        """List a session so."""
        for _ in Attempts(self._backend, session_id):
            value = self._backend.head(session_id)
            draft: Draft
            if value is None:
                draft = compose(
                    Session(session_id, user_id, status=status, created_at=updated_at, updated_at=updated_at)
                )
            else:
                stored = read_head(value, session_id)
                if (stored.head.user_id, stored.head.status, stored.head.updated_at) == (user_id, status, updated_at):
                    return
                draft = amend(stored, user_id=user_id, status=status, updated_at=updated_at)
            if self._backend.commit(draft):
                return

    def touch(self, session_id: str, updated_at: datetime) -> bool:
        """List a session as active at that time or later; return whether it is listed at all."""
        value = self._backend.head(session_id)
        if value is None:
            return False
        head = read_head(value, session_id).head
        if head.updated_at < updated_at:
            self.put(session_id, head.user_id, head.status, updated_at)
        return True

    def shows(self, session_id: str, session: Session | None) -> bool:
        """Return whether a session is listed as it is; None: is not listed."""
        value = self._backend.head(session_id)
        if value is None or session is None:
            return value is session
        return read_head(value, session_id).entry == Entry(
            session_id, session.user_id, session.status, microseconds(session.updated_at)
        )

    def remove(self, session_id: str) -> None:
        """Take a session out."""
        for _ in Attempts(self._backend, session_id):
            value = self._backend.head(session_id)
            if value is None:
                return
            stored = read_head(value, session_id)
            key, lists = head_key(session_id), listings_of(stored.entry, None)
            if self._backend.storage.write([Change([(key, stored.stamp)], drop=[key], lists=lists)])[0]:
                return

    def page(
        self,
        statuses: Sequence[SessionStatus],
        after: Position | None,
        limit: int,
        newest_first: bool = False,  # noqa: FBT001, FBT002 (it is called through `Calls`)
    ) -> list[Position]:
        """Return the next positions of all users' sessions."""
        found = [
            position
            for status in statuses
            for position in self._backend.storage.scan(list_of(status, None), after, limit, newest_first=newest_first)
        ]
        return sorted(found, reverse=newest_first)[:limit]

    def count(self, user_id: str | None, statuses: Sequence[SessionStatus]) -> int:
        """Return how many sessions are listed."""
        return sum(self._backend.expiry.count(each, user_id, 0) for each in statuses)

    def close(self) -> None:
        """Free what was opened; the mapping stays open."""
        self._backend.storage.close()


def position_of(session: Session) -> Position:
    """Return where a session stands in an index."""
    return microseconds(session.updated_at), encode_id(session.session_id)


def name_of(position: Position) -> str:
    """Return the id of the session at a position."""
    return decode_id(position[1]) or ""
