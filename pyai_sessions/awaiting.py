"""Calls of a store for async callers: async methods are awaited in the caller's task, sync ones run in threads."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast
from weakref import WeakSet

from pyai_sessions.concurrency.calls import PATIENCE, Calls
from pyai_sessions.errors import StorageClosedError, StorageLockedError
from pyai_sessions.sessions.trips import Ask, Asking, Trips, asked

T = TypeVar("T")


class Awaiting(Calls):
    """Calls that are awaited, on asyncio or, where anyio is installed, on trio.

    *threads* is how many sync methods run at the same time, in threads of its own. Where *trips* are given, the methods
    that can share them have two more.
    """

    threads = 1
    trips: Trips | None = None

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[bool, _Workers] = {}
        self._sharing: _Sharing | None = None
        self._limiters: dict[bool, Any] = {}
        self._closed = False
        _all.add(self)

    def renew(self) -> None:
        """Start anew in a forked child, which does not have the parent's threads."""
        super().renew()
        self._workers, self._sharing, self._limiters = {}, None, {}

    async def read(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method and return what it gives."""
        if inspect.iscoroutinefunction(method):
            return await method(*arguments)
        value = await self.in_thread(partial(method, *arguments))
        return await cast("Any", value) if isinstance(value, Awaitable) else value

    async def write(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Likewise; a caller that is cancelled meanwhile learns so only when the call has ended."""
        if inspect.iscoroutinefunction(method):
            return await _finished(method(*arguments))
        value = await self.in_thread(partial(method, *arguments))
        return await _finished(_awaited(cast("Any", value))) if isinstance(value, Awaitable) else value

    def in_thread(self, function: Callable[[], T], *, long: bool = False) -> Coroutine[Any, Any, T]:
        """Run a function in a thread; a caller that is cancelled meanwhile learns so only when it has returned.

        *long* ones have threads of their own, so that the others do not wait for them, nor they for each other.
        """
        if self._closed:
            raise StorageClosedError("AsyncSessionManager", "it was closed")
        loop = _running_loop()
        if loop is None:
            return self._in_trio_thread(function, long)
        if long not in self._workers:
            self._workers[long] = _Workers(_LONG if long else self.threads)
        call = None if self.trips is None else asked(function)
        if self.trips is None or call is None:
            return self._workers[long].run(loop, _Job(function, loop.create_future()))
        if self._sharing is None:
            self._sharing = _Sharing(min(self.threads, _SHARING), self.trips, self._workers[False])
        return self._sharing.run(loop, _Call(call, self.trips, loop.create_future()))

    async def _in_trio_thread(self, function: Callable[[], T], long: bool) -> T:  # noqa: FBT001 (a key)
        import anyio.to_thread

        if long not in self._limiters:
            self._limiters[long] = anyio.CapacityLimiter(_LONG if long else self.threads)
        return await anyio.to_thread.run_sync(function, limiter=self._limiters[long])

    def close(self) -> None:
        """End the threads when what they do is done."""
        self._closed = True
        for each in (self._sharing, *self._workers.values()):
            if each is not None:
                each.close()

    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Keep other tasks out who want the turn of the same key."""
        return _TasksTurn(self._turns, key)


class _Held:
    """Which task has a turn, and what wakes those that wait for it."""

    __slots__ = ("holder", "waiting")

    def __init__(self) -> None:
        self.holder: Any = None
        self.waiting: deque[Callable[[], object]] = deque()


class _TasksTurn:
    """A task's turn with a key; free again when the task has ended, if an exception from outside cut it off."""

    def __init__(self, turns: dict[object, _Held], key: str) -> None:
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        me, deadline = _current_task(), time.monotonic() + PATIENCE
        while True:
            held = self._held = self._turns.setdefault(self._key, _Held())
            if held.holder is None or held.holder is me or _has_ended(held.holder):
                held.holder = me
                return
            if time.monotonic() > deadline:
                raise StorageLockedError(f"session {self._key!r}", f"other tasks worked on it for {PATIENCE} s")
            await _woken_by(held)

    async def __aexit__(self, kind: object, err: object, trace: object) -> None:
        held = self._held
        held.holder = None
        if held.waiting:
            held.waiting.popleft()()
        elif self._turns.get(self._key) is held:
            self._turns.pop(self._key, None)


def _current_task() -> Any:
    if _running_loop() is not None:
        return asyncio.current_task()
    import trio

    return trio.lowlevel.current_task()


def _has_ended(task: Any) -> bool:
    if not isinstance(task, asyncio.Future):
        return task.coro.cr_frame is None
    return task.done() or task.get_loop().is_closed()  # a loop that Ctrl-C ended leaves its tasks as they are


async def _woken_by(held: _Held) -> None:
    """Wait until a turn is given back; look again now and then, for that may have been cut off."""
    loop = _running_loop()
    if loop is not None:
        future: asyncio.Future[None] = loop.create_future()
        wake = partial(_wake, loop, future)
        held.waiting.append(wake)
        try:
            await asyncio.wait([future], timeout=_LOOK)
        finally:
            with suppress(ValueError):  # it has been woken
                held.waiting.remove(wake)
        return
    import anyio

    event = anyio.Event()
    held.waiting.append(event.set)
    try:
        with anyio.move_on_after(_LOOK):
            await event.wait()
    finally:
        with suppress(ValueError):
            held.waiting.remove(event.set)


def _wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop was closed: nobody waits
        loop.call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_LONG = 4
"""Long calls at the same time."""

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

    __slots__ = ("_on", "answer")

    def __init__(self, call: Asking[Any], trips: Trips, future: asyncio.Future[None]) -> None:
        super().__init__(partial(trips.alone, call), future)
        self._on = call
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
        self._looks_at = 0.0

    def expect(self, job: _Job) -> None:
        """Look for what became of a job till `forget`."""
        self._awaited.add(job)
        now = self._time()
        if now > self._looks_at + _LOOK:
            self._looks_at = now + _LOOK
            self._later(_LOOK, self._look)

    def forget(self, job: _Job) -> None:
        self._awaited.discard(job)

    def _look(self) -> None:
        if not self._awaited:
            return
        self._looks_at = self._time() + _LOOK
        self._later(_LOOK, self._look)
        for each in list(self._awaited):
            if each.ended and not each.future.done():
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
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._jobs: deque[tuple[_Job, _Returns]] = deque()
        self._next_jobs = iter(self._jobs.popleft, None)
        self._returns: dict[asyncio.AbstractEventLoop, _Returns] = {}
        self._make_pool()

    def _make_pool(self) -> None:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="pyai_sessions")
        self._free = deque([None] * self._threads)  # an item for each thread that is not at work

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
        with _shielded_scope():
            while not job.ended:
                try:
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
        with suppress(IndexError):  # all are at work, and look for jobs before they end
            self._free.pop()
            self._pool.submit(self.work)

    def begin(self) -> None:
        """Let a thread look for jobs that no thread may know of."""
        if self._jobs:
            # A pool does not replace a thread that an exception ended, outside of `work`; it has no public way to ask.
            if not all(each.is_alive() for each in tuple(getattr(self._pool, "_threads", ()))):
                self._make_pool()
            with suppress(RuntimeError):  # they were closed
                self._pool.submit(self.work)

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def work(self) -> None:
        """Run jobs until there are none."""
        while True:
            taken: list[tuple[_Job, _Returns]] = []
            try:
                with suppress(IndexError):
                    taken.extend(islice(self._next_jobs, 1))  # one step of C, which no exception from outside divides
                if taken:
                    self._run(taken)
                elif self._rests():
                    return
            except BaseException as err:  # noqa: BLE001 (their tasks raise it: else they would wait for ever)
                for job, returns in taken:
                    if not job.ended:
                        job.error, job.ended = err, True
                    returns.add(job)

    def _rests(self) -> bool:
        """Return whether a thread that finds no job ends."""
        if len(self._free) < self._threads:
            self._free.append(None)
        if not self._jobs:
            return True
        try:
            self._free.pop()
        except IndexError:  # others are at work
            return True
        return False

    def _run(self, taken: list[tuple[_Job, _Returns]]) -> None:
        """Run what was taken."""
        for job, returns in taken:
            if not job.ended:  # by an exception that cut off the thread which left it to this one
                job.run()
            returns.add(job)


class _Sharing(_Workers):
    """Threads each of which takes as many calls as wait, and asks a storage for all of them together.

    No call waits for more to come. One that wants to be alone goes on in the threads of *alone*.
    """

    def __init__(self, threads: int, trips: Trips, alone: _Workers) -> None:
        super().__init__(threads)
        self._trips = trips
        self._alone = alone

    def begin(self) -> None:
        """Let threads look for jobs, also for those that were left to the threads of *alone*."""
        super().begin()
        self._alone.begin()

    def _run(self, taken: list[tuple[_Job, _Returns]]) -> None:
        with suppress(IndexError):
            taken.extend(islice(self._next_jobs, self._trips.together - len(taken)))
        calls = cast("list[tuple[_Call, _Returns]]", taken)
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
            answers = self._trips.answers(asks)
        except BaseException as err:  # noqa: BLE001 (each call raises it: a thread that ended here would leave them waiting)
            answers = [err] * len(going)
        for (call, _), answer in zip(going, answers, strict=True):
            call.answer = answer
        return going

    def _leave(self, call: _Call, returns: _Returns) -> None:
        try:
            self._alone.put(call, returns)
        except RuntimeError:  # they were closed: no thread begins any more
            self._alone.work()


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


def _shielded_scope() -> AbstractContextManager[Any]:
    """Return a scope in which anyio does not cancel; where it is not imported it cannot."""
    if "anyio" not in sys.modules:
        return nullcontext()
    import anyio

    return anyio.CancelScope(shield=True)


async def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await to the end, also when cancelled meanwhile: then raise that after the end."""
    results: list[T] = []
    with _shielded_scope():
        results.append(await (coroutine if _running_loop() is None else _uncancelled(coroutine)))
    return results[0]


async def _uncancelled(coroutine: Coroutine[Any, Any, T]) -> T:
    """Do so where asyncio's own ``task.cancel()`` cancels, which no scope keeps out."""
    task = asyncio.ensure_future(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as err:  # noqa: PERF203 (it waits)
            cancelled = err
    if cancelled is not None:
        raise cancelled
    return task.result()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
