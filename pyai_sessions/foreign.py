"""Stores of the users' own: four methods, sync or async, seen as what the manager asks for."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn, TypeVar, cast

from pyai_sessions.backends.protocol import Progress
from pyai_sessions.checks import Clock, check_id, check_limit, check_time, utc_now
from pyai_sessions.errors import (
    InvalidValueError,
    SessionArchivedError,
    SessionExistsError,
    SessionNotFoundError,
    UnsupportedOperationError,
)
from pyai_sessions.filters import Order, check_order, check_where, fits
from pyai_sessions.messages import Message
from pyai_sessions.models import Session, SessionStatus, SessionSummary, check_status, history_of
from pyai_sessions.store import OnConflict, SummaryPage, imported
from pyai_sessions.values import plain_object

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own, for async stores that are called from sync code.

    It is another loop than the caller's, so a call from inside a running loop cannot dead-lock with it. Where a store's
    own coroutine makes such a call, the next loop runs it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: Any = None
        self._next: _Loop | None = None

    def run(self, awaitable: Awaitable[T]) -> T:
        import asyncio  # a fifth of this package's import, for those who have an async store

        if threading.current_thread() is self._thread:
            self._next = self._next or _Loop()
            return self._next.run(awaitable)
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                name = "pyai_sessions async stores"
                self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
                self._thread.start()

        async def wait() -> T:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()


_loop = _Loop()


def _renew() -> None:
    """Start anew in a forked child, which does not have the parent's thread."""
    global _loop  # noqa: PLW0603 (one loop a process)
    _loop = _Loop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def result(value: T | Awaitable[T]) -> T:
    """Return what a sync or an async method gives."""
    return _loop.run(cast("Awaitable[T]", value)) if isinstance(value, Awaitable) else value


class ForeignStore:
    """A `SessionStore` of four methods, with what can be made of them; the rest says what it lacks.

    Two writers of one session are only as safe as the store itself: it has no revision to compare.
    """

    def __init__(self, store: Any, clock: Clock = utc_now) -> None:
        self.store = store
        self.clock = clock

    def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> None:
        """Store a session, if JSON can hold it; an archived one only as its archiving."""
        if on_conflict != "merge":
            raise self._lacks(f"save(on_conflict={on_conflict!r})", "a revision to compare")
        history_of(session)
        plain_object(session.metadata, "metadata")
        plain_object(session.state, "state")
        if session.status is SessionStatus.ARCHIVED:
            stored = self.get(session.session_id)
            if stored is not None and stored.status is SessionStatus.ARCHIVED:
                raise SessionArchivedError(session.session_id)
        result(self.store.save(session))

    def create(self, session: Session) -> None:
        """Store a session whose id must be free."""
        if self.get(session.session_id) is not None:
            raise SessionExistsError(session.session_id)
        self.save(session)

    def get(self, session_id: str, *, last: int | None = None) -> Session | None:
        """Return a session, whole: a store of four methods cannot load a part."""
        session_id = check_id(session_id, "session_id")
        check_limit(last, "last")
        session = result(self.store.get(session_id))
        return None if session is None else self._known(session)

    def load_history(self, session: Session) -> None:
        """Do nothing: all of it is loaded."""

    def append(self, session_id: str, messages: Iterable[Message]) -> None:
        """Load, append and save."""
        session = self._existing(session_id)
        if session.status is SessionStatus.ARCHIVED:
            raise SessionArchivedError(session_id)
        known = {each.message_id for each in session.messages}
        for each in messages:
            if each.message_id not in known:
                history_of(session).append(each)
        session.touch()
        result(self.store.save(session))

    def set_status(self, session_id: str, status: SessionStatus) -> bool:
        """Load, change and save."""
        session = self._existing(session_id)
        if session.status is status:
            return False
        session.status = status
        result(self.store.save(session))
        return True

    def delete(self, session_id: str) -> bool:
        """Delete a session; return whether there was one."""
        there = self.get(session_id) is not None
        result(self.store.delete(session_id))
        return there

    def list_for_user(
        self,
        user_id: str,
        *,
        limit: int | None = None,
        before: datetime | None = None,
        include_archived: bool = False,
        skip_invalid: bool = False,  # noqa: ARG002 (it is the store that reads)
    ) -> list[Session]:
        """Return a user's sessions, latest activity first."""
        user_id = check_id(user_id, "user_id")
        check_limit(limit, "limit")
        bound = None if before is None else check_time(before, "before")
        sessions = [self._known(each) for each in result(self.store.list_for_user(user_id))]
        chosen = [
            each
            for each in sessions
            if (include_archived or each.status is SessionStatus.ACTIVE) and (bound is None or each.updated_at < bound)
        ]
        chosen.sort(key=lambda each: (each.updated_at, each.session_id), reverse=True)
        return chosen[:limit]

    def summaries(
        self,
        user_id: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
        order: Order = "newest",
        limit: int | None = 50,
        cursor: str | None = None,
        skip_invalid: bool = False,
    ) -> SummaryPage:
        """Return summaries of a user's sessions. Costs reading them all."""
        check_limit(limit, "limit")
        wanted = check_where(where)
        if user_id is None:
            raise self._lacks("list_sessions of all users", "a list of all sessions")
        sessions = self.list_for_user(user_id, include_archived=True, skip_invalid=skip_invalid)
        kept = None if status is None else check_status(status)
        chosen = [each for each in sessions if kept in (None, each.status) and fits(each.metadata, wanted)]
        if check_order(order) == "oldest":
            chosen.reverse()
        ids = [each.session_id for each in chosen]
        if cursor is not None and cursor not in ids:
            raise InvalidValueError("cursor", "is not one that list_sessions returned as next_cursor")
        start = 0 if cursor is None else ids.index(cursor) + 1
        end = len(chosen) if limit is None else start + limit
        page = SummaryPage(
            SessionSummary(s.session_id, s.user_id, s.metadata, s.message_count, s.status, s.created_at, s.updated_at)
            for s in chosen[start:end]
        )
        page.next_cursor = ids[end - 1] if 0 < end < len(ids) else None
        return page

    def count(
        self,
        user_id: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has. Costs reading them."""
        return len(self.summaries(user_id, where=where, status=status, limit=None))

    def import_sessions(self, sessions: Iterable[Session | Mapping[str, Any]], progress: Progress | None = None) -> int:
        """Save those whose id is free, one by one; return how many."""
        stored = 0
        for done, (session, _) in enumerate(imported(sessions, self.clock), start=1):
            if self.get(session.session_id) is None:
                result(self.store.save(session))
                stored += 1
            if progress:
                progress(done)
        return stored

    def delete_user(self, user_id: str) -> int:
        """Delete a user's sessions, one by one."""
        sessions = self.list_for_user(user_id, include_archived=True)
        for each in sessions:
            result(self.store.delete(each.session_id))
        return len(sessions)

    def purge_expired(self, progress: Progress | None = None) -> int:  # noqa: ARG002
        """Return 0: expiry is the store's own affair."""
        return 0

    def archive_inactive(self, idle_since: datetime, progress: Progress | None = None) -> NoReturn:  # noqa: ARG002
        """Raise: the four methods cannot list by activity."""
        raise self._lacks("archive_inactive", "a list of all sessions by activity")

    def clear(self) -> NoReturn:
        """Raise: the four methods cannot list all sessions."""
        raise self._lacks("clear_all", "a list of all sessions")

    def reindex(self, progress: Progress | None = None) -> NoReturn:  # noqa: ARG002
        """Raise: there is no index."""
        raise self._lacks("reindex", "an index")

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> NoReturn:  # noqa: ARG002
        """Raise: the four methods cannot list all sessions."""
        raise self._lacks("verify", "a list of all sessions")

    def close(self) -> None:
        """Do nothing: whoever made the store closes it."""

    def _existing(self, session_id: str) -> Session:
        session = self.get(session_id)
        if session is None:
            raise SessionNotFoundError(session_id)
        return session

    def _known(self, session: Session) -> Session:
        history_of(session).clock = self.clock
        return session

    def _lacks(self, operation: str, power: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{operation} needs {power}, which the four methods of {type(self.store).__name__} cannot give; "
            "a KVSessionStore over a mapping has it"
        )
