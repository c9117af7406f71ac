"""Tests of an exception at any point of any call: all later calls are right."""

import asyncio
import gc
import os
import threading
import time
import warnings
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest

from pyai_sessions import AsyncSessionManager, Message
from pyai_sessions.concurrency import turns
from pyai_sessions.concurrency.turns import Turn
from pyai_sessions.storage import grouping
from pyai_sessions.storage.grouping import Group
from pyai_sessions.testing import Recorder, check_events
from tests.contract.stores import AsyncStore, SyncStore
from tests.faults.calls import BULK, CALLS, each_in_short, in_short, options_of
from tests.faults.interrupts import ALL, EncryptedFile, Points, attack, attack_with_handler, attacked
from tests.faults.points import HOLDS, Stop, Tracer, interrupt, stop, stop_this_thread
from tests.faults.storages import IN_FILES, Storage
from tests.faults.workers import in_a_process, results

KINDS = ["dict", "folder", *IN_FILES]
WHOLE = ("dict", "sqlite")
"""The storages on which more points are taken."""
MOST = Points(lines=4000)
MANY = Points(lines=200)
SOME = Points(entries=40, only=HOLDS)
FEW = Points(entries=8, only=HOLDS)


def points_on(kind, long_form):
    """Return the points that are taken on a kind of storage."""
    if long_form:
        return MOST if kind in WHOLE else MANY
    return SOME if kind in WHOLE else FEW


@pytest.fixture
def tmp_path(memory_path):
    """Put the files into memory."""
    return memory_path


@pytest.mark.parametrize(("storage", "name"), each_in_short(KINDS, CALLS | BULK, ["dict"]), indirect=["storage"])
def test_after_an_interruption_all_goes_on(storage, name, long_form, check):
    """After an interruption at any point of a call, its repetition and all other calls are right."""
    options = {"shared": True} if storage.kind == "folder" else {}
    with attacked(storage, **options, **options_of(name)) as managers:
        tally = attack(managers, name, points_on(storage.kind, long_form))

    check(tally)


@pytest.mark.parametrize("name", in_short(CALLS))
def test_after_an_interruption_an_encrypted_namespace_goes_on(tmp_path, name, long_form, check):
    """After an interruption of a call on an encrypted namespace, its repetition and all other calls are right."""
    with attacked(EncryptedFile(tmp_path / "chat.db")) as managers:
        check(attack(managers, name, MANY if long_form else FEW))


@pytest.mark.parametrize(
    ("storage", "name"),
    each_in_short(["dict", "sqlite", "sqlitedict", "valkey"], CALLS, ["sqlite"]),
    indirect=["storage"],
)
def test_a_handler_that_saves_does_so_or_is_told_at_once_that_it_cannot(storage, name, long_form, check):
    """A signal handler can save any session in the middle of any call, or gets an error at once. The call goes on."""
    with attacked(storage) as managers:
        tally = attack_with_handler(managers, name, MANY if long_form else points_on(storage.kind, long_form=False))

    check(tally)


def test_a_handler_may_save_the_session_whose_save_it_interrupts():
    """If a handler saves the session that is being saved, the save goes on with what the handler stored."""
    with attacked(Storage("dict", {})) as managers:
        tally = attack_with_handler(managers, "save", Points(lines=ALL, only=("/model/session.py",)))

    assert tally.points > 10
    assert not tally.wrong, "\n".join(tally.examples)


class TestGarbage:
    """Interrupted calls leave no garbage to a later test."""

    @pytest.fixture(scope="class")
    @classmethod
    def left(cls):
        """Hold weak references, and assert that their objects are gone without a chance collection."""
        gc.disable()
        left = []
        yield left
        gc.enable()
        assert [each() for each in left] == [None]

    @pytest.mark.usefixtures("own_garbage")
    @pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
    def test_a_coroutine_in_a_cycle_is_collected_in_the_test_that_cut_it_off(self, left):
        """An interrupted coroutine is collected in the same test, whose marks allow its warning."""
        cycle = [AsyncStore().get("s")]
        cycle.append(cycle)

        left.append(weakref.ref(cycle[0]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it was cut off as it began
@pytest.mark.parametrize("storage", ["dict", "sqlite", "valkey"], indirect=True)
def test_a_call_ends_and_the_manager_goes_on_if_its_thread_is_interrupted(storage, long_form):
    """If the only worker thread is interrupted at any step, no task waits for ever."""
    with storage.open() as opened, storage.open() as other:
        at, points, step = 0, 1, 1 if long_form else 67
        before = threading.gettrace()
        while at <= points:
            tracer = Tracer(at, stop_this_thread, opcodes=True, only=["awaiting.py", "/concurrent/futures/"])

            async def use(at=at):
                manager = AsyncSessionManager(opened.store, threads=1)
                message = Message("user", "text", message_id=f"m{at}")
                for _ in range(2):  # the first may be cut off; it was applied or not, and is repeated
                    with suppress(Stop):
                        await asyncio.wait_for(manager.get_or_create_session("s", "ada"), 60)
                    with suppress(Stop):
                        await asyncio.wait_for(manager.append("s", message), 60)
                await manager.close()

            threading.settrace(tracer)
            try:
                asyncio.run(use())
            finally:
                threading.settrace(before)
            points = points if at else tracer.points
            at += step
        assert points > 20

        found = [each.message_id for each in other.get_session("s").messages]
        assert found == [f"m{each}" for each in range(0, points + 1, step)]


def use_in_child(link, make):
    """In a process: use an async manager, fork, and use it in the child by a loop and by threads."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
    manager = AsyncSessionManager(make())

    async def talk(name):
        session = await manager.create_session("ada", session_id=name)
        await asyncio.gather(*(manager.append(name, Message("user", f"{n}")) for n in range(8)))
        return len((await manager.get_session(session.session_id)).messages)

    assert asyncio.run(talk("before")) == 8
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if asyncio.run(asyncio.wait_for(talk("after"), 60)) == 8 else 2
        finally:
            os._exit(code)
    link.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@pytest.mark.parametrize("make", [dict, SyncStore, AsyncStore])
def test_an_async_manager_that_was_used_before_a_fork_works_in_the_child(make):
    """A manager that was used before a fork works in each child."""
    assert results([in_a_process(use_in_child, make)]) == [0]


def write_in_threads_of_a_child(link, storage):
    """In a process: use a store, fork, and use it in many threads of the child."""
    warnings.simplefilter("ignore", DeprecationWarning)
    with storage.open() as manager:
        manager.create_session("ada", session_id="s")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                start, events = threading.Barrier(16), []
                recorder = Recorder(manager, events.append)

                def write(n):
                    start.wait()
                    recorder.append("s", Message("user", f"{n}"))

                with ThreadPoolExecutor(16) as pool:
                    list(pool.map(write, range(16)))
                check_events(manager, events)
                code = 0
            finally:
                os._exit(code)
        link.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@pytest.mark.parametrize("storage", ["sqlite", "diskcache"], indirect=True)
def test_threads_use_a_store_at_once_after_a_fork(storage, long_form):
    """A child's threads can use the store at once, all at the same time."""
    times = 30 if long_form else 3
    assert results([in_a_process(write_in_threads_of_a_child, storage)]) == [0]
    for _ in range(times - 1):
        with storage.open() as manager:
            manager.clear_all()
        assert results([in_a_process(write_in_threads_of_a_child, storage)]) == [0]


GROUPING = ("/grouping.py", "/turns.py")


@pytest.fixture
def restless(monkeypatch):
    """Let waiting threads look again at once. Otherwise a test of many points would wait for them."""
    for module in (grouping, turns):
        monkeypatch.setattr(module, "_SLICE", 0.001)


@pytest.mark.usefixtures("restless")
def test_the_item_of_a_thread_that_is_interrupted_in_the_queue_is_not_stored():
    """If a thread waits in the queue and is interrupted at any point, its item is not stored."""
    group, gate, entered, stored = Group(lambda: "here", 60.0), threading.Event(), threading.Event(), []

    def store(items):
        entered.set()
        assert gate.wait(60)
        stored.extend(items)
        return [True] * len(items)

    first, places = in_thread(group.put, "first", store), []
    assert entered.wait(60)
    while not places or places.count(places[-1]) < 3:  # it looks again and again
        group._latest = 0  # one that comes again and again, alone, would not wait for a turn
        tracer, outcome = interrupt(partial(group.put, "gone", store), len(places) + 1, stop, lines=True, only=GROUPING)
        assert isinstance(outcome, Stop)
        places.append(tracer.where)
    gate.set()

    assert first.result(60)
    assert group.put("last", store)
    assert stored == ["first", "last"]


class Crowded(Turn):
    """A turn that calls *then* when it is first taken."""

    __slots__ = ("then",)

    def claim(self, mine):
        """Take the turn."""
        found, then = super().claim(mine), self.then
        if found is None and then:
            self.then = None
            then()
        return found


@pytest.mark.usefixtures("restless")
def test_items_are_stored_though_the_thread_that_stores_them_is_interrupted():
    """If a thread stores the items of others and is interrupted at any point, their items are stored."""
    places = []
    while None not in places:
        group, turn, stored, others = Group(lambda: "here", 60.0), Crowded(), [], []
        group._turns = [turn]

        def store(items, stored=stored):
            stored.extend(items)
            return [True] * len(items)

        def come(group=group, store=store, others=others):
            others.extend(in_thread(group.put, each, store) for each in (2, 3))

        def come_and_wait(group=group, come=come):
            come()
            while len(group._queue) < 3:
                time.sleep(0)

        turn.then = come_and_wait
        tracer, outcome = interrupt(partial(group.put, 1, store), len(places) + 1, stop, lines=True, only=GROUPING)
        places.append(tracer.where)
        if not others:  # it was cut off before it had its turn
            turn.then = None
            come()
        assert [each.result(60) for each in others] == [True, True], tracer.where
        assert set(stored) in ({1, 2, 3}, {2, 3}), tracer.where  # some twice, where it could not tell them
        assert outcome is True or tracer.where
    functions = {each.split()[1] for each in places if each}
    assert functions >= {"put", "_wait", "_lead", "claim", "_store_all", "wake", "_end", "give_back"}


def in_thread(act, *arguments):
    """Call a function in a daemon thread, and return its future."""
    future = Future()

    def run():
        try:
            future.set_result(act(*arguments))
        except BaseException as err:  # noqa: BLE001 (for the future)
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future
