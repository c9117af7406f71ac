"""Reading JSON of others piece by piece: lines, and arrays of any length, with the place of what is broken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import IO, Any, NamedTuple, cast

_CHUNK = 1 << 16
_NEAR = 16
"""Characters before the end of what was read within which an error may mean that more is to come."""


class Broken(NamedTuple):
    """What cannot be read: where it is, and why."""

    place: str
    reason: str


class Found(NamedTuple):
    """A session that was read, as `Session.to_dict` has it, and where it begins."""

    place: str
    session: dict[str, Any]


class Item(NamedTuple):
    """A piece of JSON, and where it begins."""

    place: str
    value: Any


def lines(file: IO[str]) -> Iterator[Item | Broken]:
    """Iterate over the JSON of a file's lines."""
    for n, line in enumerate(file, 1):
        if line.strip():
            try:
                yield Item(f"line {n}", json.loads(line))
            except (ValueError, RecursionError) as err:
                yield Broken(f"line {n}", f"is not JSON: {err}")


def items(file: IO[str]) -> Iterator[Item | Broken]:
    """Iterate over the elements of a JSON array, or over values that follow one another. Holds one of them."""
    text = _Text(file)
    decoder = json.JSONDecoder()
    while text.skip(" \t\r\n[,\ufeff"):
        if text.buffer[0] == "]":
            text.take(1)
            continue
        while True:
            try:
                value, end = decoder.raw_decode(text.buffer)
            except RecursionError as err:
                yield Broken(f"line {text.line}", f"is nested too deeply: {err}")
                return
            except json.JSONDecodeError as err:
                cut = err.msg.startswith("Unterminated string") or err.pos >= len(text.buffer) - _NEAR
                if cut and text.more():
                    continue
                yield Broken(f"line {text.line + err.lineno - 1}", f"is not JSON: {err.msg}; the rest was not read")
                return
            yield Item(f"line {text.line}", value)
            text.take(end)
            break


class _Text:
    """What was read of a file and not taken yet, and the number of the line that it begins in."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.buffer = ""
        self.line = 1

    def more(self) -> bool:
        """Read on, as much again as there is; return whether there was more."""
        found = self._file.read(max(_CHUNK, len(self.buffer)))
        self.buffer += found
        return bool(found)

    def take(self, length: int) -> None:
        self.line += self.buffer.count("\n", 0, length)
        self.buffer = self.buffer[length:]

    def skip(self, characters: str) -> bool:
        """Pass over these characters; return whether anything follows."""
        while True:
            left = self.buffer.lstrip(characters)
            self.take(len(self.buffer) - len(left))
            if left:
                return True
            if not self.more():
                return False


# What is in it ----------------------------------------------------------------------------------------------------


class UnreadableError(ValueError):
    """A value is not what a program's export has in its place; the text says what is wrong."""


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return a value that is an object.

    Raises:
        UnreadableError: It is another.

    """
    if not isinstance(value, Mapping):
        msg = f"{name} is no object"
        raise UnreadableError(msg)
    return cast("Mapping[str, Any]", value)


def listed(value: object, name: str) -> list[Any]:
    """Return a value that is a list, or an empty one for none.

    Raises:
        UnreadableError: It is another.

    """
    if value is None:
        return []
    if not isinstance(value, list):
        msg = f"{name} is no list"
        raise UnreadableError(msg)
    found: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    return found


def text_of(value: object, name: str) -> str:
    """Return a value that is text and not empty.

    Raises:
        UnreadableError: It is another.

    """
    if not isinstance(value, str) or not value:
        msg = f"{name} is no text"
        raise UnreadableError(msg)
    return value


def moment(value: object) -> str | None:
    """Return a time, given in seconds or as text, as ISO 8601 in UTC; None where it is none.

    >>> moment(0), moment("2026-01-05T09:00:00.123Z"), moment("soon")
    ('1970-01-01T00:00:00+00:00', '2026-01-05T09:00:00.123000+00:00', None)

    """
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, timezone.utc).isoformat()
        if isinstance(value, str):
            found = datetime.fromisoformat(value.replace("Z", "+00:00"))
            return found.replace(tzinfo=found.tzinfo or timezone.utc).astimezone(timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        pass
    return None


def given(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def session_of(
    session_id: str, source: str, messages: list[dict[str, Any]], *, title: object = None, **fields: Any
) -> dict[str, Any]:
    """Return a session as `Session.from_dict` takes it. Where no times are given, they are those of its messages.

    *source* says in the metadata which program it comes from.
    """
    times = [each["timestamp"] for each in messages if "timestamp" in each]
    metadata = {"source": source, **given(**fields.pop("metadata", {}))}
    fields.setdefault("created_at", None)
    fields["created_at"] = fields["created_at"] or min(times, default=None)
    fields["updated_at"] = max([*times, *([each] if (each := fields.get("updated_at")) else [])], default=None)
    if isinstance(title, str) and title.strip():
        fields["title"] = title.strip()[:1000]
    return given(session_id=session_id, metadata=metadata, messages=messages, **fields)
