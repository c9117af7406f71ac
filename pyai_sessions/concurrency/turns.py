"""Turns: locks that know which call has them, so that a call which an exception cut off locks nobody out.

Ctrl-C, a signal handler that raises or a time limit can stop a call between any two steps, also while it gives a lock
back. So nothing depends on code that must run: a claim names the frame of its call, and holds while that frame runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from weakref import WeakSet

from pyai_sessions.errors import StorageInUseError, StorageLockedError
from pyai_sessions.events import WAITED, note, note_wait

_SLICE = 0.05
"""Seconds after which one that sleeps looks again: who should have woken it may have been cut off."""

current_frame: Callable[..., FrameType] = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
"""Returns the frame of the running function, or of one of its callers. (The underscore is in its documented name.)"""

_PATIENCE = 1.0
"""Seconds after which the others let one go first that waits: else those who come and go could keep it out for ever."""

_OURS = frozenset([__name__.partition(".")[0], "contextlib"])


class Claim:
    """That a call has a turn, or wants it. Each is used once."""

    __slots__ = ("__weakref__", "frame", "number", "thread", "wait")

    frame: FrameType | None

    def __init__(self, frame: FrameType | None = None) -> None:
        self.frame = frame
        self.thread = threading.get_ident()
        self.number = 0
        self.wait: tuple[str, float] | None = None

    def waited(self, where: str, began: float) -> None:
        """Remember that the call has waited for others since *began*, if that was long: it is told at the end."""
        seconds = time.monotonic() - began
        if seconds > WAITED:
            self.wait = where, seconds

    def is_over(self) -> bool:
        """Return whether the call gave its turn back, or has ended without that."""
        frame = self.frame
        if frame is None:
            return True
        if not has_ended(frame):
            return False
        self.frame = None
        return True


def has_ended(frame: FrameType) -> bool:
    """Return whether the function of a frame has ended, whatever its thread; forget its variables then."""
    try:
        frame.clear()  # refused while it runs: the one thing that Python tells of the frames of all threads
    except RuntimeError:
        return False
    return True


def is_part_of(frame: FrameType) -> bool:
    """Return whether this library alone stands between a running function and the caller.

    Else the caller is a signal handler, a finaliser or a callback, which runs in the middle of that function.
    """
    each: FrameType | None = current_frame(1)
    while each is not None and each is not frame:
        if each.f_globals.get("__name__", "").partition(".")[0] not in _OURS:
            return False
        each = each.f_back
    return each is frame


class Turn:
    """What one call at a time can have.

    Claims have numbers. To follow a claim that is over is one step, which no other thread divides: `dict.setdefault`
    of the next number.
    """

    __slots__ = ("__weakref__", "_claims", "_first", "_sleeping", "latest")

    def __init__(self) -> None:
        self.latest = Claim()
        self._claims: dict[int, Claim] = {}
        self._sleeping: deque[threading.Lock] = deque()
        self._first: tuple[float, Claim, threading.Lock] | None = None
        _all.add(self)

    def claim(self, mine: Claim) -> Claim | None:
        """Take the turn if it is free, and return None; else return the claim of the call that has it."""
        last, claims = self.latest, self._claims
        while last.is_over():
            mine.number = last.number + 1
            next_one = claims.setdefault(mine.number, mine)
            if next_one is not mine:  # another thread was faster, or was cut off in the line after this one
                last = next_one
                continue
            if self.latest.number < mine.number:
                self.latest = mine
                claims.pop(last.number, None)
                if len(claims) > 1:
                    self._forget_before(mine.number)
                return None
            # It looked at a claim that is long over, and whose successors are forgotten.
            claims.pop(mine.number, None)
            last = self.latest
        return last

    def _forget_before(self, number: int) -> None:
        for each in list(self._claims):
            if each < number:
                self._claims.pop(each, None)

    def _claim_after_first(self, mine: Claim) -> Claim | None:
        """Take the turn like `claim`, unless another thread has waited for it so long that it goes first."""
        if self._first is not None:
            _, first, _ = self._first
            # A handler that interrupts the wait of its own thread would wait for itself.
            if first is not mine and first.thread != mine.thread and not first.is_over():
                return first
        return self.claim(mine)

    def _go_first(self, began: float | None, mine: Claim, bell: threading.Lock) -> None:
        """Let a claim go first, unless one goes that waits for longer; with None for the time, no more."""
        first = self._first
        if began is None:
            if first is not None and first[1] is mine:
                self._first = None
        elif first is None or first[0] > began or first[1].is_over():
            self._first = (began, mine, bell)

    def take(self, mine: Claim, timeout: float, where: str, *, spins: int = 0) -> None:
        """Take the turn when it is free; raise where that lasts too long, or where this thread itself has it.

        *spins* is how often other threads are let run before this one sleeps.
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
            if self.latest.frame is None and self._claim_after_first(mine) is None:  # to look is cheaper than to try
                return
        bell = threading.Lock()
        bell.acquire()
        self._sleeping.append(bell)  # then it tries once more: the turn may have been given back meanwhile
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
                    self._sleeping.appendleft(bell)  # of those that wait it comes first
        finally:
            with suppress(ValueError):  # it has been rung since
                self._sleeping.remove(bell)
            self._go_first(None, mine, bell)
        mine.waited(where, began)

    def give_back(self, mine: Claim) -> None:
        """Give the turn back, and wake one that waits for it."""
        mine.frame = None
        waited, mine.wait = mine.wait, None
        first = self._first
        if first is not None and not first[1].is_over():
            with suppress(RuntimeError):  # it was rung already
                first[2].release()
        elif self._sleeping:
            with suppress(IndexError, RuntimeError):  # none waits any more
                self._sleeping.popleft().release()
        if waited is not None:  # only now: nobody else is to wait for a hook
            note("waited", where=waited[0], seconds=waited[1])

    def renew(self) -> None:
        """Keep, in a forked child, the claims of the thread that forked: the others are not there."""
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


_all: WeakSet[Turn] = WeakSet()


def _renew_all() -> None:
    for turn in list(_all):
        turn.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
