"""Differences between two JSON values, as JSON: what to remove from the one, and what to set, to get the other.

A place is named by a JSON Pointer (RFC 6901): ``"/content/0/text"``. An index at the end of a list appends to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha1
from typing import Any, NamedTuple

from pyai_sessions.values.json import frozen_object, is_array, is_mapping, read, write
from pyai_sessions.values.messages import Message, metadata_of


class Difference(NamedTuple):
    """What turns one JSON value into another.

    Attributes:
        remove: The pointers of what is removed first, in order.
        set: The values that are set then, by their pointers, in order.

    """

    remove: list[str]
    set: dict[str, Any]


def difference(one: Any, other: Any) -> Difference:
    """Return what turns *one* into *other*; nothing if they are equal, types and all.

    >>> difference({"a": 1, "b": [1, 2]}, {"b": [1, 3, 4], "c": None})
    Difference(remove=['/a'], set={'/b/1': 3, '/b/2': 4, '/c': None})

    """
    found = Difference([], {})
    _compare(one, other, "", found)
    return found


def _compare(one: Any, other: Any, path: str, found: Difference) -> None:
    if one is other or (type(one) is str and type(other) is str and one == other):  # most values are so
        return
    if is_mapping(one) and is_mapping(other):
        found.remove.extend(f"{path}/{_escaped(key)}" for key in one if key not in other)
        for key, value in other.items():
            if key in one:
                _compare(one[key], value, f"{path}/{_escaped(key)}", found)
            else:
                found.set[f"{path}/{_escaped(key)}"] = value
    elif is_array(one) and is_array(other):
        found.remove.extend(f"{path}/{n}" for n in reversed(range(len(other), len(one))))
        for n, value in enumerate(other):
            if n < len(one):
                _compare(one[n], value, f"{path}/{n}", found)
            else:
                found.set[f"{path}/{n}"] = value
    elif type(one) is not type(other) or one != other or (isinstance(one, float) and repr(one) != repr(other)):
        found.set[path] = other  # the texts of floats, since 0.0 equals -0.0


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def applied(one: Any, remove: Iterable[str], values: Mapping[str, Any]) -> Any:
    """Return what a `Difference` makes of *one*, whose dicts and lists are changed.

    >>> applied({"a": 1}, ["/a"], {"/b": 2})
    {'b': 2}

    """
    holder: list[Any] = [one]
    for pointer in remove:
        parent, key = _place(holder, pointer)
        del parent[key]
    for pointer, value in values.items():
        parent, key = _place(holder, pointer)
        if key == len(parent):  # never so of a dict: its keys are texts
            parent.append(value)
        else:
            parent[key] = value
    return holder[0]


def _place(holder: list[Any], pointer: str) -> tuple[Any, Any]:
    """Return the dict or list that a pointer leads into, and the key or the index there."""
    parent: Any = holder
    key: Any = 0
    for name in pointer.split("/")[1:]:
        parent = parent[key]
        key = int(name) if is_array(parent) else name.replace("~1", "/").replace("~0", "~")
    return parent, key


def keep_difference(message: Message, framework: str, written: Any, given: Any) -> None:
    """Store with a new message how *given* differs from what its own fields are *written* as.

    The difference is in the metadata, under the name of the *framework*, if there is one; fields that messages do not
    have are in it, too.
    """
    vars(message).pop("unknown_fields", None)
    found = difference(written, given)
    kept = {key: each for key, each in found._asdict().items() if each}
    if kept:
        keep(message, framework, {"of": _digest(write(written)), **kept})


def keep(message: Message, framework: str, part: Mapping[str, Any]) -> None:
    """Store *part* with a new message, in the metadata, under the name of the *framework*.

    The message is changed in place: a copy's id would be looked for among those that are stored.
    """
    vars(message)["metadata"] = frozen_object({**message.metadata, framework: part}, "metadata")


def restored(message: Message, framework: str, written: Any, *, fresh: bool = False) -> Any:
    """Return what was given to `keep_difference`, where the message's own fields are still *written* as they were.

    Of a message whose own fields were changed since, or which another framework wrote, it is *written* itself. With
    *fresh*, that shares no dict and no list with the message, and is changed in place.
    """
    part = metadata_of(message).get(framework)
    if not is_mapping(part):
        return written
    text = write(written)
    if part.get("of") != _digest(text):
        return written
    # A copy by its text takes a tenth of the time that a copy in Python takes.
    values = part.get("set", {})
    if any(is_mapping(each) or is_array(each) for each in values.values()):
        values = read(write(values))
    return applied(written if fresh else read(text), part.get("remove", ()), values)


def _digest(text: bytes) -> str:
    return sha1(text, usedforsecurity=False).hexdigest()[:16]
