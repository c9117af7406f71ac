"""Redis and Valkey: a hash for each place and a sorted set for each list. A write is one script in one round trip.

    <prefix><place>                     a hash of documents: see `pyai_sessions.storage.redis.mapping`
    <prefix>/<list>                     a sorted set of members by their scores
    <prefix>/namespace/<name>//<list>   likewise, of a namespace

Scores are floats on the server: whole numbers are exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, cast

from pyai_sessions.errors import StorageClosedError, UnsuitableMappingError, UnsupportedOperationError
from pyai_sessions.storage.grouping import Group
from pyai_sessions.storage.names import NAMESPACES, split_namespace
from pyai_sessions.storage.protocol import Change, Listed, Listing, Position, Storage
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.mapping import RedisMapping, bytes_of, literal, pack, script
from pyai_sessions.storage.redis.replies import Command, as_text
from pyai_sessions.values.checks import AnyPath

_TRIPS = 4
"""Round trips at the same time, with which threads write. Fewer trips carry more changes each; with more of them, a
change waits less. Measured, turns a second of 16 threads on a local server, against one thread: 1.5 with one trip, 1.3
with 4, 0.95 with 8, 0.8 with one for each thread."""


class RedisStorage(Storage):
    """Documents and lists on one server, or on the primary that Sentinel names.

    Args:
        mapping: Tells where keys lie, and runs the commands.
        timeout: Seconds that a thread waits for other threads that write.

    """

    together = 32  # more save little, and make an event loop wait
    forgets = True

    def __init__(self, mapping: RedisMapping, *, timeout: float) -> None:
        self._mapping = mapping
        self.settle = timeout
        self._group: Group[Change] = Group(lambda: mapping.where, timeout, at_once=_TRIPS)
        self._closed = False
        self._asked = mapping.allow_eviction
        self._removes_mortals = False

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        mapping, wanted = self._open, dict[bytes, list[tuple[str, str]]]()
        for key in keys:
            name, field = mapping.at(key)
            wanted.setdefault(name, []).append((field, key))
        if len(wanted) == 1:
            [(name, asked)] = wanted.items()
            return _found(zip(asked, self._read_place(name, [field for field, _ in asked]), strict=True))
        fields = [[field for field, _ in asked] for asked in wanted.values()]
        replies = mapping.ask(scripts.READ, list(wanted), fields)
        return _found(zip(chain.from_iterable(wanted.values()), replies, strict=True))

    def _read_place(self, name: bytes, fields: list[str]) -> list[Any]:
        """Return the value of each field of a hash; for one that ends with a slash, the pairs of all fields below."""
        below = [each[-1:] == "/" for each in fields]
        if not any(below):
            values: list[Any] = self._open.command("HMGET", name, *map(bytes_of, fields))
            return values
        if all(below):
            return self._open.ask(scripts.READ, [name], [fields])
        # A document and all below a key are most of the place. To read all of it takes the server a fifth of the time
        # that a script takes to pick these.
        pairs: list[tuple[bytes, bytes]] = self._open.command("HGETALL", name)
        there = dict(pairs)
        return [pairs if each[-1:] == "/" else there.get(bytes_of(each)) for each in fields]

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        return self._open.find(prefix)

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        return [self._group.put(changes[0], self._write)] if len(changes) == 1 else self._write(changes)

    def _write(self, changes: Sequence[Change]) -> list[bool]:
        self._check_kept(changes)
        requests = [self._change(each, each.lists) for each in changes]
        return [bool(each) for each in self._open.commands(requests)]

    def _change(self, change: Change, lists: Sequence[Listing]) -> Command:
        """Return the command that applies a change, and these changes of lists."""
        at, name = self._mapping.at, b""
        expect, starts, put, drop, listings = list[str](), list[object](), list[str](), list[str](), list[object]()
        for key, start in change.expect:
            name, field = at(key)
            expect.append(field)
            starts.append(False if start is None else start)
        for key, _ in change.put:
            name, field = at(key)
            put.append(field)
        for key in change.drop:
            name, field = at(key)
            drop.append(field)
        for each in lists:
            listings += self._key_of(each.list, each.member), each.member, False if each.new is None else each.new
        done = False if change.done is None else change.done
        packed = pack((done, expect, starts, put, drop, listings, -1 if change.lives is None else change.lives))
        return script(scripts.WRITE, [name], packed, *[bytes_of(document) for _, document in change.put])

    def _check_kept(self, changes: Sequence[Change]) -> None:
        """Raise if a change gives a place a time to live, and the server removes such keys when its memory is full."""
        _ = self._open  # asks the server
        if self._removes_mortals and any(each.lives for each in changes):
            raise self._evicts("volatile-*")

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        start, found, offset = start_of(after, newest_first=newest_first), list[Position](), 0
        size = limit + 8  # those of the same score that do not come after *after* are passed over
        walk = self._mapping.walk()
        while len(found) < limit:
            command = range_of(self._keys_of(name)[0], start, size, offset, newest_first=newest_first)
            pairs: list[tuple[bytes, int]] = self._open.command(*command)
            found += positions(pairs, after, newest_first=newest_first)
            if len(pairs) < size:
                break
            walk.reach(pairs[0])
            offset += size
        return found[:limit]

    def count(self, name: str) -> int:  # noqa: D102
        counts: list[int] = self._open.commands([("ZCARD", key) for key in self._keys_of(name)])
        return sum(counts)

    def listings(  # noqa: D102
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[Listed]:
        return self._listings(prefix) if of is None else iter(self._listings_of(of))

    def _listings(self, prefix: str) -> Iterator[Listed]:
        start, rest = split_namespace(prefix)
        if not start and (NAMESPACES.startswith(prefix) or prefix.startswith(NAMESPACES)):
            rest = ""  # lists of namespaces may be among them; their second slash tells them from hashes
        pattern = literal(bytes_of(list_key(self._mapping.prefix, f"{start}{rest}"))) + b"*"
        for key in self._open.scan(pattern, "zset"):
            name = self._list_under(text_of(key[len(bytes_of(self._mapping.prefix)) + 1 :]) or "")
            if name and name.startswith(prefix):
                for member, score in self._open.steps(["ZSCAN", key], ["COUNT", "500"]):
                    if (text := text_of(member)) is not None:
                        yield name, text, score

    def _listings_of(self, of: Sequence[tuple[str, str]]) -> list[Listed]:
        places: dict[bytes, dict[tuple[str, str], None]] = {}
        for name, member in of:
            places.setdefault(bytes_of(self._key_of(name, member)), {})[name, member] = None
        requests = [("ZMSCORE", key, *(bytes_of(member) for _, member in those)) for key, those in places.items()]
        found = zip(places.values(), self._open.commands(requests), strict=True)
        return [
            (*each, score)
            for those, scores in found
            for each, score in zip(those, scores, strict=True)
            if score is not None
        ]

    def _key_of(self, name: str, member: str) -> str:  # noqa: ARG002 (a cluster splits lists)
        """Return the key of the sorted set in which a list has a member."""
        return list_key(self._mapping.prefix, name)

    def _keys_of(self, name: str) -> list[bytes]:
        """Return the keys of all sorted sets that a list consists of."""
        return [bytes_of(list_key(self._mapping.prefix, name))]

    def _list_under(self, text: str) -> str:
        """Return the name of the list under a key without its prefix and slash; empty if it is not a list of ours."""
        start, rest = split_namespace(text)
        if not start:
            return text
        return f"{start}{rest[1:]}" if rest.startswith("/") else ""

    # Below: the server -------------------------------------------------------------------------------------------

    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:  # noqa: ARG002
        """Raise UnsupportedOperationError: only the server can copy what it holds."""
        instead = "the server saves all that it holds: BGSAVE, or redis-cli --rdb FILE"
        raise UnsupportedOperationError(f"backup copies SQLite files alone; here, {instead}")

    def close(self) -> None:  # noqa: D102
        self._closed = True

    @property
    def _open(self) -> RedisMapping:
        mapping = self._mapping
        if self._closed:
            raise StorageClosedError(mapping.where, "the storage was closed")
        if not self._asked:
            policy = mapping.eviction() or ""
            if policy.startswith("allkeys-") or (policy and mapping.ttl is not None):
                raise self._evicts(policy)
            self._removes_mortals = bool(policy)
            self._asked = True
        return mapping

    def _evicts(self, policy: str) -> UnsuitableMappingError:
        msg = (
            f"{self._mapping.where} removes what it stores when its memory is full (maxmemory-policy {policy}); set "
            "its maxmemory-policy to noeviction, use another server, or accept the loss: allow_eviction=True"
        )
        return UnsuitableMappingError(msg)


@lru_cache(maxsize=4096)
def list_key(prefix: str, name: str) -> str:
    """Return the key of the sorted set of a list. In a namespace it has a second slash, which no hash has."""
    start, rest = split_namespace(name)
    return f"{prefix}/{start}/{rest}" if start else f"{prefix}/{rest}"


def _found(replies: Iterable[tuple[tuple[str, str], Any]]) -> dict[str, object]:
    """Return documents by their keys. The reply to a field is a document, or pairs of all fields below it."""
    found: dict[str, object] = {}
    for (field, key), reply in replies:
        if isinstance(reply, list):
            start = bytes_of(field)
            pairs = cast("list[tuple[bytes, bytes]]", reply)
            found.update((key + as_text(name[len(start) :]), value) for name, value in pairs if name.startswith(start))
        elif reply is not None:
            found[key] = reply
    return found


def start_of(after: Position | None, *, newest_first: bool) -> str:
    """Return the lowest score that a position after *after* can have; with *newest_first*, the highest."""
    return ("+inf" if newest_first else "-inf") if after is None else str(after[0])


def range_of(key: bytes, start: str, count: int, offset: int, *, newest_first: bool) -> Command:
    """Return the command that reads *count* members of a sorted set from a score on, without the first *offset*."""
    name, end = ("ZREVRANGEBYSCORE", "-inf") if newest_first else ("ZRANGEBYSCORE", "+inf")
    return (name, key, start, end, "WITHSCORES", "LIMIT", str(offset), str(count))


def positions(pairs: Iterable[tuple[bytes, int]], after: Position | None, *, newest_first: bool) -> list[Position]:
    """Return the positions after *after*. A member that is not text is not ours, and is left out."""
    found = [(score, text) for member, score in pairs if (text := text_of(member)) is not None]
    if after is None:
        return found
    return [each for each in found if (each < after if newest_first else each > after)]


def text_of(name: bytes) -> str | None:
    """Return a name as text; None if it is not text, and so not ours."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
