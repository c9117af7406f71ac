"""Agents of the frameworks with scripted models, each on the framework's own durable store and on ours.

A module a framework. Frameworks cannot be installed together, so each is measured in a process of its environment:
``python -m tests.benchmarks.frameworks NAME FOLDER REPLY [--quick]``.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

from pyai_sessions import AsyncSessionManager, SQLiteSessionStore
from tests.benchmarks.texts import Messages

NAMES = ("openai_agents", "google_adk", "langgraph", "strands", "agent_framework")
WITHOUT = "The Claude Agent SDK, ChatKit and Pydantic AI bring no durable store to compare with."
ANSWER = "The answer is as long as the answers of the other turns: " + 60 * "naïve 会话 token "
"""What each model says."""


class Stopwatch:
    """The time in which calls of a store are under way: that of calls that overlap counts once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way = 0
        self._start = 0.0
        self._total = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._under_way:
                self._start = time.perf_counter()
            self._under_way += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self._total += time.perf_counter() - self._start

    def reset(self) -> float:
        """Return the microseconds since the last reset."""
        with self._lock:
            found, self._total = self._total, 0.0
        return found * 1e6

    def watch(self, store: Any, *names: str) -> Any:
        """Measure the calls of methods of an object, which is returned."""
        for name in names:
            setattr(store, name, self._timed(getattr(store, name)))
        return store

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(method):

            async def awaited(*args: Any, **options: Any) -> Any:
                with self:
                    return await method(*args, **options)

            return awaited

        def called(*args: Any, **options: Any) -> Any:
            with self:
                return method(*args, **options)

        return called


class Chats(Protocol):
    """Conversations of an agent on one store. The calls of the store that a run makes are watched."""

    async def start(self, name: str, messages: Messages) -> Any:
        """Store a conversation of these messages, and return what `turn` takes."""
        ...

    async def turn(self, conversation: Any, text: str) -> object:
        """Run the agent once, as an application does that has the conversation in hand."""
        ...

    async def load(self, name: str) -> int:
        """Take up a conversation as a new process does, and return how many messages the agent would be given."""
        ...

    async def close(self) -> object: ...


class Pair(NamedTuple):
    """A framework's own store, and ours beside it.

    Attributes:
        name: The framework's store.
        durability: What both promise of a write that returned.
        theirs: Makes the conversations on the framework's store, in a folder.
        ours: Makes those on ours.
        window: Messages that a load is to return at most, where the framework loads only the newest.

    """

    name: str
    durability: str
    theirs: Callable[[Path, Stopwatch], Chats]
    ours: Callable[[Path, Stopwatch], Chats]
    window: int | None = None


@dataclass
class Found:
    """Microseconds: of the store's calls in a run, of the whole run, and of the run's work in all threads."""

    store: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, store: float, run: float, cpu: float) -> None:
        self.store.append(store)
        self.run.append(run)
        self.cpu.append(cpu)


def manager_in(folder: Path, name: str, synchronous: str = "FULL") -> AsyncSessionManager:
    """Return a manager of an SQLite file of its own."""
    return AsyncSessionManager(SQLiteSessionStore(folder / f"{name}.db", synchronous=synchronous, timeout=60))
