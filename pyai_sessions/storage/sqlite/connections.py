"""Connections to an SQLite file: each is lent to one call at a time, and what SQLite raises becomes a StorageError."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pyai_sessions.concurrency.forks import ForkGate
from pyai_sessions.concurrency.processes import renew_in_children
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame, is_part_of
from pyai_sessions.errors import (
    StorageClosedError,
    StorageError,
    StorageInUseError,
    StorageMovedError,
    StoragePermissionError,
)
from pyai_sessions.storage.sqlite.files import FAILURES, storage_error

T = TypeVar("T")

# A forked child inherits SQLite's table of the locks that the process holds, but not the threads that would release
# them. If the process forked in the middle of another thread's transaction, the child could never use the file.
_gate = ForkGate()

LARGEST = 256 * 1024 * 1024
"""Bytes that a value may have, read or written, from Python 3.11 on. A damaged file may claim to hold a gigabyte."""

LONGEST = 60.0
"""Seconds that a lent connection may work. No statement of ours takes as long, but a planted trigger may never end."""

OPEN_FILE = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
"""The query for the path of the file that a connection has open, as bytes: it need not be UTF-8."""

_TRIES = 100
"""How often a file is opened anew because another one was put in its place meanwhile."""

_STEPS = 1_000_000
"""Steps of SQLite's machine, about ten milliseconds, after which it asks whether to go on."""


class _Watch:
    """Tells SQLite to stop a statement that takes too long."""

    __slots__ = ("_patience", "began")

    def __init__(self, patience: float) -> None:
        self.began = 0.0
        self._patience = patience

    def __call__(self) -> bool:
        return time.monotonic() - self.began > LONGEST + self._patience


FileId = tuple[int, int]
"""A file's device and inode: which file a path names."""


class Connection(sqlite3.Connection):
    """A connection whose statements end in time.

    *log* is the write-ahead log that the connection opened; None if there was none. *at_rest* is the state of a file
    that is read without a log.
    """

    watch: _Watch
    log: FileId | None = None
    at_rest: tuple[int, int] | None = None

    def __del__(self) -> None:  # an interrupted call leaves its connection behind
        with suppress(Exception):
            self.close()


def _file_at(path: str) -> FileId | None:
    """Return which file a path names; None if there is none, or the system does not tell."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Connections:
    """Connections to one SQLite file: as many as threads use at the same time.

    What is deleted or replaced is overwritten in the file; the write-ahead log holds it until the next checkpoint.

    A forked child opens connections of its own. It never closes those of the parent: that would drop the parent's
    locks.

    Args:
        path: The file; or ``":memory:"``, whose one connection all threads use in turn.
        timeout: Seconds to wait for other writers.
        synchronous: SQLite's pragma. With FULL a commit survives a power cut, with NORMAL a killed process.
        wal: Whether to put the file into WAL mode, in which it stays.
        read_only: Whether to open the file for reading only.

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
        self._idle: deque[Connection] = deque()
        self._turn = Turn()  # to write; to use the one connection to a database in memory
        self._used: Connection | None = None  # the connection of the call that has the turn, even if it was interrupted
        self._forked: list[Connection] = []  # those of the parent process, kept so that they are not closed
        renew_in_children(self)

    def renew(self) -> None:
        """Start anew in a forked child."""
        if not self._memory:
            self._turn.renew()  # before it is asked whose transaction this is
            self._forked += self._idle
            self._idle = deque()
            if self._used is not None and self._turn.latest.frame is None:  # the transaction of another thread
                self._forked.append(self._used)
                self._used = None

    def reading(self) -> AbstractContextManager[Connection]:
        """Lend a connection: inside `writing`, that of the transaction."""
        return _Loan(self, writes=False)

    def writing(self) -> AbstractContextManager[Connection]:
        """Lend a connection in a transaction, which is committed at the end, or rolled back after an exception.

        Other writers wait. Inside another `writing` of the same call, it is part of that transaction.
        """
        return _Loan(self, writes=True)

    def joined(self) -> Connection | None:
        """Return the connection of the transaction that this call is part of; None if there is none.

        Raises:
            StorageInUseError: This call interrupted the transaction: it is that of a signal handler.

        """
        return self._used if self._turn.is_held_by_caller(self.path) else None

    def mend(self) -> None:
        """Release what interrupted calls of this thread left open."""
        _gate.forget_ended()
        if self._used is not None:
            claim = Claim(current_frame())
            if self._turn.claim(claim) is None:
                self._end_interrupted()
                self._turn.give_back(claim)

    def _end_interrupted(self) -> None:
        """End the transaction that an interrupted call left open. This call has the turn."""
        if self._used is not None:
            _roll_back(self._used)
            if not self._memory:
                self._used.close()
            self._used = None

    def lend(self, loan: _Loan) -> Connection:
        """Return a connection that no other call uses until `take_back`; for writing, in a transaction."""
        if self._closed:
            raise StorageClosedError(self.path, "the store was closed")
        takes_turn = loan.writes or self._memory
        if takes_turn:
            self._turn.take(loan, self.timeout, self.path)
            if self._used is not None:
                self._end_interrupted()
        _gate.enter(loan)
        connection = self._idle_or_new()
        self.extend(connection)
        if takes_turn:
            self._used = connection
        else:
            loan.connection = connection
        if loan.writes:
            if len(_gate.inside) > 1:
                self._check_reading(loan, connection)
            connection.execute("BEGIN IMMEDIATE")
            loan.waited(self.path, connection.watch.began)  # for other processes, since the watch began
        self._check_file()
        self._check_log(connection)
        return connection

    def _idle_or_new(self) -> Connection:
        try:
            connection = self._idle[0] if self._memory else self._idle.pop()
        except IndexError:
            connection = self._open()
            if self._memory:
                self._idle.append(connection)
        if self.read_only and connection.at_rest not in (None, self._at_rest()):
            connection.close()  # a writer has been at work since
            connection = self._open()
        return connection

    def extend(self, connection: Connection) -> None:
        """Let a connection work for `LONGEST` seconds from now on."""
        connection.watch.began = time.monotonic()

    def _check_file(self) -> None:
        """Raise if the path no longer names the file that the first connection opened."""
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

    def _check_log(self, connection: Connection) -> None:
        """Raise if the write-ahead log was replaced: one process would not see what another one writes.

        Measured: a load of 50 messages takes 2 % longer by it, a turn 0.5 %.
        """
        if self._memory or connection.at_rest is not None:  # which is read without a log
            return
        if connection.log is None:  # another connection may have made one since this one was opened
            if connection.in_transaction:  # no other process deletes it meanwhile
                connection.log = _file_at(self._log)
        elif connection.log != _file_at(self._log):
            problem = f"its write-ahead log, {self._log}, was deleted or replaced while this store had it open"
            raise StorageMovedError(self.path, problem)

    def _check_reading(self, loan: _Loan, connection: Connection) -> None:
        """Raise if this call interrupted one that reads, and this commit would wait until that one has read."""
        for each in list(_gate.inside):
            frame = each.frame
            if frame is None or each.thread != loan.thread or not isinstance(each, _Loan) or each.of is not self:
                continue
            if is_part_of(frame) or each.is_over():
                continue
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                raise StorageInUseError(self.path)

    def take_back(self, loan: _Loan, err: BaseException | None) -> None:
        """Take a connection back and end its transaction: commit, or roll back after an exception.

        If the call was interrupted, the connection is closed, since one of its statements may still be open.
        """
        has_turn = self._turn.latest is loan
        connection = self._used if has_turn else loan.connection
        try:
            if connection is not None and loan.writes and err is None:
                connection.execute("COMMIT")
        finally:
            if has_turn:
                self._used = None
            if connection is not None:
                if connection.in_transaction:
                    _roll_back(connection)
                loan.connection = None
                if not self._memory:
                    interrupted = err is not None and not isinstance(err, Exception)
                    if interrupted or connection.in_transaction:  # the rollback failed
                        connection.close()
                    else:
                        self._idle.append(connection)
            _gate.leave(loan)
            if self._closed:
                self._drain()
            self._turn.give_back(loan)

    def close(self) -> None:
        """Close the idle connections. Those in use are closed when their calls end."""
        self._closed = True
        self._drain()

    def __del__(self) -> None:
        with suppress(Exception):  # the constructor failed, or the interpreter is shutting down
            self.close()

    def _drain(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()
        if self.read_only and self._closed:
            self._remove_empty_log()

    def _remove_empty_log(self) -> None:
        """Let SQLite remove an empty log, which it makes to read a file. A connection that may only read cannot do so.

        The alternative is to read the file without a log, as on a read-only disk; but a writer could change it then.
        """
        with suppress(OSError, sqlite3.Error):
            if not os.path.getsize(self._log) and os.access(self.path, os.W_OK) and _file_at(self.path) == self._file:
                last = sqlite3.connect(f"{Path(self.path).as_uri()}?mode=rw", timeout=0, uri=True)
                try:
                    last.execute("PRAGMA schema_version").fetchone()
                finally:
                    last.close()

    def _open(self) -> Connection:
        if not self.read_only:
            return self._set_up(self._connect())
        try:
            return self._set_up(self._connect())
        except StorageError:
            at_rest = self._at_rest()
            if at_rest is None:
                raise
        # The file may be in WAL mode on a read-only disk, where SQLite cannot make the index of the log. While no
        # writer is at work, the file can be read without the log.
        connection = self._connect("&immutable=1")
        connection.at_rest = at_rest
        return self._set_up(connection)

    def _at_rest(self) -> tuple[int, int] | None:
        """Return the file's time of change and its size; None if a log beside it holds more, or it is missing."""
        try:
            if any(map(os.path.getsize, filter(os.path.exists, (self._log, f"{self.path}-journal")))):
                return None
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _set_up(self, connection: Connection) -> Connection:
        try:
            if self._wal:
                # SQLite does not wait for this lock: of two processes that open a new file, one would fail.
                until_unlocked(lambda: connection.execute("PRAGMA journal_mode=WAL"), self.timeout)
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            # Overwrite what is deleted with zeros, which not all builds of SQLite do. Measured: a turn takes 0.97 to
            # 1.01 of the time without it, a deletion 1.1.
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA trusted_schema=OFF")  # no trigger or view reaches outside the file
            if sys.version_info >= (3, 11):
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
            if not self._memory:
                # While this connection reads, no other process deletes the log, or makes the first one.
                connection.execute("BEGIN")
                connection.execute("PRAGMA schema_version").fetchone()
                connection.log = _file_at(self._log)
                connection.execute("COMMIT")
            connection.watch = _Watch(self.timeout)
            connection.set_progress_handler(connection.watch, _STEPS)
        except FAILURES as err:
            connection.close()
            raise storage_error(self.path, err) from err
        return connection

    def _connect(self, options: str = "") -> Connection:
        """Return a connection to the file that the first connection opened. Never creates a file."""
        if self._memory:
            return self._connect_to(self.path)
        for _ in range(_TRIES):
            self._check_file()
            before = _file_at(self.path)
            mode = "ro" if self.read_only else "rw"
            connection = self._connect_to(f"{Path(self.path).as_uri()}?mode={mode}{options}")
            if before is not None and before == _file_at(self.path):  # else the file was replaced in between
                self._file = self._file or before
                if before == self._file:
                    return connection
            connection.close()
        raise StorageMovedError(self.path, "other files were put in its place again and again while it was opened")

    def _connect_to(self, name: str) -> Connection:
        try:
            return sqlite3.connect(
                name,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
                uri=not self._memory,
                factory=Connection,
            )
        except FAILURES as err:
            raise storage_error(self.path, err) from err


@contextmanager
def one_moment(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Let several queries read the file as it is at one moment."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _roll_back(connection: Connection) -> None:
    with suppress(sqlite3.Error):
        connection.execute("ROLLBACK")


def until_unlocked(act: Callable[[], T], timeout: float) -> T:
    """Return what *act* returns; call it again and again for *timeout* seconds while it raises that a lock is taken."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return act()
        except sqlite3.OperationalError as err:
            if "locked" not in str(err) or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


class _Loan(Claim):
    """A connection that is lent to one call, as a context manager. Inside a transaction, it is part of that one."""

    __slots__ = ("connection", "of", "writes")

    def __init__(self, of: Connections, *, writes: bool) -> None:
        super().__init__()
        self.of = of
        self.writes = writes
        self.connection: Connection | None = None  # for reading; one for writing is noted in `Connections`

    def __enter__(self) -> Connection:
        joined = self.of.joined()
        if joined is not None:
            return joined
        self.frame = current_frame(1)
        try:
            return self.of.lend(self)
        except BaseException as err:
            self.__exit__(None, err, None)
            raise

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if self.frame is None:  # part of a transaction
            return
        try:
            self.of.take_back(self, err)
        except FAILURES as failure:
            raise storage_error(self.of.path, failure) from failure
        if isinstance(err, FAILURES):
            raise storage_error(self.of.path, err) from err
