"""Tests of the index table of SQLite files: what it costs, and how it is put right."""

import re
import sqlite3
from contextlib import closing
from functools import partial

import pytest

from pyai_sessions import (
    ANYONE,
    Encrypted,
    KVSessionStore,
    Session,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
)
from pyai_sessions.testing import StoppedClock
from tests.storage.sqlite_stores import talk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def store(path):
    with closing(SQLiteSessionStore(path, timeout=30)) as store:
        yield store


# The index table ------------------------------------------------------------------------------------------------------

WRONG = {
    "missing": "DELETE FROM {lists} WHERE member IN ('s3', 's4', 's120')",
    "all missing": "DELETE FROM {lists}",
    "other user": "UPDATE {lists} SET list = 'user/bob/active' WHERE list LIKE 'user/%' AND score % 3 = 0",
    "no user": "DELETE FROM {lists} WHERE list LIKE 'user/%' AND member < 's2'",
    "other status": "UPDATE {lists} SET list = replace(list, 'active', 'archived') WHERE member >= 's2'",
    "other time": "UPDATE {lists} SET score = score - 86400000000 WHERE member > 's1'",
    "sessions that are not there": "INSERT INTO {lists} SELECT member || 'x', list, score FROM {lists}",
    "other names": "UPDATE {lists} SET member = member || 'x' WHERE member > 's2'",
}


def steps(mapping, call):
    """Return the number of SQLite's virtual machine steps of a call."""
    taken = []
    with mapping.connections.reading() as connection:
        connection.set_progress_handler(lambda: taken.append(1), 1)
    call()
    return len(taken)


def test_what_other_namespaces_hold_costs_nothing(path):
    """The cost of a call does not depend on other namespaces."""
    clock, yesterday = StoppedClock(), StoppedClock()
    yesterday.advance(days=-1)
    with closing(SQLiteMapping(path, synchronous="OFF")) as mapping:
        neighbour = SessionManager(KVSessionStore(mapping, namespace="b", ttl=60, clock=yesterday))
        stores = [KVSessionStore(mapping, namespace=name, ttl=60, clock=clock) for name in (None, "a")]
        managers = [SessionManager(each) for each in stores]
        neighbour.import_sessions(Session(user_id="ada") for _ in range(100))
        for each in managers:
            each.import_sessions([Session(user_id="ada")])
        names = (("count",), ("count", "ada"), ("list_sessions", "ada"), ("reindex",), ("purge_expired",))
        calls = [partial(getattr(each, name), *arguments) for each in managers for name, *arguments in names]
        before = [[steps(mapping, call) for call in calls] for _ in range(2)][1]

        neighbour.import_sessions(Session(user_id="ada") for _ in range(300))

        assert neighbour.count() == 400
        assert [steps(mapping, call) for call in calls] == before


@pytest.mark.parametrize("namespace", [None, "a"])
def test_what_has_not_expired_costs_a_count_and_a_purge_nothing(path, namespace):
    """The cost of counts and purges does not depend on sessions that have not expired."""
    clock = StoppedClock()
    with closing(SQLiteMapping(path, synchronous="OFF")) as mapping:
        manager = SessionManager(KVSessionStore(mapping, namespace=namespace, clock=clock))
        mortal = SessionManager(KVSessionStore(mapping, namespace=namespace, ttl=60, clock=clock))
        for each in (manager, mortal):
            each.import_sessions([Session(user_id="ada")])
        before = [[steps(mapping, call) for call in (manager.count, manager.purge_expired)] for _ in range(2)][1]

        for each in (manager, mortal):
            each.import_sessions(Session(user_id="ada") for _ in range(300))

        assert [steps(mapping, call) for call in (manager.count, manager.purge_expired)] == before


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("act", ["reindex", "repair"])
def test_a_wrong_index_table_is_put_right(store, path, wrong, act):
    """`reindex` and a repair correct any number of missing, wrong and superfluous entries."""
    manager = SessionManager(store)
    names = {f"s{n}": ("ada", "carol")[n % 2] for n in range(250)}
    SessionManager(store).import_sessions(Session(session_id=name, user_id=user) for name, user in names.items())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(WRONG[wrong].format(lists='"sessions/lists"'))
        listed = [each.session_id for each in manager.list_sessions("bob", limit=None)]
        assert listed == []
        assert not manager.verify()

        if act == "reindex":
            assert manager.reindex() == 250
        else:
            assert manager.verify(repair=True)

        assert manager.verify().problems == []
        for user in ("ada", "carol"):
            listed = {each.session_id for each in manager.list_sessions(user, limit=None)}
            assert listed == {name for name, owner in names.items() if owner == user}
        assert [manager.count(each) for each in ("ada", "bob", "carol", ANYONE)] == [125, 0, 125, 250]


def test_upkeep_writes_nothing_where_all_is_right(store, path):
    """`reindex`, `verify` and a repair write only what is wrong."""
    manager = SessionManager(store)
    SessionManager(store).import_sessions(Session(session_id=f"s{n}", user_id="ada") for n in range(250))
    talk(store, count=100)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:

        def version():
            return connection.execute("PRAGMA data_version").fetchone()

        before = version()
        assert manager.reindex() == 251
        assert manager.verify(repair=True)
        assert manager.verify()
        assert version() == before

        manager.archive("s7")
        assert version() != before


def test_reindex_reads_each_head_once_as_they_lie(store):
    """`reindex` reads heads in the table's order, since seeks are expensive."""
    manager = SessionManager(store)
    names = [f"s{n * 7919 % 1000}" for n in range(1000)]  # not in the order of their keys
    manager.import_sessions(Session(session_id=name, user_id="ada") for name in names)
    asked = []
    with store.mapping.connections.reading() as connection:
        connection.set_trace_callback(asked.append)

    assert manager.reindex() == 1000

    assert [name for query in asked if "CAST" in query for name in re.findall("'session/(.*?)'", query)] == names


@pytest.mark.parametrize("meanwhile", ["a VACUUM", "a rotation"])
def test_reindex_misses_none_that_move_meanwhile(path, meanwhile):
    """Rows that move during `reindex` are not missed."""
    ring = {"index": b"i" * 32, "old": b"o" * 32}

    def act(done):
        if done > 100:
            return
        if meanwhile == "a rotation":
            assert rotated.rotate_keys() == 1500
            return
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM sessions WHERE key LIKE 'session/gone%'")
            connection.execute("VACUUM")

    with closing(SQLiteMapping(path, synchronous="OFF")) as mapping:
        manager = SessionManager(Encrypted(mapping, ring))
        rotated = SessionManager(Encrypted(mapping, ring | {"new": b"n" * 32}))
        manager.import_sessions(Session(session_id=f"gone {n}") for n in range(300 if meanwhile == "a VACUUM" else 0))
        manager.import_sessions(Session(session_id=f"s{n}", user_id="ada") for n in range(1500))
        with mapping.connections.writing() as connection:
            connection.execute("DELETE FROM \"sessions/lists\" WHERE member LIKE 's%'")

        rotated.reindex(progress=act)

        assert rotated.count("ada") == 1500


def test_a_table_without_rowid_is_reindexed(path):
    """`reindex` works on a table without rowid."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sessions (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    with closing(SQLiteSessionStore(path)) as store:
        manager = SessionManager(store)
        for n in range(3):
            talk(store, f"s{n}")

        assert manager.reindex() == 3
        assert manager.clear_all() == 3
