"""Purging: removing the sessions and states that have expired."""

from __future__ import annotations

from pyai_sessions.model.heads import microseconds
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.indexes import BATCH
from pyai_sessions.sessions.removing import purge
from pyai_sessions.upkeep import shared_state
from pyai_sessions.values.checks import Clock


def purge_all(backend: Backend, clock: Clock, progress: Progress | None = None) -> int:
    """Remove all expired sessions, 100 at a time, and all expired states; return how many sessions were removed."""
    now = microseconds(clock())
    purged = backend.expiry.unlist_forgotten(now, progress)
    for members in backend.expiry.due(now, BATCH):
        heads = backend.heads(members.values()).items()
        with backend.storage.exclusive():
            purged += sum(purge(backend, session_id, value, clock) for session_id, value in heads)
        if progress:
            progress(purged)
    shared_state.purge(backend, clock)
    return purged
