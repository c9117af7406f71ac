"""Saving a session: the commit, and what follows if the copy is stale or a reply was lost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from pyai_sessions.documents.limits import Terms
from pyai_sessions.documents.merge import first_needed, has_gone_back, merge
from pyai_sessions.documents.reading import origin_of, read_head, restore, write_messages
from pyai_sessions.documents.unpaged import edition_of
from pyai_sessions.documents.writing import Draft, compose
from pyai_sessions.errors import (
    InvalidValueError,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionStateError,
)
from pyai_sessions.events import note
from pyai_sessions.model.branches import common
from pyai_sessions.model.conversation import later
from pyai_sessions.model.heads import SessionStatus, StoredHead
from pyai_sessions.model.history import Attempt, History
from pyai_sessions.model.session import Session, assign, history_of, session_of, values_of
from pyai_sessions.model.session_store import OnConflict
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.attempts import Attempts
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.joining import has_many_runs, join_runs
from pyai_sessions.sessions.loading import RewrittenError, head_of, load, load_from
from pyai_sessions.sessions.removing import purge
from pyai_sessions.sessions.sought import find_stored
from pyai_sessions.sessions.trips import Asking, Write
from pyai_sessions.values.json import read
from pyai_sessions.values.recent import Recent
from pyai_sessions.values.tokens import new_token

_ATTEMPTS = 8
"""Saves that may or may not have been applied that a session remembers."""


class Saver(NamedTuple):
    """Saves sessions."""

    backend: Backend
    terms: Terms
    recent: Recent[object]
    home: str

    def save(self, session: Session, on_conflict: OnConflict) -> Asking[None]:
        """Save a session; see `SessionManager.save`."""
        origin = history_of(session).origin
        if origin:
            yield from self._check(session, origin)
        attempt = self._attempt(session)
        if self._is_over(origin) or _is_of_json(session):
            done = False
        elif forks.may_leave_shared(origin, attempt.draft):
            yield None
            with self.backend.storage.exclusive():  # if the storage can: no reader misses pages that are removed now
                done = self.backend.commit(attempt.draft)
                if done:
                    forks.free_shared(self.backend, origin, attempt.draft)
        else:
            done = yield Write(attempt.draft)
        if done:
            mark_saved(session, attempt.draft)
            history_of(session).home = self.home
            if has_many_runs(attempt.draft.stored):
                yield None
                self._join(session, attempt.draft)
            return
        _forget(session, attempt)
        yield None
        attempts = Attempts(self.backend, session.session_id)
        for _ in attempts:
            with attempts.exclusive():
                saved = self._save_again(session, on_conflict)
            if saved:  # only now: leaving the block commits
                merged, draft = saved
                if merged is not session:
                    note("merged", session_id=session.session_id)
                    assign(session, values_of(merged), history_of(merged))
                mark_saved(session, draft)
                history_of(session).home = self.home
                self._join(session, draft)
                return

    def _join(self, session: Session, draft: Draft) -> None:
        """Join the runs of a saved session if they are many. The copy in hand is then one of the new head."""
        joined = join_runs(self.backend, draft.stored)
        if joined is not None:
            history_of(session).origin = origin_of(joined)

    def _check(self, session: Session, origin: StoredHead) -> Asking[None]:
        """Raise if a copy cannot be saved; remove new messages that are stored in pages that it has not loaded."""
        check_same_id(session, origin)
        if origin.head.status is SessionStatus.ARCHIVED:
            yield None
            self._check_active(session)
        history = history_of(session)
        if history.unsought:
            unloaded = origin.pages - len(history.page_sizes)
            with suppress(RewrittenError):  # then the commit fails, and the merge reads all messages
                found = yield from find_stored(self.recent, origin, history.unsought, unloaded)
                history.found(found)

    def _save_again(self, session: Session, on_conflict: OnConflict) -> tuple[Session, Draft] | None:
        """Store a stale copy, and return what was stored; None if another writer was faster again."""
        history = history_of(session)
        value = self.backend.head(session.session_id)
        stored = None if value is None else read_head(value, session.session_id)
        if stored is None or stored.is_over(self.terms.clock):
            if history.origin or _is_of_json(session):
                raise self._gone(session, history.origin, stored)
            if stored is not None:
                purge(self.backend, session.session_id, value, self.terms.clock)
            return self._commit_as(session)  # or created and deleted by others since the save began
        applied = next((each for each in history.attempts if each.draft.stamp == stored.stamp), None)
        if applied:  # though its reply was lost
            return self._save_after(session, applied)
        if stored.head.incarnation != history.incarnation:
            if history.origin:
                raise self._gone(session, history.origin, stored)
            return self._save_unloaded(session, stored, on_conflict)
        if on_conflict == "error" and not _is_unchanged(session, stored):
            problem = "was saved by another writer"
            raise SessionConflictError(session.session_id, session.revision, stored.head.revision, problem)
        if on_conflict == "overwrite":
            return self._commit_as(self._replacing(session, stored))
        return self._save_merged(session, stored)

    def _save_merged(self, session: Session, stored: StoredHead) -> tuple[Session, Draft] | None:
        """Store a stale copy, merged with what other writers have stored."""
        first = first_needed(session, stored)
        theirs = load_from(self.backend, stored, first, self.terms.clock)
        if first and theirs is not None and has_gone_back(session, theirs):
            theirs = load(self.backend, stored, self.terms.clock, wanted=stored.sealed)
        if theirs is not None and not self.terms.paged:
            _keep_edition(session, theirs)
        if theirs is None or self._is_told_of(session, theirs):
            return None
        return self._commit_as(merge(session, theirs), session)

    def _gone(self, session: Session, origin: StoredHead | None, stored: StoredHead | None) -> SessionDeletedError:
        """Return the error that says why the session of a copy does not exist any more."""
        for each in (origin, stored):
            if each and each.expires_at and each.is_over(self.terms.clock):
                problem = f"expired at {each.expires_at:%Y-%m-%d %H:%M:%S} UTC, by the ttl of its store"
                return SessionDeletedError(session.session_id, problem)
        if _is_of_json(session):
            problem = "was made from JSON of a session that is not in this store: it was deleted, or is another store's"
            return SessionDeletedError(session.session_id, problem)
        if history_of(session).home != self.home:
            return not_in_this_store(session.session_id, another=stored is not None)
        if stored:
            problem = "was deleted after this copy was loaded, and another one was created under its id"
            return SessionDeletedError(session.session_id, problem)
        return SessionDeletedError(session.session_id)

    def _save_unloaded(
        self, session: Session, stored: StoredHead, on_conflict: OnConflict
    ) -> tuple[Session, Draft] | None:
        """Store a session that was not loaded, but constructed or made from JSON, if its id is taken.

        If it was made from JSON of the revision that is stored now, it is saved as if it had been loaded.
        """
        history = history_of(session)
        if on_conflict == "overwrite" and history.revision != stored.head.revision:
            return self._commit_as(self._replacing(session, stored))
        if history.revision is None:
            raise SessionExistsError(session.session_id)
        if history.revision != stored.head.revision:
            problem = "was saved by another writer since this copy was made JSON"
            raise SessionConflictError(session.session_id, history.revision, stored.head.revision, problem)
        if stored.head.status is SessionStatus.ARCHIVED:
            raise SessionArchivedError(session.session_id)
        loaded = load(self.backend, stored, self.terms.clock, wanted=stored.sealed)
        if loaded is None:
            return None
        their = history_of(loaded)
        kept = common(their.log, history.log)
        history.origin, history.page_sizes, history.incarnation = their.origin, their.page_sizes, their.incarnation
        history.reordered = kept < len(their.log)
        history.rewritten_from = kept if history.reordered else None
        known = {each.branch_id for each in their.branches}
        history.branches = [*their.branches, *(each for each in history.branches if each.branch_id not in known)]
        return self._commit_as(session)

    def _is_told_of(self, session: Session, theirs: Session) -> bool:
        """Find out whether an earlier save of a copy was stored before other writers; if so, update the copy.

        Only additions to the state need that: everything else can be merged twice. The caller then merges again.

        Raises:
            SessionConflictError: It cannot be known, so the additions might be stored twice.

        """
        history, their = history_of(session), history_of(theirs)
        base, unsure = history.origin, False
        before: dict[str, Any] = read(bytes(base.head.state)) if base else {}
        rewritten = base is None or their.origin is None or base.head.edition != their.origin.head.edition
        for each in reversed(history.attempts) if history.added_to else ():
            then = each.base or each.draft.stored
            state: dict[str, Any] = read(bytes(then.head.state))
            if all(state.get(key) == before.get(key) for key in history.added_to):
                continue
            grown = then.head.message_count > (base.head.message_count if base else 0)
            stored = grown and then.last_message is not None and their.find(then.last_message.message_id) is not None
            if stored or (base is None and len(history.attempts) == 1):  # nobody else can have created it
                self._adopt_attempt(session, each)
                return True
            unsure = unsure or rewritten or not grown
        if unsure:
            problem = "may have what you added to its state: a save of it failed, others have saved it since"
            stored_revision = their.origin.head.revision if their.origin else None
            raise SessionConflictError(session.session_id, session.revision, stored_revision, problem)
        return False

    def _save_after(self, session: Session, applied: Attempt) -> tuple[Session, Draft] | None:
        """Store the changes since an earlier attempt, which turned out to be stored."""
        self._adopt_attempt(session, applied)
        if applied.merged is None:
            return self._commit_as(session)
        return self._commit_as(merge(session, applied.merged), session)

    def _adopt_attempt(self, session: Session, applied: Attempt) -> None:
        """Update a copy after an attempt to save it turned out to be stored."""
        if applied.merged is None:
            mark_saved(session, applied.draft, applied)
            return
        history = history_of(session)
        mark_saved(applied.merged, applied.draft)
        _mark_changes(history, applied)
        history.origin = applied.base
        history.attempts.clear()

    def _replacing(self, session: Session, stored: StoredHead) -> Session:
        """Return a copy of *session* whose commit replaces everything that is stored."""
        if stored.head.status is SessionStatus.ARCHIVED:
            raise SessionArchivedError(session.session_id)
        history = history_of(session)
        if history.unloaded:
            raise SessionStateError(session.session_id, "is loaded only in part, and cannot replace what is stored")
        origin = history_of(restore(stored, [], self.terms.clock)).origin
        values = values_of(session) | {"updated_at": later(session.updated_at, stored.head.updated_at)}
        there = {each.branch_id for each in stored.head.branches or ()}
        branches = [each for each in history.branches if each.left or each.branch_id in there]
        new = replace(history, origin=origin, page_sizes=[], rewritten_from=0, branches=branches, line=None)
        new.incarnation = stored.head.incarnation
        return session_of(values, new)

    def _commit_as(self, session: Session, copy: Session | None = None) -> tuple[Session, Draft] | None:
        draft = self._commit(session, copy)
        return (session, draft) if draft else None

    def _commit(self, session: Session, copy: Session | None = None) -> Draft | None:
        """Store a session if the stored one has not changed since the load; return what was stored, or None.

        *copy* is the user's object, if *session* is the result of merging it.
        """
        attempt = self._attempt(session, copy)
        if self.backend.commit(attempt.draft):
            draft: Draft = attempt.draft
            forks.free_shared(self.backend, history_of(session).origin, draft)
            return draft
        _forget(session if copy is None else copy, attempt)
        return None

    def _attempt(self, session: Session, copy: Session | None = None) -> Attempt:
        """Return what a commit will store, and remember it in the user's object: a commit that fails may be applied.

        *copy* is the user's object, if *session* is the result of merging it.
        """
        history, draft = history_of(session), compose(session, self.terms)
        if copy is None:
            attempts, attempt = history.attempts, Attempt(draft, history.rewrites, history.changes())
        else:
            # If it is merged again, the copy is one side and this is the other, with an edition of its own.
            base = compose(copy, self.backend.kept).stored.rewritten(new_token(6))
            attempts, changes = history_of(copy).attempts, history_of(copy).changes()
            attempt = Attempt(draft, history_of(copy).rewrites, changes, session, base)
        attempts.append(attempt)
        del attempts[:-_ATTEMPTS]
        return attempt

    def _check_active(self, session: Session) -> None:
        """Raise unless the session, which was archived when it was loaded, has been restored since."""
        try:
            stored = head_of(self.backend, session.session_id, self.terms.clock)
        except SessionNotFoundError as err:
            raise SessionDeletedError(session.session_id) from err
        if stored.head.status is SessionStatus.ARCHIVED:
            raise SessionArchivedError(session.session_id)

    def _is_over(self, origin: StoredHead | None) -> bool:
        """Return whether a session has expired by the time that it had at the load."""
        return origin is not None and origin.is_over(self.terms.clock)


def _is_of_json(session: Session) -> bool:
    """Return whether a session was made from JSON of one that was stored, and was not saved since."""
    history = history_of(session)
    return history.origin is None and history.revision is not None


def _forget(session: Session, attempt: Attempt) -> None:
    """Forget an attempt that was not applied."""
    with suppress(ValueError):  # a signal handler has saved the session meanwhile
        history_of(session).attempts.remove(attempt)


def _keep_edition(session: Session, theirs: Session) -> None:
    """Give *theirs*, which has no pages, the edition of a copy if it only appends to that."""
    base, their = history_of(session).origin, history_of(theirs)
    if base and their.origin and edition_of(write_messages(their.log[: base.head.message_count])) == base.head.edition:
        their.origin = their.origin.rewritten(base.head.edition)


def _is_unchanged(session: Session, stored: StoredHead) -> bool:
    """Return whether the stored session has not changed since the load: the commit failed because of another's turn."""
    origin = history_of(session).origin
    return origin is not None and origin.stamp == stored.stamp


def not_in_this_store(session_id: str, *, another: bool = False) -> SessionDeletedError:
    """Return the error of a copy from another store; *another*: this store has a different session of that id."""
    what = "of this copy is another than this store has" if another else "is not in this store"
    problem = f"{what}: the copy was loaded through another store; if both keep the same sessions, it was deleted"
    return SessionDeletedError(session_id, problem)


def check_same_id(session: Session, origin: StoredHead) -> None:
    """Raise if the id of a session was changed since it was loaded: it would be stored as another session."""
    old = origin.head.session_id
    if session.session_id != old:
        problem = (
            f"was changed from {old!r} to {session.session_id!r}; a stored session keeps its id: "
            f"manager.fork({old!r}, new_id=...) stores a copy under another"
        )
        raise InvalidValueError("session_id", problem)


def _mark_changes(history: History, applied: Attempt | None) -> None:
    """Let a history know that its changes of stored messages are stored: all, or those of an earlier attempt."""
    if applied is None or applied.rewrites == history.rewrites:
        history.is_saved()
    else:
        history.was_saved(applied.edits)


def mark_saved(session: Session, draft: Draft, applied: Attempt | None = None) -> None:
    """Let a session know that a draft of it is stored; *applied* is the attempt to, where that was an earlier one."""
    history = history_of(session)
    branches = history.branches
    if branches:
        lines = {each.branch_id: each for each in draft.branches}
        branches = [lines.get(each.branch_id, each) for each in branches]
    # The origin last, then the attempts: if an exception from outside comes in between, the next save finds that what
    # is stored is none of what it expects, but one of the attempts, and comes here again.
    history.page_sizes = draft.page_sizes
    history.unsought = set()
    history.branches = branches
    history.line = None
    _mark_changes(history, applied)
    history.incarnation = draft.stored.head.incarnation
    history.origin = origin_of(draft.stored)
    history.attempts = []
