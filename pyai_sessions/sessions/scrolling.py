"""Reading messages without their session: pages before or after a message, as a chat window shows, or one by its id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from pyai_sessions.documents.keys import head_key, page_keys
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import read_messages
from pyai_sessions.errors import SessionNotFoundError, SessionStateError
from pyai_sessions.model.heads import Run, StoredHead
from pyai_sessions.model.listed import MessagePage
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import TOGETHER, RewrittenError, live_head, reading
from pyai_sessions.sessions.sought import find_pages
from pyai_sessions.sessions.trips import Asking, Read
from pyai_sessions.values.checks import shown
from pyai_sessions.values.messages import Message
from pyai_sessions.values.recent import Recent
from pyai_sessions.values.tokens import ticks, time_of_id

_PROBES = 7
"""Pages that are read at a time in the search for a message by its time. Fewer take more trips, and no less time."""

_TIME = 200
"""Bytes of memory for the time of one page."""


class Scroller(NamedTuple):
    """Reads messages of sessions. *recent* remembers the pages of the first and last messages that it returned."""

    backend: Backend
    terms: Terms
    recent: Recent[object]

    def page(
        self, session_id: str, user_id: str | None, before: str | None, after: str | None, limit: int | None
    ) -> Asking[MessagePage]:
        """Return the newest messages before a message, or the oldest ones after it; by default the newest messages."""
        for _ in Attempts(self.backend, session_id):
            stored, known = yield from self._head(session_id, user_id, after or before, limit or 0, back=after is None)
            pages = Pages(stored, known, self.recent)
            try:
                start = yield from pages.place(after)
                stop = yield from pages.place(before)
                return (yield from pages.between(start, stop, limit))
            except RewrittenError:
                yield None
        raise SessionNotFoundError(session_id)

    def message(self, session_id: str, user_id: str | None, message_id: str) -> Asking[Message | None]:
        """Return one message; None if the session has no message of that id."""
        for _ in Attempts(self.backend, session_id):
            stored, known = yield from self._head(session_id, user_id, message_id, 1, back=True)
            pages = Pages(stored, known, self.recent)
            try:
                found = yield from pages.find(message_id)
                return found and pages.read[found.page][found.offset]
            except RewrittenError:
                yield None
        raise SessionNotFoundError(session_id)

    def _head(
        self, session_id: str, user_id: str | None, message_id: str | None, limit: int, *, back: bool
    ) -> Asking[tuple[StoredHead, Mapping[str, object]]]:
        """Return the head, and the documents that were read with it: pages that will probably be needed."""
        head, likely = head_key(session_id), list[str]()
        where = self.recent.get(("page", session_id, message_id)) if message_id else None
        if isinstance(where, Run):
            page, more = where.pages, min(TOGETHER, limit // max(1, where.messages) + 1)
            run = Run(where.owner, where.generation, page + more + 1, 0)
            likely = page_keys([run], max(0, page - more), page + 1) if back else page_keys([run], page)
        found: Mapping[str, object] = yield Read([head, *likely])
        stored = live_head(found.get(head), session_id, user_id, self.terms.clock)
        if stored is None:
            raise SessionNotFoundError(session_id)
        return stored, found


class _Place(NamedTuple):
    """The place of a message: the number of its page, and its index in it. The last page is the one in the head."""

    page: int
    offset: int


class Pages:
    """The pages of a stored head, read when they are needed: *read* maps numbers to the pages that were read."""

    def __init__(self, stored: StoredHead, known: Mapping[str, object], recent: Recent[object]) -> None:
        self._stored = stored
        self._known = known
        self._recent = recent
        self._count = stored.pages
        self._size = max(1, stored.sealed // max(1, self._count))
        head = stored.head
        self.read = {self._count: read_messages(bytes(head.messages), head_key(head.session_id), head.session_id)}

    def between(self, start: _Place | None, stop: _Place | None, limit: int | None) -> Asking[MessagePage]:
        """Return messages between *start* and *stop*: the oldest of them, or the newest if there is no *start*."""
        end = _Place(self._count, len(self.read[self._count]))
        first, last = _Place(0, -1) if start is None else start, end if stop is None else stop
        if first >= last or limit == 0:
            return self._shown([], older=first > _Place(0, -1), newer=last < end)
        if start is None:
            low, high = last.page, last.page
            found = self.read[low][: last.offset]
            while low and (limit is None or len(found) < limit):
                step = min(low, self._step(limit, len(found)))
                yield from self._load(range(low - step, low))
                found = [*self._messages(range(low - step, low)), *found]
                low -= step
            cut = 0 if limit is None else max(0, len(found) - limit)
            return self._shown(found[cut:], older=bool(low or cut), newer=last < end)
        high, found = first.page, self.read[first.page][first.offset + 1 :]
        while high < last.page and (limit is None or len(found) < limit):
            step = min(last.page - high, self._step(limit, len(found)))
            yield from self._load(range(high + 1, high + step + 1))
            found += self._messages(range(high + 1, high + step + 1))
            high += step
        if high == last.page:
            found = found[: len(found) - len(self.read[high]) + last.offset]
        ended = high == self._count and last == end
        cut = len(found) if limit is None else limit
        return self._shown(found[:cut], older=True, newer=not ended or cut < len(found))

    def _step(self, limit: int | None, found: int) -> int:
        """Return how many pages probably contain the messages that are still missing."""
        return TOGETHER if limit is None else min(TOGETHER, -(-(limit - found) // self._size))

    def _shown(self, messages: list[Message], *, older: bool, newer: bool) -> MessagePage:
        """Return a page of messages, and remember the places of its first and last ones: the next page begins there."""
        for each in messages[:1] + messages[-1:]:
            for number, page in self.read.items():
                if number < self._count and any(each is one for one in page):
                    self._remember(each.message_id, number)
        return MessagePage(messages, has_older=older, has_newer=newer)

    def _remember(self, message_id: str, number: int) -> None:
        for run in self._stored.head.sealed:
            if number < run.pages:
                where = Run(run.owner, run.generation, run.start + number, self._size)
                self._recent.put(("page", self._stored.head.session_id, message_id), where, len(run.generation))
                return
            number -= run.pages

    def place(self, message_id: str | None) -> Asking[_Place | None]:
        """Return the place of a message; None if *message_id* is None.

        Raises:
            SessionStateError: The session has no message of that id.

        """
        if message_id is None:
            return None
        found = yield from self.find(message_id)
        if found is None:
            raise SessionStateError(
                self._stored.head.session_id,
                f"has no message {shown(message_id)}; get_messages(...) without it begins at the end",
            )
        return found

    def last(self) -> Asking[_Place | None]:
        """Return the place of the last message; None if there is none."""
        number = self._count
        while number and not self.read[number]:
            number -= 1
            yield from self._load([number])
        return _Place(number, len(self.read[number]) - 1) if self.read[number] else None

    def find(self, message_id: str) -> Asking[_Place | None]:
        """Return the place of a message: look in the head, in probable pages by its time, then in all pages."""
        likely = [self._count, *self._likely(message_id)]
        yield from self._load(likely)
        found = self._find(message_id, likely)
        if found is None and self._count:
            found = self._find(message_id, (yield from self._near(message_id)))
        if found is None and self._count:
            pages = yield from find_pages(self._recent, self._stored, [message_id])
            yield from self._load(pages)
            found = self._find(message_id, pages)
        return found

    def _find(self, message_id: str, numbers: Iterable[int]) -> _Place | None:
        for number in numbers:
            for offset, each in enumerate(self.read[number]):
                if each.message_id == message_id:
                    return _Place(number, offset)
        return None

    def _likely(self, message_id: str) -> list[int]:
        """Return the number of the page that contained a message when it was last shown, if the page still exists."""
        where, before = self._recent.get(("page", self._stored.head.session_id, message_id)), 0
        if not isinstance(where, Run):
            return []
        for run in self._stored.head.sealed:
            if (run.owner, run.generation) == (where.owner, where.generation) and run.start <= where.pages < run.end:
                return [before + where.pages - run.start]
            before += run.pages
        return []

    def _near(self, message_id: str) -> Asking[list[int]]:
        """Return the few pages that may contain a message, from the time at which its id was drawn.

        The times of pages that were read are remembered, so later searches in the same session read fewer.
        """
        time, name = time_of_id(message_id), ("times", self._stored.head.session_id)
        if time is None:
            return []
        known, low, high = self._recent.get(name), 0, self._count
        times: dict[str, int] = cast("dict[str, int]", known) if isinstance(known, dict) else {}
        while high - low > 1:
            step = -(-(high - low) // (_PROBES + 1))
            probes = range(low + step, high, step)
            keys = [key for each in probes for key in self._keys(each)]
            unknown = [each for each, key in zip(probes, keys, strict=True) if key not in times]
            if unknown and high - low <= _PROBES + 1:
                break  # it would read all of them
            yield from self._load(unknown)
            for each, key in zip(probes, keys, strict=True):
                if key not in times:
                    times[key] = _began(self.read[each])
                if times[key] > time:
                    high = each
                    break
                low = each
        self._recent.put(name, times, _TIME * len(times))
        near = range(max(0, low - 1), min(high + 1, self._count))  # clocks of several hosts differ a little
        yield from self._load(near)
        return list(near)

    def _keys(self, number: int) -> list[str]:
        return page_keys(self._stored.head.sealed, number, number + 1)

    def _messages(self, numbers: range) -> list[Message]:
        return [each for number in numbers for each in self.read[number]]

    def _load(self, numbers: Iterable[int]) -> Asking[None]:
        """Read the pages that were not read yet, in one round trip."""
        missing = [each for each in numbers if each not in self.read]
        keys = [key for each in missing for key in self._keys(each)]
        if keys:
            self.read |= zip(missing, (yield from reading(self._stored, keys, self._known)), strict=True)


def _began(page: list[Message]) -> int:
    """Return the time of the first message of a page, which its id usually contains."""
    times = (time_of_id(each.message_id) for each in page)
    return next((time for time in times if time is not None), ticks(page[0].timestamp) if page else 0)
