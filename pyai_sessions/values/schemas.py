"""What pydantic and FastAPI ask of a document: its JSON schema, and the fields that they want of it.

Neither is imported until one of them asks. A document goes whole: it is validated and written as `to_dict` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import Any, cast, get_args, get_origin

from pyai_sessions.values.json import thawed

_JSON_TYPES = {str: "string", datetime: "string", int: "integer", bool: "boolean", NoneType: "null"}


def core_schema_of(kind: type[Any]) -> Any:
    """Return how pydantic reads and writes a document: by ``from_dict`` and ``to_dict``, under its class's name."""
    from pydantic_core import core_schema

    return core_schema.no_info_plain_validator_function(
        kind.from_dict,
        ref=f"{kind.__module__}.{kind.__qualname__}:{id(kind)}",
        serialization=core_schema.plain_serializer_function_ser_schema(_written, info_arg=True),
    )


def _written(document: Any, info: Any) -> Any:
    """Return what pydantic writes of a document.

    ``exclude=`` and ``include=`` choose among what `to_dict` has: whoever leaves a field out may have to hide it. As
    JSON it goes out in UTF-8, which has no half of a character: U+FFFD stands for it, as in what a model is given.
    """
    made: Any = document.to_dict()
    if info.exclude_none or info.exclude_defaults:
        absent = _absent(none=info.exclude_none, defaults=info.exclude_defaults)
        made = _without(document.__class__, made, absent)
    if info.mode == "json":
        made = thawed(made)
    if info.include is None and info.exclude is None:
        return made
    from pydantic_core import SchemaSerializer, core_schema

    return SchemaSerializer(core_schema.any_schema()).to_python(made, include=info.include, exclude=info.exclude)


def _absent(*, none: bool, defaults: bool) -> Callable[[Field[Any], Any], bool]:
    def absent(each: Field[Any], value: Any) -> bool:
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        return (none and value is None) or (defaults and value == default)

    return absent


def _without(kind: type[Any], made: Mapping[str, Any], absent: Callable[[Field[Any], Any], bool]) -> dict[str, Any]:
    """Return a document's JSON without the fields that are absent, its own and those of the documents in it."""
    known = {each.name: each for each in fields(kind)}
    left: dict[str, Any] = {}
    for name, value in made.items():
        if name in known:
            if absent(known[name], value):
                continue
            nested = known[name].metadata.get("document")
            if nested is not None and value is not None:
                several = isinstance(value, list)
                items = [_without(nested, each, absent) for each in cast("list[Any]", value if several else [value])]
                left[name] = items if several else items[0]
                continue
        left[name] = value
    return left


def json_schema_of(kind: type[Any]) -> dict[str, Any]:
    """Return the JSON schema of what ``to_dict`` returns. Other fields are allowed: they are kept."""
    known = fields(kind)
    required = [each.name for each in known if each.init and each.default is each.default_factory is MISSING]
    properties = {each.name: _of_field(each) for each in known}
    return {"title": kind.__name__, "type": "object", "properties": properties, "required": required}


def _of_field(each: Field[Any]) -> dict[str, Any]:
    """Return the JSON schema of a field."""
    if each.type is Any:
        return {}
    kinds: Sequence[Any] = get_args(each.type) if NoneType in get_args(each.type) else (each.type,)
    nested = each.metadata.get("document")
    made: list[dict[str, Any]] = []
    for given in kinds:
        origin: Any = get_origin(given) or given
        if nested is not None and origin is not NoneType:
            of_document = json_schema_of(nested)
            made.append(of_document if issubclass(origin, nested) else {"type": "array", "items": of_document})
        elif issubclass(origin, Enum):
            made.append({"type": "string", "enum": [member.value for member in origin]})
        elif origin in _JSON_TYPES:
            made.append({"type": _JSON_TYPES[origin], **({"format": "date-time"} if origin is datetime else {})})
        else:
            made.append({"type": "array", "items": {}} if issubclass(origin, Sequence) else {"type": "object"})
    return made[0] if len(made) == 1 else {"anyOf": made}
