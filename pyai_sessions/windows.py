"""Which messages of a conversation a model is given: what belongs together, and the longest window that fits.

The rules are those of the model APIs: a call for a tool is followed by its result, a result has its call, and the first
message after the system's is a user's. A conversation that was cut short, interrupted or written by two can break them
for good; a window of it never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

from pyai_sessions.checks import kind_of
from pyai_sessions.errors import InvalidValueError
from pyai_sessions.messages import Message
from pyai_sessions.values import is_array, is_mapping, write

SYSTEM = ("system", "developer")
"""The roles that instruct the model."""

_CHARACTERS = 4
_MESSAGE = 4
_IMAGE = 1_000
_MEDIA = frozenset({"image", "image_url", "input_image", "input_audio", "file", "document"})

Group = list[Message]
"""Messages that stay together or go together: one, or an assistant's calls with their results."""


class Encoder(Protocol):
    """A tokenizer as tiktoken's ``Encoding`` is one."""

    def encode_ordinary(self, text: str, /) -> Sequence[int]:
        """Return the tokens of a text."""
        ...


CountTokens = Callable[[str], int] | Encoder


class Orphan(NamedTuple):
    """A tool's call without a result (*kind* ``"call"``), or a result without its call (``"result"``).

    Attributes:
        kind: Which of the two.
        message_id: The message that holds it.
        call_id: The call's id, where it has one.

    """

    kind: Literal["call", "result"]
    message_id: str
    call_id: str | None


def paired(messages: Sequence[Message]) -> tuple[list[Group], list[Orphan]]:
    """Return messages in groups, without orphans, and the orphans. Costs one pass.

    A result that comes later than right after its call, as another writer's message got in between, moves up to it. A
    call that has no result is taken out of its message, and a message that has nothing else goes.
    """
    groups: list[Group] = []
    unanswered: dict[str, int] = {}
    orphans: list[Orphan] = []
    for message in messages:
        if message.tool_call_id is not None or message.role == "tool":
            n = unanswered.pop(message.tool_call_id or "", None)
            if n is None:
                orphans.append(Orphan("result", message.message_id, message.tool_call_id))
            else:
                groups[n].append(message)
            continue
        if message.tool_calls and message.role == "assistant":
            unanswered.update({each: len(groups) for each in map(call_id, message.tool_calls) if each})
        groups.append([message])
    whole: list[Group] = []
    for group in groups:
        caller, *results = group
        left = _answered(caller, {each.tool_call_id for each in results}, orphans) if caller.tool_calls else caller
        if left is not None:
            whole.append([left, *results])
    return whole, orphans


def waiting(messages: Sequence[Message]) -> dict[str, str]:
    """Return the names of the functions that the last calls are for, by the ids of those that wait for a result."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        if message.tool_calls:
            calls = {call_id(each): each for each in message.tool_calls}
            return {key: _function(call) for key, call in calls.items() if key is not None and key not in answered}
        answered.add(message.tool_call_id)
    return {}


def _function(call: Any) -> str:
    function = call.get("function")
    name = function.get("name") if is_mapping(function) else None
    return name if isinstance(name, str) else ""


def call_id(call: object) -> str | None:
    """Return the id of a tool's call, or None where it has none: it can then not be answered."""
    found = call.get("id") if is_mapping(call) else None
    return found if isinstance(found, str) and found else None


def _answered(caller: Message, results: set[str | None], orphans: list[Orphan]) -> Message | None:
    """Return a message without those of its calls that have no result; None where nothing is left of it."""
    calls: list[Any] = []
    for call in caller.tool_calls or ():
        found = call_id(call)
        if found in results:
            results.discard(found)  # an id that is given twice was answered once
            calls.append(call)
        else:
            orphans.append(Orphan("call", caller.message_id, found))
    if len(calls) == len(caller.tool_calls or ()):
        return caller
    if not calls and caller.content in (None, "", []):
        return None
    left = replace(caller, tool_calls=calls or None)
    left.keep_unknown(caller.unknown_fields)
    return left


@dataclass
class Budget:
    """How many messages and tokens a window may still have (None: any number).

    *count* counts the tokens of a text.
    """

    messages: int | None
    tokens: int | None
    count: Callable[[str], int]

    def take(self, group: Group) -> bool:
        """Take a group in, if it fits."""
        if self.messages is not None and len(group) > self.messages:
            return False
        if self.tokens is not None:
            left = self.tokens - sum(tokens_of(each, self.count) for each in group)
            if left < 0:
                return False
            self.tokens = left
        if self.messages is not None:
            self.messages -= len(group)
        return True


def newest(groups: list[Group], budget: Budget, *, begins: str | None, cut: bool) -> list[Group]:
    """Return the longest window that fits: the newest groups, from one of the role *begins* on (None: from any).

    *cut* tells whether older messages are left out already; where none is, all of it is a window as it stands. Where
    the newest turn alone is too long, what began it stays, with as many of the newest groups as fit beside it; where
    not even that fits, nothing. Counts the tokens of the window, not of the conversation.
    """
    end = start = len(groups)
    left = replace(budget)
    for n in range(end - 1, -1, -1):
        if not left.take(groups[n]):
            break
        if begins in (None, groups[n][0].role) or (n == 0 and not cut):
            start = n
    if start < end:
        return groups[start:]
    first = next((n for n in range(end - 1, -1, -1) if groups[n][0].role == begins), None)
    left = replace(budget)
    if first is None or not left.take(groups[first]):
        return []
    while start - 1 > first and left.take(groups[start - 1]):
        start -= 1
    return [groups[first], *groups[start:]]


# Tokens -----------------------------------------------------------------------------------------------------------


def counter(count_tokens: CountTokens | None) -> Callable[[str], int]:
    """Return what counts the tokens of a text: the estimate by default, a callable, or an encoder as tiktoken's."""
    if count_tokens is None:
        return estimate
    encode = getattr(count_tokens, "encode_ordinary", None)
    if encode is not None:
        return lambda text: len(encode(text))
    if not callable(count_tokens):
        problem = f"is {kind_of(count_tokens)}; it is a callable from text to a number, or a tiktoken encoding"
        raise InvalidValueError("count_tokens", problem)
    count: Callable[[str], int] = count_tokens

    def checked(text: str) -> int:
        tokens = count(text)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            raise InvalidValueError("count_tokens", f"returned {tokens!r}; it returns a number of tokens, 0 or more")
        return tokens

    return checked


def estimate(text: str) -> int:
    """Return about how many tokens a text has: one for 4 ASCII characters, one for each other character.

    Encoders of today's models take fewer for most languages: the estimate errs to the safe side.
    """
    ascii_ = len(text) if text.isascii() else sum(map(str.isascii, text))
    return -(-ascii_ // _CHARACTERS) + len(text) - ascii_


def tokens_of(message: Message, count: Callable[[str], int]) -> int:
    """Return the tokens of a message: its texts and calls, 4 for its role, and 1,000 for an image or a file."""
    tokens = _MESSAGE + sum(_tokens_of_part(part, count) for part in _parts(message.content))
    if message.name is not None:
        tokens += count(message.name)
    if message.tool_calls:
        tokens += count(_text(message.tool_calls))
    return tokens


def _parts(content: object) -> Iterator[object]:
    if is_array(content):
        yield from content
    elif content is not None:
        yield content


def _tokens_of_part(part: object, count: Callable[[str], int]) -> int:
    if isinstance(part, str):
        return count(part)
    if is_mapping(part):
        if part.get("type") in _MEDIA:
            return _IMAGE
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            return count(text)
    return count(_text(part))


def _text(value: object) -> str:
    return write(value).decode()
