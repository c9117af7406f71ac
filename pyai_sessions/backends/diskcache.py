"""diskcache: its directory and table, on the synchronous connections of `pyai_sessions.backends.connections`.

diskcache itself unpickles what it reads (CVE-2025-69872), waits for ever in ``index[key] = value``, and moves values of
32 KiB and more to files that a killed process loses. Rows written here are text inside the table, in diskcache's own
form: ``index["session/<id>"]`` reads them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Sequence
from typing import Any, cast

from pyai_sessions.backends.connections import LARGEST, OPEN_FILE, Connections
from pyai_sessions.backends.files import (
    FAILURES,
    check_folder,
    creating,
    full_path,
    make_folders,
    make_private,
    refused,
    storage_error,
)
from pyai_sessions.backends.protocol import Backend
from pyai_sessions.backends.tables import Null, Table, TableBackend
from pyai_sessions.checks import AnyPath
from pyai_sessions.errors import InvalidValueError, StorageCorruptError, UnsuitableMappingError

# diskcache.core: how a row's value is to be read.
_MODE_RAW, _MODE_BINARY, _MODE_TEXT = 1, 2, 3


class CacheTable(Table):
    """diskcache's table ``Cache``: text keys are ``raw`` ones, text values have mode 1, or 3 in a file."""

    def __init__(self, directory: str) -> None:
        super().__init__("Cache")
        self._directory = directory
        value = "CAST(value AS BLOB), mode, filename"
        ours = "key = ?2 AND raw = 1 AND substr(CAST(value AS TEXT), 1, ?4) = ?3"
        self.index = '"pyai_sessions/index"'
        self.exists = "SELECT 1 FROM Cache WHERE key >= 'session/' AND key < 'session0' AND raw = 1 LIMIT 1"
        between = "key > ? AND key < ? AND raw = 1 AND typeof(key) = 'text'"
        self.keys = f"SELECT key FROM Cache WHERE {between} ORDER BY key LIMIT 500"
        self.there = "SELECT key FROM Cache WHERE raw = 1 AND key IN "
        self.select = f"SELECT {value} FROM Cache WHERE key = ? AND raw = 1"
        self.select_many = f"SELECT key, {value} FROM Cache WHERE raw = 1 AND key IN "
        self.select_whole = f"SELECT key, {value} FROM Cache WHERE raw = 1 AND (key = ? OR (key >= ? AND key < ?))"
        self.begins = "SELECT substr(CAST(value AS TEXT), 1, ?2) = ?3 FROM Cache WHERE key = ?1 AND raw = 1"
        columns = "(key, value, raw, store_time, access_time, access_count, size, mode)"
        now = "CAST(strftime('%s', 'now') AS REAL)"
        self.insert = f"INSERT OR IGNORE INTO Cache {columns} VALUES (?, CAST(? AS TEXT), 1, {now}, {now}, 0, 0, 1)"
        inline = "mode = 1, size = 0, filename = NULL"
        self.update = f"UPDATE Cache SET value = CAST(?1 AS TEXT), {inline}, store_time = {now} WHERE {ours}"
        # Not REPLACE: it would skip the triggers by which diskcache counts its rows.
        self.put = (
            self.insert.replace("OR IGNORE ", "")
            + f" ON CONFLICT (key, raw) DO UPDATE SET value = excluded.value, {inline}"
        )
        self.rename = "UPDATE Cache SET key = ? WHERE key = ? AND raw = 1"
        self.delete = "DELETE FROM Cache WHERE key = ? AND raw = 1"
        self.delete_head = "DELETE FROM Cache WHERE key = ?1 AND raw = 1 AND substr(CAST(value AS TEXT), 1, ?3) = ?2"
        self.delete_range = "DELETE FROM Cache WHERE key >= ? AND key < ? AND raw = 1"

    copied_by = "copy the directory, also while it is used, by: sqlite3 DIRECTORY/cache.db '.backup NEW/cache.db'"

    def value(self, row: Sequence[Any]) -> object:
        """Return the text of a row, from the file where diskcache put it; a pickle stays closed."""
        value, mode, filename = row
        if mode == _MODE_RAW:
            return Null() if value is None else value
        if mode in (_MODE_BINARY, _MODE_TEXT) and isinstance(filename, str):
            try:
                directory = os.path.realpath(self._directory)
                path = os.path.realpath(os.path.join(directory, filename))
                if os.path.commonpath([path, directory]) == directory:
                    return _read_file(path)
            except (OSError, ValueError):
                return _Lost()
        return _Pickled()

    def bring_in(self, connection: sqlite3.Connection, key: str) -> bool:
        """Put the text of a file, which another tool made of a large value, into the table; return whether it did."""
        row = connection.execute(self.select, (key,)).fetchone()
        text = self.value(row) if row and row[2] is not None else None
        if not isinstance(text, bytes):
            return False
        query = (
            "UPDATE Cache SET value = CAST(? AS TEXT), mode = 1, size = 0, filename = NULL WHERE key = ? AND raw = 1"
        )
        connection.execute(query, (text, key))
        return True


def _read_file(path: str) -> object:
    """Return what a file holds; never wait, as for a pipe, and never hold more than a value may have."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        found = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST else _Lost()


class _Lost:
    """Stands for a value whose file is gone; reading it as a document fails."""


class _Pickled:
    """Stands for a stored pickle, which is never opened; reading it as a document fails."""


def backend_of(mapping: Any, timeout: float, under: str = "") -> Backend:
    """Return the backend of a diskcache Index or Cache, or of the community fork's; refuse what may lose items."""
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
    return TableBackend(connections, CacheTable(directory), owned=True, alive=lambda: True, under=under)


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
