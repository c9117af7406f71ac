"""Directories of diskcache: the table in their file ``cache.db``, on connections of our own.

diskcache itself unpickles what it reads (CVE-2025-69872), waits forever in ``index[key] = value``, and moves values of
32 KiB and more to files that a killed process loses. Documents written here are text inside the table, in diskcache's
own form: ``index["session/<id>"]`` reads them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, cast

from pyai_sessions.errors import InvalidValueError, StorageCorruptError, StorageError, UnsuitableMappingError
from pyai_sessions.storage.protocol import Derive
from pyai_sessions.storage.sqlite.backup import copy_directory
from pyai_sessions.storage.sqlite.connections import LARGEST, OPEN_FILE, Connections, until_unlocked
from pyai_sessions.storage.sqlite.files import (
    FAILURES,
    check_folder,
    creating,
    full_path,
    make_folders,
    make_private,
    refused,
    storage_error,
)
from pyai_sessions.storage.sqlite.storage import SQLiteStorage
from pyai_sessions.storage.sqlite.tables import Null, Table, run
from pyai_sessions.values.checks import AnyPath

_MODE_RAW, _MODE_BINARY, _MODE_TEXT = 1, 2, 3
"""How the value of a row is read; so numbered in diskcache.core."""


class Kept(NamedTuple):
    """Stands for a value that is not read: a pickle, or one whose file is missing. It cannot be read as a document.

    It holds the value, mode, file and size of the row, so that it can be written unchanged under another key.
    """

    value: object
    mode: object
    filename: object
    size: object

    def __repr__(self) -> str:
        return "<a value that is not read>"


class CacheTable(Table):
    """diskcache's table ``Cache``. Keys of text are ``raw``; values of text have mode 1, and 3 if they lie in files."""

    def __init__(self, directory: str) -> None:
        now = "CAST(strftime('%s', 'now') AS REAL)"
        super().__init__(
            "Cache",
            unique="key, raw",
            fit="raw = 1 AND ",
            more=", mode, filename, size",
            insert=(", raw, store_time, access_time, access_count, size, mode", f", 1, {now}, {now}, 0, 0, 1"),
            # If another tool gave the row a time to live, diskcache would remove the document with it.
            inline=f", mode = 1, size = 0, filename = NULL, expire_time = NULL, store_time = {now}",
        )
        self.lists = "pyai_sessions/lists"
        self._directory = directory
        self._keep = (
            "INSERT INTO Cache (key, value, mode, filename, size, raw, store_time, access_time, access_count) "
            f"VALUES (?, ?, ?, ?, ?, 1, {now}, {now}, 0) ON CONFLICT (key, raw) DO UPDATE SET value = excluded.value, "
            "mode = excluded.mode, filename = excluded.filename, size = excluded.size"
        )

    def value(self, row: Sequence[Any]) -> object:
        """Return the document of a row: text as bytes, from the row or from diskcache's file; a pickle as `Kept`."""
        _, value, mode, name, size = row
        if mode == _MODE_RAW:
            return Null() if value is None else value
        if mode in (_MODE_BINARY, _MODE_TEXT) and isinstance(name, str):
            with suppress(OSError, ValueError):
                file = self._open(name)
                if file is not None:
                    with file:
                        return file.read()
        return Kept(value, mode, name, size)

    def put(self, connection: sqlite3.Connection, documents: Sequence[tuple[str, object]]) -> int:
        """Write documents, and values that were not read."""
        kept = [(key, *each) for key, each in documents if isinstance(each, Kept)]
        plain = [(key, each) for key, each in documents if not isinstance(each, Kept)] if kept else documents
        return run(connection, self._keep, kept) + super().put(connection, plain)

    def backup(self, connections: Connections, path: AnyPath, *, overwrite: bool) -> None:
        """Copy the directory: the table, and the values that diskcache put into files."""
        copy_directory(connections, path, self._values, overwrite=overwrite)

    def _values(self, connection: sqlite3.Connection) -> Iterator[tuple[str, BinaryIO | None]]:
        query = "SELECT DISTINCT filename FROM Cache WHERE filename IS NOT NULL"
        names = [name for (name,) in connection.execute(query).fetchall() if isinstance(name, str)]
        for name in sorted(set(map(os.path.normpath, names))):
            try:
                file = self._open(name)
            except FileNotFoundError:  # noqa: PERF203 (a file takes longer)
                yield name, None
            except OSError as err:
                raise refused(os.path.join(self._directory, name), err, "opened") from err
            else:
                if file is not None:
                    with file:
                        yield name, file

    def _open(self, name: str) -> BinaryIO | None:
        """Open the file of a value. Return None if diskcache cannot have written it: the name may be planted.

        Such are names that lead out of the directory or to ``cache.db``, pipes, folders, and files larger than a value.
        """
        top = os.path.normpath(name).partition(os.sep)[0]
        if "\0" in name or os.path.isabs(name) or top == ".." or top.startswith("cache.db"):
            return None
        path, directory = os.path.realpath(os.path.join(self._directory, name)), os.path.realpath(self._directory)
        if os.path.commonpath([path, directory]) != directory:
            return None
        try:
            opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as err:
            if err.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                return None
            raise
        found = os.fstat(opened)
        if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST:
            return open(opened, "rb")
        os.close(opened)
        return None


def storage_of(mapping: Any, derive: Derive, *, timeout: float = 10.0) -> SQLiteStorage:
    """Return the storage of a diskcache Index or Cache, or of the community fork's.

    Raises:
        UnsuitableMappingError: It may lose items.

    """
    cache = getattr(mapping, "cache", mapping)
    opened = f"{type(mapping).__module__.partition('.')[0]}.Index(directory)"
    kinds = {kind.__name__ for kind in type(mapping).__mro__}
    if not kinds & {"Cache", "Index"} or not hasattr(cache, "directory"):
        msg = f"a diskcache.{type(mapping).__name__} cannot keep sessions; open the directory as {opened}"
        raise UnsuitableMappingError(msg)
    if cache.eviction_policy != "none":
        msg = (
            f"this diskcache evicts items at {cache.size_limit} bytes ({cache.eviction_policy!r}), so sessions would "
            f"vanish; open it as {opened}, or as Cache(directory, eviction_policy='none')"
        )
        raise UnsuitableMappingError(msg)
    if type(cache.disk).__name__ != "Disk":
        msg = f"this diskcache has a {type(cache.disk).__name__}, which sessions would bypass; open it as {opened}"
        raise UnsuitableMappingError(msg)
    synchronous = {"0": "OFF", "1": "NORMAL", "3": "EXTRA"}.get(str(cache.sqlite_synchronous), "FULL")
    directory = _directory_of(cache)
    connections = Connections(os.path.join(directory, "cache.db"), timeout=timeout, synchronous=synchronous)
    return SQLiteStorage(connections, CacheTable(directory), derive, owned=True)


def _directory_of(cache: Any) -> str:
    """Return the directory of a cache, even if its path is relative and the current folder has changed.

    A cache has a connection for each thread. In a thread without one, a relative path means what it means now.
    """
    directory: str = os.path.abspath(cache.directory)
    if not os.path.isabs(cache.directory):
        ours = getattr(getattr(cache, "_local", None), "con", None)
        if ours is not None:
            (file,) = ours.execute(OPEN_FILE).fetchone()
            return os.path.dirname(os.fsdecode(cast("bytes", file)))
        if not os.path.exists(os.path.join(directory, "cache.db")):
            opened = f"{type(cache).__module__.partition('.')[0]}.Index(os.path.abspath(directory))"
            msg = f"this diskcache has a relative path, and the current folder is another by now; open it as {opened}"
            raise UnsuitableMappingError(msg)
    return directory


def open_index(directory: AnyPath, timeout: float) -> Any:
    """Return a diskcache.Index of a directory, which is made for this user alone if absent.

    Raises:
        StorageLockedError: Another process held the lock of the file for *timeout* seconds.

    """
    import diskcache

    path = full_path(directory, "directory", "'sessions', or '~/sessions'", folder=True)
    if os.path.expandvars(path) != path:
        problem = (
            "holds a '$' and the name of an environment variable, which diskcache would replace; choose another name"
        )
        raise InvalidValueError("directory", problem)
    if os.path.lexists(path):
        check_folder(path, "give the path of a folder; SQLiteSessionStore(path) opens an SQLite file")
    with creating(path):
        make_folders(path)
    file = os.path.join(path, "cache.db")
    make_private(file)
    try:
        cache = _patient(diskcache.Cache, file, timeout)(path, timeout, eviction_policy="none")
        index: Any = cast("Any", diskcache.Index).fromcache(cache)
    except StorageError:
        raise
    except FAILURES as err:
        raise storage_error(file, err) from err
    except OSError as err:
        raise refused(path, err, "opened") from err
    except (TypeError, ValueError, LookupError, AttributeError) as err:
        raise StorageCorruptError(path, f"its settings are none of diskcache's ({type(err).__name__})") from err
    return index


def _patient(kind: Any, path: str, timeout: float) -> Any:
    """Return a class of caches that wait *timeout* seconds for the lock while they open; diskcache waits 60 seconds."""

    def sql_retry(self: Any) -> Any:
        run = self._sql

        def execute(statement: str, *arguments: Any, **options: Any) -> Any:
            try:
                return until_unlocked(lambda: run(statement, *arguments, **options), timeout)
            except sqlite3.OperationalError as err:
                if "locked" in str(err):
                    raise storage_error(path, err) from err  # diskcache would catch sqlite3's error and try again
                raise

        return execute

    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "_sql_retry": property(sql_retry)})
