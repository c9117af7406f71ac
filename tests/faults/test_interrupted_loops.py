"""Event loops that Ctrl-C ends, threads that others cut off, and cancelled calls that work on many sessions."""

import asyncio
import gc
import weakref
from functools import partial

import pytest

from pyai_sessions import AsyncSessionManager, Message
from tests.contract.stores import AsyncFullStore, AsyncStore, FullStore, SyncStore
from tests.faults.interrupts import (
    BULK,
    CALLS,
    LOOPS,
    OURS,
    SHORT,
    Custom,
    Tally,
    attack,
    attacked,
    awaited,
    cancel,
    each_in_short,
    in_short,
    interrupt_a_thread,
    options_of,
    press_ctrl_c,
    stop_this_thread,
)

OF_CUSTOM_STORES = ("create", "save", "append", "read", "fork", "archive", "delete")
WAITS = ["/selectors.py"]
"""Where an event loop waits: there Ctrl-C mostly finds it."""

pytestmark = [
    pytest.mark.usefixtures("own_garbage"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),  # it was cut off before its first step
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # within a client's __del__
]


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Let asyncio not tell of each exception in what a loop calls, nor of tasks that are left in a closed loop."""
    caplog.set_level("CRITICAL", logger="asyncio")


def interrupt_loops(opened, name, *, only=LOOPS, **options):
    """Interrupt a call in its loop, which goes on; then by Ctrl-C, after which another loop does."""
    with opened(wrap=awaited) as managers:
        tally = attack(managers, name, only=OURS, **options)
    for leaves in (False, True):
        with opened(wrap=partial(awaited, anew=True, leaves=leaves)) as managers:
            tally += attack(managers, name, only=only, act=press_ctrl_c, **options)
    return tally


@pytest.mark.parametrize("name", in_short(CALLS | BULK))
@pytest.mark.parametrize("storage", ["sqlite", "valkey", pytest.param("dict", marks=pytest.mark.long)], indirect=True)
def test_after_an_interruption_of_the_event_loop_all_goes_on(storage, name, long_form, check):
    """In that loop, or after Ctrl-C in a second one, whether the call was cancelled in the first or left at work."""
    options = {"lines": True} if long_form else {"most": 2}
    check(interrupt_loops(partial(attacked, storage, **options_of(name)), name, **options))


@pytest.mark.parametrize(
    ("store", "name"), each_in_short([SyncStore, AsyncStore, FullStore, AsyncFullStore], OF_CUSTOM_STORES, [])
)
def test_after_an_interruption_a_store_of_ones_own_goes_on(store, name, long_form, check):
    """The library's own code around it is interrupted, and the wait for it: its own code is its author's affair."""
    options = {"most": 150} if long_form else {"only": WAITS, "most": 2}
    tally = interrupt_loops(partial(attacked, Custom(store())), name, **options)
    with attacked(Custom(store())) as managers:
        tally += attack(managers, name, only=OURS, most=150 if long_form else 2)
    check(tally)


def _cancel(managers, name, long_form):
    managers.face.get_session("nobody")  # a thread that only begins may end before it is awaited
    tally = Tally()
    for _ in range(20):  # where a thread has ended before it was awaited there is no await
        for answered in (False, True):
            by = partial(cancel, managers, answered=answered)
            tally += attack(managers, name, by=by, most=None if long_form else 2)
        if tally.points:
            break
    return tally


@pytest.mark.parametrize("name", in_short(CALLS | BULK, (*SHORT, "fork", "import", "redact", "purge")))
@pytest.mark.parametrize("storage", ["sqlite", "valkey", pytest.param("dict", marks=pytest.mark.long)], indirect=True)
def test_after_a_cancellation_at_any_await_all_goes_on(storage, name, long_form, check):
    """A task is cancelled at each await of a call in turn: while it waits, or when what it waits for is there."""
    with attacked(storage, wrap=awaited, **options_of(name)) as managers:
        check(_cancel(managers, name, long_form))


@pytest.mark.parametrize(("store", "name"), each_in_short([AsyncFullStore, AsyncStore], OF_CUSTOM_STORES, []))
def test_after_a_cancellation_at_any_await_a_store_of_ones_own_goes_on(store, name, long_form, check):
    """Likewise where the store's own methods are awaited in the caller's task."""
    with attacked(Custom(store()), wrap=awaited) as managers:
        check(_cancel(managers, name, long_form))


def test_tasks_that_are_left_in_a_closed_loop_keep_no_other_out():
    """Neither the one that has the turn of a session, nor those that wait for it and are woken no more."""
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
    """A program that calls `asyncio.run` for each request holds the loop of the last one at most."""
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
def test_after_a_thread_was_cut_off_all_goes_on(storage, name, long_form, check):
    """By `PyThreadState_SetAsyncExc`, as time limits of task queues do: whether the thread then ends or goes on."""
    with attacked(storage, **options_of(name)) as managers:
        by = partial(interrupt_a_thread, managers)
        check(attack(managers, name, by=by, act=stop_this_thread, lines=long_form, most=None if long_form else 8))
