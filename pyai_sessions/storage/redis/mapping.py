"""`RedisMapping`: text under keys, in the hashes of a Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from itertools import islice
from typing import Any

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import InvalidDocumentError, InvalidValueError
from pyai_sessions.storage.names import NAMESPACES, split_namespace
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.layout import Layout, bytes_of, check_prefix
from pyai_sessions.storage.redis.server import Server
from pyai_sessions.values.checks import kind_of, shown

_TOGETHER = 500
"""Hashes whose fields are listed in one round trip."""


class RedisMapping(OfOneProcess, MutableMapping[str, str]):
    """Text under keys, in the hashes of a server: the key ``kind/name/rest`` is the field ``kind/rest`` of ``name``.

    Works with clients of redis-py and valkey-py, whatever their ``decode_responses``. Their settings stay as they are,
    and whoever opened a client closes it. Tested on Redis 7.0 and Valkey 9.

    Args:
        client: A synchronous client of one server, of a cluster, or of a primary that Sentinel names.
        prefix: What all keys on the server begin with. Mappings of different prefixes share nothing, even if one prefix
            begins with the other. It ends with a character that no encoded id contains, such as ":".
        ttl: Seconds that a hash lives after its last write, at least; None to keep it for ever.
        allow_eviction: Whether a store accepts a server that removes keys when its memory is full. Without it, the
            store's first call asks for the server's ``maxmemory-policy`` and raises UnsuitableMappingError if sessions
            could be removed. A server that does not tell its policy is accepted.

    Notes:
        Reading or writing an item takes one round trip, deleting it two. Iterating, and `len`, scan the whole server.

    >>> import redis
    >>> mapping = RedisMapping(redis.Redis(), prefix="doc:", ttl=86400)  # connects at first use

    """

    def __init__(
        self, client: Any, prefix: str = "pyai:sessions:", ttl: int | None = None, *, allow_eviction: bool = False
    ) -> None:
        self.prefix = check_prefix(prefix)
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl <= 0):
            problem = f"is {shown(ttl)}; it is a whole number of seconds above 0, or None to keep for ever"
            raise InvalidValueError("ttl", problem)
        self.ttl = ttl
        self.allow_eviction = allow_eviction
        self.client = client
        self.server = Server(client)
        self.layout = Layout(prefix, split=self.server.clustered)

    def __getitem__(self, key: str) -> str:
        name, field = self.layout.at(key)
        value = self.server.command("HGET", name, bytes_of(field))
        if value is None:
            raise KeyError(key)
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidDocumentError(key, None, value, "its bytes are not UTF-8 text") from None

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise InvalidValueError("value", f"is {kind_of(value)}; this mapping holds text")
        name, field = self.layout.at(key)
        change = scripts.pack((False, (), (), (field,), (), (), 1000 * (self.ttl or 0)))
        self.server.command(*scripts.WRITE.on([name], change, value.encode()))

    def __delitem__(self, key: str) -> None:
        name, field = self.layout.at(key)
        # A second trip: if a client sends HDEL again because the reply was lost, it is told that there was nothing.
        if not self.server.command("HEXISTS", name, bytes_of(field)):
            raise KeyError(key)
        self.server.command("HDEL", name, bytes_of(field))

    def __iter__(self) -> Iterator[str]:
        return _once(self.find())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<RedisMapping {self.prefix!r} on {self.server.where}>"

    def find(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that begin with *prefix*, while others write. A key may come twice.

        Takes one round trip if *prefix* has a kind, a place and a slash after it; otherwise it scans the server.
        """
        namespace, rest = split_namespace(prefix)
        kind, *more = rest.split("/")
        if len(more) > 1:
            names: Iterator[bytes] = iter([self.layout.at(prefix)[0]])
        else:
            names = filter(self.layout.holds, self.server.scan(self.layout.hashes(namespace), "hash"))
        is_of_namespaces = not namespace and prefix.startswith(NAMESPACES)  # then *kind* is the start of their prefix
        kinds = [bytes_of(kind)] if more and not is_of_namespaces else [""]
        size = 1  # for a caller who wants the first key only
        while batch := list(islice(names, size)):
            for name, fields in zip(batch, self.server.ask(scripts.NAMES, batch, lambda _: kinds), strict=True):
                for key in (self.layout.key(name, field) for field in fields):
                    if key.startswith(prefix):
                        yield key
            size = min(2 * size, _TOGETHER)


def _once(keys: Iterable[str]) -> Iterator[str]:
    seen = set[str]()
    for each in keys:
        if each not in seen:
            seen.add(each)
            yield each
