"""The clock of the tests: it stands still until it is told to go on."""

from datetime import datetime, timedelta, timezone

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class StoppedClock:
    """Returns the same time at every call: noon of a day, plus what `pass_` let pass."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **duration: float) -> None:
        """Go on by a timedelta's arguments: ``clock.pass_(days=30)``; negative ones go back."""
        self.now += timedelta(**duration)
