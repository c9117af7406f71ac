"""Changing a session without loading it, in one commit: messages are appended, metadata and state merged by key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.reading import restore
from pyai_sessions.documents.writing import Draft, appended, compose
from pyai_sessions.errors import (
    SessionArchivedError,
    SessionConflictError,
    SessionExistsError,
    SessionNotFoundError,
)
from pyai_sessions.model.heads import Head, SessionStatus, StoredHead
from pyai_sessions.model.session import Session, history_of
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.loading import RewrittenError, owned_head
from pyai_sessions.sessions.removing import purge
from pyai_sessions.sessions.shared_state import Unchanged
from pyai_sessions.sessions.sought import find_stored
from pyai_sessions.sessions.trips import Asking, Trips, Write
from pyai_sessions.values.checks import belongs
from pyai_sessions.values.joined import is_same
from pyai_sessions.values.json import read, write
from pyai_sessions.values.messages import Message, same_words, take_drawn, taken
from pyai_sessions.values.patches import UNCHANGED, Patch
from pyai_sessions.values.recent import Recent


class Update(NamedTuple):
    """What a call changes of a session.

    Attributes:
        messages: What is appended.
        metadata: What changes in the metadata.
        state: What changes in the state.
        new: The session that is stored, messages included, where there is none; None: that is an error.
        if_revision: The revision that must be stored.
        title: The new title; None: no title of its own.

    """

    messages: list[Message]
    metadata: Patch = UNCHANGED
    state: Patch = UNCHANGED
    new: Session | None = None
    if_revision: str | None = None
    title: str | Unchanged | None = Unchanged.UNCHANGED


class Updater(NamedTuple):
    """Changes sessions. *recent* remembers the heads of the latest changes, and the ids in pages.

    A message with a random id that was drawn for it is stored without a search. If the caller chose the id, or the
    message may have been stored before, it is looked for first: in the newest messages, which an append reads anyway,
    and in the pages. So repeating a call, after a lost reply or by a webhook, stores nothing twice, however late.
    """

    backend: Backend
    recent: Recent[object]

    def update(self, session_id: str, update: Update, user_id: str | None, terms: Terms) -> Asking[str]:
        """Change a session and return its new revision. If this store wrote its head last, it is not read first."""
        chosen = [each for each in update.messages if not take_drawn(each)]
        tried: Draft | None = None
        latest = self.recent.pop(("head", session_id))
        if (
            isinstance(latest, StoredHead)
            and belongs(latest.head.user_id, user_id)
            and not latest.is_over(terms.clock)
            and update.if_revision in (None, latest.head.revision)
            and not (yield from self._stored(latest, chosen))
        ):
            tried = _unseen(latest, update, chosen, terms)
            if tried and (yield Write(tried)):
                return self._remember(tried)
        yield None
        attempts = Attempts(self.backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                stored = self._head(session_id, update, user_id, terms)
                draft: Draft | None
                if isinstance(stored, Session):
                    draft = compose(stored, terms)
                elif tried and stored.stamp == tried.stamp:
                    return self._remember(tried)  # the client lost the reply
                else:
                    _check(stored, update)
                    # If a reply was lost, others may have moved the messages of that commit into pages since.
                    known = update.messages if tried and not _has_the_pages_of(stored, tried.before) else chosen
                    found = Trips(self.backend).alone(self._stored(stored, known))
                    if found is None:
                        continue
                    draft = _changed(stored, update, found, terms)
                    if draft is None:
                        return stored.head.revision
                done = self.backend.commit(draft)
            if done:
                return self._remember(draft)
            tried = tried or draft
        raise SessionNotFoundError(session_id)

    def _head(self, session_id: str, update: Update, user_id: str | None, terms: Terms) -> StoredHead | Session:
        """Return the stored head, or the session to create.

        Raises:
            SessionNotFoundError: There is no session, and none is to be created, or one is expected.
            SessionExistsError: A session is to be created, and another user has one of that id.

        """
        value = self.backend.head(session_id)
        stored = owned_head(value, session_id, user_id)
        if stored is not None and not stored.is_over(terms.clock):
            return stored
        if update.new is None or update.if_revision:
            raise SessionNotFoundError(session_id)
        if value is not None and not purge(self.backend, session_id, value, terms.clock):
            raise SessionExistsError(session_id)
        return update.new

    def _stored(self, stored: StoredHead, chosen: list[Message]) -> Asking[list[Message] | None]:
        """Return the messages in the pages of a head with ids of *chosen*; None if the session was rewritten."""
        if not chosen or not stored.head.sealed:
            return []
        try:
            return (yield from find_stored(self.recent, stored, [each.message_id for each in chosen]))
        except RewrittenError:
            return None

    def _remember(self, draft: Draft) -> str:
        """Keep the head that was just written, so that the next change need not read it; return its revision."""
        self.recent.put(("head", draft.session_id), draft.stored, len(draft.head))
        return draft.stored.head.revision


def check_revision(stored: StoredHead, if_revision: str | None) -> None:
    """Raise unless a session has the revision that the caller expects; None expects nothing."""
    if if_revision is not None and if_revision != stored.head.revision:
        problem = "was changed by another writer"
        raise SessionConflictError(stored.head.session_id, if_revision, stored.head.revision, problem)


def _check(stored: StoredHead, update: Update) -> None:
    """Raise where a stored session must not be changed."""
    if update.if_revision == "":
        raise SessionExistsError(stored.head.session_id)
    check_revision(stored, update.if_revision)
    if stored.head.status is SessionStatus.ARCHIVED:
        raise SessionArchivedError(stored.head.session_id)


def _has_the_pages_of(stored: StoredHead, other: StoredHead | None) -> bool:
    return other is not None and (stored.head.edition, stored.pages) == (other.head.edition, other.pages)


def _unseen(latest: StoredHead, update: Update, chosen: list[Message], terms: Terms) -> Draft | None:
    """Return the draft that changes a session whose head may be stale; None if that has a message of one of the ids."""
    changes = _changes(latest.head, update)
    if latest.head.status is SessionStatus.ARCHIVED or not (update.messages or changes):
        return None  # it has to be read
    fields: dict[str, Any] = {}
    for name, value in changes.items():
        if name == "title":
            fields[name] = UNSET if value is None else value
            continue
        fields[name] = msgspec.Raw(write(value))
        terms.limits.check_size(len(memoryview(fields[name])), name, "state_bytes")
        terms.limits.check_depth(value, name)
    draft = appended(latest, update.messages, chosen, terms, **fields)
    if draft is not None:
        return draft
    session = restore(latest, [], terms.clock)
    known = {each.message_id for each in history_of(session).log}
    if known.isdisjoint(each.message_id for each in update.messages):
        return _changed(latest, update, (), terms)
    return None


def _changes(head: Head, update: Update) -> dict[str, Any]:
    """Return the fields of a session that an update changes, with their new values."""
    changes: dict[str, Any] = {}
    for name, patch in (("metadata", update.metadata), ("state", update.state)):
        if not patch.is_empty:
            old = read(bytes(getattr(head, name)))
            new = patch.of(old)
            if not is_same(new, old):
                changes[name] = new
    if not isinstance(update.title, Unchanged) and update.title != (head.title or None):
        changes["title"] = update.title
    return changes


def _changed(stored: StoredHead, update: Update, older: Iterable[Message], terms: Terms) -> Draft | None:
    """Return the draft that stores a session with an update; None if the session has all of it already.

    *older* are messages in its pages that may be among the appended ones.

    Raises:
        InvalidValueError: Another message has the id of an appended one.

    """
    session = restore(stored, [], terms.clock)
    history = history_of(session)
    known = {each.message_id: each for each in (*older, *history.log)}
    new: list[Message] = []
    for each in update.messages:
        there = known.get(each.message_id)
        if there is None:
            new.append(each)
        elif not same_words(there, each):
            raise taken(each.message_id)
    changes = _changes(stored.head, update)
    if not new and not changes:
        return None
    history.grow(new)
    for name, value in changes.items():
        setattr(session, name, value)
    session.touch()
    return compose(session, terms)
