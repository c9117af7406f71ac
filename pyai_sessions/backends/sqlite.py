"""SQLite: SqliteDict's table and file format, on synchronous connections of our own.

A plain SqliteDict works through a thread that hides errors until another call, hangs after a fork and unpickles what it
reads. So whichever SqliteDict is given, its file is opened again here: a save is one transaction in the calling thread,
readers do not wait for one another, and nothing is unpickled. diskcache keeps its items in SQLite as well: the same
backend serves it, by another `Table`.
"""

# sqlitedict has no type hints:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlitedict import SqliteDict
from sqlitedict import encode as pickling_encode

from pyai_sessions.backends.protocol import Backend, Position
from pyai_sessions.documents import (
    Draft,
    Entry,
    aside_key,
    decode_id,
    encode_id,
    head_key,
    page_prefix,
    read_head,
    session_of_key,
)
from pyai_sessions.errors import (
    InvalidDocumentError,
    InvalidValueError,
    StorageClosedError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.models import SessionStatus

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_BATCH = 500
"""Values in one statement; SQLite allows 999 parameters at the least."""


class Connections:
    """Connections to one SQLite file: as many as threads use at the same time, each used by one at a time.

    After a fork the child opens its own; the parent's are left alone, since closing them would drop the parent's locks.

    Args:
        path: The file, or ``":memory:"``: then all threads take turns on one connection.
        timeout: Seconds to wait for other writers.
        synchronous: SQLite's pragma: whether a commit survives a power cut (FULL) or a killed process (NORMAL).
        wal: Whether to put the file into WAL mode. That stays in the file.
        read_only: Whether to open the file for reading alone.

    """

    connections: Connections

    def __init__(
        self, path: str, *, timeout: float, synchronous: str, wal: bool = False, read_only: bool = False
    ) -> None:
        self.path = path
        self.timeout = timeout
        self.synchronous = synchronous
        self.read_only = read_only
        self._wal = wal
        self._memory = path == ":memory:"
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer = threading.Lock()  # first come, first served; SQLite's own wait polls
        self._only = threading.Lock()  # for the one connection of a database in memory
        self._mine = threading.local()  # the connection of this thread's open transaction

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection, None, None]:
        """Lend a connection. Inside `writing` it is the transaction's own."""
        mine = getattr(self._mine, "connection", None)
        if mine is not None and self._pid == os.getpid():
            yield mine
            return
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as err:
            raise storage_error(self.path, err) from err
        finally:
            self._give(connection)

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection, None, None]:
        """Lend a connection inside a transaction that other writers wait for; commit it, or undo it on an error."""
        mine = getattr(self._mine, "connection", None)
        if mine is not None and self._pid == os.getpid():
            yield mine
            return
        connection = self._take()
        writer, begun = self._writer, False
        if not writer.acquire(timeout=self.timeout):
            self._give(connection)
            raise StorageLockedError(self.path, f"other threads wrote for {self.timeout} s")
        try:
            connection.execute("BEGIN IMMEDIATE")
            begun = True
            self._mine.connection = connection
            try:
                yield connection
            finally:
                self._mine.connection = None
            connection.execute("COMMIT")
            begun = False
        except sqlite3.Error as err:
            raise storage_error(self.path, err) from err
        finally:
            if begun and connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            writer.release()
            self._give(connection)

    def close(self) -> None:
        """Close the idle connections; one in use is closed by its user's return."""
        self._closed = True
        if self._pid == os.getpid():
            self._drain()

    def _drain(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _take(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            self._forked = self._idle  # kept, so that they are not closed
            self._start()
        if self._closed:
            raise StorageClosedError(self.path, "the store was closed")
        if self._memory and not self._only.acquire(timeout=self.timeout):
            raise StorageLockedError(self.path, f"other threads used it for {self.timeout} s")
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._open()
        except BaseException:
            if self._memory:
                self._only.release()
            raise

    def _give(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:  # its rollback failed
            connection.close()
        else:
            self._idle.append(connection)
        if self._memory:
            self._only.release()
        if self._closed:
            self._drain()

    def _open(self) -> sqlite3.Connection:
        try:
            name = f"file:{_uri(self.path)}?mode=ro" if self.read_only else self.path
            connection = sqlite3.connect(
                name, timeout=self.timeout, isolation_level=None, check_same_thread=False, uri=self.read_only
            )
        except sqlite3.Error as err:
            raise storage_error(self.path, err) from err
        try:
            if self._wal:
                self._enter_wal(connection)
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
        except sqlite3.Error as err:
            connection.close()
            raise storage_error(self.path, err) from err
        return connection

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite does not wait for the lock that this needs: two processes that open a new file at once would fail.
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as err:  # noqa: PERF203 (it waits)
                if "locked" not in str(err) or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return


def _uri(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def storage_error(path: str, err: sqlite3.Error) -> StorageError:
    """Return the StorageError that says what an SQLite error means (codes: sqlite.org/rescode.html)."""
    problem = str(err)
    kinds: list[tuple[type[StorageError], tuple[str, ...]]] = [
        (StorageLockedError, ("database is locked", "database table is locked", "database schema is locked")),
        (StorageFullError, ("database or disk is full",)),
        (StorageReadOnlyError, ("attempt to write a readonly database", "access permission denied")),
        (
            StorageCorruptError,
            ("database disk image is malformed", "file is not a database", "malformed database schema"),
        ),
        (StorageUnreachableError, ("unable to open database file", "disk I/O error")),
        (StorageClosedError, ("Cannot operate on a closed database",)),
    ]
    for kind, texts in kinds:
        if problem.startswith(texts):
            return kind(path, problem)
    return StorageError(path, f"{type(err).__name__}: {problem}")


# The mapping ------------------------------------------------------------------------------------------------------


class SQLiteMapping(SqliteDict):  # type: ignore[misc]  # sqlitedict has no type hints
    """A SqliteDict of text whose statements run in the calling thread: errors come from the call that failed.

    Any SqliteDict with ``encode=str, decode=str`` opens the same file and table.

    Args:
        path: The file; it and its folders are made if absent, for this user alone (0600, 0700).
        table_name: The table.
        synchronous: ``"FULL"``: what a save returned for survives a power cut. ``"NORMAL"``: a killed process; faster.
        timeout: Seconds to wait for other writers.

    >>> mapping = SQLiteMapping(":memory:")
    >>> mapping["greeting"] = "hello"
    >>> mapping["greeting"]
    'hello'

    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        table_name: str = "sessions",
        *,
        synchronous: str = "FULL",
        timeout: float = 10.0,
    ) -> None:
        name = os.fspath(path)
        if not isinstance(name, str) or not name:
            raise InvalidValueError("path", f"is {path!r}; it is the path of a file, or ':memory:'")
        if not isinstance(table_name, str) or not table_name or "\0" in table_name or table_name.startswith("sqlite_"):
            raise InvalidValueError("table_name", f"is {table_name!r}; it is text that does not begin with 'sqlite_'")
        if synchronous not in SYNCHRONOUS:
            raise InvalidValueError("synchronous", f"is {synchronous!r}; it is one of {', '.join(SYNCHRONOUS)}")
        if name != ":memory:":
            name = os.path.abspath(name)
            _make_private(name)
        self.connections = Connections(name, timeout=timeout, synchronous=synchronous, wal=name != ":memory:")
        try:
            super().__init__(name, tablename=table_name, autocommit=True, encode=_text, decode=_from_text)
        except BaseException:
            self.connections.close()
            raise

    def _new_conn(self) -> Any:
        return _SynchronousConnection(self.connections)

    def __setitem__(self, key: str, value: str) -> None:
        if not isinstance(key, str):
            raise InvalidValueError("key", f"is a {type(key).__name__}; it is text")
        super().__setitem__(key, value)


class _SynchronousConnection:
    """What SqliteDict asks of its worker thread, done at once in the calling thread."""

    autocommit = True

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def execute(self, request: str, arguments: Sequence[Any] = (), result: object = None) -> None:  # noqa: ARG002
        with self._connections.writing() as connection:
            connection.execute(request, arguments)

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
        raise InvalidValueError("value", f"is a {type(value).__name__}; this mapping holds text")
    return value


def _from_text(value: object) -> object:
    return value


def _make_private(path: str) -> None:
    """Make a file that only this user may read, and its folders, unless they are there."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as err:
        kind = StorageReadOnlyError if isinstance(err, PermissionError) or err.errno == 30 else StorageUnreachableError  # noqa: PLR2004 (EROFS)
        raise kind(path, f"it cannot be created: {err.strerror}") from err


def connections_of(mapping: SqliteDict, timeout: float) -> tuple[Connections, bool]:
    """Return connections to the file of a SqliteDict, and whether they are ours to close."""
    if isinstance(mapping, SQLiteMapping):
        return mapping.connections, False
    _check_codec(mapping)
    return (
        Connections(
            os.path.abspath(str(mapping.filename)), timeout=timeout, synchronous="FULL", read_only=mapping.flag == "r"
        ),
        True,
    )


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


# The backend ------------------------------------------------------------------------------------------------------


class Table:
    """The SQL by which a key and its text lie in a table: SqliteDict's columns are ``key`` and ``value``.

    `select` yields the value and, where a value can lie outside the table, what `Table.value` needs to fetch it.
    """

    def __init__(self, name: str) -> None:
        quoted = '"' + name.replace('"', '""') + '"'
        self.index = '"' + f"{name}/index".replace('"', '""') + '"'
        self.exists = f"SELECT 1 FROM {quoted} WHERE key >= 'session/' AND key < 'session0' LIMIT 1"
        self.keys = f"SELECT key FROM {quoted} WHERE key > ? ORDER BY key LIMIT {_BATCH}"
        self.select = f"SELECT value FROM {quoted} WHERE key = ?"
        self.select_many = f"SELECT key, value FROM {quoted} WHERE key IN "
        self.prefix = f"SELECT substr(CAST(value AS TEXT), 1, ?) FROM {quoted} WHERE key = ?"
        self.insert = f"INSERT OR IGNORE INTO {quoted} (key, value) VALUES (?, ?)"
        self.update = f"UPDATE {quoted} SET value = ?1 WHERE key = ?2 AND substr(CAST(value AS TEXT), 1, ?4) = ?3"
        self.put = f"REPLACE INTO {quoted} (key, value) VALUES (?, ?)"
        self.rename = f"UPDATE {quoted} SET key = ? WHERE key = ?"
        self.delete = f"DELETE FROM {quoted} WHERE key = ?"
        self.delete_head = f"DELETE FROM {quoted} WHERE key = ?1 AND substr(CAST(value AS TEXT), 1, ?3) = ?2"
        self.delete_range = f"DELETE FROM {quoted} WHERE key >= ? AND key < ?"

    def value(self, row: Sequence[Any]) -> object:
        """Return the text of a selected row."""
        value: object = row[0]
        return value

    def new(self, key: str, text: str) -> tuple[object, ...]:
        """Return the parameters of `insert` and `put`."""
        return key, text


class SQLiteBackend(Backend):
    """Sessions in a table of an SQLite file, with an index table beside it.

    *alive* tells whether the caller's own mapping is still open.
    """

    def __init__(self, connections: Connections, table: Table, *, owned: bool, alive: Callable[[], bool]) -> None:
        self._connections = connections
        self._table = table
        self._owned = owned
        self._alive = alive
        self._ready = False
        self._closed = False
        index = table.index
        self._put_index = f"REPLACE INTO {index} (id, user, status, activity) VALUES (?, ?, ?, ?)"
        self._drop_index = f"DELETE FROM {index} WHERE id = ?"
        self._drop_exact = f"DELETE FROM {index} WHERE id = ? AND user IS ? AND status = ? AND activity = ?"

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        self._check_open()
        with self._connections.reading() as connection:
            row = connection.execute(self._table.select, (head_key(session_id),)).fetchone()
            return None if row is None else self._table.value(row)

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        return self._read_keys([head_key(each) for each in session_ids])

    def read_pages(self, session_id: str, keys: Sequence[str]) -> list[object | None]:  # noqa: ARG002, D102
        return self._read_keys(keys)

    def _read_keys(self, keys: Sequence[str]) -> list[object | None]:
        self._check_open()
        found: dict[str, object] = {}
        with self._connections.reading() as connection:
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                for key, *row in connection.execute(f"{self._table.select_many}({marks})", batch):
                    found[key] = self._table.value(row)
        return [found.get(key) for key in keys]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        self._check_open()
        last = ""
        while True:  # in batches, so that no read transaction stays open between them
            with self._connections.reading() as connection:
                batch = [row[0] for row in connection.execute(self._table.keys, (last,)) if isinstance(row[0], str)]
            if not batch:
                return
            yield from batch
            last = batch[-1]

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft, expected: str | None, previous: Entry | None) -> bool:  # noqa: ARG002, D102
        key, table = head_key(draft.session_id), self._table
        with self._writing() as connection:
            if expected is None:
                changed = connection.execute(table.insert, table.new(key, draft.head)).rowcount
            else:
                changed = connection.execute(table.update, (draft.head, key, expected, len(expected))).rowcount
            if not changed:
                row = connection.execute(table.prefix, (len(draft.stamp), key)).fetchone()
                return row is not None and bool(row[0] == draft.stamp)
            if draft.pages:
                connection.executemany(table.put, [table.new(*page) for page in draft.pages.items()])
            if draft.garbage:
                connection.executemany(table.delete, [(each,) for each in draft.garbage])
            connection.execute(self._put_index, _index_row(draft.entry))
        return True

    def remove(self, session_id: str, expected: str | None, keys: Sequence[str], previous: Entry | None) -> bool:  # noqa: ARG002, D102
        prefix = page_prefix(session_id)
        with self._writing() as connection:
            key = head_key(session_id)
            if expected is None:
                connection.execute(self._table.delete, (key,))
            elif not connection.execute(self._table.delete_head, (key, expected, len(expected))).rowcount:
                return False
            connection.execute(self._table.delete_range, (prefix, prefix[:-1] + "0"))  # "0" follows "/"
            connection.execute(self._drop_index, (encode_id(session_id),))
        return True

    def remove_pages(self, session_id: str, keys: Sequence[str]) -> None:  # noqa: ARG002, D102
        with self._writing() as connection:
            connection.executemany(self._table.delete, [(each,) for each in keys])

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: ARG002, D102
        with self._writing() as connection:
            connection.executemany(self._table.rename, [(aside_key(key, token), key) for key in keys])

    @contextmanager
    def exclusive(self, session_id: str) -> Generator[None, None, None]:  # noqa: ARG002, D102
        with self._writing():
            yield

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        where, parameters = self._one_index(status, user_id)
        if after is not None:
            where += f" AND (activity, id) {'<' if newest_first else '>'} (?, ?)"
            parameters += (after[0], encode_id(after[1]))
        order = "DESC" if newest_first else "ASC"
        query = (
            f"SELECT activity, id FROM {self._table.index} WHERE {where} ORDER BY activity {order}, id {order} LIMIT ?"
        )
        with self._indexed() as connection:
            rows = connection.execute(query, (*parameters, limit)).fetchall()
        return [(activity, session_id) for activity, name in rows if (session_id := decode_id(name)) is not None]

    def count(self, status: SessionStatus, user_id: str | None) -> int:  # noqa: D102
        where, parameters = self._one_index(status, user_id)
        with self._indexed() as connection:
            return int(
                connection.execute(f"SELECT COUNT(*) FROM {self._table.index} WHERE {where}", parameters).fetchone()[0]
            )

    @staticmethod
    def _one_index(status: SessionStatus, user_id: str | None) -> tuple[str, tuple[object, ...]]:
        if user_id is None:
            return "status = ?", (status.value,)
        return "user = ? AND status = ?", (encode_id(user_id), status.value)

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        last = ""
        query = f"SELECT id, user, status, activity FROM {self._table.index} WHERE id > ? ORDER BY id LIMIT {_BATCH}"
        while True:
            with self._indexed() as connection:
                rows = connection.execute(query, (last,)).fetchall()
            if not rows:
                return
            for name, user, status, activity in rows:
                session_id = decode_id(name)
                if session_id is not None:
                    yield Entry(session_id, None if user is None else decode_id(user), SessionStatus(status), activity)
            last = rows[-1][0]

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        with self._writing() as connection:
            row = connection.execute(self._table.prefix, (len(expected or "-"), head_key(session_id))).fetchone()
            if (None if row is None else row[0]) != expected:
                return False
            for each in stale:
                connection.execute(self._drop_exact, _index_row(each))
            if entry:
                connection.execute(self._put_index, _index_row(entry))
            return True

    def close(self) -> None:  # noqa: D102
        self._closed = True
        if self._owned:
            self._connections.close()

    # Below: the index table --------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed or not self._alive():
            raise StorageClosedError(self._connections.path, "the store or its mapping was closed")

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection, None, None]:
        self._check_open()
        if self._connections.read_only:
            raise StorageReadOnlyError(self._connections.path, "it was opened for reading alone")
        with self._connections.writing() as connection:
            if not self._ready:
                self._make_index(connection)
            yield connection
        self._ready = True

    @contextmanager
    def _indexed(self) -> Generator[sqlite3.Connection, None, None]:
        self._check_open()
        if not self._ready and not self._connections.read_only:
            with self._writing():
                pass
        with self._connections.reading() as connection:
            yield connection

    def _make_index(self, connection: sqlite3.Connection) -> None:
        index = self._table.index
        found = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (_unquoted(index),)
        ).fetchone()
        if found:
            return
        connection.execute(
            f"CREATE TABLE {index} (id TEXT PRIMARY KEY, user TEXT, status TEXT, activity INTEGER) WITHOUT ROWID"
        )
        for columns in ("status, activity, id", "user, status, activity, id"):
            name = f"{_unquoted(index)}/{columns.split(',')[0]}".replace('"', '""')
            connection.execute(f'CREATE INDEX "{name}" ON {index} ({columns})')
        if connection.execute(self._table.exists).fetchone():  # written before there was an index: by another tool
            last = ""
            while batch := [row[0] for row in connection.execute(self._table.keys, (last,)) if isinstance(row[0], str)]:
                for key in batch:
                    session_id = session_of_key(key)
                    if session_id is None or key != head_key(session_id):
                        continue
                    row = connection.execute(self._table.select, (key,)).fetchone()
                    with suppress(InvalidDocumentError):
                        connection.execute(
                            self._put_index, _index_row(read_head(self._table.value(row), session_id).entry)
                        )
                last = batch[-1]


def _index_row(entry: Entry) -> tuple[str, str | None, str, int]:
    user = None if entry.user_id is None else encode_id(entry.user_id)
    return encode_id(entry.session_id), user, entry.status.value, entry.activity


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"')


def backend_of(mapping: SqliteDict, timeout: float) -> Backend:
    """Return the backend of a SqliteDict."""
    connections, owned = connections_of(mapping, timeout)
    return SQLiteBackend(
        connections, Table(mapping.tablename.replace('""', '"')), owned=owned, alive=lambda: mapping.conn is not None
    )
