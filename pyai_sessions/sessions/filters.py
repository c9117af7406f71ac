"""Which sessions a list keeps, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pyai_sessions.values.checks import check_choice
from pyai_sessions.values.json import is_array, is_mapping, plain_object

Order = Literal["newest", "oldest"]


def check_where(where: object) -> dict[str, Any]:
    """Return a filter of metadata if it is one: a dict of JSON values by text keys, or None for all."""
    return {} if where is None else plain_object(where, "where")


def check_order(order: object) -> str:
    """Return the order of a list if it is one."""
    check_choice(order, "order", "newest", "oldest")
    return str(order)


def fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether metadata has the *wanted* values."""
    return all(key in metadata and _equal(metadata[key], value) for key, value in wanted.items())


def _equal(one: object, other: object) -> bool:
    if is_mapping(one):
        return is_mapping(other) and one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if is_array(one):
        return is_array(other) and len(one) == len(other) and all(map(_equal, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # to Python, True is 1
