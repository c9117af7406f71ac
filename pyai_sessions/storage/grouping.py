"""Group commit: what many threads want to store at the same time goes in one transaction, or one trip."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.errors import StorageInUseError, StorageLockedError, StorageUnreachableError
from pyai_sessions.events import note_wait

T = TypeVar("T")
Store = Callable[[Sequence[T]], list[bool]]

_SLICE = 0.05
"""Seconds after which a thread that waits looks again: the one that stores for it may have been cut off."""


class _Waiting(Generic[T]):
    """A thread's item, and what came of it."""

    __slots__ = ("alone", "bell", "failure", "item", "leader", "stored")

    def __init__(self, item: T) -> None:
        self.item = item
        self.stored: bool | None = None
        self.failure: Exception | None = None
        self.alone = False  # all that went together failed, perhaps for another's item
        self.leader: Claim | None = None  # of the call that is storing it
        self.bell = threading.Lock()  # held until it is to look again
        self.bell.acquire()

    def wake(self) -> None:
        with suppress(RuntimeError):  # it was woken already
            self.bell.release()


class _Leader(Claim):
    """A call whose turn it is to store what all have brought."""

    __slots__ = ("turn",)

    turn: Turn


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
        self._turns = [Turn() for _ in range(at_once)]
        self._latest = 0
        self._queue: deque[_Waiting[T]] = deque()
        _all.add(self)

    def put(self, item: T, store: Store[T]) -> bool:
        """Store an item, with others or alone; return whether it was stored. That may be tried twice.

        *store* stores items together and tells of each whether it was stored.
        """
        me, queue = threading.get_ident(), self._queue
        alone, self._latest = self._latest == me and not queue, me
        if alone:  # without a turn: what it stores in lets one in at a time, where that must be
            return store([item])[0]
        mine = _Waiting(item)
        try:
            queue.append(mine)
            self._wait(mine, store)
        except BaseException:  # an item that is not waited for is not to be stored later
            with suppress(ValueError):
                queue.remove(mine)
            raise
        if mine.failure is not None:
            raise mine.failure
        return bool(mine.stored)

    def _wait(self, mine: _Waiting[T], store: Store[T]) -> None:
        """Wait until an item is stored by another thread, or until this one can store all that waits."""
        began = time.monotonic()
        deadline = began + self._timeout
        first = self._is_first(mine)  # else another, who came before, will store it
        while mine.stored is None and mine.failure is None:
            taken = mine.leader is not None and not mine.leader.is_over()
            if first and not taken and (leader := self._lead()):
                try:
                    self._store_all(mine, leader, store)
                finally:
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
        except IndexError:  # another took it along already
            return False

    def forget_all(self) -> None:
        """Forget those who wait."""
        self._queue.clear()

    def _lead(self) -> _Leader | None:
        """Take a turn that is free for the caller, and return that; None where there is none."""
        leader = _Leader(current_frame(1))  # in no variable of that frame: it would be garbage that refers to itself
        threads: set[int] = set()
        for turn in self._turns:
            leader.turn = turn
            other = turn.claim(leader)
            if other is None:
                return leader
            threads.add(other.thread)
        if threads == {leader.thread}:  # a handler that stores, in the middle of their calls
            raise StorageInUseError(self._where())
        return None

    def _end(self, leader: _Leader) -> None:
        leader.turn.give_back(leader)
        with suppress(IndexError):  # none waits
            self._queue[0].wake()

    def _store_all(self, mine: _Waiting[T], leader: _Leader, store: Store[T]) -> None:
        """Store all that waits, and tell those who wait for it."""
        together: list[_Waiting[T]] = []
        with suppress(IndexError):
            while not mine.alone:
                together.append(self._queue.popleft())
                together[-1].leader = leader
        if mine not in together:  # a call that was cut off took it from the queue
            together.insert(0, mine)
        try:
            for each, stored in zip(together, store([each.item for each in together]), strict=True):
                each.stored = stored
        except Exception as err:  # noqa: BLE001 (raised by `put`, in the threads that it concerns)
            for each in together:
                if len(together) == 1 or isinstance(err, StorageUnreachableError):
                    each.failure = err
                else:
                    each.alone = True
        finally:  # what is told nothing, since this thread is being stopped, stores itself
            for each in together:
                each.leader = None
                each.wake()


_all: WeakSet[Group[Any]] = WeakSet()


def _renew_all() -> None:
    """Forget, in a forked child, those who wait in the parent: they are not there."""
    for group in list(_all):
        group.forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
