"""Tests of connections to SQLite files: forks, interruptions and journals."""

import gc
import os
import sqlite3
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import count
from types import SimpleNamespace

import pytest

from pyai_sessions.concurrency import forks
from pyai_sessions.concurrency.turns import Claim, current_frame
from pyai_sessions.errors import StorageInUseError, StorageLockedError
from pyai_sessions.storage.sqlite import connections as module
from pyai_sessions.storage.sqlite.connections import Connections
from tests.faults.points import interrupt, stop

DEADLINE = 60.0


def filled(path):
    """Make an SQLite file with a table of two rows, and return its path."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE t (n); INSERT INTO t VALUES (1), (2)")
    return path


@pytest.fixture
def path(tmp_path):
    return filled(tmp_path / "chat.db")


@pytest.fixture
def connections(path):
    with closing(Connections(str(path), timeout=30, synchronous="NORMAL", wal=True)) as connections:
        yield connections


def in_child(act):
    """Run a function in a forked child. Return the exit code, 0 if it returned True."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if act() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def values(connections):
    with connections.reading() as connection:
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n")]


def test_a_commit_that_fails_is_rolled_back_at_once(path):
    """If a commit fails because another process reads, that process can write as soon as it has read."""
    with (
        closing(Connections(str(path), timeout=0.1, synchronous="NORMAL")) as connections,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other,
    ):
        other.execute("BEGIN")
        other.execute("SELECT n FROM t").fetchall()

        with pytest.raises(StorageLockedError), connections.writing() as connection:
            connection.execute("INSERT INTO t VALUES (3)")

        other.execute("COMMIT")
        other.execute("INSERT INTO t VALUES (4)")
        assert values(connections) == [1, 2, 4]


# After a fork ---------------------------------------------------------------------------------------------------------


def test_a_child_uses_no_connection_of_its_parent_and_closes_none(connections):
    """A forked child neither uses nor closes its parent's connections, which SQLite forbids."""
    with connections.reading() as connection:
        parents = weakref.ref(connection)
    del connection

    def use_and_close():
        gc.collect()
        with connections.reading() as own, connections.reading() as another:
            mine = {id(own), id(another)}
        connections.close()
        gc.collect()
        return parents() is not None and id(parents()) not in mine and parents().execute("SELECT 1").fetchone()

    assert in_child(use_and_close) == 0
    assert values(connections) == [1, 2]


@pytest.fixture
def busy(connections, monkeypatch):
    """Keep one thread in a transaction and one in a read, and let no fork wait for them."""
    monkeypatch.setattr(forks, "_PATIENCE", 0.0)
    end, entered = threading.Event(), threading.Semaphore(0)

    def use(lend):
        with lend() as connection:
            connection.execute("SELECT n FROM t").fetchone()
            if lend == connections.writing:
                connection.execute("INSERT INTO t VALUES (3)")
                del connection  # as a change between two calls, of which each asks for it
            entered.release()
            assert end.wait(DEADLINE)

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(use, each) for each in (connections.writing, connections.reading)]
        try:
            for _ in calls:
                assert entered.acquire(timeout=DEADLINE)
            yield connections
        finally:
            end.set()
        for each in calls:
            each.result(DEADLINE)
    assert values(connections) == [1, 2, 3]


def test_a_child_leaves_the_transaction_of_its_parent_alone(busy):
    """A forked child does not end a transaction of the parent."""
    used = weakref.ref(busy._used)

    def mend():
        busy.mend()
        gc.collect()
        return used() is not None and used().in_transaction and values(busy) == [1, 2]

    assert in_child(mend) == 0


@pytest.mark.usefixtures("busy")
def test_a_child_that_forks_waits_for_no_call_of_its_parent():
    """A child that forks does not wait for the parent's calls."""
    assert in_child(lambda: not module._gate.inside and not module._gate._forks) == 0


def test_a_fork_waits_for_transactions_and_who_begins_anew_waits_for_the_fork(connections, tmp_path, monkeypatch):
    """A fork waits for open transactions. New ones wait for the fork."""
    me, waited, order = threading.local(), set(), []
    entered, fork_waits, reader_came = (threading.Event() for _ in range(3))
    events = {"fork": fork_waits, "reader": reader_came}

    def sleep(seconds):
        waited.add(me.name)
        events.get(me.name, entered).set()
        time.sleep(seconds)

    monkeypatch.setattr(forks, "_PATIENCE", DEADLINE)
    monkeypatch.setattr(forks, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    other = Connections(str(filled(tmp_path / "other.db")), timeout=30, synchronous="NORMAL")

    def write():
        me.name = "writer"
        with connections.writing() as connection:
            connection.execute("INSERT INTO t VALUES (3)")
            entered.set()
            assert fork_waits.wait(DEADLINE)
            assert values(other) == [1, 2]
            assert reader_came.wait(DEADLINE)
            order.append("written")

    def read():
        me.name = "reader"
        assert fork_waits.wait(DEADLINE)
        rows = values(connections)
        order.append("read")
        reader_came.set()
        return rows

    me.name = "fork"
    with closing(other), ThreadPoolExecutor(2) as pool:
        writer, reader = pool.submit(write), pool.submit(read)
        try:
            assert entered.wait(DEADLINE)
            code = in_child(lambda: values(connections) == [1, 2, 3])
        finally:
            fork_waits.set()
            reader_came.set()
        writer.result(DEADLINE)
        assert reader.result(DEADLINE) == [1, 2, 3]
    assert code == 0
    assert order == ["written", "read"]
    assert waited == {"fork", "reader"}
    assert not module._gate._forks


class Waited(Exception):  # noqa: N818 (it tells that a call would wait)
    """The number of calls that have a connection meanwhile."""


@pytest.fixture
def told(monkeypatch):
    """Raise in whoever would wait for a fork, or wait before a fork."""

    def sleep(_):
        raise Waited(len(module._gate.inside))

    monkeypatch.setattr(forks, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))


@pytest.mark.usefixtures("told")
def test_a_fork_waits_neither_for_its_own_thread_nor_for_calls_that_were_cut_off(connections):
    """A fork does not wait for calls of its own thread, nor for interrupted ones."""
    gate = module._gate
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: gate.enter(Claim(current_frame(0)))).result(DEADLINE)
    with connections.reading():
        gate.close()
        gate.open()
    gate.close()
    try:
        assert values(connections) == [1, 2]
    finally:
        gate.open()
        gate.forget_ended()


@pytest.mark.usefixtures("told")
def test_a_call_waits_for_each_fork_but_not_for_ever(connections, monkeypatch):
    """A call waits for a fork until a deadline."""
    over, ahead = time.monotonic() - 1, time.monotonic() + DEADLINE
    monkeypatch.setattr(module._gate, "_forks", {0: over})
    assert values(connections) == [1, 2]

    monkeypatch.setattr(module._gate, "_forks", {0: over, 1: ahead})
    with pytest.raises(Waited, match=r"^0$"):
        values(connections)


# Interrupted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lend", ["reading", "writing"])
def test_calls_that_were_cut_off_are_forgotten(connections, lend):
    """Interrupted calls are forgotten, and no fork waits for them."""

    def use():
        with getattr(connections, lend)() as connection:
            return connection.execute("SELECT count(*) FROM t").fetchone()

    for n in count(1):
        tracer, _ = interrupt(use, n, stop, lines=True, only=["/connections.py", "/forks.py"])
        if tracer.where is None:
            break
        connections.mend()
        assert not module._gate.inside, tracer.where
        assert values(connections) == [1, 2], tracer.where
    assert n > 20


# Journals -------------------------------------------------------------------------------------------------------------


def handle(connections):
    """Write, like a signal handler within a call."""
    with connections.writing() as connection:
        connection.execute("INSERT INTO t VALUES (3)")


@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
def test_a_handler_writes_while_its_thread_reads_where_the_journal_is_a_wal(path, journal):
    """In WAL mode, a handler can write while its thread reads. In other modes it gets an error at once."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
    with closing(Connections(str(path), timeout=30, synchronous="NORMAL")) as connections:
        with connections.reading() as connection:
            rows = connection.execute("SELECT n FROM t ORDER BY n")
            assert rows.fetchone() == (1,)
            if journal == "WAL":
                handle(connections)
            else:
                with pytest.raises(StorageInUseError):
                    handle(connections)
            assert rows.fetchall() == [(2,)]
        assert values(connections) == ([1, 2, 3] if journal == "WAL" else [1, 2])
        handle(connections)
        assert 3 in values(connections)


def test_a_handler_writes_while_its_thread_reads_another_file(path, tmp_path):
    """A handler can write to another file than its thread reads."""
    with (
        closing(sqlite3.connect(tmp_path / "other.db")) as made,
        closing(Connections(str(path), timeout=30, synchronous="NORMAL")) as connections,
        closing(Connections(str(tmp_path / "other.db"), timeout=30, synchronous="NORMAL")) as others,
    ):
        made.execute("CREATE TABLE t (n)")
        with others.reading() as connection:
            assert connection.execute("SELECT * FROM t").fetchall() == []
            handle(connections)
        assert values(connections) == [1, 2, 3]


@pytest.mark.parametrize("wal", [True, False])
def test_another_opens_and_closes_a_new_file_at_any_moment(tmp_path, wal):
    """If another process opens and closes a new file, its deleted log is not missed."""

    def read():
        with connections.reading():
            pass

    def open_another():
        other = stack.enter_context(closing(sqlite3.connect(path, timeout=0)))
        with suppress(sqlite3.OperationalError):  # locked
            other.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (n)")

    at, points = 0, 1
    while at <= points:
        path = tmp_path / f"{at}.db"
        path.touch()
        with closing(Connections(str(path), timeout=30, synchronous="NORMAL", wal=wal)) as connections:
            with ExitStack() as stack:
                tracer, _ = interrupt(read, at, open_another, lines=True, only=(module.__file__,))
            for n in range(3):
                (tmp_path / f"{at}.{n}").touch()  # else the next log may be told from the one before by nothing

            with connections.writing() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (n)")
        points = tracer.points
        at += 1
    assert points > 50
