"""Families of mappings: `storage_of` returns the best storage for a mapping, and refuses those that lose items."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from pyai_sessions.errors import UnsuitableMappingError
from pyai_sessions.storage.protocol import Derive, Storage
from pyai_sessions.values.checks import kind_of

_EVICTING = {
    ("zict", "LRU"): "zict.Buffer({}, zict.File(directory), n), or the slow mapping itself",
    ("zict", "Sieve"): "the slow mapping itself",
    ("zict", "WeakValueMapping"): "a dict",
    ("cachetools", "Cache"): "a dict",
    ("weakref", "WeakValueDictionary"): "a dict",
    ("weakref", "WeakKeyDictionary"): "a dict",
}
"""Classes of mappings that drop items of their own accord, and what to use instead."""


def is_of(mapping: Any, family: str, name: str) -> bool:
    """Return whether a mapping is an instance of the class *name* of the package *family*, which is not imported."""
    return any((k.__module__.partition(".")[0], k.__name__) == (family, name) for k in type(mapping).__mro__)


def storage_of(  # noqa: PLR0911 (a table)
    mapping: Any, derive: Derive, *, shared: bool = False, timeout: float = 10.0
) -> Storage:
    """Return the storage for a mapping: that of its family, or else `MappingStorage`. A `Storage` is returned as it is.

    Raises:
        UnsuitableMappingError: It cannot keep documents safely; the error says what can.

    """
    if isinstance(mapping, Storage):
        return mapping
    for kind in type(mapping).__mro__:
        family, name = kind.__module__.partition(".")[0], kind.__name__
        if (family, name) in _EVICTING:
            use = _EVICTING[family, name]
            msg = f"a {family}.{name} drops items of its own accord, so sessions would vanish; use {use}"
            raise UnsuitableMappingError(msg)
        if (family, name) == ("pyai_sessions", "SQLiteMapping"):
            from pyai_sessions.storage.sqlite.storage import SQLiteStorage

            return SQLiteStorage(mapping.connections, mapping.table, derive, owned=False)
        if (family, name) == ("sqlitedict", "SqliteDict") and mapping.filename not in (":memory:", ""):
            from pyai_sessions.storage.sqlite import sqlitedict

            return sqlitedict.storage_of(mapping, derive, timeout=timeout)
        if family in ("diskcache", "diskcache_community") and name in ("Cache", "Index", "FanoutCache", "Deque"):
            from pyai_sessions.storage.sqlite import diskcache

            return diskcache.storage_of(mapping, derive, timeout=timeout)
        if (family, name) == ("pyai_sessions", "RedisMapping"):
            from pyai_sessions.storage.redis.cluster import ClusterStorage
            from pyai_sessions.storage.redis.storage import RedisStorage

            if mapping.server.clustered:
                return ClusterStorage(mapping, timeout=timeout, derive=derive)
            return RedisStorage(mapping, timeout=timeout)
        if (family, name) == ("shelve", "Shelf"):
            from pyai_sessions.storage.mapping import MappingStorage

            # Documents go to its file directly: the shelf itself would unpickle whatever it reads.
            documents = cast("Any", _ShelfFile(mapping))
            return MappingStorage(
                mapping, derive=derive, shared=shared, timeout=timeout, documents=documents, binary=True
            )
    _check_mapping(mapping)
    from pyai_sessions.storage.mapping import MappingStorage

    return MappingStorage(mapping, derive=derive, shared=shared, timeout=timeout)


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
    """Return whether a mapping gives a value for a missing key, as a defaultdict and a Counter do."""
    make: Any = getattr(cast("Any", type(mapping)), "__missing__", None)
    if make is None:
        return False
    try:
        make(mapping, "")
    except LookupError:
        return False
    except Exception:  # noqa: BLE001 (a factory of values may raise anything)
        return True
    with suppress(LookupError):
        del mapping[""]  # if the mapping kept the value
    return True


class _ShelfFile:
    """The dbm file of a shelf, as a mapping whose keys are text."""

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
