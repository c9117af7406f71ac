"""A cache of the values used last, bounded by their size in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

_ENTRY = 300
"""Bytes that an entry takes beside its value."""


class Recent(Generic[V]):
    """A cache that keeps the values used last, up to about *limit* bytes. Each value is put with its size.

    Two dicts, a young one and an old one. What is put or found goes to the young one; when that has half of the limit,
    it becomes the old one, and the former old one goes. No lock guards them, as an exception from outside could leave
    one taken: each step is one of a dict's own, and at worst a value is forgotten, which costs a read.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._young: dict[Hashable, tuple[V, int]] = {}
        self._old: dict[Hashable, tuple[V, int]] = {}
        self._size = 0

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self._put(key, found)
        return found[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Put a value of *size* bytes, in place of any former value of its key."""
        self._put(key, (value, size + _ENTRY))

    def _put(self, key: Hashable, entry: tuple[V, int]) -> None:
        self.pop(key)
        if entry[1] > self._half:
            return
        self._young[key] = entry
        self._size += entry[1]
        if self._size > self._half:
            self._young, self._old, self._size = {}, self._young, 0

    def pop(self, key: Hashable) -> V | None:
        """Forget the value of a key, and return it."""
        found = self._young.pop(key, None)
        if found is not None:
            self._size -= found[1]
        else:
            found = self._old.pop(key, None)
        return None if found is None else found[0]


class Part(Recent[V]):
    """The part of a cache that one namespace sees. All namespaces share the limit."""

    def __init__(self, whole: Recent[V], name: str) -> None:
        super().__init__(0)
        self._whole = whole
        self._name = name

    def get(self, key: Hashable) -> V | None:
        """Return the value of a key, or None."""
        return self._whole.get((self._name, key))

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Put a value of *size* bytes, in place of any former value of its key."""
        self._whole.put((self._name, key), value, size)

    def pop(self, key: Hashable) -> V | None:
        """Forget the value of a key, and return it."""
        return self._whole.pop((self._name, key))
