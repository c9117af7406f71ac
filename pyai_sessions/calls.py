"""Logic that is written once, as coroutines, and run for sync and for async callers.

A coroutine that reaches a store only through `Calls` never waits where `Blocking` makes them: each has ended when it
returns. Sync code drives such a coroutine like a function. `awaiting.Awaiting` makes the same calls for async callers.
"""

from __future__ import annotations

import inspect
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Calls(ABC):
    """How methods are called that may be sync or async."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[object, tuple[Any, list[None]]] = {}  # a lock, and an item for each who has or awaits it

    @abstractmethod
    async def read(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method and return what it gives."""

    @abstractmethod
    async def write(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Likewise; a caller that is cancelled meanwhile learns so only when the call has ended."""

    @asynccontextmanager
    async def turn(self, key: object) -> AsyncGenerator[None, None]:
        """Keep others out who want the turn of the same key."""
        with self._guard:
            lock, users = self._turns.setdefault(key, (self._new_lock(), []))
            users.append(None)
        try:
            await self._acquire(lock)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                users.pop()
                if not users:
                    del self._turns[key]

    @abstractmethod
    def _new_lock(self) -> Any: ...

    @abstractmethod
    async def _acquire(self, lock: Any) -> None: ...


class Blocking(Calls):
    """Calls that are finished when they return; async methods run on a loop of their own."""

    async def read(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method and return what it gives."""
        return _result(method(*arguments))

    write = read

    def _new_lock(self) -> Any:
        return threading.Lock()

    async def _acquire(self, lock: Any) -> None:
        lock.acquire()


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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: Any = None
        self._next: _Loop | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        import asyncio  # a fifth of this package's import, for those who have an async store

        if threading.current_thread() is self._thread:
            self._next = self._next or _Loop()
            return self._next.run(awaitable)
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                name = "pyai_sessions async stores"
                self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
                self._thread.start()

        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()


_loop = _Loop()


def _renew() -> None:
    """Start anew in a forked child, which does not have the parent's thread."""
    global _loop  # noqa: PLW0603 (one loop a process)
    _loop = _Loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def _result(value: T | Awaitable[T]) -> T:
    return _loop.run(cast("Awaitable[T]", value)) if isinstance(value, Awaitable) else value
