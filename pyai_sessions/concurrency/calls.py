"""Logic that is written once, as coroutines, and run for sync and for async callers.

A coroutine that reaches a store only through `Calls` never waits where `Blocking` makes them: each has ended when it
returns. Sync code drives such a coroutine like a function. `awaiting.Awaiting` makes the same calls for async callers.
"""

from __future__ import annotations

import inspect
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

from pyai_sessions.concurrency.turns import Claim, Turn, current_frame

T = TypeVar("T")


class Calls(ABC):
    """How methods are called that may be sync or async."""

    def __init__(self) -> None:
        self._turns: dict[object, Any] = {}

    def renew(self) -> None:
        """Forget, in a forked child, who had or awaited a turn in the parent."""
        self._turns = {}

    @abstractmethod
    async def read(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method and return what it gives."""

    @abstractmethod
    async def write(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Likewise; a caller that is cancelled meanwhile learns so only when the call has ended."""

    @abstractmethod
    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Keep others out who want the turn of the same key."""


class Blocking(Calls):
    """Calls that are finished when they return; async methods run on a loop of their own."""

    async def read(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method and return what it gives."""
        return _result(method(*arguments))

    write = read

    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Keep other threads out who want the turn of the same key."""
        return _ThreadsTurn(self._turns, key)


PATIENCE = 60.0
"""Seconds that a call waits while others of the same process work on the same session of a custom store."""


class _ThreadsTurn:
    """A thread's turn with a key."""

    def __init__(self, turns: dict[object, Turn], key: str) -> None:
        self._turns = turns
        self._key = key

    async def __aenter__(self) -> None:
        frame = current_frame(1)  # of the coroutine with the block; sync code drives it, so it never waits meanwhile
        while True:
            self._turn, self._claim = self._turns.setdefault(self._key, Turn()), Claim(frame)
            self._turn.take(self._claim, PATIENCE, f"session {self._key!r}")
            if self._turns.get(self._key) is self._turn:
                return
            self._turn.give_back(self._claim)  # who had it was the last who wanted it, and took it out

    async def __aexit__(self, kind: object, err: object, trace: object) -> None:
        if self._turns.get(self._key) is self._turn:
            self._turns.pop(self._key, None)
        self._turn.give_back(self._claim)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine whose calls are `Blocking`, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    coroutine.close()
    msg = "a coroutine that sync code drives waited for something"
    raise RuntimeError(msg)


def driven(store: object) -> Any:
    """Return an object with the methods of *store*, whose coroutines are driven."""
    return _Driven(store)


class _Driven:
    def __init__(self, store: object) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if not inspect.iscoroutinefunction(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            return drive(value(*arguments, **options))

        return call

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_store":
            super().__setattr__(name, value)
        else:
            setattr(self._store, name, value)


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
        return _run(running[1], awaitable)

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


_GRACE = 10.0
"""Seconds that a call which is interrupted waits for what it cancelled to end."""


def _run(loop: Any, awaitable: Awaitable[T]) -> T:
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
        ended.acquire()
    except BaseException:
        loop.call_soon_threadsafe(lambda: [each.cancel() for each in tasks])
        ended.acquire(timeout=_GRACE)
        raise
    result: T = tasks[0].result()
    return result


_loop = _Loop()


def _renew() -> None:
    """Start anew in a forked child, which does not have the parent's thread."""
    global _loop  # noqa: PLW0603 (one loop a process)
    _loop = _Loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def _result(value: T | Awaitable[T]) -> T:
    return _loop.run(cast("Awaitable[T]", value)) if isinstance(value, Awaitable) else value
