"""Tests of MappingStorage after failures and interruptions: the error, and the next call."""

import dbm.dumb
import errno
import itertools
import threading

import pytest

from pyai_sessions.errors import (
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageInUseError,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.storage.protocol import Change
from pyai_sessions.testing.storage import change, document
from pyai_sessions.testing.storage.fixtures import all_listed, apply, put
from tests.faults.points import HOLDS, Stop, interrupt, stop
from tests.processes import run_python
from tests.storage.mappings import Watched, open_storage


def derived(mapping):
    """Return the list entries that follow from the documents, as a new storage finds them."""
    return all_listed(open_storage(dict(mapping)))


ERRORS = {
    "full": (OSError(errno.ENOSPC, "No space left on device"), StorageFullError),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded"), StorageFullError),
    "too large": (OSError(errno.EFBIG, "File too large"), StorageFullError),
    "permission": (PermissionError(errno.EACCES, "Permission denied"), StorageReadOnlyError),
    "not permitted": (OSError(errno.EPERM, "Operation not permitted"), StorageReadOnlyError),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), StorageReadOnlyError),
    "reset": (ConnectionResetError(), StorageUnreachableError),
    "timeout": (TimeoutError(), StorageUnreachableError),
    "closed": (ValueError("I/O operation on closed file"), StorageClosedError),
    "other": (RuntimeError("something with hush in it"), StorageError),
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("operation", ["get", "put", "drop", "walk", "sync"])
def test_an_error_of_the_mapping_is_ours(name, operation):
    """An error of the mapping is raised as ours, with the meaning and the cause, and quotes nothing."""
    error, expected = ERRORS[name]
    mapping = Watched({"doc/a": "text"})
    storage = open_storage(mapping)
    acts = {
        "get": (1, lambda: storage.read(["doc/a"])),
        "put": (1, lambda: storage.write([put("doc/a")])),
        "drop": (1, lambda: storage.write([Change(drop=["doc/a"])])),
        "walk": (1, lambda: list(storage.keys())),
        "sync": (2, lambda: storage.write([put("doc/a")])),
    }
    nth, act = acts[operation]
    mapping.fail(error, nth)

    with pytest.raises(expected) as caught:
        act()

    assert mapping.take_log()[-1][0] == operation
    assert type(caught.value) is expected
    assert caught.value.__cause__ is error
    assert "hush" not in str(caught.value)
    assert "Watched" in str(caught.value)


@pytest.mark.parametrize(
    "fault", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["error", "interrupt"]
)
def test_after_a_change_that_failed_anywhere_the_next_call_is_right(fault):
    """After a failed change, lists and keys are derived from the documents, and the change can be repeated."""
    for nth in range(1, 12):
        mapping = Watched()
        storage = open_storage(mapping)
        apply(storage, change("a", "r1", listed={"active": 1}, pages={"1/0": "old", "1/1": "old"}))
        assert (storage.count("active"), len(list(storage.keys("page/a/")))) == (1, 2)
        again = change(
            "a", "r2", "r1", listed={"archived": 2}, was={"active": 1}, pages={"2": "new"}, drop=["page/a/1/"]
        )
        mapping.take_log()
        mapping.fail(fault, nth)

        try:
            assert storage.write([again]) == [True]
            assert nth > 6
            break
        except (StorageError, KeyboardInterrupt):
            pass

        mapping.mend()
        keys = sorted(key for key in dict.keys(mapping) if key.startswith("page/a/"))
        assert sorted(storage.keys("page/a/")) == keys
        assert all_listed(storage) == derived(mapping)
        assert storage.write([again]) == [True]
        assert all_listed(storage) == [("archived", "a", 2)]
    else:
        pytest.fail("no change is made of so many steps")


def test_an_error_of_the_caller_s_own_passes_through_while_others_are_kept_out():
    """In exclusive use, the caller's own exception is raised as it is, and the mapping's as ours."""
    mapping = Watched({"doc/a": "text"})
    storage = open_storage(mapping)

    with pytest.raises(ZeroDivisionError), storage.exclusive():
        _ = 1 / 0
    mapping.fail(RuntimeError("hush"))
    with pytest.raises(StorageError), storage.exclusive():
        storage.read(["doc/a"])


def test_an_interrupt_passes_through():
    """KeyboardInterrupt is raised as it is."""
    mapping = Watched()
    mapping.fail(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        open_storage(mapping).write([put("doc/a")])


def test_what_a_call_left_open_that_was_cut_off_before_its_end_is_mended_by_the_next():
    """If a call was interrupted before its end, the next derives lists from the documents."""
    mapping = {}
    storage = open_storage(mapping)
    apply(storage, change("a", "r1", listed={"active": 1}))
    assert storage.count("active") == 1

    def cut_off():
        turn = storage._turn(changes=True)
        turn.__enter__()
        mapping.update({"doc/b": document("r1", ("active", "b", 2)).decode()})

    cut_off()

    assert storage.scan("active") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("act", ["write", "scan", "keys", "exclusive"])
def test_after_an_interruption_at_any_point_the_next_call_is_right(act):
    """After an interruption at any line, no turn is held, and lists and keys agree with the documents."""

    def write_inside():
        with storage.exclusive():
            storage.scan("active")
            storage.write([again])

    again = change("a", "r2", "r1", listed={"archived": 2}, was={"active": 1}, pages={"2": "new"}, drop=["page/a/1/"])
    calls = {
        "write": lambda: storage.write([again]),
        "scan": lambda: storage.scan("active"),
        "keys": lambda: storage.keys("page/a/"),
        "exclusive": write_inside,
    }
    for point in itertools.count(1):
        mapping = {}
        storage = open_storage(mapping, timeout=30.0)
        apply(storage, change("a", "r1", listed={"active": 1}, pages={"1/0": "old", "1/1": "old"}))
        if act != "scan":
            assert storage.count("active") == 1
        if act != "keys":
            assert len(list(storage.keys("page/a/"))) == 2

        _, outcome = interrupt(calls[act], point, stop, lines=True, only=HOLDS)

        keys = sorted(key for key in mapping if key.startswith("page/a/"))
        assert sorted(storage.keys("page/a/")) == keys
        assert all_listed(storage) == derived(mapping)
        assert storage.write([again]) == [True]
        assert all_listed(storage) == [("archived", "a", 2)]
        if not isinstance(outcome, Stop):
            break
    assert point > 20


def test_a_thread_that_waits_too_long_for_another_raises():
    """A mapping that hangs makes other threads raise at their timeout."""
    entered, leave = threading.Event(), threading.Event()

    class Slow(dict):
        def __setitem__(self, key, value):
            if "slow" in key:
                entered.set()
                leave.wait(30)
            super().__setitem__(key, value)

    storage = open_storage(Slow(), timeout=0.1)
    apply(storage, put("doc/a"))
    thread = threading.Thread(target=storage.write, args=([put("doc/slow")],))
    thread.start()
    entered.wait(30)
    try:
        for act in (
            lambda: storage.read(["doc/a"]),
            lambda: storage.write([put("doc/a")]),
            storage.keys,
            storage.listings,
            lambda: storage.scan("active"),
            lambda: storage.count("active"),
        ):
            with pytest.raises(StorageLockedError):
                act()
    finally:
        leave.set()
        thread.join()

    assert sorted(storage.keys()) == ["doc/a", "doc/slow"]


def test_a_call_in_the_middle_of_a_call_is_refused():
    """A call within a call of the same thread raises, since it would wait for itself."""
    errors = []

    class Calling(dict):
        def __setitem__(self, key, value):
            try:
                storage.read([key])
            except StorageInUseError as err:
                errors.append(err)
            super().__setitem__(key, value)

    storage = open_storage(Calling())
    apply(storage, put("doc/a"))

    assert len(errors) == 1
    assert list(storage.keys()) == ["doc/a"]


def test_a_closed_file_says_so(tmp_path):
    """A closed file raises StorageClosedError, whatever its module raises."""
    with dbm.dumb.open(str(tmp_path / "chat")) as file:
        storage = open_storage(file)
        apply(storage, put("doc/a"))

    for act in (lambda: storage.read(["doc/a"]), lambda: storage.write([put("doc/b")]), storage.keys):
        with pytest.raises(StorageClosedError):
            act()


def test_a_child_can_use_a_storage_after_a_fork():
    """A forked child can use the storage, even if another thread had the turn."""
    printed = run_python(
        """
        import os, threading
        from pyai_sessions.storage.mapping import MappingStorage
        from pyai_sessions.testing.storage import change, derive

        entered, leave = threading.Event(), threading.Event()

        class Slow(dict):
            def __setitem__(self, key, value):
                if "slow" in key:
                    entered.set()
                    leave.wait(30)
                super().__setitem__(key, value)

        storage = MappingStorage(Slow(), derive=derive, timeout=30)
        storage.write([change("before", "r1", listed={"active": 1})])
        thread = threading.Thread(target=storage.write, args=([change("slow", "r1", listed={"active": 2})],))
        thread.start()
        entered.wait(30)
        child = os.fork()
        if not child:
            assert storage.read(["doc/before"])
            storage.write([change("child", "r1", listed={"active": 3})])
            assert storage.count("active") == 2
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        leave.set()
        thread.join()
        print(status, storage.count("active"))
        """
    )

    assert printed.split() == ["0", "2"]
