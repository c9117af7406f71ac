"""Redis Cluster and Valkey Cluster: the hash of a session as on one server, the indexes on other servers than it.

    <prefix><id>                    a hash, as on one server: sessions spread over all slots
    <prefix>/active/<n>, …          sorted sets: ids by activity, each of one bucket of the sessions
    <prefix>/user/<user>/active, …  as on one server
    <prefix>/expiry/<n>             sorted sets, as on one server, by bucket

Each script and command works on one key. Those of several keys, though they share a slot, fail for as long as the slot
moves to another server, since some of its keys are there already. So a save is not one step with its index entries: the
entries that list a session anew are written first, then the document, then those go that no longer hold. A session that
is stored is never missing from an index; an index may for a while name one that is not there, and every hit is checked.
The entries of a session are told apart by its activity: it never is in one index twice with the same (to restore one
counts as activity), so an entry is taken away only if it still has the activity that was seen before.
"""

from __future__ import annotations

import time
from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from pyai_sessions.backends import scripts
from pyai_sessions.backends.protocol import Position, Progress
from pyai_sessions.backends.redis import (
    Command,
    RedisBackend,
    RedisMapping,
    pairs_of,
    position_of,
    positions,
    score_of,
    script,
)
from pyai_sessions.documents import Entry, stamp_of_value
from pyai_sessions.drafts import Draft
from pyai_sessions.envelopes import read_entry
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.history import Run
from pyai_sessions.keys import decode_id, encode_id
from pyai_sessions.models import SessionStatus

BUCKETS = 256
"""Parts of the index of all sessions: a list of all users asks each of them."""

_PURGE = 100
_GONE = -2
"""What PTTL says of a key that is not there."""


class ClusterBackend(RedisBackend):
    """Sessions in a `RedisMapping` whose client is a cluster's."""

    together = 1  # a server that is gone fails the trip of all

    def __init__(self, mapping: RedisMapping, *, timeout: float) -> None:
        super().__init__(mapping, timeout=timeout)
        self.settle = self.settle_forks = timeout

    # Reading -----------------------------------------------------------------------------------------------------

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102 (the protocol documents it)
        return self._open.commands([("HGET", self._hash(each), "session") for each in session_ids])

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        return self.commit_many([draft])[0]

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        anew = [each for each in drafts if each.listed_anew]
        if self._mapping.ttl:  # first, so that `purge_expired` lets be what is about to be listed
            self._open.commands([self._expiring(each.entry) for each in anew])
        self._open.commands([each for draft in anew for each in self._listing(draft.entry)])
        # An entry that is there already may follow its document, or not: it then lists the session where it was.
        requests = [self._commit(each, b"") for each in drafts]
        for each in drafts:
            if not each.listed_anew:
                requests += self._listing(each.entry, "XX", "GT")
                if self._mapping.ttl:
                    requests.append(self._expiring(each.entry))
        requests += self._renewing(drafts)
        committed = [bool(each) for each in self._open.commands(requests)[: len(drafts)]]
        gone: list[Entry] = []
        for draft, done in zip(drafts, committed, strict=True):
            if not done:
                self._take_back(draft)
            elif draft.listed_anew and draft.previous:
                gone.append(draft.previous)
        self._open.commands([each for entry in gone for each in self._unlisting(entry)])
        return committed

    def _take_back(self, draft: Draft) -> None:
        """Take away the entries of a draft that was not stored, unless what is stored has the same."""
        value = self.read(draft.session_id)
        with suppress(InvalidDocumentError):
            entry = None if value is None else read_entry(value, draft.session_id)
            if entry != draft.entry:
                self.index(draft.session_id, stamp_of_value(value), [draft.entry], entry)

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:  # noqa: D102
        removed = bool(self._open.command(*self._remove(session_id, expected, runs, previous, b"")))
        if removed and previous:
            self._open.commands(self._unlisting(previous))
        return removed

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        if user_id is not None:
            key = self._index_key(status, user_id)

            def fetch(start: str, count: int, offset: int) -> Any:
                return self._open.command(*_range(key, start, count, offset, newest_first=newest_first))

            return positions(fetch, after, limit, newest_first=newest_first)
        return self._scan_buckets(status, after, limit, newest_first=newest_first)

    def _scan_buckets(
        self, status: SessionStatus, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        """Merge the buckets: a few of each, and more of those that have given all of theirs."""
        wanted: dict[int, int] = dict.fromkeys(range(BUCKETS), 8 + 4 * limit // BUCKETS)
        found: dict[int, list[Position]] = {}
        start = ("+inf" if newest_first else "-inf") if after is None else str(after[0])
        while True:
            ranges = [
                _range(self._bucket_key(status.value, n), start, count, 0, newest_first=newest_first)
                for n, count in wanted.items()
            ]
            ends: dict[int, Position] = {}
            for (n, count), reply in zip(wanted.items(), self._open.commands(ranges), strict=True):
                of_bucket = [position_of(name, score) for name, score in pairs_of(reply)]
                found[n] = [p for p in of_bucket if after is None or (p < after if newest_first else p > after)]
                if len(of_bucket) == count:
                    ends[n] = of_bucket[-1]
            merged = sorted((p for each in found.values() for p in each), reverse=newest_first)[:limit]
            # A bucket that may hold more is asked again where its last comes before the last of the answer.
            last = merged[-1] if len(merged) == limit else None
            short = [n for n, end in ends.items() if last is None or (end > last if newest_first else end < last)]
            if not short:
                return merged
            wanted = {n: 4 * wanted[n] for n in short}

    def count(self, status: SessionStatus, user_id: str | None) -> int:  # noqa: D102
        if self._mapping.ttl:
            self.purge_expired()
        if user_id is not None:
            return int(self._open.command("ZCARD", self._index_key(status, user_id)))
        keys = [self._bucket_key(status.value, n) for n in range(BUCKETS)]
        return sum(int(each) for each in self._open.commands([("ZCARD", key) for key in keys]))

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        olds = list(stale)
        if stamp_of_value(self.read(session_id)) != expected:
            return False
        requests = [self._placing(key, entry, olds) for key in self._index_keys(entry)] if entry else []
        there = set(self._index_keys(entry)) if entry else set[bytes]()
        for each in olds:
            requests += [self._placing(key, None, [each]) for key in self._index_keys(each) if key not in there]
        self._open.commands(requests)
        return True

    def purge_expired(self, progress: Progress | None = None) -> int:  # noqa: D102
        total = 0
        keys = [self._bucket_key("expiry", n) for n in range(BUCKETS)]
        while True:
            now = _now()
            due = self._open.commands([("ZRANGEBYSCORE", key, "-inf", now, "LIMIT", "0", str(_PURGE)) for key in keys])
            gone = sum(self._purge(key, members, now) for key, members in zip(keys, due, strict=True) if members)
            total += gone
            if progress:
                progress(total)
            if not gone:
                return total

    def _purge(self, expiry: bytes, due: Sequence[bytes], now: int) -> int:
        """Clear away what expired of those that are due in one bucket; return how many they were."""
        entries = [_entry_of(bytes(member)) for member in due]
        listed = [(each, key) for each in entries for key in self._index_keys(each)]
        scores = self._open.commands([("ZSCORE", key, encode_id(each.session_id)) for each, key in listed])
        lives = self._open.commands([("PTTL", self._hash(each.session_id)) for each in entries])
        times = self._open.commands([("ZSCORE", expiry, member) for member in due])  # who writes anew has changed it
        stale: dict[Entry, list[bytes]] = {}  # with the indexes that the session of their id is rightly in
        requests: list[Command] = []
        for entry, member, life, due_at in zip(entries, due, map(int, lives), map(score_of, times), strict=True):
            if due_at is None or due_at > now:
                continue
            found = None if life == _GONE else self._found(entry)
            if found is None or not found.is_beside(entry):
                stale[entry] = [] if found is None else self._index_keys(found)
            elif life > 0:
                requests.append(("ZADD", expiry, "XX", "GT", now + life, member))
                continue
            requests.append(script(scripts.PLACE, [expiry], member, "", str(due_at)))
        for (entry, key), score in zip(listed, map(score_of, scores), strict=True):
            if entry in stale and key not in stale[entry] and score is not None:
                requests.insert(0, script(scripts.PLACE, [key], encode_id(entry.session_id), "", str(score)))
        self._open.commands(requests)
        return len(stale)

    def _found(self, entry: Entry) -> Entry | None:
        """Return what lists should hold of the session that now has the id of an entry; the entry, if none can say."""
        value = self.read(entry.session_id)
        try:
            return None if value is None else read_entry(value, entry.session_id)
        except InvalidDocumentError:
            return entry

    # Below: entries, and where they lie --------------------------------------------------------------------------

    def _listing(self, entry: Entry, *how: str) -> list[Command]:
        """Return the commands that list a session; ``GT`` keeps an entry from going back."""
        name = encode_id(entry.session_id)
        return [("ZADD", key, *(how or ("GT",)), str(entry.activity), name) for key in self._index_keys(entry)]

    def _unlisting(self, entry: Entry) -> list[Command]:
        """Return the commands that take an entry away, if it is still as it was."""
        requests = [self._placing(key, None, [entry]) for key in self._index_keys(entry)]
        if self._mapping.ttl:
            requests.append(("ZREM", self._bucket_key("expiry", _bucket(entry.session_id)), _member(entry)))
        return requests

    def _placing(self, key: bytes, entry: Entry | None, olds: Sequence[Entry]) -> Command:
        """Return the command that puts an entry (None: nothing) in the place of *olds*, or of none."""
        name = encode_id((entry or olds[0]).session_id)
        activity = "" if entry is None else str(entry.activity)
        return script(scripts.PLACE, [key], name, activity, *(str(each.activity) for each in olds))

    def _expiring(self, entry: Entry) -> Command:
        due = _now() + 1000 * (self._mapping.ttl or 0)
        return ("ZADD", self._bucket_key("expiry", _bucket(entry.session_id)), due, _member(entry))

    def _bucket_key(self, kind: str, bucket: int) -> bytes:
        return self._prefix + f"/{kind}/{bucket}".encode()

    def _index_keys(self, entry: Entry) -> list[bytes]:
        everyones = self._bucket_key(entry.status.value, _bucket(entry.session_id))
        return [everyones] if entry.user_id is None else [everyones, self._index_key(entry.status, entry.user_id)]

    def _index_of_key(self, key: str) -> tuple[SessionStatus, str | None] | None:
        parts = key.split("/")[1:]
        if len(parts) == 2 and parts[1].isdecimal():  # noqa: PLR2004 (the status, the bucket)
            return super()._index_of_key(f"/{parts[0]}")
        return super()._index_of_key(key) if len(parts) == 3 else None  # noqa: PLR2004


def _bucket(session_id: str) -> int:
    return crc_hqx(encode_id(session_id).encode(), 0) % BUCKETS


def _member(entry: Entry) -> str:
    user = "" if entry.user_id is None else encode_id(entry.user_id)
    return f"{encode_id(entry.session_id)}/{entry.status.value}/{user}"


def _entry_of(member: bytes) -> Entry:
    name, status, user = member.decode().split("/")
    return Entry(decode_id(name) or name, decode_id(user) if user else None, SessionStatus(status), 0)


def _now() -> int:
    """Return the time in milliseconds: a first guess at what has expired, which the servers then tell."""
    return int(time.time() * 1000)


def _range(key: bytes, start: str, count: int, offset: int, *, newest_first: bool) -> Command:
    name, end = ("ZREVRANGEBYSCORE", "-inf") if newest_first else ("ZRANGEBYSCORE", "+inf")
    return (name, key, start, end, "WITHSCORES", "LIMIT", str(offset), str(count))
