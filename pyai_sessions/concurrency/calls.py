"""Calling methods that may be sync or async from sync code.

An awaitable runs on the event loop of the task that the thread works for, or else on an event loop of our own.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from pyai_sessions.concurrency.processes import renew_in_children
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.errors import StorageClosedError

T = TypeVar("T")

Run = Callable[[Awaitable[Any]], Any]
"""Awaits an awaitable on an event loop, and returns the result."""

PATIENCE = 60.0
"""Seconds that a call waits while others in this process start the loop, or write the same session."""

_SLICE, _GRACE = 0.2, 10.0
"""Seconds between two checks that the loop still runs, and seconds to wait for a loop that has stopped."""


class _Thread(threading.local):
    """How this thread awaits: by `run`, if it works for a task."""

    run: Run | None = None


_thread = _Thread()


def working_for(run: Run, function: Callable[[], T]) -> T:
    """Call a function in this thread; *run* awaits for it, on the loop of another thread."""
    before, _thread.run = _thread.run, run
    try:
        return function()
    finally:
        _thread.run = before


def outcome(value: Any) -> Any:
    """Return a value, or its result if it is awaitable."""
    if not isinstance(value, Awaitable):
        return value
    run: Run = _thread.run or _loop.run
    return run(cast("Any", value))


class _Loop:
    """An event loop in a thread of its own, for async stores that are called from sync code.

    A call from inside a running event loop cannot deadlock, since this is another loop. If a coroutine on this loop
    makes such a call, the *next* loop runs it.
    """

    def __init__(self) -> None:
        self._starting = Turn()
        self._running: tuple[threading.Thread, Any] | None = None
        self._next: _Loop | None = None
        renew_in_children(self)

    def renew(self) -> None:
        """Start again in a forked child, where the thread of the loop is missing."""
        self._running = self._next = None

    def run(self, awaitable: Awaitable[T]) -> T:
        running = self._running or self._start()
        if threading.current_thread() is running[0]:
            self._next = self._next or _Loop()
            return self._next.run(awaitable)
        return run_on(running[1], awaitable)

    def _start(self) -> tuple[threading.Thread, Any]:
        import asyncio  # slow to import, and only needed for async stores

        claim = Claim(current_frame())
        self._starting.take(claim, PATIENCE, "the event loop of async stores")
        try:
            if self._running is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="pyai_sessions async stores", daemon=True)
                thread.start()
                self._running = thread, loop
            return self._running
        finally:
            self._starting.give_back(claim)


def run_on(loop: Any, awaitable: Awaitable[T]) -> T:
    """Await on the loop of another thread. If this call is interrupted, cancel the task, and wait for its end."""
    begun: list[Any] = []  # the task that awaits, noted by itself: a signal handler may interrupt all else
    ended = threading.Lock()
    ended.acquire()
    cancelled = False

    async def wait() -> Any:
        from asyncio import current_task

        if begun or cancelled:
            return None
        begun.append(current_task())
        begun[0].add_done_callback(end)
        return await awaitable

    def end(_: object) -> None:
        ended.release()

    def start() -> None:
        if not begun:
            loop.create_task(wait())

    def cancel() -> None:
        nonlocal cancelled
        cancelled = True
        if begun:
            begun[0].cancel()
        else:
            ended.release()

    try:
        _wait_for(ended, loop, begun, start)
    except BaseException:
        if not loop.is_closed():
            loop.call_soon_threadsafe(cancel)
            ended.acquire(timeout=_GRACE)
        raise
    result: T = begun[0].result()
    return result


def _wait_for(ended: threading.Lock, loop: Any, begun: list[Any], start: Callable[[], None]) -> None:
    """Wait until a task on a loop has ended; raise if the loop is closed or has stopped.

    A loop drops a callback that a signal handler interrupts. So it is asked again until the task has begun, and the end
    of the task is looked for, too.
    """
    stopped = 0.0
    loop.call_soon_threadsafe(start)
    while not ended.acquire(timeout=_SLICE):
        stopped = 0.0 if loop.is_running() else stopped + _SLICE
        if loop.is_closed() or stopped > _GRACE:
            raise StorageClosedError("the event loop of the caller", "it ended before what was awaited on it")
        if not begun:
            with suppress(RuntimeError):  # the loop is closed: the next look tells so
                loop.call_soon_threadsafe(start)
        elif begun[0].done():
            return


_loop = _Loop()
