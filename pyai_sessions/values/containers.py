"""Dicts and lists that accept only JSON: metadata and state check each value when it is put in, at every depth.

What is put in is copied, as everything that a session is given; a `Default` that the session has converts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, SupportsIndex, cast, overload

from pyai_sessions.values.json import CONTAINERS, MAX_DEPTH, CopiedPlainly, Default, check_key, converting, plain_within


class Place(NamedTuple):
    """The place of a container: the container around it, its key there, and how many levels may be nested in it.

    A list's items have no key: their numbers change, so an error with a number could name the wrong one.
    """

    outer: Place | None
    key: str | None
    levels: int
    default: Default | None

    def path(self) -> str:
        """Return the place as the caller would write it."""
        return self.key or "" if self.outer is None else self.outer.path_of(self.key)

    def path_of(self, key: str | None) -> str:
        """Return the path of a key in this container, or of an item of a list."""
        return f"{self.path()}[...]" if key is None else f"{self.path()}[{key!r}]"


class JSONDict(CopiedPlainly, dict[str, Any]):
    """A dict that checks and copies each value that is put in. A copy of it is a plain dict.

    >>> state = guarded({"cart": []}, "state")
    >>> state["cart"].append({1, 2})
    Traceback (most recent call last):
    pyai_sessions.errors.InvalidValueError: state['cart'][...] is a set, which JSON cannot hold; ...

    """

    __slots__ = ("_place",)

    _place: Place

    def __new__(cls, *arguments: Any, **items: Any) -> Any:  # noqa: D102 (`dataclasses.asdict` calls it)
        return dict(*arguments, **items)

    def __setitem__(self, key: str, value: Any, /) -> None:
        if type(key) is not str or not key.isascii():
            with converting(self._place.default):
                key = check_key(key, self._place.path())
        super().__setitem__(key, _taken(self._place, value, key))

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return what *key* has; set it first where it has nothing."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **items: Any) -> None:
        """Set items as `dict.update` does. If one is refused, none is set."""
        made: JSONDict = dict.__new__(JSONDict)
        made._place = self._place
        for key, value in dict(*others, **items).items():
            made[key] = value
        super().update(made)

    def __ior__(self, other: Any, /) -> Any:  # type: ignore[misc]
        self.update(other)
        return self


class JSONList(CopiedPlainly, list[Any]):
    """A list that checks and copies each value that is put in. A copy of it is a plain list."""

    __slots__ = ("_place",)

    _place: Place

    def __new__(cls, items: Iterable[Any] = (), /) -> Any:  # noqa: D102 (`dataclasses.asdict` calls it)
        return list(items)

    @overload
    def __setitem__(self, index: SupportsIndex, value: Any, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[Any], /) -> None: ...
    def __setitem__(self, index: SupportsIndex | slice, value: Any, /) -> None:
        if isinstance(index, slice):
            super().__setitem__(index, self._all_taken(value))
        else:
            super().__setitem__(index, _taken(self._place, value, None))

    def append(self, value: Any, /) -> None:
        """Add a value at the end."""
        super().append(_taken(self._place, value, None))

    def extend(self, values: Iterable[Any], /) -> None:
        """Add values at the end. If one is refused, none is added."""
        super().extend(self._all_taken(values))

    def __iadd__(self, values: Iterable[Any], /) -> Any:  # type: ignore[misc]
        self.extend(values)
        return self

    def insert(self, index: SupportsIndex, value: Any, /) -> None:
        """Insert a value before a place."""
        super().insert(index, _taken(self._place, value, None))

    def _all_taken(self, values: Iterable[Any]) -> list[Any]:
        return [_taken(self._place, each, None) for each in list(values)]


def guarded(value: Mapping[str, Any], name: str, default: Default | None = None) -> JSONDict:
    """Return a plain JSON object as a dict that checks what is put in. *value* itself is not checked."""
    return _guarded_dict(value, Place(None, name, MAX_DEPTH, default))


def _taken(place: Place, value: Any, key: str | None) -> Any:
    """Return a value as a container holds it: checked, converted and copied, with guarded containers in it."""
    if value is None or type(value) is bool or (type(value) is str and value.isascii()):
        return value
    with converting(place.default):
        return _guarded(plain_within(value, place.path_of(key), place.levels - 1), place, key)


def _guarded(value: Any, outer: Place, key: str | None) -> Any:
    """Return plain JSON with its dicts and lists replaced by ones that check what is put in.

    Values nested deeper than the limit stay as they are; a stored document may hold such.
    """
    if type(value) not in CONTAINERS or outer.levels <= 0:
        return value
    place = Place(outer, key, outer.levels - 1, outer.default)
    if type(value) is dict:
        return _guarded_dict(cast("dict[str, Any]", value), place)
    made: JSONList = list.__new__(JSONList)
    list[Any].extend(made, [_guarded(each, place, None) if type(each) in CONTAINERS else each for each in value])
    made._place = place  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return made


def _guarded_dict(value: Mapping[str, Any], place: Place) -> JSONDict:
    made: JSONDict = dict.__new__(JSONDict)
    dict[str, Any].update(made, value)
    for key, each in value.items():
        if type(each) in CONTAINERS:
            dict[str, Any].__setitem__(made, key, _guarded(each, place, key))
    made._place = place  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return made
