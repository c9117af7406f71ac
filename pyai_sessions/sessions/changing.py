"""Messages of a session that is not in hand: replaced, removed, taken back, beside other writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pyai_sessions.documents.changing import changed
from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import restore
from pyai_sessions.documents.writing import Draft, compose
from pyai_sessions.errors import InvalidValueError, SessionArchivedError, SessionStateError
from pyai_sessions.model.conversation import put_message
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.model.points import Branch, Checkpoint
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.joining import join_runs
from pyai_sessions.sessions.loading import RewrittenError, head_of, load, load_from, wanted_of
from pyai_sessions.sessions.scrolling import Pages
from pyai_sessions.sessions.trips import Trips
from pyai_sessions.values.checks import shown
from pyai_sessions.values.messages import Message, is_same
from pyai_sessions.values.recent import Recent

T = TypeVar("T")
M = TypeVar("M", bound=Message | None)

Made = tuple[Draft | None, T]
"""What a commit is to store, None for nothing; and what the call then returns."""

_TURNS = 64
"""Messages that are loaded where so many turns are to be taken back, before all are."""


class Changer(NamedTuple):
    """Changes messages of sessions in a backend. *recent* knows where some of them lie."""

    backend: Backend
    terms: Terms
    recent: Recent[object]

    def replace(
        self, session_id: str, message_id: str, change: Callable[[Message], Message], user_id: str | None = None
    ) -> Message:
        """Put what *change* returns in the place of a message, and return it.

        Costs the head, the page that holds the message, and the way to it (see `Scroller`), and one commit that writes
        this page alone.

        Raises:
            SessionNotFoundError: There is no such session of this user.
            SessionArchivedError: It is archived.
            SessionStateError: It has no such message.

        """
        return self._change(session_id, message_id, change, user_id)[1]

    def remove(self, session_id: str, message_id: str | None, user_id: str | None = None) -> Message:
        """Remove a message, or the last one (None), and return it; in all else as `replace`."""
        return self._change(session_id, message_id, lambda _: None, user_id)[0]

    def _change(
        self, session_id: str, message_id: str | None, change: Callable[[Message], M], user_id: str | None
    ) -> tuple[Message, M]:
        def make(stored: StoredHead) -> Made[tuple[Message, M]] | None:
            pages = Pages(stored, {}, self.recent)
            call = pages.last() if message_id is None else pages.find(message_id)
            try:
                place = Trips(self.backend).alone(call)
            except RewrittenError:
                return None
            if place is None:
                what = "no message" if message_id is None else f"no message {shown(message_id)}"
                raise SessionStateError(session_id, f"has {what}; manager.get_messages(...) shows those that it has")
            page = pages.read[place.page]
            old = page[place.offset]
            new = change(old)
            if new is not None and is_same(old, new):
                return None, (old, new)
            draft = None
            if place.page < stored.pages:
                draft = changed(stored, place, page, new, self.terms)
            if draft is None:
                is_in_head = place.page == stored.pages
                session = restore(stored, [], self.terms.clock) if is_in_head else self._load_all(stored)
                if session is None:
                    return None
                if new is None:
                    session.remove_message(old)
                else:
                    put_message(session, new)
                draft = compose(session, self.terms)
            return draft, (old, new)

        return self._commit(session_id, user_id, make)

    def rewind(
        self, session_id: str, to: str | int | Checkpoint | Message, user_id: str | None = None
    ) -> Branch | None:
        """Take a session back to a point, as `Session.rewind` does; of its pages, those from the point on are read."""

        def make(stored: StoredHead) -> Made[Branch | None] | None:
            for loaded in (self._load_back_to, self._load_all):
                session = loaded(stored, to)
                if session is None:
                    return None
                try:
                    left = session.rewind(to)
                except (SessionStateError, InvalidValueError):
                    if not history_of(session).unloaded:
                        raise
                else:
                    return compose(session, self.terms), left
            return None

        return self._commit(session_id, user_id, make)

    def clear(self, session_id: str, user_id: str | None = None) -> None:
        """Remove all messages of a session; no page is read."""

        def make(stored: StoredHead) -> Made[None]:
            session = restore(stored, [], self.terms.clock)
            session.clear_messages()
            return compose(session, self.terms), None

        self._commit(session_id, user_id, make)

    def _load_back_to(self, stored: StoredHead, to: str | int | Checkpoint | Message) -> Session | None:
        """Return a session with the messages from a point on, as far as it is found; None if it was rewritten."""
        clock = self.terms.clock
        session = restore(stored, [], clock)
        to = to.message_id if isinstance(to, Message) else to
        known = [each.message_count for each in session.checkpoints if to in (each, each.name)]
        if known or isinstance(to, int):
            last = _TURNS if isinstance(to, int) else session.message_count - known[0] + 1
            return load(self.backend, stored, clock, wanted=wanted_of(stored, last))
        if not isinstance(to, str) or history_of(session).find(to) is not None:
            return session
        try:
            place = Trips(self.backend).alone(Pages(stored, {}, self.recent).find(to))
        except RewrittenError:
            return None
        return session if place is None else load_from(self.backend, stored, place.page, clock)

    def _load_all(self, stored: StoredHead, _: object = None) -> Session | None:
        return load(self.backend, stored, self.terms.clock, wanted=stored.sealed)

    def _commit(self, session_id: str, user_id: str | None, make: Callable[[StoredHead], Made[T] | None]) -> T:
        """Store what *make* makes of a head, and return what it says; again, where others were first."""
        tried: tuple[Draft, T] | None = None

        def attempt() -> tuple[T] | None:
            nonlocal tried
            stored = head_of(self.backend, session_id, self.terms.clock, user_id)
            if tried and self.terms.paged and stored.head.edition == tried[0].stored.head.edition:
                return (tried[1],)  # the client lost the reply
            if stored.head.status is SessionStatus.ARCHIVED:
                raise SessionArchivedError(session_id)
            made = make(stored)
            if made is None:
                return None
            draft, result = made
            if draft is None:
                return (result,)
            tried = (draft, result) if draft.stored.head.edition == draft.stored.head.revision else None
            if not self.backend.commit(draft):
                return None
            forks.free_shared(self.backend, stored, draft)
            join_runs(self.backend, draft.stored)
            return (result,)

        (result,) = until_done(self.backend, session_id, attempt)
        self.recent.pop(("head", session_id))
        return result
