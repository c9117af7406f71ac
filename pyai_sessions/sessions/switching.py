"""Branches of a session: switching to one, reading one; and forks: new sessions that begin with its first messages."""

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
from pyai_sessions.sessions.attempts import Attempts, until_done
from pyai_sessions.sessions.forking import At, forked
from pyai_sessions.sessions.loading import MISSING, Loader, head_of, load_draft, wanted_of
from pyai_sessions.sessions.removing import purge
from pyai_sessions.values.json import plain_object
from pyai_sessions.values.messages import Message
from pyai_sessions.values.patches import Patch


class Switcher(NamedTuple):
    """Switches sessions to branches, and forks sessions.

    *switched* holds the latest switches: the session, the branch, and the stamp of the head to store. If a call raised
    after its switch was stored, the repeated call finds that here: the branch is gone by then.
    """

    loader: Loader
    switched: deque[tuple[str, str, str]]

    def switch(self, session_id: str, branch_id: str, user_id: str | None) -> None:
        """Continue a session from one of its branches; see `SessionManager.switch`.

        If the session was forked, the references of all its forks are read.
        """
        backend, terms = self.loader.backend, self.loader.terms

        def attempt() -> bool | None:
            stored = head_of(backend, session_id, terms.clock, user_id)
            if stored.head.status is SessionStatus.ARCHIVED:
                raise SessionArchivedError(session_id)
            if (session_id, branch_id, stored.stamp) in self.switched:
                return True  # an earlier call stored this and then failed: its reply was lost, or its load failed
            switched = self._switched(stored, branch_id)
            if switched is None:
                return None
            draft = compose(switched, terms)
            self.switched.append((session_id, branch_id, draft.stamp))
            if not backend.commit(draft):
                return None
            forks.free_shared(backend, history_of(switched).origin, draft)
            return True

        until_done(backend, session_id, attempt)

    def look(self, session_id: str, branch_id: str, user_id: str | None) -> list[Message]:
        """Return the messages of a branch; see `SessionManager.get_branch`."""
        backend, terms = self.loader.backend, self.loader.terms
        for _ in Attempts(backend, session_id):
            stored = head_of(backend, session_id, terms.clock, user_id)
            switched = self._switched(stored, branch_id)
            if switched is None:
                continue
            try:
                return list(self._as_loaded(compose(switched, terms), None).messages)
            except InvalidDocumentError:
                if stamp_of_value(backend.head(session_id)) == stored.stamp:
                    raise  # else another writer has replaced the pages
        raise SessionNotFoundError(session_id)

    def _switched(self, stored: StoredHead, branch_id: str) -> Session | None:
        """Return a session that continues from a branch; None if another writer changed the session meanwhile."""
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
        """Store a new session that begins with the messages of another up to a point, and return it.

        See `SessionManager.fork`. Costs five round trips, or one read and one transaction, whatever the conversation's
        length; one more for each further session whose pages it shares; and the reads that find the point.
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
                    continue  # another writer has replaced the pages
                raise
            try:
                with attempts.exclusive():
                    done = forks.store(backend, draft, history_of(session).line or (), stored)
            except SessionExistsError:
                if not purge(backend, new_id, backend.head(new_id), terms.clock):
                    raise
                continue
            if done:
                return fork
        raise SessionNotFoundError(session_id)

    def _as_loaded(self, draft: Draft, last: int | None) -> Session:
        """Return a fork as it will be loaded. Raises if that is impossible, before the fork is stored."""
        wanted, terms = wanted_of(draft.stored, last), self.loader.terms
        fork = load_draft(self.loader.backend, draft, terms.clock, wanted=wanted, last=last, most=terms.limits.pages)
        if last is not None:
            history_of(fork).hide(max(0, len(history_of(fork).log) - last))
        return fork
