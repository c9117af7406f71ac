"""The indexes: reading them, checking them against the heads, and repairing them.

An index is a list of the storage. Its entries only say which heads to read: each head is checked before it is returned.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
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
"""Heads that are read or written in one round trip."""

T = TypeVar("T")

INDEX = "the index of the sessions"

_SUSPECTS = 100_000
"""Entries that look wrong are collected up to this number, and then checked a second time."""

_APART = 60_000_000
"""Microseconds by which the clocks of two writers may differ. A list is then still complete beside these writers."""

_START: Position = (0, "")
"""The position before all times since 1970."""

_LOOKS = 10
"""How often a session is read again if it changes each time."""

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
    among: Container[str] | None = None,
) -> Iterator[tuple[Position, StoredHead]]:
    """Iterate over a list of sessions: the position of each in the list, and its head.

    Costs one index read and one read of heads per 100 sessions. Sessions that other writers delete, archive or give to
    another user meanwhile are left out.

    Args:
        backend: Where the sessions are.
        user_id: The user whose sessions are listed. None: all users.
        statuses: The statuses that are listed.
        after: The position at which the former page ended. None: from the beginning.
        limit: Sessions that the caller wants. Fewer are then read in one trip.
        newest_first: Whether the latest activity comes first.
        on_invalid: Is called with the error of a head that cannot be read, and the walk goes on.
        clock: Tells which sessions had expired when their heads were read. They are left out. None: they are returned
            until they are removed.
        known: The ids that were returned. Each session is returned once, and its id is added here.
        whole: Whether the caller reads to the end. Sessions that become active meanwhile move to the newest end, where
            the walk may have been already. They are looked for at the end, and come last, out of order.
        among: The ids of the sessions that the caller wants. The heads of others are not read. None: all.

    Raises:
        InvalidDocumentError: A head cannot be read, and *on_invalid* is None.

    """
    batch = min(BATCH, limit) if limit else BATCH
    lists = [list_of(each, user_id) for each in statuses]
    streams = [positions(backend.storage, each, after, batch, newest_first=newest_first) for each in lists]
    merged = heapq.merge(*streams, reverse=newest_first)
    read = _Reader(backend, user_id, statuses, on_invalid, clock, known, among)
    apart = edge(clock) if whole else _START
    scans = 0
    seen: dict[str, Position] = {}  # the batch before: a session that is archived between two reads is in both lists
    end: Position | None = None
    while found := list(islice(merged, batch)):
        wanted = _named(found, seen, end)
        scans += 1 + (len(found) == batch)  # of a full batch it is asked what follows, and that may have moved away
        if end is not None and found[-1] > end and not wanted:
            break
        if end is None and not newest_first and len(found) == batch:
            end = _last(backend, user_id, statuses)  # sessions that are saved from now on move beyond it, endlessly
        seen = wanted
        yield from read.heads(wanted)
    if known is None or not whole or after is not None or (scans <= 1 and len(statuses) == 1):  # one scan has them all
        return
    for _ in range(_LOOKS):
        moved = read.unknown(apart if end is None else min(apart, end))
        yield from read.heads(moved)
        known.update(moved)
        if not moved:
            return


def edge(clock: Clock | None) -> Position:
    """Return a position that is before every session saved from now on, even by a writer whose clock is slow."""
    return _START if clock is None else (microseconds(clock()) - _APART, "")


class _Reader(NamedTuple):
    """Reads the heads that a walk returns. The fields are arguments of `walk`."""

    backend: Backend
    user_id: str | None
    statuses: Sequence[SessionStatus]
    on_invalid: OnInvalid | None
    clock: Clock | None
    known: set[str] | None
    among: Container[str] | None

    def heads(self, wanted: Mapping[str, Position]) -> Iterator[tuple[Position, StoredHead]]:
        """Iterate over the heads of the *wanted* sessions that belong to the list and were not returned before."""
        ids = list(wanted) if self.known is None else [each for each in wanted if each not in self.known]
        if self.among is not None:
            ids = [each for each in ids if each in self.among]
        # Not the time at which the caller comes to a session: others may have prolonged its life by then.
        now = None if self.clock is None else self.clock()
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
            if now is not None and stored.is_over(lambda: now):
                continue
            if stored.head.status in self.statuses and self.user_id in (None, stored.head.user_id):
                if self.known is not None:
                    self.known.add(session_id)
                yield wanted[session_id], stored

    def unknown(self, edge: Position) -> dict[str, Position]:
        """Return the sessions after the position *edge* that were not returned before."""
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
    """Return the position of each session, without the sessions in *seen*, and those after the position *end*."""
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
    """Iterate over the positions of a list that follow *after*. One trip reads *batch* of them."""
    walk = Walk(INDEX)
    while True:
        found = storage.scan(name, after, batch, newest_first=newest_first)
        yield from found
        if len(found) != batch:  # fewer, or more: a storage may return all that follow
            return
        after = found[-1]
        walk.reach(after)


def cursor_of(position: Position) -> str:
    """Return the cursor of the page that begins after a position."""
    return f"{position[0]}:{position[1]}"


def position_of(cursor: str | None) -> Position | None:
    """Return the position that a cursor stands for."""
    if cursor is None:
        return None
    activity, _, name = cursor.partition(":") if isinstance(cursor, str) else ("", "", "")
    if decode_id(name) is None or not re.fullmatch("-?[0-9]{1,18}", activity):
        raise InvalidValueError("cursor", "is no next_cursor of list_sessions; leave it out to begin anew")
    return int(activity), name


def mend(backend: Backend, session_id: str, stale: Iterable[Place]) -> bool:
    """Correct the index entries of a session: those of its head are written, others in *stale* are removed.

    Return False if another writer changed the session meanwhile.
    """
    value = backend.head(session_id)
    try:
        stored = None if value is None else read_head(value, session_id)
    except InvalidDocumentError:
        return True  # a session whose head cannot be read keeps its entries: they alone say whose it is
    return relist(backend.storage, session_id, value, stale, lists_of(stored.entry) if stored else ())


def relist(
    storage: Storage, session_id: str, value: object | None, stale: Iterable[Place], wanted: Iterable[Listed]
) -> bool:
    """Write the *wanted* entries of a session, and remove the other *stale* ones, if *value* still is its head.

    Return whether it is.
    """
    scores = {(name, member): score for name, member, score in wanted}
    places = [*dict.fromkeys([*scores, *stale])]
    held = {(name, member): score for name, member, score in (storage.listings(places) if places else ())}
    lists = [Listing(*each, held.get(each), scores.get(each)) for each in places if each in scores or each in held]
    return storage.write([Change(expect=[(head_key(session_id), stamp_of_value(value))], lists=lists)])[0]


def listings(storage: Storage) -> Iterator[Listed]:
    """Iterate over all index entries, in no order. One that moves meanwhile may come twice."""
    for name in (*STATUSES, EXPIRY):  # by name: a prefix would find the lists of namespaces, too
        for score, member in positions(storage, name):
            if session_listed(name, member) is not None:
                yield name, member, score
    for name, member, score in storage.listings(prefix=USERS):
        if session_listed(name, member) is not None:
            yield name, member, score


def wrong_listings(backend: Backend, clock: Clock | None = None) -> Iterator[dict[str, list[Place]]]:
    """Iterate over the index entries that do not agree with the heads, by session, in batches.

    A writer may change a session between the read of its entry and the read of its head. So each entry that looks wrong
    is checked a second time. Entries of sessions whose heads cannot be read count as right. With a *clock*, so do those
    that sessions have left which expired and which the storage then removed: `purge_expired` removes these entries.
    """
    suspects: list[Listed] = []
    for batch in batches(listings(backend.storage)):
        suspects += _unfounded(backend, batch, backend.heads(map(_session_of, batch)))
        if len(suspects) >= _SUSPECTS:
            yield from _confirmed(backend, suspects, clock)
            suspects = []
    yield from _confirmed(backend, suspects, clock)


def _confirmed(backend: Backend, suspects: list[Listed], clock: Clock | None) -> Iterator[dict[str, list[Place]]]:
    """Iterate over those of the *suspects* that are still wrong one write timeout later, with nobody at work.

    A session that is given to another user and back has the same entry again. One that is written at each look gets its
    entries from these writes.
    """
    suspects = _without_forgotten(backend, suspects, clock)
    if suspects and backend.settle:
        time.sleep(backend.settle)
        suspects = _without_forgotten(backend, suspects, clock)
    found: dict[str, list[Place]] = {}
    for batch in batches(dict.fromkeys(suspects)):
        due = batch
        for _ in range(_LOOKS):
            before = backend.heads(map(_session_of, due))
            held = set(backend.storage.listings([each[:2] for each in due])) if due else set[Listed]()
            wrong = _unfounded(backend, [each for each in due if each in held], before)
            after = backend.heads(map(_session_of, wrong))
            due = list[Listed]()
            for each in wrong:
                session_id = _session_of(each)
                if after.get(session_id) == before.get(session_id):
                    found.setdefault(session_id, []).append(each[:2])
                else:
                    due.append(each)
    for ids in batches(found):
        yield {each: found[each] for each in ids}


def _without_forgotten(backend: Backend, listed: list[Listed], clock: Clock | None) -> list[Listed]:
    """Return the entries without those that expired sessions have left; all of them without a *clock*."""
    if clock is None or not listed:
        return listed
    forgotten = backend.expiry.forgotten(microseconds(clock()))
    return [each for each in listed if each[:2] not in forgotten]


def _session_of(listed: Listed) -> str:
    return session_listed(*listed[:2]) or ""


def _unfounded(backend: Backend, listed: Sequence[Listed], heads: Mapping[str, object]) -> list[Listed]:
    """Return the entries that do not agree with the *heads* of their sessions."""
    right: dict[str, set[Listed]] = {}
    for session_id in dict.fromkeys(map(_session_of, listed)):
        value = heads.get(session_id)
        with suppress(InvalidDocumentError):
            right[session_id] = (
                set() if value is None else set(backend.names.listed(read_head(value, session_id).entry))
            )
    return [each for each in listed if each not in right.get(_session_of(each), {each})]


def disagreeing(backend: Backend, clock: Clock | None = None) -> Iterator[tuple[int, dict[str, list[Place]]]]:
    """Compare all heads with all index entries. Iterate over pairs: how many heads were read, and what is wrong.

    What is wrong are session ids, each with its wrong entries; the list is empty if entries are only missing. If all
    agree, each head is read once: no entry is missing, and there are as many entries as the heads ask for. *clock* is
    that of `wrong_listings`.
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
        yield from ((0, each) for each in wrong_listings(backend, clock))


def _still_lacking(backend: Backend, suspects: list[str]) -> list[str]:
    """Return the sessions whose entries are still missing while nobody writes their heads.

    A session that is written at each look gets its entries from these writes.
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
    """Return the sessions of which an entry is missing or wrong, and how many entries the other sessions have."""
    wanted: dict[str, list[Listed]] = {}
    for session_id, value in heads.items():
        with suppress(InvalidDocumentError):
            wanted[session_id] = lists_of(read_head(value, session_id).entry)
    right = are_listed(storage, wanted)
    return [each for each in wanted if each not in right], sum(len(wanted[each]) for each in right)


def are_listed(storage: Storage, wanted: Mapping[str, Iterable[Listed]]) -> set[str]:
    """Return the sessions that have all of their *wanted* entries."""
    places = [each[:2] for of in wanted.values() for each in of]
    held = set(storage.listings(places)) if places else set[Listed]()
    return {session_id for session_id, of in wanted.items() if held.issuperset(of)}


def session_ids(storage: Storage) -> Iterator[str]:
    """Iterate over the ids of all sessions, in the storage's order. One may come twice, or have no head any more."""
    return filter(None, map(session_of_key, storage.keys("session/")))


def batches(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Iterate over lists of *size* items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
