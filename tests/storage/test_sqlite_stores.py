"""Tests of stores in SQLite files, alone and through a SqliteDict."""

import gc
import json
import os
import re
import sqlite3
import stat
import threading
import zlib
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from sqlitedict import SqliteDict

from pyai_sessions import (
    ANYONE,
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.testing import StoppedClock
from tests.processes import LOCKED, python_until_told, run_at_once, run_python


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def store(path):
    with closing(SQLiteSessionStore(path, timeout=30)) as store:
        yield store


def plain_dict(path, **options):
    """Open a SqliteDict of text as its documentation shows."""
    return closing(SqliteDict(str(path), **{"tablename": "sessions", "encode": str, "decode": str} | options))


def talk(store, session_id="s", user_id="ada", count=3):
    session = Session(session_id=session_id, user_id=user_id)
    for n in range(count):
        session.add_message("user", f"message {n}")
    store.save(session)
    return session


# What a save means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"autocommit": True}, {"encode": str, "decode": str}])
def test_a_save_through_a_sqlitedict_needs_no_commit(path, options):
    """A save is in the file when it returns, without a commit or close."""
    run_python(
        """
        import os, sys
        from sqlitedict import SqliteDict
        from pyai_sessions import KVSessionStore, Session
        options = eval(sys.argv[2], {"str": str})
        store = KVSessionStore(SqliteDict(sys.argv[1], **options))
        session = Session(session_id="s", user_id="ada")
        session.add_message("user", "kept")
        store.save(session)
        os._exit(0)
        """,
        path,
        "{" + ", ".join(f"{k!r}: {v if isinstance(v, bool) else 'str'}" for k, v in options.items()) + "}",
    )

    with closing(SQLiteSessionStore(path, "unnamed")) as store:
        assert [each.content for each in store.get("s").messages] == ["kept"]


@pytest.mark.parametrize(("option", "pragma"), [("OFF", 0), ("NORMAL", 1), ("FULL", 2), ("EXTRA", 3)])
def test_our_connections_are_as_durable_as_they_say(path, option, pragma):
    """Each connection has the chosen `synchronous`, and the journal is a WAL."""
    with closing(SQLiteSessionStore(path, synchronous=option)) as store:
        talk(store)
        with store.mapping.connections.reading() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (pragma,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_store_is_fully_durable_unless_told_otherwise(store, path):
    """`synchronous` is FULL by default, and EXTRA for a plain SqliteDict."""
    with store.mapping.connections.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with (
        plain_dict(f"{path}2") as mapping,
        closing(KVSessionStore(mapping)) as over,
        over._engine.backend._whole._connections.reading() as connection,
    ):
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_a_save_is_one_transaction(store, path):
    """Another connection sees head, pages and index entry together, or none of them."""
    seen = []
    stop = threading.Event()
    listed = "SELECT count(*) FROM \"sessions/lists\" WHERE list = 'active'"

    def watch():
        with closing(sqlite3.connect(path)) as connection:
            while not stop.is_set():
                connection.execute("BEGIN")
                heads = connection.execute("SELECT count(*) FROM sessions WHERE key LIKE 'session/%'").fetchone()[0]
                pages = connection.execute("SELECT count(*) FROM sessions WHERE key LIKE 'messages/%'").fetchone()[0]
                entries = connection.execute(listed).fetchone()[0]
                connection.execute("COMMIT")
                seen.append((heads, pages, entries))

    SessionManager(store).count()  # makes the index
    thread = threading.Thread(target=watch)
    thread.start()
    for n in range(10):
        talk(store, f"s{n}", count=64)
    stop.set()
    thread.join()

    assert {(pages / heads if heads else 0, entries - heads) for heads, pages, entries in seen} <= {(0, 0), (1, 0)}


# What files and other processes do ------------------------------------------------------------------------------------


def test_a_thread_that_waits_too_long_for_another_raises(path):
    """Threads of one process have the same timeout."""
    with closing(SQLiteSessionStore(path, timeout=0.1)) as store:
        talk(store)
        entered, leave = threading.Event(), threading.Event()

        def hold():
            with store.mapping.connections.writing():
                entered.set()
                leave.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        entered.wait(30)
        try:
            with pytest.raises(StorageLockedError):
                talk(store, "other")
        finally:
            leave.set()
            thread.join()

        talk(store, "other")


@pytest.mark.parametrize("name", ["chat.db", "a b?c=d#e%20f.db"])
def test_a_sqlitedict_opened_for_reading_reads_and_refuses_to_write(tmp_path, name):
    """With flag "r", reads and lists work, and writes raise."""
    with closing(SQLiteSessionStore(tmp_path / name)) as store:
        session = talk(store)

    with (
        plain_dict(tmp_path / name, flag="r", journal_mode="WAL") as mapping,
        closing(KVSessionStore(mapping)) as store,
    ):
        manager = SessionManager(store)
        assert store.get("s") == session
        assert [each.session_id for each in store.list_for_user("ada")] == ["s"]
        assert manager.count() == 1
        for act in (
            lambda: store.save(session),
            lambda: store.delete("s"),
            lambda: talk(store, "other"),
            lambda: manager.append("s", Message("user", "x")),
        ):
            with pytest.raises(StorageReadOnlyError):
                act()


def test_a_sqlitedict_with_its_own_journal_mode_opens_our_file(path):
    """A SqliteDict that changes the journal mode can open our file."""
    with closing(SQLiteSessionStore(path)) as store:
        talk(store)

    for _ in range(3):  # in a process of its own, with a deadline: a SqliteDict that failed hangs in close
        printed = run_python(
            """
            import gc, sys
            from sqlitedict import SqliteDict
            from pyai_sessions import KVSessionStore, SessionManager
            for flag in "rc":
                # SqliteDict's own look at the tables, when it opens for reading, gets in the way of its own thread,
                # and its connection lives until it is collected.
                mode = {"r": "WAL", "c": "DELETE"}[flag]
                mapping = SqliteDict(sys.argv[1], tablename="sessions", flag=flag, journal_mode=mode)
                store = KVSessionStore(mapping)
                print(store.get("s").message_count, SessionManager(store).count("ada"))
                store.close()
                mapping.close()
                gc.collect()
            """,
            path,
            timeout=60,
        )

        assert printed.splitlines() == ["3 1", "3 1"]


@pytest.mark.parametrize("name", [".", "file/chat.db"])
def test_a_place_where_no_file_can_be_is_an_error_that_names_it(tmp_path, name):
    """A folder, or a path through a file, raises an error that names it."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageUnreachableError) as caught, closing(SQLiteSessionStore(tmp_path / name)) as store:
        talk(store)

    assert str(tmp_path) in caught.value.where


def test_files_and_folders_are_for_their_owner_alone(tmp_path):
    """Files have mode 0600 and new folders 0700. Existing folders keep theirs."""
    (tmp_path / "mine").mkdir(mode=0o755)
    path = tmp_path / "mine" / "a" / "b" / "chat.db"

    with closing(SQLiteSessionStore(path)) as store:
        talk(store)
        files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}

    assert files == dict.fromkeys(["chat.db", "chat.db-wal", "chat.db-shm"], 0o600)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path.parent.parent)] == [0o700, 0o700]
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o755


def test_a_relative_path_stays_the_file_that_it_was(tmp_path, monkeypatch):
    """A relative path stays the same file if the current folder changes."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(SQLiteSessionStore("chat.db")) as store, plain_dict("other.db") as mapping:
        over = KVSessionStore(mapping)
        monkeypatch.chdir(tmp_path / "elsewhere")
        threads = [threading.Thread(target=talk, args=(each,)) for each in (store, over)]
        for each in threads:
            each.start()
            each.join()
        over.close()

    assert list((tmp_path / "elsewhere").iterdir()) == []
    with closing(SQLiteSessionStore(tmp_path / "chat.db")) as store:
        assert SessionManager(store).count() == 1


def test_processes_that_open_a_new_file_at_once_all_can(path):
    """Processes can open a new file at the same time."""
    code = """
        import sys
        from pyai_sessions import SQLiteSessionStore, Session, SessionManager
        print("ready", flush=True)
        sys.stdin.readline()
        store = SQLiteSessionStore(sys.argv[1], timeout=120)
        store.save(Session(session_id=sys.argv[2], user_id="ada"))
        store.close()
    """
    run_at_once(code, *((path, f"s{n}") for n in range(4)))

    with closing(SQLiteSessionStore(path)) as store:
        assert SessionManager(store).count("ada") == 4


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"encode": lambda value: zlib.compress(value.encode()), "decode": lambda data: zlib.decompress(data).decode()},
        {"encode": str.upper, "decode": str},
        {"encode_key": lambda key: f"my-{key}", "decode_key": lambda key: key[3:]},
    ],
    ids=["compressing", "shouting", "own keys"],
)
def test_a_sqlitedict_with_a_codec_of_its_own_is_refused(path, options):
    """A SqliteDict with a custom codec raises an error that says how to open the file."""
    with closing(SqliteDict(str(path), **options)) as mapping, pytest.raises(UnsuitableMappingError) as caught:
        KVSessionStore(mapping)

    assert "SqliteDict(path, encode=str, decode=str)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"path": ""}, "path"),
        ({"path": b""}, "path"),
        ({"path": 5}, "path"),
        ({"table_name": ""}, "table_name"),
        ({"table_name": "sqlite_master"}, "table_name"),
        ({"table_name": "a\0b"}, "table_name"),
        ({"synchronous": "MAYBE"}, "synchronous"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_what_cannot_be_an_option_is_refused_by_name(tmp_path, options, named):
    """An invalid option raises before a file is made."""
    with pytest.raises(InvalidValueError) as caught:
        SQLiteSessionStore(**{"path": tmp_path / "new" / "chat.db"} | options)

    assert caught.value.path == named
    assert list(tmp_path.iterdir()) == []


def test_a_mapping_of_text_refuses_other_values(path):
    """A mapping of text raises at other values. It does not pickle them."""
    with closing(SQLiteMapping(path)) as mapping:
        for key, value in (("key", b"bytes"), ("key", 7), ("key", None), (7, "text"), (b"key", "text")):
            with pytest.raises(InvalidValueError):
                mapping[key] = value

        assert list(mapping) == []


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
