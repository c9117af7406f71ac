"""The store: KVSessionStore, sessions in any mapping, or in a `Storage`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.documents.keys import namespace_prefix
from pyai_sessions.documents.limits import Limits, make_terms
from pyai_sessions.errors import InvalidValueError, SessionNotFoundError, UnsupportedOperationError
from pyai_sessions.model.session import Session
from pyai_sessions.model.session_store import OnConflict, SessionStore, check_on_conflict, check_session
from pyai_sessions.sessions.backend import backend_of
from pyai_sessions.sessions.engine import Engine
from pyai_sessions.sessions.trips import Asking, mending, sharing
from pyai_sessions.storage.protocol import Storage
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    Clock,
    check_clock,
    check_expected,
    check_id,
    check_limit,
    check_timeout,
    check_user,
    sought_id,
    utc_now,
)


class KVSessionStore(OfOneProcess, SessionStore):
    """Sessions as JSON documents in a mapping: a dict, SqliteDict, diskcache.Index, RedisMapping, or one of your own.

    It has the four methods of a `SessionStore`. All else that can be done with its sessions, `SessionManager` does.

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
        terms = make_terms(ttl=ttl, sliding=sliding, limits=limits, clock=clock)
        timeout = check_timeout(timeout)
        backend = backend_of(mapping, shared=shared, timeout=timeout, namespace=namespace)
        if ttl is None and backend.ttl is not None:
            terms = make_terms(ttl=backend.ttl, sliding=sliding, limits=limits, clock=clock)
        self._engine = Engine(backend, terms)
        self._namespace = namespace
        self._is_part = False
        self._close_mapping: Callable[[], object] | None = None
        self.shared: dict[object, Any] = {}

    def namespace(self, namespace: str) -> KVSessionStore:
        """Return the store of a namespace, on the connections and the threads of this one.

        Making it takes microseconds, so make it where you need it. It has the settings of this store. Close only this
        store.

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
        made = KVSessionStore.__new__(type(self))
        engine = self._engine.part(namespace, under)
        vars(made).update(vars(self), _engine=engine, _namespace=namespace, _is_part=True)
        return made

    @property
    def clock(self) -> Clock:
        """Returns the current time."""
        return self._engine.terms.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        check_clock(clock)
        self._engine.use(self._engine.terms._replace(clock=clock))

    @property
    def threads(self) -> int:
        """How many calls at the same time are worth a thread each."""
        return self._engine.backend.threads

    def __repr__(self) -> str:
        part = "" if self._namespace is None else f"namespace {self._namespace!r} of "
        return f"<{type(self).__name__} on {part}a {type(self.mapping).__name__}>"

    @sharing
    def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> Asking[None]:
        """Store a session, as `SessionManager.save` does."""
        check_on_conflict(on_conflict)
        check_session(session)
        yield from self._engine.saver.save(session, on_conflict)

    @sharing
    def get(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Asking[Session | None]:
        """Return a session or None, as `SessionManager.get_session` does."""
        owner, sought = check_user(user_id), sought_id(session_id)
        check_limit(last, "last")
        terms = self._engine.terms
        if renew and (terms.ttl is None or not terms.sliding):
            problem = "is given, but only a sliding ttl can be renewed: KVSessionStore(mapping, ttl=seconds)"
            raise InvalidValueError("renew", problem)
        if sought is None:
            return None
        if renew:
            yield None
            with suppress(SessionNotFoundError):
                self._engine.archiver.renew(sought, owner)
        return (yield from self._engine.loader.load(sought, owner, last))

    @mending
    def delete(self, session_id: str, *, if_revision: str | None = None, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session; return whether there was one, as `SessionManager.delete` does."""
        owner, sought = check_user(user_id), sought_id(session_id)
        check_expected(if_revision, "a session: session.revision")
        return sought is not None and self._engine.deleter.delete(sought, owner, if_revision=if_revision)

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
        return self._engine.lister.sessions(
            user_id, limit=limit, before=before, include_archived=include_archived, skip_invalid=skip_invalid
        )

    def require(self, method: str) -> None:
        """Raise UnsupportedOperationError where a manager's *method* cannot work on this store."""

    def take_over(self) -> None:
        """Let `close` close the mapping or the `Storage`, too, if it can be closed."""
        close: object = getattr(getattr(self.mapping, "mapping", self.mapping), "close", None)
        if callable(close):
            self._close_mapping = close

    def close(self) -> None:
        """Free what the store opened. A mapping or a `Storage` that was given stays open.

        The store of a namespace frees nothing: the store that it came from does.
        """
        if self._is_part:
            return
        if not isinstance(getattr(self.mapping, "mapping", self.mapping), Storage):
            self._engine.backend.storage.close()
        if self._close_mapping:
            self._close_mapping()
