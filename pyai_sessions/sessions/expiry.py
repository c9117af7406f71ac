"""Expiry: sessions whose time has run out. They are there for nobody, and go when they are purged."""

from __future__ import annotations

from pyai_sessions.documents.keys import decode_id
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import microseconds
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.storage.protocol import Position
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import Clock


def has_expired(value: object | None, session_id: str, clock: Clock) -> bool:
    """Return whether a stored head can be read, and is of a session that has expired."""
    try:
        return value is not None and read_head(value, session_id).is_over(clock)
    except InvalidDocumentError:
        return False


def purge(backend: Backend, session_id: str, value: object | None, clock: Clock, timeout: float) -> bool:
    """Remove a session with all that belongs to it if it has expired, and *value* is its head still."""
    return has_expired(value, session_id, clock) and forks.remove(backend, session_id, value, timeout)


def purge_all(backend: Backend, clock: Clock, timeout: float, progress: Progress | None = None) -> int:
    """Remove all sessions that have expired, 100 in one transaction where there are such; return how many they were."""
    now = microseconds(clock())
    purged = backend.purge_expired(now, progress)  # those that the storage itself forgot
    after: Position | None = None
    walk = Walk(indexes.INDEX)
    while found := backend.expiring(now, after, indexes.BATCH):
        after = found[-1]
        walk.reach(after)
        ids = [each for each in (decode_id(member.partition("/")[0]) for _, member in found) if each is not None]
        values = zip(ids, backend.read_many(ids), strict=True)
        with backend.exclusive():
            purged += sum(purge(backend, session_id, value, clock, timeout) for session_id, value in values)
        if progress:
            progress(purged)
    return purged
