"""Purging: removing the sessions and states that have expired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pyai_sessions.documents.reading import read_head, summarize
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import microseconds
from pyai_sessions.model.listed import SessionSummary
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.indexes import BATCH
from pyai_sessions.sessions.removing import purge
from pyai_sessions.upkeep import shared_state
from pyai_sessions.values.checks import Clock

_Found = list[tuple[object, SessionSummary]]
"""The stored heads of expired sessions, each with its summary."""


def purge_all(backend: Backend, clock: Clock, progress: Progress | None = None) -> int:
    """Remove all expired sessions, 100 at a time, and all expired states; return how many sessions were removed.

    Of a fork that the storage itself has removed, its list entries go, and the pages of others that only it shared.
    """
    purged = backend.expiry.unlist_forgotten(microseconds(clock()), progress)
    forks.free_expired(backend, microseconds(clock()))
    for found in _expired(backend, clock):
        with backend.storage.exclusive():
            purged += sum(purge(backend, summary.session_id, value, clock) for value, summary in found)
        if progress:
            progress(purged)
    shared_state.purge(backend, clock)
    return purged


def expired(backend: Backend, clock: Clock) -> list[SessionSummary]:
    """Return the expired sessions that `purge_all` would remove, in the order in which they expired."""
    return [summary for found in _expired(backend, clock) for _, summary in found]


def _expired(backend: Backend, clock: Clock) -> Iterator[_Found]:
    """Iterate over batches of expired sessions, without those that cannot be read."""
    for members in backend.expiry.due(microseconds(clock()), BATCH):
        found: _Found = []
        for session_id, value in backend.heads(members.values()).items():
            with suppress(InvalidDocumentError):
                stored = read_head(value, session_id)
                if stored.is_over(clock):
                    found.append((value, summarize(stored)))
        yield found
