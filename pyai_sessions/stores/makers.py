"""One line each: a store in memory, in an SQLite file, in a diskcache directory, on a Redis server, or at a url."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote_to_bytes, urlsplit

from typing_extensions import TypedDict, Unpack

from pyai_sessions.documents.keys import namespace_prefix
from pyai_sessions.documents.limits import Limits, make_terms
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.stores.kv import KVSessionStore
from pyai_sessions.values.checks import AnyPath, Clock, check_timeout, kind_of, shown, utc_now


class Options(TypedDict, total=False):
    """What all stores take, as `KVSessionStore` does, beside *ttl* and *timeout*."""

    namespace: str | None
    sliding: bool
    limits: Limits | None
    clock: Clock


def _check(ttl: int | None, options: Options) -> None:
    namespace_prefix(options.get("namespace"))
    make_terms(
        ttl=ttl, sliding=options.get("sliding", True), limits=options.get("limits"), clock=options.get("clock", utc_now)
    )


class MemorySessionStore(KVSessionStore):
    """Sessions in this process's memory, gone when it ends: for tests and trials.

    >>> store = MemorySessionStore()
    """

    def __init__(self, *, ttl: int | None = None, timeout: float = 10.0, **options: Unpack[Options]) -> None:
        super().__init__({}, ttl=ttl, timeout=timeout, **options)


class SQLiteSessionStore(KVSessionStore):
    """Sessions in an SQLite file, shared by the threads and processes of one machine.

    Args:
        path: The file, or ``":memory:"``; ``~`` is the home folder. It and its folders are made if absent, for this
            user alone (0600, 0700).
        table_name: The table; a file holds several.
        synchronous: ``"FULL"``: what ``save`` stored survives a power cut. ``"NORMAL"``: a killed process; faster.
        ttl: Seconds that a session lives; None: for ever.
        timeout: Seconds that a call may wait for other writers.
        read_only: Whether to open a file that is there for reading alone: it is listed, loaded and exported, also from
            a disk that is read-only, and what would write raises StorageReadOnlyError.
        options: Those of `KVSessionStore`: `Options`.

    >>> store = SQLiteSessionStore(path=":memory:", table_name="sessions")

    """

    def __init__(
        self,
        path: AnyPath = "sessions.db",
        table_name: str = "sessions",
        *,
        synchronous: str = "FULL",
        ttl: int | None = None,
        timeout: float = 10.0,
        read_only: bool = False,
        **options: Unpack[Options],
    ) -> None:
        from pyai_sessions.storage.sqlite.mapping import SQLiteMapping

        _check(ttl, options)  # what is wrong is told before a file is made
        mapping = SQLiteMapping(path, table_name, synchronous=synchronous, timeout=timeout, read_only=read_only)
        super().__init__(mapping, ttl=ttl, timeout=timeout, **options)
        self._close_mapping = mapping.close


class DiskCacheSessionStore(KVSessionStore):
    """Sessions in a diskcache.Index, shared by the threads and processes of one machine.

    Args:
        directory: The directory; ``~`` is the home folder. Made if absent, for this user alone (0700).
        ttl: Seconds that a session lives; None: for ever.
        timeout: Seconds that a call may wait for other writers.
        options: Those of `KVSessionStore`: `Options`.

    """

    def __init__(
        self,
        directory: AnyPath,
        *,
        ttl: int | None = None,
        timeout: float = 10.0,
        **options: Unpack[Options],
    ) -> None:
        from pyai_sessions.storage.sqlite.diskcache import open_index

        check_timeout(timeout)
        _check(ttl, options)  # what is wrong is told before anything is made
        index = open_index(directory, timeout)
        super().__init__(index, ttl=ttl, timeout=timeout, **options)
        self._close_mapping = index.cache.close


class RedisSessionStore(KVSessionStore):
    """Sessions on a Redis or Valkey server, shared by any number of machines. It connects at first use.

    Args:
        url: ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix://path``.
        prefix: What all keys begin with.
        ttl: Seconds that a session lives; None: for ever. The server forgets it then by itself.
        client: A redis-py or valkey-py client of a server, a cluster or Sentinel's primary, instead of a url; you close
            it.
        timeout: Seconds to wait for the server, and for other writers.
        allow_eviction: Whether to accept a server that removes sessions when its memory is full. Without it, the first
            call raises UnsuitableMappingError where the server's ``maxmemory-policy`` says so.
        options: Those of `KVSessionStore`: `Options`.

    >>> store = RedisSessionStore(url="redis://localhost:6379", prefix="pyai:sessions:", ttl=86400)

    """

    def __init__(
        self,
        url: str | None = None,
        prefix: str = "pyai:sessions:",
        ttl: int | None = None,
        *,
        client: Any = None,
        timeout: float = 10.0,
        allow_eviction: bool = False,
        **options: Unpack[Options],
    ) -> None:
        from pyai_sessions.storage.redis.mapping import RedisMapping
        from pyai_sessions.storage.redis.urls import connect

        if url is not None and client is not None:
            raise InvalidValueError("client", "was given beside a url; give one of them")
        if url is not None and not isinstance(url, str):
            raise InvalidValueError("url", f"is {kind_of(url)}; it is text, like redis://localhost:6379/0")
        ours = (
            None
            if client is not None
            else connect("redis://localhost:6379" if url is None else url, check_timeout(timeout))
        )
        client = client if ours is None else ours
        mapping = RedisMapping(client, prefix=prefix, ttl=ttl, allow_eviction=allow_eviction)
        super().__init__(mapping, timeout=timeout, **options)
        if ours is not None:
            self._close_mapping = ours.close


def open_store(url: str | os.PathLike[str]) -> KVSessionStore:
    """Return the store that a url names. A `pathlib.Path` is that of an SQLite file.

    ``memory://``, ``sqlite:///chat.db`` (relative), ``sqlite:////var/chat.db`` (absolute), ``sqlite:///~/chat.db`` (in
    the home folder), ``sqlite:///:memory:``, ``diskcache:///directory`` (absolute), ``diskcache://directory``,
    ``redis://host:port/db``, ``rediss://…``, ``unix://…``. Options follow as a query:
    ``sqlite:///chat.db?table_name=chats&synchronous=NORMAL``, ``sqlite:///chat.db?mode=ro``, ``redis://localhost?prefix=app:&ttl=86400&sliding=false``.
    What is put into a url is percent-encoded: ``f"sqlite:///chat.db?namespace={urllib.parse.quote(tenant, safe='')}"``.

    Raises:
        InvalidValueError: It names no store, or an option without a value, or twice.

    >>> open_store("memory://")
    <MemorySessionStore on a dict>

    """
    if isinstance(url, os.PathLike):
        return SQLiteSessionStore(url)
    parts = _parts(url)
    options = _options(parts.query, url)
    if parts.scheme == "memory":
        if parts.netloc + parts.path:
            raise InvalidValueError("url", "is memory:// with a path; a store in memory has none: write memory://")
        return MemorySessionStore(**_take(options, url))
    if parts.scheme == "sqlite":
        if parts.netloc:
            problem = "is sqlite:// with two slashes, where a third one begins the path: sqlite:///chat.db"
            raise InvalidValueError("url", f"{problem}, or sqlite:////var/chat.db from the root")
        path = _path(parts.path.removeprefix("/"), url)
        given = _take(options, url, "table_name", "synchronous", "mode")
        return SQLiteSessionStore(path, read_only=given.pop("mode", False), **given)
    if parts.scheme == "diskcache":
        if {*"@:"} & {*parts.netloc}:
            problem = "is diskcache:// with a host, a port or a password; it is a directory on this machine"
            raise InvalidValueError("url", f"{problem}; in its path '@' is %40, and ':' is %3A")
        return DiskCacheSessionStore(_path(parts.netloc + parts.path, url), **_take(options, url))
    ours = {key: options[key] for key in ("prefix", *_READ) if key in options}
    query = "&".join(each for each in parts.query.split("&") if each.partition("=")[0] not in ours)
    return RedisSessionStore(
        url.partition("?")[0] + (f"?{query}" if query else ""), **_take(ours, url, "prefix", "allow_eviction")
    )


def _parts(url: object) -> SplitResult:
    """Return the parts of a url of a known scheme, in which no character is dropped that Python's parser drops."""
    if not isinstance(url, str):
        raise InvalidValueError("url", f"is {kind_of(url)}; it is text like {_URLS}, or a pathlib.Path")
    if "://" not in url:
        raise InvalidValueError("url", f"is {_shown(url)}; {_remedy_of_a_path(url)}")
    if url != url.strip() or any(each < " " or each == "\x7f" or "\ud800" <= each <= "\udfff" for each in url):
        problem = "with a control character, a space at an end or a lone surrogate"
        raise InvalidValueError(
            "url", f"is {_shown(url)} {problem}; percent-encode its parts: urllib.parse.quote(path)"
        )
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidValueError("url", f"is {_shown(url)}, which cannot be read; it is like {_URLS}") from None
    if parts.scheme not in _SCHEMES:
        other = {"valkey": "redis://", "valkeys": "rediss://", "file": "sqlite:///"}.get(parts.scheme)
        remedy = (
            f"write {other}"
            if other
            else f"its scheme is one of {', '.join(_SCHEMES)}; for another database, pass "
            "SessionManager a SessionStore of your own"
        )
        raise InvalidValueError("url", f"is {_shown(url)}, for which there is no store; {remedy}")
    return parts


def _remedy_of_a_path(text: str) -> str:
    if _PLAIN_PATH.fullmatch(text):
        return f"a path is written as a url, sqlite:///{text}, or given to SQLiteSessionStore({text!r})"
    return f"it is like {_URLS}; a path is given to SQLiteSessionStore(path)"


def _options(query: str, url: str) -> dict[str, str]:
    """Return the options of a url; one that is empty, or not clear, must not open another tenant's sessions."""
    if "#" in url:
        raise InvalidValueError("url", f"is {_shown(url)} with a '#', which ends it; write %23")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogatepass")
    except UnicodeDecodeError as err:
        raise InvalidValueError("url", f"is {_shown(url)} with an option that is not percent-encoded UTF-8") from err
    options = dict(pairs)
    for key in (*_READ, "prefix", "table_name", "synchronous"):  # others are for the client to judge
        given = [value for name, value in pairs if name == key]
        if "" in given or len(given) > 1:
            problem = "has no value" if "" in given else "is given twice"
            raise InvalidValueError(key, f"{problem} in the url; give it one, or leave it out")
    return options


def _seconds(text: str) -> int:
    if not re.fullmatch(r"\d{1,20}", text):
        raise InvalidValueError("ttl", f"is {text[:20]!r}; it is a whole number of seconds above 0")
    return int(text)


def _truth(name: str) -> Callable[[str], bool]:
    def read(text: str) -> bool:
        if text not in ("true", "false"):
            raise InvalidValueError(name, f"is {shown(text)}; it is true or false")
        return text == "true"

    return read


_COMMON: dict[str, Callable[[str], Any]] = {"ttl": _seconds, "sliding": _truth("sliding"), "namespace": str}
"""Options of all families, each with how its text is read."""


def _is_read_only(text: str) -> bool:
    if text not in ("ro", "rw"):
        raise InvalidValueError("mode", f"is {shown(text)}; it is ro, for reading alone, or rw")
    return text == "ro"


_READ: dict[str, Callable[[str], Any]] = _COMMON | {
    "allow_eviction": _truth("allow_eviction"),
    "mode": _is_read_only,
}

_SCHEMES = ("memory", "sqlite", "diskcache", "redis", "rediss", "unix")
_PLAIN_PATH = re.compile(r"[\w./~ -]*[.][\w]+")
"""A path that holds no credential, as one that was meant for a url may."""

_URLS = "memory://, sqlite:///chat.db, diskcache:///directory or redis://localhost:6379/0"


def _shown(url: str) -> str:
    """Return a refused url without credentials and options: its scheme, or a path that holds none."""
    scheme, colon, _ = url.partition(":")
    if colon:
        return repr(f"{scheme}:{'//' if '://' in url else ''}…") if re.fullmatch(r"[A-Za-z][\w+.-]*", scheme) else "'…'"
    return repr(url if not url or _PLAIN_PATH.fullmatch(url) else "…")


def _path(place: str, url: str) -> str:
    if not place:
        raise InvalidValueError("url", f"is {_shown(url)} without a path; it is like {_URLS}")
    return os.fsdecode(unquote_to_bytes(place))


def _take(options: dict[str, str], url: str, *known: str) -> dict[str, Any]:
    """Return options as arguments, if they are *known* ones or common to all."""
    unknown = sorted(set(options) - {*known, *_COMMON})
    if unknown:
        accepted = ", ".join((*known, *_COMMON))
        raise InvalidValueError("url", f"is {_shown(url)} with the option {unknown[0]!r}; its options are: {accepted}")
    return {key: _READ.get(key, str)(text) for key, text in options.items()}
