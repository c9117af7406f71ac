"""Group commit: what several threads store at the same time goes into one transaction, or into one round trip."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from pyai_sessions.concurrency.processes import renew_in_children
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.errors import StorageInUseError, StorageLockedError, StorageUnreachableError
from pyai_sessions.events import note_wait

T = TypeVar("T")
Store = Callable[[Sequence[T]], list[bool]]

_SLICE = 0.05
"""Seconds after which a waiting thread looks again: the thread that stores its item may have been interrupted."""


class _Waiting(Generic[T]):
    """The item of a waiting thread, and what became of it."""

    __slots__ = ("alone", "bell", "failure", "item", "leader", "stored")

    def __init__(self, item: T) -> None:
        self.item = item
        self.stored: bool | None = None
        self.failure: Exception | None = None
        self.alone = False  # whether to store it by itself: a failure with others may be that of another item
        self.leader: Claim | None = None  # of the call that is storing it
        self.bell = threading.Lock()  # released to wake the thread
        self.bell.acquire()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the thread is awake already
            self.bell.release()


class _Leader(Claim):
    """A call that stores the items of all threads."""

    __slots__ = ("turn",)

    turn: Turn


class Group(Generic[T]):
    """Stores the items of several threads together.

    When the first thread of the queue gets the turn, it stores all items of the queue. So sixteen threads share one
    transaction, and its wait for the disk. No thread waits for more items to come. The queue has no lock: threads that
    sleep for a lock at each save would line up behind it.

    Args:
        where: Returns the storage's name, for errors.
        timeout: Seconds that a thread waits for its turn.
        at_once: How many transactions or round trips run at the same time: several, if they wait for a network.

    """

    def __init__(self, where: Callable[[], str], timeout: float, at_once: int = 1) -> None:
        self._where = where
        self._timeout = timeout
        self._turns = [Turn() for _ in range(at_once)]
        self._latest = 0
        self._queue: deque[_Waiting[T]] = deque()
        renew_in_children(self)

    def put(self, item: T, store: Store[T]) -> bool:
        """Store an item, alone or with others; return whether it was stored.

        *store* stores several items and returns for each whether it was stored. It may get an item twice.
        """
        me, queue = threading.get_ident(), self._queue
        alone, self._latest = self._latest == me and not queue, me
        if alone:  # it needs no turn: *store* itself is safe among threads
            return store([item])[0]
        mine = _Waiting(item)
        try:
            queue.append(mine)
            self._wait(mine, store)
        except BaseException:  # nobody waits for the item now, so it must not be stored later
            with suppress(ValueError):
                queue.remove(mine)
            raise
        if mine.failure is not None:
            raise mine.failure
        return bool(mine.stored)

    def _wait(self, mine: _Waiting[T], store: Store[T]) -> None:
        """Wait until another thread has stored the item, or this one can store all items."""
        began = time.monotonic()
        deadline = began + self._timeout
        first = self._is_first(mine)  # otherwise a thread that came before will store it
        while mine.stored is None and mine.failure is None:
            taken = mine.leader is not None and not mine.leader.is_over()
            if first and not taken and (leader := self._lead()):
                self._store_all(mine, leader, store)
                self._end(leader)
            elif not mine.bell.acquire(timeout=_SLICE) and not taken and time.monotonic() > deadline:
                note_wait(self._where(), began)
                raise StorageLockedError(self._where(), f"other threads wrote for {self._timeout} s")
            else:
                first = True
        note_wait(self._where(), began)

    def _is_first(self, mine: _Waiting[T]) -> bool:
        try:
            return self._queue[0] is mine
        except IndexError:  # another thread has taken the item already
            return False

    def renew(self) -> None:
        """In a forked child, forget the waiting threads: the child does not have them."""
        self._queue.clear()

    def _lead(self) -> _Leader | None:
        """Take a free turn for the caller and return the claim; None if no turn is free."""
        leader = _Leader(current_frame(1))  # a variable of that frame would be a reference cycle
        threads: set[int] = set()
        for turn in self._turns:
            leader.turn = turn
            other = turn.claim(leader)
            if other is None:
                return leader
            threads.add(other.thread)
        if threads == {leader.thread}:  # this call is that of a signal handler, which interrupted the leaders
            raise StorageInUseError(self._where())
        return None

    def _end(self, leader: _Leader) -> None:
        leader.turn.give_back(leader)
        with suppress(IndexError):  # no thread waits
            self._queue[0].wake()

    def _store_all(self, mine: _Waiting[T], leader: _Leader, store: Store[T]) -> None:
        """Store all items that wait, and tell their threads."""
        together: list[_Waiting[T]] = []
        with suppress(IndexError):
            while not mine.alone:
                together.append(self._queue.popleft())
                together[-1].leader = leader
        if mine not in together:  # an interrupted call took it from the queue
            together.insert(0, mine)
        try:
            for each, stored in zip(together, store([each.item for each in together]), strict=True):
                each.stored = stored
        except Exception as err:  # noqa: BLE001 (`put` raises it in the threads of the items)
            for each in together:
                if len(together) == 1 or isinstance(err, StorageUnreachableError):
                    each.failure = err
                else:
                    each.alone = True
        finally:  # if this thread was interrupted, the others find no result and store their items themselves
            for each in together:
                each.leader = None
                each.wake()
