"""Tests of many concurrent writers: no message is lost or doubled, and no turn is torn."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest

from pyai_sessions.testing import Recorder
from tests.faults.storages import ALL, EXAMPLE, IN_FILES, SHARED
from tests.faults.workers import (
    Hammers,
    change_states,
    check_states,
    check_turns,
    ids_of_all_branches,
    in_a_process,
    plan,
    receive,
    results,
    session_ids,
    travel,
    user_of,
    write_on,
    write_turns,
)

WRITERS = 8


@pytest.fixture(params=[1, 50], ids=["one session", "50 sessions"])
def ids(request):
    return session_ids(request.param)


@pytest.fixture(params=["save", "append", "update"])
def way(request):
    return request.param


@pytest.fixture
def turns(long_form):
    return 200 if long_form else 12


def create(storage, ids):
    with storage.open() as manager:
        for session_id in ids:
            manager.create_session(user_of(session_id), session_id=session_id)


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_threads_lose_no_message(storage, ids, way, turns):
    """Eight threads on two managers, each with its own store, lose no message."""
    create(storage, ids)
    start, events = Barrier(WRITERS), []

    with ExitStack() as stack:
        managers = [stack.enter_context(storage.open()) for _ in range(2)]
        if storage.kind == "folder":
            managers = managers[:1]  # two mapping objects over one folder know nothing of each other

        def write(writer):
            manager = Recorder(managers[writer % len(managers)], events.append)
            start.wait()
            write_turns(manager, plan(writer, ids, turns), way)

        with ThreadPoolExecutor(WRITERS) as threads:
            list(threads.map(write, range(WRITERS)))

        for manager in managers:
            check_turns(manager, ids, events)
            if way == "update":
                check_states(manager, [plan(writer, ids, turns) for writer in range(WRITERS)])


@pytest.mark.parametrize("storage", [*SHARED, EXAMPLE], indirect=True)
def test_processes_lose_no_message(storage, ids, way, turns, tmp_path):
    """Eight processes lose no message, even if one is killed."""
    create(storage, ids)
    plans = [plan(writer, ids, turns if writer else 3_000) for writer in range(WRITERS)]
    workers = Hammers(storage, tmp_path, [(turns, way) for turns in plans])
    workers.kill()
    events = workers.events()

    with storage.open() as manager:
        check_turns(manager, ids, events)
        if way == "update":
            check_states(manager, plans[1:])


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_call_that_gave_up_may_be_repeated(storage, way, turns, tmp_path):
    """A call that raised StorageLockedError can be repeated, and stores nothing twice."""
    ids = session_ids(1)
    create(storage, ids)
    workers = Hammers(storage, tmp_path, [(plan(writer, ids, turns), way) for writer in range(WRITERS)], timeout=0.005)
    events = workers.events()

    with storage.open() as manager:
        check_turns(manager, ids, events)


@pytest.mark.parametrize("storage", SHARED, indirect=True)
def test_what_others_add_is_kept_while_one_goes_back_and_forth(storage, turns):
    """While one writer rewinds and switches, others' stored messages stay in the conversation or a branch."""
    create(storage, session_ids(1))
    with storage.open() as manager:
        manager.append("s0", *({"role": "user", "content": f"{n}", "message_id": f"before{n}"} for n in range(40)))
    workers = [in_a_process(write_on, storage, writer, turns) for writer in range(3)]
    workers.append(in_a_process(travel, storage, 2 * turns))
    for _, link in workers:
        assert receive(link) == "ready"
    for _, link in workers:
        link.send("go")
    *written, conflicts = results(workers)

    with storage.open() as manager:
        there = ids_of_all_branches(manager)
        assert there >= {each for ids in written for each in ids} | {f"before{n}" for n in range(40)}
        assert conflicts < 2 * turns
        assert not manager.verify().problems


@pytest.mark.parametrize("storage", SHARED, indirect=True)
def test_processes_lose_no_change_of_a_users_state(storage, turns):
    """Processes that update a user's state lose no key, and no increment under a revision."""
    workers = [in_a_process(change_states, storage, writer, turns) for writer in range(4)]
    for _, link in workers:
        assert receive(link) == "ready"
    for _, link in workers:
        link.send("go")
    results(workers)

    with storage.open() as manager:
        assert manager.user_state("ada") == {"writers": {f"{n}": turns - 1 for n in range(4)}, "n": 4 * turns}
