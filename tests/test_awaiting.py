"""Tests of the threads that make calls for an event loop, also when an exception interrupts their bookkeeping."""

import asyncio
import threading
from functools import partial

import pytest

from pyai_sessions import awaiting
from pyai_sessions.awaiting import _Job, _Returns, _Workers
from tests.faults.points import interrupt

LONG = 60.0


class Stop(BaseException):
    """An exception that another thread raises in this one."""


@pytest.fixture
def never_looks(monkeypatch):
    """Let a loop learn of ended calls only by being told."""
    monkeypatch.setattr(awaiting, "_LOOK", 3600.0)


def in_a_loop(use):
    """Run a function that is given its loop."""

    async def main():
        return await asyncio.wait_for(use(asyncio.get_running_loop()), LONG)

    return asyncio.run(main())


def jobs_of(loop, count):
    return [_Job(lambda: None, loop.create_future()) for _ in range(count)]


@pytest.mark.usefixtures("never_looks")
def test_a_loop_is_told_of_all_that_ended_though_somebody_waits_no_more():
    """A cancelled task does not keep others from learning that their calls ended, however many these are."""

    async def use(loop):
        returns, jobs = _Returns(loop, lambda: None), jobs_of(loop, 50)
        jobs[3].future.cancel()
        for each in jobs:
            returns.add(each)
        await asyncio.wait([each.future for each in jobs])

    in_a_loop(use)


def test_a_loop_finds_what_ended_without_its_being_told(monkeypatch):
    """If telling the loop was interrupted, the loop finds ended calls itself, and goes on."""
    monkeypatch.setattr(awaiting, "_LOOK", 0.0)

    async def use(loop):
        begun = []
        returns, (first, second) = _Returns(loop, lambda: begun.append(1)), jobs_of(loop, 2)
        returns._woken = True  # by what was cut off then
        first.run()
        returns.expect(first)
        await first.future
        returns.add(second)
        await second.future
        assert begun

    in_a_loop(use)


def test_a_call_ends_though_the_loop_was_cut_off_in_the_one_before(monkeypatch):
    """If the loop was interrupted while it was told, the next call makes it look again."""
    monkeypatch.setattr(awaiting, "_LOOK", 0.05)

    async def use(loop):
        returns = _Returns(loop, lambda: None)
        first, second = jobs_of(loop, 2)
        returns.expect(first)
        first.run()
        returns.add(first)
        await first.future
        returns.forget(first)
        await asyncio.sleep(0.06)  # it looks, and finds that nobody waits
        returns._woken = True  # as an exception leaves it that comes where `_tell` begins

        returns.expect(second)
        second.run()
        returns.add(second)
        await second.future

    in_a_loop(use)


def test_a_call_whose_task_was_cut_off_is_forgotten():
    """A call whose task was interrupted is forgotten when it ends."""

    async def use(loop):
        returns = _Returns(loop, lambda: None)
        (job,) = jobs_of(loop, 1)
        returns.expect(job)
        job.run()
        returns._find()
        assert not returns._awaited
        assert job.future.done()

    in_a_loop(use)


def test_what_has_ended_is_looked_for_no_more():
    """A loop does not keep calls that have ended."""

    async def use(loop):
        workers = _Workers(1)
        assert await workers.run(loop, _Job(lambda: "result", loop.create_future())) == "result"
        workers.close()
        assert not workers._returns[loop]._awaited

    in_a_loop(use)


@pytest.mark.usefixtures("never_looks")
def test_a_task_is_told_of_what_cut_off_the_thread_that_made_its_call(monkeypatch):
    """If a thread is interrupted, the task that waits for its call gets the exception at once."""

    waits = threading.Event()

    def stop(*_):
        waits.wait(LONG)
        raise Stop

    monkeypatch.setattr(_Workers, "_run", stop)

    async def use(loop):
        workers = _Workers(1)
        loop.call_soon(waits.set)  # once the task waits
        with pytest.raises(Stop):
            await workers.run(loop, _Job(lambda: None, loop.create_future()))
        workers.close()

    in_a_loop(use)


def test_a_thread_that_would_rest_takes_what_came_meanwhile():
    """A thread looks for new calls before it goes idle."""

    async def use(loop):
        workers = _Workers(1)
        (pool,) = workers._pools
        workers._free.clear()
        workers._jobs.append((*jobs_of(loop, 1), _Returns(loop, workers.begin)))
        assert not workers._rests(pool)
        workers._jobs.clear()
        assert workers._rests(pool)

    in_a_loop(use)


def test_the_thread_that_was_at_work_last_goes_on():
    """Consecutive calls use one thread. Concurrent calls use several."""

    async def use(loop):
        workers = _Workers(4)
        idents = [await workers.run(loop, _Job(threading.get_ident, loop.create_future())) for _ in range(20)]
        assert len(set(idents)) == 1
        together = threading.Barrier(4, timeout=LONG)
        await asyncio.gather(*(workers.run(loop, _Job(together.wait, loop.create_future())) for _ in range(4)))
        workers.close()

    in_a_loop(use)


def test_a_job_whose_thread_was_never_woken_is_found(monkeypatch):
    """A call is made even if the code that wakes its thread was interrupted."""
    monkeypatch.setattr(awaiting, "_LOOK", 0.01)

    async def use(loop):
        workers = _Workers(2)
        workers._free.clear()  # each was taken, and none was woken
        assert await workers.run(loop, _Job(lambda: "result", loop.create_future())) == "result"
        workers.close()

    in_a_loop(use)


def test_a_call_is_made_that_comes_while_its_thread_hands_over_another_one(monkeypatch):
    """A coroutine that garbage collection closes may call at any point at which its thread wakes one that works."""
    monkeypatch.setattr(awaiting, "_LOOK", 0.01)

    async def use(loop):
        at, points = 0, 1
        while at <= points:
            workers = _Workers(2)
            returns = _Returns(loop, workers.begin)
            jobs = jobs_of(loop, 2)
            for each in jobs:
                returns.expect(each)
            put, put_another = (partial(workers.put, each, returns) for each in jobs)
            tracer, _ = interrupt(put, at, put_another)
            points = points if at else tracer.points
            await asyncio.wait([each.future for each in (jobs if at else jobs[:1])])
            workers.close()
            at += 1
        assert points > 5

    in_a_loop(use)
