"""A Redis or Valkey server as a storage: a hash for each place, a sorted set for each list, a script for each write.

Scores are floats on the server: whole numbers are exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

from pyai_sessions.errors import StorageClosedError, UnsuitableMappingError, UnsupportedOperationError
from pyai_sessions.storage.grouping import Group
from pyai_sessions.storage.names import NAMESPACES, split_namespace
from pyai_sessions.storage.protocol import Change, Listed, Listing, Position, Storage
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.layout import as_text, bytes_of, text_of
from pyai_sessions.storage.redis.mapping import RedisMapping
from pyai_sessions.storage.redis.scripts import Command
from pyai_sessions.storage.redis.server import Server
from pyai_sessions.values.checks import AnyPath

_TRIPS = 4
"""Round trips that threads make at the same time to write. Fewer trips carry more changes each; with more of them, a
change waits less. Turns a second of 16 threads on a local server, against those of one thread (measured): 1.5 with one
trip, 1.3 with 4, 0.95 with 8, 0.8 with one for each thread."""


class RedisStorage(Storage):
    """Documents and lists on one server, or on the primary that Sentinel names.

    Args:
        mapping: The mapping whose items are the documents.
        timeout: Seconds that a thread waits for other threads that write.

    """

    together = 32  # more save little, and make an event loop wait
    forgets = True

    def __init__(self, mapping: RedisMapping, *, timeout: float) -> None:
        self._mapping = mapping
        self._layout = mapping.layout
        self.settle = timeout
        self._group: Group[Change] = Group(lambda: mapping.server.where, timeout, at_once=_TRIPS)
        self._closed = False
        self._checked = mapping.allow_eviction
        self._evicts_expiring = False

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        server, at = self._open, self._layout.at
        wanted: dict[bytes, list[tuple[str, str]]] = {}
        for key in keys:
            name, field = at(key)
            wanted.setdefault(name, []).append((field, key))
        fields = [[field for field, _ in each] for each in wanted.values()]
        if len(wanted) == 1:
            replies = _read_hash(server, next(iter(wanted)), fields[0])
        else:
            replies = _read_hashes(server, list(wanted), fields)
        return _documents(zip(chain.from_iterable(wanted.values()), replies, strict=True))

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        _ = self._open
        return self._mapping.find(prefix)

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        return [self._group.put(changes[0], self._write)] if len(changes) == 1 else self._write(changes)

    def _write(self, changes: Sequence[Change]) -> list[bool]:
        self._check_kept(changes)
        replies = self._open.commands([self._applying(each, each.lists) for each in changes])
        return [bool(each) for each in replies]

    def _applying(self, change: Change, lists: Sequence[Listing]) -> Command:
        """Return the command that applies a change, with these listings."""
        at, name = self._layout.at, b""
        expect: list[str] = []
        starts: list[object] = []
        put: list[str] = []
        drop: list[str] = []
        listings: list[object] = []
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
            key = self._layout.set_of(each.list, each.member)
            listings += key, each.member, False if each.new is None else each.new
        done = False if change.done is None else change.done
        packed = scripts.pack((done, expect, starts, put, drop, listings, -1 if change.lives is None else change.lives))
        return scripts.WRITE.on([name], packed, *[bytes_of(document) for _, document in change.put])

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        if limit == 0:
            return []
        # Some of each sorted set. A set that gives as many as were asked for may hold more of the answer: it is asked
        # again for four times as many.
        sets, found = self._layout.sets_of(name), dict[bytes, list[Position]]()
        wanted = dict.fromkeys(sets, 8 + min(limit, 4 * limit // len(sets)))
        while True:
            requests = [_range(key, after, count, newest_first=newest_first) for key, count in wanted.items()]
            ends: dict[bytes, Position] = {}
            for (key, count), pairs in zip(wanted.items(), self._open.commands(requests), strict=True):
                found[key] = _positions(pairs, after, newest_first=newest_first)
                if len(pairs) >= count:
                    ends[key] = (pairs[-1][1], text_of(pairs[-1][0]) or "")
            merged = sorted(chain.from_iterable(found.values()), reverse=newest_first)[:limit]
            last = merged[-1] if len(merged) == limit else None
            short = [k for k, end in ends.items() if last is None or (end > last if newest_first else end < last)]
            if not short:
                return merged
            wanted = {key: 4 * wanted[key] for key in short}

    def count(self, name: str) -> int:  # noqa: D102
        counts: list[int] = self._open.commands([("ZCARD", key) for key in self._layout.sets_of(name)])
        return sum(counts)

    def listings(  # noqa: D102
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[Listed]:
        return self._listings(prefix) if of is None else iter(self._listings_of(of))

    def _listings(self, prefix: str) -> Iterator[Listed]:
        server = self._open
        namespace, rest = split_namespace(prefix)
        if not namespace and (NAMESPACES.startswith(prefix) or prefix.startswith(NAMESPACES)):
            rest = ""  # lists of several namespaces may be wanted
        for key in server.scan(self._layout.sets(namespace + rest), "zset"):
            name = self._layout.list_in(key)
            if name and name.startswith(prefix):
                for member, score in server.steps(["ZSCAN", key], ["COUNT", "500"]):
                    if (text := text_of(member)) is not None:
                        yield name, text, score

    def _listings_of(self, of: Sequence[tuple[str, str]]) -> list[Listed]:
        sets: dict[bytes, dict[tuple[str, str], None]] = {}
        for name, member in of:
            sets.setdefault(bytes_of(self._layout.set_of(name, member)), {})[name, member] = None
        requests = [("ZMSCORE", key, *(bytes_of(member) for _, member in pairs)) for key, pairs in sets.items()]
        found = zip(sets.values(), self._open.commands(requests), strict=True)
        return [
            (*pair, score)
            for pairs, scores in found
            for pair, score in zip(pairs, scores, strict=True)
            if score is not None
        ]

    # The server --------------------------------------------------------------------------------------------------

    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:  # noqa: ARG002
        """Raise UnsupportedOperationError: only the server can copy what it holds."""
        instead = "the server saves all that it holds: BGSAVE, or redis-cli --rdb FILE"
        raise UnsupportedOperationError(f"backup copies SQLite files and diskcache directories; here, {instead}")

    def close(self) -> None:  # noqa: D102
        self._closed = True

    @property
    def _open(self) -> Server:
        """The server, unless the storage was closed. The first call asks the server whether it evicts."""
        server = self._mapping.server
        if self._closed:
            raise StorageClosedError(server.where, "the storage was closed")
        if not self._checked:
            policy = server.eviction() or ""
            if policy.startswith("allkeys-") or (policy and self._mapping.ttl is not None):
                raise self._evicts(policy)
            self._evicts_expiring = bool(policy)
            self._checked = True
        return server

    def _check_kept(self, changes: Sequence[Change]) -> None:
        """Raise if a change gives a place a time to live, and the server may remove such places when it is full."""
        _ = self._open  # asks the server
        if self._evicts_expiring and any(each.lives for each in changes):
            raise self._evicts("volatile-*")

    def _evicts(self, policy: str) -> UnsuitableMappingError:
        msg = (
            f"{self._mapping.server.where} removes what it stores when its memory is full (maxmemory-policy {policy}); "
            "set its maxmemory-policy to noeviction, use another server, or accept the loss: allow_eviction=True"
        )
        return UnsuitableMappingError(msg)


def _read_hash(server: Server, name: bytes, fields: list[str]) -> list[Any]:
    """Return the document of each field of one hash; for a field that ends with a slash, the pairs of all below."""
    below = [each[-1:] == "/" for each in fields]
    if not any(below):
        values: list[Any] = server.command("HMGET", name, *map(bytes_of, fields))
        return values
    if all(below):
        return _read_hashes(server, [name], [fields])
    # A head, and all pages: nearly the whole hash. To read it whole takes the server a fifth of the time that a script
    # takes to pick these fields.
    pairs: list[tuple[bytes, bytes]] = server.command("HGETALL", name)
    documents = dict(pairs)
    return [pairs if each[-1:] == "/" else documents.get(bytes_of(each)) for each in fields]


def _read_hashes(server: Server, names: list[bytes], fields: list[list[str]]) -> list[Any]:
    """Return likewise the documents of fields of several hashes."""

    def arguments(part: slice) -> tuple[bytes, str]:
        wanted = fields[part]
        alike = wanted[:1] if wanted.count(wanted[0]) == len(wanted) else wanted
        return scripts.pack(alike), str(sum(map(len, wanted)))

    return server.ask(scripts.READ, names, arguments)


def _documents(replies: Iterable[tuple[tuple[str, str], Any]]) -> dict[str, object]:
    """Return documents by their keys, from the reply for each field and key: a document, or pairs of all below it."""
    found: dict[str, object] = {}
    for (field, key), reply in replies:
        if isinstance(reply, list):
            start = bytes_of(field)
            pairs = cast("list[tuple[bytes, bytes]]", reply)
            found.update((key + as_text(name[len(start) :]), value) for name, value in pairs if name.startswith(start))
        elif reply is not None:
            found[key] = reply
    return found


def _range(key: bytes, after: Position | None, count: int, *, newest_first: bool) -> Command:
    """Return the command that reads *count* members of a sorted set, from the score of a position on."""
    name, first, end = ("ZREVRANGEBYSCORE", "+inf", "-inf") if newest_first else ("ZRANGEBYSCORE", "-inf", "+inf")
    start = first if after is None else str(after[0])
    return (name, key, start, end, "WITHSCORES", "LIMIT", "0", str(count))


def _positions(pairs: Iterable[tuple[bytes, int]], after: Position | None, *, newest_first: bool) -> list[Position]:
    """Return the positions after *after*. A member that is not text is not ours, and is left out."""
    found = [(score, text) for member, score in pairs if (text := text_of(member)) is not None]
    if after is None:
        return found
    return [each for each in found if (each < after if newest_first else each > after)]
