"""The merge of two changes of one JSON value: two writers each changed a copy of a state or of metadata."""

from __future__ import annotations

from typing import Any, TypeGuard

ABSENT: Any = object()
"""Stands for a key that a dict does not have."""


def join(base: Any, mine: Any, theirs: Any) -> Any:
    """Return *base* with the changes of both *mine* and *theirs*. Dicts are merged by key, at every depth.

    If one changed a key and the other deleted it, the change stays. If both changed another value, mine stays.
    Nothing else is lost, and the result does not depend on which of the two is mine.
    """
    if is_same(mine, base) or is_same(mine, theirs):
        return theirs
    if is_same(theirs, base):
        return mine
    if _is_object(mine) and _is_object(theirs):
        return _join_keys(base if _is_object(base) else {}, mine, theirs)
    if mine is ABSENT or theirs is ABSENT:
        changed = theirs if mine is ABSENT else mine
        if _is_object(base) and _is_object(changed):  # what was deleted with the dict, and did not change, is gone
            return _join_keys(base, changed, {}) or ABSENT
        return changed
    return mine


def _join_keys(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    found = {
        key: join(base.get(key, ABSENT), mine.get(key, ABSENT), theirs.get(key, ABSENT)) for key in {**theirs, **mine}
    }
    return {key: value for key, value in found.items() if value is not ABSENT}


def add(base: Any, mine: Any, theirs: Any) -> Any:
    """Return *theirs* plus what *mine* added to *base*, for numbers and lists; ABSENT for other values."""
    if _is_number(mine) and _is_number(theirs) and (base is ABSENT or _is_number(base)):
        return theirs + (mine if base is ABSENT else mine - base)
    before: Any = [] if base is ABSENT else base
    if _is_list(mine) and _is_list(theirs) and _is_list(before) and is_same(mine[: len(before)], before):
        return [*theirs, *mine[len(before) :]]
    return ABSENT


def is_same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON: True is not 1, and 1 is not 1.0."""
    if _is_object(one) and _is_object(other):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and one == other


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return type(value) is dict


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return type(value) is list


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
