"""The replies to commands and scripts: each in the shape that its command gives, or an error that says what came.

A server may be another program, or mean harm, and answer anything. Only this module looks for that: whoever runs a
command can rely on the shape of its reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.scripts import Command
from pyai_sessions.values.checks import kind_of
from pyai_sessions.values.json import is_array, is_bytes, is_mapping

_Reader = Callable[[Any, Command], Any]

_FARTHEST = 10**18 - 1
"""The score, in microseconds since 1970, as which an infinite one is read: later than any calendar goes."""


class UnfitReplyError(Exception):
    """A reply is not what its command gives; the text says what it is."""


def read_reply(command: Command, reply: Any) -> Any:
    """Return the reply to a command or a script, in the same shape for all clients and protocols.

    Text is bytes. Members with scores are a list of pairs; scores are whole numbers. A step of a scan is a cursor, a
    whole number, and a list.

    Raises:
        UnfitReplyError: It is not what the command gives.

    """
    reader = _SCRIPTS[command[1]] if command[0] == "EVALSHA" else _COMMANDS[command[0]]
    return reader(reply, command)


def _text(reply: Any, _: Command = ()) -> bytes:
    if is_bytes(reply):
        return bytes(reply)
    raise UnfitReplyError(kind_of(reply))


def _text_or_none(reply: Any, _: Command = ()) -> bytes | None:
    if reply is None or is_bytes(reply):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _number(reply: Any, _: Command = ()) -> int:
    if isinstance(reply, int):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _answer(reply: Any, _: Command) -> int:
    number = _number(reply)
    if number not in (0, 1, 2):
        msg = "another number than 0, 1 or 2"
        raise UnfitReplyError(msg)
    return number


def _score(reply: Any) -> int | None:
    if reply is None:
        return None
    try:
        score = float(reply)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if math.isnan(score):
        raise UnfitReplyError(kind_of(reply))
    return int(max(-_FARTHEST, min(score, _FARTHEST)))


def _info(reply: Any, _: Command) -> dict[str, str]:
    """Return what a server tells about itself, by name. Some clients have parsed it already."""
    if is_bytes(reply) or isinstance(reply, str):
        text = reply if isinstance(reply, str) else bytes(reply).decode(errors="replace")
        pairs = [line.partition(":")[::2] for line in text.splitlines()]
    elif is_mapping(reply):
        pairs = list(reply.items())
        if len(pairs) == 1 and is_mapping(pairs[0][1]):  # a cluster's client puts the node before it
            pairs = list(pairs[0][1].items())
    else:
        raise UnfitReplyError(kind_of(reply))
    return {str(name): str(value) for name, value in pairs}


def _items(reply: Any) -> Sequence[Any]:
    if is_array(reply):
        return reply
    raise UnfitReplyError(kind_of(reply))


def _texts(reply: Any) -> list[bytes]:
    return [_text(each) for each in _items(reply)]


def _list_of(read: Callable[[Any], Any], length: Callable[[Command], int]) -> _Reader:
    """Return a reader of lists that have one item for each that the command asks for."""

    def reader(reply: Any, command: Command) -> list[Any]:
        found = [read(each) for each in _items(reply)]
        if len(found) != length(command):
            msg = f"{len(found)} where {length(command)} were asked for"
            raise UnfitReplyError(msg)
        return found

    return reader


def _pairs(reply: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a reply: a flat list, a list of pairs or a dict, by the protocol and the client."""
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
    return [(_text(name), _text(value)) for name, value in _pairs(reply)]


def _document_or_fields(reply: Any) -> bytes | list[tuple[bytes, bytes]] | None:
    return _fields(reply) if is_array(reply) or is_mapping(reply) else _text_or_none(reply)


def _scored(reply: Any, _: Command = ()) -> list[tuple[bytes, int]]:
    return [(_text(name), _score(score) or 0) for name, score in _pairs(reply)]


def _scan_of(read: Callable[[Any], Any]) -> _Reader:
    """Return a reader of one step of a scan."""

    def reader(reply: Any, _: Command) -> tuple[int, Any]:
        parts = _items(reply)
        if len(parts) != 2:  # noqa: PLR2004
            msg = f"{len(parts)} items, not a cursor and a list"
            raise UnfitReplyError(msg)
        cursor = parts[0]
        if is_mapping(cursor):  # a cluster's client puts the node before it
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
    "HGET": _text_or_none,
    "HGETALL": _fields,
    "HMGET": _list_of(_text_or_none, lambda command: len(command) - 2),
    "INFO": _info,
    "SCAN": _scan_of(_texts),
    "ZADD": _number,
    "ZCARD": _number,
    "ZMSCORE": _list_of(_score, lambda command: len(command) - 2),
    "ZSCAN": _scan_of(_scored),
    "ZRANGEBYSCORE": _scored,
    "ZREVRANGEBYSCORE": _scored,
}
"""What each command gives."""

_SCRIPTS: dict[str, _Reader] = {
    scripts.WRITE.digest: _answer,
    scripts.MOVE.digest: _answer,
    scripts.READ.digest: _list_of(_document_or_fields, lambda command: int(command[-1])),
    scripts.NAMES.digest: _list_of(_texts, lambda command: command[2]),
}
"""What each script gives, by its digest."""
