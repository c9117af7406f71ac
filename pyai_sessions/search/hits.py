"""What a search returns: a HitPage, which holds a Hit for each message found."""

# Not `from __future__ import annotations`: schemas are built from the fields' types, which must not be text.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pyai_sessions.model.listed import Page
from pyai_sessions.search.queries import Query, Span
from pyai_sessions.values.checks import check_id, counted
from pyai_sessions.values.codec import JSON_VALUE, TIME, Document, checked, list_of, unchangeable
from pyai_sessions.values.messages import Message

SNIPPET = 200
"""Characters of a snippet at the most."""

_BEFORE = 60
"""Characters of it that stand before the first match."""

_CUT = 20
"""Characters among which a space is sought, to cut there."""


@unchangeable("it is what the session held")
@dataclass(frozen=True, repr=False)
class Hit(Document):
    """A message that a search found.

    Attributes:
        session_id: The session that holds it.
        user_id: Whose that is; None for an anonymous session.
        title: The session's title, or the first words of its first question.
        message_id: The message's id.
        position: Its number in the session, from 0.
        role: Whose message it is.
        timestamp: When it was made, in UTC.
        snippet: The part of its text that matches first, in one line of at most 200 characters.
        matches: Where in the snippet what was looked for stands: pairs of a start and an end.
        score: How well it matches: above 0, the more the better. It depends on the message and the query alone.
        context: The messages around it and itself, oldest first, where the search was asked for them.

    """

    session_id: str = field(metadata=checked(check_id))
    user_id: str | None
    title: str | None
    message_id: str
    position: int
    role: str
    timestamp: datetime = field(metadata=TIME)
    snippet: str
    matches: Sequence[Sequence[int]] = field(metadata=JSON_VALUE)
    score: float
    context: Sequence[Message] = field(default_factory=list[Message], metadata=list_of(Message))

    def marked(self, before: str = "[", after: str = "]", *, escape: Callable[[str], str] = str) -> str:
        """Return the snippet with marks around what was looked for.

        Args:
            before: What begins a mark.
            after: What ends it.
            escape: Is applied to the text but not to the marks: ``html.escape`` for a web page.

        >>> import html
        >>> hit = Hit("s", None, None, "m", 0, "user", "2026-01-31T12:00:00Z", "2 < 3 night trains", [[6, 11]], 1.0)
        >>> hit.marked("<b>", "</b>", escape=html.escape)
        '2 &lt; 3 <b>night</b> trains'

        """
        parts: list[str] = []
        done = 0
        for start, stop in self.matches:
            parts += [escape(self.snippet[done:start]), before, escape(self.snippet[start:stop]), after]
            done = stop
        return "".join([*parts, escape(self.snippet[done:])])

    def __repr__(self) -> str:
        """Without text: a repr ends up in logs."""
        return f"<Hit in session {self.session_id!r} message {self.position} score={self.score}>"


@unchangeable("it is what was found; for the next page, give its next_cursor to search")
@dataclass(frozen=True, repr=False, eq=False)
class HitPage(Page[Hit]):
    """A page of hits: a sequence of them, and the cursor by which the search goes on.

    It equals a list of the same hits. As JSON it is an object of both fields.

    Attributes:
        hits: The hits.
        next_cursor: Given to ``search`` as *cursor*, with the same query and options, it leads to the next page; None
            at the end.

    """

    hits: Sequence[Hit] = field(default_factory=list[Hit], metadata=list_of(Hit))
    next_cursor: str | None = None

    def _items(self) -> Sequence[Hit]:
        return self.hits

    def __repr__(self) -> str:
        return f"<HitPage of {counted(len(self), 'hit')}{'' if self.next_cursor is None else ', more follow'}>"


def snippet_of(texts: Sequence[str], query: Query) -> tuple[str, list[list[int]]]:
    """Return the part of the texts of a message that matches first, and where the matches stand in it."""
    for text in texts:
        spans = query.spans(text)
        if spans:
            return _cut(text, spans)
    return "", []


def _cut(text: str, spans: Sequence[Span]) -> tuple[str, list[list[int]]]:
    """Return the part of a text around the first of the spans in it, and the spans in that part."""
    first = spans[0][0]
    start = 0 if first <= _BEFORE else _after_space(text, first - _BEFORE, first)
    stop = len(text) if len(text) - start <= SNIPPET else _before_space(text, start + SNIPPET)
    lead = "…" if start else ""
    cut = "".join([" " if each.isspace() else each for each in text[start:stop]])
    shift = len(lead) - start
    matches = [[begin + shift, min(end, stop) + shift] for begin, end in spans if begin < stop]
    return f"{lead}{cut}{'…' if stop < len(text) else ''}", matches


def _after_space(text: str, place: int, most: int) -> int:
    """Return a place after a space near *place*, if there is one before *most*."""
    for n in range(place, min(place + _CUT, most)):
        if text[n].isspace():
            return n + 1
    return place


def _before_space(text: str, place: int) -> int:
    for n in range(place, place - _CUT, -1):
        if text[n].isspace():
            return n
    return place
