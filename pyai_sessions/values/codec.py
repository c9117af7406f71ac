"""Documents: dataclasses with JSON methods, made with dataclasses-json. No other module imports that package.

Stores write and read the same JSON by a faster way, see `pyai_sessions.documents.reading`; tests hold the two equal.
"""

# dataclasses-json's own types are partly unknown:
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from functools import cache, partial
from types import NoneType
from typing import Any, ClassVar, NoReturn, TypeVar, cast, get_args

from dataclasses_json import DataClassJsonMixin, config
from marshmallow import EXCLUDE
from marshmallow import fields as schema_fields
from typing_extensions import Self

from pyai_sessions.errors import ImmutableError, InvalidValueError
from pyai_sessions.values.checks import check_count, check_text, check_time, kind_of
from pyai_sessions.values.json import frozen, is_mapping, plain
from pyai_sessions.values.schemas import core_schema_of, json_schema_of

FieldMetadata = dict[str, Any]
"""The ``metadata`` of a dataclass field."""


def time_text(value: datetime) -> str:
    """Return a UTC time as ISO 8601 with a Z: ``2026-01-31T12:00:00.000001Z``."""
    return value.isoformat().removesuffix("+00:00") + "Z"


Check = Callable[[Any, str], Any]
"""Takes a value and its name, and returns the checked value or raises an error with that name."""


def checked(check: Check, **options: Any) -> FieldMetadata:
    """Return the metadata of a field whose JSON value is read by *check*; *options* are those of dataclasses-json."""
    return {"check": check, **config(**options)}


def _time_text_or_none(value: datetime | None) -> str | None:
    return None if value is None else time_text(value)


def _same(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    return plain(value, "value")


# By default dataclasses-json writes times as local-zone floats, and rebuilds JSON values by their type hints.
TIME: FieldMetadata = checked(check_time, encoder=time_text, decoder=_same, mm_field=schema_fields.AwareDateTime("iso"))
TIME_OR_NONE: FieldMetadata = checked(
    check_time,
    encoder=_time_text_or_none,
    decoder=_same,
    mm_field=schema_fields.AwareDateTime("iso", allow_none=True),
)
JSON_VALUE: FieldMetadata = config(encoder=_plain, decoder=_same, mm_field=schema_fields.Raw(allow_none=True))


class Document(DataClassJsonMixin):
    """A dataclass with JSON methods, in which unknown fields survive a round trip."""

    unknown_fields: ClassVar[Mapping[str, Any]] = {}
    """Fields of the JSON that this release does not know, by name; set on an object that has some."""

    _stored_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that a stored document has and the dataclass does not."""

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the object that ``to_dict`` made *kvs* of.

        Raises:
            InvalidValueError: It is none; the error names the field, and what is accepted.

        """
        if isinstance(kvs, cls):
            return kvs
        if not is_mapping(kvs):
            raise InvalidValueError(cls.__name__, f"is made from a JSON object, not from {kind_of(kvs)}")
        known = _reading(cls)
        given: dict[str, Any] = {}
        for name, (check, required) in known.items():  # dataclasses-json would make text of numbers
            if name in kvs:
                given[name] = check(kvs[name], name)
            elif required and not infer_missing:
                raise InvalidValueError(name, "is missing")
        made = super().from_dict(given, infer_missing=infer_missing)
        made.keep_unknown({k: v for k, v in kvs.items() if k not in known and k not in cls._stored_fields})
        return made

    @classmethod
    def from_json(cls, s: str | bytes | bytearray, *, infer_missing: bool = False, **options: Any) -> Self:
        """Return the object that ``to_json`` made the text *s* of; *options* are those of `json.loads`.

        Raises:
            InvalidValueError: It is not JSON, or not such an object.

        """
        try:
            kvs = json.loads(s, **options)
        except (ValueError, TypeError, RecursionError) as err:
            problem = f"is {kind_of(s)}; it is the JSON text of a {cls.__name__}"
            if isinstance(s, (str, bytes, bytearray)):
                problem = (
                    f"is not the JSON text of a {cls.__name__}; it is what to_json returned ({type(err).__name__})"
                )
            raise InvalidValueError("s", problem) from None
        return cls.from_dict(kvs, infer_missing=infer_missing)

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the object as JSON values, unknown fields included."""
        return {**super().to_dict(encode_json), **plain(self.unknown_fields, type(self).__name__)}

    def to_json(self, **options: Any) -> str:
        """Return the object as JSON text; *options* are those of `json.dumps`."""
        return super().to_json(**options)

    @classmethod
    def schema(cls, **options: Any) -> Any:
        """Return the marshmallow schema; *options* are those of marshmallow. It passes over unknown fields."""
        with warnings.catch_warnings():
            # dataclasses-json 0.6.7 gives marshmallow an argument that its release 4, which it does not allow, lacks.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="dataclasses_json")
            warnings.filterwarnings("ignore", message="The 'default' argument to fields is deprecated")
            options.setdefault("unknown", EXCLUDE)
            return super().schema(**options)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """Let pydantic read and write what `to_dict` returns. Pydantic is imported only if it calls this."""
        return core_schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        """Return the schema of what `to_dict` returns."""
        return json_schema_of(cls)

    def keep_unknown(self, unknown: Mapping[str, Any]) -> None:
        """Keep fields that this release does not know, so that they are written again."""
        if unknown:
            object.__setattr__(self, "unknown_fields", frozen(dict(unknown), type(self).__name__))


@cache
def _reading(kind: type[Document]) -> dict[str, tuple[Check, bool]]:
    """Return the check of each field of a document, and whether the field is required."""
    made: dict[str, tuple[Check, bool]] = {}
    for each in fields(cast("Any", kind)):
        check: Check = each.metadata.get("check") or _check_of(each.type)
        nullable = each.type is Any or NoneType in get_args(each.type)
        if not each.init:
            continue
        required = each.default is MISSING and each.default_factory is MISSING
        made[each.name] = (partial(_nullable if nullable else _never_null, check), required)
    return made


def _nullable(check: Check, value: Any, name: str) -> Any:
    return None if value is None else check(value, name)


def _never_null(check: Check, value: Any, name: str) -> Any:
    if value is None:
        raise InvalidValueError(name, "is null")
    return check(value, name)


def _check_of(kind: Any) -> Check:
    """Return the check of a field that has none of its own: by its type, or none if the constructor checks it."""
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    found = next((check for of, check in _CHECKS.items() if of in kinds), None)
    return found or (lambda value, _: value)


def _check_truth(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise InvalidValueError(name, f"is {kind_of(value)}; it is True or False")
    return value


_CHECKS: dict[type, Check] = {str: check_text, int: check_count, bool: _check_truth}


D = TypeVar("D", bound=Document)


def unchangeable(remedy: str) -> Callable[[type[D]], type[D]]:
    """Return a decorator of a frozen dataclass: an assignment raises an error that says what to do."""

    def mark(kind: type[D]) -> type[D]:
        def refuse(self: object, name: str, *_: object) -> NoReturn:
            raise ImmutableError(f"{type(self).__name__}.{name} cannot be assigned to; {remedy}")

        for method in ("__setattr__", "__delattr__"):
            setattr(kind, method, refuse)
        return kind

    return mark


def document_at(kind: type[D], value: Any, place: str) -> D:
    """Return a JSON *value* as a document. An error names its *place*."""
    if not is_mapping(value) and not isinstance(value, kind):
        raise InvalidValueError(place, f"is {kind_of(value)}; it is a JSON object")
    try:
        return kind.from_dict(value)
    except InvalidValueError as err:
        raise err.within(place) from err


def documents_at(kind: type[D], value: Any, place: str) -> list[D]:
    """Return a JSON array as documents. An error names its *place*."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise InvalidValueError(place, f"is {kind_of(value)}; it is a list")
    items: Sequence[Any] = value
    return [document_at(kind, each, f"{place}[{n}]") for n, each in enumerate(items)]


def maybe(kind: type[Document]) -> FieldMetadata:
    """Return the metadata of a field that is a document or None; the JSON has no such field where it is None."""

    def encode(item: Document | None) -> dict[str, Any] | None:
        return None if item is None else item.to_dict()

    def absent(item: Any) -> bool:
        return item is None

    nested = schema_fields.Nested(kind.schema, allow_none=True)
    check = partial(document_at, kind)
    made = checked(check, encoder=encode, decoder=_same, mm_field=nested, exclude=cast("Any", absent))
    return {**made, "document": kind}


def list_of(kind: type[Document]) -> FieldMetadata:
    """Return the metadata of a field that is a list of documents."""

    def encode(items: list[Document]) -> list[dict[str, Any]]:
        return [each.to_dict() for each in items]

    check = partial(documents_at, kind)
    nested = schema_fields.List(schema_fields.Nested(kind.schema))
    return {**checked(check, encoder=encode, decoder=_same, mm_field=nested), "document": kind}
