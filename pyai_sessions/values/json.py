"""JSON values: which Python values a document can hold, and how they are written and read.

The text is written and read by msgspec. What msgspec cannot do (lone surrogates, which real chat streams contain) goes
through the stdlib's json, with the same result.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import NoneType
from typing import Any, NoReturn, TypeGuard, TypeVar, cast

import msgspec

from pyai_sessions.errors import ImmutableError, InvalidValueError
from pyai_sessions.values.checks import is_utf8, kind_of, shown, well_formed

MAX_DEPTH = 100
"""The deepest nesting that is accepted. Common JSON readers can read what is nested so deeply."""

_MAX_INTEGER_BITS = 14_000
"""About 4,214 digits; Python itself converts at most 4,300 (sys.int_info.default_max_str_digits)."""

_QUOTED = re.compile("(Invalid (?:enum )?value|unknown field) .*?( - at `[^`]*`)?$", re.DOTALL)
"""The part of a msgspec error that quotes the document."""

T = TypeVar("T")

Default = Callable[[Any], Any]
"""Converts a value that JSON cannot hold, or raises TypeError, like the ``default`` of `json.dumps`."""

CONTAINERS = frozenset([dict, list])

_DEFAULT: ContextVar[Default | None] = ContextVar("default", default=None)
_SHOWN = 10**9
"""An error shows a key that is a number below this one."""

_REMEDY = "convert it: jsonable(value); SessionManager(..., default=jsonable) does so for what it is given"


def check_default(default: object) -> Default | None:
    """Return *default* if it converts values, or is None."""
    if default is not None and not callable(default):
        raise InvalidValueError("default", f"is {kind_of(default)}; it is a function, such as jsonable or str")
    return cast("Default | None", default)


class converting:  # noqa: N801 (read as a word: with converting(default): ...)
    """A context in which all checks of values convert with *default* what JSON cannot hold."""

    __slots__ = ("_default", "_token")

    def __init__(self, default: Default | None) -> None:
        self._default = default

    def __enter__(self) -> None:
        self._token = _DEFAULT.set(self._default)

    def __exit__(self, kind: object, err: object, trace: object) -> None:
        _DEFAULT.reset(self._token)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Return whether *value* is a mapping."""
    return type(value) is dict or isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether *value* is a list or a tuple, which JSON writes as an array."""
    return isinstance(value, (list, tuple))


def is_bytes(value: object) -> TypeGuard[bytes]:
    """Return whether *value* is of one of the types in which mappings return bytes."""
    return isinstance(value, (bytes, bytearray, memoryview))


class CopiedPlainly:
    """A base class of dicts and lists whose copies, also by pickle, are plain dicts and lists."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        """Tell copy and pickle what to make."""
        kind: Any = dict if isinstance(self, dict) else list
        return kind, (kind(self),)


class FrozenDict(CopiedPlainly, dict[str, Any]):
    """A dict that cannot change: what a Message holds. ``dict(it)`` gives a copy that can."""


class FrozenList(CopiedPlainly, list[Any]):
    """A list that cannot change: what a Message holds. ``list(it)`` gives a copy that can."""


_MUTATORS: dict[type, tuple[str, ...]] = {
    dict: ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"),
    list: (
        *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop", "remove"),
        *("reverse", "sort"),
    ),
}


def make_unchangeable(kind: type, remedy: str) -> None:
    """Make all methods that would change a dict or a list of this class raise; *remedy* is the error's text."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ImmutableError(remedy)

    for base, names in _MUTATORS.items():
        for name in names if base in kind.__mro__ else ():
            setattr(kind, name, refuse)


for _kind in (FrozenDict, FrozenList):
    make_unchangeable(_kind, "a message cannot change; use session.replace_message(message_id, ...)")


def plain(value: object, path: str) -> Any:
    """Return a deep copy of *value* in plain JSON types (tuples become lists), or raise.

    Raises:
        InvalidValueError: JSON cannot hold a part of it; the error names that part, *path* first.

    """
    return _copy(value, path, MAX_DEPTH, dict, list)


def plain_within(value: object, path: str, levels: int) -> Any:
    """Do what `plain` does, with at most *levels* of nesting."""
    return _copy(value, path, levels, dict, list)


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
            copied[check_key(key, path)] = _copy(item, f"{path}[{key!r}]", depth - 1, make_dict, make_list)
        return make_dict(copied)
    if isinstance(value, (int, float, str)):
        return _scalar(value, path)
    _check_depth(path, depth)  # a conversion may return what has to be converted again, for ever
    return _copy(_converted(value, path), path, depth - 1, make_dict, make_list)


def check_key(key: object, path: str) -> str:
    """Return the key of the JSON object at *path* as text, or raise."""
    if isinstance(key, str):
        return well_formed(str.__str__(key))
    default = _DEFAULT.get()
    kind = kind_of(key)
    if default is not None and not isinstance(key, (int, float, tuple, NoneType)):
        with suppress(TypeError, ValueError):
            made: object = default(key)
            if isinstance(made, str):
                return well_formed(str.__str__(made))
    shown = f"the key {key!r}, {kind}" if isinstance(key, int) and abs(key) < _SHOWN else f"{kind} for a key"
    raise InvalidValueError(path, f"has {shown}; JSON keys are text: str(key)")


def _converted(value: object, path: str) -> object:
    """Return a value that JSON cannot hold, converted by the ``default`` in force."""
    default = _DEFAULT.get()
    kind = kind_of(value)
    if default is None:
        accepted = "it is None, a bool, a number, text, a list, or a dict with text keys"
        raise InvalidValueError(path, f"is {kind}, which JSON cannot hold; {accepted}; {_REMEDY}")
    try:
        made = default(value)
    except InvalidValueError as err:  # of jsonable, which names the part
        raise InvalidValueError(path + err.path.removeprefix("value"), err.problem) from err
    except (TypeError, ValueError) as err:
        raise InvalidValueError(
            path, f"is {kind}, which JSON cannot hold, and default= does not convert it; convert it first"
        ) from err
    if made is value:
        raise InvalidValueError(
            path, f"is {kind}, which JSON cannot hold, and default= returned it as it was; convert it first"
        )
    return made


def check_read(value: object, path: str, levels: int = MAX_DEPTH) -> None:
    """Raise where `frozen` would refuse a value that was read from JSON: a fifth of its cost."""
    kind = type(value)
    if kind is int or kind is float:
        _scalar(cast("float", value), path)
    if kind not in CONTAINERS:
        return
    _check_depth(path, levels)
    items: Any = value
    for each in items.values() if kind is dict else items:
        if type(each) is not str:
            check_read(each, path, levels - 1)


def frozen_read(value: Any) -> Any:
    """Do what `frozen` does, for a value that `check_read` has accepted: without checks."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return FrozenDict({key: frozen_read(each) for key, each in items})
    if isinstance(value, list):
        return FrozenList(map(frozen_read, cast("Sequence[Any]", value)))
    return value


def depth_of(value: object) -> int:
    """Return how deeply a JSON value is nested: 0 for a number or a text, 1 for a list of such."""
    if is_mapping(value):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if is_array(value) else 0


def _check_depth(path: str, depth: int) -> None:
    if depth <= 0:
        raise InvalidValueError(path, f"is nested deeper than {MAX_DEPTH} levels")


def _scalar(value: float | str, path: str) -> object:
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise InvalidValueError(path, f"is an integer of {value.bit_length()} bits; at most {_MAX_INTEGER_BITS}")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(path, f"is {shown(value)}, which JSON cannot hold; use None or a string")
        return float(value)
    return well_formed(str.__str__(value))


def thawed(value: Any) -> Any:
    """Return a copy of JSON in plain dicts and lists, in which U+FFFD replaces each lone surrogate."""
    if isinstance(value, str):
        return value if value.isascii() else _sendable(value)
    if is_mapping(value):
        return {_sendable(key): thawed(each) for key, each in value.items()}
    return [thawed(each) for each in value] if is_array(value) else value


def _sendable(text: str) -> str:
    """Return a text that can be encoded as UTF-8: half a character, as a cut stream leaves it, becomes U+FFFD."""
    return text if is_utf8(text) else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write(value: object) -> bytes:
    """Return the JSON of *value*, in UTF-8: plain JSON values, or msgspec types and dataclasses made of them."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate: the stdlib escapes it
        return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False).encode()


_ANY = msgspec.json.Decoder(object)


def read(text: str | bytes) -> Any:
    """Return the value of a JSON *text*; raise ValueError where it is not one."""
    return read_as(text, _ANY, object)


def read_as(text: str | bytes, decoder: msgspec.json.Decoder[T], kind: type[T]) -> T:
    """Return the value of a JSON *text* as a *kind*, by that kind's *decoder*; raise ValueError where it is not one."""
    try:
        try:
            return decoder.decode(text)
        except (msgspec.DecodeError, UnicodeError):
            return convert(json.loads(decoded(text), parse_constant=_refuse), kind)
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
    except UnicodeDecodeError:  # it holds the whole text, and a traceback would show that
        msg = "its bytes are not UTF-8 text"
        raise ValueError(msg) from None


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is not JSON"
    raise ValueError(msg)
