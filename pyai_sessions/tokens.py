"""Random tokens: for ids, revisions and generations. Drawn from the operating system, many at a time."""

from __future__ import annotations

import os
import threading
from base64 import urlsafe_b64encode

_DRAW = 4096
"""Bytes drawn at once: one call of the system costs as much as all else that a small save does."""


class _Source(threading.local):
    """Random bytes of the operating system, each given out once.

    Each thread has its own: with one lock for all, 16 threads drew a tenth of what one does alone (measured).
    """

    drawn = b""
    used = 0

    def take(self, count: int) -> bytes:
        start = self.used
        if start + count > len(self.drawn):
            self.drawn, start = os.urandom(_DRAW), 0
        self.used = start + count
        return self.drawn[start : self.used]


_source = _Source()


def _renew() -> None:
    """Start anew in a forked child, which would repeat its parent's tokens."""
    global _source  # noqa: PLW0603 (one source a process)
    _source = _Source()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """Return 32 hex digits: 128 random bits."""
    return _source.take(16).hex()


def new_token(count: int) -> str:
    """Return *count* random bytes, a multiple of 3, as text of A-Z, a-z, 0-9, ``-`` and ``_``."""
    return urlsafe_b64encode(_source.take(count)).decode()
