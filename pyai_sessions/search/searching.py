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
from pyai_sessions.documents.reading import read_messages, stamp_of_value, summarize
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, InvalidValueError, SessionStateError
from pyai_sessions.model.fields import check_statuses
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.search.hits import Hit, HitPage, snippet_of
from pyai_sessions.search.queries import Mode, Query, make_query, may_match
from pyai_sessions.search.texts import texts_of
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.filters import check_owner, check_where, fits
from pyai_sessions.sessions.loading import MISSING, Attempts, live_head
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


class Searcher(NamedTuple):
    """Searches the messages of a backend's sessions, on a store's terms."""

    backend: Backend
    terms: Terms

    def search(self, wanted: Wanted) -> HitPage:
        """Return a page of hits; see `SessionManager.search`."""
        if wanted.limit == 0 or wanted.session_id == "":
            return HitPage([])
        found = self._newest(wanted) if wanted.order == "newest" else self._best(wanted)
        more = wanted.limit is not None and len(found) > wanted.limit
        found = found[: wanted.limit]
        hits = [each for each in map(_Shown(self, wanted).hit, found) if each is not None]
        return HitPage(hits, _cursor_of(found[-1].key, wanted.order) if more else None)

    def _newest(self, wanted: Wanted) -> list[_Found]:
        found: list[_Found] = []
        for each in self._sessions(wanted):
            room = None if wanted.limit is None else wanted.limit + 1 - len(found)
            found += self._hits(wanted, *each, room)
            if wanted.limit is not None and len(found) > wanted.limit:
                break
        return found

    def _best(self, wanted: Wanted) -> list[_Found]:
        room = None if wanted.limit is None else wanted.limit + 1
        hits = (hit for each in self._sessions(wanted) for hit in self._hits(wanted, *each, room))
        return sorted(hits, key=_key, reverse=True) if room is None else heapq.nlargest(room, hits, key=_key)

    # Sessions ----------------------------------------------------------------------------------------------------

    def _sessions(self, wanted: Wanted) -> Iterator[tuple[Position, StoredHead, Mapping[str, object]]]:
        """Iterate over the sessions that a search looks through, each with its place in the list, and pages of it."""
        found = self._listed(wanted)
        size = 1
        while together := list(islice(found, size)):
            size = min(2 * size, _TOGETHER)  # the first may be enough
            few = [stored for _, stored in together if stored.pages <= _FEW // len(together)]
            keys = [key for stored in few for key in page_keys(stored.head.sealed)]
            pages = self.backend.storage.read(keys) if keys else {}
            for position, stored in together:
                yield position, stored, pages

    def _listed(self, wanted: Wanted) -> Iterator[tuple[Position, StoredHead]]:
        if wanted.session_id is not None:
            stored = self._live(wanted, wanted.session_id)
            if stored is not None:
                yield (0, encode_id(wanted.session_id)), stored
            return
        after: Position | None = None
        first: str | None = None
        if wanted.order == "newest" and wanted.after is not None:
            after = wanted.after.activity, wanted.after.member
            first = decode_id(wanted.after.member)
        if first is not None:  # it may have moved in the list since the page before, and goes on where it was
            stored = self._live(wanted, first)
            if stored is not None and after is not None:
                yield after, stored
        known = set[str]() if first is None else {first}
        walk = indexes.walk(
            self.backend,
            wanted.owner,
            wanted.statuses,
            after,
            on_invalid=_ignore if wanted.skip_invalid else None,
            clock=self.terms.clock,
            known=known,
            whole=wanted.limit is None or wanted.order == "best",
        )
        for position, stored in walk:
            if self._is_wanted(wanted, stored):
                yield position, stored

    def _live(self, wanted: Wanted, session_id: str) -> StoredHead | None:
        """Return the head of a session that the search looks through; None where there is none now."""
        value = self.backend.head(session_id)
        try:
            stored = live_head(value, session_id, wanted.owner, self.terms.clock)
            fit = stored is not None and stored.head.status in wanted.statuses and self._is_wanted(wanted, stored)
        except InvalidDocumentError as err:
            if not wanted.skip_invalid:
                raise
            _ignore(err)
            return None
        return stored if fit else None

    def _is_wanted(self, wanted: Wanted, stored: StoredHead) -> bool:
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

    def _hits(
        self,
        wanted: Wanted,
        place: Position,
        stored: StoredHead,
        pages: Mapping[str, object],
        room: int | None,
    ) -> list[_Found]:
        """Return the hits in a session that come first, so many as there is room for."""
        current: StoredHead | None = stored
        for _ in Attempts(self.backend, stored.head.session_id):
            try:
                found = self._found(wanted, place, current, pages)
                if wanted.one:
                    best = max(found, key=lambda each: (each.score, each.key.position), default=None)
                    return [] if best is None or not _follows(best.key, wanted) else [best]
                found = (each for each in found if _follows(each.key, wanted))
                if wanted.order == "newest":
                    return list(islice(found, room))
                return sorted(found, key=_key) if room is None else heapq.nlargest(room, found, key=_key)
            except _RewrittenError:  # noqa: PERF203 (another writer may come at each try)
                current, pages = self._live(wanted, stored.head.session_id), {}
                if current is None:
                    return []
            except InvalidDocumentError as err:
                if not wanted.skip_invalid:
                    raise
                _ignore(err)
                return []
        return []

    def _found(
        self, wanted: Wanted, place: Position, stored: StoredHead | None, pages: Mapping[str, object]
    ) -> Iterator[_Found]:
        """Iterate over the messages of a session that match, the latest first."""
        if stored is None:
            return
        by_score = wanted.order == "best"
        for position, message in self._candidates(wanted.query, stored, pages):
            if not _is_among(message, wanted):
                continue
            score = wanted.query.score(texts_of(message, tools=wanted.tools))
            if score is not None:
                score = round(score, 6)
                yield _Found(_Key(score if by_score else 0.0, *place, position), score, message, stored)

    def _candidates(
        self, query: Query, stored: StoredHead, pages: Mapping[str, object]
    ) -> Iterator[tuple[int, Message]]:
        """Iterate over the messages in the documents of a session that may match, the latest first, by number."""
        head, end = stored.head, stored.sealed
        tail = bytes(head.messages)
        if may_match(query, tail):
            messages = read_messages(tail, head_key(head.session_id), head.session_id)
            yield from reversed(list(enumerate(messages, end)))
        for stop in range(stored.pages, 0, -_FEW):
            keys = page_keys(head.sealed, max(0, stop - _FEW), stop)
            missing = [key for key in keys if key not in pages]
            read = self.backend.storage.read(missing) if missing else {}
            for key in reversed(keys):
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

    def __init__(self, searcher: Searcher, wanted: Wanted) -> None:
        self._wanted = wanted
        self._trips = Trips(searcher.backend)
        self._scroller = Scroller(searcher.backend, searcher.terms, Recent[object](1_000_000))

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


def _key(found: _Found) -> _Key:
    return found.key


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
