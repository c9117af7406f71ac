"""Sessions that are archived and restored: one, or all that nobody was active in for long."""

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
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import Attempts, head_of


class Archiver(NamedTuple):
    """Changes the status of sessions in a backend, on a store's terms."""

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
        """Let a session be archived or active; return whether it was not. *idle_since* passes over those active since.

        Raises:
            SessionNotFoundError: There is no such session, or it is not of this user.

        """
        attempts = Attempts(self.backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                stored = head_of(self.backend, session_id, self.terms.clock, user_id)
                draft = self._changed(stored, status, idle_since)
                done = draft is not None and self.backend.commit(draft)
            if draft is None:
                return False
            if done:
                return True
        return False

    def _changed(self, stored: StoredHead, status: SessionStatus, idle_since: datetime | None) -> Draft | None:
        head = stored.head
        if head.status is status or (idle_since is not None and stored.active_at >= idle_since):
            return None
        if stored.is_over(self.terms.clock):
            return None
        restore(stored, [], self.terms.clock)  # raises where the session cannot be read
        if status is SessionStatus.ACTIVE:
            now = later(self.terms.clock(), head.updated_at)
            return amend(stored, self.terms, status=status, updated_at=now, active_at=UNSET)
        return amend(stored, self.terms, status=status)

    def archive_inactive(self, idle_since: datetime, progress: Callable[[int], object] | None) -> int:
        """Archive the sessions that were last active before *idle_since*; return how many.

        Costs only those: per 100 of them one index read, one trip for heads and one transaction or trip.
        """
        archived = 0
        active = indexes.positions(self.backend.storage, list_of(SessionStatus.ACTIVE, None))
        due = takewhile(lambda each: each[0] < microseconds(idle_since), active)
        for batch in indexes.batches(due):
            archived += self._archive([each for each in (decode_id(name) for _, name in batch) if each], idle_since)
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
        """Iterate over the ids of the sessions that seem to be inactive since then, of both statuses, 100 at a time."""
        for status in SessionStatus:
            listed = indexes.positions(self.backend.storage, list_of(status, None))
            due = takewhile(lambda each: each[0] < microseconds(idle_since), listed)
            for batch in indexes.batches(due):
                yield [each for each in (decode_id(name) for _, name in batch) if each]

    def renew(self, session_id: str, user_id: str | None) -> None:
        """Let a session live as long from now as after a save."""
        for _ in Attempts(self.backend, session_id):
            stored = head_of(self.backend, session_id, self.terms.clock, user_id)
            if self.backend.commit(amend(stored, self.terms)):
                return
