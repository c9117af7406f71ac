"""Tests of hostile files and directories: they are read or raise our own error, and nothing outside is touched."""

# ruff: noqa: S608 (the statements are ours)

import os
import shutil
import sqlite3
import tracemalloc
from contextlib import closing, suppress

import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    InvalidDocumentError,
    Message,
    Session,
    SessionError,
    SessionManager,
    SQLiteSessionStore,
    StorageCorruptError,
    StorageError,
    StorageUnreachableError,
)

SECRET = "not of this directory"

ACTS = {
    "get": lambda manager: manager.get_session("s"),
    "get the last": lambda manager: manager.get_session("s", last=2),
    "list": lambda manager: manager.get_sessions_for_user("ada"),
    "summaries": lambda manager: manager.list_sessions(status=None),
    "count": lambda manager: manager.count(status=None),
    "append": lambda manager: manager.append("s", Message("user", "more")),
    "create": lambda manager: manager.create_session("ada"),
    "fork": lambda manager: manager.fork("s"),
    "archive idle": lambda manager: manager.archive_inactive(0),
    "reindex": lambda manager: manager.reindex(),
    "verify": lambda manager: manager.verify(),
    "repair": lambda manager: manager.verify(repair=True),
    "delete": lambda manager: manager.delete("s"),
    "clear": lambda manager: manager.clear_all(),
}


def fill(store):
    manager = SessionManager(store)
    session = manager.create_session("ada", session_id="s")
    for n in range(40):
        session.add_message("user", f"message {n}")
    manager.save(session)
    manager.create_session("ada", session_id="t")
    manager.fork("s", new_id="f")


@pytest.fixture(scope="module")
def filled_file(tmp_path_factory):
    """An SQLite file with sessions."""
    path = tmp_path_factory.mktemp("filled") / "chat.db"
    with closing(SQLiteSessionStore(path, synchronous="OFF")) as store:
        fill(store)
    return path


@pytest.fixture
def path(filled_file, tmp_path):
    """A copy of the file."""
    return shutil.copy(filled_file, tmp_path / "chat.db")


def change(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def endure(open_store, path):
    """Make every call on copies of a file. Return what each raised."""
    refusals = {}
    for name, act in ACTS.items():
        copy = shutil.copy(path, f"{path}-{name.replace(' ', '-')}")
        try:
            with closing(open_store(copy)) as store:
                act(SessionManager(store))
        except SessionError as err:
            refusals[name] = err
    return refusals


def open_file(path):
    return SQLiteSessionStore(path, timeout=0.2, synchronous="OFF")


# Tables -------------------------------------------------------------------------------------------------------------
# What a storage does with hostile schemas: tests/storage/test_hostile_tables.py.


def test_each_call_on_a_table_that_is_computed_is_refused(path):
    """If columns of the table are computed, each call of a manager raises."""
    change(path, "DROP TABLE sessions; CREATE TABLE sessions (key TEXT PRIMARY KEY, value AS (zeroblob(9)))")

    refusals = endure(open_file, path)

    assert refusals.keys() == ACTS.keys()
    assert {type(each) for each in refusals.values()} == {StorageCorruptError}


VALUES = {
    "numbers": "5",
    "floats": "5.5",
    "nothing": "NULL",
    "bytes that are no text": "x'ff22'",
    "text that is none": "CAST(x'ff22' AS TEXT)",
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_that_are_no_documents_are_refused(path, value):
    """If the values are no documents, the calls that read them raise."""
    change(path, f"UPDATE sessions SET value = {value}")

    refusals = endure(open_file, path)

    assert {"get", "get the last", "append", "fork"} <= refusals.keys()


# Indexes --------------------------------------------------------------------------------------------------------------

WRONG = {
    "a status that is none": "list = replace(list, 'active', 'gone')",
    "a status of bytes": "list = CAST(replace(list, 'active', 'gone') AS BLOB)",
    "an activity of text": "score = 'then'",
    "an activity of bytes": "score = x'ff00'",
    "an endless activity": "score = 1e300",
    "an activity beyond the calendar": "score = 9223372036854775807",
    "a user of bytes": "list = CASE list WHEN 'active' THEN list ELSE x'ff' END",
    "a user that is none": "list = replace(list, 'ada', '%zz')",
    "no user": "list = replace(list, 'ada', '')",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_entries_break_no_list_and_are_put_right(path, wrong):
    """Lists ignore impossible entries, and `reindex` corrects them."""
    change(path, f"""UPDATE "sessions/lists" SET {wrong} WHERE member = 's'""")
    with closing(open_file(path)) as store:
        manager = SessionManager(store)
        listed = {each.session_id for each in manager.list_sessions(status=None)}
        assert {"t", "f"} <= listed
        assert [each.session_id for each in manager.get_sessions_for_user("ada") if each.session_id == "t"] == ["t"]
        assert not manager.verify()

        manager.reindex()

        assert manager.verify()
        assert {each.session_id for each in manager.list_sessions("ada")} == {"s", "t", "f"}
        assert manager.count("ada") == manager.count() == 3


@pytest.mark.parametrize("act", [*ACTS, "delete user", "scan", "rows"])
@pytest.mark.parametrize("column", ["sessions.key", "sessions/lists.member", "sessions/lists.score"])
def test_a_walk_through_rows_that_are_not_in_order_ends(path, column, act):
    """A schema that orders rows differently does not make an iteration endless."""
    with closing(open_file(path)) as store:
        SessionManager(store).import_sessions(Session(session_id=name, user_id="ada") for name in "ABCXYZabcxyz")
    table, name = column.split(".")
    other = f"replace(sql, '{name} TEXT', '{name} TEXT COLLATE NOCASE')"
    if name == "score":
        other = "replace(sql, 'score, member)', 'score DESC, member DESC)')"
    change(path, f"PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = {other} WHERE tbl_name = '{table}'")
    acts = ACTS | {
        "delete user": lambda manager: manager.delete_user("ada"),
        "scan": lambda manager: manager.delete_user("ada", scan=True),
        "rows": lambda manager: len(list(manager.store.mapping)),
    }
    with closing(open_file(path)) as store, suppress(StorageError):
        acts[act](SessionManager(store))


def test_entries_of_ids_that_are_none_break_no_list(path):
    """Entries with bytes, numbers, invalid names or absent sessions do not break lists."""
    rows = "(x'ff', 'user/ada/active', 5), ('%', 'active', 6), ('', 'active', 7), ('no', 'active', 8)"
    change(path, f'INSERT INTO "sessions/lists" (member, list, score) VALUES {rows}')
    with closing(open_file(path)) as store:
        manager = SessionManager(store)
        assert {each.session_id for each in manager.list_sessions()} == {"s", "t", "f"}
        assert manager.archive_inactive(0) == 3
        manager.reindex()
        assert manager.clear_all() == 3


# Paths ----------------------------------------------------------------------------------------------------------------


def test_a_link_to_nothing_is_not_followed(tmp_path):
    """A dangling symbolic link is not followed, so that nobody else can choose where a file is made."""
    (tmp_path / "chat.db").symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(StorageUnreachableError, match="symbolic link"):
        SQLiteSessionStore(tmp_path / "chat.db")

    assert [each.name for each in tmp_path.iterdir()] == ["chat.db"]


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path):
    """A folder in place of a file raises, and a file in place of a folder."""
    (tmp_path / "file").write_text(SECRET)

    for make in (
        lambda: SQLiteSessionStore(tmp_path),
        lambda: SQLiteSessionStore(tmp_path / "file" / "chat.db"),
        lambda: DiskCacheSessionStore(tmp_path / "file"),
    ):
        with pytest.raises(SessionError):
            make()

    assert (tmp_path / "file").read_text() == SECRET


# diskcache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    """A diskcache directory with sessions, beside a foreign file."""
    (tmp_path / "outside").write_text(SECRET)
    with closing(DiskCacheSessionStore(tmp_path / "chat")) as store:
        fill(store)
    return tmp_path / "chat"


@pytest.mark.parametrize("mode", [1, 2, 4, None, "x'ff'"])
@pytest.mark.parametrize(
    "name", ["../outside", "{}/outside", "link", "folder/link", "pipe", "folder", ".", "", "no", "a\0b", 7]
)
def test_no_file_outside_of_the_directory_is_read_or_deleted(directory, name, mode):
    """A row that names a foreign file, link, pipe or folder is an unreadable document. The file stays."""
    outside = directory.parent / "outside"
    (directory / "link").symlink_to(outside)
    (directory / "folder").mkdir()
    (directory / "folder" / "link").symlink_to(directory.parent)
    os.mkfifo(directory / "pipe")
    name = name.format(directory.parent) if isinstance(name, str) else name
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        query = f"UPDATE Cache SET value = NULL, mode = {'NULL' if mode is None else mode}, filename = ?"
        connection.execute(f"{query} WHERE key = 'session/s'", (name,))
    refusals = {}

    with closing(DiskCacheSessionStore(directory, timeout=0.2)) as store:
        for key, act in ACTS.items():
            try:
                act(SessionManager(store))
            except InvalidDocumentError as err:  # noqa: PERF203 (one after another)
                refusals[key] = err

    assert {"get", "append", "fork"} <= refusals.keys()
    assert all(SECRET not in f"{err}{err.document!r}" for err in refusals.values())
    assert outside.read_text() == SECRET


def test_a_file_that_claims_to_be_huge_is_not_read(directory):
    """A sparse file of a terabyte is not read into memory."""
    with (directory / "hole.val").open("wb") as file:
        file.truncate(10**12)
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET value = NULL, mode = 2, filename = 'hole.val' WHERE key = 'session/s'")
    tracemalloc.start()

    with closing(DiskCacheSessionStore(directory)) as store, pytest.raises(InvalidDocumentError):
        store.get("s")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eviction_policy", "gone"),
        ("eviction_policy", 7),
        ("size_limit", "'; DROP TABLE Cache; --"),
        ("sqlite_synchronous", "nonsense"),
        ("sqlite_mmap_size", "1; ATTACH '{}/made' AS a"),
        ("disk_min_file_size", "text"),
        ("disk_pickle_protocol", "text"),
        ("disk_unheard_of", 1),
        ("unheard_of", b"\xff"),
        ("statistics", "text"),
    ],
)
def test_settings_that_are_none_are_an_error_or_do_nothing(directory, key, value):
    """Invalid settings in a directory, which diskcache reads, raise or have no effect."""
    with closing(sqlite3.connect(directory / "cache.db")) as connection, connection:
        value = value.format(directory.parent) if isinstance(value, str) else value
        connection.execute("INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)", (key, value))

    def use():
        with closing(DiskCacheSessionStore(directory, timeout=0.2)) as store:
            assert SessionManager(store).get_session("s").session_id == "s"

    refusal = None
    try:
        use()
    except SessionError as err:
        refusal = err

    assert refusal is None or SECRET not in str(refusal)
    assert sorted(each.name for each in directory.parent.iterdir()) == ["chat", "outside"]
