"""Tests of interrupted event loops, cancelled tasks and interrupted threads: all later calls are right."""

import asyncio
import gc
import weakref
from functools import partial

import pytest

from pyai_sessions import AsyncSessionManager, Message
from tests.contract.stores import AsyncFullStore, AsyncStore, FullStore, SyncStore
from tests.faults.calls import BULK, CALLS, SHORT, each_in_short, in_short, options_of
from tests.faults.interrupts import ALL, Custom, Points, Tally, attack, attacked
from tests.faults.loops import awaited, cancel
from tests.faults.points import LOOPS, OURS, interrupt_a_thread, press_ctrl_c, stop_this_thread

OF_CUSTOM_STORES = ("create", "save", "append", "read", "fork", "archive", "delete")
WAITS = ("/selectors.py",)
"""Where an event loop waits: there Ctrl-C mostly finds it."""

CALLBACKS = ("/concurrency/calls.py",)
"""What a loop runs for a thread."""

FEW = 2

pytestmark = [
    pytest.mark.usefixtures("own_garbage"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),  # it was cut off before its first step
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # within a client's __del__
]


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Silence asyncio's reports of exceptions in callbacks and of tasks left in a closed loop."""
    caplog.set_level("CRITICAL", logger="asyncio")


@pytest.fixture
def tmp_path(memory_path):
    """Put the files into memory."""
    return memory_path


def interrupt_loops(opened, name, entries, lines=0, only=LOOPS):
    """Interrupt a call in one loop. Then end the loop by Ctrl-C, and make the next calls in another."""
    with opened(wrap=awaited) as managers:
        tally = attack(managers, name, Points(entries, lines, OURS))
    for leaves in (False, True):
        with opened(wrap=partial(awaited, anew=True, leaves=leaves)) as managers:
            tally += attack(managers, name, Points(entries, lines, only), act=press_ctrl_c)
    return tally


@pytest.mark.parametrize("name", in_short(CALLS | BULK))
@pytest.mark.parametrize("storage", ["sqlite", "valkey", pytest.param("dict", marks=pytest.mark.long)], indirect=True)
def test_after_an_interruption_of_the_event_loop_all_goes_on(storage, name, long_form, check):
    """After an interruption of a loop, all later calls are right, in the same loop or in another one."""
    opened = partial(attacked, storage, **options_of(name))
    check(interrupt_loops(opened, name, ALL, lines=60) if long_form else interrupt_loops(opened, name, FEW))


@pytest.mark.parametrize(
    ("store", "name"), each_in_short([SyncStore, AsyncStore, FullStore, AsyncFullStore], OF_CUSTOM_STORES, [])
)
def test_after_an_interruption_a_store_of_ones_own_goes_on(store, name, long_form, check):
    """After an interruption of the code around a custom store, all later calls are right."""
    opened = partial(attacked, Custom(store()))
    tally = interrupt_loops(opened, name, 150) if long_form else interrupt_loops(opened, name, FEW, only=WAITS)
    with attacked(Custom(store())) as managers:
        tally += attack(managers, name, Points(150 if long_form else FEW, only=OURS))
    check(tally)


@pytest.mark.parametrize("name", ["create", "append"])
@pytest.mark.parametrize("store", [AsyncStore, AsyncFullStore])
def test_a_loop_that_drops_a_callback_still_makes_the_call(store, name, check):
    """A signal handler that raises while a loop begins or ends what a thread awaits keeps no thread waiting."""
    with attacked(Custom(store()), wrap=awaited) as managers:
        check(attack(managers, name, Points(only=CALLBACKS)))


def _cancel(managers, name, long_form):
    managers.face.get_session("nobody")  # a thread that only begins may end before it is awaited
    tally = Tally()
    for _ in range(20):  # where a thread has ended before it was awaited there is no await
        for answered in (False, True):
            by = partial(cancel, managers.face, answered=answered)
            tally += attack(managers, name, Points(ALL if long_form else FEW), by=by)
        if tally.points:
            break
    return tally


@pytest.mark.parametrize("name", in_short(CALLS | BULK, (*SHORT, "fork", "import", "redact", "purge")))
@pytest.mark.parametrize("storage", ["sqlite", "valkey", pytest.param("dict", marks=pytest.mark.long)], indirect=True)
def test_after_a_cancellation_at_any_await_all_goes_on(storage, name, long_form, check):
    """If a task is cancelled at any await of a call, all later calls are right."""
    with attacked(storage, wrap=awaited, **options_of(name)) as managers:
        check(_cancel(managers, name, long_form))


@pytest.mark.parametrize(("store", "name"), each_in_short([AsyncFullStore, AsyncStore], OF_CUSTOM_STORES, []))
def test_after_a_cancellation_at_any_await_a_store_of_ones_own_goes_on(store, name, long_form, check):
    """After a cancellation at any await of a custom store's methods, all later calls are right."""
    with attacked(Custom(store()), wrap=awaited) as managers:
        check(_cancel(managers, name, long_form))


def test_tasks_that_are_left_in_a_closed_loop_keep_no_other_out():
    """A task that was left in a closed loop blocks nobody, whether it has a session's turn or waits for it."""
    manager = AsyncSessionManager(AsyncStore())
    asyncio.run(manager.create_session("ada", session_id="s"))
    loop = asyncio.new_event_loop()
    left = [loop.create_task(manager.append("s", Message("user", f"{n}"))) for n in range(3)]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    asyncio.run(asyncio.wait_for(manager.append("s", Message("user", "text")), 30))

    assert asyncio.run(manager.get_session("s")).messages[-1].content == "text"
    assert not any(each.done() for each in left)


def test_a_manager_keeps_no_loop_that_was_closed():
    """After many `asyncio.run` a manager holds at most the last loop."""
    manager, loops = AsyncSessionManager({}), []
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(manager.count())
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
    gc.collect()

    assert [each() for each in loops[:2]] == [None, None]


@pytest.mark.parametrize("name", in_short(CALLS | BULK))
@pytest.mark.parametrize("storage", ["sqlite", "valkey"], indirect=True)
def test_after_an_interruption_of_a_thread_all_goes_on(storage, name, long_form, check):
    """If another thread raises in the one that makes a call, all later calls are right, also if that thread ends."""
    with attacked(storage, **options_of(name)) as managers:
        by = partial(interrupt_a_thread, managers.pool)
        points = Points(500, 100) if long_form else Points(8)
        check(attack(managers, name, points, by=by, act=stop_this_thread))
