"""Random tokens: for ids, revisions and generations. Drawn from the operating system, many at a time."""

from __future__ import annotations

import os
import re
import time
from base64 import urlsafe_b64encode
from datetime import datetime

_DRAW = 4096
"""Bytes drawn at once: one call of the system costs as much as all else that a small save does."""
_ID, _TOKEN = 32, 16
"""Characters of what is drawn: 16 bytes in hexadecimal, 12 in base 64."""

# To pop from a list is one step, which no other thread divides: with a lock, 16 threads drew a tenth of what one does
# alone (measured).
_ids: list[str] = []
_tokens: list[str] = []


def _renew() -> None:
    """Start anew in a forked child, which would repeat its parent's tokens."""
    _ids.clear()
    _tokens.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def new_id() -> str:
    """Return 32 hex digits: 128 random bits."""
    try:
        return _ids.pop()
    except IndexError:
        return _restock(_ids, os.urandom(_DRAW).hex(), _ID)


_TIMED = re.compile("[0-9a-f]{12}7[0-9a-f]{3}8[0-9a-f]{15}")
_TICKS = 4096
"""Parts of a millisecond that an id tells apart."""


def new_timed_id() -> str:
    """Return 32 hex digits that begin with the time: a UUID of version 7, without its dashes."""
    now = time.time_ns() * 64 // 15_625  # in ticks: 64/15,625 = 4096/1,000,000
    return f"{now + (now >> 12) * 0xF000 + 0x7000:016x}8{new_id()[:15]}"  # makes room for the 7 before the last three


def time_of_id(text: str) -> int | None:
    """Return when an id was drawn by `new_timed_id`, as `ticks` does; None where it was not."""
    return int(text[:12] + text[13:16], 16) if _TIMED.fullmatch(text) else None


def ticks(moment: datetime) -> int:
    """Return a time in parts of a millisecond since 1970, as ids tell it."""
    return int(moment.timestamp() * 1000 * _TICKS)


def new_token(count: int) -> str:
    """Return *count* random bytes, 12 at most and a multiple of 3, as text of A-Z, a-z, 0-9, ``-`` and ``_``."""
    try:
        token = _tokens.pop()
    except IndexError:
        token = _restock(_tokens, urlsafe_b64encode(os.urandom(_DRAW)).decode(), _TOKEN)
    return token[: count // 3 * 4]


def _restock(stock: list[str], drawn: str, size: int) -> str:
    """Cut what was drawn into pieces, and return one of them; the others go to the stock."""
    one, *others = [drawn[at : at + size] for at in range(0, len(drawn) - size + 1, size)]
    stock.extend(others)
    return one
