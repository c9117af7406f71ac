"""Connections to an SQLite file: synchronous, one thread at a time each, their errors told apart."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections import deque
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from weakref import WeakSet

from pyai_sessions.concurrency.turns import Claim, Turn, current_frame, is_part_of
from pyai_sessions.errors import (
    StorageClosedError,
    StorageError,
    StorageInUseError,
    StorageMovedError,
    StoragePermissionError,
)
from pyai_sessions.storage.files import FAILURES, storage_error


class _ForkGate:
    """Lets a fork wait until no connection is in use.

    A child inherits SQLite's table of the locks that this process holds, though the threads that would release them are
    not there: a fork in the middle of another thread's transaction would lock the child out of the file for good.
    """

    def __init__(self) -> None:
        self.lent: dict[Claim, None] = {}
        self._forking: dict[int, float] = {}  # until when the others wait, by the thread that forks

    def enter(self, claim: Claim) -> None:
        while True:  # without a lock, for which all threads would wait at each statement
            self.lent[claim] = None
            if not self._forking or self._may_pass(claim.thread):
                return
            self.leave(claim)
            time.sleep(0.0005)

    def _may_pass(self, thread: int) -> bool:
        now = time.monotonic()
        if all(each == thread or deadline < now for each, deadline in list(self._forking.items())):
            return True
        return sum(each.thread == thread for each in list(self.lent)) > 1  # the fork waits for it

    def leave(self, claim: Claim) -> None:
        self.lent.pop(claim, None)

    def forget_ended(self) -> None:
        """Forget calls that an exception cut off."""
        for each in list(self.lent):
            if each.is_over():
                self.leave(each)

    def close(self) -> None:
        me, deadline = threading.get_ident(), time.monotonic() + _FORK_PATIENCE
        self._forking[me] = deadline
        while any(each.thread != me and not each.is_over() for each in list(self.lent)) and time.monotonic() < deadline:
            time.sleep(0.0005)  # polled: to fork is rare, to enter is not

    def open(self) -> None:
        self._forking.pop(threading.get_ident(), None)

    def renew(self) -> None:
        me = threading.get_ident()
        self._forking.clear()
        self.lent = {each: None for each in self.lent if each.thread == me}
        for each in list(_all):
            each.renew_in_child()


_FORK_PATIENCE = 10.0
"""Seconds that a fork waits for the transactions of other threads."""

_gate = _ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_gate.renew)


LARGEST = 256 * 1024 * 1024
"""Bytes of a value that is read or written, where Python can bound it (3.11 and later): a file may claim a gigabyte."""

LONGEST = 60.0
"""Seconds that a connection may work, once it is lent: no statement of ours takes as long; a trigger may never end."""

OPEN_FILE = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
"""Asks a connection which file it has open. As bytes: a path need not be UTF-8."""

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

    *log* is which file the write-ahead log was when the connection opened it; None where there is none. *at_rest* says
    how a file that is read without a log was then.
    """

    watch: _Watch
    log: FileId | None = None
    at_rest: tuple[int, int] | None = None

    def __del__(self) -> None:  # of one that a call left behind when an exception cut it off
        with suppress(Exception):
            self.close()


FileId = tuple[int, int]
"""Which file a path names: its device and inode."""


def _file_at(path: str) -> FileId | None:
    """Return which file lies at a path; None if none does, or it cannot be told."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        self._idle: deque[sqlite3.Connection] = deque()
        self._turn = Turn()  # to write; of a database in memory, to use its one connection
        self._used: sqlite3.Connection | None = None  # by the call that has the turn, or that had it and was cut off
        self._forked: list[sqlite3.Connection] = []  # kept, so that they are not closed
        _all.add(self)

    def renew_in_child(self) -> None:
        """Start anew in a forked child."""
        if not self._memory:
            self._forked += self._idle
            self._idle = deque()
            if self._used is not None and self._turn.latest.frame is None:  # another thread's
                self._forked.append(self._used)
                self._used = None

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection. Inside `writing` it is the transaction's own."""
        return _Loan(self)

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection inside a transaction that other writers wait for; commit it, or undo it on an error."""
        return _Transaction(self)

    def joined(self) -> sqlite3.Connection | None:
        """Return the connection of the open transaction that the caller is a part of, if there is one.

        Raises:
            StorageInUseError: This thread has a transaction open that the caller is no part of: it interrupted it.

        """
        latest = self._turn.latest
        frame = latest.frame
        if frame is None or latest.thread != threading.get_ident():
            return None
        if is_part_of(frame):
            return self._used
        if not latest.is_over():
            raise StorageInUseError(self.path)
        self.mend()
        return None

    def mend(self) -> None:
        """End what calls of this thread left open when an exception cut them off."""
        _gate.forget_ended()
        if self._used is not None:
            claim = Claim(current_frame())
            if self._turn.claim(claim) is None:
                self._end_left()
                self._turn.give_back(claim)

    def _end_left(self) -> None:
        """End the transaction of a call that was cut off; by the one that has the turn."""
        left = self._used
        if left is not None:
            with suppress(sqlite3.Error):
                if left.in_transaction:
                    left.execute("ROLLBACK")
            if not self._memory:
                left.close()
            self._used = None

    def take(self, claim: Claim) -> sqlite3.Connection:
        """Return a connection that nobody else uses until `give`."""
        if self._closed:
            raise StorageClosedError(self.path, "the store was closed")
        self.check_file()
        if self._memory:
            self._turn.take(claim, self.timeout, self.path)
            self._end_left()
        _gate.enter(claim)
        connection = self._lend()
        if self._memory:
            self._used = connection
        return connection

    def _lend(self) -> sqlite3.Connection:
        try:
            connection = self._idle[0] if self._memory else self._idle.pop()
        except IndexError:
            connection = self._open()
            if self._memory:
                self._idle.append(connection)
        if self.read_only and getattr(connection, "at_rest", None) not in (None, self._at_rest()):
            connection.close()  # a writer has come
            connection = self._open()
        self.renew(connection)
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

    def give(self, claim: Claim, connection: sqlite3.Connection | None, err: BaseException | None = None) -> None:
        """Take a connection back; close one that an exception from outside interrupted, or that is still reading."""
        if connection is not None and not self._memory:
            if (err is None or isinstance(err, Exception)) and not connection.in_transaction:
                self._idle.append(connection)
            else:
                connection.close()
        if self._memory and self._turn.latest is claim:
            self._used = None
        self._turn.give_back(claim)
        _gate.leave(claim)
        if self._closed:
            self._drain()

    def begin(self, claim: Claim) -> sqlite3.Connection:
        """Begin this thread's transaction, when its turn comes."""
        if self._closed:
            raise StorageClosedError(self.path, "the store was closed")
        self._turn.take(claim, self.timeout, self.path)
        if self._used is not None:
            self._end_left()
        _gate.enter(claim)
        connection = self._used = self._lend()
        if len(_gate.lent) > 1:
            self._check_reading(claim, connection)
        connection.execute("BEGIN IMMEDIATE")
        if isinstance(connection, _Connection):  # since it was lent, it has waited for other processes
            claim.waited(self.path, connection.watch.began)
        self.check_file()
        self._check_log(connection)
        return connection

    def _check_reading(self, claim: Claim, connection: sqlite3.Connection) -> None:
        """Raise where a call that this one interrupted is reading, and the commit would wait for it."""
        for each in list(_gate.lent):
            frame = each.frame
            if frame is None or each.thread != claim.thread or not isinstance(each, _Loan) or not each.is_of(self):
                continue
            if is_part_of(frame) or each.is_over():
                continue
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                raise StorageInUseError(self.path)

    def end(self, claim: Claim, *, commit: bool) -> None:
        """End this thread's transaction."""
        connection = self._used
        if connection is None or self._turn.latest is not claim:  # it did not begin
            self.give(claim, None)
            return
        try:
            if commit:
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            self._used = None
            if self._memory:
                pass
            elif connection.in_transaction:  # its rollback failed
                connection.close()
            else:
                self._idle.append(connection)
            self._turn.give_back(claim)
            _gate.leave(claim)
            if self._closed:
                self._drain()

    def close(self) -> None:
        """Close the idle connections; one in use is closed by its user's return."""
        self._closed = True
        self._drain()

    def __del__(self) -> None:
        with suppress(Exception):  # half made, or the interpreter is going down
            self.close()

    def _drain(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def _open(self) -> sqlite3.Connection:
        if not self.read_only:
            return self._set_up(self._connect())
        try:
            return self._set_up(self._connect())
        except StorageError:
            at_rest = self._at_rest()
            if at_rest is None:
                raise
        # A file in WAL mode on a disk that is read-only: SQLite cannot put an index of the log beside it. No writer is
        # at work, so it can be read without one, till one comes.
        connection = self._connect("&immutable=1")
        connection.at_rest = at_rest
        return self._set_up(connection)

    def _at_rest(self) -> tuple[int, int] | None:
        """Return when the file was written last, and its size, if all that was written is in it, not in its log."""
        try:
            if any(map(os.path.getsize, filter(os.path.exists, (self._log, f"{self.path}-journal")))):
                return None
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _set_up(self, connection: _Connection) -> sqlite3.Connection:
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
                # Within a read: until it ends, no other process deletes the log, or is the first to make one.
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

    def _connect(self, options: str = "") -> _Connection:
        """Return a connection to the file that the first one opened; never make another one."""
        if self._memory:
            return self._connect_to(self.path)
        for _ in range(_TRIES):
            self.check_file()
            before = _file_at(self.path)
            mode = "ro" if self.read_only else "rw"
            connection = self._connect_to(f"{Path(self.path).as_uri()}?mode={mode}{options}")
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
        except FAILURES as err:
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


class _Loan(Claim):
    """A connection lent for reading."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections
        self._connection: sqlite3.Connection | None = None

    def is_of(self, connections: Connections) -> bool:
        """Return whether it is of this file."""
        return self._connections is connections

    def __enter__(self) -> sqlite3.Connection:
        connections = self._connections
        joined = connections.joined()
        if joined is not None:
            return joined
        self.frame = current_frame(1)
        try:
            connection = self._connection = connections.take(self)
        except BaseException:
            connections.give(self, None)
            raise
        return connection

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if self.frame is not None:
            self._connections.give(self, self._connection, err)
            if isinstance(err, FAILURES):
                raise storage_error(self._connections.path, err) from err


class _Transaction(Claim):
    """A connection lent inside a transaction; inside another of the same thread it is a part of that one."""

    __slots__ = ("_connections",)

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    def __enter__(self) -> sqlite3.Connection:
        connections = self._connections
        joined = connections.joined()
        if joined is not None:
            return joined
        self.frame = current_frame(1)
        try:
            return connections.begin(self)
        except BaseException as err:
            connections.end(self, commit=False)
            if isinstance(err, FAILURES):
                raise storage_error(connections.path, err) from err
            raise

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if self.frame is None:  # a part of another
            return
        connections = self._connections
        try:
            connections.end(self, commit=err is None)
        except FAILURES as failure:
            raise storage_error(connections.path, failure) from failure
        if isinstance(err, FAILURES):
            raise storage_error(connections.path, err) from err


_all: WeakSet[Connections] = WeakSet()
