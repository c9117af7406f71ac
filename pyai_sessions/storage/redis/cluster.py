"""Redis Cluster and Valkey Cluster: documents as on one server, lists on other servers than they.

    <prefix><place>          a hash, as on one server: places spread over all slots
    <prefix>/<list>//<n>     a list whose name has no slash, in sorted sets: each has the members of one bucket
    <prefix>/<list>          any other list, whole

Each script and command works on one key. Those of several keys, though they share a slot, fail for as long as the slot
moves to another server, since some of its keys are there already. So a change is not one step with its lists: first
come the members that they did not have, then the document, then go those that they no longer have. What is stored is
never missing from a list; a list may for a while hold what is not there. A member is told from the same one that
another writer listed by its score: it goes, or goes back, only from where it was seen.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from functools import partial

from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Change, Derive, Listing, Position
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.mapping import RedisMapping, bytes_of, script
from pyai_sessions.storage.redis.replies import Command
from pyai_sessions.storage.redis.storage import RedisStorage, list_key, positions, range_of, start_of, text_of

BUCKETS = 256
"""Parts of a list that is split: who reads it asks each of them."""
_APPLIED = 1
"""What the script answers where it applied a change just now."""


class ClusterStorage(RedisStorage):
    """Documents and lists in a `RedisMapping` whose client is a cluster's.

    Args:
        mapping: Tells where keys lie, and runs commands.
        timeout: Seconds after which no writer is still at work.
        derive: Tells what the lists should hold after a change that was refused.

    """

    together = 1  # a server that is gone fails the trip of all
    apart = True

    def __init__(self, mapping: RedisMapping, *, timeout: float, derive: Derive) -> None:
        super().__init__(mapping, timeout=timeout)
        self._derive = derive

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102 (the protocol documents it)
        self._check_kept(changes)
        listings = [each for change in changes for each in change.lists]
        self._open.commands([self._raise(each) for each in listings if each.old is None and not _goes_back(each)])
        requests = [self._change(each, ()) for each in changes]
        # A member that the list has already may follow its document, or not: the list then has it where it was.
        requests += [self._raise(each) for each in listings if each.old is not None and not _goes_back(each)]
        replies: list[int] = self._open.commands(requests)[: len(changes)]
        after: list[Command] = []
        for change, reply in zip(changes, replies, strict=True):
            moves = filter(_goes_back, change.lists) if reply == _APPLIED else self._as_stored(change)
            after += [self._move(each) for each in moves if each.old is not None]
        self._open.commands(after)
        return [bool(each) for each in replies]

    def _raise(self, listing: Listing) -> Command:
        """Return the command that lists a member at its new score; a later writer's, which is higher, stays."""
        key = bytes_of(self._key_of(listing.list, listing.member))
        return ("ZADD", key, "GT", str(listing.new), bytes_of(listing.member))

    def _move(self, listing: Listing) -> Command:
        """Return the command that moves a member, or takes it away, if it stands where it did before."""
        key = bytes_of(self._key_of(listing.list, listing.member))
        score = "" if listing.new is None else str(listing.new)
        return script(scripts.MOVE, [key], bytes_of(listing.member), str(listing.old), score)

    def _as_stored(self, change: Change) -> list[Listing]:
        """Return the moves after a change that was refused, or applied before: to where the documents have members.

        It may be refused by a writer who listed the same member at the same score: the documents tell, the list cannot.
        """
        held: dict[tuple[str, str], int] = {}
        for key in dict.fromkeys([key for key, _ in (*change.expect, *change.put)] if change.lists else ()):
            held.update(((name, member), score) for name, member, score in self._derive(key, partial(self._get, key)))
        moves: list[Listing] = []
        for each in change.lists:
            score: int | None = held.get((each.list, each.member))
            if _goes_back(each):
                moves += [each] if score == each.new else []
            elif score != each.new:
                moves.append(each._replace(old=each.new, new=score))
        return moves

    def _get(self, key: str) -> object:
        return self.read([key]).get(key)

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        if not _is_split(name) or limit == 0:
            return super().scan(name, after, limit, newest_first=newest_first)
        # A few of each bucket, and more of those that have given all of theirs.
        wanted = dict.fromkeys(self._keys_of(name), 8 + 4 * limit // BUCKETS)
        start, found = start_of(after, newest_first=newest_first), dict[bytes, list[Position]]()
        while True:
            requests = [range_of(key, start, count, 0, newest_first=newest_first) for key, count in wanted.items()]
            ends: dict[bytes, Position] = {}
            for (key, count), pairs in zip(wanted.items(), self._open.commands(requests), strict=True):
                found[key] = positions(pairs, after, newest_first=newest_first)
                if len(pairs) >= count:
                    ends[key] = (pairs[-1][1], text_of(pairs[-1][0]) or "")
            merged = sorted((p for each in found.values() for p in each), reverse=newest_first)[:limit]
            # A bucket that may hold more is asked again where its last comes before the last of the answer.
            last = merged[-1] if len(merged) == limit else None
            short = [k for k, end in ends.items() if last is None or (end > last if newest_first else end < last)]
            if not short:
                return merged
            wanted = {key: 4 * wanted[key] for key in short}

    def _key_of(self, name: str, member: str) -> str:
        key = list_key(self._mapping.prefix, name)
        return _bucket_key(key, crc_hqx(bytes_of(member), 0) % BUCKETS) if _is_split(name) else key

    def _keys_of(self, name: str) -> list[bytes]:
        key = list_key(self._mapping.prefix, name)
        return [bytes_of(_bucket_key(key, n)) for n in range(BUCKETS)] if _is_split(name) else [bytes_of(key)]

    def _list_under(self, text: str) -> str:
        name, slashes, bucket = text.rpartition("//")
        list_name = super()._list_under(name)
        return list_name if slashes and bucket.isdecimal() and _is_split(list_name) else super()._list_under(text)


def _goes_back(listing: Listing) -> bool:
    """Return whether a change takes a member from a list, or lists it lower than before."""
    return listing.new is None or (listing.old is not None and listing.new < listing.old)


def _is_split(name: str) -> bool:
    return "/" not in split_namespace(name)[1]


def _bucket_key(key: str, bucket: int) -> str:
    return f"{key}//{bucket}"
