"""diskcache: its directory and table, on the synchronous connections of `pyai_sessions.storage.sqlite.connections`.

diskcache itself unpickles what it reads (CVE-2025-69872), waits for ever in ``index[key] = value``, and moves values of
32 KiB and more to files that a killed process loses. Rows written here are text inside the table, in diskcache's own
form: ``index["session/<id>"]`` reads them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from pyai_sessions.errors import InvalidValueError, StorageCorruptError, UnsuitableMappingError
from pyai_sessions.storage.protocol import Derive
from pyai_sessions.storage.sqlite.connections import LARGEST, OPEN_FILE, Connections
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

# diskcache.core: how a row's value is to be read.
_MODE_RAW, _MODE_BINARY, _MODE_TEXT = 1, 2, 3


class Kept(NamedTuple):
    """Stands for what is not read, a pickle or a value whose file is gone; reading it as a document fails.

    It is the row's value, mode, file and size: put under another key, it is there what it was.
    """

    value: object
    mode: object
    filename: object
    size: object

    def __repr__(self) -> str:
        return "<a value that is not read>"


class CacheTable(Table):
    """diskcache's table ``Cache``: text keys are ``raw`` ones, text values have mode 1, or 3 in a file."""

    copied_by = "copy the directory, also while it is used, by: sqlite3 DIRECTORY/cache.db '.backup NEW/cache.db'"

    def __init__(self, directory: str) -> None:
        now = "CAST(strftime('%s', 'now') AS REAL)"
        super().__init__(
            "Cache",
            unique="key, raw",
            fit="raw = 1 AND ",
            more=", mode, filename, size",
            insert=(", raw, store_time, access_time, access_count, size, mode", f", 1, {now}, {now}, 0, 0, 1"),
            # A row that another tool gave a time to live loses it: diskcache would remove the document with it.
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
        """Return the document of a row, from the file where diskcache put it; a pickle stays closed."""
        return value_of(self._directory, row)

    def put(self, connection: sqlite3.Connection, documents: Sequence[tuple[str, object]]) -> int:
        """Write documents, those too that were read as what they are not."""
        kept = [(key, *each) for key, each in documents if isinstance(each, Kept)]
        plain = [(key, each) for key, each in documents if not isinstance(each, Kept)] if kept else documents
        return run(connection, self._keep, kept) + super().put(connection, plain)


def value_of(directory: str, row: Sequence[Any]) -> object:
    """Return the value of a selected row: text as bytes, wherever it lies; never what would be unpickled."""
    _, value, mode, filename = row[:4]
    if mode == _MODE_RAW:
        return Null() if value is None else value
    if mode in (_MODE_BINARY, _MODE_TEXT) and isinstance(filename, str):
        with suppress(OSError, ValueError):
            directory = os.path.realpath(directory)
            path = os.path.realpath(os.path.join(directory, filename))
            if os.path.commonpath([path, directory]) == directory and (text := _read_file(path)) is not None:
                return text
    return Kept(value, mode, filename, row[4] if len(row) > 4 else 0)  # noqa: PLR2004


def _read_file(path: str) -> bytes | None:
    """Return what a file holds; never wait, as for a pipe, and never hold more than a value may have."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST else None


def storage_of(mapping: Any, derive: Derive, *, timeout: float = 10.0) -> SQLiteStorage:
    """Return the storage of a diskcache Index or Cache, or of the community fork's; refuse what may lose items."""
    connections, directory = connections_of(mapping, timeout)
    return SQLiteStorage(connections, CacheTable(directory), derive, owned=True)


def connections_of(mapping: Any, timeout: float) -> tuple[Connections, str]:
    """Return connections to the file of a diskcache Index or Cache, and the directory; refuse what may lose items."""
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
    return connections, directory


def _directory_of(cache: Any) -> str:
    """Return the directory that a cache has open: the current folder may be another than when it was opened.

    diskcache has a connection for each thread. In a thread without one, a relative path means what it does there.
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


def open_index(directory: AnyPath) -> Any:
    """Return a diskcache.Index on a directory, made for this user alone if absent."""
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
        return diskcache.Index(path)
    except FAILURES as err:
        raise storage_error(file, err) from err
    except OSError as err:
        raise refused(path, err, "opened") from err
    except (TypeError, ValueError, LookupError, AttributeError) as err:
        raise StorageCorruptError(path, f"its settings are none of diskcache's ({type(err).__name__})") from err
