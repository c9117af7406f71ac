"""The search: sessions looked through one after another, latest activity first, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile
from typing import Any, NamedTuple

import msgspec

from pyai_sessions.documents.keys import decode_id, encode_id, head_key, page_keys
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.listed import exact
from pyai_sessions.documents.reading import read_messages, stamp_of_value, summarize
from pyai_sessions.errors import EncryptionError, InvalidDocumentError, SessionStateError
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.search.cursors import Cursor, Place, SearchOrder, cursor_text
from pyai_sessions.search.hits import Hit, HitPage, snippet_of
from pyai_sessions.search.index import Candidates, SearchIndex
from pyai_sessions.search.queries import Query, may_match
from pyai_sessions.search.texts import texts_of
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend, Progress
from pyai_sessions.sessions.filters import fits
from pyai_sessions.sessions.loading import MISSING, live_head
from pyai_sessions.sessions.scrolling import Scroller
from pyai_sessions.sessions.trips import Trips
from pyai_sessions.storage.protocol import Position
from pyai_sessions.values.messages import Message
from pyai_sessions.values.recent import Recent

_TOGETHER = 20
"""Sessions whose pages are read in one trip, if these are few."""

_FEW = 200
"""Pages that are read in one trip: 2 MB of text, as a rule."""

_FEW_SESSIONS = 500
"""Sessions whose heads are read at once, so that no list need be read."""

_RANKED = 1_000
"""Matches that are ranked together in the order "best": some tenths of a second."""

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class Wanted(NamedTuple):
    """What a search asks for, checked; see `SessionManager.search`."""

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
    order: SearchOrder
    one: bool
    context: int
    limit: int | None
    after: Cursor | None
    skip_invalid: bool


class _Listed(NamedTuple):
    """A session to look through: its place in the list, its head, and such pages of it as were read."""

    place: Position
    stored: StoredHead
    pages: Mapping[str, object]


class _Found(NamedTuple):
    """A message that matches. *of* is the number of matches that it was chosen from."""

    score: float
    place: Place
    position: int
    message: Message
    stored: StoredHead
    of: int = 1


def search(
    backend: Backend,
    terms: Terms,
    wanted: Wanted,
    index: SearchIndex | None = None,
    progress: Progress | None = None,
) -> HitPage:
    """Return a page of hits in a backend's sessions, found with the help of an index if there is one.

    See `SessionManager.search`.
    """
    done = 0

    def told(number: int) -> None:
        nonlocal done
        done += number
        if progress:
            progress(done)

    if wanted.limit == 0 or wanted.session_id == "":
        return HitPage([])
    found, cursor = _Search(backend, terms, wanted, _candidates(wanted, index), told).page()
    shown = _Shown(backend, terms, wanted)
    hits = [each for each in map(shown.hit, found) if each is not None]
    return HitPage(hits, None if cursor is None else cursor_text(cursor))


def _candidates(wanted: Wanted, index: SearchIndex | None) -> Candidates | None:
    """Return the documents that may match, as an index says; None where all are to be looked at."""
    if index is None or wanted.session_id is not None:
        return None
    if wanted.owner is not None and not index.noted:
        return None  # to learn what changed would take all heads, more than the user has
    return index.candidates(wanted.query)


class _Search(NamedTuple):
    """One search at work.

    *among* are the documents that may match; None for all. *told* is called with the number of sessions of each batch
    that was looked through.
    """

    backend: Backend
    terms: Terms
    wanted: Wanted
    among: Candidates | None
    told: Callable[[int], object]

    def page(self) -> tuple[list[_Found], Cursor | None]:
        """Return the hits of the page, and where it ends if more follow."""
        wanted = self.wanted
        after, limit = wanted.after, wanted.limit
        if wanted.order == "best":
            return self._best()
        found = list(self._matches(after and after.last, room=None if limit is None else limit + 1))
        if limit is None or len(found) <= limit:
            return found, None
        return found[:limit], Cursor("newest", found[limit - 1].place)

    def _best(self) -> tuple[list[_Found], Cursor | None]:
        after, limit = self.wanted.after, self.wanted.limit
        begin, end = (after.begin, after.end) if after else (None, None)
        found = list[tuple[_Found, Cursor]]()
        while True:
            matches, end = self._ranked_together(begin, end)
            for each in sorted(matches, key=lambda each: (each.score, each.place), reverse=True):
                if after is None or (each.score, each.place) < (after.score, after.last):
                    found.append((each, Cursor("best", each.place, each.score, begin, end)))
            if limit is not None and len(found) > limit:
                return [each for each, _ in found[:limit]], found[limit - 1][1]
            if end is None:
                return [each for each, _ in found], None
            after, begin, end = None, end, None

    def _ranked_together(self, begin: Place | None, end: Place | None) -> tuple[list[_Found], Place | None]:
        """Return the matches after *begin* that are ranked together, and the place of the last; None if none follow.

        They end at the place *end* if a page of them was returned before.
        """
        if end is not None:
            return list(self._matches(begin, end)), end
        limit = self.wanted.limit
        room = None if limit is None else max(limit, _RANKED)
        matches = list(self._matches(begin, room=room))
        is_all = room is None or sum(each.of for each in matches) < room
        return matches, None if is_all else matches[-1].place

    def _matches(self, begin: Place | None, end: Place | None = None, room: int | None = None) -> Iterator[_Found]:
        """Iterate over the matches after one place, to another one, in order, until they are as many as *room*."""
        for listed in self._sessions(begin and begin[:2]):
            if end is not None and listed.place < end[:2]:
                return
            found = self._hits(listed, begin, end, room)
            yield from found
            if room is not None:
                room -= sum(each.of for each in found)
                if room <= 0:
                    return

    # Sessions ----------------------------------------------------------------------------------------------------

    def _sessions(self, after: Position | None) -> Iterator[_Listed]:
        """Iterate over the sessions to look through."""
        found, size = self._listed(after), 1
        while together := list(islice(found, size)):
            size = min(2 * size, _TOGETHER)  # the first may be enough
            few = [stored for _, stored in together if stored.pages <= _FEW // len(together)]
            keys = [key for stored in few for key in page_keys(stored.head.sealed)]
            if self.among is not None:
                keys = [key for key in keys if key in self.among.keys]
            pages = self.backend.storage.read(keys) if keys else {}
            for position, stored in together:
                yield _Listed(position, stored, pages)
            self.told(len(together))

    def _listed(self, after: Position | None) -> Iterator[tuple[Position, StoredHead]]:
        wanted, among = self.wanted, self.among
        if wanted.session_id is not None:
            stored = self._live(wanted.session_id)
            if stored is not None:
                yield (0, encode_id(wanted.session_id)), stored
            return
        first = ""
        if after is not None:
            first = decode_id(after[1]) or ""
            # It may have moved in the list since the page before; it goes on where it was.
            stored = None if wanted.one else self._live(first)
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
            whole=wanted.limit is None,
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

    def _hits(self, listed: _Listed, begin: Place | None, end: Place | None, room: int | None) -> list[_Found]:
        """Return the hits in a session between two places, the latest first, as many as there is room for."""
        wanted, session_id = self.wanted, listed.stored.head.session_id
        current: StoredHead | None = listed.stored
        pages: Mapping[str, object] = listed.pages
        for _ in Attempts(self.backend, session_id):
            try:
                found = self._found(listed.place, current, pages)
                if wanted.one:
                    return _best_of(found, wanted.order)
                found = (each for each in found if begin is None or each.place < begin)
                return list(islice(takewhile(lambda each: end is None or each.place >= end, found), room))
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
        for position, message in self._messages(stored, pages):
            if _is_among(message, self.wanted):
                score = self.wanted.query.score(texts_of(message, tools=self.wanted.tools))
                if score is not None:
                    yield _Found(round(score, 6), Place(*place, position), position, message, stored)

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
            position=found.position,
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


def _best_of(found: Iterable[_Found], order: SearchOrder) -> list[_Found]:
    """Return the best of the hits in a session, which stands for all of them."""
    best, count = None, 0
    for each in found:
        count += 1
        if best is None or (each.score, each.position) > (best.score, best.position):
            best = each
    if best is None:
        return []
    return [best._replace(place=best.place._replace(position=0), of=count if order == "best" else 1)]


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
