"""Tests of other programs that read and write our SQLite files."""

import gc
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlitedict import SqliteDict

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SQLiteSessionStore,
    StorageLockedError,
)
from tests.processes import LOCKED, python_until_told
from tests.storage.sqlite_stores import plain_dict, talk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def store(path):
    with closing(SQLiteSessionStore(path, timeout=30)) as store:
        yield store


# What other tools read and write --------------------------------------------------------------------------------------


def test_a_plain_sqlitedict_reads_our_sessions_as_json(store, path):
    """A plain SqliteDict reads a short conversation as one JSON document."""
    session = talk(store)
    store.close()

    with plain_dict(path) as mapping:
        head = json.loads(mapping["session/s"])
        assert Session.from_json(mapping["session/s"]) == session

    assert head["format"] == 1
    assert (head["session_id"], head["user_id"]) == ("s", "ada")
    assert [each["content"] for each in head["messages"]] == ["message 0", "message 1", "message 2"]


def test_a_plain_sqlitedict_reads_the_heads_and_pages_of_long_sessions(store, path):
    """A plain SqliteDict reads padded heads as JSON. `Session.from_json` needs the pages, too."""
    session = talk(store, count=100)
    store.close()

    with plain_dict(path) as mapping:
        text = mapping["session/s"]
        head = json.loads(text)
        pages = [json.loads(mapping[key]) for key in sorted(mapping) if key.startswith("messages/")]
        with pytest.raises(InvalidValueError, match="sealed names pages that hold the older messages"):
            Session.from_json(text)

    assert text.endswith(" ")
    assert head["message_count"] == 100
    assert sum(map(len, pages)) + len(head["messages"]) == 100
    newest = [each["content"] for each in head["messages"]]
    assert newest == [each.content for each in session.messages][-len(newest) :]


def test_a_head_is_filled_up_while_the_session_has_pages(store, path):
    """Heads of sessions with pages are padded. They are valid JSON after every change."""
    manager = SessionManager(store)
    session = talk(store, count=3)
    with plain_dict(path, journal_mode="WAL") as mapping:
        assert mapping["session/s"] == mapping["session/s"].rstrip()

        for act in (
            lambda: manager.append("s", *(Message("user", f"more {n}") for n in range(60))),
            lambda: manager.append("s", Message("user", "one more")),
            lambda: manager.append("s", Message("user", "x" * 20_000)),
            lambda: manager.archive("s"),
            lambda: manager.restore("s"),
        ):
            act()
            assert mapping["session/s"].endswith(" ") == (len(mapping["session/s"].rstrip()) < 9_000)
            assert json.loads(mapping["session/s"])["revision"] == store.get("s").revision

        session = store.get("s")
        session.clear_messages()
        session.add_message("user", "anew")
        store.save(session)
        head = json.loads(mapping["session/s"])
        assert [each["content"] for each in head["messages"]] == ["anew"]
        assert store.get("s") == session
        assert manager.verify()


def test_a_plain_sqlitedict_beside_an_open_store_keeps_the_journal(store, path):
    """A SqliteDict beside an open store needs `journal_mode="WAL"`."""
    session = talk(store)

    with plain_dict(path, journal_mode="WAL", autocommit=True) as mapping:
        assert Session.from_json(mapping["session/s"]) == session
        mapping["notes"] = "mine"

    assert store.mapping["notes"] == "mine"
    assert SessionManager(store).clear_all() == 1


def test_sqlite3_reads_our_sessions_by_sql(store, path):
    """SQLite's JSON functions read our documents."""
    talk(store)

    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT json_extract(value, '$.user_id'), json_array_length(value, '$.messages') FROM sessions"
        ).fetchall()

    assert found == [("ada", 3)]


@pytest.mark.parametrize("options", [{}, {"encode": json.dumps, "decode": json.loads}, {"encode": str, "decode": str}])
def test_sessions_saved_through_a_sqlitedict_are_read_by_our_store(path, options):
    """A store reads and lists sessions that were saved through a SqliteDict."""
    with (
        closing(SqliteDict(str(path), tablename="sessions", **options)) as mapping,
        closing(KVSessionStore(mapping)) as through,
    ):
        session = talk(through, count=100)

    with closing(SQLiteSessionStore(path)) as store:
        assert store.get("s") == session
        assert store.list_for_user("ada") == [session]
        assert SessionManager(store).verify()


def test_a_table_that_was_filled_by_a_plain_sqlitedict_is_listed(store, path, tmp_path):
    """Documents that were copied into the table are listed at the first call."""
    sessions = [talk(store, f"s{n}", count=n) for n in (1, 40)]
    talk(store, "bob's", "bob")
    store.close()
    with plain_dict(path) as source, plain_dict(tmp_path / "copy.db") as copy:
        for key, text in source.items():
            copy[key] = text
        copy["session/torn"] = "torn"
        copy["notes"] = "mine"
        copy.commit()

    with closing(SQLiteSessionStore(tmp_path / "copy.db")) as copied:
        assert sorted(copied.list_for_user("ada", skip_invalid=True), key=lambda each: each.session_id) == sessions
        manager = SessionManager(copied)
        assert manager.count("bob") == 1
        assert manager.clear_all() == 4
        assert list(copied.mapping.items()) == [("notes", "mine")]


def test_two_tables_of_a_file_hold_two_stores(path):
    """Stores in two tables of a file are separate."""
    with closing(SQLiteSessionStore(path, "one")) as one, closing(SQLiteSessionStore(path, "two")) as two:
        managers = [SessionManager(each) for each in (one, two)]
        talk(one)
        talk(two, user_id="bob")

        assert managers[0].clear_all() == 1

        assert [each.count() for each in managers] == [0, 1]
        assert two.get("s").user_id == "bob"


def test_a_sqlitedict_in_memory_is_a_mapping_like_any_other():
    """A SqliteDict in memory is used as a mapping."""
    with closing(SqliteDict(encode=str, decode=str)) as temporary, closing(SqliteDict(":memory:")) as in_memory:
        for mapping in (temporary, in_memory):
            with closing(KVSessionStore(mapping)) as store:
                session = talk(store, count=50)

                assert store.get("s") == session
                assert SessionManager(store).count("ada") == 1


def test_a_store_that_is_dropped_leaves_no_file_open(path):
    """A store that is garbage-collected closes its connections."""

    def opened():
        return [each for each in Path("/proc/self/fd").iterdir() if str(path) in os.path.realpath(each)]

    store = SQLiteSessionStore(path)
    talk(store)
    assert opened()

    del store
    gc.collect()

    assert not opened()


@pytest.mark.parametrize("held", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_store_is_opened_and_read_while_another_process_writes(path, held):
    """Opening and reading do not wait for another process's transaction."""
    with closing(SQLiteSessionStore(path)) as store:
        store.save(Session(session_id="s", user_id="ada"))

    with (
        python_until_told(LOCKED.replace("BEGIN EXCLUSIVE", held), path),
        closing(SQLiteSessionStore(path, timeout=0.1)) as store,
    ):
        manager = SessionManager(store)
        assert store.get("s").user_id == "ada"
        assert [each.session_id for each in manager.list_sessions("ada")] == ["s"]
        assert manager.count() == 1
        assert store.mapping["session/s"]
        with pytest.raises(StorageLockedError):
            store.save(Session(session_id="t"))

    with closing(SQLiteSessionStore(path)) as store:
        store.save(Session(session_id="t"))
        assert SessionManager(store).count() == 2
