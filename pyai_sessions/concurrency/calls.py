"""Methods that may be sync or async, called from sync code.

What is to be awaited runs on the event loop of the task that the thread works for; without one, on a loop of our own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.errors import StorageClosedError

T = TypeVar("T")

Run = Callable[[Awaitable[Any]], Any]
"""Awaits on some loop, and returns the result."""

PATIENCE = 60.0
"""Seconds that a call waits while others of this process start the loop, or write the same session."""

_SLICE, _GRACE = 0.2, 10.0
"""Seconds after which a call looks whether its loop still runs; and that it waits for one that is stopped."""


class _Thread(threading.local):
    """What a thread works for."""

    run: Run | None = None


_thread = _Thread()


def working_for(run: Run, function: Callable[[], T]) -> T:
    """Call a function that awaits by *run*, for the loop of another thread."""
    before, _thread.run = _thread.run, run
    try:
        return function()
    finally:
        _thread.run = before


def outcome(value: Any) -> Any:
    """Return what a method returned; where that is to be awaited, what comes of it."""
    if not isinstance(value, Awaitable):
        return value
    run: Run = _thread.run or _loop.run
    return run(cast("Any", value))


class _Loop:
    """An event loop in a thread of its own, for async stores that are called from sync code.

    It is another loop than the caller's, so a call from inside a running loop cannot dead-lock with it. Where a store's
    own coroutine makes such a call, the next loop runs it.
    """

    def __init__(self) -> None:
        self._starting = Turn()
        self._running: tuple[threading.Thread, Any] | None = None
        self._next: _Loop | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        running = self._running or self._start()
        if threading.current_thread() is running[0]:
            self._next = self._next or _Loop()
            return self._next.run(awaitable)
        return run_on(running[1], awaitable)

    def _start(self) -> tuple[threading.Thread, Any]:
        import asyncio  # a fifth of this package's import, for those who have an async store

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
    """Await on the loop of another thread. An exception from outside cancels that, and is raised when it has ended."""
    tasks: list[Any] = []
    ended = threading.Lock()
    ended.acquire()

    async def wait() -> T:
        return await awaitable

    def end(_: object) -> None:
        ended.release()

    def start() -> None:
        tasks.append(loop.create_task(wait()))
        tasks[0].add_done_callback(end)

    try:
        loop.call_soon_threadsafe(start)
        _wait_for(ended, loop)
    except BaseException:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: [each.cancel() for each in tasks])
            ended.acquire(timeout=_GRACE)
        raise
    result: T = tasks[0].result()
    return result


def _wait_for(ended: threading.Lock, loop: Any) -> None:
    """Wait for what a loop is to do; not for ever for one that was closed, or runs no more."""
    stopped = 0.0
    while not ended.acquire(timeout=_SLICE):
        stopped = 0.0 if loop.is_running() else stopped + _SLICE
        if loop.is_closed() or stopped > _GRACE:
            raise StorageClosedError("the event loop of the caller", "it ended before what was awaited on it")


_loop = _Loop()


def _renew() -> None:
    """Start anew in a forked child, which does not have the parent's thread."""
    global _loop  # noqa: PLW0603 (one loop a process)
    _loop = _Loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
