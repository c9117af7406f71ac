"""The terms on which a store keeps sessions: up to which size, and for how long."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import NamedTuple

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import MAX_ID_BYTES, Clock, check_clock, check_time, kind_of, shown, utc_now
from pyai_sessions.values.json import MAX_DEPTH, depth_of

_LONGEST = 100 * 366 * 24 * 3600
"""Seconds: a hundred years."""
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """How large what a store writes may be, and how much it reads at once. What is larger is refused, by name.

    Nothing is written then. What is stored already can be read and gone on with, whatever its size.

    Attributes:
        message_bytes: A new message, as JSON in UTF-8.
        state_bytes: A session's state, and its metadata, each as JSON; likewise the state of a user or the application.
        document_bytes: A document: a session's head with its newest messages, or a page of older ones.
        id_bytes: A session's, a user's or a message's id, in UTF-8; at most 1,024.
        depth: How deeply state, metadata and messages may be nested; at most 100.
        pages: Pages of a session, of up to 32 messages each, that one call loads.

    >>> Limits(message_bytes=64 * 1024).message_bytes
    65536

    """

    message_bytes: int = 16 * _MIB
    state_bytes: int = 16 * _MIB
    document_bytes: int = 64 * _MIB
    id_bytes: int = MAX_ID_BYTES
    depth: int = MAX_DEPTH
    pages: int = 100_000

    def __post_init__(self) -> None:
        most = {"id_bytes": MAX_ID_BYTES, "depth": MAX_DEPTH}
        for each in fields(self):
            value: object = getattr(self, each.name)
            bound = most.get(each.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (bound and value > bound):
                upto = f"1 to {bound}" if bound else "1 or more"
                raise InvalidValueError(f"limits.{each.name}", f"is {shown(value)}; it is a whole number, {upto}")

    @property
    def are_narrow(self) -> bool:
        """Whether they are narrower than what ids and JSON values are checked for anyway."""
        return self.id_bytes < MAX_ID_BYTES or self.depth < MAX_DEPTH

    def check_size(self, size: int, name: str, limit: str) -> None:
        """Raise if so many bytes are more than the *limit* of that name."""
        most: int = getattr(self, limit)
        if size > most:
            raise InvalidValueError(name, f"is {size} bytes of JSON; at most {most} are kept ({_remedy(limit)})")

    def check_id(self, value: str, name: str) -> None:
        """Raise if an id is too long."""
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > self.id_bytes:
            raise InvalidValueError(name, f"is {size} bytes long; at most {self.id_bytes} ({_remedy('id_bytes')})")

    def check_depth(self, value: object, name: str) -> None:
        """Raise if a JSON value is nested too deeply."""
        if depth_of(value) > self.depth:
            raise InvalidValueError(name, f"is nested deeper than {self.depth} levels ({_remedy('depth')})")


def _remedy(limit: str) -> str:
    return f"KVSessionStore(..., limits=Limits({limit}=...))"


class Terms(NamedTuple):
    """What a store's sessions are kept on.

    Attributes:
        clock: Returns the current time.
        ttl: How long a session lives; None: for ever.
        sliding: Whether each save prolongs that; else it counts from the session's creation.
        limits: How large they may be.
        paged: Whether older messages lie in pages.

    """

    clock: Clock = utc_now
    ttl: timedelta | None = None
    sliding: bool = True
    limits: Limits = Limits()
    paged: bool = True

    def end(self, before: datetime | None, *, new: bool, active: bool = True) -> datetime | None:
        """Return when a session expires that is saved now, and expired at *before* till now.

        Only who is *active* in it prolongs its life: a new title does not.
        """
        if self.ttl is None or not (new or (self.sliding and (active or before is None))):
            return before
        return check_time(self.clock(), "clock()") + self.ttl

    def left(self, end: datetime | None) -> int | None:
        """Return the milliseconds until *end*, 1 at the least; None where this store does not set it."""
        return None if self.ttl is None else time_left(end, self.clock)


def time_left(end: datetime | None, clock: Clock) -> int | None:
    """Return the milliseconds until *end*, 1 at the least; None where there is no end."""
    return None if end is None else max(1, (end - clock()) // timedelta(milliseconds=1))


KEPT = Terms(limits=Limits(sys.maxsize, sys.maxsize, sys.maxsize, pages=sys.maxsize))
"""Leaves the time at which a session expires as it is, and takes what is stored at any size."""


def make_terms(
    *, ttl: int | None = None, sliding: bool = True, limits: Limits | None = None, clock: Clock = utc_now
) -> Terms:
    """Return the terms that the arguments of a store mean; see `KVSessionStore`."""
    lifetime = None if ttl is None else timedelta(seconds=check_ttl(ttl))
    if not isinstance(sliding, bool):
        raise InvalidValueError("sliding", f"is {shown(sliding)}; it is True or False")
    check_clock(clock)
    if limits is not None and not isinstance(limits, Limits):
        raise InvalidValueError("limits", f"is {kind_of(limits)}; it is Limits(message_bytes=..., ...)")
    return Terms(clock, lifetime, sliding, limits or Limits())


def check_ttl(value: object) -> int:
    """Return *value* if it is a number of seconds that something can live."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LONGEST:
        problem = (
            f"is {shown(value)}; it is a whole number of seconds above 0 (a hundred years at most), or None for ever"
        )
        raise InvalidValueError("ttl", problem)
    return value
