"""Messages → a session that is not in hand: appended in one commit, without its history."""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import suppress

from pyai_sessions.backends.protocol import Backend
from pyai_sessions.checks import belongs
from pyai_sessions.documents import restore
from pyai_sessions.drafts import Draft, appended, compose
from pyai_sessions.errors import InvalidValueError, SessionArchivedError, SessionStateError
from pyai_sessions.heads import SessionStatus, StoredHead
from pyai_sessions.messages import Message
from pyai_sessions.models import Session, history_of
from pyai_sessions.reading import Attempts, head_of, load
from pyai_sessions.terms import Terms
from pyai_sessions.trips import Asking

_LATEST = 1000
"""Heads that are remembered of the latest appends, 8 KiB each or so."""


class Appender:
    """Appends messages to sessions in a backend."""

    def __init__(self, backend: Backend, timeout: float) -> None:
        self._backend = backend
        self._timeout = timeout
        self._latest: OrderedDict[str, StoredHead] = OrderedDict()
        # Ids of the latest messages whose append failed in the storage, which may have stored them all the same.
        self._uncertain: deque[str] = deque(maxlen=1000)

    def append(self, session_id: str, added: list[Message], user_id: str | None, terms: Terms) -> Asking[None]:
        """Make the call `KVSessionStore.append`."""
        ids = [each.message_id for each in added]
        try:
            repeated = bool(self._uncertain) and not set(self._uncertain).isdisjoint(ids)
            yield from self._append(session_id, added, user_id, terms, repeated=repeated)
        except (SessionStateError, InvalidValueError):
            raise
        except BaseException:
            self._uncertain.extend(ids)
            raise

    def _append(
        self, session_id: str, added: list[Message], user_id: str | None, terms: Terms, *, repeated: bool
    ) -> Asking[None]:
        """Append to what this store appended last, unseen; else to what is stored."""
        latest = None if repeated else self._latest.pop(session_id, None)
        if latest is not None and belongs(latest.head.user_id, user_id) and not latest.is_over(terms.clock):
            draft = appended(latest, added, terms) or _grown(restore(latest, [], terms.clock), added, terms)
            if draft and (yield "commit", draft):
                self._remember(draft)
                return
        yield None
        attempts = Attempts(self._backend, session_id, self._timeout)
        for _ in attempts:
            with attempts.exclusive():
                stored = head_of(self._backend, session_id, terms.clock, user_id)
                if stored.head.status is SessionStatus.ARCHIVED:
                    raise SessionArchivedError(session_id)
                session = load(self._backend, stored, terms.clock, wanted=stored.sealed if repeated else 0)
                if session is None:
                    continue
                draft = _grown(session, added, terms)
                if draft is None:
                    return
                done = self._backend.commit(draft)
            if done:
                self._remember(draft)
                return

    def _remember(self, draft: Draft) -> None:
        """Keep the head that was just written, so that the next append need not read it."""
        self._latest[draft.session_id] = draft.stored
        if len(self._latest) > _LATEST:
            with suppress(KeyError):
                self._latest.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """Keep no head of a session."""
        self._latest.pop(session_id, None)


def _grown(session: Session, added: list[Message], terms: Terms) -> Draft | None:
    """Return what stores a session with messages appended; None where it has them all, as far as it is loaded."""
    history = history_of(session)
    known = {each.message_id for each in history.log}
    new = [each for each in added if each.message_id not in known]
    if not new:
        return None
    history.extend(new)
    session.touch()
    return compose(session, terms)
