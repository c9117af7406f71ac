"""Tests that a store opened before a fork works in the child, while a thread of the parent saves."""

import os
import threading
import time
import warnings
from contextlib import ExitStack

import pytest

from pyai_sessions import Message
from pyai_sessions.testing import Recorder, check_events, events_from, events_to
from tests.faults.storages import SHARED
from tests.faults.workers import check_indexes, in_a_process, results

PER_CHILD = 5


def write_in_child(manager, child, path):
    """In the child, write to the parent's session and to a new one. Return the exit code."""
    try:
        manager = Recorder(manager, events_to(path))
        known = manager.get_session("s0").message_count
        copy = manager.get_session("s0", last=1)
        for n in range(PER_CHILD):
            manager.append("s0", Message("user", f"child {child} appends {n}"))
            copy.add_message("user", f"child {child} saves {n}")
            manager.save(copy)
        own = manager.create_session("user1", session_id=f"s{child + 1}")
        listed = {each.session_id for each in manager.get_sessions_for_user("user1")}
        return 0 if known and own.session_id in listed and manager.count("user0") == 1 else 1
    except BaseException:  # noqa: BLE001 (a child must not return into the parent's code)
        import traceback

        traceback.print_exc()
        return 2


def fork_while_saving(link, storage, children, path):
    """In a process: fork again and again while a thread saves. Send the children's exit codes."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads: the point here
    with ExitStack() as stack:
        manager = stack.enter_context(storage.open())
        recorder = Recorder(manager, events_to(path))
        session = manager.create_session("user0", session_id="s0")
        session.add_message("user", "parent saves")
        recorder.save(session)
        done, saved = threading.Event(), []

        def save():
            while not done.is_set():
                session.add_message("user", f"parent saves {len(saved)}")
                recorder.save(session)
                saved.append(session.message_count)
                time.sleep(0.002)  # writers that never pause leave no turn to others

        thread = threading.Thread(target=save)
        thread.start()
        codes = []
        for child in range(children):
            before = len(saved)
            pid = os.fork()
            if pid == 0:
                os._exit(write_in_child(manager, child, path))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            while len(saved) == before and thread.is_alive():
                pass  # the parent's connections still work
        done.set()
        thread.join()
        link.send(codes)


@pytest.mark.parametrize("storage", SHARED, indirect=True)
def test_a_store_works_on_both_sides_of_a_fork(storage, long_form, tmp_path):
    """Each child can append, save and list through the inherited manager, and the parent is not affected."""
    children = 50 if long_form else 5

    codes = results([in_a_process(fork_while_saving, storage, children, tmp_path / "events")])[0]

    assert codes == [0] * children
    with storage.open() as manager:
        check_events(manager, events_from(tmp_path / "events"))
        check_indexes(manager, {"s0": "user0"} | {f"s{child + 1}": "user1" for child in range(children)})
        assert not manager.verify().problems


def fork_and_close(link, storage):
    """In a process: let a forked child close the store, then use it in the parent."""
    with storage.open() as manager:
        manager.create_session("user0", session_id="s0")
        pid = os.fork()
        if pid == 0:
            manager.store.close()
            os._exit(0)
        os.waitpid(pid, 0)
        manager.append("s0", Message("user", "still here"))
        link.send(manager.get_session("s0").message_count)


@pytest.mark.parametrize("storage", SHARED, indirect=True)
def test_a_child_that_closes_the_store_closes_it_for_itself(storage):
    """A child that closes the store leaves the parent's connections and locks."""
    assert results([in_a_process(fork_and_close, storage)]) == [1]
