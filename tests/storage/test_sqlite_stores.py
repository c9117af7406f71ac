"""Tests of stores in SQLite files, alone and through a SqliteDict: commits, files and options."""

import sqlite3
import stat
import threading
import zlib
from contextlib import closing

import pytest
from sqlitedict import SqliteDict

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    Message,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from tests.processes import run_at_once, run_python
from tests.storage.sqlite_stores import plain_dict, talk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def store(path):
    with closing(SQLiteSessionStore(path, timeout=30)) as store:
        yield store


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
