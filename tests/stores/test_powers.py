"""Tests of a custom store's optional powers, and of the index that replaces a list by activity."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pyai_sessions import (
    AsyncSessionManager,
    InvalidValueError,
    SessionConflictError,
    SessionManager,
    SQLiteMapping,
)
from pyai_sessions.testing import Recorder, StoppedClock, check_events
from tests.contract.stores import AsyncFullStore, AsyncStore, FullStore, MixedStore, SyncStore


def ids(sessions):
    return [each.session_id for each in sessions]


def pages(manager, limit, **options):
    """Return the ids of all pages of a list."""
    found, cursor = [], None
    while True:
        page = manager.list_sessions(limit=limit, cursor=cursor, **options)
        assert len(page) <= limit
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.fixture
def clock():
    return StoppedClock()


def fill(manager, clock, count=7):
    """Create s0, s1, … of ada and bob in turns, a day apart, and archive s3."""
    for n in range(count):
        manager.create_session("ada" if n % 2 == 0 else "bob", session_id=f"s{n}", metadata={"even": n % 2 == 0})
        clock.advance(days=1)
    manager.archive("s3")


# Revisions ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[FullStore, AsyncFullStore])
def revised(request):
    return request.param()


def test_threads_that_save_and_append_lose_nothing(revised):
    """Threads that save and append store each message once."""
    events = []
    manager = Recorder(SessionManager(revised), events.append)
    manager.create_session("ada", session_id="s")

    all_have_loaded = threading.Barrier(8)

    def write(n):
        session = manager.get_session("s")
        all_have_loaded.wait(20)
        session.add_message("user", f"saved {n}")
        manager.save(session)
        manager.append("s", {"role": "user", "content": f"appended {n}"})

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(write, n) for n in range(24)]:
            each.result(20)

    check_events(manager, events)


def test_a_store_that_refuses_what_nobody_changed_is_not_asked_again():
    """If a store refuses a save although nobody else saved, its error is raised."""

    class Refusing(FullStore):
        refusing = False

        def save(self, session):
            if self.refusing:
                raise SessionConflictError(session.session_id, session.revision, None)
            super().save(session)

    manager = SessionManager(store := Refusing())
    session = manager.create_session("ada")
    store.refusing = True

    with pytest.raises(SessionConflictError):
        manager.save(session)
    with pytest.raises(SessionConflictError):
        manager.archive(session.session_id)


class ToTheSecond(SyncStore):
    """Keeps times to the second, like some databases."""

    def get(self, session_id):
        session = super().get(session_id)
        if session is not None:
            session.created_at = session.created_at.replace(microsecond=0)
            session.updated_at = session.updated_at.replace(microsecond=0)
        return session


def test_a_store_that_changes_times_is_compared_with():
    """A stale copy is found and merged, although the store returns other times than it was given."""
    manager = SessionManager(ToTheSecond())
    session = manager.create_session("ada", session_id="s")
    for n in range(3):
        session.add_message("user", str(n))
        manager.save(session, on_conflict="error")
    mine, theirs = manager.get_session("s"), manager.get_session("s")
    theirs.set_state("theirs", 1)
    manager.save(theirs)
    mine.add_message("user", "mine")

    with pytest.raises(SessionConflictError):
        manager.save(mine, on_conflict="error")
    manager.save(mine)

    stored = manager.get_session("s")
    assert [each.content for each in stored.messages] == ["0", "1", "2", "mine"]
    assert stored.state == {"theirs": 1}


@pytest.mark.parametrize("kind", [SyncStore, AsyncStore])
def test_a_store_that_gives_back_what_it_was_given_is_read_once_a_save(kind):
    """A store without revisions is read once per save, to compare."""
    store, calls = kind(), []
    plain = store.get
    store.get = lambda session_id: calls.append(session_id) or plain(session_id)
    manager = SessionManager(store)
    session = manager.create_session("ada", session_id="s")
    calls.clear()

    for n in range(3):
        session.add_message("user", str(n))
        manager.save(session)

    assert calls == ["s", "s", "s"]


def test_a_save_is_one_call_of_a_store_that_counts_revisions(revised):
    """A save is one call if the store has revisions, also with a branch."""
    manager = SessionManager(revised)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "one")
    manager.save(session)
    session.rewind(1)
    manager.save(session)
    get, revised.get = revised.get, None

    session.add_message("user", "two")
    manager.save(session)

    revised.get = get
    assert [len(each.messages) for each in [manager.get_session("s")]] == [1]
    assert len(manager.get_session("s").branches) == 1


# Listing by activity -----------------------------------------------------------------------------------------------


@pytest.fixture(params=[FullStore, AsyncFullStore])
def listed(request):
    return request.param()


def test_archiving_asks_for_no_more_than_it_archives(clock):
    """`archive_inactive` stops listing one page after the last inactive session."""
    store = FullStore()
    asked, plain = [], store.list_by_activity
    store.list_by_activity = lambda after, limit: asked.append(after) or plain(after, limit)
    manager = SessionManager(store, clock=clock)
    fill(manager, clock, 250)
    asked.clear()

    assert manager.archive_inactive(days=249) == 1
    assert len(asked) == 2


def test_all_sessions_are_verified(listed, clock):
    """`verify` reads all sessions of a store that lists them."""
    manager = SessionManager(listed, clock=clock)
    fill(manager, clock)

    report = manager.verify()

    assert (report.sessions, report.problems) == (7, [])


# Closing -----------------------------------------------------------------------------------------------------------


class ClosedStore(SyncStore):
    """Counts how often it was closed."""

    closed = 0

    def close(self):
        self.closed += 1


class AsyncClosedStore(SyncStore):
    """The same, closed by a coroutine."""

    closed = 0

    async def close(self):
        await asyncio.sleep(0)
        self.closed += 1


@pytest.mark.parametrize("kind", [ClosedStore, AsyncClosedStore])
def test_a_given_store_stays_open_unless_the_manager_was_told_to_close_it(kind):
    """A given store is closed only with `close_store=True`, by either manager."""
    store = kind()

    async def main(*, close_store):
        async with AsyncSessionManager(store, close_store=close_store):
            pass

    SessionManager(store).close()
    asyncio.run(main(close_store=False))
    assert store.closed == 0

    SessionManager(store, close_store=True).close()
    asyncio.run(main(close_store=True))
    assert store.closed == 2


# The index ---------------------------------------------------------------------------------------------------------

KINDS = [SyncStore, AsyncStore, MixedStore]


@pytest.fixture(params=["dict", "SQLite"])
def index(request, tmp_path):
    if request.param == "dict":
        yield {}
    else:
        with closing(SQLiteMapping(tmp_path / "index.db", synchronous="NORMAL")) as mapping:
            yield mapping


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_an_index_lists_what_four_methods_cannot(kind, index, clock, limit):
    """With an index, all users' sessions can be listed and counted. It holds no text and no metadata."""
    manager = SessionManager(kind(), index=index, clock=clock)
    fill(manager, clock)
    manager.append("s1", {"role": "user", "content": "a secret"})

    assert pages(manager, limit) == ["s1", "s6", "s5", "s4", "s2", "s0"]
    assert pages(manager, limit, order="oldest") == ["s0", "s2", "s4", "s5", "s6", "s1"]
    assert pages(manager, limit, status=None, order="oldest") == ["s0", "s2", "s3", "s4", "s5", "s6", "s1"]
    assert pages(manager, limit, where={"even": True}) == ["s6", "s4", "s2", "s0"]
    assert [manager.count(), manager.count(status="archived"), manager.count(where={"even": False})] == [6, 1, 2]
    assert "secret" not in "".join(index.values())
    assert "even" not in "".join(index.values())


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_makes_all_methods_work(kind, index, clock):
    """With an index, every method that needs a list of all sessions works."""
    manager = SessionManager(kind(), index=index, clock=clock)
    fill(manager, clock)
    manager.delete("s6")

    assert manager.archive_inactive(days=4) == 3
    assert pages(manager, 50) == ["s5", "s4"]
    assert (manager.verify().sessions, bool(manager.verify())) == (6, True)
    assert len(manager.delete_user("bob")) == 3
    assert pages(manager, 50, status=None) == ["s4", "s2", "s0"]
    assert manager.clear_all() == 3
    assert [manager.count(), manager.count(status=None), list(manager.store.rows)] == [0, 0, []]


def test_an_index_outlives_the_manager(index, clock):
    """A later manager finds the index as it was."""
    fill(SessionManager(store := SyncStore(), index=index, clock=clock), clock)

    assert pages(SessionManager(store, index=index), 50) == ["s6", "s5", "s4", "s2", "s1", "s0"]


def test_an_entry_shows_nothing_that_the_store_does_not_bear_out(index, clock):
    """Sessions that were changed or deleted without the manager are listed as the store has them."""
    manager = SessionManager(store := SyncStore(), index=index, clock=clock)
    fill(manager, clock)
    store.delete("s6")
    changed = store.get("s5")
    changed.archive()
    store.save(changed)
    changed = store.get("s4")
    changed.user_id = "carol"
    store.save(changed)

    assert pages(manager, 50) == ["s4", "s2", "s1", "s0"]
    assert manager.list_sessions()[0].user_id == "carol"
    report = manager.verify(repair=True)
    assert sorted(each.session_id for each in report.problems) == ["s4", "s5", "s6"]
    assert manager.verify().problems == []
    assert manager.count() == 4


def test_an_index_is_built_from_a_store_that_can_be_listed(index, clock):
    """An empty index is built at its first use, and by `reindex` later."""
    store = FullStore()
    fill(SessionManager(store, clock=clock), clock)
    manager = SessionManager(store, index=index, clock=clock)

    assert pages(manager, 50) == ["s6", "s5", "s4", "s2", "s1", "s0"]
    SessionManager(store, clock=clock).create_session("carol", session_id="s7")
    store.delete("s0")
    assert "s7" not in pages(manager, 50)
    seen = []
    assert manager.reindex(progress=seen.append) == 7
    assert pages(manager, 50) == ["s7", "s6", "s5", "s4", "s2", "s1"]
    assert (manager.count(), seen, manager.verify().problems) == (6, [7], [])


def test_a_save_that_fails_leaves_no_session_in_lists(index, clock):
    """The entry is written first. Lists skip it as long as there is no session."""

    class Failing(SyncStore):
        failing = False

        def save(self, session):
            if self.failing:
                raise ConnectionResetError
            super().save(session)

    manager = SessionManager(store := Failing(), index=index, clock=clock)
    fill(manager, clock)
    store.failing = True
    with pytest.raises(ConnectionResetError):
        manager.create_session("ada", session_id="lost")

    assert pages(manager, 50) == ["s6", "s5", "s4", "s2", "s1", "s0"]


def test_an_index_is_refused_where_there_are_indexes():
    """An index beside a mapping or one of our stores raises."""
    for store in (None, {}, "memory://"):
        with pytest.raises(InvalidValueError, match=r"^index was given beside a"):
            SessionManager(store, index={})


def test_an_index_serves_async_code(index, clock):
    """An index works with an async store."""

    async def main():
        async with AsyncSessionManager(AsyncStore(), index=index, clock=clock) as manager:
            for n in range(3):
                await manager.create_session("ada", session_id=f"s{n}")
                clock.advance(days=1)
            archived = await manager.archive_inactive(days=1.5)
            return archived, ids(await manager.list_sessions()), await manager.count(status=None)

    assert asyncio.run(main()) == (2, ["s2"], 3)


def test_a_list_by_activity_that_fails_is_not_an_empty_list(clock):
    """An error of the store's list reaches the caller."""

    class Failing(FullStore):
        def list_by_activity(self, after, limit):
            raise ConnectionResetError

    manager = SessionManager(Failing(), clock=clock)
    for call in (manager.list_sessions, manager.count, manager.archive_inactive, manager.clear_all, manager.verify):
        with pytest.raises(ConnectionResetError):
            call()
