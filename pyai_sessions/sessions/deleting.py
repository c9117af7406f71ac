"""Deleting sessions: one, or all that are inactive."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import read_head, readable_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import SessionStatus, microseconds
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.forks import free_expired
from pyai_sessions.sessions.loading import owned_head
from pyai_sessions.sessions.removing import remove
from pyai_sessions.sessions.statuses import Archiver
from pyai_sessions.sessions.updating import check_revision
from pyai_sessions.values.recent import Recent


class Deleter:
    """Deletes sessions.

    Args:
        backend: Where the sessions are.
        terms: The limits, the clock and the ttl of the store.
        recent: Heads and ids of pages that the store remembers.

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
        """Delete a session; return whether there was one.

        With *idle_since*, a session that was active at that time or later is not deleted.
        """

        def attempt() -> str | None:
            value = self._backend.head(session_id)
            if value is None:  # a deletion that failed may have removed the head and left pages
                value = self._recent.get(("deleting", session_id))
            if value is None or (user_id is not None and owned_head(value, session_id, user_id) is None):
                return "absent"
            if idle_since is not None and read_head(value, session_id).active_at >= idle_since:
                return "active"
            is_over = has_expired(value, session_id, self._terms.clock)
            if if_revision is not None and not is_over:
                check_revision(read_head(value, session_id), if_revision)
            self._recent.put(("deleting", session_id), value, sys.getsizeof(value))
            if not remove(self._backend, session_id, value):
                return None
            stored = readable_head(value, session_id)
            if stored is not None and stored.is_forked:
                free_expired(self._backend, microseconds(self._terms.clock()), session_id)
            return "expired" if is_over else "deleted"

        outcome = until_done(self._backend, session_id, attempt)
        if outcome in ("expired", "deleted"):  # only now: before, the deletion may still fail, and is repeated
            self.forget(session_id)
        return outcome == "deleted"

    def delete_inactive(self, idle_since: datetime, progress: Callable[[int], object] | None) -> int:
        """Delete the sessions that were last active before *idle_since*, archived ones too; return how many."""
        deleted = 0
        for batch in Archiver(self._backend, self._terms).inactive(idle_since, SessionStatus):
            for each in batch:
                with suppress(InvalidDocumentError):  # another program damaged it just now
                    deleted += self.delete(each.head.session_id, idle_since=idle_since)
            if progress:
                progress(deleted)
        return deleted

    def forget(self, session_id: str) -> None:
        """Forget what the store remembers of a session."""
        for each in ("head", "ids", "deleting"):
            self._recent.pop((each, session_id))
