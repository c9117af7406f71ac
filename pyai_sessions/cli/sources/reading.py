"""Reading JSON of others piece by piece: lines, and arrays of any length, with the place of what is broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import IO, Any, NamedTuple, cast

_CHUNK = 1 << 16
_NEAR = 16
"""Characters before the end of what was read within which an error may mean that more is to come."""


class Broken(NamedTuple):
    """What cannot be read: where it is, and why."""

    place: str
    reason: str


class Found(NamedTuple):
    """A session that was read, as `Session.to_dict` has it, and where it begins.

    *omitted* counts, by what it is, what has no place in a session.
    """

    place: str
    session: dict[str, Any]
    omitted: Mapping[str, int] = MappingProxyType({})


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


def each_read(
    given: Iterable[Item | Broken], read: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> Iterator[Found | Broken]:
    """Iterate over the sessions that *read* makes of objects; those that cannot be read are broken."""
    for item in given:
        if isinstance(item, Broken):
            yield item
            continue
        try:
            yield Found(item.place, read(mapping(item.value, "the conversation")))
        except UnreadableError as err:
            yield Broken(item.place, str(err))


def each_taken(file: IO[str], take: Callable[[Mapping[str, Any], str], None]) -> Iterator[Broken]:
    """Let *take* have each line of a file, an object, and its place; iterate over those that cannot be read."""
    for item in lines(file):
        if isinstance(item, Broken):
            yield item
            continue
        try:
            take(mapping(item.value, "the line"), item.place)
        except UnreadableError as err:
            yield Broken(item.place, str(err))


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


Message = dict[str, Any]
"""A message, as `Message.to_dict` has it."""


class Tree:
    """The messages of a conversation in which questions were edited, or answers made anew.

    A node is given after the one that it follows, by its own id and that one's; a node may have no message.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str | None, Message | None]] = {}
        self._followed: set[str] = set()

    def add(self, node: str, parent: object, message: Message | None) -> None:
        """Add a node."""
        before = parent if isinstance(parent, str) else None
        self._nodes[node] = before, message
        if before is not None:
            self._followed.add(before)

    def branches(self, last: object = None) -> tuple[list[Message], list[dict[str, Any]]]:
        """Return the messages that lead to the node *last*, or to the newest, and the other branches of the session."""
        ends = {node: self._path(node) for node in self._nodes if node not in self._followed}
        newest = max(ends, key=lambda each: _time(ends[each]), default=None)
        shown = last if isinstance(last, str) and last in self._nodes else newest
        messages = [] if shown is None else ends.get(shown) or self._path(shown)
        left: dict[str, dict[str, Any]] = {}
        for path in sorted(ends.values(), key=_time):
            if path[_shared(path, messages) :]:
                left[path[-1]["message_id"]] = branch_of(path, messages)
        return messages, [*left.values()]

    def _path(self, node: str | None) -> list[Message]:
        found: list[Message] = []
        seen = set[str]()
        while node is not None and node in self._nodes and node not in seen:
            seen.add(node)
            node, message = self._nodes[node]
            if message is not None:
                found.append(message)
        return found[::-1]


def _time(messages: list[Message]) -> str:
    return max((each["timestamp"] for each in messages if "timestamp" in each), default="")


def _shared(one: list[Message], other: list[Message]) -> int:
    """Return how many messages two lists begin with alike."""
    ways = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(ways) if a is not b), min(len(one), len(other)))


def branch_of(messages: list[Message], conversation: list[Message]) -> dict[str, Any]:
    """Return the messages of a branch as `Session.to_dict` has it beside those of the conversation."""
    last, after = messages[-1]["message_id"], _shared(messages, conversation)
    return {
        "branch_id": hashlib.sha256(last.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "message_count": len(messages),
        "last_message_id": last,
        "created_at": _time(messages) or _time(messages[:after]) or "1970-01-01T00:00:00Z",
        "after": after,
        "messages": messages[after:],
    }


def called(name: object, arguments: object, call_id: object) -> dict[str, Any]:
    """Return a call of a tool, as a message holds it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return given(id=call_id, type="function", function={"name": str(name), "arguments": text})


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
