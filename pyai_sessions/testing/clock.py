"""A clock that stands still until it is told to go on."""

from datetime import datetime, timedelta, timezone

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
"""The time that a `StoppedClock` shows first."""


class StoppedClock:
    """Returns the same time at every call, until `advance` moves it on.

    >>> from pyai_sessions import SessionManager
    >>> clock = StoppedClock()
    >>> manager = SessionManager(clock=clock)
    >>> _ = manager.create_session("ada")
    >>> clock.advance(days=31)
    >>> manager.archive_inactive(days=30)
    1

    """

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the current time."""
        return self.now

    def advance(self, **duration: float) -> None:
        """Move the clock on by the arguments of a timedelta: ``clock.advance(days=30)``. Negative ones move it back."""
        self.now += timedelta(**duration)
