"""Titles: the name of a session in lists, which is its own title or the first words of its first question."""

from __future__ import annotations

from collections.abc import Iterable

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.values.checks import check_text, shown
from pyai_sessions.values.json import is_array, is_mapping
from pyai_sessions.values.messages import Message

LONGEST_TITLE = 1000
"""Characters."""

_WORDS = 60
"""Characters of a question that a title shows at most."""

_LOOKED_AT = 2000
"""Characters of a question that are read for its first words."""


def check_title(value: object, name: str = "title") -> str | None:
    """Return *value* if it is a title: text of 1 to 1,000 characters, not all spaces, or None."""
    if value is None:
        return None
    text = check_text(value, name)
    if not text.strip() or len(text) > LONGEST_TITLE:
        given = f"has {len(text)} characters" if text.strip() else f"is {shown(value)}"
        accepted = f"it is text of 1 to {LONGEST_TITLE} characters, or None for no title of its own"
        raise InvalidValueError(name, f"{given}; {accepted}")
    return text


def first_words(text: str) -> str:
    r"""Return the beginning of a text: one line of at most 60 characters, cut after a word.

    >>> first_words("Is there a night train\nfrom Vienna to Lisbon, and which of them has a bed?")
    'Is there a night train from Vienna to Lisbon, and which of'

    """
    line = " ".join(text.lstrip()[:_LOOKED_AT].split())
    if len(line) <= _WORDS:
        return line
    return line[: _WORDS + 1].rpartition(" ")[0] or line[:_WORDS]


def question_of(messages: Iterable[Message], place: int) -> tuple[int, str] | None:
    """Return the index and the first words of the first user's message that contains text; None if there is none.

    *place* is the index of the first of the *messages*.
    """
    for n, each in enumerate(messages, place):
        words = _words_of(each) if each.role == "user" else ""
        if words:
            return n, words
    return None


def _words_of(message: Message) -> str:
    content = message.content
    if isinstance(content, str):
        return first_words(content)
    if is_array(content):
        for part in content:
            text = part.get("text") if is_mapping(part) and part.get("type") in ("text", "input_text") else part
            if isinstance(text, str) and text.strip():
                return first_words(text)
    return ""
