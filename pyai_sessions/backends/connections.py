"""Connections to an SQLite file: synchronous, one thread at a time each, their errors told apart."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pyai_sessions.errors import (
    StorageClosedError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageMovedError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.processes import process_id


class _ForkGate:
    """Lets a fork wait until no connection is in use.

    A child inherits SQLite's table of the locks that this process holds, though the threads that would release them are
    not there: a fork in the middle of another thread's transaction would lock the child out of the file for good.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._forking = threading.Lock()
        self._closed = False
        self._lent: dict[int, int] = {}  # how many connections by thread, each of which writes its own number alone

    def enter(self) -> None:
        me = threading.get_ident()
        while True:  # without a lock, for which all threads would wait at each statement
            self._lent[me] = self._lent.get(me, 0) + 1
            if not self._closed or self._lent[me] > 1:
                return
            self.leave()
            with self._forking:
                pass

    def leave(self) -> None:
        me = threading.get_ident()
        left = self._lent.get(me, 0) - 1
        if left > 0:
            self._lent[me] = left
        else:  # also in a child that was forked meanwhile
            self._lent.pop(me, None)

    def close(self) -> None:
        deadline = time.monotonic() + _FORK_PATIENCE
        self._forking.acquire()
        self._closed = True
        while set(self._lent) - {threading.get_ident()} and time.monotonic() < deadline:
            time.sleep(0.0005)  # polled: to fork is rare, to enter is not

    def open(self) -> None:
        self._closed = False
        self._forking.release()


_FORK_PATIENCE = 10.0
"""Seconds that a fork waits for the transactions of other threads."""

_gate = _ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_gate.renew)


LARGEST = 256 * 1024 * 1024
"""Bytes of a value that is read or written, where Python can bound it (3.11 and later): a file may claim a gigabyte."""

LONGEST = 60.0
"""Seconds that a connection may work, once it is lent: no statement of ours takes as long; a trigger may never end."""

_TRIES = 100
"""Times that a file is opened anew where another one was put in its place meanwhile."""

_STEPS = 1_000_000
"""Steps of SQLite, some ten milliseconds, after which it asks whether to go on."""


class _Watch:
    """Tells SQLite to stop what takes too long."""

    __slots__ = ("_patience", "began")

    def __init__(self, patience: float) -> None:
        self.began = 0.0
        self._patience = patience

    def __call__(self) -> bool:
        return time.monotonic() - self.began > LONGEST + self._patience


class _Connection(sqlite3.Connection):
    """A connection that is watched.

    *log* is which file the write-ahead log was when the connection opened it; None where there is none.
    """

    watch: _Watch
    log: FileId | None = None


FileId = tuple[int, int]
"""Which file a path names: its device and inode."""


def _file_at(path: str) -> FileId | None:
    """Return which file lies at a path; None if none does, or it cannot be told."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Mine(threading.local):
    """The connection of this thread's open transaction."""

    connection: sqlite3.Connection | None = None


class Connections:
    """Connections to one SQLite file: as many as threads use at the same time, each used by one at a time.

    What is deleted or replaced is overwritten in the file; the log of writes has it till a checkpoint.

    After a fork the child opens its own; the parent's are left alone, since closing them would drop the parent's locks.

    Args:
        path: The file, or ``":memory:"``: then all threads take turns on one connection.
        timeout: Seconds to wait for other writers.
        synchronous: SQLite's pragma: whether a commit survives a power cut (FULL) or a killed process (NORMAL).
        wal: Whether to put the file into WAL mode. That stays in the file.
        read_only: Whether to open the file for reading alone.

    """

    def __init__(
        self, path: str, *, timeout: float, synchronous: str, wal: bool = False, read_only: bool = False
    ) -> None:
        self.path = path
        self.timeout = timeout
        self.synchronous = synchronous
        self.read_only = read_only
        self._wal = wal
        self._memory = path == ":memory:"
        self._file: FileId | None = None  # as the first connection found it
        self._log = "" if self._memory else f"{os.path.realpath(path)}-wal"
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._pid = process_id()
        self._idle: deque[sqlite3.Connection] = deque()
        self._writer = threading.Lock()  # first come, first served; SQLite's own wait polls
        self._only = threading.Lock()  # for the one connection of a database in memory
        self._mine = _Mine()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection. Inside `writing` it is the transaction's own."""
        return _Loan(self)

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection inside a transaction that other writers wait for; commit it, or undo it on an error."""
        return _Transaction(self)

    def mine(self) -> sqlite3.Connection | None:
        """Return the connection of this thread's open transaction."""
        connection = self._mine.connection
        return connection if connection is not None and self._pid == process_id() else None

    def take(self, *, to_read: bool = False) -> sqlite3.Connection:
        """Return a connection that nobody else uses until `give`; one *to_read* alone is of the file as it is there."""
        if self._pid != process_id():
            self._forked = self._idle  # kept, so that they are not closed
            self._start()
        if self._closed:
            raise StorageClosedError(self.path, "the store was closed")
        if to_read:  # to write, `begin` looks when its turn has come
            self.check_file()
        if self._memory and not self._only.acquire(timeout=self.timeout):
            raise StorageLockedError(self.path, f"other threads used it for {self.timeout} s")
        _gate.enter()
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            self.renew(connection)
        except BaseException:
            self._given()
            raise
        return connection

    def check_file(self) -> None:
        """Raise unless the path still names the file that the connections opened."""
        if self._file is None or _file_at(self.path) == self._file:
            return
        what = "another file was put in its place"
        try:
            os.stat(self.path)
        except PermissionError as err:
            problem = f"{err.strerror}: the folder above it can no longer be entered"
            raise StoragePermissionError(self.path, problem) from err
        except OSError:
            what = "it was deleted or renamed"
        raise StorageMovedError(self.path, f"{what} while this store had it open")

    def _check_log(self, connection: sqlite3.Connection) -> None:
        """Raise if the write-ahead log is not the one that a connection opened: its writes would reach nobody else."""
        if not self._log or not isinstance(connection, _Connection):
            return
        there = _file_at(self._log)
        if connection.log is None:  # made since it was opened, if at all
            connection.log = there
        elif connection.log != there:
            problem = f"its write-ahead log, {self._log}, was deleted or replaced while this store had it open"
            raise StorageMovedError(self.path, problem)

    def renew(self, connection: sqlite3.Connection) -> None:
        """Let a connection work for as long again."""
        if isinstance(connection, _Connection):
            connection.watch.began = time.monotonic()

    def give(self, connection: sqlite3.Connection) -> None:
        """Take a connection back."""
        if connection.in_transaction:  # its rollback failed
            connection.close()
        else:
            self._idle.append(connection)
        self._given()
        if self._closed:
            self._drain()

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin this thread's transaction, when its turn comes."""
        if not self._writer.acquire(timeout=self.timeout):
            raise StorageLockedError(self.path, f"other threads wrote for {self.timeout} s")
        try:
            connection.execute("BEGIN IMMEDIATE")
            self.check_file()
            self._check_log(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._writer.release()
            raise
        self._mine.connection = connection

    def end(self, connection: sqlite3.Connection, *, commit: bool) -> None:
        """End this thread's transaction."""
        self._mine.connection = None
        writer = self._writer
        try:
            if commit:
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            writer.release()

    def close(self) -> None:
        """Close the idle connections; one in use is closed by its user's return."""
        self._closed = True
        if self._pid == process_id():
            self._drain()

    def __del__(self) -> None:
        with suppress(Exception):  # half made, or the interpreter is going down
            self.close()

    def _drain(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _given(self) -> None:
        _gate.leave()
        if self._memory:
            self._only.release()

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            if self._wal:
                self._enter_wal(connection)
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            # What is deleted is overwritten with zeros. Many builds of Python do not; a turn costs the same (0.97 to
            # 1.01, measured), a delete a tenth more.
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA trusted_schema=OFF")  # triggers and views call no function that reaches outside
            if sys.version_info >= (3, 11):
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            if not self._memory:
                connection.log = _file_at(self._log)  # the first of these pragmas has opened it
            connection.watch = _Watch(self.timeout)
            connection.set_progress_handler(connection.watch, _STEPS)
        except sqlite3.Error as err:
            connection.close()
            raise storage_error(self.path, err) from err
        return connection

    def _connect(self) -> _Connection:
        """Return a connection to the file that the first one opened; never make another one."""
        if self._memory:
            return self._connect_to(self.path)
        for _ in range(_TRIES):
            self.check_file()
            before = _file_at(self.path)
            connection = self._connect_to(f"{Path(self.path).as_uri()}?mode={'ro' if self.read_only else 'rw'}")
            if before is not None and before == _file_at(self.path):  # else it was replaced in between
                self._file = self._file or before
                if before == self._file:
                    return connection
            connection.close()
        raise StorageMovedError(self.path, "other files were put in its place again and again while it was opened")

    def _connect_to(self, name: str) -> _Connection:
        try:
            return sqlite3.connect(
                name,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
                uri=not self._memory,
                factory=_Connection,
            )
        except sqlite3.Error as err:
            raise storage_error(self.path, err) from err

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


class _Loan:
    """A connection lent for reading."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Connection:
        mine = self._connections.mine()
        self._connection = None if mine else self._connections.take(to_read=True)
        return self._connection or mine  # type: ignore[return-value]

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if self._connection is not None:
            self._connections.give(self._connection)
            if isinstance(err, sqlite3.Error):
                raise storage_error(self._connections.path, err) from err


class _Transaction:
    """A connection lent inside a transaction; inside another of the same thread it is a part of that one."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> sqlite3.Connection:
        connections = self._connections
        mine = connections.mine()
        if mine is not None:
            self._connection = None
            return mine
        connection = self._connection = connections.take()
        try:
            connections.begin(connection)
        except BaseException as err:
            connections.give(connection)
            if isinstance(err, sqlite3.Error):
                raise storage_error(connections.path, err) from err
            raise
        return connection

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        connection, connections = self._connection, self._connections
        if connection is None:
            return
        try:
            connections.end(connection, commit=err is None)
        except sqlite3.Error as failure:
            raise storage_error(connections.path, failure) from failure
        finally:
            connections.give(connection)
        if isinstance(err, sqlite3.Error):
            raise storage_error(connections.path, err) from err


def storage_error(path: str, err: sqlite3.Error) -> StorageError:
    """Return the StorageError that says what an SQLite error means (codes: sqlite.org/rescode.html)."""
    problem = str(err)
    if problem.startswith("Could not decode"):  # goes on with the text itself
        problem = "a stored text is not UTF-8"
    if problem == "interrupted":
        problem = "a statement did not end in time: the file may hold a trigger that never does"
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


def make_folders(path: str) -> None:
    """Make a folder and those above it, for this user alone, unless they are there."""
    if path and not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)


@contextmanager
def creating(path: str) -> Generator[None, None, None]:
    """Turn an operating system's refusal to create *path* into a StorageError."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as err:
        kinds: dict[int, type[StorageError]] = {
            errno.EROFS: StorageReadOnlyError,
            errno.EACCES: StorageReadOnlyError,
            errno.EPERM: StorageReadOnlyError,
        }
        kinds |= {errno.ENOSPC: StorageFullError, errno.EDQUOT: StorageFullError}
        kind = kinds.get(err.errno or 0, StorageUnreachableError)
        raise kind(path, f"it cannot be created: {err.strerror}") from err


def make_private(path: str) -> None:
    """Make a file that only this user may read, and its folders, unless they are there."""
    if os.path.islink(path) and not os.path.exists(path):  # SQLite would follow it, and make the file for all to read
        raise StorageUnreachableError(path, "it is a symbolic link to nothing")
    with creating(path), suppress(FileExistsError):
        make_folders(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
