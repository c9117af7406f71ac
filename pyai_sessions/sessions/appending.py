"""Messages → a session that is not in hand: appended in one commit, without its history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import restore
from pyai_sessions.documents.writing import Draft, appended, compose
from pyai_sessions.errors import SessionArchivedError
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import Attempts, RewrittenError, head_of
from pyai_sessions.sessions.sought import find_stored
from pyai_sessions.sessions.trips import Asking, Trips, Write
from pyai_sessions.values.checks import belongs
from pyai_sessions.values.messages import Message, same_words, take_drawn, taken
from pyai_sessions.values.recent import Recent


class Appender(NamedTuple):
    """Appends messages to sessions in a backend. *recent* has the heads of the latest appends, and ids of pages.

    A message whose id was drawn for it is stored unseen. One whose id the caller chose, or that may have been stored
    before, is sought first: in the newest messages, which an append has anyway, and in the pages. So a call that is
    repeated, after a lost reply or by a webhook, stores nothing twice, however long ago the first was.
    """

    backend: Backend
    recent: Recent[object]

    def append(self, session_id: str, added: list[Message], user_id: str | None, terms: Terms) -> Asking[None]:
        """Append to what this store appended last, unseen; else to what is stored."""
        chosen = [each for each in added if not take_drawn(each)]
        tried: StoredHead | None = None
        latest = self.recent.pop(("head", session_id))
        if (
            isinstance(latest, StoredHead)
            and belongs(latest.head.user_id, user_id)
            and not latest.is_over(terms.clock)
            and not (yield from self._stored(latest, chosen))
        ):
            draft = appended(latest, added, chosen, terms) or _unseen(latest, added, terms)
            if draft and (yield Write(draft)):
                self._remember(draft)
                return
            tried = latest
        yield None
        attempts = Attempts(self.backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                stored = head_of(self.backend, session_id, terms.clock, user_id)
                if stored.head.status is SessionStatus.ARCHIVED:
                    raise SessionArchivedError(session_id)
                # A client that lost the reply sends a commit again, and is told that the session was changed: by that
                # commit itself, perhaps, and others may have put its messages into pages since.
                known = added if tried and not _has_the_pages_of(stored, tried) else chosen
                found = Trips(self.backend).alone(self._stored(stored, known))
                if found is None:
                    continue
                draft = _grown(restore(stored, [], terms.clock), added, found, terms)
                if draft is None:
                    return
                done = self.backend.commit(draft)
            if done:
                self._remember(draft)
                return
            tried = tried or stored

    def _stored(self, stored: StoredHead, chosen: list[Message]) -> Asking[list[Message] | None]:
        """Return the messages in the pages of a head that have ids of *chosen*; None: the session was rewritten."""
        if not chosen or not stored.head.sealed:
            return []
        try:
            return (yield from find_stored(self.recent, stored, [each.message_id for each in chosen]))
        except RewrittenError:
            return None

    def _remember(self, draft: Draft) -> None:
        """Keep the head that was just written, so that the next append need not read it."""
        self.recent.put(("head", draft.session_id), draft.stored, len(draft.head))


def _has_the_pages_of(stored: StoredHead, other: StoredHead) -> bool:
    return (stored.head.edition, stored.pages) == (other.head.edition, other.pages)


def _unseen(latest: StoredHead, added: list[Message], terms: Terms) -> Draft | None:
    """Return what stores messages after those of a head that may be stale; None where it has the id of one of them."""
    session = restore(latest, [], terms.clock)
    known = {each.message_id for each in history_of(session).log}
    return _grown(session, added, (), terms) if known.isdisjoint(each.message_id for each in added) else None


def _grown(session: Session, added: list[Message], older: Iterable[Message], terms: Terms) -> Draft | None:
    """Return what stores a session with messages appended; None where it has them all, as far as it is loaded.

    *older* are messages of it that are not loaded, and may be among those that are appended.

    Raises:
        InvalidValueError: Another message has the id of one of them.

    """
    history = history_of(session)
    known = {each.message_id: each for each in (*older, *history.log)}
    new: list[Message] = []
    for each in added:
        stored = known.get(each.message_id)
        if stored is None:
            new.append(each)
        elif not same_words(stored, each):
            raise taken(each.message_id)
    if not new:
        return None
    history.grow(new)
    session.touch()
    return compose(session, terms)
