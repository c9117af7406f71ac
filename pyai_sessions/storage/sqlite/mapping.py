"""SqliteDict's table in an SQLite file, on synchronous connections of our own.

A plain SqliteDict works through a thread that hides errors until another call, hangs after a fork and unpickles what it
reads. So whichever SqliteDict is given, its file is opened again here: a save is one transaction in the calling thread,
readers do not wait for one another, and nothing is unpickled.
"""

# sqlitedict has no type hints:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from queue import Empty, Queue
from typing import Any

from sqlitedict import SqliteDict
from sqlitedict import encode as pickling_encode

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import (
    InvalidValueError,
    StorageClosedError,
    StorageLockedError,
    StorageReadOnlyError,
    UnsuitableMappingError,
)
from pyai_sessions.storage.protocol import Derive
from pyai_sessions.storage.sqlite.connections import OPEN_FILE, Connections
from pyai_sessions.storage.sqlite.files import check_is_there, full_path, make_private, storage_error
from pyai_sessions.storage.sqlite.storage import SQLiteStorage
from pyai_sessions.storage.sqlite.tables import Table
from pyai_sessions.values.checks import AnyPath, check_timeout, is_utf8, kind_of, shown

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def _is_name(value: object) -> bool:
    """Return whether a table can have this name."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or "\0" in value:
        return False
    return is_utf8(value) and not value.startswith("sqlite_")


_LONGEST_NAME = 1000


class SQLiteMapping(OfOneProcess, SqliteDict):  # type: ignore[misc]  # sqlitedict has no type hints
    """A SqliteDict of text whose statements run in the calling thread: errors come from the call that failed.

    Any SqliteDict with ``encode=str, decode=str`` opens the same file and table; give it ``journal_mode="WAL"``, since
    its default leaves that mode, for which it wants the file for itself.

    Args:
        path: The file, or ``":memory:"``; ``~`` is the home folder. It and its folders are made if absent, for this
            user alone (0600, 0700).
        table_name: The table.
        synchronous: ``"FULL"``: what a save returned for survives a power cut. ``"NORMAL"``: a killed process; faster.
        timeout: Seconds to wait for other writers.
        read_only: Whether to open a file that is there for reading alone, also on a disk that is read-only.

    >>> mapping = SQLiteMapping(":memory:")
    >>> mapping["greeting"] = "hello"
    >>> mapping["greeting"]
    'hello'

    """

    def __init__(
        self,
        path: AnyPath,
        table_name: str = "sessions",
        *,
        synchronous: str = "FULL",
        timeout: float = 10.0,
        read_only: bool = False,
    ) -> None:
        if not isinstance(path, str) or path != ":memory:":
            path = full_path(path, "path", "'chat.db', '~/chat.db', or ':memory:'")
        if isinstance(table_name, str) and "/lists" in table_name.lower():
            raise InvalidValueError("table_name", f"is {table_name!r}; a name with '/lists' is that of a store's lists")
        if not _is_name(table_name):
            problem = f"is {shown(table_name)}; it is text in UTF-8 that does not begin with 'sqlite_'"
            raise InvalidValueError("table_name", problem)
        if synchronous not in SYNCHRONOUS:
            raise InvalidValueError("synchronous", f"is {shown(synchronous)}; it is one of {', '.join(SYNCHRONOUS)}")
        check_timeout(timeout)
        if not isinstance(read_only, bool):
            raise InvalidValueError("read_only", f"is {shown(read_only)}; it is True or False")
        in_file = path != ":memory:"
        if read_only and not in_file:
            raise InvalidValueError("read_only", "is given of ':memory:', which holds nothing to read")
        if read_only:
            check_is_there(path)
        elif in_file:
            make_private(path)
        self.connections = Connections(
            path, timeout=timeout, synchronous=synchronous, wal=in_file and not read_only, read_only=read_only
        )
        try:
            super().__init__(path, tablename=table_name, autocommit=True, encode=_text, decode=_from_text)
        except BaseException:
            self.connections.close()
            raise

    def _new_conn(self) -> Any:
        return _SynchronousConnection(self.connections, table_of(self))

    def close(self, do_log: bool = True, force: bool = False) -> None:  # noqa: FBT001, FBT002 (SqliteDict's signature)
        """Close the file. Calls after this raise StorageClosedError."""
        super().close(do_log, force)
        self.conn = self._new_conn()  # of closed connections, which say so; SqliteDict leaves None

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(key, str):
            raise InvalidValueError("key", f"is {kind_of(key)}; it is text")
        super().__setitem__(key, value)


class _SynchronousConnection:
    """What SqliteDict asks of its worker thread, done at once in the calling thread."""

    autocommit = True

    def __init__(self, connections: Connections, table: str) -> None:
        self._connections = connections
        self._table = table

    def execute(self, request: str, arguments: Sequence[Any] = (), result: object = None) -> None:  # noqa: ARG002
        if request.startswith("CREATE TABLE IF NOT EXISTS"):
            if self._is_made():
                return  # which would wait for other writers
            if self._connections.read_only:
                problem = f"it has no table {self._table!r}, and was opened for reading alone"
                raise StorageReadOnlyError(self._connections.path, problem, "check the name, or open it for writing")
        with self._connections.writing() as connection:
            connection.execute(request, arguments)

    def _is_made(self) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)"
        return self.select_one(query, (self._table,)) is not None

    def executemany(self, request: str, items: Iterable[Sequence[Any]]) -> None:
        with self._connections.writing() as connection:
            connection.executemany(request, items)

    def select(self, request: str, arguments: Sequence[Any] = ()) -> Iterator[Any]:
        with self._connections.reading() as connection:
            return iter(connection.execute(request, arguments).fetchall())

    def select_one(self, request: str, arguments: Sequence[Any] = ()) -> Any:
        with self._connections.reading() as connection:
            return connection.execute(request, arguments).fetchone()

    def commit(self, blocking: bool = True) -> None:  # noqa: FBT001, FBT002 (SqliteDict's signature)
        """Do nothing: each statement was committed."""

    def close(self, force: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        self._connections.close()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidValueError("value", f"is {kind_of(value)}; this mapping holds text")
    return value


def _from_text(value: object) -> object:
    return value


def connections_of(mapping: SqliteDict, timeout: float) -> tuple[Connections, bool]:
    """Return connections to the file of a SqliteDict, and whether they are ours to close."""
    if isinstance(mapping, SQLiteMapping):
        return mapping.connections, False
    _check_codec(mapping)
    path = _file_of(mapping, timeout)
    # With a rollback journal, SqliteDict's default, a commit ends when the journal is removed. FULL does not flush the
    # folder after that: a power cut may bring the journal back, and SQLite would undo the commit. EXTRA flushes it.
    return Connections(path, timeout=timeout, synchronous="EXTRA", read_only=mapping.flag == "r"), True


def _file_of(mapping: SqliteDict, timeout: float) -> str:
    """Return the file that a SqliteDict has open: the current folder may be another than when it was opened.

    Waits until its thread has opened its connection: that fails for good where another is faster.
    """
    answer: Queue[Any] = Queue()
    try:
        worker: Any = mapping.conn
        worker.execute(OPEN_FILE, (), answer)
        row = answer.get(timeout=timeout)
        return os.fsdecode(row[0]) if isinstance(row, tuple) and row[0] else os.path.abspath(str(mapping.filename))
    except AttributeError as err:
        raise StorageClosedError(str(mapping.filename), "the SqliteDict was closed") from err
    except Empty as err:
        raise StorageLockedError(str(mapping.filename), f"the SqliteDict did not answer for {timeout} s") from err
    except sqlite3.Error as err:
        raise storage_error(str(mapping.filename), err) from err


def _check_codec(mapping: SqliteDict) -> None:
    """Raise unless documents can lie in the table as plain text beside what the SqliteDict's codec makes."""
    opened = "SqliteDict(path, encode=str, decode=str)"
    if mapping.encode_key("session/a") != "session/a":
        msg = f"this SqliteDict encodes its keys; sessions need them as they are: open it as {opened}"
        raise UnsuitableMappingError(msg)
    if mapping.encode is pickling_encode:
        return  # as it opens by default; our rows are text all the same, and its pickles are never read
    probe = '{"format":1}'
    try:
        plain = mapping.encode(probe) == probe or mapping.decode(probe) == {"format": 1}
    except Exception:  # noqa: BLE001 (a codec of the user's may raise anything)
        plain = False
    if not plain:
        msg = (
            "this SqliteDict has a codec of its own, which sessions would bypass: they are stored as JSON text. "
            f"Open it as {opened}"
        )
        raise UnsuitableMappingError(msg)


def storage_of(mapping: SqliteDict, derive: Derive, *, timeout: float = 10.0) -> SQLiteStorage:
    """Return the storage of a SqliteDict that has a file, or of a SQLiteMapping."""
    connections, owned = connections_of(mapping, timeout)
    return SQLiteStorage(
        connections, Table(table_of(mapping)), derive, owned=owned, alive=lambda: mapping.conn is not None
    )


def table_of(mapping: SqliteDict) -> str:
    """Return the name of a SqliteDict's table."""
    name: str = mapping.tablename.replace('""', '"')
    return name
