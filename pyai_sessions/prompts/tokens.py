"""How many tokens messages take: counted by what the caller gives, or estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats.parts import text_of
from pyai_sessions.values.checks import kind_of
from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message

_CHARACTERS = 4
"""ASCII characters that are taken for a token."""
_MESSAGE = 4
"""Tokens of a message beside its content."""
_IMAGE = 1_000
"""Tokens of an image, an audio or a file."""
_MEDIA = frozenset({"image", "image_url", "input_image", "input_audio", "file", "document"})


class Encoder(Protocol):
    """A tokenizer as tiktoken's ``Encoding`` is one."""

    def encode_ordinary(self, text: str, /) -> Sequence[int]:
        """Return the tokens of a text."""
        ...


CountTokens = Callable[[str], int] | Encoder


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
    content = message.content
    parts = content if is_array(content) else () if content is None else (content,)
    tokens = _MESSAGE + sum(_tokens_of_part(part, count) for part in parts)
    if message.name is not None:
        tokens += count(message.name)
    if message.tool_calls:
        tokens += count(text_of(message.tool_calls))
    return tokens


def _tokens_of_part(part: object, count: Callable[[str], int]) -> int:
    if not isinstance(part, str) and is_mapping(part):
        if part.get("type") in _MEDIA:
            return _IMAGE
        text = part.get("text")
        if part.get("type") == "text" and isinstance(text, str):
            part = text
    return count(text_of(part))
