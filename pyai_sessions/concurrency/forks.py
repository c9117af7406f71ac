"""`ForkGate`: lets a fork of the process wait for calls that the child must not inherit half done."""

from __future__ import annotations

import os
import threading
import time

from pyai_sessions.concurrency.processes import renew_in_children
from pyai_sessions.concurrency.turns import Claim

_PATIENCE = 10.0
"""Seconds that a fork waits for calls of other threads, and that calls wait for a fork."""

_PAUSE = 0.0005
"""Seconds between two checks. Both sides poll: forks are rare, and a lock would slow down every call."""


class ForkGate:
    """Lets a fork wait until no other thread is inside, and threads that come later wait for the fork."""

    def __init__(self) -> None:
        self.inside: dict[Claim, None] = {}
        self._forks: dict[int, float] = {}  # the threads that fork, and the time until which others wait for each
        renew_in_children(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self.close, after_in_parent=self.open)

    def enter(self, claim: Claim) -> None:
        """Enter, after any fork that another thread is making."""
        while True:
            self.inside[claim] = None
            if not self._forks or self._may_pass(claim.thread):
                return
            self.leave(claim)
            time.sleep(_PAUSE)

    def _may_pass(self, thread: int) -> bool:
        now = time.monotonic()
        if all(each == thread or until < now for each, until in list(self._forks.items())):
            return True
        return sum(each.thread == thread for each in list(self.inside)) > 1  # the fork waits for this thread

    def leave(self, claim: Claim) -> None:
        """Leave."""
        self.inside.pop(claim, None)

    def forget_ended(self) -> None:
        """Remove calls that have ended without leaving, because an exception interrupted them."""
        for each in list(self.inside):
            if each.is_over():
                self.leave(each)

    def close(self) -> None:
        """Before a fork: wait until all other threads are outside."""
        me, until = threading.get_ident(), time.monotonic() + _PATIENCE
        self._forks[me] = until
        while any(each.thread != me and not each.is_over() for each in list(self.inside)) and time.monotonic() < until:
            time.sleep(_PAUSE)

    def open(self) -> None:
        """After a fork, in the parent."""
        self._forks.pop(threading.get_ident(), None)

    def renew(self) -> None:
        """After a fork, in the child: its one thread is the one that forked."""
        me = threading.get_ident()
        self._forks.clear()
        self.inside = {each: None for each in self.inside if each.thread == me}
