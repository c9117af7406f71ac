"""Tests of the view of messages in an SQLite file."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlitedict import SqliteDict

from pyai_sessions import (
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    UnsupportedOperationError,
)
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.samples import HOSTILE_IDS
from tests.search.test_searching import fill


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def manager(path):
    with SessionManager(SQLiteSessionStore(path, synchronous="OFF"), close_store=True) as manager:
        yield manager


def rows(path, name="messages", columns="session_id, user_id, position, message_id, role, text, status"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f'SELECT {columns} FROM "{name}" ORDER BY session_id, position').fetchall()  # noqa: S608


def expected(manager):
    """Return the view's rows for these sessions."""
    found = []
    for summary in manager.list_sessions(status=None):
        session = manager.get_session(summary.session_id)
        for n, each in enumerate(session.messages):
            text = each.content if isinstance(each.content, str) else "\n".join(part["text"] for part in each.content)
            found.append((session.session_id, session.user_id, n, each.message_id, each.role, text, session.status))
    return sorted(found, key=lambda row: (row[0].encode(), row[2]))


@pytest.mark.parametrize("namespace", [None, "acme's/1"])
def test_the_view_shows_all_messages_of_all_sessions(manager, path, namespace):
    """The view has all messages in order, of any ids, pages and forks. A namespace's view has only its own."""
    clock = StoppedClock()
    fill(manager, clock, ["elsewhere"] * 3, "bob", "other")
    of = manager if namespace is None else manager.namespace(namespace)
    ids = [each for each in HOSTILE_IDS if each.isprintable() and len(each) < 300]
    for n, session_id in enumerate(ids):
        fill(of, clock, [f"text {m}" for m in range(40 + n)], None if n % 2 else "ada", session_id)
        of.fork(session_id, 33, new_id=f"fork {n}")
    session = of.get_session(ids[0])
    session.replace_message(session.messages[3], content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    session.remove_message(session.messages[35])
    of.save(session)
    long = fill(of, clock, [f"text {m}" for m in range(200)], "ada", "long")
    of.replace_message("long", long.messages[100], content="another")
    of.remove_message("long", long.messages[40])
    of.fork("long", 150, new_id="long fork")
    of.archive(ids[1])
    of.delete(ids[2])

    of.build_messages_view()

    assert rows(path) == expected(of)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT COUNT(*) FROM messages WHERE session_id = 'fork 2'").fetchone()
    assert found == (33,)


@settings(max_examples=25)
@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True))
def test_pages_of_any_owner_are_found(tmp_path_factory, ids):
    """The SQL encodes ids as keys do."""
    path = tmp_path_factory.mktemp("view") / "chat.db"
    ids = [each for each in ids if "\0" not in each]  # at which SQLite's text functions end
    with SessionManager(SQLiteSessionStore(path, synchronous="OFF"), close_store=True) as manager:
        for n, each in enumerate(ids):
            fill(manager, StoppedClock(), ["text"] * 40, None, each)
            manager.fork(each, 35, new_id=f"a fork of {n}")
        manager.build_messages_view()

        assert rows(path) == expected(manager)


def test_the_view_passes_over_what_cannot_be_read(manager, path):
    """A damaged document does not break a query."""
    fill(manager, StoppedClock(), ["text"] * 40, "ada", "a")
    fill(manager, StoppedClock(), ["text"], "ada", "b")
    manager.build_messages_view()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE sessions SET value = substr(value, 1, 50) WHERE key LIKE '%/a%'")
        connection.execute("INSERT INTO sessions VALUES ('session/c', x'ff00')")
        connection.execute("INSERT INTO sessions VALUES ('session/d', '[1]')")
        connection.commit()

    assert [row[0] for row in rows(path)] == ["b"]


def test_a_view_takes_the_place_of_no_table(manager, path):
    """A view replaces another view, but no table."""
    fill(manager, StoppedClock(), ["text"], "ada", "a")

    with pytest.raises(InvalidValueError, match="name is 'Sessions', and the file has a table of that name"):
        manager.build_messages_view("Sessions")
    with pytest.raises(InvalidValueError, match="name is an int"):
        manager.build_messages_view(5)
    manager.build_messages_view('my "view"')
    manager.build_messages_view('my "view"')
    assert len(rows(path, 'my ""view""')) == 1


def test_a_view_takes_the_place_of_no_other_view(manager, path):
    """A view of another table, namespace or program is not replaced; one of the same messages is."""
    fill(manager, StoppedClock(), ["text"], "ada", "a")
    manager.build_messages_view()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT 1")

    refused = pytest.raises(
        InvalidValueError, match="a view of that name, which is not of these sessions; give another"
    )
    with closing(SQLiteSessionStore(path, "others")) as store:
        for each, name in [
            (SessionManager(store), "messages"),
            (manager.namespace("acme"), "Messages"),
            (manager, "mine"),
        ]:
            with refused:
                each.build_messages_view(name)
        SessionManager(store).build_messages_view("messages of others")
    manager.build_messages_view("MESSAGES")
    assert len(rows(path)) == 1
    assert rows(path, "messages of others") == []


@pytest.mark.parametrize("name", ["sessions/lists", "sessions/search", "sqlite_messages"])
def test_a_view_has_no_name_that_a_store_derives(manager, name):
    """The name of a store's lists or of its search index raises as that of a view."""
    with pytest.raises(InvalidValueError, match=f"name is '{name}'"):
        manager.build_messages_view(name)


@pytest.mark.parametrize("opened", [SQLiteMapping, partial(SqliteDict, journal_mode="WAL")])
def test_a_store_in_a_table_of_the_name_of_a_view_is_refused(manager, path, opened):
    """A view in the place of the table of sessions raises an error that names it: nothing is damaged."""
    manager.build_messages_view()

    refused = pytest.raises(InvalidValueError, match="table_name is 'messages', and the file has a view of that name")
    with closing(opened(path, "messages")) as mapping, refused:
        SessionManager(mapping).create_session("ada")


@pytest.mark.parametrize(
    ("mapping", "why"), [({}, "lie in no SQLite file"), (Encrypted({}, {"1": b"k" * 32}), "are encrypted")]
)
def test_what_no_sql_can_read_has_no_view(mapping, why):
    """If SQL cannot read a store's messages, making the view raises an error that says why."""
    with pytest.raises(UnsupportedOperationError, match=f"{why}; use search"):
        SessionManager(KVSessionStore(mapping)).build_messages_view()
