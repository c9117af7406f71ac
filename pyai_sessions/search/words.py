"""The words of a text, as a search finds them: the one place that says what a word is and what counts as the same.

A word is a run of letters and digits. In scripts that put no spaces between words (Chinese, Japanese, Thai, Khmer, …)
each character is a word of its own, so a query in them is found as a phrase, wherever it stands. A pictograph, such as
an emoji, is a word, too. Upper and lower case, accents, and forms that only look different (full width, ligatures)
count as the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_ACCENTS = re.compile("[\u0300-\u036f]+")
"""The combining marks of Latin, Greek and Cyrillic letters. Marks of other scripts are vowels, and stay."""

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9df"  # Tai Le, New Tai Lue, Tai Tham, Balinese, Javanese
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Chinese: radicals and signs
    "\u3040-\u3130\u31a0-\u31ff"  # Hiragana, Katakana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    "\ua000-\ua4cf"  # Yi
    "]"
)
"""A character of a script without spaces between words."""

_ASCII_WORD = re.compile("[A-Za-z0-9]+")

_KEPT = 20_000
"""Characters of which is remembered how they separate words."""


def fold(text: str) -> str:
    """Return a text in which what counts as the same is the same.

    >>> fold("Café ΣΊΣΥΦΟΣ ﬁn Straße")
    'cafe σισυφοσ fin strasse'
    """
    if text.isascii():
        return text.lower()
    folded = text.casefold()
    if not unicodedata.is_normalized("NFKD", folded):
        folded = unicodedata.normalize("NFKD", folded).casefold()
    folded = _ACCENTS.sub("", folded)
    return folded if folded.isascii() else unicodedata.normalize("NFC", folded)


def words(text: str) -> list[str]:
    """Return the words of a text, folded, in order.

    >>> words("Don't stop: 東京 2024!")
    ['don', 't', 'stop', '東', '京', '2024']
    """
    return fold(text).translate(_APART).split()


def words_at(text: str) -> list[tuple[str, int, int]]:
    """Return what `words` does, each word with where it begins and ends in *text*."""
    if text.isascii():
        return [(each.group().lower(), each.start(), each.end()) for each in _ASCII_WORD.finditer(text)]
    found: list[tuple[str, int, int]] = []
    word, begin, end = "", 0, 0
    for each, start, stop in fold_at(text):
        for sign in each.translate(_APART):
            if not sign.isspace():
                word, begin, end = word + sign, begin if word else start, stop
            elif word:
                found.append((word, begin, end))
                word = ""
    return [*found, (word, begin, end)] if word else found


def fold_at(text: str) -> list[tuple[str, int, int]]:
    """Return the characters of a folded text, each with where the part of *text* that it stands for begins and ends."""
    if text.isascii():
        return [(sign, n, n + 1) for n, sign in enumerate(text.lower())]
    return [(sign, start, start + len(part)) for start, part in _clusters(text) for sign in fold(part)]


def _clusters(text: str) -> Iterator[tuple[int, str]]:
    """Iterate over the parts of a text that fold alone as they do together: a character and what combines with it."""
    start = 0
    for n, each in enumerate(text):
        if n and not _combines(each):
            yield start, text[start:n]
            start = n
    if text:
        yield start, text[start:]


@lru_cache(_KEPT)
def _combines(character: str) -> bool:
    """Return whether a character may change places with, or become one with, what is before it."""
    first = unicodedata.normalize("NFKD", character.casefold())[:1]
    return first != "" and (unicodedata.category(first)[0] == "M" or "\u1160" <= first <= "\u11ff")  # Korean vowels


class _Apart(dict[int, str]):
    """Translates characters so that spaces separate the words of a folded text."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        kind = unicodedata.category(sign)
        if kind == "So" or (kind[0] in "LMN" and _UNSPACED.match(sign)):
            made = f" {sign} "
        else:
            made = sign if kind[0] in "LMN" else " "
        if len(self) < _KEPT:
            self[code] = made
        return made


_APART = _Apart()
