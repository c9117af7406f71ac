"""The indexes, lists of a storage: a user's sessions, and all sessions, each by activity; and those that expire.

Here they are walked, checked and mended. The document is the only truth: a list says where to look, and what it finds
is checked against the document before it is returned.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, TypeVar

from pyai_sessions.documents.keys import decode_id, head_key, session_of_key
from pyai_sessions.documents.listed import EXPIRY, STATUSES, USERS, Place, list_of, lists_of, session_listed
from pyai_sessions.documents.reading import read_head, stamp_of_value
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.model.heads import SessionStatus, StoredHead, microseconds
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.storage.protocol import Change, Held, Listed, Listing, Position, Storage
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
    lists = [list_of(each, user_id) for each in statuses]
    streams = [positions(backend.storage, each, after, batch, newest_first=newest_first) for each in lists]
    merged = heapq.merge(*streams, reverse=newest_first)
    read = _Reader(backend, user_id, statuses, on_invalid, clock, known)
    apart = edge(clock) if whole else _START
    rounds = 0
    seen: dict[str, Position] = {}  # of the batch before: a session may be archived between two reads
    end: Position | None = None
    while found := list(islice(merged, batch)):
        wanted = _named(found, seen, end)
        rounds += 1
        if end is not None and found[-1] > end and not wanted:
            break
        if end is None and not newest_first and len(found) == batch:
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
        held = {each: position.read() for each in ids if isinstance(position := wanted[each], Held)}
        missing = self.backend.heads([each for each in ids if each not in held]) if len(held) < len(ids) else {}
        for session_id in ids:
            value = held.get(session_id, missing.get(session_id))
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
            for position in positions(self.backend.storage, list_of(status, self.user_id), newest_first=True):
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
    return max(
        (
            last
            for each in statuses
            for last in backend.storage.scan(list_of(each, user_id), None, 1, newest_first=True)
        ),
        default=None,
    )


def positions(
    storage: Storage, name: str, after: Position | None = None, batch: int = BATCH, *, newest_first: bool = False
) -> Iterator[Position]:
    """Iterate over the positions of a list that come after one, read so many at a time."""
    walk = Walk(INDEX)
    while True:
        found = storage.scan(name, after, batch, newest_first=newest_first)
        yield from found
        if len(found) != batch:  # or they are all that follow
            return
        after = found[-1]
        walk.reach(after)


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


def mend(backend: Backend, session_id: str, stale: Iterable[Place]) -> bool:
    """List a session as its document says, not in *stale* lists; return False where it was changed meanwhile."""
    value = backend.head(session_id)
    try:
        stored = None if value is None else read_head(value, session_id)
    except InvalidDocumentError:
        return True  # what it was listed as is the last that is known of it
    return relist(backend.storage, session_id, value, stale, lists_of(stored.entry) if stored else ())


def relist(
    storage: Storage, session_id: str, value: object | None, stale: Iterable[Place], wanted: Iterable[Listed]
) -> bool:
    """Take a session out of *stale* lists and into *wanted* ones, if *value* still is its head; else return False."""
    scores = {(name, member): score for name, member, score in wanted}
    places = [*dict.fromkeys([*scores, *stale])]
    held = {(name, member): score for name, member, score in (storage.listings(places) if places else ())}
    lists = [Listing(*each, held.get(each), scores.get(each)) for each in places if each in scores or each in held]
    return storage.write([Change(expect=[(head_key(session_id), stamp_of_value(value))], lists=lists)])[0]


def listings(storage: Storage) -> Iterator[Listed]:
    """Iterate over what our lists hold, in no order; what is moved meanwhile may come twice."""
    for name in (*STATUSES, EXPIRY):  # not the lists of other namespaces, which have longer names
        for score, member in positions(storage, name):
            if session_listed(name, member) is not None:
                yield name, member, score
    for name, member, score in storage.listings(prefix=USERS):
        if session_listed(name, member) is not None:
            yield name, member, score


def wrong_listings(backend: Backend) -> Iterator[dict[str, list[Place]]]:
    """Iterate over what lists hold and no document bears out, by session, some at a time.

    A list and a document are read at different moments, and a writer may have changed both between: what seems wrong is
    looked at again. What is listed of an unreadable document is the last that is known of it, and stays.
    """
    suspects: list[Listed] = []
    for batch in batches(listings(backend.storage)):
        suspects += _unfounded(backend, batch)
        if len(suspects) >= _SUSPECTS:
            yield from _confirmed(backend, suspects)
            suspects = []
    yield from _confirmed(backend, suspects)


def _confirmed(backend: Backend, suspects: list[Listed]) -> Iterator[dict[str, list[Place]]]:
    """Iterate over those that the lists still hold, and that are still wrong.

    A commit that changes a document takes the session out of its former lists, or within the time that the backend
    needs.
    """
    if not suspects:
        return
    if backend.settle:
        time.sleep(backend.settle)
    doubted = set(suspects)
    still = list(dict.fromkeys(each for each in listings(backend.storage) if each in doubted))
    found: dict[str, list[Place]] = {}
    for batch in batches(still):
        for name, member, _ in _unfounded(backend, batch):
            found.setdefault(session_listed(name, member) or "", []).append((name, member))
    for ids in batches(found):
        yield {each: found[each] for each in ids}


def _unfounded(backend: Backend, listed: Sequence[Listed]) -> list[Listed]:
    ids = [session_listed(name, member) or "" for name, member, _ in listed]
    right: dict[str, set[Listed]] = {}
    heads = backend.heads(ids)
    for session_id in dict.fromkeys(ids):
        value = heads.get(session_id)
        with suppress(InvalidDocumentError):
            right[session_id] = (
                set() if value is None else set(backend.names.listed(read_head(value, session_id).entry))
            )
    return [each for each, session_id in zip(listed, ids, strict=True) if each not in right.get(session_id, {each})]


def disagreeing(backend: Backend) -> Iterator[tuple[int, dict[str, list[Place]]]]:
    """Iterate over what lists and documents do not agree in: how many sessions were read, which are wrong.

    Of each of these all places are told that no document bears out; none, where some are only missing. Each head is
    read once where all agree: the lists then hold as much as the documents tell, all of which they hold.
    """
    total = 0
    suspects: list[str] = []
    for ids in batches(session_ids(backend.storage)):
        heads = backend.heads(ids)
        lacking, right = _lacking(backend.storage, heads)
        suspects += lacking
        total += right
        yield len(heads), {}
        if len(suspects) >= _SUSPECTS:
            yield 0, {each: [] for each in _still_lacking(backend, suspects)}
            suspects = []
    yield 0, {each: [] for each in _still_lacking(backend, suspects)}
    if sum(1 for _ in listings(backend.storage)) != total:
        yield from ((0, each) for each in wrong_listings(backend))


def _still_lacking(backend: Backend, suspects: list[str]) -> list[str]:
    """Return those of the sessions that the lists lack while nobody changes their heads.

    One that changes at each look is listed by what changes it.
    """
    if suspects and backend.settle:
        time.sleep(backend.settle)
    found: list[str] = []
    for ids in batches(dict.fromkeys(suspects)):
        due = list(ids)
        for _ in range(_LOOKS):
            before = backend.heads(due)
            lacking, _right = _lacking(backend.storage, before)
            after = backend.heads(lacking)
            due = []
            for session_id in lacking:
                (found if after.get(session_id) == before[session_id] else due).append(session_id)
    return found


def _lacking(storage: Storage, heads: Mapping[str, object]) -> tuple[list[str], int]:
    """Return which sessions the lists lack, or hold in another way than their heads say.

    And how much they hold of the others.
    """
    wanted: dict[str, list[Listed]] = {}
    for session_id, value in heads.items():
        with suppress(InvalidDocumentError):
            wanted[session_id] = lists_of(read_head(value, session_id).entry)
    right = are_listed(storage, wanted)
    return [each for each in wanted if each not in right], sum(len(wanted[each]) for each in right)


def are_listed(storage: Storage, wanted: Mapping[str, Iterable[Listed]]) -> set[str]:
    """Return which sessions are listed as is wanted of each."""
    places = [each[:2] for of in wanted.values() for each in of]
    held = set(storage.listings(places)) if places else set[Listed]()
    return {session_id for session_id, of in wanted.items() if held.issuperset(of)}


def session_ids(storage: Storage) -> Iterator[str]:
    """Iterate over the ids of what may be sessions, in the order in which their heads are read fastest.

    One may come twice.
    """
    return filter(None, map(session_of_key, storage.keys("session/")))


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Iterate over items, so many at a time."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
