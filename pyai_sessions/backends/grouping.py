"""Group commit: what many threads want to store at the same time goes into one transaction."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from pyai_sessions.errors import StorageLockedError

T = TypeVar("T")


class _Waiting(Generic[T]):
    """A thread's item, and what came of it."""

    __slots__ = ("failure", "item", "settled", "stored")

    def __init__(self, item: T) -> None:
        self.item = item
        self.stored: bool | None = None
        self.failure: Exception | None = None
        self.settled = threading.Lock()  # held until something came of it
        self.settled.acquire()


class Group(Generic[T]):
    """Stores what threads bring, together: the first to come stores all that has come by the time it may write.

    Sixteen threads so share one transaction and its wait for the disk, where each would wait for fifteen others. No
    thread waits for more to come. The queue has no lock, since threads that sleep for one at each save line up there.

    Args:
        store: Stores items in one transaction and tells of each whether it was stored. It is given a function that
            returns them, to be called once when it may write.
        where: The storage's name, for errors.
        timeout: Seconds that a thread waits for another's transaction to begin.

    """

    def __init__(self, store: Callable[[Callable[[], Sequence[T]]], list[bool]], where: str, timeout: float) -> None:
        self._store = store
        self._where = where
        self._timeout = timeout
        self._queues: dict[int, deque[_Waiting[T]]] = {}  # by process: who waits in the parent is not in a fork

    def put(self, item: T) -> bool:
        """Store an item, with others or alone; return whether it was stored. Storing it may be tried twice."""
        process = os.getpid()
        queue = self._queues[process] if process in self._queues else self._queues.setdefault(process, deque())
        mine = _Waiting(item)
        queue.append(mine)
        if _is_first(queue, mine):
            self._store_all(queue)
        self._wait(queue, mine)
        if mine.failure is not None:
            raise mine.failure
        if mine.stored is None:  # the transaction failed, perhaps for another's item
            return self._store(lambda: [item])[0]
        return mine.stored

    def _store_all(self, queue: deque[_Waiting[T]]) -> None:
        """Store all that waits when it may be written, and tell those who wait for it."""
        together: list[_Waiting[T]] = []
        begun = False

        def take() -> list[T]:
            nonlocal begun
            begun = True
            with suppress(IndexError):
                while True:
                    together.append(queue.popleft())
            return [each.item for each in together]

        failure = None
        try:
            for each, stored in zip(together, self._store(take), strict=True):
                each.stored = stored
        except Exception as err:  # noqa: BLE001 (raised by `put`, in the thread whose item it is)
            failure = err
        finally:
            one = len(together) < 2
            if not begun:
                take()
            if one and together:
                together[0].failure = failure
            for each in together:
                each.settled.release()

    def _wait(self, queue: deque[_Waiting[T]], mine: _Waiting[T]) -> None:
        if mine.settled.acquire(timeout=self._timeout):
            return
        try:
            queue.remove(mine)
        except ValueError:  # it is being stored
            mine.settled.acquire()
        else:
            raise StorageLockedError(self._where, f"other threads wrote for {self._timeout} s")


def _is_first(queue: deque[_Waiting[T]], mine: _Waiting[T]) -> bool:
    try:
        return queue[0] is mine
    except IndexError:  # another took it along already
        return False
