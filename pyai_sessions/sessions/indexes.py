"""The two indexes: a user's sessions, and all sessions, each by activity.

A backend keeps them as positions; here they are walked, checked and mended. The document is the only truth: an entry
says where to look, and what it finds is checked against the document before it is returned.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, TypeVar

from pyai_sessions.documents.keys import decode_id
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.model.heads import Entry, SessionStatus, StoredHead, microseconds
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.storage.protocol import Position
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import Clock

ALL = tuple(SessionStatus)
BATCH = 100
"""Sessions whose heads are read, or written, together."""

T = TypeVar("T")

INDEX = "the index of the sessions"

_SUSPECTS = 100_000
"""What seems wrong is held, so many entries at the most, to be looked at once more when all was read."""

_APART = 60_000_000
"""Microseconds by which the clocks of writers may be apart, for a list to find all that they change meanwhile."""

_START: Position = (0, "")
"""Comes before all positions of times since 1970."""

_LOOKS = 10
"""How often a session is looked at that changes meanwhile."""

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
    clock: Clock | None = None,
    known: set[str] | None = None,
    whole: bool = False,
) -> Iterator[tuple[Position, StoredHead]]:
    """Iterate over the heads of a user's sessions, or of all (None), from the position *after* on, with their own.

    Costs one index read and one trip for heads per 100 sessions, or per *limit*. A session that was deleted, expired,
    archived or given to another user meanwhile is left out. Without a *clock* those are not that have expired and
    were not removed yet.

    With a set of *known* ids no session comes twice. A *whole* list gives at its end, out of order, those that became
    active meanwhile, and so moved away from where they were not reached yet.

    Raises:
        InvalidDocumentError: A head cannot be read, unless *on_invalid* takes the error.

    """
    batch = min(BATCH, limit) if limit else BATCH
    streams = [_positions(backend, status, user_id, after, batch, newest_first=newest_first) for status in statuses]
    merged = heapq.merge(*streams, reverse=newest_first)
    read = _Reader(backend, user_id, statuses, on_invalid, clock, known)
    apart = edge(clock) if whole else _START
    rounds = 0
    seen: dict[str, Position] = {}  # of the batch before: a session may be archived between two reads
    end: Position | None = None
    while positions := list(islice(merged, batch)):
        wanted = _named(positions, seen, end)
        rounds += 1
        if end is not None and positions[-1] > end and not wanted:
            break
        if end is None and not newest_first and len(positions) == batch:
            end = _last(backend, user_id, statuses)  # what changes from now on moves there, again and again
        seen = wanted
        yield from read.heads(wanted)
    if known is None or not whole or after is not None or (rounds <= 1 and len(statuses) == 1):  # one scan has them all
        return
    for _ in range(_LOOKS):
        moved = read.unknown(apart if end is None else min(apart, end))
        yield from read.heads(moved)
        known.update(moved)
        if not moved:
            return


def edge(clock: Clock | None) -> Position:
    """Return a position before all those to which sessions move from now on, by whichever of the writers' clocks."""
    return _START if clock is None else (microseconds(clock()) - _APART, "")


class _Reader(NamedTuple):
    """Reads the heads at positions of a walk."""

    backend: Backend
    user_id: str | None
    statuses: Sequence[SessionStatus]
    on_invalid: OnInvalid | None
    clock: Clock | None
    known: set[str] | None

    def heads(self, wanted: Mapping[str, Position]) -> Iterator[tuple[Position, StoredHead]]:
        """Iterate over the heads at these positions that belong to the list, and are not known yet."""
        ids = list(wanted) if self.known is None else [each for each in wanted if each not in self.known]
        for session_id, value in zip(ids, self.backend.read_many(ids) if ids else (), strict=True):
            if value is None:
                continue
            try:
                stored = read_head(value, session_id)
            except InvalidDocumentError as err:
                if self.on_invalid is None:
                    raise
                self.on_invalid(err)
                continue
            if self.clock is not None and stored.is_over(self.clock):
                continue
            if stored.head.status in self.statuses and self.user_id in (None, stored.head.user_id):
                if self.known is not None:
                    self.known.add(session_id)
                yield wanted[session_id], stored

    def unknown(self, edge: Position) -> dict[str, Position]:
        """Return the positions beyond an *edge* of sessions that are not known."""
        found: dict[str, Position] = {}
        for status in self.statuses:
            for position in _positions(self.backend, status, self.user_id, None, BATCH, newest_first=True):
                if position <= edge:
                    break
                session_id = decode_id(position[1])
                if session_id is not None and session_id not in (self.known or ()):
                    found.setdefault(session_id, position)
        return found


def _named(positions: Sequence[Position], seen: Mapping[str, Position], end: Position | None) -> dict[str, Position]:
    """Return positions by their sessions, without those that were seen, or come after the *end*."""
    named: dict[str, Position] = {}
    for position in positions:
        session_id = decode_id(position[1])
        if session_id is not None and session_id not in seen and (end is None or position <= end):
            named.setdefault(session_id, position)
    return named


def _last(backend: Backend, user_id: str | None, statuses: Sequence[SessionStatus]) -> Position | None:
    return max((p for each in statuses for p in backend.scan(each, user_id, None, 1, newest_first=True)), default=None)


def _positions(
    backend: Backend,
    status: SessionStatus,
    user_id: str | None,
    after: Position | None,
    batch: int,
    *,
    newest_first: bool,
) -> Iterator[Position]:
    place = Walk(INDEX)
    while True:
        positions = backend.scan(status, user_id, after, batch, newest_first=newest_first)
        yield from positions
        if len(positions) < batch:
            return
        after = positions[-1]
        place.reach(after)


def cursor_of(position: Position) -> str:
    """Return the text by which a list goes on after a position."""
    return f"{position[0]}:{position[1]}"


def position_of(cursor: str | None) -> Position | None:
    """Return the position that a cursor names."""
    if cursor is None:
        return None
    activity, _, name = cursor.partition(":") if isinstance(cursor, str) else ("", "", "")
    if decode_id(name) is None or not re.fullmatch("-?[0-9]{1,18}", activity):
        raise InvalidValueError("cursor", "is no next_cursor of list_sessions; leave it out to begin anew")
    return int(activity), name


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


def wrong_entries(backend: Backend) -> Iterator[dict[str, list[Entry]]]:
    """Iterate over what the indexes hold and no document bears out, by session, some at a time.

    An entry and its document are read at different moments, and a writer may have changed both between: what seems
    wrong is looked at again. One that stands in the place of the right one may be left to `unlisted`. What is indexed
    of an unreadable document is the last that is known of it, and stays.
    """
    suspects: list[Entry] = []
    for batch in batches(backend.entries()):
        suspects += _unfounded(backend, batch)
        if len(suspects) >= _SUSPECTS:
            yield from _confirmed(backend, suspects)
            suspects = []
    yield from _confirmed(backend, suspects)


def _confirmed(backend: Backend, suspects: list[Entry]) -> Iterator[dict[str, list[Entry]]]:
    """Iterate over those that the indexes still hold, and that are still wrong.

    A commit that changes a document takes the former entry away with it, or within the time that the backend needs.
    """
    if not suspects:
        return
    if backend.settle:
        time.sleep(backend.settle)
    doubted = set(suspects)
    still = list(dict.fromkeys(each for each in backend.entries() if each in doubted))
    found: dict[str, list[Entry]] = {}
    for batch in batches(still):
        for each in _unfounded(backend, batch):
            found.setdefault(each.session_id, []).append(each)
    for ids in batches(found):
        yield {each: found[each] for each in ids}


def _unfounded(backend: Backend, entries: Sequence[Entry]) -> list[Entry]:
    right: dict[str, Entry | None] = {}
    ids = list({each.session_id: None for each in entries})
    for session_id, value in zip(ids, backend.read_many(ids), strict=True):
        with suppress(InvalidDocumentError):
            right[session_id] = None if value is None else read_head(value, session_id).entry
    return [
        each for each in entries if each.session_id in right and each not in _listed_as(backend, right[each.session_id])
    ]


def _listed_as(backend: Backend, entry: Entry | None) -> tuple[Entry, ...]:
    if entry is None:
        return ()
    # A session is listed under all users as well: an entry without a user.
    entry = backend.as_indexed(entry)
    return entry, entry._replace(user_id=None)


def disagreeing(backend: Backend) -> Iterator[tuple[int, dict[str, list[Entry]]]]:
    """Iterate over what the indexes and the documents do not agree in: how many sessions were read, which are wrong.

    Of each of these all entries are told that no document bears out; none, where some are only missing. Each head is
    read once where all agree: the indexes then hold as many entries as the documents tell, all of which they hold.
    """
    entries = 0
    suspects: list[str] = []
    for ids in batches(backend.session_ids()):
        values = backend.read_many(ids)
        lacking, right = _lacking(backend, dict(zip(ids, values, strict=True)))
        suspects += lacking
        entries += right
        yield sum(value is not None for value in values), {}
        if len(suspects) >= _SUSPECTS:
            yield 0, {each: [] for each in _still_lacking(backend, suspects)}
            suspects = []
    yield 0, {each: [] for each in _still_lacking(backend, suspects)}
    if sum(1 for _ in backend.entries()) != entries:
        yield from ((0, each) for each in wrong_entries(backend))


def _still_lacking(backend: Backend, suspects: list[str]) -> list[str]:
    """Return those of the sessions that the indexes lack while nobody changes their heads.

    One that changes at each look is indexed by what changes it.
    """
    if suspects and backend.settle:
        time.sleep(backend.settle)
    found: list[str] = []
    for ids in batches(dict.fromkeys(suspects)):
        due = list(ids)
        for _ in range(_LOOKS):
            before = dict(zip(due, backend.read_many(due), strict=True)) if due else {}
            lacking, _right = _lacking(backend, before)
            after = zip(lacking, backend.read_many(lacking), strict=True) if lacking else ()
            due = []
            for session_id, value in after:
                (found if value == before[session_id] else due).append(session_id)
    return found


def _lacking(backend: Backend, values: Mapping[str, object | None]) -> tuple[list[str], int]:
    """Return which sessions the indexes lack, or hold in another way than their heads say.

    And how many entries they hold of the others.
    """
    entries: list[Entry] = []
    for session_id, value in values.items():
        with suppress(InvalidDocumentError):
            if value is not None:
                entries.append(read_head(value, session_id).entry)
    lacking: list[str] = []
    right = 0
    for entry, indexed in zip(entries, backend.indexed(entries), strict=True) if entries else ():
        if indexed:
            right += 1 if entry.user_id is None else 2
        else:
            lacking.append(entry.session_id)
    return lacking, right


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Iterate over items, so many at a time."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
