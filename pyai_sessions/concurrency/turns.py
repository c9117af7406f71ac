"""Turns: locks that know which call holds them, so that an interrupted call leaves nothing locked.

Ctrl-C, a signal handler that raises, or a time limit can stop a call between any two steps, even while it releases a
lock. So no release is needed: a claim names the frame of its call, and is over when that frame has ended.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from pyai_sessions.concurrency.processes import renew_in_children
from pyai_sessions.errors import StorageInUseError, StorageLockedError
from pyai_sessions.events import WAITED, note, note_wait

_SLICE = 0.05
"""Seconds after which a sleeping thread checks again: the call that should wake it may have been interrupted."""

current_frame: Callable[..., FrameType] = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
"""Returns the frame of the running function, or of one of its callers. (The underscore is in its documented name.)"""

_PATIENCE = 1.0
"""Seconds of waiting after which a thread goes first. Otherwise busy threads could keep it waiting for ever."""

_OURS = frozenset([__name__.partition(".")[0], "contextlib"])


class Claim:
    """A call that has a turn, or waits for one. It is used once."""

    __slots__ = ("__weakref__", "frame", "number", "thread", "wait")

    frame: FrameType | None

    def __init__(self, frame: FrameType | None = None) -> None:
        self.frame = frame
        self.thread = threading.get_ident()
        self.number = 0
        self.wait: tuple[str, float] | None = None

    def waited(self, where: str, began: float) -> None:
        """Remember that the call has waited for others since *began*, if that was long, to report it at the end."""
        seconds = time.monotonic() - began
        if seconds > WAITED:
            self.wait = where, seconds

    def is_over(self) -> bool:
        """Return whether the call gave its turn back, or has ended without doing so."""
        frame = self.frame
        if frame is None:
            return True
        if not has_ended(frame):
            return False
        self.frame = None
        return True


def has_ended(frame: FrameType) -> bool:
    """Return whether the function of a frame has ended, in any thread; if it has, drop its variables."""
    try:
        frame.clear()  # refused while it runs: Python's only way to ask that for the frames of all threads
    except RuntimeError:
        return False
    return True


def is_part_of(frame: FrameType) -> bool:
    """Return whether a running function made this call, through functions of this library alone.

    Otherwise the caller is a signal handler, a finaliser or a callback that runs in the middle of that function.
    """
    each: FrameType | None = current_frame(1)
    while each is not None and each is not frame:
        if each.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            return False
        each = each.f_back
    return each is frame


class Turn:
    """A lock that one call at a time can hold.

    Claims are numbered. A claim follows one that is over by a single atomic step: `dict.setdefault` of the next number.
    """

    __slots__ = ("__weakref__", "_claims", "_first", "_sleeping", "latest")

    def __init__(self) -> None:
        self.latest = Claim()
        self._claims: dict[int, Claim] = {}
        self._sleeping: deque[threading.Lock] = deque()
        self._first: tuple[float, Claim, threading.Lock] | None = None
        renew_in_children(self)

    def is_held_by_caller(self, where: str) -> bool:
        """Return whether the caller is part of the call that has the turn; raise if it interrupted that call."""
        latest = self.latest
        frame = latest.frame
        if frame is None or latest.thread != threading.get_ident():
            return False
        if is_part_of(frame):
            return True
        if latest.is_over():
            return False
        raise StorageInUseError(where)

    def claim(self, mine: Claim) -> Claim | None:
        """Take the turn if it is free, and return None; else return the claim of the call that has it."""
        last, claims = self.latest, self._claims
        while last.is_over():
            mine.number = last.number + 1
            next_one = claims.setdefault(mine.number, mine)
            if next_one is not mine:  # another thread was faster, or was interrupted after this line
                last = next_one
                continue
            if self.latest.number < mine.number:
                self.latest = mine
                claims.pop(last.number, None)
                if len(claims) > 1:
                    self._forget_before(mine.number)
                return None
            # It followed a claim that was over long ago, whose successors are forgotten.
            claims.pop(mine.number, None)
            last = self.latest
        return last

    def _forget_before(self, number: int) -> None:
        for each in list(self._claims):
            if each < number:
                self._claims.pop(each, None)

    def _claim_after_first(self, mine: Claim) -> Claim | None:
        """Take the turn as `claim` does, unless another thread has waited so long that it goes first."""
        if self._first is not None:
            _, first, _ = self._first
            # A signal handler that interrupts the waiting call of its own thread would wait for itself.
            if first is not mine and first.thread != mine.thread and not first.is_over():
                return first
        return self.claim(mine)

    def _go_first(self, began: float | None, mine: Claim, bell: threading.Lock) -> None:
        """Let a claim go first, unless another has waited longer. If *began* is None, stop letting it go first."""
        first = self._first
        if began is None:
            if first is not None and first[1] is mine:
                self._first = None
        elif first is None or first[0] > began or first[1].is_over():
            self._first = (began, mine, bell)

    def take(self, mine: Claim, timeout: float, where: str, *, spins: int = 0) -> None:
        """Take the turn when it is free. Raise if that takes too long, or if this thread already has the turn.

        *spins* is how often this thread lets other threads run before it sleeps.
        """
        found = self.claim(mine) if self._first is None else self._claim_after_first(mine)
        if found is None:
            return
        if found.thread == mine.thread:
            raise StorageInUseError(where)
        began = time.monotonic()
        deadline, patient = began + timeout, began + min(_PATIENCE, timeout / 2)
        for _ in range(spins):
            time.sleep(0)
            if self.latest.frame is None and self._claim_after_first(mine) is None:  # checking first is cheaper
                return
        bell = threading.Lock()
        bell.acquire()
        self._sleeping.append(bell)  # before the next try, since the turn may be given back in between
        try:
            while self._claim_after_first(mine) is not None:
                now = time.monotonic()
                left = deadline - now
                if now > patient:
                    self._go_first(began, mine, bell)
                if left <= 0:
                    note_wait(where, began)
                    raise StorageLockedError(where, f"other threads used it for {timeout} s")
                if bell.acquire(timeout=min(left, _SLICE)):
                    self._sleeping.appendleft(bell)  # it stays the first in the queue
        finally:
            with suppress(ValueError):  # it was woken meanwhile
                self._sleeping.remove(bell)
            self._go_first(None, mine, bell)
        mine.waited(where, began)

    def give_back(self, mine: Claim) -> None:
        """Give the turn back, and wake one that waits for it."""
        mine.frame = None
        waited, mine.wait = mine.wait, None
        first = self._first
        if first is not None and not first[1].is_over():
            with suppress(RuntimeError):  # it was woken already
                first[2].release()
        elif self._sleeping:
            with suppress(IndexError, RuntimeError):  # no thread waits any more
                self._sleeping.popleft().release()
        if waited is not None:  # after the release, so that nobody waits for a hook
            note("waited", where=waited[0], seconds=waited[1])

    def renew(self) -> None:
        """In a forked child, keep only the claims of the thread that forked: no other thread exists."""
        frames = set[FrameType]()
        each: FrameType | None = current_frame()
        while each is not None:
            frames.add(each)
            each = each.f_back
        kept = [claim for claim in {self.latest, *self._claims.values()} if claim.frame in frames]
        self._sleeping = deque()
        self._first = None
        self._claims = {claim.number: claim for claim in kept}
        self.latest = max(kept, key=lambda claim: claim.number, default=Claim())
