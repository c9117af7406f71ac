"""Redis Cluster and Valkey Cluster: the hash of a session as on one server, the indexes on other servers than it.

    <prefix><id>                    a hash, as on one server: sessions spread over all slots
    <prefix>/active/<n>, …          sorted sets: ids by activity, each of one bucket of the sessions
    <prefix>/user/<user>/active, …  as on one server
    <prefix>/expiry/<n>             sorted sets, as on one server, by bucket
    <prefix>/expiring               is there if any session expires

Each script and command works on one key. Those of several keys, though they share a slot, fail for as long as the slot
moves to another server, since some of its keys are there already. So a save is not one step with its index entries: the
entries that list a session anew are written first, then the document, then those go that no longer hold. A session that
is stored is never missing from an index; an index may for a while name one that is not there, and every hit is checked.
The entries of a session are told apart by its activity: it never is in one index twice with the same (to restore one
counts as activity), so an entry is taken away only if it still has the activity that was seen before.
"""

from __future__ import annotations

import itertools
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from pyai_sessions.backends import scripts
from pyai_sessions.backends.protocol import Position, Progress
from pyai_sessions.backends.redis import (
    DUE,
    STATUSES,
    RedisBackend,
    member_of,
    positions,
    range_of,
    session_of_member,
)
from pyai_sessions.backends.replies import Command, as_text
from pyai_sessions.documents import stamp_of_value
from pyai_sessions.drafts import Draft
from pyai_sessions.envelopes import read_entry
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import decode_id, encode_id
from pyai_sessions.storage.hashes import RedisMapping, script

BUCKETS = 256
"""Parts of the index of all sessions: a list of all users asks each of them."""

_PURGE = 100


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
        done = self.commit_many([draft])[0]
        if done and self._turn_of(draft.session_id):
            self._mine.turn = None
        return done

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        self._check_kept(drafts)
        anew = [each for each in drafts if each.listed_anew]
        # First, so that `purge_expired` lets be what is about to be listed.
        expiring = [each for draft in anew for each in self._expiring(draft.entry, *_how(draft))]
        self._open.commands([("SET", self._marker, "1"), *expiring] if any(map(_expires_anew, drafts)) else expiring)
        self._open.commands([each for draft in anew for each in self._listing(draft.entry)])
        # An entry that is there already may follow its document, or not: it then lists the session where it was.
        requests = [self._commit(each, b"") for each in drafts]
        for each in drafts:
            if not each.listed_anew:
                requests += self._listing(each.entry, "XX", "GT") + self._expiring(each.entry, *_how(each))
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

            def fetch(start: str, count: int, offset: int) -> list[tuple[bytes, int]]:
                found: list[tuple[bytes, int]] = self._open.command(
                    *range_of(key, start, count, offset, newest_first=newest_first)
                )
                return found

            return positions(fetch, after, limit, newest_first=newest_first)
        return self._merged(status.value, after, limit, newest_first=newest_first)

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:  # noqa: D102
        return self._merged("expiry", after, limit, newest_first=False, end=str(until), name_of=session_of_member)

    def _merged(
        self,
        kind: str,
        after: Position | None,
        limit: int,
        *,
        newest_first: bool,
        end: str | None = None,
        name_of: Callable[[str], str] = str,
    ) -> list[Position]:
        """Merge the buckets: a few of each, and more of those that have given all of theirs."""
        wanted: dict[int, int] = dict.fromkeys(range(BUCKETS), 8 + 4 * limit // BUCKETS)
        found: dict[int, list[Position]] = {}
        start = ("+inf" if newest_first else "-inf") if after is None else str(after[0])
        while True:
            ranges = [
                range_of(self._bucket_key(kind, n), start, count, 0, newest_first=newest_first, end=end)
                for n, count in wanted.items()
            ]
            ends: dict[int, Position] = {}
            for (n, count), reply in zip(wanted.items(), self._open.commands(ranges), strict=True):
                of_bucket = [(score, name_of(as_text(name))) for name, score in reply]
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

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:  # noqa: D102
        if user_id is not None:
            keys = [self._index_key(status, user_id)]
        else:
            keys = [self._bucket_key(status.value, n) for n in range(BUCKETS)]
        requests: list[Command] = [("ZCARD", key) for key in keys]
        if self._open.command("GET", self._marker):
            self.purge_expired(now)
            over = self._count_over(status, user_id, now, keys)
        else:
            over = 0
        counts: list[int] = self._open.commands(requests)
        return sum(counts) - over

    def _count_over(self, status: SessionStatus, user_id: str | None, now: int, keys: Sequence[bytes]) -> int:
        """Return how many of those that the indexes under *keys* list have expired by *now*."""
        buckets = [self._bucket_key("expiry", n) for n in range(BUCKETS)]
        over: list[Entry] = []
        for start in itertools.count(0, DUE):
            requests = [("ZRANGEBYSCORE", key, "-inf", str(now), "LIMIT", str(start), str(DUE)) for key in buckets]
            replies = self._open.commands(requests)
            due = (_entry_of(member) for reply in replies for member in reply)
            over += [each for each in due if each and each.status is status and user_id in (None, each.user_id)]
            buckets = [key for key, reply in zip(buckets, replies, strict=True) if len(reply) == DUE]
            if not buckets:
                break
        listed = [(key, each) for each in over for key in self._index_keys(each) if key in keys]
        there = self._open.commands([("ZSCORE", key, encode_id(each.session_id)) for key, each in listed])
        return sum(score is not None for score in there)

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        olds = list(stale)
        if stamp_of_value(self.read(session_id)) != expected:
            return False
        requests = [self._placing(key, entry, olds) for key in self._index_keys(entry)] if entry else []
        there = set(self._index_keys(entry)) if entry else set[bytes]()
        for each in olds:
            requests += [self._placing(key, None, [each]) for key in self._index_keys(each) if key not in there]
            if each.expires is not None and not (entry and entry.is_beside(each)):
                key, member = self._expiry_key(each), member_of(each)
                requests.append(script(scripts.PLACE, [key], member, "", str(each.expires)))
        if entry:
            requests += self._expiring(entry)
        self._open.commands(requests)
        return True

    def purge_expired(self, now: int, progress: Progress | None = None) -> int:  # noqa: D102
        total = 0
        skips = dict.fromkeys((self._bucket_key("expiry", n) for n in range(BUCKETS)), 0)
        while skips:
            requests = [
                ("ZRANGEBYSCORE", key, "-inf", str(now), "LIMIT", str(skip), str(_PURGE)) for key, skip in skips.items()
            ]
            for key, members in zip(list(skips), self._open.commands(requests), strict=True):
                gone = self._purge(key, members, now) if members else 0
                total, skips[key] = total + gone, skips[key] + len(members) - gone
                if len(members) < _PURGE:
                    del skips[key]
            if progress:
                progress(total)
        return total

    def _purge(self, expiry: bytes, due: Sequence[bytes], now: int) -> int:
        """Clear away what expired of those that are due in one bucket; return how many they were."""
        read = {member: _entry_of(member) for member in due}
        due = [member for member in due if read[member]]
        entries = [entry for entry in read.values() if entry]
        listed = [(each, key) for each in entries for key in self._index_keys(each)]
        scores = self._open.commands([("ZSCORE", key, encode_id(each.session_id)) for each, key in listed])
        times = self._open.commands([("ZSCORE", expiry, member) for member in due])  # who writes anew has changed it
        stale: dict[Entry, list[bytes]] = {}  # with the indexes that the session of their id is rightly in
        requests: list[Command] = [("ZREM", expiry, member) for member, entry in read.items() if entry is None]
        for entry, member, due_at in zip(entries, due, times, strict=True):
            if due_at is None or due_at > now:
                continue
            found = self._found(entry)
            if found is None or not found.is_beside(entry):
                stale[entry] = [] if found is None else self._index_keys(found)
                requests.append(script(scripts.PLACE, [expiry], member, "", str(due_at)))
            elif found.expires is not None and found.expires > due_at:  # its document tells more
                requests.append(("ZADD", expiry, "XX", "GT", str(found.expires), member))
        for (entry, key), score in zip(listed, scores, strict=True):
            if entry in stale and key not in stale[entry] and score is not None:
                requests.insert(0, script(scripts.PLACE, [key], encode_id(entry.session_id), "", str(score)))
        self._open.commands(requests)
        return len(stale) + sum(entry is None for entry in read.values())

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
        if entry.expires is not None:
            requests.append(("ZREM", self._expiry_key(entry), member_of(entry)))
        return requests

    def _placing(self, key: bytes, entry: Entry | None, olds: Sequence[Entry]) -> Command:
        """Return the command that puts an entry (None: nothing) in the place of *olds*, or of none."""
        name = encode_id((entry or olds[0]).session_id)
        activity = "" if entry is None else str(entry.activity)
        return script(scripts.PLACE, [key], name, activity, *(str(each.activity) for each in olds))

    @property
    def _marker(self) -> bytes:
        """What is there if any session expires: else nobody need ask all buckets which have."""
        return self._prefix + b"/expiring"

    def _expiring(self, entry: Entry, *how: str) -> list[Command]:
        """Return the commands that tell when a session expires, if it does; ``GT`` keeps it from going back."""
        if entry.expires is None:
            return []
        return [("ZADD", self._expiry_key(entry), *how, str(entry.expires), member_of(entry))]

    def _expiry_key(self, entry: Entry) -> bytes:
        return self._bucket_key("expiry", _bucket(entry.session_id))

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


def _how(draft: Draft) -> tuple[str, ...]:
    """Return how to tell when a session expires: of two writers the later stays, unless a life is made shorter.

    Where that hides a longer one, `purge_expired` finds it in the document.
    """
    before, now = draft.previous and draft.previous.expires, draft.entry.expires
    return () if before is not None and now is not None and now < before else ("GT",)


def _expires_anew(draft: Draft) -> bool:
    """Return whether a session is to expire that is new, or lived for ever till now."""
    return draft.entry.expires is not None and (draft.previous is None or draft.previous.expires is None)


def _bucket(session_id: str) -> int:
    return crc_hqx(encode_id(session_id).encode(), 0) % BUCKETS


def _entry_of(member: bytes) -> Entry | None:
    """Return the entry that a member of a bucket names; None where it is none of ours."""
    name, _, rest = as_text(member).partition("/")
    status, _, user = rest.partition("/")
    session_id, user_id = decode_id(name), decode_id(user) if user else None
    if session_id is None or status not in STATUSES or (user and user_id is None):
        return None
    return Entry(session_id, user_id, SessionStatus(status), 0)
