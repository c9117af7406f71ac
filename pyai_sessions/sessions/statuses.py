"""Archiving and restoring sessions: one of them, or all that are inactive; and renewing their expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain, takewhile
from typing import NamedTuple

from msgspec import UNSET

from pyai_sessions.documents.keys import decode_id
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.listed import list_of
from pyai_sessions.documents.reading import read_head, restore, summarize
from pyai_sessions.documents.writing import Draft, amend
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, SessionNotFoundError
from pyai_sessions.model.conversation import later
from pyai_sessions.model.heads import SessionStatus, StoredHead, microseconds
from pyai_sessions.model.listed import SessionSummary
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
        for batch in self.inactive(idle_since, (SessionStatus.ACTIVE,)):
            archived += self._archive(batch, idle_since)
            if progress:
                progress(archived)
        return archived

    def _archive(self, batch: list[StoredHead], idle_since: datetime) -> int:
        drafts = [amend(each, self.terms, status=SessionStatus.ARCHIVED) for each in batch]
        archived = 0
        for draft, done in zip(drafts, self.backend.commit_many(drafts), strict=True):
            with suppress(SessionNotFoundError, InvalidDocumentError):
                archived += done or self.set_status(draft.session_id, SessionStatus.ARCHIVED, idle_since=idle_since)
        return archived

    def summaries(self, idle_since: datetime, statuses: Iterable[SessionStatus]) -> list[SessionSummary]:
        """Return the summaries of the sessions that are `inactive`, idle longest first."""
        found = map(summarize, chain.from_iterable(self.inactive(idle_since, statuses)))
        return sorted(found, key=lambda each: (each.active_at, each.session_id))

    def inactive(self, idle_since: datetime, statuses: Iterable[SessionStatus]) -> Iterator[list[StoredHead]]:
        """Iterate over the sessions that were last active before *idle_since*, up to 100 at a time.

        Sessions that cannot be read are left out.
        """
        for status in statuses:
            listed = indexes.positions(self.backend.storage, list_of(status, None))
            due = takewhile(lambda each: each[0] < microseconds(idle_since), listed)
            for batch in indexes.batches(due):
                heads = self.backend.heads(list(filter(None, (decode_id(name) for _, name in batch))))
                found = (self._readable(session_id, value) for session_id, value in heads.items())
                yield [
                    each
                    for each in found
                    if each
                    and each.head.status is status
                    and each.active_at < idle_since
                    and not each.is_over(self.terms.clock)
                ]

    def _readable(self, session_id: str, value: object) -> StoredHead | None:
        try:
            stored = read_head(value, session_id)
            restore(stored, [], self.terms.clock)
        except EncryptionError:  # with a wrong key no session would be found
            raise
        except InvalidDocumentError:
            return None
        return stored

    def renew(self, session_id: str, user_id: str | None) -> None:
        """Let a session expire as late as if it were saved now."""

        def attempt() -> bool | None:
            stored = head_of(self.backend, session_id, self.terms.clock, user_id)
            return self.backend.commit(amend(stored, self.terms)) or None

        until_done(self.backend, session_id, attempt)
