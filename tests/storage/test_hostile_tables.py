"""Tests of hostile tables: a call is correct or raises our own error, and ends."""

# ruff: noqa: S608 (the statements are ours)

import shutil
import sqlite3
import sys
from contextlib import ExitStack, closing, suppress

import pytest

from pyai_sessions.errors import InvalidValueError, StorageCorruptError, StorageError
from pyai_sessions.storage.families import storage_of
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.storage.sqlite import connections
from pyai_sessions.storage.sqlite.lists import NOWHERE
from pyai_sessions.storage.sqlite.mapping import SQLiteMapping
from pyai_sessions.testing.storage import change, derive
from tests.storage.test_sql import ACTS, execute

MORE_ACTS = ACTS | {
    "change": lambda storage: storage.write([change("a", "r2", "r1", listed={"active": 9}, was={"active": 1})]),
    "put": lambda storage: storage.write([Change(put=[("doc/a", b"new")])]),
    "drop": lambda storage: storage.write([Change(drop=["doc/a", "page/"], lists=[Listing("active", "a", 1, None)])]),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """An SQLite file with documents and lists."""
    path = tmp_path_factory.mktemp("filled") / "chat.db"
    with closing(SQLiteMapping(path, synchronous="OFF")) as mapping:
        saved = [change(place, "r1", listed={"active": 1, "user/ada": 1}) for place in "bcABCxyzXYZ"]
        storage_of(mapping, derive).write([change("a", "r1", listed={"active": 1}, pages={"1": "one"}), *saved])
    return path


@pytest.fixture
def changed(filled, tmp_path):
    """Return a function that opens a storage on a copy of the file after running SQL on it."""
    with ExitStack() as opened:

        def changed(script):
            path = shutil.copy(filled, tmp_path / "chat.db")
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(script)
            mapping = opened.enter_context(closing(SQLiteMapping(path, synchronous="OFF", timeout=0.2)))
            return storage_of(mapping, derive)

        yield changed


def endure(storage):
    """Make every call. Return our own errors by call."""
    refusals = {}
    for name, act in MORE_ACTS.items():
        try:
            act(storage)
        except (StorageError, InvalidValueError) as err:  # noqa: PERF203 (one after another)
            refusals[name] = err
    return refusals


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
MOVED = "ALTER TABLE sessions RENAME TO moved;"

COMPUTED = {
    "a view": f"{MOVED} CREATE VIEW sessions AS SELECT * FROM moved;",
    "an endless view": f"{MOVED} CREATE VIEW sessions AS {ENDLESS} SELECT 'doc/a' AS key, '{{}}' AS value FROM c;",
    "a view of gigabytes": f"{MOVED} CREATE VIEW sessions AS SELECT key, zeroblob(999999999) AS value FROM moved;",
    "a view that loads code": f"{MOVED} CREATE VIEW sessions AS SELECT key, load_extension('./x') AS value FROM moved;",
    "a column of gigabytes": "DROP TABLE sessions; CREATE TABLE sessions (key TEXT PRIMARY KEY, "
    "value AS (zeroblob(999999999))); INSERT INTO sessions (key) VALUES ('doc/a');",
    "a virtual table": "DROP TABLE sessions; CREATE VIRTUAL TABLE sessions USING fts4(key, value);",
    "endless lists": f'DROP TABLE "sessions/lists"; CREATE VIEW "sessions/lists" AS {ENDLESS} '
    "SELECT 'a' || n AS member, 'active' AS list, n AS score FROM c;",
    "endless counts": f'DROP TABLE "sessions/lists/counts"; CREATE VIEW "sessions/lists/counts" AS {ENDLESS} '
    "SELECT 'active' AS list, n FROM c;",
}


@pytest.mark.parametrize("script", COMPUTED.values(), ids=COMPUTED)
def test_a_table_that_is_computed_is_refused(changed, script):
    """A view or computed column raises, since it could yield rows and bytes without end."""
    storage = changed(script)

    refusals = endure(storage)

    assert refusals.keys() == MORE_ACTS.keys()
    is_view = "CREATE VIEW sessions " in script
    assert {type(each) for each in refusals.values()} == {InvalidValueError if is_view else StorageCorruptError}


@pytest.mark.parametrize("name", ["Sessions", "SESSIONS"])
def test_a_table_whose_name_differs_in_case_alone_is_refused(filled, tmp_path, name):
    """A table name that differs only in case raises, since SQLite treats both as one."""
    path = shutil.copy(filled, tmp_path / "chat.db")
    with closing(SQLiteMapping(path, name)) as mapping:
        storage = storage_of(mapping, derive)
        for act in ("read", "keys", "count", "write"):
            with pytest.raises(InvalidValueError) as caught:
                ACTS[act](storage)
            assert caught.value.path == "table_name"


@pytest.mark.parametrize("name", ["sessions/lists", "a/Lists", "sessions/lists/counts"])
def test_a_table_cannot_have_the_name_of_a_list_table(tmp_path, name):
    """A table with the name of a list table raises."""
    with pytest.raises(InvalidValueError):
        SQLiteMapping(tmp_path / "new.db", name)

    assert list(tmp_path.iterdir()) == []


ON = "CREATE TRIGGER t BEFORE {event} ON sessions BEGIN {action}; END;"
TRIGGERS = {
    "one that refuses": "SELECT RAISE(ABORT, 'no')",
    "one that passes over": "SELECT RAISE(IGNORE)",
    "one that calls what is not there": "INSERT INTO junk SELECT unheard_of(NEW.value)",
    "one that loads code": "INSERT INTO junk SELECT load_extension('./x')",
    "one that never ends": f"INSERT INTO junk {ENDLESS} SELECT count(*) FROM c",
}


@pytest.mark.parametrize("event", ["INSERT", "UPDATE"])
@pytest.mark.parametrize("action", TRIGGERS.values(), ids=TRIGGERS)
def test_a_trigger_ends_a_write_in_an_error_and_nothing_is_written(changed, action, event, monkeypatch):
    """A trigger makes a write raise. An endless one is stopped, and a skipped write is noticed."""
    monkeypatch.setattr(connections, "LONGEST", 0.0)
    storage = changed(f"CREATE TABLE junk (x); {ON.format(event=event, action=action)}")
    before = (storage.read(["doc/", "page/"]), sorted(storage.listings()))
    name, page, listed = ("a", "1", {"active": 1}) if event == "UPDATE" else ("new", "2", {})

    for refused in (
        change(name, "r2", "r1" if listed else None, listed={"active": 9}, was=listed),
        change(name, "r2", "r1" if listed else None)._replace(done=None),
        Change(put=[(f"doc/{name}", b"new")], lists=[Listing("active", name, None, 9)]),
        Change(expect=[("doc/b", "")], put=[(f"page/a/{page}", b"new"), ("doc/b", b"new")]),
        Change(expect=[("doc/b", ""), ("doc/none", None)], put=[(f"page/a/{page}", b"new"), ("doc/b", b"new")]),
    ):
        with pytest.raises(StorageError):
            storage.write([refused])

    assert (storage.read(["doc/", "page/"]), sorted(storage.listings())) == before


def test_a_trigger_that_passes_over_deletions_is_an_error(changed):
    """A trigger that skips a deletion makes it raise. The document stays in its lists."""
    storage = changed(ON.format(event="DELETE", action="SELECT RAISE(IGNORE)"))

    for expected in ("", '{"revision"'):
        with pytest.raises(StorageError, match="trigger"):
            storage.write(
                [Change(expect=[("doc/a", expected)], drop=["doc/a"], lists=[Listing("active", "a", 1, None)])]
            )

    assert list(storage.read(["doc/a"])) == ["doc/a"]
    assert storage.count("active") == 12


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot bound SQLite's values")
def test_a_trigger_cannot_make_a_gigabyte(changed):
    """A value that is larger than a message may be is not made."""
    action = "INSERT INTO junk VALUES (randomblob(900000000))"
    storage = changed(f"CREATE TABLE junk (x); {ON.format(event='UPDATE', action=action)}")

    with pytest.raises(StorageError, match="too big"):
        storage.write([change("a", "r2", "r1", listed={"active": 9}, was={"active": 1})])


CHANGED = {
    "keys of bytes": "UPDATE sessions SET key = CAST(key AS BLOB)",
    "keys of numbers": "UPDATE sessions SET key = rowid",
    "keys that are no text": "UPDATE sessions SET key = CAST(x'646f632fff' AS TEXT) WHERE key = 'doc/a'",
    "other types": f"{MOVED} CREATE TABLE sessions (key INTEGER PRIMARY KEY, value REAL)",
    "keys that come twice": f"{MOVED} CREATE TABLE sessions (key BLOB, value NUMERIC); "
    + 2 * "INSERT INTO sessions SELECT * FROM moved;",
    "other columns": f"{MOVED} CREATE TABLE sessions (a, b)",
    "a check": f"{MOVED} CREATE TABLE sessions (key TEXT PRIMARY KEY, value TEXT CHECK (length(value) < 3))",
    "lists of other columns": 'DROP TABLE "sessions/lists"; CREATE TABLE "sessions/lists" (a, b)',
    "counts of text": "UPDATE \"sessions/lists/counts\" SET n = 'many'",
    "counts without end": 'UPDATE "sessions/lists/counts" SET n = 1e999',
    "no counts": 'DELETE FROM "sessions/lists/counts"',
    "lists that are gone": 'DROP TABLE "sessions/lists"',
    "a schema of nonsense": "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'CREATE TABLE nonsense'",
    "a schema that points elsewhere": "PRAGMA writable_schema=ON; UPDATE sqlite_master SET rootpage = 2",
}


@pytest.mark.parametrize("script", CHANGED.values(), ids=CHANGED)
def test_other_contents_are_read_or_refused(changed, script):
    """Other types, columns and affinities are read, or raise our own error."""
    with suppress(StorageError):
        endure(changed(script))


WRONG = {
    "text": "'then'",
    "bytes": "x'ff00'",
    "no integer": "1e300",
}


@pytest.mark.parametrize("score", WRONG.values(), ids=WRONG)
def test_a_score_that_is_no_number_breaks_no_list_and_is_put_right(changed, score):
    """Scans skip a score that is not a number. Listings show it, and a change of the member mends it."""
    storage = changed(f"""UPDATE "sessions/lists" SET score = {score} WHERE member = 'a'""")

    assert (1, "b") in storage.scan("active")
    assert "a" not in [member for _, member in storage.scan("active")]
    told = [("active", "a", NOWHERE)]
    assert [each for each in storage.listings() if each[1] == "a"] == list(storage.listings([("active", "a")])) == told

    assert storage.write([Change(expect=[("doc/a", "")], lists=[Listing("active", "a", NOWHERE, 5)])]) == [True]

    assert storage.scan("active")[-1] == (5, "a")
    assert storage.count("active") == 12


@pytest.mark.parametrize("column", ["list", "member"])
def test_names_that_are_no_text_break_no_list(changed, column):
    """Names that are not text are skipped. A missing member can be listed again."""
    storage = changed(f"""UPDATE "sessions/lists" SET {column} = x'ff' WHERE member = 'a'""")

    assert len(storage.scan("active")) == 11
    assert len(list(storage.listings())) == 22
    assert storage.write([Change(expect=[("doc/a", "")], lists=[Listing("active", "a", 1, 1)])]) == [True]
    assert (1, "a") in storage.scan("active")


@pytest.mark.parametrize("column", ["sessions.key", "sessions/lists.list", "sessions/lists.score"])
def test_a_walk_through_rows_that_are_not_in_order_ends(changed, column):
    """With a schema that orders rows differently, an iteration raises rather than never end."""
    table, name = column.split(".")
    other = f"replace(sql, '{name} TEXT', '{name} TEXT COLLATE NOCASE')"
    if name == "score":
        other = "replace(sql, 'score, member)', 'score DESC, member DESC)')"
    script = f"PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = {other} WHERE tbl_name = '{table}'"
    with suppress(StorageError):
        endure(changed(script))


def test_a_schema_that_takes_keys_for_the_same_gives_no_document_for_another(changed):
    """With a schema that equates keys, no document of another key is returned."""
    script = (
        "UPDATE sqlite_master SET sql = replace(sql, 'key TEXT', 'key TEXT COLLATE NOCASE') WHERE name = 'sessions'"
    )
    storage = changed(f"PRAGMA writable_schema=ON; {script}")

    with suppress(StorageError):
        assert set(storage.read(["doc/b", "DOC/C"])) <= {"doc/b"}
        assert set(storage.read(["Page/a/"])) == set()


def test_a_walk_that_goes_in_a_circle_is_cut_off(changed, monkeypatch):
    """An iteration whose pages end at the same key raises."""
    storage = changed("SELECT 1")
    monkeypatch.setattr(storage._table, "_in_order", storage._table._in_order[:1] * 2)
    first = storage._lists._in_order[0]
    monkeypatch.setattr(storage._lists, "_in_order", (first, first.replace("list >= ?", "list >= ? AND ? != ?")))

    for walk in (storage.keys, storage.listings):
        with pytest.raises(StorageCorruptError, match="comes back to where it was"):
            list(walk())


def test_damaged_pages_are_an_error_and_not_an_empty_file(filled, tmp_path):
    """Reading damaged pages raises."""
    path = tmp_path / "chat.db"
    shutil.copy(filled, path)
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(StorageCorruptError), closing(SQLiteMapping(path)) as mapping:
        storage_of(mapping, derive).read(["doc/"])
