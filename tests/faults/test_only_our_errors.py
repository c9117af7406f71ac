"""Tests that no exception of SQLite or diskcache leaves a public method, whatever is in the file."""

import shutil
import sqlite3
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    Message,
    SessionError,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageCorruptError,
)

METHODS = {
    "get": lambda manager: manager.get_session("s"),
    "get the last": lambda manager: manager.get_session("s", last=2),
    "get or create": lambda manager: manager.get_or_create_session("v"),
    "list": lambda manager: manager.get_sessions_for_user("ada"),
    "summaries": lambda manager: manager.list_sessions(status=None, where={"a": 1}),
    "count": lambda manager: manager.count(status=None),
    "append": lambda manager: manager.append("s", Message("user", "more")),
    "create": lambda manager: manager.create_session("ada"),
    "fork": lambda manager: manager.fork("s"),
    "archive": lambda manager: manager.archive("s"),
    "restore": lambda manager: manager.restore("s"),
    "archive idle": lambda manager: manager.archive_inactive(0),
    "import": lambda manager: manager.import_sessions([{"session_id": "w", "messages": []}]),
    "purge": lambda manager: manager.purge_expired(),
    "reindex": lambda manager: manager.reindex(),
    "verify": lambda manager: manager.verify(),
    "repair": lambda manager: manager.verify(repair=True),
    "delete": lambda manager: manager.delete("t"),
    "delete a user": lambda manager: manager.delete_user("bob", scan=True),
    "clear": lambda manager: manager.clear_all(),
}

ITEMS = {
    "get": lambda mapping: mapping.get("session/s"),
    "set": lambda mapping: mapping.update({"a": "b"}),
    "delete": lambda mapping: mapping.pop("a", None),
    "iterate": list,
    "items": lambda mapping: list(mapping.items()),
    "length": len,
    "truth": bool,
    "clear": lambda mapping: mapping.clear(),
}


def open_mapping(path):
    return SQLiteMapping(path, timeout=0.2, synchronous="OFF")


def open_store(path):
    return SQLiteSessionStore(path, timeout=0.2, synchronous="OFF")


def open_directory(path):
    directory = path.with_name("directory")
    directory.mkdir(exist_ok=True)
    shutil.copy(path, directory / "cache.db")
    return DiskCacheSessionStore(directory, timeout=0.2)


OPENED = {
    "store": (open_store, lambda store: [lambda act=act: act(SessionManager(store)) for act in METHODS.values()]),
    "mapping": (open_mapping, lambda mapping: [lambda act=act: act(mapping) for act in ITEMS.values()]),
}


def endure(kind, path):
    """Make every call on a file. Only our own errors and KeyError may be raised."""
    open_it, calls = OPENED[kind]
    with suppress(SessionError), closing(open_it(path)) as opened:
        for each in calls(opened):
            with suppress(SessionError):
                each()
    if kind == "store":
        with suppress(SessionError), closing(open_it(path)) as opened:
            SessionManager(opened).backup(path.with_name("copy.db"), overwrite=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return the bytes of an SQLite file with sessions."""
    path = tmp_path_factory.mktemp("filled") / "chat.db"
    with SessionManager(SQLiteSessionStore(path, synchronous="OFF"), close_store=True) as manager:
        session = manager.create_session("ada", session_id="s")
        for n in range(40):
            session.add_message("user", f"message {n}")
        manager.save(session)
        manager.create_session("ada", session_id="t")
    return path.read_bytes()


BYTES = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff", b"\0" * 8, b"\xff" * 8, b"\x80abc"])
PLACES = st.integers(0, 200) | st.integers(3000, 4200) | st.integers(0, 2**17)


@pytest.mark.parametrize("kind", OPENED)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(PLACES, BYTES), max_size=8), length=st.none() | st.integers(0, 2**16))
@example(damage=[], length=0)
@example(damage=[(0, b"not a database")], length=None)
def test_a_damaged_file_raises_our_errors_alone(filled, tmp_path, kind, damage, length):
    """Changed or cut-off bytes anywhere in a file raise only our own errors."""
    found = bytearray(filled[:length])
    for place, text in damage:
        found[place : place + len(text)] = text
    path = tmp_path / "chat.db"
    for each in tmp_path.iterdir():
        each.unlink()
    path.write_bytes(found)

    endure(kind, path)


SCHEMAS = [
    "UPDATE sqlite_master SET sql = CAST(x'435245415445205441424C4520FF2028' AS TEXT)",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE ' || CAST(x'FF' AS TEXT) || ' (', name = CAST(x'FF' AS TEXT)",
    "UPDATE sqlite_master SET name = CAST(x'FE' AS TEXT) WHERE type = 'table'",
    "UPDATE sqlite_master SET sql = sql || CAST(x'20FF' AS TEXT) WHERE type = 'trigger'",
    "UPDATE sqlite_master SET tbl_name = CAST(x'FE' AS TEXT) WHERE type = 'index'",
    "UPDATE sqlite_master SET sql = 'nonsense'",
    "UPDATE sqlite_master SET rootpage = 99999",
]


@pytest.mark.parametrize("statement", SCHEMAS)
@pytest.mark.parametrize("kind", OPENED)
def test_a_damaged_schema_raises_our_errors_alone(filled, tmp_path, kind, statement):
    """A damaged schema, which Python may fail to decode in SQLite's error, raises our own error."""
    path = tmp_path / "chat.db"
    path.write_bytes(filled)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)

    endure(kind, path)


def test_a_schema_that_is_not_utf_8_is_called_damaged(filled, tmp_path):
    """A schema that is not UTF-8 raises StorageCorruptError, which suggests a backup."""
    path = tmp_path / "chat.db"
    path.write_bytes(filled)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(SCHEMAS[0])

    with pytest.raises(StorageCorruptError, match="restore it from a backup"):
        open_store(path)


def test_a_closed_mapping_says_so(tmp_path):
    """Every method of a closed mapping, and of a store on it, raises StorageClosedError."""
    mapping = open_mapping(tmp_path / "chat.db")
    store = KVSessionStore(mapping)
    mapping.close()

    for act in [*ITEMS.values(), lambda mapping: mapping.update({"a": "b"}), lambda mapping: mapping["a"]]:
        with pytest.raises(SessionError, match="closed"):
            act(mapping)
    with pytest.raises(SessionError, match="closed"):
        store.get("s")
    mapping.close()
