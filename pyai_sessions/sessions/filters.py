"""Filters and orders of session lists."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.model.heads import microseconds
from pyai_sessions.model.listed import SessionSummary
from pyai_sessions.values.checks import NOBODY, check_choice, check_user
from pyai_sessions.values.json import is_array, is_mapping, plain_object

Order = Literal["newest", "oldest", "created", "-created", "title", "-title"]
"""By activity, creation or title. Indexes have the first two orders; for the others, all listed sessions are sorted."""

_KEYS: dict[str, Callable[[SessionSummary], list[Any]]] = {
    "created": lambda each: [microseconds(each.created_at), each.session_id],
    "title": lambda each: [each.title is None, (each.title or "").casefold(), each.title or "", each.session_id],
}
"""The sort keys of orders without an index: JSON values, which a cursor contains."""


def check_where(where: object) -> dict[str, Any]:
    """Return a filter of metadata, checked: a dict of JSON values, empty for None."""
    return {} if where is None else plain_object(where, "where")


_ORDERS: tuple[str, ...] = get_args(Order)


def check_order(order: object) -> str:
    """Return the order of a list, checked."""
    check_choice(order, "order", *_ORDERS)
    return str(order)


def check_owner(user_id: object) -> tuple[str | None, bool]:
    """Return the user whose sessions are listed (None: all users), and whether only those without a user are."""
    return (None, True) if user_id is NOBODY else (check_user(user_id), False)


def is_indexed(order: str) -> bool:
    """Return whether there is an index in this order."""
    return order.removeprefix("-") not in _KEYS


def in_order(
    summaries: Iterable[SessionSummary], order: str, cursor: str | None, limit: int | None
) -> tuple[list[SessionSummary], str | None]:
    """Return the first *limit* summaries after a cursor in an order without an index, and the next cursor.

    Holds no more than these in memory.
    """
    key, down = _KEYS[order.removeprefix("-")], order.startswith("-")
    after = sort_key(cursor, order)
    left = (
        summaries
        if after is None
        else (each for each in summaries if (key(each) < after if down else key(each) > after))
    )
    if limit is None:
        return sorted(left, key=key, reverse=down), None
    found = (heapq.nlargest if down else heapq.nsmallest)(limit + 1, left, key=key)
    if len(found) <= limit:
        return found, None
    text = json.dumps([order, *key(found[limit - 1])])
    return found[:limit], base64.urlsafe_b64encode(text.encode()).decode()


def sort_key(cursor: object, order: str) -> list[Any] | None:
    """Return the sort key in a cursor of a list in this order; None for the beginning."""
    if cursor is None:
        return None
    try:
        name, *key = json.loads(base64.urlsafe_b64decode(cursor)) if isinstance(cursor, str) else [""]
    except (ValueError, TypeError):
        name, key = "", list[Any]()
    kinds = [int, str] if order.endswith("created") else [bool, str, str, str]
    if name != order or [type(each) for each in key] != kinds:
        problem = f"is no next_cursor of list_sessions(order={order!r}); leave it out to begin anew"
        raise InvalidValueError("cursor", problem)
    return key


def fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether metadata contains the *wanted* values."""
    return all(key in metadata and _equal(metadata[key], value) for key, value in wanted.items())


def _equal(one: object, other: object) -> bool:
    if is_mapping(one):
        return is_mapping(other) and one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if is_array(one):
        return is_array(other) and len(one) == len(other) and all(map(_equal, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # to Python, True is 1
