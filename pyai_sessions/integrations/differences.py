"""Differences between two JSON values, as JSON: a list of edits that turn the one into the other.

An edit is ``[path, value]``, which sets the value at a path, or ``[path]``, which removes it. A path is a list of keys
and indexes; an index at the end of a list appends to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from pyai_sessions.values.json import MAX_DEPTH, frozen_object, is_array, is_mapping, plain_within, write
from pyai_sessions.values.messages import Message

_DEEPEST = MAX_DEPTH + 20
"""Levels of what a message is written as: its own fields lie some levels deep in that."""


def difference(one: Any, other: Any) -> list[list[Any]]:
    """Return the edits that turn *one* into *other*; an empty list if they are equal, types and all.

    >>> difference({"a": 1, "b": [1, 2]}, {"b": [1, 3, 4], "c": None})
    [[['a']], [['b', 1], 3], [['b', 2], 4], [['c'], None]]

    """
    edits: list[list[Any]] = []
    _compare(one, other, [], edits)
    return edits


def _compare(one: Any, other: Any, path: list[Any], edits: list[list[Any]]) -> None:
    if is_mapping(one) and is_mapping(other):
        edits += [[[*path, key]] for key in one if key not in other]
        for key, value in other.items():
            if key in one:
                _compare(one[key], value, [*path, key], edits)
            else:
                edits.append([[*path, key], value])
    elif is_array(one) and is_array(other):
        edits += [[[*path, n]] for n in reversed(range(len(other), len(one)))]
        for n, value in enumerate(other):
            if n < len(one):
                _compare(one[n], value, [*path, n], edits)
            else:
                edits.append([[*path, n], value])
    elif type(one) is not type(other) or one != other or (isinstance(one, float) and repr(one) != repr(other)):
        edits.append([path, other])  # the texts of floats, since 0.0 equals -0.0


def applied(one: Any, edits: Iterable[Sequence[Any]]) -> Any:
    """Return what *edits* make of *one*, whose dicts and lists are changed.

    >>> applied({"a": 1}, [[["a"]], [["b"], 2]])
    {'b': 2}

    """
    holder: list[Any] = [one]
    for path, *value in edits:
        keys: list[Any] = [0, *path]
        parent: Any = holder
        for key in keys[:-1]:
            parent = parent[key]
        if not value:
            del parent[keys[-1]]
        elif keys[-1] == len(parent):  # never so of a dict: its keys are texts
            parent.append(value[0])
        else:
            parent[keys[-1]] = value[0]
    return holder[0]


def keep_difference(message: Message, framework: str, written: Any, given: Any) -> None:
    """Store with a new message how *given* differs from what its own fields are *written* as.

    The difference is in the metadata, under the name of the *framework*, if there is one; fields that messages do not
    have are in it, too. The message is changed in place: a copy's id would be looked for among those that are stored.
    """
    values = vars(message)
    values.pop("unknown_fields", None)
    edits = difference(written, given)
    if edits:
        part = {"of": _digest(written), "edits": edits}
        values["metadata"] = frozen_object({**message.metadata, framework: part}, "metadata")


def restored(message: Message, framework: str, written: Any) -> Any:
    """Return what was given to `keep_difference`, where the message's own fields are still *written* as they were.

    Of a message whose own fields were changed since, or which another framework wrote, it is *written* itself.
    """
    part = message.metadata.get(framework)
    if not is_mapping(part) or part.get("of") != _digest(written):
        return written
    return applied(plain_within(written, "written", _DEEPEST), plain_within(part["edits"], "edits", _DEEPEST))


def _digest(value: Any) -> str:
    return blake2b(write(value), digest_size=8).hexdigest()
