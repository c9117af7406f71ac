"""Queries: what a search looks for, and where it stands in the texts of a message."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple, get_args

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.errors import InvalidValueError, MissingPackageError
from pyai_sessions.search.words import fold, fold_at, words, words_at
from pyai_sessions.values.checks import check_choice, check_text, kind_of

Mode = Literal["words", "substring", "regex"]

Span = tuple[int, int]
"""Where a match begins and ends in a text."""

LONGEST_QUERY = 1000
"""Characters."""

_PATIENCE = 1.0
"""Seconds that a regular expression may take on one text."""

_USUAL = 40
"""Words of a message of usual length, for the score."""

_WORD_LENGTH = 6
"""Characters of a word and what separates it from the next."""

_MOST_SPANS = 1000
"""Matches that are counted in one text."""


class Query(ABC):
    """What is looked for in messages."""

    @abstractmethod
    def may_be_in(self, document: str) -> bool:
        """Return False only if no message in a document, a JSON text that is folded, can match."""

    @abstractmethod
    def score(self, texts: Sequence[str]) -> float | None:
        """Return how well the texts of a message match; None where they do not.

        A match counts the more the shorter the message is, and each further match less. Other messages do not matter,
        so that a score says the same in every store.
        """

    def expression(self) -> str | None:
        """Return an expression of FTS5 that all documents match which hold what is looked for; None for no such one."""
        return None

    @abstractmethod
    def spans(self, text: str) -> list[Span]:
        """Return where in a text what is looked for stands, in order, without overlaps."""


def may_match(query: Query, value: object) -> bool:
    """Return False only if no message in a stored document can match. It need not be readable."""
    text = text_of(value)
    if text is None or b"\\u" in text:  # a character may be written as its number
        return True
    try:
        return query.may_be_in(fold(text.decode()))
    except UnicodeDecodeError:
        return True


def make_query(query: object, mode: object) -> Query:
    """Return the query that a text means in a mode.

    Raises:
        InvalidValueError: It means nothing that can be looked for.

    """
    check_choice(mode, "mode", *get_args(Mode))
    if not isinstance(query, str):
        raise InvalidValueError("query", f"is {kind_of(query)}; it is text to look for")
    text = check_text(query, "query")
    if not text.strip():
        raise InvalidValueError("query", "is empty; give words to look for, or list sessions with list_sessions")
    if len(text) > LONGEST_QUERY:
        raise InvalidValueError("query", f"has {len(text)} characters; at most {LONGEST_QUERY} are looked for")
    if mode == "words":
        return WordQuery(*parse(text))
    return SubstringQuery(text) if mode == "substring" else RegexQuery(text)


def _weight(count: int, length: float) -> float:
    """Return what *count* matches in a text of so many words add to a score: less than 2.2, as BM25 has it."""
    return 2.2 * count / (count + 1.2 * (0.25 + 0.75 * length / _USUAL))


# Words ------------------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    """Words that follow one another. *prefix*: the last one may go on."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def joined(self) -> str:
        """How the term stands in the joined words of a text."""
        return f" {'  '.join(self.words)}{'' if self.prefix else ' '}"

    @property
    def expression(self) -> str:
        """How FTS5 writes the term."""
        return f'"{" ".join(self.words)}"{" *" if self.prefix else ""}'


def joined(texts: Sequence[str]) -> str:
    """Return the words of texts, each between two spaces; no term goes from one text to the next."""
    return "\n".join([f" {'  '.join(found)} " if (found := words(each)) else "" for each in texts])


_TOKEN = re.compile(r'\s*(-?)(?:"([^"]*)"(\*?)|([^\s"]+))')


def parse(text: str) -> tuple[list[list[Term]], list[Term]]:
    """Return the groups of a query, of each of which one term must match, and the terms that must not.

    >>> groups, excluded = parse('night "to Vienna" OR Wien* -day')
    >>> [[(*each.words, each.prefix) for each in group] for group in groups]
    [[('night', False)], [('to', 'vienna', False), ('wien', True)]]
    >>> excluded
    [Term(words=('day',), prefix=False)]

    """
    if text.count('"') % 2:
        raise InvalidValueError("query", """has a '"' without a second one; end the phrase, or leave the '"' out""")
    groups: list[list[Term]] = []
    excluded: list[Term] = []
    before = "OR"
    for sign, term in _terms(text):
        if (sign == "OR" and before) or (sign == "-" and before == "OR" and groups):
            raise InvalidValueError("query", _BESIDE_OR)
        if sign == "-":
            excluded.append(term)
        elif before == "OR" and groups:
            groups[-1].append(term)
        elif not sign:
            groups.append([term])
        before = sign
    if groups and before == "OR":
        raise InvalidValueError("query", _BESIDE_OR)
    if not groups:
        problem = "only says what must not be there; add a word that must" if excluded else _NO_WORD
        raise InvalidValueError("query", problem)
    return groups, excluded


def _terms(text: str) -> Iterator[tuple[str, Term]]:
    """Iterate over the terms of a query, each with its sign: "-", or nothing. An OR is a sign without a term."""
    for minus, phrase, star, word in _TOKEN.findall(text):
        term = Term(tuple(words(phrase or word)), prefix=bool(star) or word.endswith("*"))
        if word == "OR" and not minus:
            yield "OR", Term(())
        elif term.words:  # else it is made of signs alone
            yield minus, term


_NO_WORD = 'has no letter or digit; mode="substring" looks for signs'
_BESIDE_OR = 'has an OR without a word on each side; write the word "or" in quotes to look for it'


class WordQuery(Query):
    """Words, phrases and prefixes.

    Args:
        groups: Of each, one term must match.
        excluded: Terms that must not match.

    """

    def __init__(self, groups: Sequence[Sequence[Term]], excluded: Sequence[Term]) -> None:
        self.groups = groups
        self._excluded = [each.joined for each in excluded]
        self._wanted = [[each.joined for each in group] for group in groups]
        self._terms = [each for group in groups for each in group]

    def may_be_in(self, document: str) -> bool:  # noqa: D102 (`Query` documents it)
        return all(any(all(word in document for word in term.words) for term in group) for group in self.groups)

    def expression(self) -> str:  # noqa: D102
        return " AND ".join(f"({' OR '.join(term.expression for term in group)})" for group in self.groups)

    def score(self, texts: Sequence[str]) -> float | None:  # noqa: D102
        if not self.may_be_in(fold("\n".join(texts))):
            return None
        found = joined(texts)
        if any(each in found for each in self._excluded):
            return None
        length, score = found.count("  ") + 1, 0.0
        for group in self._wanted:
            count = sum(map(found.count, group))
            if not count:
                return None
            score += _weight(count, length)
        return score

    def spans(self, text: str) -> list[Span]:  # noqa: D102
        there = words_at(text)
        found: list[Span] = []
        n = 0
        while n < len(there) and len(found) < _MOST_SPANS:
            size = max((self._matches(term, there, n) for term in self._terms), default=0)
            if size:
                found.append((there[n][1], there[n + size - 1][2]))
            n += max(1, size)
        return found

    def _matches(self, term: Term, there: Sequence[tuple[str, int, int]], start: int) -> int:
        """Return how many words from *start* on a term matches; 0 where it does not."""
        size = len(term.words)
        part = [each for each, _, _ in there[start : start + size]]
        if len(part) < size or tuple(part[:-1]) != term.words[:-1]:
            return 0
        last = term.words[-1]
        return size if part[-1] == last or (term.prefix and part[-1].startswith(last)) else 0


# Substrings and regular expressions -------------------------------------------------------------------------------

_IN_JSON = re.compile(r'[\x00-\x1f"\\/\x7f]+')
"""What may be written otherwise in a JSON text."""


class SubstringQuery(Query):
    """A text as it stands, in upper or lower case, with its spaces and signs."""

    def __init__(self, text: str) -> None:
        self._sought = fold(text)
        self._part = max(_IN_JSON.split(self._sought), key=len)
        if not self._sought:
            raise InvalidValueError("query", "is an accent alone; add the letter that it stands on")

    def may_be_in(self, document: str) -> bool:  # noqa: D102
        return self._part in document

    def score(self, texts: Sequence[str]) -> float | None:  # noqa: D102
        count = sum(fold(each).count(self._sought) for each in texts)
        return _weight(count, sum(map(len, texts)) / _WORD_LENGTH) if count else None

    def spans(self, text: str) -> list[Span]:  # noqa: D102
        there = fold_at(text)
        folded = "".join([each for each, _, _ in there])
        found: list[Span] = []
        place = folded.find(self._sought)
        while place >= 0 and len(found) < _MOST_SPANS:
            end = place + len(self._sought)
            begin = there[place][1]
            if not found or begin >= found[-1][1]:
                found.append((begin, there[end - 1][2]))
            place = folded.find(self._sought, end)
        return found


class RegexQuery(Query):
    """A regular expression, with a bound on the time that it may take on one text."""

    def __init__(self, text: str) -> None:
        try:
            regex: Any = import_module("regex")  # which has no type hints
        except ImportError as err:
            raise MissingPackageError('search(mode="regex")', "regex", name="regex") from err
        try:
            self._pattern: Any = regex.compile(text)
        except (regex.error, OverflowError, RecursionError) as err:
            problem = f'is no regular expression ({err}); mode="substring" looks for text as it stands'
            raise InvalidValueError("query", problem) from None

    def may_be_in(self, document: str) -> bool:  # noqa: ARG002, D102
        return True

    def score(self, texts: Sequence[str]) -> float | None:  # noqa: D102
        count = sum(len(self.spans(each)) for each in texts)
        return _weight(count, sum(map(len, texts)) / _WORD_LENGTH) if count else None

    def spans(self, text: str) -> list[Span]:  # noqa: D102
        found: list[Span] = []
        try:
            for each in self._pattern.finditer(text, timeout=_PATIENCE, concurrent=True):
                if each.end() > each.start():
                    found.append(each.span())
                    if len(found) == _MOST_SPANS:
                        break
        except TimeoutError:
            problem = f"takes more than {_PATIENCE} s on one message; write it without a repeat inside a repeat"
            raise InvalidValueError("query", problem) from None
        return found
