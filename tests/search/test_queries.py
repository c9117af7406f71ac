"""Tests of queries: what they mean, match and refuse."""

from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions.errors import InvalidValueError, MissingPackageError
from pyai_sessions.search.hits import SNIPPET, snippet_of
from pyai_sessions.search.queries import LONGEST_QUERY, make_query, may_match
from pyai_sessions.values.json import write
from tests.search import oracle


def matches(query, text, mode="words"):
    return make_query(query, mode).score([text]) is not None


TEXT = "The night-train to Vienna leaves at 9; don't be late, Zoë!"


@pytest.mark.parametrize(
    "query",
    [
        "night train", "train NIGHT", '"night train"', '"Night-Train"', "night-train", "don't", "zoe", "ZOË", "vien*",
        '"to vien"*', "day OR night", "day OR dawn OR night train", "night -day", 'night -"train night"', "9!", "... 9",
        '"" night',
    ],
)  # fmt: skip
def test_what_matches(query):
    """A query matches all its words, phrases in order, prefixes, one of alternatives, and no excluded word."""
    assert matches(query, TEXT)


@pytest.mark.parametrize(
    "query",
    [
        "night boat", '"train night"', "nigh", "vien", '"night train to"* boat', "day OR dawn", "night -train",
        'night -"to vienna"', "night -vien*", "dont",
    ],
)  # fmt: skip
def test_what_does_not_match(query):
    """A word that is missing, out of order, only a prefix, or excluded does not match."""
    assert not matches(query, TEXT)


def test_a_phrase_is_not_found_across_two_texts():
    """A phrase does not match across two parts of a message."""
    query = make_query('"night train"', "words")

    assert query.score(["night", "train"]) is None
    assert query.score(["night", "the night train"]) is not None


@pytest.mark.parametrize(
    ("query", "mode", "problem"),
    [
        ("", "words", "is empty"),
        (" \n", "substring", "is empty"),
        (None, "words", "is None; it is text"),
        (b"night", "words", "is bytes; it is text"),
        ("x" * (LONGEST_QUERY + 1), "words", "has 1001 characters"),
        ('night "train', "words", "without a second one"),
        ("?!", "words", "has no letter or digit"),
        ('""', "words", "has no letter or digit"),
        ("-night", "words", "only says what must not be there"),
        ("OR night", "words", "an OR without"),
        ("night OR", "words", "an OR without"),
        ("night OR OR day", "words", "an OR without"),
        ("night OR -day", "words", "an OR without"),
        ("night -day OR dawn", "words", "an OR without"),
        ("\u0301", "substring", "an accent alone"),
        ("(night", "regex", "is no regular expression"),
        ("night{2,1}", "regex", "is no regular expression"),
    ],
)
def test_a_query_that_means_nothing_is_refused(query, mode, problem):
    """An invalid query raises an error with the cause and the remedy."""
    with pytest.raises(InvalidValueError, match=problem) as raised:
        make_query(query, mode)

    assert raised.value.path == "query"


def test_an_unknown_mode_is_refused():
    """The error names the modes."""
    with pytest.raises(InvalidValueError, match="mode is 'fuzzy'; it is 'words', 'substring' or 'regex'"):
        make_query("night", "fuzzy")


def test_a_regular_expression_that_explodes_is_ended():
    """A regular expression that takes too long on a text raises. The error does not quote the text."""
    query = make_query(r"(a|aa)+(b|c?)+$", "regex")

    with pytest.raises(InvalidValueError, match=r"takes more than .* on one message") as raised:
        query.score(["a" * 60 + "!"])

    assert "aaa" not in str(raised.value)


def test_a_regular_expression_needs_a_package(monkeypatch):
    """Without the package, the error names it."""

    def without(name, *args):
        if name == "regex":
            raise ImportError(name)
        return import_module(name, *args)

    monkeypatch.setattr("pyai_sessions.search.queries.import_module", without)

    with pytest.raises(MissingPackageError, match="pip install regex"):
        make_query("night", "regex")


def test_substrings_and_regular_expressions():
    """A substring matches with its spaces and signs, in any case. A regular expression is used as it is."""
    for query in ("NIGHT-TRAIN", "9; don't", "ight-tr", "zoe!", "! ".strip()):
        assert matches(query, TEXT, "substring")
    assert not matches("night train", TEXT, "substring")
    assert matches(r"(?i)NIGHT.train", TEXT, "regex")
    assert matches(r"\d;", TEXT, "regex")
    assert not matches(r"NIGHT|x*", TEXT, "regex")


def test_a_score_is_higher_for_more_matches_and_shorter_messages():
    """A score is higher for more matches and shorter messages, and the same in any store."""
    query = make_query("night train", "words")
    twice, once, long = (
        query.score([text]) for text in ("night train night train", "night train", "night train " + "x " * 100)
    )

    assert twice > once > long > 0


# Against a plain search -----------------------------------------------------------------------------------------------

WORDS = ["a", "b", "Ab", "café", "CAFE", "ß", "東", "京", "ไ", "กิ", "म", "1", "\U0001f682", "Ω"]
SPACES = ["", " ", " ", ", ", "-", "\n", '"', "\\", "/", "_", "\ud800", "\x7f"]
TEXTS = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(SPACES)), max_size=8).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)
PHRASES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
TERMS = st.one_of(PHRASES, PHRASES.map(lambda each: f"{each}*"))
GROUPS = st.lists(st.lists(TERMS, min_size=1, max_size=2), min_size=1, max_size=2)


def written(groups, excluded=()):
    """Return the query of groups of phrases, one of each of which must match."""

    def term(phrase):
        return f'"{phrase[:-1]}"*' if phrase.endswith("*") else f'"{phrase}"'

    return " ".join([*(" OR ".join(map(term, each)) for each in groups), *(f"-{term(each)}" for each in excluded)])


@given(TEXTS, GROUPS, st.lists(TERMS, max_size=1))
def test_queries_match_what_a_plain_search_finds(text, groups, excluded):
    """Queries in any script match what a plain search matches, and no matching document is skipped undecoded."""

    def has(phrase):
        return oracle.has_phrase(text, phrase.rstrip("*"), prefix=phrase.endswith("*"))

    query = make_query(written(groups, excluded), "words")
    expected = all(any(map(has, each)) for each in groups) and not any(map(has, excluded))

    assert (query.score([text]) is not None) == expected
    if expected:
        assert may_match(query, write([{"content": text}]))
        assert query.spans(text)


@given(TEXTS, st.integers(0, 5), st.integers(1, 6))
def test_any_part_of_a_text_is_found_as_a_substring(text, start, size):
    """Any part of a text is found as a substring, with its signs and spaces."""
    part = text[start : start + size]
    if not part.strip() or not oracle.folded(part):
        return
    query = make_query(part, "substring")
    expected = oracle.folded(part) in oracle.folded(text)

    assert (query.score([text]) is not None) == expected
    if expected:
        assert may_match(query, write([{"content": text}]))
        assert query.spans(text)


@given(st.text(max_size=400), st.text("ab \n", max_size=400), st.sampled_from(["a", "b*", '"a b"']))
def test_a_snippet_is_short_and_shows_the_first_match(before, after, query):
    """A snippet is one line with the first match marked."""
    wanted = make_query(query, "words")
    text = f"{before} a b {after}"

    snippet, places = snippet_of([text], wanted)

    assert len(snippet) <= SNIPPET + 2
    assert "\n" not in snippet
    assert places
    for begin, end in places:
        assert 0 <= begin < end <= len(snippet)
    begin, end = places[0]
    assert wanted.score([snippet[begin:end]]) is not None
