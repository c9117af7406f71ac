"""Deleting sessions: one, those that nobody uses any more, or all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.loading import Attempts, owned_head
from pyai_sessions.sessions.statuses import Archiver
from pyai_sessions.sessions.updating import check_revision
from pyai_sessions.values.recent import Recent


class Deleter:
    """Deletes sessions.

    Args:
        backend: Where the sessions lie.
        terms: The store's terms.
        recent: What is remembered of sessions.

    """

    def __init__(self, backend: Backend, terms: Terms, recent: Recent[object]) -> None:
        self._backend = backend
        self._terms = terms
        self._recent = recent

    def delete(
        self,
        session_id: str,
        user_id: str | None = None,
        *,
        if_revision: str | None = None,
        idle_since: datetime | None = None,
    ) -> bool:
        """Delete a session; return whether there was one. *idle_since* passes over one that was active since then."""
        attempts = Attempts(self._backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                value = self._backend.head(session_id)
                if value is None:  # a deletion that failed may have removed the head and left pages
                    value = self._recent.get(("deleting", session_id))
                if value is None or (user_id is not None and owned_head(value, session_id, user_id) is None):
                    return False
                if idle_since is not None and read_head(value, session_id).active_at >= idle_since:
                    return False
                is_over = has_expired(value, session_id, self._terms.clock)
                if if_revision is not None and not is_over:
                    check_revision(read_head(value, session_id), if_revision)
                self._recent.put(("deleting", session_id), value, sys.getsizeof(value))
                done = forks.remove(self._backend, session_id, value)
            if done:
                self.forget(session_id)
                return not is_over
        return False

    def delete_inactive(self, idle_since: datetime, progress: Callable[[int], object] | None) -> int:
        """Delete the sessions that were last active before *idle_since*, archived ones too; return how many."""
        deleted = 0
        for session_ids in Archiver(self._backend, self._terms).inactive(idle_since):
            for each in session_ids:
                with suppress(InvalidDocumentError):
                    deleted += self.delete(each, idle_since=idle_since)
            if progress:
                progress(deleted)
        return deleted

    def forget(self, session_id: str) -> None:
        """Remember nothing of a session that is gone."""
        for each in ("head", "ids", "deleting"):
            self._recent.pop((each, session_id))
