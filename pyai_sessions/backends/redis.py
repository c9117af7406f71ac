"""Redis and Valkey: one hash per session, so that a session expires, moves and loads as one.

    <prefix><id>                    a hash: field "session" is the head, fields "messages/<gen>/<n>" are pages, and
                                    "forks/<fork>/<incarnation>" references; of a deleted session, while others share
                                    pages of it, such pages and references alone
    <prefix>/active, …/archived     sorted sets: session ids by activity
    <prefix>/user/<user>/active, …  the same of one user
    <prefix>/expiry                 a sorted set: "<id>/<status>/<user>" by the time at which the session expires
    <prefix>/namespace/<name>/…     all of these, of a namespace
    <prefix>/, <prefix>/other/<name>  hashes of what a `RedisMapping` was given that belongs to no session

Ids are percent-encoded, so no id contains the "/" that the indexes begin with, nor the last character of a prefix: see
`_check_prefix`. A save is one script: compare, write, index, expire, in one round trip.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

from pyai_sessions.backends import scripts
from pyai_sessions.backends.grouping import Group
from pyai_sessions.backends.protocol import Backend, Found, Position, Progress, Wanted
from pyai_sessions.backends.replies import Command, as_text
from pyai_sessions.drafts import Draft
from pyai_sessions.errors import (
    StorageClosedError,
    UnsuitableMappingError,
)
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import (
    aside_key,
    decode_id,
    encode_id,
    page_prefix,
    reference_prefix,
    session_beside,
    split_namespace,
)
from pyai_sessions.storage.hashes import TOGETHER as _TOGETHER
from pyai_sessions.storage.hashes import RedisMapping, literal, script
from pyai_sessions.tokens import new_token

_HEAD = "session"
STATUSES = {each.value for each in SessionStatus}
_PAGE = "messages/"
_TRIPS = 4
"""Trips with which threads save at the same time: fewer carry more each, more wait less (of 16 threads on a local
server, turns a second against one thread: 1.5 with one trip, 1.3 with 4, 0.95 with 8, 0.8 each with its own)."""
_LONGER = 60
"""Seconds by which shared pages outlive those that share them: two servers' keys do not expire at the same moment."""
_LEASE = 1.0
"""Seconds, at the most, that a writer's turn lasts if it does not end it: its process may be gone."""
DUE = 1000
"""Entries of expired sessions that one script or command looks at: for a millisecond the server answers nobody else."""
_PURGE = 100
"""Expired sessions that one script clears away from the indexes."""


class RedisBackend(Backend):
    """Sessions in a `RedisMapping`."""

    together = 32  # more gain little, and keep an event loop waiting
    distant = True
    copied_by = "the server saves all that it holds: BGSAVE, or redis-cli --rdb FILE"

    def __init__(self, mapping: RedisMapping, *, timeout: float) -> None:
        self._mapping = mapping
        self.settle_forks = self._timeout = timeout
        self._mine = threading.local()
        self.ttl = mapping.ttl
        self._group: Group[Draft] = Group(lambda: mapping.where, timeout, at_once=_TRIPS)
        self._prefix = mapping.prefix.encode("utf-8", "surrogatepass")
        self._closed = False
        self._asked = mapping.allow_eviction
        self._removes_mortals = False

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        found: object | None = self._open.command("HGET", self._hash(session_id), _HEAD)
        return found

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        if not session_ids:
            return []
        found = self._open.command(*script(scripts.READ_MANY, [self._hash(each) for each in session_ids]))
        return [each or None for each in found]

    def read_session(self, wanted: Wanted) -> Found:  # noqa: D102
        return _found(wanted, self._open.command(*self._read_session(wanted)))

    def read_sessions(self, wanted: Sequence[Wanted]) -> list[Found]:  # noqa: D102
        replies = self._open.commands([self._read_session(each) for each in wanted])
        return [_found(each, reply) for each, reply in zip(wanted, replies, strict=True)]

    def _read_session(self, wanted: Wanted) -> Command:
        session_id, pages = wanted
        if pages is None:
            return ("HGETALL", self._hash(session_id))
        return ("HMGET", self._hash(session_id), _HEAD, *map(_field, pages))

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:  # noqa: D102
        fields: dict[bytes, list[str]] = {}
        for key in keys:
            fields.setdefault(self._hash_of(key), []).append(key)
        found: dict[str, object] = {}
        replies = self._open.commands([("HMGET", name, *map(_field_of_any, each)) for name, each in fields.items()])
        for each, values in zip(fields.values(), replies, strict=True):
            found.update(zip(each, values, strict=True))
        return [found.get(key) for key in keys]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        mapping = self._open
        names = filter(mapping.holds, mapping.scan(literal(self._prefix) + b"*", "hash"))
        while batch := list(islice(names, _TOGETHER)):
            for name, fields in zip(batch, mapping.commands([("HKEYS", each) for each in batch]), strict=True):
                for field in fields:
                    yield mapping.key(name, field)

    def session_ids(self) -> Iterator[str]:  # noqa: D102
        size = len(self._prefix)
        for name in self._open.scan(literal(self._prefix) + b"*", "hash"):
            session_id = decode_id(as_text(name[size:]))
            if session_id is not None:
                yield session_id

    def keys_of(self, session_ids: Iterable[str]) -> Iterator[str]:  # noqa: D102
        mapping, hashes = self._open, (self._hash(each) for each in session_ids)
        while batch := list(islice(hashes, _TOGETHER)):
            for name, fields in zip(batch, mapping.commands([("HKEYS", each) for each in batch]), strict=True):
                keys = (mapping.key(name, field) for field in fields)
                yield from (key for key in keys if session_beside(key) is not None)

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        if not self._turn_of(draft.session_id):
            return self._group.put(draft, self.commit_many)
        done = self.commit_many([draft])[0]
        if done:
            self._mine.turn = None
        return done

    @contextmanager
    def turn(self, session_id: str) -> Generator[None, None, None]:
        """Cost a trip, and more while others have theirs. A turn that its writer does not end is over after a while."""
        token, name = new_token(6), self._hash(session_id)
        lease = str(int(1000 * min(_LEASE, self._timeout / 4)))
        deadline = time.monotonic() + self._timeout
        while not self._open.command(*script(scripts.TAKE_TURN, [name], token, lease)):
            if time.monotonic() > deadline:
                break  # the try is made all the same, and then its caller says so
            time.sleep(random.uniform(0, 0.005))  # noqa: S311 (it keeps competing writers apart, not secrets)
        self._mine.turn = session_id, token
        try:
            yield
        finally:
            ended = not self._turn_of(session_id)
            self._mine.turn = None
            if not ended:
                self._open.command(*script(scripts.END_TURN, [name], token))

    def _turn_of(self, session_id: str) -> str:
        """Return the token of this thread's turn to write a session; empty, where it has none."""
        turn: tuple[str, str] | None = getattr(self._mine, "turn", None)
        return turn[1] if turn and turn[0] == session_id else ""

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        self._check_kept(drafts)
        requests = [self._commit(each, self._prefix) for each in drafts]
        return [bool(each) for each in self._open.commands(requests + self._renewing(drafts))[: len(drafts)]]

    def _check_kept(self, drafts: Sequence[Draft]) -> None:
        """Raise where the server would remove a session when its memory is full, since it expires some day."""
        _ = self._open  # asks the server
        if self._removes_mortals and any(each.time_left is not None for each in drafts):
            raise self._evicts("volatile-*")

    def _renewing(self, drafts: Sequence[Draft]) -> list[Command]:
        """Return the commands that let shared pages live as long as those that share them, where they would not."""
        longest: dict[str, int] = {}
        for each in drafts:
            for owner in each.owners if each.time_left else ():
                longest[owner] = max(longest.get(owner, 0), each.time_left or 0)
        return [("PEXPIRE", self._hash(owner), left + 1000 * _LONGER, "GT") for owner, left in longest.items()]

    def _commit(self, draft: Draft, prefix: bytes) -> Command:
        """Return the command that commits a draft; without a *prefix* it leaves the indexes alone."""
        entry, previous = draft.entry, draft.previous
        old_status, old_user = _index_of(previous) if previous else ("", "")
        status, user = _index_of(entry)
        lives, expires = draft.time_left or 0, "" if entry.expires is None else entry.expires
        now = entry.expires - 1000 * lives if lives and entry.expires is not None else 0
        terms = (
            f"{self._turn_of(draft.session_id)}/{len(draft.pages)}/{len(draft.stamp)}/{lives}/{draft.stored.is_forked:d}/{expires}/{now}/{entry.activity}/"
            f"{encode_id(draft.session_id)}/{status}/{user}/{old_status}/{old_user}"
        )
        arguments: list[bytes | str] = [draft.expected or "", draft.head, terms]
        for key, page in draft.pages.items():
            arguments += [_field(key), page]
        arguments += map(_field, draft.garbage)
        return script(scripts.COMMIT, [self._hash(draft.session_id)], prefix, *arguments)

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:  # noqa: D102
        return bool(self._open.command(*self._remove(session_id, expected, runs, previous, self._prefix)))

    def _remove(
        self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None, prefix: bytes
    ) -> Command:
        index = _index_of(previous) if previous else ("", "")
        arguments = [encode_id(session_id), expected or "", *index, *{run.generation for run in runs}]
        return script(scripts.REMOVE, [self._hash(session_id)], prefix, *arguments)

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:  # noqa: D102
        fields = map(_field, keys)
        return bool(
            self._open.command(*script(scripts.REMOVE_PAGES, [self._hash(session_id)], expected or "", *fields))
        )

    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:  # noqa: D102
        if reference is None:
            self._open.command("HDEL", self._hash_of(key), _field(key))
        else:
            least = "" if time_left is None else str(time_left + 1000 * _LONGER)
            self._open.command(*script(scripts.REFER, [self._hash_of(key)], _field(key), reference, least))

    def references(self, owner: str) -> dict[str, object]:  # noqa: D102
        found = self._open.command(*script(scripts.REFERENCES, [self._hash(owner)]))
        return {f"{reference_prefix(owner)}{as_text(name)[6:]}": value for name, value in found}

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: D102
        fields = [each for key in keys for each in (_field(key), _field(aside_key(key, token)))]
        self._open.command(*script(scripts.SET_ASIDE, [self._hash(session_id)], *fields))

    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:  # noqa: D102
        requests = [
            script(scripts.REWRITE, [self._hash_of(key)], _field_of_any(key), bytes(cast("bytes", old)), document)
            for key, old, document in changes
        ]
        return [bool(each) for each in self._open.commands(requests)]

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        key = self._index_key(status, user_id)

        def fetch(start: str, count: int, offset: int) -> list[tuple[bytes, int]]:
            found: list[tuple[bytes, int]] = self._open.command(
                *range_of(key, start, count, offset, newest_first=newest_first)
            )
            return found

        return positions(fetch, after, limit, newest_first=newest_first)

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:  # noqa: D102
        user = "" if user_id is None else encode_id(user_id)
        key = self._index_key(status, user_id)
        arguments = [status.value, user, str(now), str(DUE)]
        found: int = self._open.command(*script(scripts.COUNT, [key], self._prefix, *arguments))
        return self._count_slowly(key, status, user, now) if found < 0 else found

    def _count_slowly(self, key: bytes, status: SessionStatus, user: str, now: int) -> int:
        """Return what `count` does where more are due than one script looks at: a trip for each thousand of them."""
        wanted = f"{status.value}/{user}"
        counted: int = self._open.command("ZCARD", key)
        for start in itertools.count(0, DUE):
            command = range_of(self._prefix + b"/expiry", "-inf", DUE, start, newest_first=False, end=str(now))
            due: list[tuple[bytes, int]] = self._open.command(*command)
            places = [as_text(member).partition("/")[2] for member, _ in due]
            counted -= sum(each == wanted if user else each.startswith(wanted) for each in places)
            if len(due) < DUE:
                break
        return counted

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:  # noqa: D102
        def fetch(start: str, count: int, offset: int) -> list[tuple[bytes, int]]:
            key = self._prefix + b"/expiry"
            found: list[tuple[bytes, int]] = self._open.command(
                *range_of(key, start, count, offset, newest_first=False, end=str(until))
            )
            return found

        return positions(fetch, after, limit, newest_first=False, name_of=session_of_member)

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        for name in self._open.scan(literal(self._prefix) + b"/*", "zset"):
            index = self._index_of_key(as_text(name[len(self._prefix) :]))
            if index is None:
                continue
            status, user_id = index

            def step(cursor: int, name: bytes = name) -> tuple[int, list[tuple[bytes, int]]]:
                found: tuple[int, list[tuple[bytes, int]]] = self._open.command("ZSCAN", name, cursor, "COUNT", "500")
                return found

            for member, activity in self._open.steps("ZSCAN", step):
                session_id = decode_id(as_text(member))
                if session_id is not None:
                    yield Entry(session_id, user_id, status, activity)

    def as_indexed(self, entry: Entry) -> Entry:  # noqa: D102
        # Scores are floats: exact from 1684 to 2255. When a session expires stands in an index of its own.
        return entry._replace(activity=int(float(entry.activity)), expires=None)

    def indexed(self, entries: Sequence[Entry]) -> list[bool]:  # noqa: D102
        places: dict[bytes, list[Entry]] = {}
        for each in entries:
            for key in self._index_keys(each):
                places.setdefault(key, []).append(each)
        requests = [("ZMSCORE", key, *(encode_id(each.session_id) for each in there)) for key, there in places.items()]
        wrong = self._without_expiry(entries)
        for there, scores in zip(places.values(), self._open.commands(requests), strict=True):
            for each, score in zip(there, scores, strict=True):
                if score != self.as_indexed(each).activity:
                    wrong.add(each)
        return [each not in wrong for each in entries]

    def _without_expiry(self, entries: Sequence[Entry]) -> set[Entry]:
        """Return those of entries that expire, and of which that is not indexed."""
        places: dict[bytes, list[Entry]] = {}
        for each in entries:
            if each.expires is not None:
                places.setdefault(self._expiry_key(each), []).append(each)
        requests = [("ZMSCORE", key, *map(member_of, there)) for key, there in places.items()]
        found = zip(places.values(), self._open.commands(requests), strict=True)
        return {
            each for there, scores in found for each, score in zip(there, scores, strict=True) if score != each.expires
        }

    def _expiry_key(self, entry: Entry) -> bytes:  # noqa: ARG002 (a cluster has many)
        return self._prefix + b"/expiry"

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        olds = list(stale)
        arguments = [encode_id(session_id), expected or "", str(len(olds))]
        for each in olds:
            arguments += [*_index_of(each), str(each.activity)]
        if entry:
            expires = "" if entry.expires is None else str(entry.expires)
            arguments += [*_index_of(entry), str(entry.activity), expires]
        return bool(self._open.command(*script(scripts.INDEX, [self._hash(session_id)], self._prefix, *arguments)))

    def purge_expired(self, now: int, progress: Progress | None = None) -> int:  # noqa: D102
        total = skip = 0
        while True:
            command = range_of(self._prefix + b"/expiry", "-inf", _PURGE, skip, newest_first=False, end=str(now))
            due: list[tuple[bytes, int]] = self._open.command(*command)
            members = [member for member, _ in due]
            gone: int = self._open.command(*script(scripts.PURGE, [], self._prefix, *members)) if members else 0
            total, skip = total + gone, skip + len(due) - gone
            if progress:
                progress(total)
            if len(due) < _PURGE:
                return total

    def close(self) -> None:  # noqa: D102
        self._closed = True

    # Below: names ------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> RedisMapping:
        if self._closed:
            raise StorageClosedError(self._mapping.where, "the store was closed")
        if not self._asked:
            policy = self._mapping.eviction() or ""
            if policy.startswith("allkeys-") or (policy and self.ttl is not None):
                raise self._evicts(policy)
            self._removes_mortals = bool(policy)
            self._asked = True
        return self._mapping

    def _evicts(self, policy: str) -> UnsuitableMappingError:
        msg = (
            f"{self._mapping.where} removes sessions when its memory is full (maxmemory-policy {policy}); set its "
            "maxmemory-policy to noeviction, give sessions another server, or accept the loss: allow_eviction=True"
        )
        return UnsuitableMappingError(msg)

    def _hash(self, session_id: str) -> bytes:
        return self._prefix + encode_id(session_id).encode()

    def _hash_of(self, key: str) -> bytes:
        return self._mapping.place(key)[0]

    def _index_key(self, status: SessionStatus, user_id: str | None) -> bytes:
        user = "" if user_id is None else f"/user/{encode_id(user_id)}"
        return self._prefix + f"{user}/{status.value}".encode()

    def _index_keys(self, entry: Entry) -> list[bytes]:
        """Return the keys of the indexes that list a session."""
        everyones = self._index_key(entry.status, None)
        return [everyones] if entry.user_id is None else [everyones, self._index_key(entry.status, entry.user_id)]

    def _index_of_key(self, key: str) -> tuple[SessionStatus, str | None] | None:
        """Return which index lies under a key, which is given without the prefix; None where none does."""
        parts = key.split("/")[1:]
        user_id = decode_id(parts[1]) if len(parts) == 3 and parts[0] == "user" else None  # noqa: PLR2004
        if len(parts) != (1 if user_id is None else 3) or parts[-1] not in STATUSES:
            return None
        return SessionStatus(parts[-1]), user_id


Fetch = Callable[[str, int, int], list[tuple[bytes, int]]]
"""Returns from a score on so many members and scores of an index, after so many others."""


def positions(
    fetch: Fetch,
    after: Position | None,
    limit: int,
    *,
    newest_first: bool,
    name_of: Callable[[str], str] = str,
) -> list[Position]:
    """Return up to *limit* positions of an index that come after *after*; *name_of* a member tells the session's."""
    start = ("+inf" if newest_first else "-inf") if after is None else str(after[0])
    found: list[Position] = []
    offset = 0
    while len(found) < limit:
        # A few more than asked for: those of the same activity that come no later than *after* are passed over.
        pairs = fetch(start, limit + 8, offset)
        offset += len(pairs)
        for name, score in pairs:
            position = score, name_of(as_text(name))
            if after is None or (position < after if newest_first else position > after):
                found.append(position)
        if len(pairs) < limit + 8:
            break
    return found[:limit]


def range_of(key: bytes, start: str, count: int, offset: int, *, newest_first: bool, end: str | None = None) -> Command:
    """Return the command that reads an index from a score on, to its end or to the score *end*."""
    name, last = ("ZREVRANGEBYSCORE", "-inf") if newest_first else ("ZRANGEBYSCORE", "+inf")
    return (name, key, start, end or last, "WITHSCORES", "LIMIT", str(offset), str(count))


def member_of(entry: Entry) -> str:
    """Return the member of the index of expiries that an entry is."""
    return "/".join([encode_id(entry.session_id), *_index_of(entry)])


def session_of_member(member: str) -> str:
    """Return the session, by its encoded id, that a member of the index of expiries names."""
    return member.partition("/")[0]


def _index_of(entry: Entry) -> tuple[str, str]:
    return entry.status.value, "" if entry.user_id is None else encode_id(entry.user_id)


def _found(wanted: Wanted, reply: list[Any]) -> Found:
    """Return the head and the pages that a hash holds."""
    session_id, pages = wanted
    if pages is not None:
        head, *values = reply
        return head, {key: value for key, value in zip(pages, values, strict=True) if value is not None}
    found: dict[str, object] = {as_text(field): value for field, value in reply}
    head, prefix = found.pop(_HEAD, None), page_prefix(session_id)
    return head, {f"{prefix}{field.removeprefix(_PAGE)}": value for field, value in found.items()}


def _field(key: str) -> str:
    """Return the field of a document: its key without the session's id, which names the hash."""
    kind, _, rest = key.partition("/")
    _, slash, rest = rest.partition("/")
    return kind + slash + rest


def _field_of_any(key: str) -> bytes:
    """Return the field of a document or a foreign item, of whatever namespace."""
    return _field(split_namespace(key)[1]).encode("utf-8", "surrogatepass")
