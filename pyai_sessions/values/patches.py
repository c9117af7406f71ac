"""Changes of a JSON object by key. They apply to any object, and keep the keys that other writers set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import check_items, check_text
from pyai_sessions.values.json import is_mapping, plain_object

Path = Sequence[str]
"""The keys that lead to a value, from the outermost object on."""


class Patch(NamedTuple):
    """A change: the paths to remove, and then the changes to merge in."""

    changes: Mapping[str, Any] = {}
    remove: Sequence[Path] = ()

    def of(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return an object as it is after the change."""
        for path in self.remove:
            value = without(value, path)
        return merged(value, self.changes)

    @property
    def is_empty(self) -> bool:
        """Whether it changes no object at all."""
        return not self.changes and not self.remove


UNCHANGED = Patch()


def patch(changes: object, remove: object, name: str, remove_name: str | None = None) -> Patch:
    """Return the change that two arguments of a call mean: *name*, and ``remove_`` and *name* if not *remove_name*.

    Raises:
        InvalidValueError: One of them is not acceptable.

    """
    if changes is None and remove == ():
        return UNCHANGED  # as nearly all arguments of a call
    remove_name = remove_name or f"remove_{name}"
    removed = check_items(remove, remove_name, "keys, or of lists of keys")
    paths = [_path(each, f"{remove_name}[{n}]") for n, each in enumerate(removed)]
    return Patch({} if changes is None else plain_object(changes, name), paths)


def _path(given: object, name: str) -> Path:
    if isinstance(given, str):
        return (check_text(given, name),)
    keys = [check_text(each, f"{name}[{n}]") for n, each in enumerate(check_items(given, name, "keys"))]
    if not keys:
        raise InvalidValueError(name, "is empty; it is a key, or a list of the keys that lead to a value")
    return keys


def merged(value: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with *changes* in it: objects merge by key, at every depth, any other value is replaced."""
    made = dict(value)
    for key, new in changes.items():
        old = made.get(key)
        made[key] = merged(old, new) if is_mapping(old) and is_mapping(new) else new
    return made


def without(value: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return an object without the value at the end of *path*, or as it is if there is no such value."""
    key, *rest = path
    made = dict(value)
    if not rest:
        made.pop(key, None)
    elif is_mapping(made.get(key)):
        made[key] = without(made[key], rest)
    return made
