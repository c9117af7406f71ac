"""Values of Python's own and of well-known libraries as JSON values: what ``default=jsonable`` converts."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from os import PathLike, fspath
from typing import Any, cast
from uuid import UUID

from pyai_sessions.values.checks import kind_of
from pyai_sessions.values.json import converting, plain


def jsonable(value: Any) -> Any:
    """Return *value* converted to JSON values. Pass this function to `SessionManager` as ``default=``.

    A store returns the JSON, not the value: for a datetime you get text back.

    =====================================================  ==========================================================
    datetime, date, time                                   ISO 8601 text
    timedelta                                              seconds, as a number
    UUID, Decimal, a path                                  its text
    an Enum's member                                       its value
    bytes                                                  text in base64
    a set                                                  a list, in the order of its members' JSON
    a dataclass, attrs class, msgspec Struct               a dict of its fields
    a pydantic model                                       what ``model_dump(mode="json")`` returns
    a scalar or array of numpy, whatever has ``tolist``    Python's numbers, in lists
    a `Session`, a `Message`, whatever has ``to_dict``     what ``to_dict`` returns
    other sequences                                        a list
    =====================================================  ==========================================================

    Raises:
        InvalidValueError: It is of none of these types; the error names the part.

    >>> from datetime import date
    >>> jsonable({"day": date(2026, 1, 31), "tags": {"b", "a"}})
    {'day': '2026-01-31', 'tags': ['a', 'b']}
    >>> json.dumps([UUID(int=1)], default=jsonable)
    '["00000000-0000-0000-0000-000000000001"]'

    """
    with converting(_step):
        return plain(value, "value")


def _step(value: Any) -> Any:  # noqa: PLR0911 (a table)
    """Convert a value that JSON cannot hold by one step. What it contains is converted later, in the same way."""
    for kinds, convert in _OF_TYPES:
        if isinstance(value, kinds):
            return convert(value)
    if isinstance(value, type):
        return _refuse(value)
    for name, convert in _OF_METHODS.items():
        if callable(getattr(value, name, None)):
            return convert(value)
    if isinstance(value, Sequence):
        return _list(value)
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    kind = cast("Any", type(value))
    with suppress(AttributeError):  # a msgspec.Struct
        return {name: getattr(value, name) for name in kind.__struct_fields__}
    with suppress(AttributeError):  # a class of attrs
        return {each.name: getattr(value, each.name) for each in kind.__attrs_attrs__}
    return _refuse(value)


def _refuse(value: object) -> Any:
    msg = f"{kind_of(value)} has no JSON form"
    raise TypeError(msg)


def _list(value: Any) -> list[Any]:
    return list(value)


def _set(value: AbstractSet[Any]) -> list[Any]:
    return sorted((plain(each, "value") for each in value), key=json.dumps)


def _time(value: Any) -> str:
    text: str = value.isoformat()
    return f"{text[:-6]}Z" if isinstance(value, datetime) and text.endswith("+00:00") else text


_OF_TYPES: list[tuple[Any, Callable[[Any], Any]]] = [
    (Enum, lambda value: value.value),
    ((datetime, date, time), _time),
    (timedelta, lambda value: value.total_seconds()),
    ((UUID, Decimal), str),
    (PathLike, fspath),
    ((bytes, bytearray, memoryview), lambda value: b64encode(value).decode()),
    (AbstractSet, _set),
]
_OF_METHODS: dict[str, Callable[[Any], Any]] = {
    "model_dump": lambda value: value.model_dump(mode="json"),
    "to_dict": lambda value: value.to_dict(),
    "tolist": lambda value: value.tolist(),
}
