"""JSON values: which Python values a document can hold, and their text.

The text is written and read by msgspec. What msgspec cannot do (lone surrogates, which real chat streams contain) goes
through the stdlib's json, with the same result.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeGuard, TypeVar, cast

import msgspec

from pyai_sessions.checks import kind_of, well_formed
from pyai_sessions.errors import InvalidValueError

MAX_DEPTH = 100
"""Containers nested deeper than this are refused: every JSON reader in reach still opens what we write."""

_MAX_INTEGER_BITS = 14_000
"""About 4,214 digits; Python itself converts at most 4,300 (sys.int_info.default_max_str_digits)."""

_QUOTED = re.compile("(Invalid (?:enum )?value|unknown field) .*?( - at `[^`]*`)?$", re.DOTALL)
"""What msgspec says where it quotes the document."""

T = TypeVar("T")


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether *value* is a mapping, of whatever."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether *value* is what JSON has arrays for."""
    return isinstance(value, (list, tuple))


def is_bytes(value: object) -> TypeGuard[bytes]:
    """Return whether *value* is bytes, in any of the types that mappings return."""
    return isinstance(value, (bytes, bytearray, memoryview))


def _refuse(*_: object, **__: object) -> NoReturn:
    msg = "a message cannot change; use session.replace_message(message_id, ...)"
    raise TypeError(msg)


class FrozenDict(dict[str, Any]):
    """A dict that cannot change: what a Message holds. ``dict(it)`` gives a copy that can."""

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Copy as a plain dict."""
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot change: what a Message holds. ``list(it)`` gives a copy that can."""

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy as a plain list."""
        return list, (list(self),)


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(FrozenDict, _name, _refuse)
for _name in (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
):
    setattr(FrozenList, _name, _refuse)
for _name in ("reverse", "sort"):
    setattr(FrozenList, _name, _refuse)


def plain(value: object, path: str) -> Any:
    """Return a deep copy of *value* in plain JSON types (tuples become lists), or raise.

    Raises:
        InvalidValueError: JSON cannot hold a part of it; the error names that part, *path* first.

    """
    return _copy(value, path, MAX_DEPTH, dict, list)


def frozen(value: object, path: str) -> Any:
    """Return a deep copy of *value* that cannot change, or raise as `plain` does."""
    return _copy(value, path, MAX_DEPTH, FrozenDict, FrozenList)


def plain_object(value: object, path: str) -> dict[str, Any]:
    """Return a mapping with text keys as `plain` does; refuse all else."""
    return cast("dict[str, Any]", plain(_mapping(value, path), path))


def frozen_object(value: object, path: str) -> dict[str, Any]:
    """Return a mapping with text keys as `frozen` does; refuse all else."""
    return cast("dict[str, Any]", frozen(_mapping(value, path), path))


def _mapping(value: object, path: str) -> dict[Any, Any]:
    if not is_mapping(value):
        raise InvalidValueError(path, f"is {kind_of(value)}; it is a dict with text keys")
    return dict(value)


def _copy(value: object, path: str, depth: int, make_dict: type[dict[str, Any]], make_list: type[list[Any]]) -> Any:
    if type(value) is str:
        return value if value.isascii() else well_formed(value)
    if value is None or type(value) is bool:
        return value
    if is_array(value):
        _check_depth(path, depth)
        return make_list(_copy(item, f"{path}[{n}]", depth - 1, make_dict, make_list) for n, item in enumerate(value))
    if is_mapping(value):
        _check_depth(path, depth)
        copied: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidValueError(path, f"has the key {key!r}, {kind_of(key)}; JSON keys are text")
            copied[well_formed(str.__str__(key))] = _copy(item, f"{path}[{key!r}]", depth - 1, make_dict, make_list)
        return make_dict(copied)
    return _scalar(value, path)


def depth_of(value: object) -> int:
    """Return how deeply a JSON value is nested: 0 for a number or a text, 1 for a list of such."""
    if is_mapping(value):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if is_array(value) else 0


def _check_depth(path: str, depth: int) -> None:
    if depth == 0:
        raise InvalidValueError(path, f"is nested deeper than {MAX_DEPTH} levels")


def _scalar(value: object, path: str) -> object:
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise InvalidValueError(path, f"is an integer of {value.bit_length()} bits; at most {_MAX_INTEGER_BITS}")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(path, f"is {value!r}, which JSON cannot hold; use None or a string")
        return float(value)
    if isinstance(value, str):
        return well_formed(str.__str__(value))
    accepted = "it is None, a bool, a number, text, a list, or a dict with text keys"
    raise InvalidValueError(path, f"is {kind_of(value)}, which JSON cannot hold; {accepted}")


def write(value: object) -> bytes:
    """Return the JSON of *value*, in UTF-8: plain JSON values, or msgspec types and dataclasses made of them."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate: the stdlib escapes it
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False).encode()


def read(text: str | bytes) -> Any:
    """Return the value of a JSON *text*; raise ValueError where it is not one."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return _read_slowly(text)
    except RecursionError as err:
        msg = "it is nested too deeply"
        raise ValueError(msg) from err


def read_as(text: str | bytes, decoder: msgspec.json.Decoder[T], kind: type[T]) -> T:
    """Return the value of a JSON *text* as a *kind*, by that kind's *decoder*; raise ValueError where it is not one."""
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return convert(_read_slowly(text), kind)
    except RecursionError as err:
        msg = "it is nested too deeply"
        raise ValueError(msg) from err


def convert(value: object, kind: type[T]) -> T:
    """Return a JSON *value* as a *kind*; raise ValueError where it does not have its shape."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as err:  # a ValueError itself since msgspec 0.20
        shape = _QUOTED.sub(r"\1\2", str(err))
        msg = f"it does not have the expected shape ({shape})"
        raise ValueError(msg) from None


def decoded(text: str | bytes) -> str:
    """Return a text in UTF-8 as text; raise ValueError where it is not."""
    try:
        return text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:  # which holds the whole text, and is shown with what it causes
        msg = "its bytes are not UTF-8 text"
        raise ValueError(msg) from None


def _read_slowly(text: str | bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        msg = f"{constant} is not JSON"
        raise ValueError(msg)

    try:
        return json.loads(decoded(text), parse_constant=refuse)
    except RecursionError as err:
        msg = "it is nested too deeply"
        raise ValueError(msg) from err
