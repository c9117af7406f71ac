"""The terms on which a store keeps sessions: for how long, and up to which size."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from pyai_sessions.checks import Clock, utc_now
from pyai_sessions.errors import InvalidValueError

_LONGEST = 100 * 366 * 24 * 3600
"""Seconds: a hundred years."""


class Terms(NamedTuple):
    """What a store's sessions are kept on.

    Attributes:
        clock: Returns the current time.
        ttl: How long a session lives; None: for ever.
        sliding: Whether each save prolongs that; else it counts from the session's creation.

    """

    clock: Clock = utc_now
    ttl: timedelta | None = None
    sliding: bool = True

    def end(self, before: datetime | None, *, new: bool) -> datetime | None:
        """Return when a session expires that is saved now, and expired at *before* till now."""
        if self.ttl is None or not (new or self.sliding):
            return before
        return self.clock() + self.ttl

    def left(self, end: datetime | None) -> int | None:
        """Return the milliseconds until *end*, 1 at the least; None where this store does not set it."""
        return None if end is None or self.ttl is None else max(1, (end - self.clock()) // timedelta(milliseconds=1))


KEPT = Terms()
"""Leaves the time at which a session expires as it is."""


def check_ttl(value: object) -> timedelta | None:
    """Return a lifetime given in seconds."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LONGEST:
        problem = f"is {value!r}; it is a whole number of seconds above 0 (a hundred years at most), or None for ever"
        raise InvalidValueError("ttl", problem)
    return timedelta(seconds=value)
