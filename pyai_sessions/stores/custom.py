"""Stores of the users' own: four methods and some optional ones, seen as what the managers ask for.

Everything here is a coroutine that reaches the store through `Calls`, so sync and async managers share it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pyai_sessions.concurrency.calls import Calls
from pyai_sessions.documents.blanking import Blanker
from pyai_sessions.documents.limits import Terms
from pyai_sessions.errors import (
    InvalidDocumentError,
    InvalidValueError,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionNotFoundError,
    UnsupportedOperationError,
)
from pyai_sessions.model.branches import check_branch
from pyai_sessions.model.conversation import later
from pyai_sessions.model.fields import check_status, check_statuses
from pyai_sessions.model.heads import SessionStatus, from_microseconds
from pyai_sessions.model.points import Branch
from pyai_sessions.model.session import (
    Session,
    SessionSummary,
    assign,
    history_of,
    new_session_id,
    switch,
    values_of,
)
from pyai_sessions.model.session_store import OnConflict, SummaryPage, check_messages, check_on_conflict, check_session
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import Progress
from pyai_sessions.sessions.filters import Order, check_order, check_where, fits
from pyai_sessions.sessions.forking import At, copied
from pyai_sessions.sessions.saving import check_named, not_here
from pyai_sessions.storage.protocol import Position
from pyai_sessions.storage.walks import Walk
from pyai_sessions.stores.catalog import Catalog, name_of, position_of
from pyai_sessions.stores.snapshots import known, merged, snapshot, touch_if_changed
from pyai_sessions.upkeep.erasure import Erasure, forks_of
from pyai_sessions.upkeep.exports import check_file, line_of
from pyai_sessions.upkeep.imports import Imported, imported
from pyai_sessions.upkeep.redaction import REMOVED, Redaction, blanker_of, holds, order, redacted, related_to
from pyai_sessions.upkeep.repair import Problem, Verification
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    AnyPath,
    Clock,
    belongs,
    check_id,
    check_limit,
    check_time,
    check_user,
    existing_id,
    sought_id,
    utc_now,
)
from pyai_sessions.values.json import plain_object
from pyai_sessions.values.messages import Message, same_words, take_drawn, taken
from pyai_sessions.values.tokens import new_token

_PATIENCE = 10.0
"""Seconds that a save is tried again while other writers are faster."""
_PAGE = 100
"""Sessions that are asked of a listing at a time."""


class CustomStore:
    """A `SessionStore` of the user's, with what can be made of it; what it cannot answer says what it lacks.

    *index* is a mapping in which the sessions are listed by user and by activity, where the store has no list itself.
    """

    def __init__(self, store: Any, calls: Calls, *, index: Any = None, clock: Clock = utc_now) -> None:
        self.store = store
        self.clock = clock
        self._calls = calls
        self._catalog = None if index is None else Catalog(index)
        self._append = self._power("append")
        self._list = self._power("list_by_activity")
        self._count = self._power("count")
        self._clear = self._power("clear")
        self._was_built = False
        self._home = new_token(6)

    # One session -------------------------------------------------------------------------------------------------

    async def create(self, session: Session, *, named: bool = True) -> Session:
        """Store a session whose id must be free; one that was drawn at random is."""
        if named and await self._load(session.session_id) is not None:
            raise SessionExistsError(session.session_id)
        await self.save(session)
        return session

    async def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> None:
        """Store a session, if JSON can hold it; an archived one only as its archiving.

        Where the store counts revisions, a copy that went stale is merged as our own stores do.
        """
        check_on_conflict(on_conflict)
        check_session(session)
        session.session_id = check_id(session.session_id, "session_id")
        given = history_of(session).given
        if given is not None:
            check_named(session, given.origin)
        plain_object(session.metadata, "metadata")
        plain_object(session.state, "state")
        touch_if_changed(session)
        if session.status is SessionStatus.ARCHIVED or on_conflict == "overwrite":
            stored = await self._load(session.session_id)
            if stored is not None and stored.status is SessionStatus.ARCHIVED:
                raise SessionArchivedError(session.session_id)
            if stored is not None and on_conflict == "overwrite":
                session.revision = stored.revision
                session.updated_at = later(session.updated_at, stored.updated_at)
        elif on_conflict == "error" and session.revision is None:
            stored = await self._load(session.session_id)
            if stored is not None and stored.revision is None:
                raise self._lacks("save(on_conflict='error')", "revisions (`session.revision`)", index=False)
        await self._save(session, on_conflict)

    async def _save(self, session: Session, on_conflict: OnConflict = "merge") -> None:
        """Store a session, merged with what is stored as often as the store says that it changed."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            await self._enlist(session)  # first: an entry without its session is passed over
            try:
                await self._calls.write(self.store.save, session)
            except SessionConflictError:
                theirs = await self._load(session.session_id)
                if session.revision is None:
                    raise SessionExistsError(session.session_id) from None
                if theirs is None:
                    elsewhere = history_of(session).home != self._home
                    raise (not_here if elsewhere else SessionDeletedError)(session.session_id) from None
                if on_conflict == "error" or history_of(session).given is None or time.monotonic() > deadline:
                    raise
                if on_conflict == "overwrite":
                    session.revision = theirs.revision
                else:
                    merged(session, theirs)
            except BaseException:
                history_of(session).tried.append(snapshot(session))
                raise
            else:
                self._known(session)
                return

    async def get(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Session | None:
        """Return a session, whole: a store of four methods cannot load a part.

        *user_id* says whose it must be, here and in what follows. The store itself does not know who asks: what it
        gives is checked here, before anything is made of it.
        """
        owner, sought = check_user(user_id), sought_id(session_id)
        if renew:
            raise InvalidValueError("renew", "is given, but only a KVSessionStore has a ttl that can be renewed")
        check_limit(last, "last")
        return None if sought is None else await self._load(sought, owner)

    async def get_or_create(self, session: Session) -> Session:
        """Return the session of this id; store *session* where there is none."""
        while True:
            stored: Session | None = await self._calls.read(self.store.get, session.session_id)
            if stored is not None and not belongs(stored.user_id, session.user_id):
                raise SessionExistsError(session.session_id)
            if stored is not None:
                return self._known(stored)
            with suppress(SessionExistsError):  # another created it in between
                return await self.create(session)

    async def switch(
        self, session_id: str, branch: str | Branch, *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> Session:
        """Load, change and save."""
        owner, branch_id = check_user(user_id), check_branch(branch)
        check_limit(last, "last")
        session_id = existing_id(session_id)
        async with self._calls.turn(session_id):
            session = await self._existing(session_id, owner)
            if session.status is SessionStatus.ARCHIVED:
                raise SessionArchivedError(session_id)
            switch(session, branch_id)
            await self._save(session)
        return session

    async def load_history(self, session: Session) -> None:
        """Do nothing but check the argument: all of it is loaded."""
        check_session(session)

    async def append(self, session_id: str, messages: Iterable[Message], *, user_id: str | Anyone = ANYONE) -> None:
        """Append in one step where the store can; else load, append and save, one caller of a session at a time.

        Where a user is asked for, a store that can do it in one step is asked whose the session is, in a step before.
        """
        owner, added = check_user(user_id), check_messages(messages)
        session_id = existing_id(session_id)
        if not added:
            return
        chosen = [each for each in added if not take_drawn(each)]
        if self._append:
            if owner is not None or chosen:
                added = _new_to(await self._open(session_id, owner), added)
                if not added:
                    return
            await self._calls.write(self._append, session_id, added)
            if self._catalog and not await self._calls.write(self._catalog.touch, session_id, self.clock()):
                await self._enlist(await self._existing(session_id))
            return
        async with self._calls.turn(session_id):
            session = await self._open(session_id, owner)
            new = _new_to(session, added)
            if new:
                history_of(session).grow(new)
                session.touch()
                await self._save(session)

    async def archive(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Load, change and save."""
        owner = check_user(user_id)
        await self._set_status(existing_id(session_id), SessionStatus.ARCHIVED, user_id=owner)

    async def restore(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Load, change and save."""
        owner = check_user(user_id)
        await self._set_status(existing_id(session_id), SessionStatus.ACTIVE, user_id=owner)

    async def _set_status(
        self,
        session_id: str,
        status: SessionStatus,
        idle_since: datetime | None = None,
        *,
        user_id: str | None = None,
    ) -> bool:
        deadline = time.monotonic() + _PATIENCE
        async with self._calls.turn(session_id):
            while True:
                session = await self._existing(session_id, user_id)
                if session.status is status or (idle_since is not None and session.updated_at >= idle_since):
                    return False
                session.status = status
                if status is SessionStatus.ACTIVE:
                    session.touch()
                try:
                    await self._save(session, "error")
                except SessionConflictError:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return True

    async def fork(
        self,
        session_id: str,
        at: At = None,
        user_id: str | None = None,
        *,
        new_id: str | None = None,
        last: int | None = 50,
        owned_by: str | Anyone = ANYONE,
    ) -> Session:
        """Save a copy of a session up to a point as a new one: such a store shares nothing."""
        check_limit(last, "last")
        owner = check_user(owned_by, "owned_by")
        user_id = None if user_id is None else check_id(user_id, "user_id")
        name = new_session_id() if new_id is None else check_id(new_id, "new_id")
        session = await self._existing(existing_id(session_id), owner)
        fork = copied(session, at, session_id=name, user_id=user_id, clock=self.clock)
        return await self.create(fork, named=new_id is not None)

    async def delete(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session; return whether there was one."""
        owner, sought = check_user(user_id), sought_id(session_id)
        if sought is None:
            return False
        there = await self._load(sought, owner) is not None
        if owner is not None and not there:
            return False
        await self._calls.write(self.store.delete, sought)
        if self._catalog:
            await self._calls.write(self._catalog.remove, sought)
        return there

    # Lists -------------------------------------------------------------------------------------------------------

    async def list_for_user(
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
        chosen = [
            each
            for each in await self._of_user(user_id)
            if (include_archived or each.status is SessionStatus.ACTIVE) and (bound is None or each.updated_at < bound)
        ]
        return chosen[:limit]

    async def _of_user(self, user_id: str) -> list[Session]:
        listed: Sequence[Session] = await self._calls.read(self.store.list_for_user, user_id)
        sessions = [self._known(each) for each in listed]
        return sorted(sessions, key=position_of, reverse=True)

    async def summaries(
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
        """Return summaries of a user's sessions, or of all. Costs reading those of the user, or of the page."""
        check_limit(limit, "limit")
        owner = check_user(user_id)
        found = self._walk(
            owner, status, cursor, order=order, limit=limit, wanted=check_where(where), skip_invalid=skip_invalid
        )
        page, last, known = SummaryPage(), None, set[str]()
        async for position, session in found:
            if session.session_id in known:  # it became active meanwhile
                continue
            if len(page) == limit:
                page.next_cursor = None if last is None else indexes.cursor_of(last)
                break
            known.add(session.session_id)
            page.append(_summary(session))
            last = position
        return page

    async def count(
        self,
        user_id: str | Anyone = ANYONE,
        *,
        where: Mapping[str, Any] | None = None,
        status: SessionStatus | None = SessionStatus.ACTIVE,
    ) -> int:
        """Return how many sessions a user has, or all users."""
        owner, wanted = check_user(user_id), check_where(where)
        statuses = check_statuses(status)
        if self._count and not wanted:
            return int(await self._calls.read(self._count, owner, None if status is None else statuses[0]))
        if self._catalog and not wanted and owner is None:
            catalog = await self._built()
            return int(await self._calls.read(catalog.count, owner, statuses))
        if not (owner is not None or self._list or self._catalog):
            raise self._lacks("count of all users", "`count` or `list_by_activity`")
        found = self._walk(owner, status, None, order="oldest", limit=None, wanted=wanted, skip_invalid=True)
        return len([None async for _ in found])

    async def _walk(
        self,
        user_id: str | None,
        status: SessionStatus | None,
        cursor: str | None,
        *,
        order: Order,
        limit: int | None,
        wanted: Mapping[str, Any],
        skip_invalid: bool,
    ) -> AsyncIterator[tuple[Position, Session]]:
        """Iterate over a user's sessions, or all, after a cursor; *limit* is how many of them will be looked at."""
        newest_first = check_order(order) == "newest"
        statuses = check_statuses(status)
        after = indexes.position_of(cursor)
        if user_id is not None:
            found = self._of_user_after(user_id, after, newest_first=newest_first)
        elif self._catalog:
            found = self._catalogued(statuses, after, newest_first=newest_first, skip_invalid=skip_invalid)
        elif not self._list:
            raise self._lacks("list_sessions of all users", "`list_by_activity`")
        elif newest_first:
            found = self._newest_listed(statuses, wanted, after, limit)
        else:
            found = self._listed(after)
        async for position, session in found:
            if session.status in statuses and fits(session.metadata, wanted):
                yield position, session

    async def _of_user_after(
        self, user_id: str, after: Position | None, *, newest_first: bool
    ) -> AsyncIterator[tuple[Position, Session]]:
        sessions = await self._of_user(user_id)
        for each in sessions if newest_first else reversed(sessions):
            position = position_of(each)
            if after is None or (position < after if newest_first else position > after):
                yield position, each

    async def _listed(self, after: Position | None = None) -> AsyncIterator[tuple[Position, Session]]:
        """Iterate over all sessions as the store lists them: idle longest first."""
        remedy = "let list_by_activity(after, limit) return what comes after the pair `after`, in order"
        walk = Walk(f"{type(self.store).__name__}.list_by_activity", remedy)
        while True:
            start = None if after is None else (from_microseconds(after[0]), name_of(after))
            page: Sequence[Session] = await self._calls.read(self._list, start, _PAGE)
            for each in page:
                after = position_of(each)
                yield after, self._known(each)
            if len(page) < _PAGE:
                return
            walk.reach(after)

    async def _newest_listed(
        self,
        statuses: Sequence[SessionStatus],
        wanted: Mapping[str, Any],
        after: Position | None,
        limit: int | None,
    ) -> AsyncIterator[tuple[Position, Session]]:
        """Iterate over the newest that the store lists. Reads all it lists, and holds a page."""
        newest: list[tuple[Position, Session]] = []
        async for position, session in self._listed():
            if after is not None and position >= after:
                break
            if session.status in statuses and fits(session.metadata, wanted):
                newest.append((position, session))
                if limit is not None and len(newest) > 2 * limit + _PAGE:
                    del newest[: -limit - 1]
        for each in reversed(newest):
            yield each

    async def _catalogued(
        self,
        statuses: Sequence[SessionStatus],
        after: Position | None,
        *,
        newest_first: bool,
        skip_invalid: bool = True,
    ) -> AsyncIterator[tuple[Position, Session]]:
        """Iterate over all sessions as the index lists them, each as the store has it."""
        catalog = await self._built()
        walk = Walk(indexes.INDEX)
        while True:
            page: list[Position] = await self._calls.read(catalog.page, statuses, after, _PAGE, newest_first)
            for each in page:
                try:
                    session = await self._load(name_of(each))
                except InvalidDocumentError:
                    if not skip_invalid:
                        raise
                    continue
                if session is not None:
                    yield each, session
            if len(page) < _PAGE:
                return
            after = page[-1]
            walk.reach(after)

    async def _catalogued_ids(self, catalog: Catalog) -> AsyncIterator[str]:
        """Iterate over the ids that the index lists; one that moves meanwhile may come twice."""
        after: Position | None = None
        walk = Walk(indexes.INDEX)
        while True:
            page: list[Position] = await self._calls.read(catalog.page, tuple(SessionStatus), after, _PAGE)
            for each in page:
                yield name_of(each)
            if len(page) < _PAGE:
                return
            after = page[-1]
            walk.reach(after)

    # All sessions ------------------------------------------------------------------------------------------------

    async def import_sessions(
        self, sessions: Iterable[Session | Mapping[str, Any]], progress: Progress | None = None
    ) -> Imported:
        """Save those whose id is free, one by one, and say what became of each."""
        report, done = Imported(), 0
        found = imported(sessions, Terms(self.clock))
        while new := await self._calls.read(next, found, None):  # in a thread: it may read another storage
            try:
                stored = await self._load(new.session.session_id)
            except InvalidDocumentError:
                report.add_taken(new, None)
            else:
                if stored is None:
                    await self._save(new.session)
                    report.add_inserted(new)
                else:
                    report.add_taken(new, stored)
            done += 1
            if progress:
                progress(done)
        return report

    async def archive_inactive(self, idle_since: datetime, progress: Progress | None = None) -> int:
        """Archive the sessions that were last active before *idle_since*, one by one. Costs only those."""
        idle_since = check_time(idle_since, "idle_since")
        if self._list:
            found = self._listed()
        elif self._catalog:
            found = self._catalogued([SessionStatus.ACTIVE], None, newest_first=False)
        else:
            raise self._lacks("archive_inactive", "`list_by_activity`")
        archived = 0
        async for position, session in found:
            if from_microseconds(position[0]) >= idle_since:
                break
            if session.status is SessionStatus.ACTIVE:
                with suppress(SessionNotFoundError, SessionDeletedError, SessionArchivedError):
                    archived += await self._set_status(session.session_id, SessionStatus.ARCHIVED, idle_since)
                if progress and archived % _PAGE == 0:
                    progress(archived)
        if progress and archived % _PAGE:
            progress(archived)
        return archived

    async def delete_user(self, user_id: str, *, scan: bool = False) -> Erasure:
        """Delete a user's sessions, one by one; *scan* then those that only a list of all users has."""
        user_id = check_id(user_id, "user_id")
        self._check_scan("delete_user(scan=True)", scan=scan)
        erased = [each.session_id for each in await self._of_user(user_id) if await self.delete(each.session_id)]
        if not scan:
            return Erasure(sorted(erased))
        copies: dict[str, str] = {}
        unlisted: list[str] = []
        async for session in self._all():
            if session.user_id == user_id:
                unlisted += [session.session_id] if await self.delete(session.session_id) else []
            elif session.parent is not None:
                copies[session.session_id] = session.parent.session_id
        if self._catalog:
            async for session_id in self._catalogued_ids(self._catalog):
                if await self._load(session_id) is None:
                    await self._calls.write(self._catalog.remove, session_id)
        erased += unlisted
        return Erasure(sorted(erased), shared=sorted(forks_of(erased, copies)), unlisted=sorted(unlisted))

    async def redact(
        self,
        session_id: str,
        message_id: str,
        *,
        content: Any = REMOVED,
        text: str | Iterable[str] | None = None,
        user_id: str | Anyone = ANYONE,
        scan: bool = False,
    ) -> Redaction:
        """Take the words of a message out of a session and of its forks by the same user, one by one."""
        wanted = order(session_id, message_id, content, text, check_user(user_id), scan=scan)
        self._check_scan("redact(scan=True)", scan=scan)
        session = await self._existing(wanted.session_id, wanted.user_id)
        owner = session.user_id
        found = {each.session_id: each for each in (await self._of_user(owner) if owner is not None else ())}
        if scan:
            found |= {each.session_id: each async for each in self._all()}
        related = related_to(session, found)
        mine = [each for each in related if each.user_id == owner]
        blanker = blanker_of(wanted, session, mine)
        held, documents, copies = {session.session_id}, 0, 0
        for each in mine:  # the session itself last: whoever repeats this learns from it what the message says
            blanker.met = blanker.copies = 0
            documents += await self._redact(each.session_id, blanker)
            copies += blanker.copies
            held |= {each.session_id} if blanker.met else set()
        others = [each for each in related if each.user_id != owner]
        shared = [each.session_id for each in others if holds(each, blanker)]
        return Redaction(sorted(held), documents, copies, sorted(shared), sorted(blanker.mentions))

    async def _redact(self, session_id: str, blanker: Blanker) -> bool:
        """Redact a stored session; return whether it was changed."""
        deadline = time.monotonic() + _PATIENCE
        async with self._calls.turn(session_id):
            while (session := await self._load(session_id)) is not None:
                made = redacted(session, blanker)
                if made is None:
                    return False
                history = history_of(session)
                history.rewrite(0, list(history_of(made).log))
                history.branches = history_of(made).branches
                assign(session, values_of(made), history)
                try:
                    await self._save(session, "error")
                except SessionConflictError:
                    if time.monotonic() > deadline:
                        raise
                else:
                    return True
        return False

    async def export_user(self, user_id: str, file: Any, *, scan: bool = False) -> int:
        """Write a user's sessions to an open text file, a line each; *scan* then those that only a list of all has."""
        user_id = check_id(user_id, "user_id")
        self._check_scan("export_user(scan=True)", scan=scan)
        check_file(file)
        written: set[str] = set()
        for session in await self._of_user(user_id):
            await self._calls.write(file.write, line_of(session))
            written.add(session.session_id)
        if scan:
            async for session in self._all():
                if session.user_id == user_id and session.session_id not in written:
                    await self._calls.write(file.write, line_of(session))
                    written.add(session.session_id)
        return len(written)

    def _check_scan(self, operation: str, *, scan: bool) -> None:
        if scan and not (self._list or self._catalog):
            raise self._lacks(operation, "`list_by_activity`")

    async def _all(self) -> AsyncIterator[Session]:
        """Iterate over all sessions; one that moves meanwhile may come twice."""
        if self._list:
            async for _, session in self._listed():
                yield session
        else:
            async for _, session in self._catalogued(tuple(SessionStatus), None, newest_first=False):
                yield session

    async def purge_expired(self, progress: Progress | None = None) -> int:  # noqa: ARG002
        """Return 0: expiry is the store's own affair."""
        return 0

    async def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:  # noqa: ARG002
        """Refuse: only the store knows where its sessions lie."""
        name = type(self.store).__name__
        msg = f"backup copies SQLite files of our own stores alone; back up the database of {name} by its own tools"
        raise UnsupportedOperationError(msg)

    async def rotate_keys(self, progress: Progress | None = None) -> int:  # noqa: ARG002
        """Raise UnsupportedOperationError: encryption is the store's own affair."""
        raise UnsupportedOperationError("only an Encrypted mapping has keys to rotate: its own rotate() does that")

    async def clear(self) -> int:
        """Delete all sessions; return how many there were."""
        if not (self._clear or self._list or self._catalog):
            raise self._lacks("clear_all", "`clear` or `list_by_activity`")
        deleted = 0
        if self._clear:
            deleted = int(await self._calls.write(self._clear))
        elif self._list:
            remedy = "let delete(session_id) take the session out of what list_by_activity returns"
            walk = Walk(f"{type(self.store).__name__}.delete", remedy)
            while page := await self._calls.read(self._list, None, _PAGE):
                walk.reach(position_of(page[0]))
                deleted += sum([await self.delete(each.session_id) for each in page])
        if self._catalog:
            async for session_id in self._catalogued_ids(self._catalog):
                deleted += await self.delete(session_id)
        return deleted

    async def reindex(self, progress: Progress | None = None) -> int:
        """Rebuild the index from what the store lists; return how many sessions there are."""
        if not self._catalog:
            raise UnsupportedOperationError(f"reindex needs an index to rebuild: {_NAME_AN_INDEX}")
        if not self._list:
            raise self._lacks("reindex", "`list_by_activity`", index=False)
        count = 0
        async for _, session in self._listed():
            await self._enlist(session)
            count += 1
            if progress and count % _PAGE == 0:
                progress(count)
        async for session_id in self._catalogued_ids(self._catalog):
            if await self._load(session_id) is None:
                await self._calls.write(self._catalog.remove, session_id)
        if progress and count % _PAGE:
            progress(count)
        return count

    async def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verification:
        """Read all sessions, and compare the index with them; *repair* rewrites wrong entries of it."""
        if not (self._list or self._catalog):
            raise self._lacks("verify", "`list_by_activity`")
        report = Verification()
        if self._list:
            async for _, listed in self._listed():
                report.sessions += 1
                await self._verify_entry(report, listed.session_id, listed, repair=repair)
                if progress and report.sessions % _PAGE == 0:
                    progress(report.sessions)
        if self._catalog:
            async for session_id in self._catalogued_ids(self._catalog):
                try:
                    session = await self._load(session_id)
                except InvalidDocumentError as err:
                    report.problems.append(Problem("unreadable head", session_id, str(err)))
                    continue
                if session is None or not self._list:
                    report.sessions += session is not None
                    await self._verify_entry(report, session_id, session, repair=repair)
        return report

    async def _verify_entry(
        self, report: Verification, session_id: str, session: Session | None, *, repair: bool
    ) -> None:
        """Compare the index with a session as the store has it; None: it has none."""
        if not self._catalog or await self._calls.read(self._catalog.shows, session_id, session):
            return
        report.problems.append(Problem("index", session_id, "is not listed as it is stored", repair))
        if repair and session is None:
            await self._calls.write(self._catalog.remove, session_id)
        elif repair and session is not None:
            await self._enlist(session)

    async def close(self) -> None:
        """Close the store with its own `close`."""
        await self._calls.write(self.store.close)

    def check_closes(self) -> None:
        """Raise unless the store can be closed."""
        if not self._power("close"):
            raise self._lacks("close_store=True", "`close`", index=False)

    # Below: the store, the index ----------------------------------------------------------------------------------

    async def _load(self, session_id: str, user_id: str | None = None) -> Session | None:
        """Return a session if there is one, and it is of this user (None: of anyone): another's is as absent."""
        session = await self._calls.read(self.store.get, session_id)
        return self._known(session) if session is not None and belongs(session.user_id, user_id) else None

    def _known(self, session: Session) -> Session:
        """Return a session that the store gave, or was given, as what is stored now."""
        history_of(session).home = self._home
        return known(session, self.clock)

    async def _existing(self, session_id: str, user_id: str | None = None) -> Session:
        session = await self._load(session_id, user_id)
        if session is None:
            raise SessionNotFoundError(session_id)
        return session

    async def _open(self, session_id: str, user_id: str | None) -> Session:
        """Return a session that can be appended to."""
        session = await self._existing(session_id, user_id)
        if session.status is SessionStatus.ARCHIVED:
            raise SessionArchivedError(session_id)
        return session

    async def _enlist(self, session: Session) -> None:
        if self._catalog:
            entry = (session.session_id, session.user_id, check_status(session.status), session.updated_at)
            await self._calls.write(self._catalog.put, *entry)

    async def _built(self) -> Catalog:
        """Return the index; an empty one is built first, where the store can be listed."""
        catalog = self._catalog
        if catalog is None:
            msg = "there is no index"
            raise ValueError(msg)
        if not self._was_built:
            if self._list and not await self._calls.read(catalog.count, None, tuple(SessionStatus)):
                await self.reindex()
            self._was_built = True
        return catalog

    def _power(self, name: str) -> Any:
        """Return an optional method of the store, or None."""
        method = getattr(self.store, name, None)
        return method if callable(method) else None

    def _lacks(self, operation: str, powers: str, *, index: bool = True) -> UnsupportedOperationError:
        remedy = f", or an index: {_NAME_AN_INDEX}" if index else ""
        return UnsupportedOperationError(f"{operation} needs {powers}, which {type(self.store).__name__} lacks{remedy}")


_NAME_AN_INDEX = "SessionManager(store, index=SQLiteMapping('index.db'))"


def _new_to(session: Session, added: list[Message]) -> list[Message]:
    """Return those of the messages that a session lacks; raise where another message of it has the id of one."""
    stored = {each.message_id: each for each in session.messages}
    for each in added:
        if each.message_id in stored and not same_words(stored[each.message_id], each):
            raise taken(each.message_id)
    return [each for each in added if each.message_id not in stored]


def _summary(session: Session) -> SessionSummary:
    return SessionSummary(
        session.session_id,
        session.user_id,
        session.metadata,
        session.message_count,
        session.status,
        session.created_at,
        session.updated_at,
    )
