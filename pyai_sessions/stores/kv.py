"""The store: KVSessionStore, sessions in any mapping, or in a `Storage`."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, cast

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.documents.keys import head_key, namespace_prefix, session_of_key
from pyai_sessions.documents.limits import Limits, Terms, make_terms
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import (
    InvalidDocumentError,
    InvalidValueError,
    SessionDeletedError,
    SessionExistsError,
    SessionNotFoundError,
    UnsupportedOperationError,
)
from pyai_sessions.events import note
from pyai_sessions.model.branches import check_branch
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.listed import MessagePage, SessionSummary, SummaryPage
from pyai_sessions.model.points import Branch
from pyai_sessions.model.session import Session, new_session_id
from pyai_sessions.model.session_store import OnConflict, SessionStore, check_messages, check_on_conflict, check_session
from pyai_sessions.model.shared_state import SharedState
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.backend import Backend, Progress, backend_of
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.filters import Order
from pyai_sessions.sessions.forking import At
from pyai_sessions.sessions.lists import Lister
from pyai_sessions.sessions.loading import Attempts, Loader, Wants, owned_head
from pyai_sessions.sessions.saving import Saver
from pyai_sessions.sessions.scrolling import Scroller
from pyai_sessions.sessions.shared_state import UNCHANGED, SharedStates, Unchanged, update_of
from pyai_sessions.sessions.statuses import Archiver
from pyai_sessions.sessions.switching import Switcher
from pyai_sessions.sessions.trips import Asking, Read, Trips, asked, mending, sharing
from pyai_sessions.sessions.updating import Update, Updater, check_revision
from pyai_sessions.storage.protocol import Storage
from pyai_sessions.upkeep import erasure, exports, shared_state
from pyai_sessions.upkeep import repair as upkeep
from pyai_sessions.upkeep.erasure import Erasure
from pyai_sessions.upkeep.imports import Imported, Importer, OnTaken
from pyai_sessions.upkeep.purging import purge_all
from pyai_sessions.upkeep.redaction import REMOVED, Redaction, Redactor, order
from pyai_sessions.upkeep.repair import Verification
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    AnyPath,
    Clock,
    Nobody,
    check_choice,
    check_clock,
    check_expected,
    check_id,
    check_items,
    check_limit,
    check_progress,
    check_time,
    check_timeout,
    check_user,
    existing_id,
    kind_of,
    sought_id,
    utc_now,
)
from pyai_sessions.values.messages import Message, id_of
from pyai_sessions.values.patches import patch
from pyai_sessions.values.recent import Part, Recent
from pyai_sessions.values.tokens import new_token

_TOLD = 100
"""Lines of an export after which *progress* is called."""

_MANY = "an open file, or a list, of sessions, dicts or lines of JSON"

_RECENT = 32 * 1024 * 1024
"""Bytes of what is remembered of sessions that were appended to: their heads, and the ids of their pages."""

_STORE = 10_000
"""Bytes that the store of a namespace takes."""

_PINGED = "pyai_sessions.ping"
"""The id of the session that a ping asks for. It need not be there."""


_TOGETHER = 100
"""Sessions that are loaded together."""


class KVSessionStore(OfOneProcess, SessionStore):
    """Sessions as JSON documents in a mapping: a dict, SqliteDict, diskcache.Index, RedisMapping, or one of your own.

    Args:
        mapping: The mapping, or a `Storage` of your own. What you opened, you close.
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

    Attributes:
        shared: What the managers of this store and of its namespaces share: threads.

    Notes:
        `SessionManager` calls the other methods, and says what they do. All may be called from any thread. A save costs
        one transaction or one round trip, whatever the conversation's length.

    >>> store = KVSessionStore({})
    >>> session = Session(user_id="ada")
    >>> store.save(session)
    >>> store.get(session.session_id) == session
    True

    """

    of: tuple[Backend, Terms] | None = None
    """What the store of a namespace is a part of."""

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
        terms = make_terms(ttl=ttl, sliding=sliding, limits=limits, clock=clock)
        timeout = check_timeout(timeout)
        self._backend: Backend = backend_of(mapping, shared=shared, timeout=timeout, namespace=namespace)
        self._namespace = namespace
        if ttl is None and self._backend.ttl is not None:
            terms = make_terms(ttl=self._backend.ttl, sliding=sliding, limits=limits, clock=clock)
        self.trips = Trips(self._backend)
        self._close_mapping: Callable[[], object] | None = None
        self.shared: dict[object, Any] = {}
        self._recent: Recent[object] = Recent(_RECENT)
        self._home = new_token(6)
        self._wants = Wants()
        self._switched: deque[tuple[str, str, str]] = deque(maxlen=1000)
        self._use(terms)

    def namespace(self, namespace: str) -> KVSessionStore:
        """Return the store of a namespace, on the connections and the threads of this one.

        It is made in microseconds, so make it where you need it. It has the terms of this store, which alone is closed.

        Raises:
            UnsupportedOperationError: This is the store of a namespace itself, or a store of your own.

        >>> store = KVSessionStore({})
        >>> store.namespace("acme").save(Session(session_id="s"))
        >>> store.get("s"), store.namespace("acme").get("s").session_id
        (None, 's')

        """
        under = namespace_prefix(check_id(namespace, "namespace"))
        if self._namespace is not None:
            msg = f"{self!r} is a namespace, and has none below it; call namespace of the store that it came from"
            raise UnsupportedOperationError(msg)
        made = cast("KVSessionStore | None", self._recent.get(("store", namespace)))
        if made is None or made.of != (self._backend, self._terms):
            made = KVSessionStore.__new__(type(self))
            backend = self._backend.part(under)
            vars(made).update(
                vars(self),
                of=(self._backend, self._terms),
                trips=Trips(backend),
                _namespace=namespace,
                _backend=backend,
                _recent=Part(self._recent, namespace),
                _home=f"{self._home}/{under}",
            )
            made._use(self._terms)  # noqa: SLF001 (its own class)
            self._recent.put(("store", namespace), made, _STORE)
        return made

    def count_trips(self) -> None:
        """Count from now on what calls ask of the storage, for a manager's ``on_event=``."""
        self._backend = self._backend.counting()
        self.trips = Trips(self._backend)
        self._use(self._terms)

    def _use(self, terms: Terms) -> None:
        """Work on these terms from now on."""
        backend = self._backend
        self._terms = terms = terms._replace(paged=backend.storage.paged)
        self._loader = Loader(backend, terms, self._wants, self._home)
        self._saver = Saver(backend, terms, self._recent, self._home)
        self._updater = Updater(backend, self._recent)
        self._scroller = Scroller(backend, terms, self._recent)
        self._switcher = Switcher(self._loader, self._switched)
        self._archiver = Archiver(backend, terms)
        self._lister = Lister(self._loader)
        self._states = SharedStates(backend, terms)

    @property
    def clock(self) -> Clock:
        """Returns the current time."""
        return self._terms.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        check_clock(clock)
        self._use(self._terms._replace(clock=clock))

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
        """Store a session, as `SessionManager.save` does."""
        check_on_conflict(on_conflict)
        check_session(session)
        yield from self._saver.save(session, on_conflict)

    @sharing
    def create(self, session: Session) -> Asking[Session]:
        """Store a new session and return it."""
        saving = asked(partial(self.save, session))
        yield from saving or ()
        if saving is None:  # a class of the user's own saves otherwise
            yield None
            self.save(session)
        return session

    @mending
    def get_or_create(self, session: Session) -> Session:
        """Return the session of this id; store *session* where there is none."""
        check_session(session)
        while True:
            stored = self.get(session.session_id, user_id=session.user_id or ANYONE)
            if stored is not None:
                return stored
            try:
                return self.create(session)
            except SessionExistsError:
                value = self._backend.head(session.session_id)
                if value is not None and owned_head(value, session.session_id, session.user_id) is None:
                    raise
                # else another thread or process created it in between

    @sharing
    def get(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Asking[Session | None]:
        """Return a session or None, as `SessionManager.get_session` does."""
        owner, sought = check_user(user_id), sought_id(session_id)
        check_limit(last, "last")
        if renew and (self._terms.ttl is None or not self._terms.sliding):
            problem = "is given, but only a sliding ttl can be renewed: KVSessionStore(mapping, ttl=seconds)"
            raise InvalidValueError("renew", problem)
        if sought is None:
            return None
        if renew:
            yield None
            with suppress(SessionNotFoundError):
                self._archiver.renew(sought, owner)
        return (yield from self._loader.load(sought, owner, last))

    @mending
    def get_many(
        self, session_ids: Iterable[str], *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> dict[str, Session]:
        """Return sessions by their ids, as `SessionManager.get_sessions` does."""
        owner, found = check_user(user_id), dict[str, Session]()
        check_limit(last, "last")
        sought = [sought_id(each) for each in check_items(session_ids, "session_ids", "ids of sessions")]
        wanted = list(dict.fromkeys([each for each in sought if each is not None]))
        for start in range(0, len(wanted), _TOGETHER):
            together = wanted[start : start + _TOGETHER]
            loaded = self.trips.all([self._loader.load(each, owner, last) for each in together])
            found |= {key: each for key, each in zip(together, loaded, strict=True) if each is not None}
        return found

    @sharing
    def load_history(self, session: Session) -> Asking[None]:
        """Load the messages that were left out when a session was loaded with ``last=``."""
        check_session(session)
        yield from self._loader.complete(session)

    @mending
    def switch(
        self, session_id: str, branch: str | Branch, *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> Session:
        """Let a session go on from a branch, and return it."""
        owner, branch_id = check_user(user_id), check_branch(branch)
        check_limit(last, "last")
        session_id = existing_id(session_id)
        self._switcher.switch(session_id, branch_id, owner)
        session = self.get(session_id, last=last, user_id=user_id)
        if session is None:
            raise SessionDeletedError(session_id)
        return session

    @sharing
    def append(self, session_id: str, messages: Iterable[Message], *, user_id: str | Anyone = ANYONE) -> Asking[None]:
        """Append messages in one commit, without loading the history."""
        owner, added = check_user(user_id), check_messages(messages)
        session_id = existing_id(session_id)
        if added:
            yield from self._updater.update(session_id, Update(added), owner, self._terms)

    @sharing
    def update(
        self,
        session_id: str,
        messages: Iterable[Message] = (),
        *,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        remove_metadata: Iterable[str | Sequence[str]] = (),
        remove_state: Iterable[str | Sequence[str]] = (),
        new: Session | None = None,
        if_revision: str | None = None,
        user_id: str | Anyone = ANYONE,
    ) -> Asking[str]:
        """Change a session in one commit, without loading it, as `SessionManager.update` does; return its revision."""
        owner, added = check_user(user_id), check_messages(messages)
        check_expected(if_revision, "a session: session.revision")
        if new is not None:
            check_session(new)
        changes = patch(metadata, remove_metadata, "metadata"), patch(state, remove_state, "state")
        session_id = existing_id(session_id)
        update = Update(added, *changes, new, if_revision)
        return (yield from self._updater.update(session_id, update, owner, self._terms))

    @sharing
    def messages(
        self,
        session_id: str,
        *,
        before: Message | str | None = None,
        after: Message | str | None = None,
        limit: int | None = 50,
        user_id: str | Anyone = ANYONE,
    ) -> Asking[MessagePage]:
        """Return some messages of a session, as `SessionManager.get_messages` does."""
        owner = check_user(user_id)
        check_limit(limit, "limit")
        first, last = (
            None if one is None else id_of(one, name) for one, name in ((after, "after"), (before, "before"))
        )
        return (yield from self._scroller.page(existing_id(session_id), owner, last, first, limit))

    @sharing
    def message(self, session_id: str, message_id: str, *, user_id: str | Anyone = ANYONE) -> Asking[Message | None]:
        """Return one message of a session, or None."""
        owner, wanted = check_user(user_id), id_of(message_id, "message_id")
        return (yield from self._scroller.message(existing_id(session_id), owner, wanted))

    @mending
    def archive(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Take a session out of the lists."""
        owner = check_user(user_id)
        self._archiver.set_status(existing_id(session_id), SessionStatus.ARCHIVED, user_id=owner)

    @mending
    def restore(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Make an archived session active again."""
        owner = check_user(user_id)
        self._archiver.set_status(existing_id(session_id), SessionStatus.ACTIVE, user_id=owner)

    @mending
    def fork(
        self,
        session_id: str,
        at: At = None,
        user_id: str | None = None,
        *,
        new_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        last: int | None = 50,
        owned_by: str | Anyone = ANYONE,
    ) -> Session:
        """Store a session that goes on from a point of another, and return it."""
        owner = check_user(owned_by, "owned_by")
        new_id = new_session_id() if new_id is None else check_id(new_id, "new_id")
        user_id = None if user_id is None else check_id(user_id, "user_id")
        check_limit(last, "last")
        return self._switcher.fork(
            existing_id(session_id),
            at,
            new_id=new_id,
            user_id=user_id,
            changes={"metadata": patch(metadata, (), "metadata"), "state": patch(state, (), "state")},
            owned_by=owner,
            last=last,
        )

    @mending
    def delete(self, session_id: str, *, if_revision: str | None = None, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session; return whether there was one, as `SessionManager.delete` does."""
        owner, sought = check_user(user_id), sought_id(session_id)
        check_expected(if_revision, "a session: session.revision")
        return sought is not None and self._delete(sought, owner, if_revision=if_revision)

    def _delete(
        self,
        sought: str,
        owner: str | None,
        *,
        if_revision: str | None = None,
        idle_since: datetime | None = None,
    ) -> bool:
        """Delete a session; not one that was active after *idle_since*."""
        attempts = Attempts(self._backend, sought)
        for _ in attempts:
            with attempts.exclusive():
                value = self._backend.head(sought)
                if value is None:  # a deletion that failed may have removed the head and left pages
                    value = self._recent.get(("deleting", sought))
                if value is None or (owner is not None and owned_head(value, sought, owner) is None):
                    return False
                if idle_since is not None and read_head(value, sought).active_at >= idle_since:
                    return False
                is_over = has_expired(value, sought, self.clock)
                if if_revision is not None and not is_over:
                    check_revision(read_head(value, sought), if_revision)
                self._recent.put(("deleting", sought), value, sys.getsizeof(value))
                done = forks.remove(self._backend, sought, value)
            if done:
                self._forget(sought)
                return not is_over
        return False

    def _forget(self, session_id: str) -> None:
        """Remember nothing of a session that is gone."""
        for each in ("head", "ids", "deleting"):
            self._recent.pop((each, session_id))

    @sharing
    def ping(self) -> Asking[None]:
        """Raise the storage's error unless it answers, as `SessionManager.ping` does."""
        yield Read([head_key(_PINGED)])

    # State that sessions share ----------------------------------------------------------------------------------

    @sharing
    def shared_state(self, user_id: str | None) -> Asking[SharedState]:
        """Return the state of a user, or of the application (None)."""
        return (yield from self._states.read(user_id if user_id is None else check_id(user_id, "user_id")))

    @mending
    def update_shared_state(
        self,
        user_id: str | None,
        changes: Mapping[str, Any],
        *,
        remove: Iterable[str | Sequence[str]] = (),
        replace: bool = False,
        if_revision: str | None = None,
        ttl: int | Unchanged | None = UNCHANGED,
    ) -> SharedState:
        """Change the state of a user, or of the application (None), as `SessionManager.update_user_state` does."""
        owner = user_id if user_id is None else check_id(user_id, "user_id")
        update = update_of(changes, remove=remove, replace=replace, if_revision=if_revision, ttl=ttl)
        return self._states.update(owner, update)

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
        """Return a user's sessions, latest activity first, as `SessionManager.get_sessions_for_user` does."""
        return self._lister.sessions(
            user_id, limit=limit, before=before, include_archived=include_archived, skip_invalid=skip_invalid
        )

    @mending
    def summaries(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        order: Order = "newest",
        limit: int | None = None,
        cursor: str | None = None,
        skip_invalid: bool = False,
    ) -> SummaryPage:
        """Return a page of a list of sessions."""
        return self._lister.summaries(
            user_id, where=where, status=status, order=order, limit=limit, cursor=cursor, skip_invalid=skip_invalid
        )

    @mending
    def count(
        self,
        user_id: str | Anyone | Nobody = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has, or all users."""
        return self._lister.count(user_id, where=where, status=status)

    @mending
    def users(self, status: SessionStatus | None = SessionStatus.ACTIVE) -> dict[str | None, int]:
        """Return how many sessions each user has."""
        return self._lister.users(status=status)

    # All sessions ------------------------------------------------------------------------------------------------

    @mending
    def import_sessions(
        self,
        sessions: Iterable[object],
        *,
        on_conflict: OnTaken = "skip",
        skip_invalid: bool = False,
        progress: Progress | None = None,
    ) -> Imported:
        """Store sessions, many in one transaction or trip, as `SessionManager.import_sessions` does."""
        check_progress(progress)
        check_choice(on_conflict, "on_conflict", "skip", "error", "overwrite", "newer")
        if isinstance(sessions, (Mapping, Session)):
            raise InvalidValueError("sessions", f"is {kind_of(cast('object', sessions))}; it is {_MANY}")
        importer = Importer(self._backend, self._terms, on_conflict, skip_invalid=skip_invalid)
        return importer.store(check_items(sessions, "sessions", _MANY), progress)

    @mending
    def copy_sessions(
        self,
        target: Any,
        *,
        skip_invalid: bool = False,
        progress: Progress | None = None,
        close_target: bool = False,
    ) -> Imported:
        """Copy all sessions to another store, as `SessionManager.copy_sessions` does."""
        if not isinstance(target, KVSessionStore):
            problem = f"is {kind_of(target)}; it is a KVSessionStore: SessionManager.copy_sessions takes more"
            raise InvalidValueError("target", problem)
        return target._copy_of(self, skip_invalid=skip_invalid, progress=progress, close=close_target)  # noqa: SLF001

    @mending
    def _copy_of(
        self, source: KVSessionStore, *, skip_invalid: bool, progress: Progress | None, close: bool
    ) -> Imported:
        """Take over all sessions of another store."""
        report = Imported()
        importer = Importer(self._backend, self._terms, "newer", skip_invalid=skip_invalid, checked=True)
        try:
            check_progress(progress)
            found = exports.sessions(source._backend, source.clock, report.add_invalid if skip_invalid else None)
            return importer.store(found, progress, report)
        finally:
            if close:
                self.close()

    @mending
    def archive_inactive(self, idle_since: datetime, progress: Progress | None = None) -> int:
        """Archive the sessions that were last active before *idle_since*; return how many."""
        check_progress(progress)
        return self._archiver.archive_inactive(check_time(idle_since, "idle_since"), progress)

    @mending
    def delete_inactive(self, idle_since: datetime, progress: Progress | None = None) -> int:
        """Delete the sessions that were last active before *idle_since*, archived ones too; return how many."""
        check_progress(progress)
        deleted = 0
        for session_ids in self._archiver.inactive(check_time(idle_since, "idle_since")):
            for each in session_ids:
                with suppress(InvalidDocumentError):
                    deleted += self._delete(each, None, idle_since=idle_since)
            if progress:
                progress(deleted)
        return deleted

    @mending
    def inactive(
        self, idle_since: datetime, status: SessionStatus | None, progress: Progress | None = None
    ) -> list[SessionSummary]:
        """Return summaries of the sessions that were last active before *idle_since*; *progress* is not called."""
        check_progress(progress)
        return self._lister.inactive(idle_since, status=status)

    @mending
    def delete_user(self, user_id: str, *, scan: bool = False) -> Erasure:
        """Erase all that is held of a user."""
        erased = erasure.erase(self._backend, check_id(user_id, "user_id"), scan=scan)
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
        """Take the words of a message out of all that is stored of a session and of its forks."""
        wanted = order(session_id, message_id, content, text, check_user(user_id), scan=scan)
        done = Redactor(self._backend, self.clock, wanted).run()
        for each in done.session_ids:
            self._forget(each)
        return done

    @mending
    def export_sessions(
        self,
        file: Any,
        *,
        session_id: str | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Write sessions to an open text file, a line of JSON each, as `SessionManager.export_sessions` does."""
        user, sought, written = check_user(user_id), None if session_id is None else existing_id(session_id), 0
        exports.check_file(file)
        check_progress(progress)
        if scan and (user is None or sought is not None):
            raise InvalidValueError("scan", "is for the export of a user; leave it out, or give user_id alone")
        for line in exports.lines(self._backend, sought, user, scan=scan, clock=self.clock):
            file.write(line)
            written += 1
            if progress and written % _TOLD == 0:
                progress(written)
        if progress and written % _TOLD:
            progress(written)
        return written

    @mending
    def clear(self) -> int:
        """Delete all sessions, what is left of former ones, and all state; return how many sessions there were."""
        shared_state.clear(self._backend)
        deleted = sum(self.delete(each) for each in indexes.session_ids(self._backend.storage))
        for key in self._backend.storage.keys(""):
            session_id = session_of_key(key)
            if session_id is not None and key != head_key(session_id):
                forks.drop(self._backend.storage, session_id, None, [key])
        for wrong in indexes.wrong_listings(self._backend):
            for session_id, places in wrong.items():
                indexes.mend(self._backend, session_id, places)
        return deleted

    @mending
    def purge_expired(self, progress: Progress | None = None) -> int:
        """Remove expired sessions, with all that belongs to them; return how many they were."""
        check_progress(progress)
        purged = purge_all(self._backend, self.clock, progress)
        if purged:
            note("purged", count=purged)
        return purged

    @mending
    def reindex(self, progress: Progress | None = None) -> int:
        """Rebuild both indexes from the documents; return how many sessions are indexed."""
        check_progress(progress)
        return upkeep.reindex(self._backend, progress)

    @mending
    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verification:
        """Read everything and report what is wrong; *repair* mends what can be mended."""
        check_progress(progress)
        found = upkeep.verify(self._backend, repair=repair, clock=self.clock, progress=progress)
        repaired = sum(each.repaired for each in found.problems)
        if repaired:
            note("repaired", count=repaired)
        return found

    @mending
    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Copy the SQLite file of this store to *path*, while others write."""
        self._backend.backup(path, overwrite=overwrite)

    def rotate_keys(self, progress: Progress | None = None) -> int:
        """Encrypt with the newest key of an `Encrypted` mapping what is not; return how many documents those were."""
        check_progress(progress)
        return self._backend.rotate(progress)

    def take_over(self) -> None:
        """Let `close` close the mapping or the `Storage`, too, if it can be closed."""
        close: object = getattr(getattr(self.mapping, "mapping", self.mapping), "close", None)
        if callable(close):
            self._close_mapping = close

    def close(self) -> None:
        """Free what the store opened. A mapping or a `Storage` that was given stays open.

        The store of a namespace frees nothing: the store that it came from does.
        """
        if self.of is not None:
            return
        if not isinstance(getattr(self.mapping, "mapping", self.mapping), Storage):
            self._backend.storage.close()
        if self._close_mapping:
            self._close_mapping()
