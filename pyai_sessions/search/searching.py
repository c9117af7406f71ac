"""The search: sessions looked through one after another, latest activity first, in memory that does not grow."""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from pyai_sessions.documents.keys import decode_id, encode_id, head_key, page_keys
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.listed import exact
from pyai_sessions.documents.reading import read_messages, stamp_of_value, summarize
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError, SessionStateError
from pyai_sessions.model.fields import check_statuses
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.search.hits import Hit, HitPage, snippet_of
from pyai_sessions.search.index import Candidates, SearchIndex
from pyai_sessions.search.queries import Mode, Query, make_query, may_match
from pyai_sessions.search.texts import texts_of
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.filters import check_owner, check_where, fits
from pyai_sessions.sessions.loading import MISSING, live_head
from pyai_sessions.sessions.scrolling import Scroller
from pyai_sessions.sessions.trips import Trips
from pyai_sessions.storage.protocol import Position
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    Nobody,
    check_choice,
    check_count,
    check_items,
    check_limit,
    check_text,
    check_time,
    kind_of,
    sought_id,
)
from pyai_sessions.values.messages import Message
from pyai_sessions.values.recent import Recent

SearchOrder = Literal["newest", "best"]

_TOGETHER = 20
"""Sessions whose pages are read in one trip, if these are few."""

_FEW = 200
"""Pages that are read in one trip: 2 MB of text, as a rule."""

_FEW_SESSIONS = 500
"""Sessions whose heads are read at once, so that no list need be read."""

_LONGEST_CONTEXT = 100

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class Wanted(NamedTuple):
    """What a search asks for, checked; see `make_wanted`."""

    query: Query
    session_id: str | None
    owner: str | None
    of_nobody: bool
    where: dict[str, Any]
    statuses: Sequence[SessionStatus]
    roles: frozenset[str] | None
    since: datetime | None
    until: datetime | None
    tools: bool
    order: str
    one: bool
    context: int
    limit: int | None
    after: _Key | None
    skip_invalid: bool


class _Key(NamedTuple):
    """Where a hit stands in an order: the highest first. *score* is 0 where the order does not depend on it."""

    score: float
    activity: int
    member: str
    position: int


class _Found(NamedTuple):
    key: _Key
    score: float
    message: Message
    stored: StoredHead


def make_wanted(
    query: str,
    *,
    mode: Mode = "words",
    session_id: str | None = None,
    user_id: str | Anyone | Nobody = ANYONE,
    where: Mapping[str, Any] | None = None,
    status: SessionStatus | None = SessionStatus.ACTIVE,
    role: str | Iterable[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    tools: bool = False,
    order: SearchOrder = "newest",
    one_per_session: bool = False,
    context: int = 0,
    limit: int | None = 20,
    cursor: str | None = None,
    skip_invalid: bool = False,
) -> Wanted:
    """Return what the arguments of a search mean.

    Raises:
        InvalidValueError: One of them means nothing.

    """
    owner, of_nobody = check_owner(user_id)
    check_choice(order, "order", *get_args(SearchOrder))
    check_limit(limit, "limit")
    for name, value in (("tools", tools), ("one_per_session", one_per_session), ("skip_invalid", skip_invalid)):
        if not isinstance(value, bool):
            raise InvalidValueError(name, f"is {kind_of(value)}; it is True or False")
    if check_count(context, "context") > _LONGEST_CONTEXT:
        raise InvalidValueError("context", f"is {context}; at most {_LONGEST_CONTEXT} messages before and after a hit")
    if session_id is not None:
        session_id = sought_id(session_id) or ""
    roles = [role] if isinstance(role, str) or role is None else check_items(role, "role", "roles")
    begin, end = (
        None if each is None else check_time(each, name) for name, each in (("since", since), ("until", until))
    )
    return Wanted(
        make_query(query, mode),
        session_id,
        owner,
        of_nobody,
        check_where(where),
        check_statuses(status),
        None if role is None else frozenset(check_text(each, "role") for each in roles),
        begin,
        end,
        tools,
        order,
        one_per_session,
        context,
        limit,
        _key_of(cursor, order),
        skip_invalid,
    )


def search(backend: Backend, terms: Terms, wanted: Wanted, index: SearchIndex | None = None) -> HitPage:
    """Return a page of hits in a backend's sessions, found with the help of an index if there is one.

    See `SessionManager.search`.
    """
    if wanted.limit == 0 or wanted.session_id == "":
        return HitPage([])
    found = _Search(backend, terms, wanted, _candidates(wanted, index)).found()
    more = wanted.limit is not None and len(found) > wanted.limit
    found = found[: wanted.limit]
    shown = _Shown(backend, terms, wanted)
    hits = [each for each in map(shown.hit, found) if each is not None]
    return HitPage(hits, _cursor_of(found[-1].key, wanted.order) if more else None)


def _candidates(wanted: Wanted, index: SearchIndex | None) -> Candidates | None:
    """Return the documents that may match, as an index says; None where all are to be looked at."""
    if index is None or wanted.session_id is not None:
        return None
    if wanted.owner is not None and not index.noted:
        return None  # to learn what changed would take all heads, more than the user has
    return index.candidates(wanted.query)


class _Search(NamedTuple):
    """One search at work. *among* are the documents that may match; None for all."""

    backend: Backend
    terms: Terms
    wanted: Wanted
    among: Candidates | None

    def found(self) -> list[_Found]:
        """Return what was found, one more than was asked for, if there is more."""
        limit, found = self.wanted.limit, list[_Found]()
        if self.wanted.order == "best":
            room = None if limit is None else limit + 1
            return _first(room, (hit for each in self._sessions() for hit in self._hits(*each, room)))
        for each in self._sessions():
            found += self._hits(*each, None if limit is None else limit + 1 - len(found))
            if limit is not None and len(found) > limit:
                break
        return found

    # Sessions ----------------------------------------------------------------------------------------------------

    def _sessions(self) -> Iterator[tuple[Position, StoredHead, Mapping[str, object]]]:
        """Iterate over the sessions to look through, each with its place in the list, and pages of it."""
        found, size = self._listed(), 1
        while together := list(islice(found, size)):
            size = min(2 * size, _TOGETHER)  # the first may be enough
            few = [stored for _, stored in together if stored.pages <= _FEW // len(together)]
            keys = [key for stored in few for key in page_keys(stored.head.sealed)]
            if self.among is not None:
                keys = [key for key in keys if key in self.among.keys]
            pages = self.backend.storage.read(keys) if keys else {}
            for position, stored in together:
                yield position, stored, pages

    def _listed(self) -> Iterator[tuple[Position, StoredHead]]:
        wanted, among = self.wanted, self.among
        if wanted.session_id is not None:
            stored = self._live(wanted.session_id)
            if stored is not None:
                yield (0, encode_id(wanted.session_id)), stored
            return
        after, first = None, ""
        if wanted.order == "newest" and wanted.after is not None:
            after = wanted.after.activity, wanted.after.member
            first = decode_id(wanted.after.member) or ""
            stored = self._live(first)  # it may have moved in the list since the page before; it goes on where it was
            if stored is not None:
                yield after, stored
        if among is not None and len(among.sessions) <= _FEW_SESSIONS:
            yield from self._few(among.sessions - {first}, after)
            return
        walk = indexes.walk(
            self.backend,
            wanted.owner,
            wanted.statuses,
            after,
            on_invalid=_ignore if wanted.skip_invalid else None,
            clock=self.terms.clock,
            known={first},
            whole=wanted.limit is None or wanted.order == "best",
            among=None if among is None else among.sessions,
        )
        for position, stored in walk:
            if self._is_wanted(stored):
                yield position, stored

    def _few(self, session_ids: set[str], after: Position | None) -> list[tuple[Position, StoredHead]]:
        """Return the sessions of these ids in the order of a list, without reading the list."""
        heads = self.backend.heads(session_ids)
        live = [stored for each in heads if (stored := self._live(each, heads[each])) is not None]
        placed = [((exact(stored.entry.activity), encode_id(stored.head.session_id)), stored) for stored in live]
        found = [each for each in placed if after is None or each[0] < after]
        return sorted(found, key=lambda each: each[0], reverse=True)

    def _live(self, session_id: str, value: object | None = None) -> StoredHead | None:
        """Return the head of a session that is to be looked through; None where there is none now."""
        value = self.backend.head(session_id) if value is None else value
        try:
            stored = live_head(value, session_id, self.wanted.owner, self.terms.clock)
            fit = stored is not None and stored.head.status in self.wanted.statuses and self._is_wanted(stored)
        except InvalidDocumentError as err:
            if not self.wanted.skip_invalid:
                raise
            _ignore(err)
            return None
        return stored if fit else None

    def _is_wanted(self, stored: StoredHead) -> bool:
        wanted = self.wanted
        if wanted.of_nobody and stored.head.user_id is not None:
            return False
        if not wanted.where:
            return True
        try:
            return fits(summarize(stored).metadata, wanted.where)
        except InvalidDocumentError:
            if wanted.skip_invalid:
                return False
            raise

    # Messages ----------------------------------------------------------------------------------------------------

    def _hits(self, place: Position, stored: StoredHead, pages: Mapping[str, object], room: int | None) -> list[_Found]:
        """Return the hits in a session that come first, so many as there is room for."""
        wanted, session_id = self.wanted, stored.head.session_id
        current: StoredHead | None = stored
        for _ in Attempts(self.backend, session_id):
            try:
                found = self._found(place, current, pages)
                if wanted.one:
                    best = max(found, key=lambda each: (each.score, each.key.position), default=None)
                    return [] if best is None or not _follows(best.key, wanted) else [best]
                found = (each for each in found if _follows(each.key, wanted))
                return _first(room, found) if wanted.order == "best" else list(islice(found, room))
            except _RewrittenError:  # noqa: PERF203 (another writer may come at each try)
                current, pages = self._live(session_id), {}
                if current is None:
                    return []
            except InvalidDocumentError as err:
                if not wanted.skip_invalid:
                    raise
                _ignore(err)
                return []
        return []

    def _found(self, place: Position, stored: StoredHead | None, pages: Mapping[str, object]) -> Iterator[_Found]:
        """Iterate over the messages of a session that match, the latest first."""
        if stored is None:
            return
        by_score = self.wanted.order == "best"
        for position, message in self._messages(stored, pages):
            if _is_among(message, self.wanted):
                score = self.wanted.query.score(texts_of(message, tools=self.wanted.tools))
                if score is not None:
                    score = round(score, 6)
                    yield _Found(_Key(score if by_score else 0.0, *place, position), score, message, stored)

    def _messages(self, stored: StoredHead, pages: Mapping[str, object]) -> Iterator[tuple[int, Message]]:
        """Iterate over the messages in the documents of a session that may match, the latest first, by number."""
        query, head, end = self.wanted.query, stored.head, stored.sealed
        tail = bytes(head.messages)
        if (self.among is None or self.among.has_tail(stored)) and may_match(query, tail):
            messages = read_messages(tail, head_key(head.session_id), head.session_id)
            yield from reversed(list(enumerate(messages, end)))
        keys = page_keys(head.sealed)
        sizes = dict[str, int]()
        first = 0
        if self.among is not None:
            may = self.among.pages(stored, keys)
            first = next((n for n, key in enumerate(keys) if key in may), len(keys))
            counts = self.among.counts(keys[first:]) if may else {}
            sizes = {key: count for key, count in counts.items() if key not in may}
        for stop in range(len(keys), first, -_FEW):
            some = keys[max(first, stop - _FEW) : stop]
            missing = [key for key in some if key not in pages and key not in sizes]
            read = self.backend.storage.read(missing) if missing else {}
            for key in reversed(some):
                if key in sizes:
                    end -= sizes[key]
                    continue
                value = pages.get(key, read.get(key))
                if value is None:
                    self._refuse(stored, key)
                if may_match(query, value):
                    messages = read_messages(value, key, head.session_id)
                    end -= len(messages)
                    yield from reversed(list(enumerate(messages, end)))
                else:
                    end -= _size(value, key, head.session_id)

    def _refuse(self, stored: StoredHead, key: str) -> None:
        """Raise the error that a page is missing; _RewrittenError where another head is stored by now, or none."""
        session_id = stored.head.session_id
        if stamp_of_value(self.backend.head(session_id)) != stored.stamp:
            raise _RewrittenError
        raise InvalidDocumentError(key, session_id, None, MISSING)


class _RewrittenError(Exception):
    """The session was rewritten while it was read."""


class _Shown:
    """Makes hits of what was found."""

    def __init__(self, backend: Backend, terms: Terms, wanted: Wanted) -> None:
        self._wanted = wanted
        self._trips = Trips(backend)
        self._scroller = Scroller(backend, terms, Recent[object](1_000_000))

    def hit(self, found: _Found) -> Hit | None:
        """Return a hit; None where its message was removed since it was found."""
        wanted, message, head = self._wanted, found.message, found.stored.head
        context: list[Message] = []
        if wanted.context:
            try:
                context = self._around(head.session_id, message)
            except SessionStateError:  # there is no such session any more, or no such message in it
                return None
        snippet, matches = snippet_of(texts_of(message, tools=wanted.tools), wanted.query)
        return Hit(
            session_id=head.session_id,
            user_id=head.user_id,
            title=found.stored.title,
            message_id=message.message_id,
            position=found.key.position,
            role=message.role,
            timestamp=message.timestamp,
            snippet=snippet,
            matches=matches,
            score=found.score,
            context=context,
        )

    def _around(self, session_id: str, message: Message) -> list[Message]:
        count, owner, each = self._wanted.context, self._wanted.owner, message.message_id
        before = self._trips.alone(self._scroller.page(session_id, owner, each, None, count))
        after = self._trips.alone(self._scroller.page(session_id, owner, None, each, count))
        return [*before, message, *after]


def _is_among(message: Message, wanted: Wanted) -> bool:
    """Return whether a message is one of those that are looked at."""
    if wanted.roles is not None and message.role not in wanted.roles:
        return False
    return (wanted.since is None or message.timestamp >= wanted.since) and (
        wanted.until is None or message.timestamp < wanted.until
    )


def _first(room: int | None, found: Iterable[_Found]) -> list[_Found]:
    """Return what comes first by its key, so much as there is room for, in order."""

    def key(each: _Found) -> _Key:
        return each.key

    return sorted(found, key=key, reverse=True) if room is None else heapq.nlargest(room, found, key=key)


def _follows(key: _Key, wanted: Wanted) -> bool:
    """Return whether a hit comes after the page before."""
    if wanted.after is None:
        return True
    if wanted.order == "newest" and wanted.one:
        return key.member != wanted.after.member
    return key < wanted.after


def _size(value: object, key: str, session_id: str) -> int:
    """Return how many messages a page has."""
    if isinstance(value, (bytes, str)):
        with suppress(msgspec.DecodeError, UnicodeError):
            return len(_ITEMS.decode(value))
    return len(read_messages(value, key, session_id))


def _ignore(err: InvalidDocumentError) -> None:
    """Leave out a damaged session; not one that other keys would open: with wrong ones all would be out."""
    if isinstance(err, EncryptionError):
        raise err


# Cursors ----------------------------------------------------------------------------------------------------------


def _cursor_of(key: _Key, order: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, *key]).encode()).decode()


def _key_of(cursor: object, order: str) -> _Key | None:
    """Return the key that a cursor holds."""
    if cursor is None:
        return None
    try:
        read: list[Any] = json.loads(base64.urlsafe_b64decode(cursor)) if isinstance(cursor, str) else [""]
        name, *parts = read
    except (ValueError, TypeError):
        name, parts = "", list[Any]()
    if name != order or list(map(type, parts)) != [float, int, str, int] or decode_id(parts[2]) is None:
        problem = f"is no next_cursor of search(order={order!r}); leave it out to begin anew"
        raise InvalidValueError("cursor", problem)
    return _Key(*parts)
