"""Calls of a store for async callers: async methods are awaited in the caller's task, sync ones run in threads."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from itertools import islice
from threading import get_ident
from types import FrameType
from typing import Any, TypeVar, cast
from weakref import WeakSet

from pyai_sessions.concurrency.calls import run_on, working_for
from pyai_sessions.concurrency.turns import current_frame
from pyai_sessions.events import note_error, watched_in
from pyai_sessions.sessions.trips import Ask, Asking, Trips, asked_of, count_trip

T = TypeVar("T")

SHORT, LONG, PING = "short", "long", "ping"
"""Kinds of calls: of one session or a list, of any number of sessions, and those that ask only for an answer."""

_THREADS = {LONG: 4, PING: 1}
"""Calls of a kind at the same time. Of short ones there are as many as the storage makes use of."""


class Awaiting:
    """Calls that are awaited, on asyncio or, where anyio is installed, on trio, for all managers of a store.

    Args:
        threads: How many short calls run at the same time, in threads of their own. Those that can share trips have
            two more.
        awaits: Whether they may have to await something, on the caller's loop.

    """

    def __init__(self, threads: int, *, awaits: bool = False) -> None:
        self._threads = threads
        self._awaits = awaits
        self._workers: dict[str, _Workers] = {}
        self._sharing: _Sharing | None = None
        self._limiters: dict[str, Any] = {}
        self._users: dict[object, None] = {}
        _all.add(self)

    def renew(self) -> None:
        """Start anew in a forked child, which does not have the parent's threads."""
        self._workers, self._sharing, self._limiters = {}, None, {}

    def use(self, user: object) -> None:
        """Keep the threads until this user, too, has called `leave`."""
        self._users[user] = None

    def leave(self, user: object) -> None:
        """End the threads when what they do is done, if nobody else uses them."""
        self._users.pop(user, None)
        if not self._users:
            pools = [self._sharing, *self._workers.values()]
            self.renew()
            for each in pools:
                if each is not None:
                    each.close()

    def in_thread(self, function: Callable[[], T], kind: str = SHORT) -> Coroutine[Any, Any, T]:
        """Run a function in a thread; a caller that is cancelled meanwhile learns so only when it has returned.

        Each *kind* has threads of its own: `SHORT` calls do not wait for a `LONG` one, nor a `PING` for either.
        """
        loop = _running_loop()
        if self._awaits or kind == LONG:  # a long one may work with another store, whose methods are to be awaited
            function = partial(working_for, _run_on_trio if loop is None else partial(run_on, loop), function)
        if loop is None:
            return self._in_trio_thread(function, kind)
        workers = self._workers.get(kind)
        if workers is None:
            workers = self._workers[kind] = _Workers(_THREADS.get(kind, self._threads))
        shared = asked_of(function, together=2) if kind == SHORT else None
        if shared is None:
            return workers.run(loop, _Job(function, loop.create_future()))
        trips, call = shared
        if self._sharing is None:
            self._sharing = _Sharing(min(self._threads, _SHARING), workers)
        return self._sharing.run(loop, _Call(call, trips, loop.create_future()))

    async def _in_trio_thread(self, function: Callable[[], T], kind: str) -> T:
        import anyio.to_thread

        if kind not in self._limiters:
            self._limiters[kind] = anyio.CapacityLimiter(_THREADS.get(kind, self._threads))
        return await anyio.to_thread.run_sync(function, limiter=self._limiters[kind])


_SHARING = 2
"""Threads that make calls which share trips: one asks while the other waits for answers."""

_LOOK = 0.2
"""Seconds after which a loop looks for calls that have ended without its being woken."""

_TOLD = 16
"""Tasks that go on in one round of the loop: the others wait for the next, and so does not all else."""


class _Job:
    """A call that a thread makes for a task."""

    __slots__ = ("context", "ended", "error", "function", "future", "result")

    def __init__(self, function: Callable[[], Any], future: asyncio.Future[None]) -> None:
        self.function = function
        self.context: Context = copy_context()
        self.future = future
        self.ended = False
        self.error: BaseException | None = None
        self.result: Any = None

    def run(self) -> None:
        try:
            self.result = self.context.run(self.function)
        except BaseException as err:  # noqa: BLE001 (the task raises it)
            self.error = err
        self.ended = True


class _Call(_Job):
    """A call that can share its trips: made step by step; `run` makes the rest of it alone."""

    __slots__ = ("_on", "answer", "trips")

    def __init__(self, call: Asking[Any], trips: Trips, future: asyncio.Future[None]) -> None:
        super().__init__(partial(trips.alone, call), future)
        self._on = call
        self.trips = trips
        self.answer: Any = None

    def step(self) -> Ask:
        """Go on until it asks something, and return that, or until it has ended."""
        on = self._on.throw if isinstance(self.answer, BaseException) else self._on.send
        try:
            ask: Ask = self.context.run(on, self.answer)
        except StopIteration as ended:
            self.result = ended.value
        except BaseException as err:  # noqa: BLE001 (the task raises it)
            self.error = err
            self.context.run(note_error, err)
        else:
            return ask
        self.ended = True
        return None


class _Returns:
    """The jobs that have ended and that a loop has not been told of. It is woken once for many.

    An exception from outside may cut off what wakes it, or what lets a thread begin. So it looks itself, now and then,
    while a task waits: *begin* lets threads take what is left over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        self._wake = loop.call_soon_threadsafe
        self._soon = loop.call_soon
        self._later = loop.call_later
        self._time = loop.time
        self._begin = begin
        self._jobs: deque[_Job] = deque()
        self._woken = False
        self._awaited: set[_Job] = set()
        self._next_look: asyncio.TimerHandle | None = None

    def expect(self, job: _Job) -> None:
        """Look for what became of a job till `forget`."""
        if not self._awaited:
            self._woken = False  # the loop may have been cut off before it could say so
        self._awaited.add(job)
        look = self._next_look
        if look is None:
            self._next_look = self._later(_LOOK, self._look)
        elif look.when() < self._time():  # it was cut off, or is late
            look.cancel()
            self._next_look = self._later(_LOOK, self._look)
            self._soon(self._find)

    def forget(self, job: _Job) -> None:
        self._awaited.discard(job)

    def _look(self) -> None:
        self._next_look = self._later(_LOOK, self._look) if self._awaited else None
        self._find()

    def _find(self) -> None:
        for each in list(self._awaited):
            if each.ended:
                self.forget(each)
                if not each.future.done():
                    each.future.set_result(None)
                    self._woken = False  # what was to tell it was cut off, and will not come
        self._begin()

    def add(self, job: _Job) -> None:
        self._jobs.append(job)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits
                self._wake(self._tell)

    def _tell(self) -> None:
        self._woken = False  # first: what is added from now on wakes again
        for _ in range(_TOLD):
            if not self._jobs:
                return
            future = self._jobs.popleft().future
            if not future.done():
                future.set_result(None)
        self._woken = True
        self._soon(self._tell)  # after what else the loop has to do


class _Workers:
    """Threads that make calls for the tasks of event loops.

    `loop.run_in_executor` takes 35 µs of both threads for each call, of which there are two a turn; this takes 5 where
    many tasks call at once (measured): a thread takes job after job, and the loop hears of many at a time.

    Each thread has a pool of its own, so that the one which was at work last goes on: its stack and its memory are in
    the processor's caches. Threads in turn, as those of one pool, take up to twice as long for a save.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._jobs: deque[tuple[_Job, _Returns]] = deque()
        self._next_jobs = iter(self._jobs.popleft, None)
        self._returns: dict[asyncio.AbstractEventLoop, _Returns] = {}
        self._make_pools()

    def _make_pools(self) -> None:
        self._pools = [ThreadPoolExecutor(1, thread_name_prefix="pyai_sessions") for _ in range(self._threads)]
        self._free: dict[ThreadPoolExecutor, None] = dict.fromkeys(
            self._pools
        )  # those that are not at work, the one that was last at the end

    async def run(self, loop: asyncio.AbstractEventLoop, job: _Job) -> Any:
        """Run a job in a thread, and return its result; raise a cancellation only when it has returned."""
        returns = self._returns.get(loop)
        if returns is None:
            for each in list(self._returns):
                if each.is_closed():
                    self._returns.pop(each, None)
            returns = self._returns[loop] = _Returns(loop, self.begin)
        returns.expect(job)
        self.put(job, returns)
        cancelled: asyncio.CancelledError | None = None
        while not job.ended:
            try:
                if cancelled is None:
                    await job.future
                else:  # a scope of anyio's cancels each await until the call raises; it takes 30 µs to keep that out
                    with _shielded_scope():
                        await job.future
            except asyncio.CancelledError as err:  # noqa: PERF203 (it waits)
                cancelled = err
                job.future = loop.create_future()
        returns.forget(job)
        if cancelled is not None:
            raise cancelled
        if job.error is not None:
            raise job.error
        return job.result

    def put(self, job: _Job, returns: _Returns) -> None:
        """Let a thread run a job."""
        self._jobs.append((job, returns))
        if _is_submitting():  # the loop looks for the job later
            return
        with suppress(KeyError):  # all are at work, and look for jobs before they end
            pool, _ = self._free.popitem()
            _submit(pool, self.work)

    def begin(self) -> None:
        """Let threads look for jobs that no thread may know of."""
        if self._jobs and not _is_submitting():
            # A pool does not replace a thread that an exception ended, outside of `work`; it has no public way to ask.
            if not all(each.is_alive() for pool in self._pools for each in tuple(getattr(pool, "_threads", ()))):
                self._make_pools()
            with suppress(RuntimeError):  # they were closed
                for pool in self._pools:
                    _submit(pool, self.work)

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(wait=False)

    def work(self, pool: ThreadPoolExecutor | None) -> None:
        """Run jobs until there are none, in the thread of a pool, or in another one."""
        while True:
            taken: list[tuple[_Job, _Returns]] = []
            try:
                if pool is not None:
                    self._free.pop(pool, None)
                with suppress(IndexError):
                    taken.extend(islice(self._next_jobs, 1))  # one step of C, which no exception from outside divides
                if taken:
                    self._run(taken, pool)
                elif pool is None or self._rests(pool):
                    return
            except BaseException as err:  # noqa: BLE001 (their tasks raise it: else they would wait for ever)
                for job, returns in taken:
                    if not job.ended:
                        job.error, job.ended = err, True
                    returns.add(job)

    def _rests(self, pool: ThreadPoolExecutor) -> bool:
        """Return whether a thread that finds no job ends."""
        self._free[pool] = None
        if not self._jobs:
            return True
        try:
            del self._free[pool]
        except KeyError:  # it has been given the job already
            return True
        return False

    def _run(self, taken: list[tuple[_Job, _Returns]], pool: ThreadPoolExecutor | None) -> None:
        """Run what was taken."""
        for job, returns in taken:
            if not job.ended:  # by an exception that cut off the thread which left it to this one
                job.run()
            if pool is not None:  # before the loop is told: its next job is for this thread, which looks once more
                self._free[pool] = None
            returns.add(job)


class _Sharing(_Workers):
    """Threads each of which takes as many calls as wait, and asks a storage for all of them together.

    No call waits for more to come. One that wants to be alone goes on in the threads of *alone*.
    """

    def __init__(self, threads: int, alone: _Workers) -> None:
        super().__init__(threads)
        self._alone = alone

    def begin(self) -> None:
        """Let threads look for jobs, also for those that were left to the threads of *alone*."""
        super().begin()
        self._alone.begin()

    def _run(self, taken: list[tuple[_Job, _Returns]], pool: ThreadPoolExecutor | None) -> None:  # noqa: ARG002
        calls = cast("list[tuple[_Call, _Returns]]", taken)
        with suppress(IndexError):
            taken.extend(islice(self._next_jobs, calls[0][0].trips.together - len(taken)))
        while calls:
            calls = self._go_on(calls)

    def _go_on(self, calls: list[tuple[_Call, _Returns]]) -> list[tuple[_Call, _Returns]]:
        """Let calls take a step each; return those that have not ended, with the answers for the next."""
        going: list[tuple[_Call, _Returns]] = []
        asks: list[Ask] = []
        for call, returns in calls:
            ask = call.step()
            if call.ended:
                returns.add(call)
            elif ask is None:
                self._leave(call, returns)
            else:
                going.append((call, returns))
                asks.append(ask)
        try:
            answers = going[0][0].trips.answers(asks, [call.trips for call, _ in going]) if going else []
        except BaseException as err:  # noqa: BLE001 (each call raises it: a thread that ended here would leave them waiting)
            answers = [err] * len(going)
        for (call, _), ask, answer in zip(going, asks, answers, strict=True):
            call.answer = answer
            watched = watched_in(call.context)
            if watched is not None:
                count_trip(watched, ask, answer)
        return going

    def _leave(self, call: _Call, returns: _Returns) -> None:
        try:
            self._alone.put(call, returns)
        except RuntimeError:  # they were closed: no thread begins any more
            self._alone.work(None)


_submits: dict[int, FrameType] = {}
"""The call of `_submit` that each thread makes."""


def _submit(pool: ThreadPoolExecutor, work: Callable[[ThreadPoolExecutor], None]) -> None:
    """Let the thread of a pool work. Check `_is_submitting` before."""
    thread = get_ident()
    _submits[thread] = current_frame()
    try:
        pool.submit(work, pool)
    finally:
        _submits.pop(thread, None)


def _is_submitting() -> bool:
    """Return whether this thread is in the middle of `_submit`: then another one would wait for ever.

    `ThreadPoolExecutor.submit` holds a lock of all pools. In the middle of it, garbage collection may close a coroutine
    whose task was lost, and that one may save in a `finally` block.
    """
    submit = _submits.get(get_ident())
    if submit is None:
        return False
    frame: FrameType | None = current_frame()
    while frame is not None and frame is not submit:
        frame = frame.f_back
    return frame is submit  # else an exception ended it before it could say so


_all: WeakSet[Awaiting] = WeakSet()


def _renew_all() -> None:
    for each in list(_all):
        each.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's running loop; None under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_on_trio(awaitable: Awaitable[T]) -> T:
    """Await on the loop of trio that this thread works for, to the end."""
    import anyio
    import anyio.from_thread

    results: list[T] = []

    async def wait() -> None:
        with anyio.CancelScope(shield=True):
            results.append(await awaitable)

    anyio.from_thread.run(wait)
    return results[0]


def _shielded_scope() -> AbstractContextManager[Any]:
    """Return a scope in which anyio does not cancel; where it is not imported it cannot."""
    if "anyio" not in sys.modules:
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)
