"""Tests of group commit: items of several threads are stored together, and each gets its own result."""

import gc
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import FrameType

import pytest

from pyai_sessions import SessionManager, SQLiteSessionStore
from pyai_sessions.errors import (
    StorageError,
    StorageFullError,
    StorageInUseError,
    StorageLockedError,
    StorageUnreachableError,
)
from pyai_sessions.storage import grouping
from pyai_sessions.storage.grouping import Group

DEADLINE = 60.0


class Storage:
    """Records the calls. A call waits until `open` is set."""

    def __init__(self):
        self.calls = []
        self.refused = {}
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def store(self, items):
        self.entered.release()
        assert self.open.wait(DEADLINE)
        for each in items:
            if each in self.refused:
                raise self.refused[each]
        self.calls.append(list(items))
        return [each % 2 == 0 for each in items]


@pytest.fixture
def storage():
    return Storage()


@pytest.fixture
def group():
    return Group(lambda: "here", DEADLINE)


def waiting(group, count):
    """Wait until so many items are in the queue."""
    deadline = time.monotonic() + DEADLINE
    while len(group._queue) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def started(group, storage, pool, items):
    """Put items one after another. The first is at work, the others wait."""
    futures = [pool.submit(group.put, items[0], storage.store)]
    assert storage.entered.acquire(timeout=DEADLINE)
    for n, each in enumerate(items[1:], 1):
        futures.append(pool.submit(group.put, each, storage.store))
        waiting(group, n)
    return futures


def test_what_comes_while_one_is_stored_is_stored_together(group, storage):
    """Items that arrive while one is stored are stored together."""
    with ThreadPoolExecutor(8) as pool:
        futures = started(group, storage, pool, list(range(8)))
        storage.open.set()
        assert [each.result(DEADLINE) for each in futures] == [True, False] * 4
    assert storage.calls == [[0], [1, 2, 3, 4, 5, 6, 7]]


def test_one_thread_alone_waits_for_nobody(group, storage):
    """A single thread's items are stored at once."""
    storage.open.set()
    assert [group.put(each, storage.store) for each in range(3)] == [True, False, True]
    assert storage.calls == [[0], [1], [2]]


def test_an_item_that_fails_takes_no_other_along(group, storage):
    """If one of several items fails, the others are stored."""
    storage.refused[2] = StorageFullError("here", "too large")
    with ThreadPoolExecutor(5) as pool:
        futures = started(group, storage, pool, list(range(5)))
        storage.open.set()
        with pytest.raises(StorageFullError, match="too large"):
            futures[2].result(DEADLINE)
        assert [futures[n].result(DEADLINE) for n in (0, 1, 3, 4)] == [True, False, False, True]
    assert sorted(chain(*storage.calls)) == [0, 1, 3, 4]


def test_all_hear_at_once_that_the_storage_is_gone(group, storage):
    """If the storage cannot be reached, all items fail after one attempt."""
    storage.refused = dict.fromkeys(range(1, 5), StorageUnreachableError("here", "gone"))
    with ThreadPoolExecutor(5) as pool:
        futures = started(group, storage, pool, list(range(5)))
        storage.open.set()
        assert futures[0].result(DEADLINE)
        for each in futures[1:]:
            with pytest.raises(StorageUnreachableError):
                each.result(DEADLINE)
    calls = 0
    while storage.entered.acquire(blocking=False):
        calls += 1
    assert calls == 1  # for four items: each waits one timeout, not two


def test_who_waits_too_long_gives_up_and_is_not_stored(storage):
    """An item that waits longer than the timeout raises, and is not stored."""
    group = Group(lambda: "here", timeout=0.2)
    with ThreadPoolExecutor(3) as pool:
        first, *others = started(group, storage, pool, [0, 2, 4])
        for each in others:
            with pytest.raises(StorageLockedError, match=r"0\.2 s"):
                each.result(DEADLINE)
        storage.open.set()
        assert first.result(DEADLINE)
        assert group.put(6, storage.store)  # and the queue goes on
    assert storage.calls == [[0], [6]]


def test_an_interrupted_thread_leaves_nobody_waiting(group, storage):
    """If the storing thread is interrupted, the other items are stored."""
    storage.refused[1] = KeyboardInterrupt()
    with ThreadPoolExecutor(4) as pool:
        futures = started(group, storage, pool, [0, 1, 2, 4])
        storage.open.set()
        outcomes = [each.exception(DEADLINE) for each in futures]
    assert [type(each) for each in outcomes] == [type(None), KeyboardInterrupt, type(None), type(None)]
    assert sorted(chain(*storage.calls)) == [0, 2, 4]


def test_those_who_wait_are_woken(group, storage, monkeypatch):
    """Waiting threads are woken by the one that stores for them, and the next one when a turn ends."""
    monkeypatch.setattr(grouping, "_SLICE", 3600.0)
    with ThreadPoolExecutor(4) as pool:
        futures = started(group, storage, pool, list(range(4)))
        storage.open.set()
        try:
            assert [each.result(DEADLINE) for each in futures] == [True, False] * 2
        finally:
            monkeypatch.undo()
            for each in waiting_ones():  # else nothing would end those that nobody woke
                each.wake()


def waiting_ones():
    """Return all waiting threads."""
    return [each for each in gc.get_objects() if isinstance(each, grouping._Waiting)]


def test_a_handler_that_stores_while_its_thread_stores_is_told_at_once(group):
    """A handler that stores while its thread does gets an error at once, since it would wait for itself."""

    def store(items):
        if items == [0]:
            others.append(pool.submit(group.put, 1, store))
            waiting(group, 1)
            with pytest.raises(StorageInUseError):
                group.put(2, store)
            assert len(group._queue) == 1
        return [True] * len(items)

    others = []
    with ThreadPoolExecutor(1) as pool:
        assert group.put(0, store)
        assert others[0].result(DEADLINE)


def test_several_calls_at_once_where_they_wait_for_a_network(storage):
    """With `at_once=3`, three calls run at a time, and the rest is stored together."""
    group = Group(lambda: "here", DEADLINE, at_once=3)
    with ThreadPoolExecutor(8) as pool:
        futures = []
        for n in range(3):
            futures.append(pool.submit(group.put, n, storage.store))
            assert storage.entered.acquire(timeout=DEADLINE)
        for n in range(3, 8):
            futures.append(pool.submit(group.put, n, storage.store))
            waiting(group, n - 2)
        storage.open.set()
        assert [each.result(DEADLINE) for each in futures] == [n % 2 == 0 for n in range(8)]
    assert sorted(map(len, storage.calls)) == [1, 1, 1, 5]


def test_a_fork_does_not_wait_for_its_parents_threads(group, storage):
    """A forked child stores without waiting for the parent's threads."""
    with ThreadPoolExecutor(3) as pool:
        futures = started(group, storage, pool, [0, 2, 4])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if group.put(6, lambda items: [items == [6]]) else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        storage.open.set()
        assert all(each.result(DEADLINE) for each in futures)


def test_every_item_is_stored_once_whatever_the_threads_do(group):
    """With many threads and failures, each item is stored once, or raises."""
    stored, errors, lock = [], 0, threading.Lock()

    def store(items):
        nonlocal errors
        with lock:
            if any(each % 7 == 3 for each in items):
                errors += 1
                raise StorageError("here", "a seventh of them fail")
            stored.extend(items)
        time.sleep(0)
        return [True] * len(items)

    def put(n):
        try:
            return group.put(n, store)
        except StorageError:
            return False

    with ThreadPoolExecutor(16) as pool:
        done = list(pool.map(put, range(3000)))
    assert done == [n % 7 != 3 for n in range(3000)]
    assert sorted(stored) == [n for n in range(3000) if n % 7 != 3]
    assert errors >= 3000 // 7


def test_a_save_leaves_no_frames_for_the_collector(tmp_path):
    """A save leaves no frame in a reference cycle, which would cost a sixth of a turn."""
    managers = [SessionManager({}), SessionManager(SQLiteSessionStore(tmp_path / "chat.db"))]
    sessions = [(each, each.create_session("ada")) for each in managers]
    gc.collect()
    before = frames_of_ours()  # errors that other tests keep have frames, too
    gc.disable()
    try:
        for n in range(20):
            for manager, session in sessions:
                session.add_message("user", f"{n}")
                manager.save(session)
                manager.get_session(session.session_id)
        left = [each.f_code.co_name for each in frames_of_ours() if not any(each is one for one in before)]
    finally:
        gc.enable()

    assert not left


def frames_of_ours():
    folder = f"{os.sep}pyai_sessions{os.sep}"
    frames = [each for each in gc.get_objects() if isinstance(each, FrameType)]
    return [each for each in frames if folder in each.f_code.co_filename]
