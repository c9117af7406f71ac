"""Times: shown in the reader's zone, and read as people write them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import click


def shown(moment: datetime) -> str:
    """Return a time in the reader's zone, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def day_of(moment: datetime) -> str:
    """Return a day in the reader's zone."""
    return moment.astimezone().strftime("%Y-%m-%d")


def time(text: str) -> datetime:
    """Return the time that a person means: "last week", "2 days ago", "2026-11-28 14:00". In the reader's zone.

    Raises:
        BadParameter: The text is no time.

    """
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(timezone.utc)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dateparser

        wanted: Any = {"PREFER_DATES_FROM": "past", "RETURN_AS_TIMEZONE_AWARE": True}
        found: datetime | None = dateparser.parse(text, languages=["en"], settings=wanted)
    if found is None:
        msg = f"{text!r} is no time; it is like 2026-11-28, yesterday, 'last week', '2 days ago'"
        raise click.BadParameter(msg)
    return found.astimezone(timezone.utc)
