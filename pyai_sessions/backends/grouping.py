"""Group commit: what many threads want to store at the same time goes in one transaction, or one trip."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from pyai_sessions.errors import StorageLockedError, StorageUnreachableError
from pyai_sessions.processes import process_id

T = TypeVar("T")
Store = Callable[[Sequence[T]], list[bool]]


class _Waiting(Generic[T]):
    """A thread's item, and what came of it."""

    __slots__ = ("failure", "item", "settled", "stored")

    def __init__(self, item: T) -> None:
        self.item = item
        self.stored: bool | None = None
        self.failure: Exception | None = None
        self.settled = threading.Lock()  # held until something came of it
        self.settled.acquire()


class _Queue(deque[_Waiting[T]]):
    """What waits in one process, and whose turn it is."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.latest = 0
        self.turns = threading.Lock() if at_once == 1 else threading.Semaphore(at_once)

    def begins_with(self, waiting: _Waiting[T]) -> bool:
        try:
            return self[0] is waiting
        except IndexError:  # another took it along already
            return False


class Group(Generic[T]):
    """Stores what threads bring, together: the first to come stores all that has come when its turn does.

    Sixteen threads so share one transaction and its wait for the disk, where each would wait for fifteen others. No
    thread waits for more to come. The queue has no lock of its own: threads that sleep for one at each save line up.

    Args:
        where: The storage's name, for errors.
        timeout: Seconds that a thread waits for its turn.
        at_once: How many transactions or trips may be at work: more than one where they wait for a network.

    """

    def __init__(self, where: Callable[[], str], timeout: float, at_once: int = 1) -> None:
        self._where = where
        self._timeout = timeout
        self._at_once = at_once
        self._queues: dict[int, _Queue[T]] = {}  # by process: in a fork those who wait in the parent are not there

    def put(self, item: T, store: Store[T]) -> bool:
        """Store an item, with others or alone; return whether it was stored. That may be tried twice.

        *store* stores items together and tells of each whether it was stored.
        """
        process = process_id()
        queue = self._queues.get(process)
        if queue is None:
            queue = self._queues.setdefault(process, _Queue(self._at_once))
        me = threading.get_ident()
        alone, queue.latest = queue.latest == me and not queue, me
        if alone and queue.turns.acquire(blocking=False):
            try:
                return store([item])[0]
            finally:
                queue.turns.release()
        mine = _Waiting(item)
        queue.append(mine)
        if queue.begins_with(mine):
            self._store_all(queue, store)
        self._wait(queue, mine)
        if mine.failure is not None:
            raise mine.failure
        if mine.stored is None:  # all failed, perhaps for another's item
            with self._turn(queue):
                return store([item])[0]
        return mine.stored

    def _store_all(self, queue: _Queue[T], store: Store[T]) -> None:
        """Store all that waits when it is this thread's turn, and tell those who wait for it."""
        together: list[_Waiting[T]] = []
        begun, failure = False, None
        try:
            with self._turn(queue):
                begun = True
                _take(queue, together)
                for each, stored in zip(together, store([each.item for each in together]), strict=True):
                    each.stored = stored
        except Exception as err:  # noqa: BLE001 (raised by `put`, in the threads that it concerns)
            failure = err
        finally:
            if not begun:
                _take(queue, together)
            elif len(together) == 1 or isinstance(failure, StorageUnreachableError):
                for each in together:
                    each.failure = failure
            for each in together:
                each.settled.release()

    def _wait(self, queue: _Queue[T], mine: _Waiting[T]) -> None:
        if mine.settled.acquire(timeout=self._timeout):
            return
        try:
            queue.remove(mine)
        except ValueError:  # it is being stored
            mine.settled.acquire()
        else:
            raise StorageLockedError(self._where(), f"other threads wrote for {self._timeout} s")

    @contextmanager
    def _turn(self, queue: _Queue[T]) -> Generator[None, None, None]:
        if not queue.turns.acquire(timeout=self._timeout):
            raise StorageLockedError(self._where(), f"other threads wrote for {self._timeout} s")
        try:
            yield
        finally:
            queue.turns.release()


def _take(queue: _Queue[T], together: list[_Waiting[T]]) -> None:
    with suppress(IndexError):
        while True:
            together.append(queue.popleft())
