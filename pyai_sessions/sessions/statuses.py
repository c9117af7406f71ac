"""Archiving and restoring sessions: one of them, or all that are inactive; and renewing their expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import takewhile
from typing import NamedTuple

from msgspec import UNSET

from pyai_sessions.documents.keys import decode_id
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.listed import list_of
from pyai_sessions.documents.reading import read_head, restore
from pyai_sessions.documents.writing import Draft, amend
from pyai_sessions.errors import InvalidDocumentError, SessionNotFoundError
from pyai_sessions.model.conversation import later
from pyai_sessions.model.heads import SessionStatus, StoredHead, microseconds
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import head_of


class Archiver(NamedTuple):
    """Changes the status of sessions."""

    backend: Backend
    terms: Terms

    def set_status(
        self,
        session_id: str,
        status: SessionStatus,
        *,
        user_id: str | None = None,
        idle_since: datetime | None = None,
    ) -> bool:
        """Archive or restore a session; return whether that changed it.

        With *idle_since*, a session that was active at that time or later is not changed.

        Raises:
            SessionNotFoundError: There is no such session, or it belongs to another user.

        """

        def attempt() -> bool | None:
            stored = head_of(self.backend, session_id, self.terms.clock, user_id)
            draft = self._changed(stored, status, idle_since)
            return False if draft is None else self.backend.commit(draft) or None

        return until_done(self.backend, session_id, attempt)

    def _changed(self, stored: StoredHead, status: SessionStatus, idle_since: datetime | None) -> Draft | None:
        head = stored.head
        if head.status is status or (idle_since is not None and stored.active_at >= idle_since):
            return None
        if stored.is_over(self.terms.clock):
            return None
        restore(stored, [], self.terms.clock)  # raises if the session cannot be read
        if status is SessionStatus.ACTIVE:
            now = later(self.terms.clock(), head.updated_at)
            return amend(stored, self.terms, status=status, updated_at=now, active_at=UNSET)
        return amend(stored, self.terms, status=status)

    def archive_inactive(self, idle_since: datetime, progress: Callable[[int], object] | None) -> int:
        """Archive the sessions that were last active before *idle_since*; return how many.

        Costs one index read, one read of heads and one write per 100 of them; other sessions cost nothing.
        """
        archived = 0
        for session_ids in self._listed(SessionStatus.ACTIVE, idle_since):
            archived += self._archive(session_ids, idle_since)
            if progress:
                progress(archived)
        return archived

    def _archive(self, session_ids: list[str], idle_since: datetime) -> int:
        drafts: list[Draft] = []
        for session_id, value in self.backend.heads(session_ids).items():
            with suppress(InvalidDocumentError):
                draft = self._changed(read_head(value, session_id), SessionStatus.ARCHIVED, idle_since)
                if draft:
                    drafts.append(draft)
        archived = 0
        for draft, done in zip(drafts, self.backend.commit_many(drafts), strict=True):
            with suppress(SessionNotFoundError, InvalidDocumentError):
                archived += done or self.set_status(draft.session_id, SessionStatus.ARCHIVED, idle_since=idle_since)
        return archived

    def inactive(self, idle_since: datetime) -> Iterator[list[str]]:
        """Iterate over the ids of the sessions that the indexes list as inactive since then, 100 at a time."""
        for status in SessionStatus:
            yield from self._listed(status, idle_since)

    def _listed(self, status: SessionStatus, idle_since: datetime) -> Iterator[list[str]]:
        listed = indexes.positions(self.backend.storage, list_of(status, None))
        due = takewhile(lambda each: each[0] < microseconds(idle_since), listed)
        for batch in indexes.batches(due):
            yield list(filter(None, (decode_id(name) for _, name in batch)))

    def renew(self, session_id: str, user_id: str | None) -> None:
        """Let a session expire as late as if it were saved now."""

        def attempt() -> bool | None:
            stored = head_of(self.backend, session_id, self.terms.clock, user_id)
            return self.backend.commit(amend(stored, self.terms)) or None

        until_done(self.backend, session_id, attempt)
