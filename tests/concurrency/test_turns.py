"""Tests of turns: who has one, who waits, and what happens if its call was interrupted."""

import asyncio
import gc
import os
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import anyio
import pytest
import trio

from pyai_sessions import AsyncSessionManager, Message, Session, SessionManager, StorageInUseError, StorageLockedError
from pyai_sessions.concurrency import turns
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.stores.four_methods import FourMethods
from tests.contract.stores import AsyncStore, SyncStore
from tests.faults.points import interrupt, stop

LONG = 60.0


@pytest.fixture
def turn():
    return Turn()


@pytest.fixture
def switching():
    """Let threads switch as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def take_and_vanish(turn):
    """Take a turn and end without giving it back, like an interrupted call."""
    turn.take(Claim(current_frame()), LONG, "here")


def take_and_give(turn, timeout=LONG):
    claim = Claim(current_frame())
    turn.take(claim, timeout, "here")
    turn.give_back(claim)


@pytest.mark.usefixtures("switching")
def test_one_call_at_a_time_has_it_though_some_never_give_it_back(turn):
    """One call at a time has the turn. If a call ends without giving it back, nobody waits for it."""
    counted = 0

    def count(n):
        nonlocal counted
        claim = Claim(current_frame())
        turn.take(claim, LONG, "here", spins=n % 3)
        before = counted
        for _ in range(n % 5):
            pass
        counted = before + 1
        if n % 7:
            turn.give_back(claim)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8000)))
    assert counted == 8000
    assert len(turn._claims) <= 2  # ended calls are forgotten


def test_the_turn_of_a_call_that_was_cut_off_is_free_for_all(turn):
    """Any thread can take the turn of an interrupted call, even if a traceback keeps the call's frame."""
    with pytest.raises(ZeroDivisionError) as kept:
        _fail_with(turn)
    take_and_give(turn, timeout=0)
    take_and_vanish(turn)
    thread = threading.Thread(target=take_and_give, args=(turn,))
    thread.start()
    thread.join(LONG)
    assert kept.traceback
    assert turn.latest.is_over()


def _fail_with(turn):
    turn.take(Claim(current_frame()), LONG, "here")
    _ = 1 / 0


def test_another_thread_waits_while_the_call_runs(turn):
    """Another thread waits for the turn until its timeout, or until the turn is given back."""
    claim = Claim(current_frame())
    turn.take(claim, LONG, "here")
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(StorageLockedError, match=r"0\.1 s"):
            pool.submit(take_and_give, turn, 0.1).result(LONG)
        waits = pool.submit(take_and_give, turn)
        assert not waits.done()
        turn.give_back(claim)
        waits.result(LONG)


def test_a_thread_that_has_it_is_told_at_once(turn):
    """A thread that takes a turn twice gets an error at once, since it would wait for itself."""
    claim = Claim(current_frame())
    turn.take(claim, LONG, "here")

    with pytest.raises(StorageInUseError, match=r"here: .* interrupted; let the handler set a flag"):
        take_and_give(turn)

    turn.give_back(claim)
    take_and_give(turn)


def test_a_claim_keeps_nothing_alive_once_it_is_given_back(turn):
    """After a turn was given back, nothing of the call stays in memory."""

    class Large:
        pass

    def call():
        large = Large()
        take_and_give(turn)
        return large

    call()
    gc.collect()

    assert not [each for each in gc.get_objects() if isinstance(each, Large)]


def test_a_forked_child_has_the_turns_of_its_own_thread_alone(turn):
    """In a forked child, turns of the parent's other threads are free."""
    taken, end = threading.Event(), threading.Event()
    mine, theirs = turn, Turn()

    def hold():
        claim = Claim(current_frame())
        theirs.take(claim, LONG, "here")
        theirs._go_first(0.0, Claim(current_frame()), threading.Lock())
        theirs._sleeping.extend([threading.Lock(), threading.Lock()])
        taken.set()
        end.wait(LONG)
        theirs.give_back(claim)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(LONG)
    claim = Claim(current_frame())
    mine.take(claim, LONG, "here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            take_and_give(theirs, timeout=0)
            code = 0 if mine.latest is claim and not claim.is_over() and not theirs._sleeping else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    end.set()
    thread.join(LONG)


# Of sessions of custom stores ----------------------------------------------------------------------------------------


def test_turns_of_sessions_are_forgotten_when_nobody_wants_them():
    """A store that saves many sessions does not keep a turn for each."""
    storage = FourMethods(SyncStore())
    manager = SessionManager(storage)
    for n in range(3):
        manager.create_session("ada", session_id=f"{n}")

    assert not storage.turns


def test_all_that_use_a_store_take_turns():
    """Managers of the same store take turns with each other."""
    store = SyncStore()

    assert FourMethods(store).turns is FourMethods(store).turns


def test_appends_are_cancelled_at_any_await_and_what_returned_is_stored_once():
    """Appends cancelled at any await leave others running, and can be repeated without storing twice."""

    async def main():
        manager = AsyncSessionManager(AsyncStore())
        await manager.create_session("ada", session_id="s")
        for n in range(60):
            message = Message("user", f"{n}", message_id=f"m{n}")
            task = asyncio.create_task(manager.append("s", message))
            beside = asyncio.create_task(manager.append("s", Message("user", f"beside {n}")))
            for _ in range(n % 20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.wait_for(manager.append("s", message), LONG)
            await asyncio.wait_for(beside, LONG)
        found = [each.content for each in (await manager.get_session("s")).messages]
        assert sorted(found) == sorted([*(f"{n}" for n in range(60)), *(f"beside {n}" for n in range(60))])

    asyncio.run(main())


def test_appends_take_turns_on_trio():
    """On trio, a cancelled scope passes its turn on."""

    async def main():
        manager = AsyncSessionManager(AsyncStoreOfTrio())
        await manager.create_session("ada", session_id="s")

        async def append(n):
            with anyio.CancelScope() as scope:
                if n % 3 == 0:
                    scope.cancel()
                await manager.append("s", Message("user", f"{n}"))

        async with anyio.create_task_group() as group:
            for n in range(12):
                group.start_soon(append, n)
        found = {each.content for each in (await manager.get_session("s")).messages}
        assert found >= {f"{n}" for n in range(12) if n % 3}

    trio.run(main)


class AsyncStoreOfTrio(AsyncStore):
    """An async store whose methods wait as trio does."""

    async def save(self, session):
        await trio.lowlevel.checkpoint()
        self.rows[session.session_id] = session.to_json()

    async def get(self, session_id):
        await trio.lowlevel.checkpoint()
        row = self.rows.get(session_id)
        return row and Session.from_json(row)


class LookedAt(Turn):
    """A turn that counts how often another thread looked at it in vain."""

    __slots__ = ("looks", "user")

    def claim(self, mine):
        found = super().claim(mine)
        if found is not None and mine.thread != self.user:
            self.looks.release()
        return found


def test_one_that_waits_gets_its_turn_beside_one_that_takes_it_again_and_again():
    """A thread that takes the turn again and again does not keep a waiting thread out."""
    turn, served = LookedAt(), threading.Event()
    turn.looks, turn.user = threading.Semaphore(0), threading.get_ident()

    def wait():
        mine = Claim(current_frame())
        try:
            turn.take(mine, 30.0, "here")
            turn.give_back(mine)
        finally:
            served.set()

    with ThreadPoolExecutor(1) as threads:
        waiting = None
        while not served.is_set():
            mine = Claim(current_frame())
            turn.take(mine, LONG, "here")
            waiting = waiting or threads.submit(wait)
            turn.looks.acquire(timeout=0.2)  # while the other is awake the turn is taken
            turn.give_back(mine)
        waiting.result()


def test_one_that_sleeps_is_woken_by_the_one_that_gives_the_turn_back(monkeypatch):
    """Giving a turn back wakes the next waiter, even after others gave up."""
    monkeypatch.setattr(turns, "_SLICE", LONG)
    for patience in (LONG, -1.0):  # nobody goes first, then the waiter does
        monkeypatch.setattr(turns, "_PATIENCE", patience)
        turn = LookedAt()
        turn.looks, turn.user = threading.Semaphore(0), threading.get_ident()
        with ThreadPoolExecutor(1) as pool:
            mine = Claim(current_frame())
            turn.take(mine, LONG, "here")
            with pytest.raises(StorageLockedError):
                pool.submit(take_and_give, turn, 0.0).result(LONG)
            turn.looks = threading.Semaphore(0)
            waits = pool.submit(take_and_give, turn)
            assert turn.looks.acquire(timeout=LONG)
            assert turn.looks.acquire(timeout=LONG)  # it looks twice, and sleeps then
            while not (turn._sleeping if patience else turn._first):
                pass
            turn.give_back(mine)
            assert waits.result(LONG / 2) is None


def test_one_that_is_woken_in_vain_stays_the_next(monkeypatch):
    """A woken waiter whom another thread overtook stays the next in line."""
    monkeypatch.setattr(turns, "_SLICE", LONG)
    turn, served, mine = LookedAt(), [], Claim(current_frame())
    turn.looks, turn.user = threading.Semaphore(0), threading.get_ident()
    turn.take(mine, LONG, "here")

    def wait(name):
        claim = Claim(current_frame())
        turn.take(claim, LONG, "here")
        served.append(name)
        turn.give_back(claim)

    with ThreadPoolExecutor(2) as pool:
        waits = []
        for name in ("first", "second"):
            waits.append(pool.submit(wait, name))
            for _ in range(2):
                assert turn.looks.acquire(timeout=LONG)
        turn._sleeping.popleft().release()
        assert turn.looks.acquire(timeout=LONG)
        turn.give_back(mine)
        for each in waits:
            each.result(LONG / 2)

    assert served == ["first", "second"]


def test_one_that_gave_up_goes_first_no_more(turn, monkeypatch):
    """A waiter that gave up does not go first any more, even if its function runs on."""
    monkeypatch.setattr(turns, "_PATIENCE", -1.0)
    mine = Claim(current_frame())
    turn.take(mine, LONG, "here")

    def give_up():
        with pytest.raises(StorageLockedError):
            turn.take(Claim(current_frame()), 0.0, "here")
        turn.give_back(mine)
        with ThreadPoolExecutor(1) as other:
            other.submit(take_and_give, turn, 0.0).result(LONG)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(give_up).result(LONG)


def test_one_that_goes_first_keeps_others_out_while_it_waits_but_not_its_own_thread(turn):
    """The first in line keeps other threads out, but not its own thread, and nobody once it was interrupted."""

    def go_first():
        claim = Claim(current_frame())
        turn._go_first(0.0, claim, threading.Lock())
        take_and_give(turn, 0.0)
        with pytest.raises(StorageLockedError):
            pool.submit(take_and_give, turn, 0.0).result(LONG)
        return claim

    with ThreadPoolExecutor(1) as pool:
        cut_off = go_first()
        pool.submit(take_and_give, turn, 0.0).result(LONG)

        mine = Claim(current_frame())
        turn._go_first(1.0, mine, threading.Lock())
        assert turn._first[1] is mine
        assert cut_off.is_over()


class OverMeanwhile(Claim):
    """A claim that is over, and calls *then* the first time that it is asked."""

    __slots__ = ("then",)

    def is_over(self):
        """Return whether it is over."""
        then, self.then = self.then, None
        if then:
            then()
        return super().is_over()


def test_a_thread_that_looked_long_ago_does_not_take_what_another_has(turn):
    """A thread that saw an ended claim long ago does not take a turn that another thread has by now."""
    held, turn.latest = Claim(current_frame()), OverMeanwhile()

    def go_on():
        for _ in range(3):
            take_and_give(turn)
        assert turn.claim(held) is None

    turn.latest.then = go_on

    assert turn.claim(Claim(current_frame())) is held
    assert list(turn._claims.values()) == [held]


def test_claims_that_were_cut_off_are_forgotten(turn):
    """Interrupted claims are forgotten, and later calls take the turn at once."""
    for n in count(1):
        tracer, _ = interrupt(partial(take_and_give, turn), n, stop, lines=True, only=["/turns.py"])
        if tracer.where is None:
            break
        take_and_give(turn, 0.0)
        assert len(turn._claims) == 1, tracer.where
    assert n > 20
