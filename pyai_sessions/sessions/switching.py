"""Sessions that go on from a branch, which a rewind left, or as a fork, under another id."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from pyai_sessions.documents.keys import branch_key
from pyai_sessions.documents.reading import read_branch, restore, restore_branch, stamp_of_value
from pyai_sessions.documents.writing import Draft, compose
from pyai_sessions.errors import (
    InvalidDocumentError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
)
from pyai_sessions.model.branches import line_of
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.forking import At, forked
from pyai_sessions.sessions.loading import MISSING, Attempts, Loader, head_of, load_draft, wanted_of
from pyai_sessions.values.json import plain_object
from pyai_sessions.values.patches import Patch


class Switcher(NamedTuple):
    """Lets sessions go on from another point of a conversation.

    *switched* are the latest switches: the session, the branch, the stamp of what was to be stored. A call that raised
    may have stored its switch: repeated, it would find no such branch.
    """

    loader: Loader
    switched: deque[tuple[str, str, str]]

    def switch(self, session_id: str, branch_id: str, user_id: str | None) -> None:
        """Let a session go on from a branch; see `SessionManager.switch`.

        Of a session that was forked it costs more with the number of forks: the references of all are read.
        """
        backend, terms = self.loader.backend, self.loader.terms
        attempts = Attempts(backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                stored = head_of(backend, session_id, terms.clock, user_id)
                if stored.head.status is SessionStatus.ARCHIVED:
                    raise SessionArchivedError(session_id)
                if (session_id, branch_id, stored.stamp) in self.switched:
                    return  # by a call that failed since: its reply was lost, or the session could not be loaded
                switched = self._switched(stored, branch_id)
                if switched is None:
                    continue
                draft = compose(switched, terms)
                self.switched.append((session_id, branch_id, draft.stamp))
                done = backend.commit(draft)
                if done:
                    forks.free_shared(backend, history_of(switched).origin, draft)
            if done:
                return

    def _switched(self, stored: StoredHead, branch_id: str) -> Session | None:
        """Return a session as it goes on from a branch; None where it was rewritten meanwhile."""
        backend, clock, session_id = self.loader.backend, self.loader.terms.clock, stored.head.session_id
        line_of(history_of(restore(stored, [], clock)), branch_id, session_id)
        key = branch_key(session_id, branch_id)
        value = backend.storage.read([key]).get(key)
        if value is None:
            if stamp_of_value(backend.head(session_id)) != stored.stamp:
                return None
            raise InvalidDocumentError(key, session_id, None, MISSING)
        return restore_branch(stored, branch_id, read_branch(value, key, session_id), clock)

    def fork(
        self,
        session_id: str,
        at: At,
        *,
        new_id: str,
        user_id: str | None,
        changes: Mapping[str, Patch],
        owned_by: str | None,
        last: int | None,
    ) -> Session:
        """Store a session that goes on from a point of another, and return it; see `SessionManager.fork`.

        Costs five trips, or a read and a transaction, whatever the conversation's length; one trip more for each
        session but the first whose pages it shares, and the way to the point.
        """
        backend, terms = self.loader.backend, self.loader.terms
        attempts = Attempts(backend, session_id)
        for _ in attempts:
            stored = head_of(backend, session_id, terms.clock, owned_by)
            try:
                session = forked(backend, stored, at, session_id=new_id, user_id=user_id, clock=terms.clock)
                for name, patch in changes.items():
                    if not patch.is_empty:
                        setattr(session, name, patch.of(plain_object(getattr(session, name), name)))
                draft = compose(session, terms)
                fork = self._as_loaded(draft, last)
            except InvalidDocumentError:
                if stamp_of_value(backend.head(session_id)) != stored.stamp:
                    continue  # rewritten meanwhile: its pages are others
                raise
            try:
                with attempts.exclusive():
                    done = forks.store(backend, draft, history_of(session).line or (), stored)
            except SessionExistsError:
                if not forks.purge(backend, new_id, backend.head(new_id), terms.clock):
                    raise
                continue
            if done:
                return fork
        raise SessionNotFoundError(session_id)

    def _as_loaded(self, draft: Draft, last: int | None) -> Session:
        """Return a fork as it can be loaded once its draft is stored: one that cannot be is not stored at all."""
        wanted, terms = wanted_of(draft.stored, last), self.loader.terms
        fork = load_draft(self.loader.backend, draft, terms.clock, wanted=wanted, last=last, most=terms.limits.pages)
        if last is not None:
            history_of(fork).hide(max(0, len(history_of(fork).log) - last))
        return fork
