"""The two indexes: a user's sessions, and all sessions, each by activity.

A backend keeps them as positions; here they are walked, checked and mended. The document is the only truth: an entry
says where to look, and what it finds is checked against the document before it is returned.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from pyai_sessions.backends.protocol import Backend, Position
from pyai_sessions.documents import Entry, StoredHead, decode_id, encode_id, head_key, read_head, session_of_key
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.models import SessionStatus

ALL = tuple(SessionStatus)
_BATCH = 100

OnInvalid = Callable[[InvalidDocumentError], None]


def walk(
    backend: Backend,
    user_id: str | None,
    statuses: Sequence[SessionStatus],
    after: Position | None,
    *,
    limit: int | None = None,
    newest_first: bool = True,
    on_invalid: OnInvalid | None = None,
) -> Iterator[StoredHead]:
    """Iterate over the heads of a user's sessions, or of all (None), from the position *after* on.

    Costs one index read and one trip for heads per 100 sessions, or per *limit*. A session that was deleted, expired,
    archived or given to another user meanwhile is left out.

    Raises:
        InvalidDocumentError: A head cannot be read, unless *on_invalid* takes the error.

    """
    batch = min(_BATCH, limit) if limit else _BATCH
    streams = [_positions(backend, status, user_id, after, batch, newest_first=newest_first) for status in statuses]
    merged = heapq.merge(*streams, reverse=newest_first)
    seen: set[str] = set()
    while True:
        names = [name for _, (_, name) in zip(range(batch), merged, strict=False)]
        if not names:
            return
        wanted = [each for each in map(decode_id, names) if each is not None and each not in seen]
        seen.update(wanted)
        for session_id, value in zip(wanted, backend.read_many(wanted), strict=True):
            if value is None:
                continue
            try:
                stored = read_head(value, session_id)
            except InvalidDocumentError as err:
                if on_invalid is None:
                    raise
                on_invalid(err)
                continue
            if stored.head.status in statuses and user_id in (None, stored.head.user_id):
                yield stored


def _positions(
    backend: Backend,
    status: SessionStatus,
    user_id: str | None,
    after: Position | None,
    batch: int,
    *,
    newest_first: bool,
) -> Iterator[Position]:
    while True:
        positions = backend.scan(status, user_id, after, batch, newest_first=newest_first)
        yield from positions
        if len(positions) < batch:
            return
        after = positions[-1]


def cursor_of(stored: StoredHead) -> str:
    """Return the text by which a list goes on after a session."""
    return f"{stored.entry.activity}:{encode_id(stored.head.session_id)}"


def position_of(cursor: str | None) -> Position | None:
    """Return the position that a cursor names."""
    if cursor is None:
        return None
    activity, _, name = cursor.partition(":") if isinstance(cursor, str) else ("", "", "")
    if decode_id(name) is None or not activity.lstrip("-").isdecimal():
        raise InvalidValueError("cursor", "is not one that list_sessions returned as next_cursor")
    return int(activity), name


def head_ids(backend: Backend) -> Iterator[str]:
    """Iterate over the ids of all stored sessions, by a scan of the keys."""
    for key in backend.all_keys():
        session_id = session_of_key(key)
        if session_id is not None and key == head_key(session_id):
            yield session_id


def mend(backend: Backend, session_id: str, stale: Sequence[Entry]) -> bool:
    """Index a session as its document says, and drop *stale* entries; return False where it changed meanwhile."""
    value = backend.read(session_id)
    if value is None:
        return backend.index(session_id, None, stale, None)
    try:
        stored = read_head(value, session_id)
    except InvalidDocumentError:
        return True  # what it was indexed as is the last that is known of it
    return backend.index(session_id, stored.stamp, stale, stored.entry)


def disagreements(backend: Backend) -> Iterator[tuple[str, list[Entry]]]:
    """Iterate over the sessions whose entries do not fit their document, each with its wrong entries.

    Holds all entries in memory. Unreadable documents are left out.
    """
    indexed: dict[str, list[Entry]] = {}
    for entry in backend.entries():
        indexed.setdefault(entry.session_id, []).append(entry)
    for session_id in {*indexed, *head_ids(backend)}:
        value = backend.read(session_id)
        try:
            right = None if value is None else read_head(value, session_id).entry
        except InvalidDocumentError:
            continue
        entries = indexed.get(session_id, [])
        # Redis lists a session under all users as well: an entry without a user.
        fitting = (right, right._replace(user_id=None)) if right else ()
        wrong = [each for each in entries if each not in fitting]
        if wrong or (right and right not in entries):
            yield session_id, wrong
