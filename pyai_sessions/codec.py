"""The declared codec: dataclasses-json, as this library uses it. No other module depends on that package.

Stores write and read the same JSON by a faster way, see `pyai_sessions.documents`; the tests hold the two equal.
"""

# dataclasses-json's own types are partly unknown:
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

import warnings
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Any, ClassVar, cast, get_args

from dataclasses_json import DataClassJsonMixin, config
from marshmallow import EXCLUDE
from marshmallow import fields as schema_fields
from typing_extensions import Self

from pyai_sessions.checks import check_time, kind_of
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values import frozen, is_mapping

FieldMetadata = dict[str, Any]
"""What a dataclass field takes as its ``metadata``."""


def time_text(value: datetime) -> str:
    """Return a UTC time as ISO 8601 with a Z: ``2026-01-31T12:00:00.000001Z``."""
    return value.isoformat().removesuffix("+00:00") + "Z"


def time_from_text(text: str) -> datetime:
    """Return the aware UTC time that an ISO 8601 *text* names."""
    try:
        time = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
    except ValueError:
        raise InvalidValueError("time", "is not ISO 8601 text, such as 2026-01-31T12:00:00Z") from None
    return check_time(time, "time")


def _same(value: Any) -> Any:
    return value


# By default dataclasses-json writes times as local-zone floats, and rebuilds JSON values by their type hints.
TIME: FieldMetadata = config(encoder=time_text, decoder=time_from_text, mm_field=schema_fields.AwareDateTime("iso"))
JSON_VALUE: FieldMetadata = config(encoder=_same, decoder=_same, mm_field=schema_fields.Raw(allow_none=True))


class Document(DataClassJsonMixin):
    """A dataclass with JSON methods, in which unknown fields survive a round trip."""

    unknown_fields: ClassVar[Mapping[str, Any]] = {}
    """Fields of the JSON that this release does not know, by name; set on an object that has some."""

    _stored_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that a stored document has and the dataclass does not."""

    @classmethod
    def from_dict(cls, kvs: Any, *, infer_missing: bool = False) -> Self:
        """Return the object that ``to_dict`` made *kvs* of; raise ValueError, TypeError or KeyError if it is none."""
        if isinstance(kvs, cls):
            return kvs
        if not is_mapping(kvs):
            raise InvalidValueError(cls.__name__, f"is made from a JSON object, not from {kind_of(kvs)}")
        known = {each.name for each in fields(cast("Any", cls))}
        null = next((name for name in _never_null(cls) if name in kvs and kvs[name] is None), None)
        if null:  # of which dataclasses-json would warn, and go on
            raise InvalidValueError(null, "is null")
        try:
            made = super().from_dict({k: v for k, v in kvs.items() if k in known}, infer_missing=infer_missing)
        except OverflowError as err:  # an infinity where a whole number belongs: JSON writes 1e999
            raise InvalidValueError(cls.__name__, f"has a number that is out of range ({err})") from err
        made.keep_unknown({k: v for k, v in kvs.items() if k not in known and k not in cls._stored_fields})
        return made

    def to_dict(self, encode_json: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 (the mixin's signature)
        """Return the object as JSON values, unknown fields included."""
        return {**super().to_dict(encode_json), **self.unknown_fields}

    # Again with types of its own: a strict type checker does not know those of dataclasses-json.
    @classmethod
    def from_json(cls, s: str | bytes | bytearray, **options: Any) -> Self:
        """Return the object that ``to_json`` wrote as *s*; *options* are those of `json.loads`."""
        return super().from_json(s, **options)

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

    def keep_unknown(self, unknown: Mapping[str, Any]) -> None:
        """Remember fields that this release does not know, to write them again."""
        if unknown:
            object.__setattr__(self, "unknown_fields", frozen(dict(unknown), type(self).__name__))


@cache
def _never_null(kind: type[Document]) -> list[str]:
    """Return the fields of a document whose types do not have None."""
    return [
        each.name for each in fields(cast("Any", kind)) if each.type is not Any and NoneType not in get_args(each.type)
    ]


def maybe(kind: type[Document]) -> FieldMetadata:
    """Return the metadata of a field that is a document or None; the JSON has no such field where it is None."""

    def encode(item: Document | None) -> dict[str, Any] | None:
        return None if item is None else item.to_dict()

    def decode(item: Any) -> Document | None:
        return None if item is None else kind.from_dict(item)

    def absent(item: Any) -> bool:
        return item is None

    nested = schema_fields.Nested(kind.schema, allow_none=True)
    return config(encoder=encode, decoder=decode, mm_field=nested, exclude=cast("Any", absent))


def list_of(kind: type[Document]) -> FieldMetadata:
    """Return the metadata of a field that is a list of documents."""

    def encode(items: list[Document]) -> list[dict[str, Any]]:
        return [each.to_dict() for each in items]

    def decode(items: list[Any]) -> list[Document]:
        return [kind.from_dict(each) for each in items]

    return config(encoder=encode, decoder=decode, mm_field=schema_fields.List(schema_fields.Nested(kind.schema)))
