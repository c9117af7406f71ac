"""What commands of Redis answer: each reply as what its command gives, or an error that says what came instead.

A server that is none, or means ill, may answer anything. It is found out here and nowhere else: who runs a command can
take the shape of what comes back for granted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyai_sessions.storage.redis import scripts
from pyai_sessions.values.checks import kind_of
from pyai_sessions.values.json import is_array, is_bytes, is_mapping

Command = Sequence[Any]
"""The name of a command, and its arguments."""

_Reader = Callable[[Any, Command], Any]

_FARTHEST = 10**18 - 1
"""An activity, in microseconds since 1970, beyond all that a calendar has: what an infinite score is read as."""


class UnfitReplyError(Exception):
    """A reply is not what its command gives."""


def read_reply(command: Command, source: str | None, reply: Any) -> Any:
    """Return the reply to a command, or to the script of this *source*.

    Text is bytes; what has scores is a list of pairs, with whole numbers as scores; a cursor is a whole number.

    Raises:
        UnfitReplyError: It is not what the command gives.

    """
    reader = _COMMANDS[command[0]] if source is None else _SCRIPTS[source]
    return reader(reply, command)


def as_text(name: bytes) -> str:
    """Return a name as text; of what cannot be ours, since it is not UTF-8, text that is not ours either."""
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace")


def _text(reply: Any, _: Command = ()) -> bytes | None:
    if reply is None or is_bytes(reply):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _name(reply: Any, _: Command = ()) -> bytes:
    if is_bytes(reply):
        return bytes(reply)
    raise UnfitReplyError(kind_of(reply))


def _number(reply: Any, _: Command = ()) -> int:
    if isinstance(reply, int):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _answer(reply: Any, _: Command) -> int:
    if isinstance(reply, int) and reply in (0, 1, 2):
        return reply
    raise UnfitReplyError("another number than 0, 1 or 2" if isinstance(reply, int) else kind_of(reply))


def _score(reply: Any, _: Command = ()) -> int | None:
    if reply is None:
        return None
    try:
        score = float(reply)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if math.isnan(score):
        raise UnfitReplyError(kind_of(reply))
    return int(max(-_FARTHEST, min(score, _FARTHEST)))


def _told(reply: Any, _: Command) -> dict[str, str]:
    """Return what a server tells of itself, by name; clients have read it, or not."""
    if is_bytes(reply) or isinstance(reply, str):
        text = reply if isinstance(reply, str) else bytes(reply).decode(errors="replace")
        pairs = [line.partition(":")[::2] for line in text.splitlines()]
    elif is_mapping(reply):
        pairs = list(reply.items())
        if len(pairs) == 1 and is_mapping(pairs[0][1]):  # a cluster's client tells of which server
            pairs = list(pairs[0][1].items())
    else:
        raise UnfitReplyError(kind_of(reply))
    return {str(name): str(value) for name, value in pairs}


def _items(reply: Any) -> Sequence[Any]:
    if is_array(reply):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _names(reply: Any, _: Command = ()) -> list[bytes]:
    return [_name(each) for each in _items(reply)]


def _one_each(read: Callable[[Any], Any], asked: Callable[[Command], int]) -> _Reader:
    def reader(reply: Any, command: Command) -> list[Any]:
        found = [read(each) for each in _items(reply)]
        if len(found) != asked(command):
            msg = f"{len(found)} where {asked(command)} were asked for"
            raise UnfitReplyError(msg)
        return found

    return reader


def _pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a reply: flat, or a dict or in pairs, by the client and by the newer protocol."""
    if is_mapping(reply):
        return reply.items()
    items = _items(reply)
    if items and is_array(items[0]):
        if all(is_array(each) and len(each) == 2 for each in items):  # noqa: PLR2004
            return [(each[0], each[1]) for each in items]
    elif len(items) % 2 == 0:
        return zip(items[::2], items[1::2], strict=True)
    msg = "items that are no pairs"
    raise UnfitReplyError(msg)


def _fields(reply: Any, _: Command = ()) -> list[tuple[bytes, bytes]]:
    return [(_name(name), _name(value)) for name, value in _pairs(reply)]


def _document_or_fields(reply: Any) -> bytes | list[tuple[bytes, bytes]] | None:
    return _text(reply) if reply is None or is_bytes(reply) else _fields(reply)


def _scored(reply: Any, _: Command = ()) -> list[tuple[bytes, int]]:
    return [(_name(name), _score(score) or 0) for name, score in _pairs(reply)]


def _some(read: Callable[[Any], Any]) -> _Reader:
    def reader(reply: Any, _: Command) -> tuple[int, Any]:
        parts = _items(reply)
        if len(parts) != 2:  # noqa: PLR2004
            msg = f"{len(parts)} items, not a cursor and a list"
            raise UnfitReplyError(msg)
        cursor = parts[0]
        if is_mapping(cursor):  # a cluster's client tells of which server
            cursor = next(iter(cursor.values()), None)
        text = bytes(cursor).decode(errors="replace") if is_bytes(cursor) else str(cursor)
        if len(text) > len(str(2**64)) or not (text.isascii() and text.isdigit()):
            msg = "a cursor that is no number"
            raise UnfitReplyError(msg)
        return int(text), read(parts[1])

    return reader


_COMMANDS: dict[str, _Reader] = {
    "HDEL": _number,
    "HEXISTS": _number,
    "HGET": _text,
    "HGETALL": _fields,
    "HMGET": _one_each(_text, lambda command: len(command) - 2),
    "INFO": _told,
    "SCAN": _some(_names),
    "ZADD": _number,
    "ZCARD": _number,
    "ZMSCORE": _one_each(_score, lambda command: len(command) - 2),
    "ZSCAN": _some(_scored),
    "ZRANGEBYSCORE": lambda reply, command: _scored(reply) if "WITHSCORES" in command else _names(reply),
    "ZREVRANGEBYSCORE": _scored,
}

_SCRIPTS: dict[str, _Reader] = {
    scripts.WRITE: _answer,
    scripts.MOVE: _answer,
    scripts.READ: _one_each(_document_or_fields, lambda command: int(command[-1])),
    scripts.NAMES: _one_each(_names, lambda command: command[2]),
}
