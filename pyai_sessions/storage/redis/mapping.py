"""`RedisMapping`: keys as fields of Redis hashes, and commands to the server, whose replies and errors are checked.

    <prefix><place>                 a hash: ``kind/place/rest`` is its field ``kind/rest``
    <prefix>/, <prefix>/other/…     hashes of keys without a place, and of those whose place is no encoded id
    <prefix>/namespace/<name>/…     these hashes, of a namespace
    <prefix>/<list>                 a sorted set: see `pyai_sessions.storage.redis.storage`

Ids are percent-encoded, so no id contains the "/" that lists begin with, nor the last character of a prefix: see
`_check_prefix`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NoReturn, cast
from urllib.parse import quote, unquote

import msgspec

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import (
    InvalidDocumentError,
    InvalidValueError,
    StorageError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.storage.names import ID_CHARACTERS, NAMESPACES, decode_id, split_namespace
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.clients import Clients
from pyai_sessions.storage.redis.failures import CHECK_ADDRESS, storage_error
from pyai_sessions.storage.redis.replies import Command, UnfitReplyError, as_text, read_reply
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import kind_of, shown
from pyai_sessions.values.json import is_array

NO_OPTIONS: Mapping[str, Any] = {}

_encode = msgspec.msgpack.Encoder().encode

_AT_ONCE = 100
"""Hashes that one script looks at: meanwhile the server answers nobody else."""
TOGETHER = 500
"""Hashes whose fields are listed in one trip."""
_OTHERS = "/other/"
"""What hashes are named after whose keys have a place that is no encoded id."""


def _check_prefix(prefix: object) -> str:
    """Return a prefix if what follows it in keys can be told from it, whatever other prefixes the server holds.

    An id in a key is text of `ID_CHARACTERS`; what is not an id begins with a slash after another character. So a key
    tells its prefix: up to the first such slash, or without the id at its end.
    """
    if not isinstance(prefix, str):
        raise InvalidValueError("prefix", f"is {kind_of(prefix)}; it is text, such as 'pyai:sessions:'")
    if not prefix or prefix[-1] in ID_CHARACTERS:
        given = f"is {shown(prefix)}, which ends like an id" if prefix else "is empty"
        problem = f"{given}: keys of other prefixes could be taken for its own; end it with ':'"
        raise InvalidValueError("prefix", problem if prefix else f"{given}; it is text, such as 'pyai:sessions:'")
    if re.search(f"(?:^|[^{re.escape(ID_CHARACTERS)}])/", prefix):
        problem = f"is {shown(prefix)}; a '/' in it stands after a letter or a digit, as in 'app/sessions/'"
        raise InvalidValueError("prefix", problem)
    return prefix


_sources: dict[str, str] = {}
"""The scripts by their digests."""


@cache
def _digest(source: str) -> str:
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    _sources[digest] = source
    return digest


def pack(value: object) -> bytes:
    """Return nested lists of texts and numbers as one argument of a script."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a lone surrogate, in a key of others
        return _encode(_spelled(value))


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        text = bytes_of(value)
        return msgspec.Raw(b"\xdb" + len(text).to_bytes(4, "big") + text)
    return [_spelled(each) for each in value] if is_array(value) else value


def bytes_of(value: object) -> bytes:
    """Return text, or a document that was read, as it is stored."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(cast("bytes", value))


def script(source: str, keys: Sequence[bytes], *arguments: bytes | str) -> Command:
    """Return the command that runs a script by its digest."""
    return ("EVALSHA", _digest(source), len(keys), *keys, *arguments)


class RedisMapping(OfOneProcess, MutableMapping[str, str]):
    """A mapping of text whose items are fields of Redis hashes: ``kind/name/rest`` is field ``kind/rest`` of ``name``.

    Works with redis-py and valkey-py clients, whatever their ``decode_responses``; their settings stay as they are, and
    a client is closed by whoever opened it. Tested on Redis 7.0 and Valkey 9.

    Args:
        client: A synchronous client of one server, of a cluster, or of a primary that Sentinel tells.
        prefix: What all keys begin with. Mappings of different prefixes share nothing, also where one prefix begins
            with another. It ends with a character that stands in no encoded id, such as ":".
        ttl: Seconds that a hash lives after its last write at the least; None to keep it for ever.
        allow_eviction: Whether a store accepts a server that removes keys when its memory is full. Without it, the
            store's first call asks for the server's ``maxmemory-policy``, and raises UnsuitableMappingError where that
            would remove sessions. A server that does not tell is accepted.

    Notes:
        One item is one command, and its deletion two. Iterating scans the server's keys, ``len`` too.

    >>> import redis
    >>> mapping = RedisMapping(redis.Redis(), prefix="doc:", ttl=86400)  # connects at first use

    """

    def __init__(
        self, client: Any, prefix: str = "pyai:sessions:", ttl: int | None = None, *, allow_eviction: bool = False
    ) -> None:
        prefix = _check_prefix(prefix)
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl <= 0):
            problem = f"is {shown(ttl)}; it is a whole number of seconds above 0, or None to keep for ever"
            raise InvalidValueError("ttl", problem)
        module = type(client).__module__
        if not hasattr(client, "execute_command") or ".asyncio" in module:
            name = f"{module}.{type(client).__qualname__}"
            msg = f"a {name} is not a synchronous client: pass redis.Redis(...) or redis.RedisCluster(...)"
            raise UnsuitableMappingError(msg)
        self.client = client
        self._clients = Clients(client)
        self.prefix = prefix
        self.ttl = ttl
        self.allow_eviction = allow_eviction
        self.clustered = hasattr(client, "get_primaries")

    @property
    def _prefix(self) -> bytes:
        return self.prefix.encode("utf-8", "surrogatepass")

    def under(self, start: str) -> RedisMapping:
        """Return the mapping of those items whose keys begin with the prefix of a namespace, without it."""
        if not start:
            return self
        mapping = type(self).__new__(type(self))  # whatever its constructor takes
        vars(mapping).update(vars(self))
        mapping.prefix = f"{self.prefix}/{start}"
        return mapping

    # The mapping -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> str:
        value = self.command("HGET", *self.place(key))
        if value is None:
            raise KeyError(key)
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidDocumentError(key, None, value, "its bytes are not UTF-8 text") from None

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise InvalidValueError("value", f"is {kind_of(value)}; this mapping holds text")
        name, field = self.at(key)
        change = pack((False, (), (), (field,), (), (), 1000 * (self.ttl or 0)))
        self.command(*script(scripts.WRITE, [name], change, value.encode()))

    def __delitem__(self, key: str) -> None:
        place = self.place(key)
        # Two trips: a client that sends HDEL again, since its reply was lost, is told that there was nothing.
        if not self.command("HEXISTS", *place):
            raise KeyError(key)
        self.command("HDEL", *place)

    def __iter__(self) -> Iterator[str]:
        return self.find(once=True)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<RedisMapping {self.prefix!r} on {self.where}>"

    def place(self, key: str) -> tuple[bytes, bytes]:
        """Return the hash and the field of an item."""
        name, field = self.at(key)
        return name, bytes_of(field)

    def at(self, key: str) -> tuple[bytes, str]:
        """Return the hash and the field of an item, the field as text."""
        if not isinstance(key, str):
            raise InvalidValueError("key", f"is {kind_of(key)}; it is text")
        start = ""
        kind, slash, rest = key.partition("/")
        if kind == "namespace":
            start, key = split_namespace(key)
            kind, slash, rest = key.partition("/")
        name, tail, rest = rest.partition("/")
        return _hash(self.prefix, start, name if slash else None), kind + tail + rest

    def key(self, name: bytes, field: bytes) -> str:
        """Return the key of a field of a hash."""
        start, session = self._split(name)
        kind, slash, rest = as_text(field).partition("/")
        other = _other_name(session)
        session = session if other is None else other
        return start + (kind if session == "/" else f"{kind}/{session}{slash}{rest}")

    def holds(self, name: bytes) -> bool:
        """Return whether a hash is one of this mapping's; the server may hold others whose names begin alike."""
        _, session = self._split(name)
        return session == "/" or decode_id(session) is not None or _other_name(session) is not None

    def _split(self, name: bytes) -> tuple[str, str]:
        """Return the namespace's prefix and the rest of the name of a hash."""
        rest = as_text(name[len(self._prefix) :])
        return split_namespace(rest[1:]) if rest.startswith("/namespace/") else ("", rest)

    def find(self, prefix: str = "", *, once: bool = False) -> Iterator[str]:
        """Iterate over the keys that begin with *prefix*, each *once* or perhaps twice, beside writers.

        Costs one trip where *prefix* ends in a place or after it, as ``kind/place/`` does; else a scan of the server.
        """
        start, rest = split_namespace(prefix)
        kind, *more = rest.split("/")
        if len(more) > 1:
            names: Iterator[bytes] = iter([self.place(prefix)[0]])
        else:
            under = literal(self._prefix + (f"/{start}".encode("utf-8", "surrogatepass") if start else b""))
            names = filter(self.holds, self.scan(under + b"*", "hash"))
            names = _once(names) if once else names
        wanted = kind if more and not (prefix.startswith(NAMESPACES) and not start) else ""
        size = 1  # for who wants but the first key
        while batch := list(islice(names, size)):
            for name, fields in zip(batch, self.ask(scripts.NAMES, batch, [[wanted]] * len(batch)), strict=True):
                for key in (self.key(name, field) for field in fields):
                    if key.startswith(prefix):
                        yield key
            size = min(2 * size, TOGETHER)

    # Commands ----------------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """The server's address, without credentials."""
        if self.clustered:
            return f"the cluster of {getattr(self.client.get_default_node(), 'name', '?')}"
        pool = getattr(self.client, "connection_pool", None)
        options = getattr(pool, "connection_kwargs", {})
        if "path" in options:
            return f"unix:{options['path']}"
        return f"{options.get('host', 'redis')}:{options.get('port', 6379)}"

    @property
    def _has_tls(self) -> bool:
        return "SSL" in getattr(getattr(self.client, "connection_pool", None), "connection_class", object).__name__

    def command(self, *arguments: Any, **options: Any) -> Any:
        """Run a command and return its reply, text as bytes; raise a StorageError when the server fails."""
        return self._read(arguments, self._send(arguments, options))

    def _send(self, arguments: Command, options: Mapping[str, Any]) -> Any:
        try:
            return self._clients.call(lambda one: one.execute_command(*arguments, **options, NEVER_DECODE=True))
        except Exception as err:  # noqa: BLE001 (it is raised, as what it means)
            if arguments[0] != "EVALSHA" or ("NOSCRIPT" not in str(err) and type(err).__name__ != "NoScriptError"):
                self._report(err)
        # The server does not have the script (yet, or any more).
        try:
            source = _sources[arguments[1]]
            return self._clients.call(
                lambda one: one.execute_command("EVAL", source, *arguments[2:], NEVER_DECODE=True)
            )
        except Exception as err:  # noqa: BLE001 (likewise)
            self._report(err)

    def _read(self, command: Command, reply: Any) -> Any:
        source = _sources[command[1]] if command[0] == "EVALSHA" else None
        try:
            return read_reply(command, source, reply)
        except UnfitReplyError as err:
            problem = f"its reply to {command[0]} is {err}, as no Redis or Valkey server answers; check the address"
            raise StorageError(self.where, problem) from err

    def commands(self, requests: Sequence[Command]) -> list[Any]:
        """Run commands in one trip and return their replies; one that failed is run again, by itself."""
        if len(requests) < 2:  # noqa: PLR2004
            return [self.command(*each) for each in requests]
        try:
            replies = self._clients.call(lambda one: _together(one, requests))
        except Exception as err:  # noqa: BLE001 (likewise)
            self._report(err)
        return [
            self.command(*request) if isinstance(reply, Exception) else self._read(request, reply)
            for request, reply in zip(requests, replies, strict=True)
        ]

    def ask(self, source: str, hashes: Sequence[bytes], wanted: Sequence[Sequence[str]]) -> list[Any]:
        """Return what a script tells of hashes, of which it *wanted* something each, in one trip."""
        size = 1 if self.clustered else _AT_ONCE
        requests: list[Command] = []
        for n in range(0, len(hashes), size):
            part = wanted[n : n + size]
            alike = part[:1] if part.count(part[0]) == len(part) else part
            requests.append(script(source, hashes[n : n + size], pack(alike), str(sum(map(len, part)))))
        return [each for reply in self.commands(requests) for each in reply]

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the options that send a command to each of a cluster's servers, or to the one server."""
        return [{"target_nodes": each} for each in self.client.get_primaries()] if self.clustered else [{}]

    def eviction(self) -> str | None:
        """Return the policy by which a server removes keys when its memory is full; None: no server says that it does.

        Costs a trip to each server.
        """
        for node in self._nodes():
            try:
                told: dict[str, str] = self.command("INFO", "memory", **node)
            except StorageUnreachableError:
                raise
            except StorageError:  # it may not be asked
                return None
            policy = told.get("maxmemory_policy", "")
            if told.get("maxmemory", "0") != "0" and policy.startswith(("allkeys-", "volatile-")):
                return policy
        return None

    def scan(self, pattern: bytes, kind: str) -> Iterator[bytes]:
        """Iterate over the keys of the server, or of the cluster, that hold this kind of value; one may come twice."""
        for node in self._nodes():
            yield from self.steps(["SCAN"], ["MATCH", pattern, "COUNT", "500", "TYPE", kind], node)

    def steps(self, start: Command, rest: Command, node: Mapping[str, Any] = NO_OPTIONS) -> Iterator[Any]:
        """Iterate over what a scan finds. The cursor stands between the *start* and the *rest* of its command."""
        walk, cursor = self.walk(), 0
        while True:
            cursor, found = self.command(*start, cursor, *rest, **node)
            yield from found
            if cursor == 0:
                return
            walk.reach(cursor)

    def walk(self) -> Walk:
        """Return the guard of a walk through the server."""
        return Walk(self.where, CHECK_ADDRESS)

    def _report(self, err: Exception) -> NoReturn:
        """Raise the StorageError that a client's error means; what is none of a client's, as it is."""
        error = (
            None
            if isinstance(err, (StorageError, InvalidValueError))
            else storage_error(self.where, err, tls=self._has_tls)
        )
        if error is None:
            raise err
        if "args beginning with" in str(err):  # an unknown command is quoted with what it would have stored
            err.args = (str(err).partition(",")[0],)
        raise error from err


def _together(client: Any, requests: Sequence[Command]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for each in requests:
            pipeline.execute_command(*each, NEVER_DECODE=True)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies


@lru_cache(maxsize=4096)
def _hash(prefix: str, start: str, name: str | None) -> bytes:
    """Return the hash of a place in a namespace, whose prefix is *start*; None: of keys that have no place."""
    if name is None:
        name = "/"  # that no place can have
    elif decode_id(name) is None:  # it could reach into a longer prefix
        name = _quoted(name)
    return bytes_of(f"{prefix}/{start}{name}" if start else f"{prefix}{name}")  # no place begins with a slash either


def _quoted(name: str) -> str:
    """Return the name of the hash for items of a name that no session can have."""
    return _OTHERS + quote(name, safe="", errors="surrogatepass")


def _other_name(text: str) -> str | None:
    """Return the name for whose items a hash is named so; None where it is another hash."""
    with suppress(UnicodeDecodeError):
        name = unquote(text.removeprefix(_OTHERS), errors="surrogatepass")
        return name if decode_id(name) is None and _quoted(name) == text else None
    return None


def _once(names: Iterable[bytes]) -> Iterator[bytes]:
    seen = set[bytes]()
    for each in names:
        if each not in seen:
            seen.add(each)
            yield each


def literal(text: bytes) -> bytes:
    """Return a pattern for SCAN that matches *text* alone."""
    return re.sub(rb"[*?\[\]\\^]", rb"\\\g<0>", text)
