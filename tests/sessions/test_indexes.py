"""Tests of lists against a plain model, of what they read, and of what upkeep writes."""

from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyai_sessions import ANYONE, KVSessionStore, Session, SessionManager, SessionStatus, SQLiteSessionStore
from pyai_sessions.testing import NOON, StoppedClock

# Against a model ------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([f"s{n}" for n in range(6)] + ["S0", "s/0", "%", "\ud800"])
USERS = st.sampled_from(["ada", "bob", None])
ASKED = st.sampled_from(["ada", "bob", ANYONE])
VALUES = st.sampled_from([1, True, "1", None, [1], [True], {"a": 1}, {"a": True}, 1.5, "%"])
METADATA = st.dictionaries(st.sampled_from(["a", "b"]), VALUES)
STATUSES = st.sampled_from([*SessionStatus, None])
PAGES = st.fixed_dictionaries({"order": st.sampled_from(["newest", "oldest"]), "limit": st.integers(1, 4)})
WRITER = st.integers(0, 1)


class Lists(RuleBasedStateMachine):
    """Two managers on one storage, and a dict of the expected entries: user, metadata, status and time by id.

    Of lists that are under way it is known which sessions nobody touched since their first page.
    """

    def __init__(self):
        super().__init__()
        self.clock = StoppedClock()
        self.managers = [SessionManager(each, clock=self.clock) for each in self.open()]
        self.model = {}
        self.under_way = []

    def open(self):
        mapping = {}
        return [KVSessionStore(mapping), KVSessionStore(mapping)]

    def touch(self, name):
        for each in self.under_way:
            each["untouched"].discard(name)

    def chosen(self, user_id, where, status):
        """Return the ids of a list, latest activity first. Equal times may come in any order."""
        found = [
            (time, name)
            for name, (user, metadata, kept, time) in self.model.items()
            if user_id in (ANYONE, user)
            and status in (None, kept)
            and all(
                key in metadata and repr(metadata[key]) == repr(value) for key, value in where.items()
            )  # 1 is not True
        ]
        return [name for _, name in sorted(found, reverse=True)]

    # Changes: each has a different time, even if the clock stands still

    @rule(seconds=st.sampled_from([0, 1, 60]))
    def wait(self, seconds):
        self.clock.advance(seconds=seconds)

    @rule(name=NAMES, user=USERS, metadata=METADATA, writer=WRITER)
    def create(self, name, user, metadata, writer):
        if name in self.model:
            return
        self.clock.advance(microseconds=1)
        self.managers[writer].create_session(user, session_id=name, metadata=metadata)
        self.model[name] = (user, metadata, SessionStatus.ACTIVE, self.clock.now)
        self.touch(name)

    @rule(name=NAMES, user=USERS, metadata=METADATA, status=st.sampled_from(SessionStatus), days=st.integers(0, 3))
    def import_one(self, name, user, metadata, status, days):
        self.clock.advance(microseconds=1)
        time = self.clock.now - timedelta(days=days)
        given = Session(
            session_id=name, user_id=user, metadata=metadata, status=status, created_at=time, updated_at=time
        )
        assert self.managers[days % 2].import_sessions([given]).inserted == (name not in self.model)
        if name not in self.model:
            self.model[name] = (user, metadata, status, time)
            self.touch(name)

    @rule(name=NAMES, user=USERS, metadata=METADATA, writer=WRITER)
    def save(self, name, user, metadata, writer):
        if name not in self.model or self.model[name][2] is SessionStatus.ARCHIVED:
            return
        self.clock.advance(microseconds=1)
        session = self.managers[writer].get_session(name)
        session.user_id, session.metadata = user, metadata
        session.touch()
        self.managers[writer].save(session)
        self.model[name] = (user, metadata, SessionStatus.ACTIVE, self.model[name][3])  # no message was added
        self.touch(name)

    @rule(name=NAMES, writer=WRITER)
    def append(self, name, writer):
        if name not in self.model or self.model[name][2] is SessionStatus.ARCHIVED:
            return
        self.clock.advance(microseconds=1)
        self.managers[writer].append(name, {"role": "user", "content": ""})
        user, metadata, status, time = self.model[name]
        self.model[name] = (user, metadata, status, max(self.clock.now, time + timedelta(microseconds=1)))
        self.touch(name)

    @rule(name=NAMES, writer=WRITER)
    def archive(self, name, writer):
        if name in self.model:
            user, metadata, status, time = self.model[name]
            self.managers[writer].archive(name)
            self.model[name] = (user, metadata, SessionStatus.ARCHIVED, time)
            if status is SessionStatus.ACTIVE:
                self.touch(name)

    @rule(name=NAMES, writer=WRITER)
    def restore(self, name, writer):
        if name in self.model:
            self.clock.advance(microseconds=1)
            user, metadata, status, time = self.model[name]
            self.managers[writer].restore(name)
            if status is SessionStatus.ARCHIVED:
                time = max(self.clock.now, time + timedelta(microseconds=1))
                self.touch(name)
            self.model[name] = (user, metadata, SessionStatus.ACTIVE, time)

    @rule(name=NAMES, writer=WRITER)
    def delete(self, name, writer):
        assert self.managers[writer].delete(name) == (self.model.pop(name, None) is not None)
        self.touch(name)

    @rule(days=st.sampled_from([0, 1, 2]), writer=WRITER)
    def archive_inactive(self, days, writer):
        due = {
            name
            for name, (_, _, status, time) in self.model.items()
            if status is SessionStatus.ACTIVE and time < self.clock.now - timedelta(days=days)
        }
        assert self.managers[writer].archive_inactive(days=days) == len(due)
        for name in due:
            user, metadata, _, time = self.model[name]
            self.model[name] = (user, metadata, SessionStatus.ARCHIVED, time)
            self.touch(name)

    @rule(writer=WRITER, act=st.sampled_from(["reindex", "verify"]))
    def keep_up(self, writer, act):
        done = getattr(self.managers[writer], act)()
        assert (done if act == "reindex" else done.sessions) == len(self.model)

    # Lists

    @rule(user=ASKED, where=METADATA, status=STATUSES, page=PAGES, reader=WRITER)
    def list_all(self, user, where, status, page, reader):
        """Return all pages together, and the count."""
        manager = self.managers[reader]
        expected = self.chosen(user, where, status)
        found, cursor = [], None
        while True:
            summaries = manager.list_sessions(user, where=where, status=status, cursor=cursor, **page)
            found += [each.session_id for each in summaries]
            cursor = summaries.next_cursor
            assert (cursor is None) == (len(found) == len(expected))
            if cursor is None:
                break
            assert len(summaries) == page["limit"]
        assert sorted(found) == sorted(expected)
        times = [self.model[each][3] for each in found]
        assert times == sorted(times, reverse=page["order"] == "newest")
        assert manager.count(user, where=where, status=status) == len(expected)

    @rule(user=ASKED, where=METADATA, status=STATUSES, page=PAGES, reader=WRITER)
    def begin_a_list(self, user, where, status, page, reader):
        ask = partial(self.managers[reader].list_sessions, user, where=where, status=status, **page)
        untouched = set(self.chosen(user, where, status))
        self.under_way.append({"untouched": untouched, "found": [], "ask": ask, "cursor": None})
        self.next_page(self.under_way[-1])

    @precondition(lambda self: self.under_way)
    @rule(n=st.integers(0, 3))
    def go_on_with_a_list(self, n):
        self.next_page(self.under_way[n % len(self.under_way)])

    def next_page(self, listed):
        page = listed["ask"](cursor=listed["cursor"])
        listed["found"] += [each.session_id for each in page]
        listed["cursor"] = page.next_cursor
        if page.next_cursor is None:
            self.under_way.remove(listed)
            found = Counter(listed["found"])
            assert all(found[name] == 1 for name in listed["untouched"])

    @invariant()
    def counts_are_right(self):
        for manager in self.managers:
            assert manager.count(status=None) == len(self.model)

    def teardown(self):
        for manager in self.managers:
            assert manager.verify().problems == []


class ListsOnSQLite(Lists):
    def open(self):
        self.folder = TemporaryDirectory()
        return [SQLiteSessionStore(Path(self.folder.name) / "chat.db", synchronous="OFF") for _ in range(2)]

    def teardown(self):
        try:
            super().teardown()
        finally:
            for manager in self.managers:
                manager.store.close()
            self.folder.cleanup()


TestLists = Lists.TestCase
TestLists.settings = settings(max_examples=50, stateful_step_count=50)  # on SQLite there are more
TestListsOnSQLite = pytest.mark.wide(ListsOnSQLite.TestCase)
TestListsOnSQLite.settings = settings(max_examples=150, stateful_step_count=50)


# What is read and written ---------------------------------------------------------------------------------------------


class Counting(dict):
    """A dict that counts reads, writes and deletions by kind of key."""

    def __init__(self):
        super().__init__()
        self.done = Counter()

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.done["read", key.partition("/")[0]] += 1
        return value

    def __setitem__(self, key, value):
        self.done["write", key.partition("/")[0]] += 1
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.done["delete", key.partition("/")[0]] += 1
        super().__delitem__(key)


def after_read(manager, session_id, act):
    """Call *act*, as another writer, once a session's head was read with others."""
    backend = manager.store._engine.backend
    heads = backend.heads

    def read_then_act(session_ids):
        found = heads(session_ids)
        if session_id in session_ids:
            del backend.heads
            act()
        return found

    backend.heads = read_then_act


@pytest.fixture
def mapping():
    return Counting()


@pytest.fixture
def manager(mapping):
    """250 sessions of user "ada", two of them long, a day apart."""
    clock = StoppedClock()
    manager = SessionManager(mapping, clock=clock)
    made = []
    for n in range(250):
        made.append(Session(session_id=f"s{n}", user_id="ada", metadata={"n": n % 50}, created_at=NOON))
        if n in (3, 7):
            for m in range(100):
                made[-1].add_message("user", f"message {m}")
        made[-1].updated_at = NOON + timedelta(days=n)
    manager.import_sessions(made)
    clock.now = NOON + timedelta(days=250)
    assert manager.count() == 250
    mapping.done.clear()
    return manager


def test_a_page_of_a_list_reads_its_own_heads_alone(manager, mapping):
    """A page reads its own heads and one more, and no page of messages."""
    page = manager.list_sessions("ada", limit=10)
    assert mapping.done == {("read", "session"): 11}

    mapping.done.clear()
    manager.list_sessions(limit=10, order="oldest", cursor=page.next_cursor, status=None)
    assert mapping.done["read", "session"] <= 22
    assert {key for _, key in mapping.done} == {"session"}


def test_a_count_reads_no_document(manager, mapping):
    """A count reads the length of an index. With a filter it reads each head once."""
    assert manager.count("ada") == 250
    assert mapping.done == {}

    assert manager.count("ada", where={"n": 3}) == 5
    assert mapping.done == {("read", "session"): 250}


def test_a_filtered_list_reads_heads_alone(manager, mapping):
    """A filtered list reads heads up to the end of its page and a batch."""
    assert len(manager.list_sessions(where={"n": 3}, limit=2)) == 2
    assert mapping.done["read", "session"] <= 200
    assert {key for _, key in mapping.done} == {"session"}


def test_upkeep_writes_nothing_where_all_is_right(manager, mapping):
    """`reindex` and `verify` write only what is wrong."""
    before = dict(mapping)

    assert manager.reindex() == 250
    assert {act for act, _ in mapping.done} == {"read"}
    assert {key for _, key in mapping.done} == {"session"}
    assert manager.verify(repair=True)

    assert {act for act, _ in mapping.done} == {"read"}
    assert dict(mapping) == before


def test_archiving_reads_and_writes_what_is_due(manager, mapping):
    """`archive_inactive` reads only heads of sessions that are due."""
    assert manager.archive_inactive(days=240) == 10

    assert mapping.done["write", "session"] == 10
    assert mapping.done["read", "session"] <= 40
    assert not [kind for act, kind in mapping.done if act != "read" and kind == "messages"]


@pytest.mark.parametrize("name", ["s3", "s5"])
def test_a_session_that_is_saved_between_reading_and_archiving_stays_active(manager, name):
    """If a session is saved after its head was read, it is read again and stays active."""
    before = manager.get_session(name).message_count
    after_read(manager, name, lambda: manager.append(name, {"role": "user", "content": "here"}))

    assert manager.archive_inactive(days=200) == 50 - 1

    session = manager.get_session(name)
    assert session.status is SessionStatus.ACTIVE
    assert session.message_count == before + 1
    assert manager.verify().problems == []


@pytest.mark.parametrize("act", ["delete", "archive"])
def test_a_session_that_ends_between_reading_and_archiving_is_not_counted(manager, act):
    """A session that others delete or archive meanwhile is not counted."""
    after_read(manager, "s3", lambda: getattr(manager, act)("s3"))

    assert manager.archive_inactive(days=200) == 50 - 1

    assert (manager.get_session("s3") is None) == (act == "delete")
    assert manager.count(status=SessionStatus.ARCHIVED) == 50 - (act == "delete")
    assert manager.verify().problems == []


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.delete("s3"),
        lambda m: m.archive("s3"),
        lambda m: m.append("s3", {"role": "user", "content": "here"}),
        lambda m: m.delete("s3") and m.create_session("bob", session_id="s3"),
    ],
    ids=["delete", "archive", "append", "create"],
)
@pytest.mark.parametrize("act", ["reindex", "repair"])
def test_a_session_that_changes_while_its_entry_is_mended_is_indexed_as_it_is(manager, mapping, change, act):
    """If a session changes while its entry is corrected, the newer document counts."""
    text = mapping["session/s3"].replace('"user_id":"ada"', '"user_id":"eve"')
    dict.__setitem__(mapping, "session/s3", text)
    after_read(manager, "s3", lambda: change(manager))

    if act == "reindex":
        manager.reindex()
    else:
        manager.verify(repair=True)

    stored = manager.get_session("s3")
    for user in ("ada", "bob", "eve"):
        listed = [each.session_id for each in manager.list_sessions(user, status=None, limit=None)]
        assert ("s3" in listed) == (stored is not None and stored.user_id == user)
    assert manager.verify().problems == []
