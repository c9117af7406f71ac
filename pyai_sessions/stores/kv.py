"""The store: KVSessionStore, sessions in any mapping."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import accumulate, islice
from typing import Any

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.documents.keys import branch_key, decode_id, encode_id, head_key, page_keys, session_of_key
from pyai_sessions.documents.limits import Limits, make_terms
from pyai_sessions.documents.merge import merge, went_back
from pyai_sessions.documents.reading import (
    UNFIT,
    read_branch,
    read_head,
    restore,
    restore_branch,
    stamp_of_value,
    summarize,
)
from pyai_sessions.documents.writing import Draft, SessionDraft, amend, compose
from pyai_sessions.errors import (
    EncryptionError,
    InvalidDocumentError,
    InvalidValueError,
    SessionArchivedError,
    SessionDeletedError,
    SessionExistsError,
    SessionNotFoundError,
)
from pyai_sessions.model.branches import check_branch
from pyai_sessions.model.fields import check_statuses
from pyai_sessions.model.heads import SessionStatus, StoredHead, microseconds
from pyai_sessions.model.points import Branch
from pyai_sessions.model.session import (
    Session,
    SessionSummary,
    assign,
    branch_of,
    history_of,
    later,
    new_session_id,
    values_of,
)
from pyai_sessions.model.session_store import (
    OnConflict,
    SessionStore,
    SummaryPage,
    check_messages,
    check_on_conflict,
    check_session,
)
from pyai_sessions.sessions import expiry, forks, indexes
from pyai_sessions.sessions.appending import Appender
from pyai_sessions.sessions.backend import Backend, Progress, Wanted, backend_of
from pyai_sessions.sessions.filters import Order, check_order, check_where, fits
from pyai_sessions.sessions.loading import MISSING, Attempts, Wants, head_of, load, load_draft, loading, owned, there
from pyai_sessions.sessions.saving import Saver
from pyai_sessions.sessions.trips import Asking, Trips, asked, mending, sharing
from pyai_sessions.storage.protocol import Position
from pyai_sessions.storage.walks import Walk
from pyai_sessions.upkeep import erasure, exports
from pyai_sessions.upkeep import repair as upkeep
from pyai_sessions.upkeep.erasure import Erasure
from pyai_sessions.upkeep.imports import Imported, Importer
from pyai_sessions.upkeep.redaction import REMOVED, Redaction, Redactor, order
from pyai_sessions.upkeep.repair import Verification
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    AnyPath,
    Clock,
    check_clock,
    check_id,
    check_items,
    check_limit,
    check_progress,
    check_time,
    check_timeout,
    check_user,
    existing_id,
    sought_id,
    utc_now,
)
from pyai_sessions.values.messages import Message
from pyai_sessions.values.recent import Recent
from pyai_sessions.values.tokens import new_token

_LOADED = 20
"""Sessions of a user's list whose pages are read together."""

_RECENT = 32 * 1024 * 1024
"""Bytes of what is remembered of sessions that were appended to: their heads, and the ids of their pages."""

_PAGES = 500
"""Of sessions that have no more. A longer one takes a trip of its own."""


class KVSessionStore(OfOneProcess, SessionStore):
    """Sessions as JSON documents in a mapping: a dict, SqliteDict, diskcache.Index, RedisMapping, or one of your own.

    Args:
        mapping: The mapping. What you opened, you close.
        namespace: Which part of the mapping to use. Stores of different namespaces, and one without, never see, count
            or clear each other's sessions, whatever ids these have.
        ttl: Seconds that a session lives; then no call finds it, and `purge_expired` removes it. None: for ever, or as
            long as a RedisMapping's own ``ttl``.
        sliding: Whether it lives so long after its last save; False: after its creation.
        shared: Whether other processes write the same mapping. Only mappings without an index of their own need to
            know (not SQLite, diskcache, Redis): lists then scan them each time.
        timeout: Seconds that a call may wait for other writers.
        limits: How large messages, documents, state and ids may be, and how much is read at once.
        clock: Returns the current time, aware; tests set it.

    Notes:
        All methods may be called from any thread. A save costs one transaction or one round trip, whatever the
        conversation's length.

    >>> store = KVSessionStore({})
    >>> session = Session(user_id="ada")
    >>> store.save(session)
    >>> store.get(session.session_id) == session
    True

    """

    def __init__(
        self,
        mapping: Any,
        *,
        namespace: str | None = None,
        ttl: int | None = None,
        sliding: bool = True,
        shared: bool = False,
        timeout: float = 10.0,
        limits: Limits | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.mapping = mapping
        self._terms = make_terms(ttl=ttl, sliding=sliding, limits=limits, clock=clock)
        self._timeout = check_timeout(timeout)
        self._backend: Backend = backend_of(mapping, shared=shared, timeout=timeout, namespace=namespace)
        self._namespace = namespace
        if ttl is None and self._backend.ttl is not None:
            self._terms = make_terms(ttl=self._backend.ttl, sliding=sliding, limits=limits, clock=clock)
        self.trips = Trips(self._backend)
        self._close_mapping: Callable[[], object] | None = None
        # Switches to a branch that failed so: the session, the branch, the stamp of what was to be stored.
        self._switched: deque[tuple[str, str, str]] = deque(maxlen=1000)
        self._recent: Recent[object] = Recent(_RECENT)
        self._home = new_token(6)
        self._saver = Saver(self._backend, self._terms, timeout, self._recent, self._home)
        self._wants = Wants()
        self._appender = Appender(self._backend, timeout, self._recent)

    @property
    def clock(self) -> Clock:
        """Returns the current time."""
        return self._terms.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        check_clock(clock)
        self._terms = self._terms._replace(clock=clock)
        self._saver = self._saver._replace(terms=self._terms)

    @property
    def threads(self) -> int:
        """How many calls at the same time are worth a thread each."""
        return self._backend.threads

    def __repr__(self) -> str:
        part = "" if self._namespace is None else f"namespace {self._namespace!r} of "
        return f"<{type(self).__name__} on {part}a {type(self.mapping).__name__}>"

    # One session -------------------------------------------------------------------------------------------------

    @sharing
    def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> Asking[None]:
        """Store a session, new or changed; afterwards *session* is what is stored.

        A copy that went stale is merged with what other writers stored: their messages, then yours; metadata and state
        key by key. ``on_conflict="error"`` raises instead, ``"overwrite"`` replaces what they stored.

        Raises:
            InvalidValueError: Something in the session cannot be stored; nothing was written.
            SessionExistsError: The session is new, and its id is taken.
            SessionArchivedError: It is archived.
            SessionDeletedError: It was deleted since it was loaded.
            SessionConflictError: Another change of it cannot be kept together with this one.
            StorageError: The storage failed.

        """
        check_on_conflict(on_conflict)
        check_session(session)
        yield from self._saver.save(session, on_conflict)

    @sharing
    def create(self, session: Session, *, named: bool = True) -> Asking[Session]:  # noqa: ARG002 (custom stores need to know)
        """Store a new session and return it; *named* tells whether its id was chosen, and so may be taken.

        Raises:
            SessionExistsError: Its id is taken.

        """
        saving = asked(partial(self.save, session))
        yield from saving or ()
        if saving is None:  # a class of the user's own saves otherwise
            yield None
            self.save(session)
        return session

    @mending
    def get_or_create(self, session: Session) -> Session:
        """Return the session of this id; store *session* where there is none.

        Raises:
            SessionExistsError: *session* is of a user, and the stored one is not of that user.

        """
        check_session(session)
        while True:
            stored = self.get(session.session_id, user_id=session.user_id or ANYONE)
            if stored is not None:
                return stored
            try:
                return self.create(session)
            except SessionExistsError:
                value = self._backend.read(session.session_id)
                if value is not None and owned(value, session.session_id, session.user_id) is None:
                    raise
                # else another thread or process created it in between

    @sharing
    def get(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Asking[Session | None]:
        """Return a session, or None.

        *last* loads the newest so many messages alone, at a cost that does not grow with the conversation; such a
        session can be saved and appended to. `load_history` loads the rest. *renew* prolongs its life first, as a save
        does. *user_id* says whose it must be, here and in what follows: to another user it is as absent. Leave it out
        to ask for no user; None raises. That is checked in the head alone, before anything else of the session is
        decoded; a head that cannot be read raises whoever asks. No session has the id None, or one that is too long.

        Raises:
            InvalidDocumentError: A document of it cannot be read.
            InvalidValueError: It is to be renewed, and the store has no ``ttl`` that slides.

        """
        owner, sought = check_user(user_id), sought_id(session_id)
        check_limit(last, "last")
        if renew:
            self._check_renewable()
        if sought is None:
            return None
        if renew:
            yield None
            with suppress(SessionNotFoundError):
                self._renew(sought, owner)
        return (yield from self._loaded(sought, owner, last))

    def _loaded(self, session_id: str, owner: str | None, last: int | None) -> Asking[Session | None]:
        for _ in Attempts(self._backend, session_id, self._timeout):
            likely = None if last is None else self._wants.pages(session_id, last)
            value, pages = yield "read_session", Wanted(session_id, likely)
            stored = there(value, session_id, owner, self.clock)
            if stored is None:
                return None
            wanted, most = _wanted(stored, last), self._terms.limits.pages
            session = yield from loading(
                stored, self.clock, wanted=wanted, known=pages, instructed=True, last=last, most=most
            )
            if session is not None:
                history = history_of(session)
                history.home = self._home
                if last is not None:
                    if len(history.log) > last:
                        history.hide(len(history.log) - last)
                    self._wants.learn(session, last)
                return session
            yield None
        return None

    @mending
    def load_history(self, session: Session) -> None:
        """Load the messages of *session* that were left out when it was loaded with ``last=``."""
        check_session(session)
        history = history_of(session)
        if history.unloaded:
            whole = self.get(session.session_id)
            if whole is None:
                raise SessionDeletedError(session.session_id)
            stored = history_of(whole)
            rewritten = history.origin and stored.origin and history.origin.head.edition != stored.origin.head.edition
            if rewritten or went_back(session, whole):
                merged = merge(session, whole)  # all of it is anew
                assign(session, values_of(merged), history_of(merged))
            else:
                ends = list(accumulate(stored.page_sizes))
                if history.unloaded not in ends:
                    raise InvalidDocumentError(head_key(session.session_id), session.session_id, None, UNFIT)
                older = stored.log[: history.unloaded]
                history.prepend(older, stored.page_sizes[: ends.index(history.unloaded) + 1])
        history_of(session).hide(0)

    @mending
    def switch(
        self, session_id: str, branch: str | Branch, *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> Session:
        """Let a session go on from a branch that a rewind left, and return it, loaded as `get` does.

        How it went on till now becomes a branch. One commit, at a cost that does not grow with the conversation.
        Of a session that was forked it grows with the number of forks: the references of all are read.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            SessionStateError: It has no such branch.

        """
        owner, branch_id = check_user(user_id), check_branch(branch)
        check_limit(last, "last")
        session_id = existing_id(session_id)
        attempts = Attempts(self._backend, session_id, self._timeout)
        for _ in attempts:
            with attempts.exclusive():
                stored = self._stored(session_id, owner)
                if stored.head.status is SessionStatus.ARCHIVED:
                    raise SessionArchivedError(session_id)
                if (session_id, branch_id, stored.stamp) in self._switched:
                    break  # by a commit whose reply was lost
                branch_of(restore(stored, [], self.clock), branch_id)
                key = branch_key(session_id, branch_id)
                value = self._backend.read_pages([key])[0]
                if value is None:
                    if stamp_of_value(self._backend.read(session_id)) != stored.stamp:
                        continue
                    raise InvalidDocumentError(key, session_id, None, MISSING)
                left = read_branch(value, key, session_id)
                switched = restore_branch(stored, branch_id, left, self.clock)
                draft = compose(switched, self._terms)
                self._switched.append((session_id, branch_id, draft.stamp))  # stays if this raises
                done = self._backend.commit(draft)
                self._switched.remove((session_id, branch_id, draft.stamp))
                if done:
                    forks.tidy(self._backend, history_of(switched).origin, draft, self._timeout)
            if done:
                break
        session = self.get(session_id, last=last, user_id=user_id)
        if session is None:
            raise SessionDeletedError(session_id)
        return session

    @sharing
    def append(self, session_id: str, messages: Iterable[Message], *, user_id: str | Anyone = ANYONE) -> Asking[None]:
        """Append messages in one commit, without loading the history. Safe for any number of writers.

        A message is stored once, however long ago that was: one whose id and content are stored is not stored again.
        Ids that were drawn for new messages cost nothing. For one that the caller chose, and for a message that may
        have been given before, the ids in the session's pages are read once per store and session, then those of new
        pages alone.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            InvalidValueError: Another message of the session has the id of one of them. None is stored.

        """
        owner, added = check_user(user_id), check_messages(messages)
        session_id = existing_id(session_id)
        if added:
            yield from self._appender.append(session_id, added, owner, self._terms)

    def _stored(self, session_id: str, user_id: str | None = None) -> StoredHead:
        return head_of(self._backend, session_id, self.clock, user_id)

    def _check_renewable(self) -> None:
        if self._terms.ttl is None or not self._terms.sliding:
            problem = "is given, but only a sliding ttl can be renewed: KVSessionStore(mapping, ttl=seconds)"
            raise InvalidValueError("renew", problem)

    def _renew(self, session_id: str, user_id: str | None) -> None:
        attempts = Attempts(self._backend, session_id, self._timeout)
        for _ in attempts:
            if self._backend.commit(amend(self._stored(session_id, user_id), self._terms)):
                return

    @mending
    def archive(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Take a session out of the lists; archived already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        owner = check_user(user_id)
        self._set_status(existing_id(session_id), SessionStatus.ARCHIVED, user_id=owner)

    @mending
    def restore(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Make an archived session active again, as of now; active already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        owner = check_user(user_id)
        self._set_status(existing_id(session_id), SessionStatus.ACTIVE, user_id=owner)

    def _set_status(
        self,
        session_id: str,
        status: SessionStatus,
        *,
        idle_since: datetime | None = None,
        user_id: str | None = None,
    ) -> bool:
        attempts = Attempts(self._backend, session_id, self._timeout)
        for _ in attempts:
            with attempts.exclusive():
                draft = self._with_status(self._stored(session_id, user_id), status, idle_since)
                done = draft is not None and self._backend.commit(draft)
            if draft is None:
                return False
            if done:
                return True
        return False

    def _with_status(self, stored: StoredHead, status: SessionStatus, idle_since: datetime | None) -> Draft | None:
        head = stored.head
        if head.status is status or (idle_since is not None and head.updated_at >= idle_since):
            return None
        if stored.is_over(self.clock):
            return None
        restore(stored, [], self.clock)  # raises where the session cannot be read
        if status is SessionStatus.ACTIVE:
            return amend(stored, self._terms, status=status, updated_at=later(self.clock(), head.updated_at))
        return amend(stored, self._terms, status=status)

    @mending
    def fork(
        self,
        session_id: str,
        at: forks.At = None,
        user_id: str | None = None,
        *,
        new_id: str | None = None,
        last: int | None = 50,
        owned_by: str | Anyone = ANYONE,
    ) -> Session:
        """Store a session that goes on from a point of another, and return it; sealed pages are shared, not copied.

        *owned_by* says whose the other must be.

        Costs five trips, or a read and a transaction, whatever the conversation's length; one trip more for each
        session but the first whose pages it shares, and the way to the point.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionExistsError: The new id is taken.
            InvalidValueError: *at* is no point of the session.
            SessionStateError: It no longer has the history of the checkpoint.

        """
        owner = check_user(owned_by, "owned_by")
        new_id = new_session_id() if new_id is None else check_id(new_id, "new_id")
        user_id = None if user_id is None else check_id(user_id, "user_id")
        check_limit(last, "last")
        session_id = existing_id(session_id)
        attempts = Attempts(self._backend, session_id, self._timeout)
        for _ in attempts:
            stored = self._stored(session_id, owner)
            try:
                session = forks.forked(self._backend, stored, at, session_id=new_id, user_id=user_id, clock=self.clock)
                draft = compose(session, self._terms)
                fork = self._fork_as_loaded(draft, last)
            except InvalidDocumentError:
                if stamp_of_value(self._backend.read(session_id)) != stored.stamp:
                    continue  # rewritten meanwhile: its pages are others
                raise
            try:
                with attempts.exclusive():
                    done = forks.store(self._backend, draft, history_of(session).line or (), stored, self._timeout)
            except SessionExistsError:
                if not self._free(new_id):
                    raise
                continue
            if done:
                return fork
        raise SessionNotFoundError(session_id)

    def _fork_as_loaded(self, draft: SessionDraft, last: int | None) -> Session:
        """Return a fork as it can be loaded once its draft is stored: one that cannot be is not stored at all."""
        wanted, most = _wanted(draft.stored, last), self._terms.limits.pages
        fork = load_draft(self._backend, draft, self.clock, wanted=wanted, last=last, most=most)
        if last is not None:
            history_of(fork).hide(max(0, len(history_of(fork).log) - last))
        return fork

    @mending
    def delete(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session with all that belongs to it, readable or not; return whether there was one.

        Pages that forks share stay until the last of these goes. Repeat a deletion that raised: it removes what the
        first one left, and returns True.

        Raises:
            InvalidDocumentError: A user is asked for, and the head cannot be read. Nothing is deleted.

        """
        owner, sought = check_user(user_id), sought_id(session_id)
        if sought is None:
            return False
        attempts = Attempts(self._backend, sought, self._timeout)
        for _ in attempts:
            with attempts.exclusive():
                value = self._backend.read(sought)
                if value is None:  # a deletion that failed may have removed the head and left pages
                    value = self._recent.get(("deleting", sought))
                if value is None or (owner is not None and owned(value, sought, owner) is None):
                    return False
                is_over = expiry.has_expired(value, sought, self.clock)
                self._recent.put(("deleting", sought), value, sys.getsizeof(value))
                done = forks.remove(self._backend, sought, value, self._timeout)
            if done:
                self._forget(sought)
                return not is_over
        return False

    def _forget(self, session_id: str) -> None:
        """Remember nothing of a session that is gone."""
        for each in ("head", "ids", "deleting"):
            self._recent.pop((each, session_id))

    def _free(self, session_id: str) -> bool:
        """Remove an expired session so that its id can be taken; return whether there was one."""
        return expiry.purge(self._backend, session_id, self._backend.read(session_id), self.clock, self._timeout)

    # Lists -------------------------------------------------------------------------------------------------------

    @mending
    def list_for_user(
        self,
        user_id: str,
        *,
        limit: int | None = None,
        before: datetime | None = None,
        include_archived: bool = False,
        skip_invalid: bool = False,
    ) -> list[Session]:
        """Return a user's sessions with their messages, latest activity first.

        Costs one index read, one trip for heads per 100 sessions and one for their pages per 20. *before* leaves out
        those active at that time or later. A session that another process deletes meanwhile is left out.

        Raises:
            InvalidDocumentError: A session of the list cannot be read; *skip_invalid* leaves it out instead.

        """
        user_id = check_id(user_id, "user_id")
        check_limit(limit, "limit")
        sessions: list[Session] = []
        if limit == 0:
            return sessions
        after = None if before is None else (microseconds(check_time(before, "before")), "")
        statuses = indexes.ALL if include_archived else (SessionStatus.ACTIVE,)
        ignore, most = _ignore if skip_invalid else None, self._terms.limits.pages
        found = indexes.walk(
            self._backend,
            user_id,
            statuses,
            after,
            limit=limit,
            on_invalid=ignore,
            clock=self.clock,
            known=set(),
            whole=limit is None,
        )
        while together := list(islice(found, _LOADED if limit is None else min(_LOADED, limit - len(sessions)))):
            few = [stored for _, stored in together if stored.pages <= min(_PAGES, most)]
            keys = [key for stored in few for key in page_keys(stored.head.sealed)]
            pages = dict(zip(keys, self._backend.read_pages(keys), strict=True))
            for _, stored in together:
                try:
                    session = load(self._backend, stored, self.clock, wanted=stored.sealed, known=pages, most=most)
                    session = session or self.get(stored.head.session_id)
                except InvalidDocumentError as err:
                    if not skip_invalid:
                        raise
                    _ignore(err)
                    continue
                if session is not None:
                    history_of(session).home = self._home
                    sessions.append(session)
        if limit is None:  # those that became active meanwhile came last
            sessions.sort(key=lambda each: (each.updated_at, encode_id(each.session_id)), reverse=True)
        return sessions

    @mending
    def summaries(
        self,
        user_id: str | Anyone = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        order: Order = "newest",
        limit: int | None = None,
        cursor: str | None = None,
        skip_invalid: bool = False,
    ) -> SummaryPage:
        """Return summaries of a user's sessions, or of all users', without reading messages.

        *where* keeps those whose metadata has these values. *status* None means both. *cursor* is the ``next_cursor``
        of the page before: the list goes on where that ended, whatever was written meanwhile.
        """
        check_limit(limit, "limit")
        page = SummaryPage()
        check_user(user_id)
        check_where(where)
        check_statuses(status)
        indexes.position_of(cursor)
        check_order(order)
        if limit == 0:
            return page
        found = self._summaries(
            user_id, where, status, order=order, limit=limit, cursor=cursor, skip_invalid=skip_invalid
        )
        last = None
        for position, summary in found:
            if len(page) == limit and summary is not None:
                page.next_cursor = None if last is None else indexes.cursor_of(last)
                break
            if summary is not None:
                page.append(summary)
            last = position
        if limit is None:  # those that became active meanwhile came last
            page.sort(key=lambda each: (each.updated_at, encode_id(each.session_id)), reverse=order == "newest")
        return page

    @mending
    def count(
        self,
        user_id: str | Anyone = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has, or all users; *status* None counts both.

        One index read; with *where* as many heads are read as there are sessions.
        """
        if check_where(where):
            return sum(summary is not None for _, summary in self._summaries(user_id, where, status, once=False))
        owner = check_user(user_id)
        now = microseconds(self.clock())
        return sum(self._backend.count(each, owner, now) for each in check_statuses(status))

    def _summaries(
        self,
        user_id: str | Anyone,
        where: Mapping[str, Any] | None,
        status: SessionStatus | None,
        *,
        order: Order = "newest",
        limit: int | None = None,
        cursor: str | None = None,
        skip_invalid: bool = True,
        once: bool = True,
    ) -> Iterator[tuple[Position, SessionSummary | None]]:
        """Walk an index: each position with its summary, None where its metadata is not as *where* says."""
        owner, wanted = check_user(user_id), check_where(where)
        known = set[str]() if once else None
        # A session that is passed over need not be known, unless the end of a whole list would look at it again.
        edge = indexes.edge(self.clock) if wanted and limit is None else None
        found = indexes.walk(
            self._backend,
            owner,
            check_statuses(status),
            indexes.position_of(cursor),
            limit=None if limit is None or wanted else limit + 1,
            newest_first=check_order(order) == "newest",
            on_invalid=_ignore if skip_invalid else None,
            clock=self.clock,
            known=known,
            whole=limit is None,
        )
        for position, stored in found:
            try:
                summary = summarize(stored)
            except InvalidDocumentError:
                if not skip_invalid:
                    raise
                continue
            fit = fits(summary.metadata, wanted)
            if not fit and known is not None and (edge is None or position <= edge):
                known.discard(summary.session_id)
            yield position, summary if fit else None

    # All sessions ------------------------------------------------------------------------------------------------

    @mending
    def import_sessions(
        self, sessions: Iterable[Session | Mapping[str, Any]], progress: Progress | None = None
    ) -> Imported:
        """Store new sessions, many in one transaction or trip; say how many were new, stored already, or different.

        Each is a `Session` or what `Session.to_dict` returns, from any store. What has its id stays as it is, so an
        import that was cut short can be repeated. Holds one batch in memory.

        Raises:
            InvalidValueError: One of them cannot be stored. The batches before it are.

        """
        check_progress(progress)
        check_items(sessions, "sessions", "sessions or dicts")
        return Importer(self._backend, self._terms, self._timeout).store(sessions, progress)

    @mending
    def archive_inactive(self, idle_since: datetime, progress: Progress | None = None) -> int:
        """Archive the sessions that were last active before *idle_since*; return how many.

        Costs only those: per 100 of them one index read, one trip for heads and one transaction or trip.
        """
        archived = 0
        bound = microseconds(check_time(idle_since, "idle_since"))
        after: Position | None = None
        walk = Walk(indexes.INDEX)
        while True:
            found = self._backend.scan(SessionStatus.ACTIVE, None, after, indexes.BATCH, newest_first=False)
            due = [position for position in found if position[0] < bound]
            if due:
                archived += self._archive([each for each in (decode_id(name) for _, name in due) if each], idle_since)
                if progress:
                    progress(archived)
            if len(due) < indexes.BATCH:
                return archived
            after = due[-1]
            walk.reach(after)

    def _archive(self, session_ids: list[str], idle_since: datetime) -> int:
        drafts: list[Draft] = []
        for session_id, value in zip(session_ids, self._backend.read_many(session_ids), strict=True):
            if value is None:
                continue
            with suppress(InvalidDocumentError):
                draft = self._with_status(read_head(value, session_id), SessionStatus.ARCHIVED, idle_since)
                if draft:
                    drafts.append(draft)
        archived = 0
        for draft, done in zip(drafts, self._backend.commit_many(drafts), strict=True):
            with suppress(SessionNotFoundError, InvalidDocumentError):
                archived += done or self._set_status(draft.session_id, SessionStatus.ARCHIVED, idle_since=idle_since)
        return archived

    @mending
    def delete_user(self, user_id: str, *, scan: bool = False) -> Erasure:
        """Erase all that is held of a user, archived and unreadable sessions too; return what that was.

        *scan* then reads everything, for what the indexes do not know.
        """
        erased = erasure.erase(self._backend, check_id(user_id, "user_id"), scan=scan, timeout=self._timeout)
        for each in erased.session_ids:
            self._forget(each)
        return erased

    @mending
    def redact(
        self,
        session_id: str,
        message_id: str,
        *,
        content: Any = REMOVED,
        text: str | Iterable[str] | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
    ) -> Redaction:
        """Take the words of a message out of all that is stored of a session and of its forks; see SessionManager.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: Neither it nor a branch of it has such a message.

        """
        wanted = order(session_id, message_id, content, text, check_user(user_id), scan=scan)
        done = Redactor(self._backend, self.clock, self._timeout, wanted).run()
        for each in done.session_ids:
            self._forget(each)
        return done

    @mending
    def export_user(self, user_id: str, file: Any, *, scan: bool = False) -> int:
        """Write all that is held of a user to an open text file, a line of JSON each; return how many lines.

        *scan* then reads everything, for what the indexes do not know.
        """
        user_id, written = check_id(user_id, "user_id"), 0
        exports.check_file(file)
        for line in exports.lines(self._backend, user_id, scan=scan, clock=self.clock, timeout=self._timeout):
            file.write(line)
            written += 1
        return written

    @mending
    def clear(self) -> int:
        """Delete all sessions and what is left of former ones, and nothing else; return how many there were."""
        deleted = sum(self.delete(each) for each in self._backend.session_ids())
        for key in self._backend.all_keys():
            session_id = session_of_key(key)
            if session_id is not None and isinstance(key, str) and key != head_key(session_id):
                self._backend.remove_pages(session_id, [key], None)
        for wrong in indexes.wrong_entries(self._backend):
            for session_id, entries in wrong.items():
                indexes.mend(self._backend, session_id, entries)
        return deleted

    @mending
    def purge_expired(self, progress: Progress | None = None) -> int:
        """Remove expired sessions, with all that belongs to them; return how many they were.

        Costs only those: per 100 of them one index read, one trip for heads and one transaction, or the trips to
        remove each. Beside other writers; what was cut short goes on where it stopped.
        """
        check_progress(progress)
        return expiry.purge_all(self._backend, self.clock, self._timeout, progress)

    @mending
    def reindex(self, progress: Progress | None = None) -> int:
        """Rebuild both indexes from the documents, beside other writers; return how many sessions are indexed.

        Holds one batch in memory. Reads each head once where all is right. What is right is not written: if
        it was cut short, it is repeated at the cost of reading.
        """
        check_progress(progress)
        return upkeep.reindex(self._backend, self._timeout, progress)

    @mending
    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verification:
        """Read everything and report what is wrong; *repair* mends what can be mended, and throws nothing away.

        Wrong index entries are rewritten, pages that no session names are removed. What cannot be read is moved, as it
        is, under a key that begins with ``unreadable/``; a session that loses a page so keeps its other messages.
        """
        check_progress(progress)
        return upkeep.verify(self._backend, repair=repair, clock=self.clock, timeout=self._timeout, progress=progress)

    @mending
    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Copy the SQLite file of this store, of one moment, to *path*, while others write.

        A file at *path* is replaced only with *overwrite*. The copy is encrypted as the store is.

        Raises:
            InvalidValueError: *path* is there already, or cannot be that of a copy.
            UnsupportedOperationError: The sessions lie in no SQLite file; the error says how they are backed up.

        """
        self._backend.backup(path, overwrite=overwrite)

    def rotate_keys(self, progress: Progress | None = None) -> int:
        """Encrypt with the newest key of an `Encrypted` mapping what is not; return how many documents those were.

        As `Encrypted.rotate` does: beside other writers, and to be repeated where it was cut short.

        Raises:
            UnsupportedOperationError: The mapping is not `Encrypted`.
            EncryptionError: The ring lacks the key of some document; all others are done.
            OversizedDocumentError: Some document would expand too far; all others are done.

        """
        check_progress(progress)
        return self._backend.rotate(progress)

    def close(self) -> None:
        """Free what the store opened. A mapping that was given stays open."""
        self._backend.close()
        if self._close_mapping:
            self._close_mapping()


def _wanted(stored: StoredHead, last: int | None) -> int:
    """Return how many sealed messages hold the *last* ones of a session, or all of them (None)."""
    sealed = stored.sealed
    return sealed if last is None else min(sealed, max(0, last - (max(stored.head.message_count, sealed) - sealed)))


def _ignore(err: InvalidDocumentError) -> None:
    """Leave a damaged session out of a list; not one that other keys would open: with wrong ones all would be out."""
    if isinstance(err, EncryptionError):
        raise err
