"""Redis and Valkey: one hash per session, so that a session expires, moves and loads as one.

    <prefix><id>                    a hash: field "session" is the head, fields "messages/<gen>/<n>" are pages
    <prefix>/active, …/archived     sorted sets: session ids by activity
    <prefix>/user/<user>/active, …  the same of one user
    <prefix>/expiry                 a sorted set: "<id>/<status>/<user>" by the time at which the session expires

Ids are percent-encoded, so no id contains the "/" that the indexes begin with. A save is one script: compare, write,
index, expire, in one round trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pyai_sessions.backends import scripts
from pyai_sessions.backends.protocol import Backend, Position, Progress
from pyai_sessions.documents import Draft, Entry, aside_key, decode_id, encode_id, page_prefix
from pyai_sessions.errors import (
    InvalidValueError,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.models import SessionStatus

_HEAD = "session"
_PAGE = "messages/"
_PURGE = 100
"""Expired sessions that one script clears away from the indexes."""


Run = tuple[str, Sequence[bytes | str], Sequence[bytes | str]]
"""A script, its keys and its arguments."""


class RedisMapping(MutableMapping[str, str]):
    """A mapping of text whose items are fields of Redis hashes: ``kind/name/rest`` is field ``kind/rest`` of ``name``.

    Works with redis-py and valkey-py clients, whatever their ``decode_responses``; their settings stay as they are, and
    a client is closed by whoever opened it. Tested on Redis 7.0 and Valkey 9.

    Args:
        client: A connected, synchronous client.
        prefix: What all keys begin with. Two mappings share a server by different prefixes.
        ttl: Seconds that a hash lives after its last write; None to keep it for ever.

    Notes:
        One item is one command. Iterating scans the server's keys, ``len`` too.

    >>> import redis
    >>> mapping = RedisMapping(redis.Redis(), prefix="doc:", ttl=86400)  # connects at first use

    """

    def __init__(self, client: Any, prefix: str = "pyai:sessions:", ttl: int | None = None) -> None:
        if not isinstance(prefix, str):
            raise InvalidValueError("prefix", f"is a {type(prefix).__name__}; it is text, such as 'pyai:sessions:'")
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl <= 0):
            problem = f"is {ttl!r}; it is a whole number of seconds above 0, or None to keep for ever"
            raise InvalidValueError("ttl", problem)
        module = type(client).__module__
        if not hasattr(client, "execute_command") or ".asyncio" in module or ".cluster" in module:
            name = f"{module}.{type(client).__qualname__}"
            msg = f"a {name} is not a synchronous client of one server: pass redis.Redis(...)"
            raise UnsuitableMappingError(msg)
        self.client = client
        self.prefix = prefix
        self.ttl = ttl
        self._scripts: dict[str, str] = {}

    # The mapping -------------------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> str:
        value = self.command("HGET", *self._place(key))
        if value is None:
            raise KeyError(key)
        return bytes(value).decode()

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise InvalidValueError("value", f"is a {type(value).__name__}; this mapping holds text")
        name, field = self._place(key)
        self.run(scripts.PUT, [name], [field, value.encode(), str(self.ttl or 0)])

    def __delitem__(self, key: str) -> None:
        if not self.command("HDEL", *self._place(key)):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        pattern = _literal(self.prefix.encode("utf-8", "surrogatepass"))
        seen: set[bytes] = set()  # SCAN may return a key twice
        cursor: bytes = b"0"
        while True:
            cursor, names = self.command("SCAN", cursor, "MATCH", pattern + b"*", "COUNT", "500", "TYPE", "hash")
            for name in names:
                if name not in seen:
                    seen.add(name)
                    for field in self.command("HKEYS", name):
                        yield self._key(name, field)
            if int(cursor) == 0:
                return

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<RedisMapping {self.prefix!r} on {self.where}>"

    def _place(self, key: str) -> tuple[bytes, bytes]:
        if not isinstance(key, str):
            raise InvalidValueError("key", f"is a {type(key).__name__}; it is text")
        kind, slash, rest = key.partition("/")
        name, tail, rest = rest.partition("/")
        if not slash:  # no name: a hash that no name can have
            name = "/"
        return (self.prefix + name).encode("utf-8", "surrogatepass"), (kind + tail + rest).encode(
            "utf-8", "surrogatepass"
        )

    def _key(self, name: bytes, field: bytes) -> str:
        session = name.decode("utf-8", "surrogatepass")[len(self.prefix) :]
        kind, slash, rest = field.decode("utf-8", "surrogatepass").partition("/")
        return kind if session == "/" else f"{kind}/{session}{slash}{rest}"

    # Commands ----------------------------------------------------------------------------------------------------

    @property
    def where(self) -> str:
        """The server's address, without credentials."""
        pool = getattr(self.client, "connection_pool", None)
        options = getattr(pool, "connection_kwargs", {})
        if "path" in options:
            return f"unix:{options['path']}"
        return f"{options.get('host', 'redis')}:{options.get('port', 6379)}"

    def command(self, *arguments: Any) -> Any:
        """Run a command and return its reply, text as bytes; raise a StorageError when the server fails."""
        with self._reported():
            return self.client.execute_command(*arguments, NEVER_DECODE=True)

    def run(self, script: str, keys: Sequence[bytes | str], arguments: Sequence[bytes | str]) -> Any:
        """Run a Lua script by its digest, and send it where the server does not have it (yet, or any more)."""
        with self._reported():
            try:
                return self.client.execute_command(
                    "EVALSHA", self._digest(script), len(keys), *keys, *arguments, NEVER_DECODE=True
                )
            except Exception as err:
                if "NOSCRIPT" not in str(err) and type(err).__name__ != "NoScriptError":
                    raise
            return self.client.execute_command("EVAL", script, len(keys), *keys, *arguments, NEVER_DECODE=True)

    def commands(self, requests: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands in one trip and return their replies."""
        if len(requests) == 1:
            return [self.command(*requests[0])]
        replies = self._pipelined(requests)
        for each in replies:
            if isinstance(each, Exception):
                with self._reported():
                    raise each
        return replies

    def run_many(self, runs: Sequence[Run]) -> list[Any]:
        """Run scripts in one trip and return their replies."""
        requests = [("EVALSHA", self._digest(script), len(keys), *keys, *rest) for script, keys, rest in runs]
        replies = self._pipelined(requests) if len(runs) > 1 else [RuntimeError()] * len(runs)
        # What failed is run again by itself: where the server did not have the script, or so that its error is raised.
        return [
            self.run(*run) if isinstance(reply, Exception) else reply for run, reply in zip(runs, replies, strict=True)
        ]

    def _pipelined(self, requests: Sequence[Sequence[Any]]) -> list[Any]:
        if not requests:
            return []
        with self._reported(), self.client.pipeline(transaction=False) as pipeline:
            for each in requests:
                pipeline.execute_command(*each, NEVER_DECODE=True)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
            return replies

    def _digest(self, script: str) -> str:
        digest = self._scripts.get(script)
        if digest is None:
            digest = self._scripts[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        return digest

    @contextmanager
    def _reported(self) -> Generator[None, None, None]:
        try:
            yield
        except (StorageError, InvalidValueError):
            raise
        except Exception as err:
            error = storage_error(self.where, err)
            if error is None:
                raise
            raise error from err


def storage_error(where: str, err: Exception) -> StorageError | None:  # noqa: PLR0911 (a table)
    """Return the StorageError that says what a client's error means; None where it is none of a client's."""
    names = {each.__name__ for each in type(err).__mro__}
    if "RedisError" not in names and "ValkeyError" not in names:
        return StorageUnreachableError(where, type(err).__name__) if isinstance(err, OSError) else None
    text = str(err)
    if "OutOfMemoryError" in names or text.startswith("OOM"):
        return StorageFullError(where, "the server is at its memory limit")
    if "ReadOnlyError" in names or text.startswith("READONLY") or "-READONLY" in text:
        return StorageReadOnlyError(where, "the server is a read-only replica")
    if "MISCONF" in text:
        return StorageFullError(where, "the server cannot write its snapshot (MISCONF)")
    if names & {"ConnectionError", "TimeoutError", "BusyLoadingError", "AuthenticationError"}:
        return StorageUnreachableError(where, type(err).__name__)
    if text.startswith("BUSY"):
        return StorageLockedError(where, "the server runs a long script (BUSY)")
    return StorageError(where, f"{type(err).__name__}: {text.partition(' ')[0]}")


class RedisBackend(Backend):
    """Sessions in a `RedisMapping`."""

    def __init__(self, mapping: RedisMapping, *, owned: bool = False) -> None:
        self._mapping = mapping
        self._prefix = mapping.prefix.encode("utf-8", "surrogatepass")
        self._owned = owned
        self._closed = False

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        found: object | None = self._open.command("HGET", self._hash(session_id), _HEAD)
        return found

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        if not session_ids:
            return []
        found: list[object | None] = self._open.run(scripts.READ_MANY, [self._hash(each) for each in session_ids], [])
        return [each or None for each in found]

    def read_whole(self, session_id: str) -> tuple[object | None, dict[str, object]]:  # noqa: D102
        flat = self._open.command("HGETALL", self._hash(session_id))
        found = {bytes(field).decode("utf-8", "surrogatepass"): value for field, value in _pairs(flat)}
        head, prefix = found.pop(_HEAD, None), page_prefix(session_id)
        return head, {f"{prefix}{field.removeprefix(_PAGE)}": value for field, value in found.items()}

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:  # noqa: D102
        fields: dict[bytes, list[str]] = {}
        for key in keys:
            fields.setdefault(self._hash_of(key), []).append(key)
        found: dict[str, object] = {}
        replies = self._open.commands([("HMGET", name, *map(_field, each)) for name, each in fields.items()])
        for each, values in zip(fields.values(), replies, strict=True):
            found.update(zip(each, values, strict=True))
        return [found.get(key) for key in keys]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        return iter(self._open)

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        return bool(self._open.run(*self._commit(draft)))

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        return [bool(each) for each in self._open.run_many([self._commit(each) for each in drafts])]

    def _commit(self, draft: Draft) -> Run:
        entry, expected, previous = draft.entry, draft.expected, draft.previous
        arguments: list[bytes | str] = [
            encode_id(draft.session_id),
            expected or "",
            draft.stamp,
            draft.head,
            str(self._mapping.ttl or 0),
            str(entry.activity),
            *_index_of(entry),
            *(_index_of(previous) if previous else ("", "")),
            str(len(draft.pages)),
        ]
        for key, page in draft.pages.items():
            arguments += [_field(key), page]
        arguments += map(_field, draft.garbage)
        return scripts.COMMIT, [self._prefix, self._hash(draft.session_id)], arguments

    def remove(self, session_id: str, expected: str | None, keys: Sequence[str], previous: Entry | None) -> bool:  # noqa: ARG002, D102
        arguments = [encode_id(session_id), expected or "", *(_index_of(previous) if previous else ("", ""))]
        return bool(self._open.run(scripts.REMOVE, [self._prefix, self._hash(session_id)], arguments))

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:  # noqa: D102
        arguments = [expected or "", *map(_field, keys)]
        return bool(self._open.run(scripts.REMOVE_PAGES, [self._hash(session_id)], arguments))

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: D102
        fields = [each for key in keys for each in (_field(key), _field(aside_key(key, token)))]
        self._open.run(scripts.SET_ASIDE, [self._hash(session_id)], fields)

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        start = ("+inf" if newest_first else "-inf") if after is None else str(after[0])
        keys, order = [self._prefix, self._index_key(status, user_id)], "1" if newest_first else "0"
        found: list[Position] = []
        offset = 0
        while len(found) < limit:
            # A few more than asked for: those of the same activity that come no later than *after* are passed over.
            flat = self._open.run(scripts.SCAN, keys, [order, start, str(limit + 8), str(offset)])
            offset += len(flat) // 2
            for name, score in zip(flat[::2], flat[1::2], strict=True):
                position = (_score(score) or 0, bytes(name).decode())
                if after is None or (position < after if newest_first else position > after):
                    found.append(position)
            if len(flat) < 2 * (limit + 8):
                break
        return found[:limit]

    def count(self, status: SessionStatus, user_id: str | None) -> int:  # noqa: D102
        self.purge_expired()
        return int(self._open.command("ZCARD", self._index_key(status, user_id)))

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        pattern = _literal(self._prefix)
        cursor: Any = b"0"
        while True:
            cursor, names = self._open.command("SCAN", cursor, "MATCH", pattern + b"/*", "COUNT", "500", "TYPE", "zset")
            for name in names:
                yield from self._entries_of(bytes(name))
            if int(cursor) == 0:
                return

    def _entries_of(self, name: bytes) -> Iterator[Entry]:
        parts = name[len(self._prefix) :].decode().split("/")[1:]
        if parts[-1] not in (each.value for each in SessionStatus) or len(parts) not in (1, 3):
            return
        user_id = decode_id(parts[1]) if len(parts) == 3 else None  # noqa: PLR2004 ("user", the user, the status)
        cursor: Any = b"0"
        while True:
            cursor, flat = self._open.command("ZSCAN", name, cursor, "COUNT", "500")
            for member, score in _pairs(flat):
                session_id = decode_id(bytes(member).decode())
                if session_id is not None:
                    yield Entry(session_id, user_id, SessionStatus(parts[-1]), _score(score) or 0)
            if int(cursor) == 0:
                return

    def indexed(self, entries: Sequence[Entry]) -> list[bool]:  # noqa: D102
        names = {
            (each, user_id): self._index_key(each.status, user_id)
            for each in entries
            for user_id in {None, each.user_id}
        }
        requests = [("ZSCORE", name, encode_id(each.session_id)) for (each, _), name in names.items()]
        wrong = {
            each
            for (each, _), score in zip(names, self._open.commands(requests), strict=True)
            if _score(score) != each.activity
        }
        return [each not in wrong for each in entries]

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        olds = list(stale)
        arguments = [encode_id(session_id), expected or "", str(len(olds))]
        for each in olds:
            arguments += [*_index_of(each), str(each.activity)]
        if entry:
            arguments += [*_index_of(entry), str(entry.activity)]
        return bool(self._open.run(scripts.INDEX, [self._prefix, self._hash(session_id)], arguments))

    def purge_expired(self, progress: Progress | None = None) -> int:  # noqa: D102
        total = 0
        while True:
            purged = int(self._open.run(scripts.PURGE_ALL, [self._prefix], [str(_PURGE)]))
            total += purged
            if progress:
                progress(total)
            if purged < _PURGE:
                return total

    def close(self) -> None:  # noqa: D102
        self._closed = True
        if self._owned:
            self._mapping.client.close()

    # Below: names ------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> RedisMapping:
        if self._closed:
            raise StorageClosedError(self._mapping.where, "the store was closed")
        return self._mapping

    def _hash(self, session_id: str) -> bytes:
        return self._prefix + encode_id(session_id).encode()

    def _hash_of(self, key: str) -> bytes:
        return self._prefix + key.split("/", 2)[1].encode()

    def _index_key(self, status: SessionStatus, user_id: str | None) -> bytes:
        user = "" if user_id is None else f"/user/{encode_id(user_id)}"
        return self._prefix + f"{user}/{status.value}".encode()


def _score(reply: Any) -> int | None:
    return None if reply is None else int(float(reply))


def _literal(text: bytes) -> bytes:
    """Return a pattern for SCAN that matches *text* alone."""
    return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^" else bytes([c]) for c in text)


def _index_of(entry: Entry) -> tuple[str, str]:
    return entry.status.value, "" if entry.user_id is None else encode_id(entry.user_id)


def _field(key: str) -> str:
    """Return the field of a document: its key without the session's id, which names the hash."""
    kind, _, rest = key.partition("/")
    _, slash, rest = rest.partition("/")
    return kind + slash + rest


def _pairs(flat: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a reply: flat, or a dict or in pairs, by the client and by the newer protocol."""
    if isinstance(flat, dict):
        return flat.items()  # pyright: ignore[reportUnknownVariableType]
    if flat and isinstance(flat[0], (list, tuple)):
        return ((pair[0], pair[1]) for pair in flat)
    return zip(flat[::2], flat[1::2], strict=True)


def connect(url: str, timeout: float) -> Any:
    """Return a client for a url; it connects at first use, and waits *timeout* seconds at most."""
    import redis

    try:
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise InvalidValueError("url", f"begins with {scheme!r}; it is redis://, rediss:// or unix://")
        redis_class: Any = redis.Redis
        return redis_class.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    except ValueError as err:
        if isinstance(err, InvalidValueError):
            raise
        raise InvalidValueError(
            "url", "is not one that redis.Redis.from_url takes; it is redis://host:port/db"
        ) from err
