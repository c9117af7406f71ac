"""Loading sessions: the head, and as many pages as are wanted, read again if a writer was faster."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import NamedTuple, NoReturn, TypeVar, cast

import msgspec

from pyai_sessions.documents.keys import branch_key, head_key, page_keys, page_prefix
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.merge import has_gone_back, merge
from pyai_sessions.documents.reading import UNFIT, read_branch, read_head, read_messages, restore, stamp_of_value
from pyai_sessions.documents.writing import Draft
from pyai_sessions.errors import (
    InvalidDocumentError,
    OversizedDocumentError,
    SessionDeletedError,
    SessionNotFoundError,
    SessionStateError,
)
from pyai_sessions.model.heads import Run, StoredHead
from pyai_sessions.model.history import History, Line, Question
from pyai_sessions.model.session import Session, assign, history_of, values_of
from pyai_sessions.prompts.windows import begins
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.trips import Asking, Read, Trips
from pyai_sessions.values.checks import Clock, belongs
from pyai_sessions.values.messages import Message

T = TypeVar("T")

MISSING = "the page is missing"

_WANTS, _LIKELY = 10_000, 20
"""Sessions whose last load is remembered, and pages of each at most: 2 KB of keys, 20 MB in all."""

TOGETHER = 10_000
"""Pages that are read in one round trip. A forged head can name a million; the first missing one ends the load."""


def owned_head(value: object | None, session_id: str, user_id: str | None) -> StoredHead | None:
    """Return the stored head *value*, or None if there is none, or it belongs to another user (None: any user).

    Every call for a user passes through here, so a session of another user looks as if it did not exist.
    """
    stored = None if value is None else read_head(value, session_id)
    return stored if stored and belongs(stored.head.user_id, user_id) else None


def live_head(value: object | None, session_id: str, user_id: str | None, clock: Clock) -> StoredHead | None:
    """Return the head as `owned_head` does; None if the session has expired."""
    stored = owned_head(value, session_id, user_id)
    return None if stored is None or stored.is_over(clock) else stored


def head_of(backend: Backend, session_id: str, clock: Clock, user_id: str | None = None) -> StoredHead:
    """Return the head of a session; raise SessionNotFoundError if it is missing, expired or another user's."""
    stored = live_head(backend.head(session_id), session_id, user_id, clock)
    if stored is None:
        raise SessionNotFoundError(session_id)
    return stored


def load(
    backend: Backend,
    stored: StoredHead,
    clock: Clock,
    *,
    wanted: int,
    known: Mapping[str, object] | None = None,
    most: int | None = None,
) -> Session | None:
    """Return the result of `loading`, which is run alone."""
    return Trips(backend).alone(loading(stored, clock, wanted=wanted, known=known, most=most))


def load_from(backend: Backend, stored: StoredHead, page: int, clock: Clock) -> Session | None:
    """Return a session with its messages from page number *page* on; None if it was rewritten meanwhile."""
    trips, pages = Trips(backend), list[list[Message]]()
    try:
        for start in range(page, stored.pages, TOGETHER):
            keys = page_keys(stored.head.sealed, start, min(start + TOGETHER, stored.pages))
            pages += trips.alone(reading(stored, keys, {}))
    except RewrittenError:
        return None
    return restore(stored, pages, clock)


def loading(
    stored: StoredHead,
    clock: Clock,
    *,
    wanted: int,
    known: Mapping[str, object] | None = None,
    instructed: bool = False,
    last: int | None = None,
    most: int | None = None,
) -> Asking[Session | None]:
    """Return a session with at least the *wanted* last messages of its pages; None if it was rewritten meanwhile.

    Costs one round trip for the pages that are not *known*; two if they hold fewer messages than pages do on average.
    With *instructed*, the first messages, which instruct the model, are read too: one more, if other pages hold them.

    With *last*, pages are read back to the message that begins the turn of the first of the *last* messages: a window
    of these messages is then the same as for the whole session. Usually that page is read already, since pages are read
    whole; otherwise it costs one more round trip. For the newest 8 long turns the head names the page of the question;
    for others, 1, 2, 4, ... pages are read, up to *most* in all.

    Raises:
        InvalidDocumentError: A document cannot be read, or a page is missing.
        OversizedDocumentError: More pages than *most* would have to be read.

    """
    head, sealed, unread = stored.head, stored.sealed, stored.pages
    pages: list[list[Message]] = []
    leading: list[Message] = []
    loaded = first = 0
    try:
        while loaded < wanted and unread:
            average = max(1, (sealed - loaded) // unread)
            step = unread if wanted >= sealed else min(unread, -(-(wanted - loaded) // average))
            if most is not None and len(pages) + step > most:
                reason = f"{unread} pages of it are more than the {most} that are loaded at once: give a smaller last="
                raise OversizedDocumentError(head_key(head.session_id), head.session_id, None, reason, unread)
            step = min(step, TOGETHER)
            read = yield from reading(stored, page_keys(head.sealed, unread - step, unread), known or {})
            pages = read + pages
            unread -= step
            loaded += sum(map(len, read))
        found = restore(stored, pages, clock)
        if last and not _has_question(found, last):
            found, unread = yield from _reading_back(stored, pages, clock, last=last, known=known or {}, most=most)
        while instructed and unread > first and len(leading) < (head.leading or 0):
            [page] = yield from reading(stored, page_keys(head.sealed, first, first + 1), known or {})
            leading += page
            first += 1
    except RewrittenError:
        return None
    if unread:
        history_of(found).instructions = leading[: head.leading or 0]
    return found


def _reading_back(
    stored: StoredHead,
    pages: list[list[Message]],
    clock: Clock,
    *,
    last: int,
    known: Mapping[str, object],
    most: int | None,
) -> Asking[tuple[Session, int]]:
    """Return a session with the question of the turn where the *last* messages begin, and how many pages are unread."""
    head, step = stored.head, 1
    while True:
        found, unread = restore(stored, pages, clock), stored.pages - len(pages)
        step = min(step, unread, TOGETHER, unread if most is None else most - len(pages))
        if step <= 0 or _has_question(found, last):
            return found, unread
        gap = next((each for each in head.gaps or () if each.page < unread <= each.end), None)
        if gap is not None and not gap.page:
            return found, unread  # no turn begins before the gap
        if gap is not None:
            [page] = yield from reading(stored, page_keys(head.sealed, gap.page - 1, gap.page), known)
            turns = [n for n, each in enumerate(page) if begins(each)]
            if turns:
                place = gap.message - len(page) + turns[-1]
                history_of(found).asked = Question(place, gap.page - 1, page[turns[-1]])
                return found, unread
        pages = (yield from reading(stored, page_keys(head.sealed, unread - step, unread), known)) + pages
        step *= 2


def _has_question(session: Session, last: int) -> bool:
    """Return whether the turn in which the *last* messages begin is loaded from its question on."""
    history = history_of(session)
    summed_up = session.summary.message_count if session.summary else 0
    if history.unloaded <= max(history.leading, summed_up):
        return True
    first = max(0, len(history.log) - last)
    return any(map(begins, reversed(history.log[: first + 1])))


def load_draft(
    backend: Backend, draft: Draft, clock: Clock, *, wanted: int, last: int | None, most: int | None = None
) -> Session:
    """Return the session that `loading` would return after *draft* is stored; only shared pages are read.

    Raises:
        InvalidDocumentError: A page cannot be read, or is missing.

    """
    call = loading(draft.stored, clock, wanted=wanted, known=draft.pages, instructed=True, last=last, most=most)
    head = {head_key(draft.session_id): draft.head}
    try:
        ask = next(call)
        while True:
            ask = call.send((backend.storage.read(ask.keys) if isinstance(ask, Read) else {}) | head)
    except StopIteration as ended:
        return cast("Session", ended.value)


class Loader(NamedTuple):
    """Loads sessions. *home* names the store object, *wants* remembers which pages its loads needed."""

    backend: Backend
    terms: Terms
    wants: Wants
    home: str

    def load(self, session_id: str, user_id: str | None = None, last: int | None = None) -> Asking[Session | None]:
        """Return a session of this user (None: any user), whole or with its *last* messages; None if there is none."""
        clock, most = self.terms.clock, self.terms.limits.pages
        head = head_key(session_id)
        for _ in Attempts(self.backend, session_id):
            found = yield Read([head, *self.wants.keys(session_id, last)])
            stored = live_head(found.get(head), session_id, user_id, clock)
            if stored is None:
                return None
            wanted = wanted_of(stored, last)
            session = yield from loading(
                stored, clock, wanted=wanted, known=found, instructed=True, last=last, most=most
            )
            if session is not None:
                history = history_of(session)
                history.home = self.home
                if last is not None:
                    if len(history.log) > last:
                        history.hide(len(history.log) - last)
                    self.wants.learn(session, last)
                return session
            yield None
        return None

    def complete(self, session: Session) -> Asking[None]:
        """Load the messages that are missing in a session that was loaded in part."""
        history = history_of(session)
        if history.unloaded:
            whole = yield from self.load(session.session_id)
            stored = None if whole is None else history_of(whole)
            if whole is None or stored is None or stored.incarnation != history.incarnation:
                raise SessionDeletedError(session.session_id)
            if history.origin and whole.user_id != history.origin.head.user_id:
                raise SessionStateError(
                    session.session_id, "was given to another user since it was loaded; load it again"
                )
            rewritten = history.origin and stored.origin and history.origin.head.edition != stored.origin.head.edition
            if rewritten or has_gone_back(session, whole):
                merged = merge(session, whole)  # none of the loaded pages is stored any more
                assign(session, values_of(merged), history_of(merged))
            else:
                ends = list(accumulate(stored.page_sizes))
                if history.unloaded not in ends:
                    raise InvalidDocumentError(head_key(session.session_id), session.session_id, None, UNFIT)
                older = stored.log[: history.unloaded]
                history.prepend(older, stored.page_sizes[: ends.index(history.unloaded) + 1])
        history_of(session).hide(0)


def wanted_of(stored: StoredHead, last: int | None) -> int:
    """Return how many messages in pages belong to the *last* ones of a session, or to all (None)."""
    sealed = stored.sealed
    return sealed if last is None else min(sealed, max(0, last - (max(stored.head.message_count, sealed) - sealed)))


class Wants:
    """The pages that the latest loads needed. The next load of a session asks for them together with the head."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, tuple[int, tuple[Run, ...], list[str]]] = OrderedDict()

    def keys(self, session_id: str, last: int | None) -> Sequence[str]:
        """Return the keys of the pages that a load of the *last* messages, or of all (None), probably needs."""
        if last is None:
            return (page_prefix(session_id),)
        known = self._of.get(session_id)
        return known[2] if known and known[0] == last else ()

    def learn(self, session: Session, last: int) -> None:
        """Remember the pages of a load. If others change the session, the next load only takes another round trip."""
        history = history_of(session)
        sealed = history.origin.head.sealed if history.origin else ()
        known = self._of.get(session.session_id)
        if not sealed or (known and known[:2] == (last, sealed)):
            return
        *former, run = sealed
        runs = [*former, msgspec.structs.replace(run, pages=run.pages + 1)]
        keys = page_keys(runs, sum([each.pages for each in sealed]) - len(history.page_sizes))
        if history.asked:
            keys = [*page_keys(runs, history.asked.page, history.asked.page + 1), *keys]
        if history.instructions:
            keys = [*page_keys(runs, 0, 1), *keys]
        if len(keys) > _LIKELY:
            return
        own = page_prefix(session.session_id)
        self._of[session.session_id] = (last, sealed, [each for each in keys if each.startswith(own)])
        if len(self._of) > _WANTS:
            with suppress(KeyError):
                self._of.popitem(last=False)


class RewrittenError(Exception):
    """The session was rewritten while it was read."""


def reading(stored: StoredHead, keys: list[str], known: Mapping[str, object]) -> Asking[list[list[Message]]]:
    """Return the messages of pages that a head names, a list for each page. Those not *known* are read in one trip.

    Raises:
        RewrittenError: Another head is stored by now, or none is.
        InvalidDocumentError: A page cannot be read, or is missing.

    """
    missing = [key for key in keys if key not in known]
    found = (yield Read(missing)) if missing else known
    read: list[list[Message]] = []
    for key in keys:
        value = known[key] if key in known else found.get(key)
        if value is None:
            yield from absent(stored, key)
        read.append(read_messages(value, key, stored.head.session_id))
    return read


def absent(stored: StoredHead, key: str) -> Asking[NoReturn]:
    """Raise the error of a missing page that a head names.

    Raises:
        RewrittenError: Another head is stored by now, or none is.
        InvalidDocumentError: The page is missing.

    """
    session_id = stored.head.session_id
    head = head_key(session_id)
    if stamp_of_value((yield Read([head])).get(head)) != stored.stamp:
        raise RewrittenError
    raise InvalidDocumentError(key, session_id, None, MISSING)


def load_whole(backend: Backend, session_id: str, clock: Clock, value: object | None = None) -> Session | None:
    """Return a session with all messages and branches; None if there is none.

    *value* is its head, if that was read already.

    Raises:
        InvalidDocumentError: A document of the session cannot be read, or is missing.

    """
    for _ in Attempts(backend, session_id):
        value = backend.head(session_id) if value is None else value
        if value is None:
            return None
        stored = read_head(value, session_id)
        value = None
        try:
            session = load(backend, stored, clock, wanted=stored.sealed)
            if session is None:
                continue
            history = history_of(session)
            history.branches = [_whole_branch(backend, session_id, each) for each in history.branches]
        except InvalidDocumentError:
            if stamp_of_value(backend.head(session_id)) != stored.stamp:
                continue  # another writer has replaced the pages
            raise
        return session
    return None


def _whole_branch(backend: Backend, session_id: str, line: Line) -> Line:
    sealed, log = line.stored.sealed, list[Message]()
    first = branch_key(session_id, line.branch_id)
    (document,) = _present(backend, session_id, [first])
    left, values = read_branch(document, first, session_id)
    for start in range(0, sum(run.pages for run in sealed), TOGETHER):
        keys = page_keys(sealed, start, start + TOGETHER)
        for key, value in zip(keys, _present(backend, session_id, keys), strict=True):
            log += read_messages(value, key, session_id)
    return line._replace(left=History(log=[*log, *left.log]), values=values)


def _present(backend: Backend, session_id: str, keys: list[str]) -> list[object]:
    """Return the documents of a session under *keys*; raise if one is missing."""
    found = backend.storage.read(keys) if keys else {}
    for key in keys:
        if key not in found:
            raise InvalidDocumentError(key, session_id, None, MISSING)
    return [found[key] for key in keys]
