"""Backends: where documents lie. `adapt` finds the one that makes the most of a mapping."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from pyai_sessions.backends.protocol import Backend
from pyai_sessions.checks import kind_of
from pyai_sessions.errors import UnsuitableMappingError
from pyai_sessions.keys import namespace_prefix

_EVICTING = {
    ("zict", "LRU"): "zict.Buffer({}, zict.File(directory), n), or the slow mapping itself",
    ("zict", "Sieve"): "the slow mapping itself",
    ("zict", "WeakValueMapping"): "a dict",
    ("cachetools", "Cache"): "a dict",
    ("weakref", "WeakValueDictionary"): "a dict",
    ("weakref", "WeakKeyDictionary"): "a dict",
}
"""Mappings that drop items of their own accord, with what to use instead."""


def adapt(  # noqa: PLR0911 (a table)
    mapping: Any, *, shared: bool = False, timeout: float = 10.0, namespace: str | None = None
) -> Backend:
    """Return the backend of a mapping, or of a namespace in it: of its family, or else that of any mapping.

    Raises:
        UnsuitableMappingError: It cannot keep sessions safely; the error says what can.

    """
    under = namespace_prefix(namespace)
    for kind in type(mapping).__mro__:
        family, name = kind.__module__.partition(".")[0], kind.__name__
        if (family, name) in _EVICTING:
            use = _EVICTING[family, name]
            msg = f"a {family}.{name} drops items of its own accord, so sessions would vanish; use {use}"
            raise UnsuitableMappingError(msg)
        if (family, name) == ("pyai_sessions", "Encrypted"):
            from pyai_sessions.backends.sealed import SealedBackend

            return SealedBackend(
                adapt(mapping.mapping, shared=shared, timeout=timeout, namespace=namespace), mapping.sealer, under
            )
        if (family, name) == ("sqlitedict", "SqliteDict") and mapping.filename not in (":memory:", ""):
            from pyai_sessions.backends import sqlite

            return sqlite.backend_of(mapping, timeout, under)
        if (family, name) == ("pyai_sessions", "SQLiteMapping"):
            from pyai_sessions.backends import sqlite

            return sqlite.backend_of(mapping, timeout, under)
        if family in ("diskcache", "diskcache_community") and name in ("Cache", "Index", "FanoutCache", "Deque"):
            from pyai_sessions.backends import diskcache

            return diskcache.backend_of(mapping, timeout, under)
        if (family, name) == ("pyai_sessions", "RedisMapping"):
            from pyai_sessions.backends import cluster, redis

            kind_of_backend = cluster.ClusterBackend if mapping.clustered else redis.RedisBackend
            return kind_of_backend(mapping.under(under), timeout=timeout)
        if (family, name) == ("shelve", "Shelf"):
            from pyai_sessions.backends.mapping import MappingBackend

            # Its file, without the pickling between: a shelf unpickles whatever it reads.
            return MappingBackend(
                mapping,
                shared=shared,
                timeout=timeout,
                under=under,
                documents=cast("Any", _ShelfFile(mapping)),
                binary=True,
            )
    _check_mapping(mapping)
    from pyai_sessions.backends.mapping import MappingBackend

    return MappingBackend(mapping, shared=shared, timeout=timeout, under=under)


def _check_mapping(mapping: Any) -> None:
    given = kind_of(mapping)
    if isinstance(mapping, (str, os.PathLike)):
        msg = (
            f"{given} is no mapping: SessionManager(url) and open_store(url) open a url or a pathlib.Path, "
            "SQLiteSessionStore(path) an SQLite file, DiskCacheSessionStore(path) a directory"
        )
        raise UnsuitableMappingError(msg)
    missing = [each for each in ("__getitem__", "__setitem__", "__delitem__", "__iter__") if not hasattr(mapping, each)]
    if missing or isinstance(mapping, (type, Sequence, array, memoryview)):
        msg = (
            f"{given} is no mutable mapping{' (no ' + ', '.join(missing) + ')' if missing else ''}: pass a "
            "dict, SqliteDict, diskcache.Index, RedisMapping, or any class with [k], [k] = v, del and iter"
        )
        raise UnsuitableMappingError(msg)
    if _makes_values_up(mapping):
        msg = f"{given} makes a value up for every missing key, where sessions must be absent; use a dict"
        raise UnsuitableMappingError(msg)


def _makes_values_up(mapping: Any) -> bool:
    """Return whether a mapping gives a value for a key that is not there, as a defaultdict and a Counter do."""
    make: Any = getattr(cast("Any", type(mapping)), "__missing__", None)
    if make is None:
        return False
    try:
        make(mapping, "")
    except LookupError:
        return False
    except Exception:  # noqa: BLE001 (what makes values may raise anything)
        return True
    with suppress(LookupError):
        del mapping[""]  # where it was kept
    return True


class _ShelfFile:
    """The dbm file under a shelf, with text keys."""

    def __init__(self, shelf: Any) -> None:
        self._shelf = shelf

    def __getitem__(self, key: str) -> Any:
        return self._shelf.dict[key.encode()]

    def __setitem__(self, key: str, value: bytes) -> None:
        self._shelf.dict[key.encode()] = value

    def __delitem__(self, key: str) -> None:
        del self._shelf.dict[key.encode()]

    def __iter__(self) -> Any:
        return iter(self._shelf.dict.keys())
