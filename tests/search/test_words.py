"""Tests of the words of a text, in any script."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyai_sessions.search.words import fold, fold_at, words, words_at
from tests.prompts.test_corpus import read_corpus
from tests.search import oracle

SCRIPTS = {
    "apostrophe": ("Don't stop!", ["don", "t", "stop"]),
    "underscore": ("a_b", ["a", "b"]),
    "digits": ("x2 2024-11-28", ["x2", "2024", "11", "28"]),
    "accents": ("Café CAFE\u0301", ["cafe", "cafe"]),
    "German": ("Straße ÜBER", ["strasse", "uber"]),
    "Turkish": ("İstanbul", ["istanbul"]),
    "Greek": ("ΣΊΣΥΦΟΣ", ["σισυφοσ"]),
    "Russian": ("Ёлка Мой", ["елка", "мои"]),
    "Hebrew": ("שלום עולם", ["שלום", "עולם"]),
    "Arabic": ("السلام عليكم", ["السلام", "عليكم"]),
    "Hindi": ("हिन्दी में बात", ["हिन्दी", "में", "बात"]),
    "Korean": ("한국어 검색", ["한국어", "검색"]),
    "Chinese": ("夜行列车。", list("夜行列车")),
    "Japanese": ("ザ・ﾎﾞｸ", list("ザボク")),
    "Chinese and Latin": ("用Python写", ["用", "python", "写"]),
    "Thai": ("ไปกิน", list("ไปกิน")),
    "full width": ("\uff26\uff35\uff2c\uff2c\uff11", ["full1"]),
    "a pictograph": ("go \U0001f682!", ["go", "\U0001f682"]),
    "a lone surrogate": ("a\ud800b", ["a", "b"]),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_words_of_scripts(name):
    """Words are letters and digits without case and accents. In scripts without spaces each character is one."""
    text, expected = SCRIPTS[name]

    assert words(text) == expected


@given(st.text(), st.text())
@example("½", "ᾳ")
@example("\u0928\u093c", "\u1100\u1161\u11a8")
def test_what_is_folded_has_a_place_in_the_text(text, other):
    """A folded word keeps its position in the original text."""
    assert "".join(sign for sign, _, _ in fold_at(text)) == fold(text)
    assert [word for word, _, _ in words_at(text)] == words(text)
    assert fold(fold(text)) == fold(text)
    assert words(f"{text} {other}") == words(text) + words(other)
    for word, start, stop in words_at(text):
        assert word in "".join(words(text[start:stop]))


@pytest.mark.wide
def test_words_of_29_languages():
    """Words agree with a library of Unicode regular expressions, in any normal form."""
    for conversations in read_corpus().values():
        for conversation in conversations:
            for text in [conversation] if isinstance(conversation, str) else conversation:
                for form in ("NFC", "NFD"):
                    given = unicodedata.normalize(form, str(text))
                    assert words(given) == oracle.words(given)
