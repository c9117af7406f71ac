"""Cursors: where a page of hits ended, as text that an application passes on."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, NamedTuple

import msgspec

from pyai_sessions.documents.keys import decode_id
from pyai_sessions.errors import InvalidValueError

SearchOrder = Literal["newest", "best"]

_Time = Annotated[int, msgspec.Meta(ge=-(10**18), le=10**18)]


class Place(NamedTuple):
    """The place of a hit in the order "newest", where the greatest comes first.

    Args:
        activity: When its session was active, in microseconds.
        member: The session's name in the lists.
        position: The message's position; 0 where one hit of each session is returned.

    """

    activity: _Time
    member: str
    position: _Time


class Cursor(NamedTuple):
    """Where a page ended.

    Args:
        order: The order of the hits.
        last: The place of the last hit.
        score: Its score.
        begin: The place after which the hits begin that were ranked with it. None: they are the newest ones.
        end: The place of the oldest of these. None: no more follow.

    """

    order: SearchOrder
    last: Place
    score: float = 0.0
    begin: Place | None = None
    end: Place | None = None


_CURSOR = msgspec.json.Decoder(Cursor)


def cursor_text(cursor: Cursor) -> str:
    """Return a cursor as text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def read_cursor(text: object, order: SearchOrder) -> Cursor | None:
    """Return the cursor that a text stands for; None for None.

    Raises:
        InvalidValueError: It is not the cursor of a search in this order.

    """
    if text is None:
        return None
    try:
        cursor = _CURSOR.decode(base64.urlsafe_b64decode(text if isinstance(text, str) else ""))
    except (ValueError, msgspec.DecodeError):
        cursor = None
    if cursor is not None and cursor.order == order:
        places = [each for each in (cursor.last, cursor.begin, cursor.end) if each is not None]
        if all(decode_id(each.member) is not None for each in places):
            return cursor
    problem = f"is no next_cursor of search(order={order!r}); leave it out to begin anew"
    raise InvalidValueError("cursor", problem)
