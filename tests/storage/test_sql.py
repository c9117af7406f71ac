"""Tests of SQLiteStorage beyond its contract: other tools' data, cost, and other processes."""

# ruff: noqa: S608 (the names of tables are ours)

import sqlite3
from contextlib import closing

import pytest
from sqlitedict import SqliteDict

from pyai_sessions.errors import (
    InvalidValueError,
    StorageClosedError,
    StorageCorruptError,
    StorageLockedError,
    StorageMovedError,
    StorageReadOnlyError,
)
from pyai_sessions.storage.families import storage_of
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.storage.sqlite.mapping import SQLiteMapping
from pyai_sessions.storage.sqlite.tables import Null
from pyai_sessions.testing.storage import change, derive, document
from pyai_sessions.testing.storage.fixtures import start as start_of
from tests.processes import LOCKED, python_until_told, run_python

ACTS = {
    "read": lambda storage: storage.read(["doc/a"]),
    "read below": lambda storage: storage.read(["doc/a", "page/a/"]),
    "keys": lambda storage: list(storage.keys()),
    "keys below": lambda storage: list(storage.keys("doc/")),
    "scan": lambda storage: storage.scan("active"),
    "count": lambda storage: storage.count("active"),
    "listings": lambda storage: list(storage.listings()),
    "listings of": lambda storage: list(storage.listings([("active", "a")])),
    "write": lambda storage: storage.write([change("b", "r1", listed={"active": 1})]),
    "write many": lambda storage: storage.write([change(place, "r9") for place in "xyz"]),
    "exclusive": lambda storage: storage.exclusive().__enter__(),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def mapping(path):
    with closing(SQLiteMapping(path, synchronous="OFF", timeout=30)) as mapping:
        yield mapping


@pytest.fixture
def storage(mapping):
    return storage_of(mapping, derive)


def execute(path, query, parameters=()):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(query, parameters).fetchall()


def fill(storage, count=1, **options):
    """Store *count* documents with list entries."""
    saved = [change(f"p{n}", "r1", listed={"active": n, "user/ada/active": n}, **options) for n in range(count)]
    assert storage.write([change("a", "r1", listed={"active": -1}, pages={"1": "one"}), *saved]) == [True] * (count + 1)


# What other tools wrote ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["scan", "count", "listings", "write"])
def test_what_was_written_before_there_were_lists_is_listed(path, first):
    """Documents from before there were lists are listed at the first call, in every namespace."""
    texts = {f"doc/p{n}": document("r1", ("active", f"p{n}", n)) for n in range(1200)}
    texts |= {"namespace/n/doc/p": document("r1", ("namespace/n/active", "p", 7)), "doc/torn": b"torn"}
    texts |= {"page/p/1": b"a page", "notes": b"a stranger's", "doc/odd": document("r1", ("active", "odd", 5))}
    with closing(SqliteDict(str(path), tablename="sessions", encode=str, decode=str)) as plain:
        plain.update({key: text.decode() for key, text in texts.items()})
        plain.commit()
    seen, read_keys = [], []

    def watched(key, read):
        def reading():
            read_keys.append(key)
            return read()

        seen.append(key)
        return derive(key, reading)

    with closing(SQLiteMapping(path)) as mapping:
        storage = storage_of(mapping, watched)
        assert len(set(storage.keys())) == len(texts)
        assert seen == []
        ACTS[first](storage)

        assert sorted(seen) == sorted(texts)
        assert sorted(read_keys) == sorted(key for key in texts if "doc/" in key)
        assert storage.count("active") == 1201 + (first == "write")
        assert storage.scan("active", limit=8)[5:7] == [(5, "odd"), (5, "p5")] if first != "write" else True
        assert storage.scan("namespace/n/active") == [(7, "p")]
        assert storage_of(mapping, lambda key, read: 1 / 0).count("namespace/n/active") == 1


def test_whatever_another_program_put_there_is_read_and_can_be_set_aside(storage, path):
    """NULL, numbers and bytes from other programs are read as documents, and can be set aside."""
    values = {"null": None, "number": 5, "float": 5.5, "bytes": b"\xff\x00\xfe", "text": "text"}
    storage.count("active")
    for name, value in values.items():
        execute(path, "INSERT INTO sessions (key, value) VALUES (?, ?)", (f"doc/{name}", value))
    execute(path, "INSERT INTO sessions (key, value) VALUES ('doc/none', CAST(x'ff22' AS TEXT))")
    expected = {
        "null": Null(),
        "number": b"5",
        "float": b"5.5",
        "bytes": b"\xff\x00\xfe",
        "text": b"text",
        "none": b'\xff"',
    }

    found = storage.read([f"doc/{name}" for name in expected])
    assert found == {f"doc/{name}": value for name, value in expected.items()}
    for name in expected:
        key = f"doc/{name}"
        assert storage.write([Change(expect=[(key, None)], put=[(key, b"new")])]) == [False]
        if name == "null":
            assert storage.write([Change(expect=[(key, "N")], put=[(key, b"new")])]) == [False]
        moved = Change(expect=[(key, "")], put=[(f"aside/{name}", found[key])], drop=[key])
        assert storage.write([moved]) == [True]
    assert storage.read([f"aside/{name}" for name in expected]) == {
        f"aside/{name}": value for name, value in expected.items()
    }
    execute(path, "INSERT INTO sessions (key, value) VALUES ('doc/null', NULL)")
    assert storage.write([Change(expect=[("doc/null", "")], put=[("doc/null", b"new")])]) == [True]
    assert storage.read(["doc/null"]) == {"doc/null": b"new"}


def test_a_plain_sqlitedict_reads_our_documents_as_text(storage, path):
    """A plain SqliteDict, and SQL, read our documents as text."""
    storage.write([Change(put=[("doc/a", '{"name":"héllo"}'.encode())])])

    with closing(SqliteDict(str(path), tablename="sessions", encode=str, decode=str, journal_mode="WAL")) as plain:
        assert dict(plain) == {"doc/a": '{"name":"héllo"}'}
    assert execute(path, "SELECT typeof(value), json_extract(value, '$.name') FROM sessions") == [("text", "héllo")]


def test_lists_without_their_counts_are_counted_again(path):
    """If only the table was copied, lists are counted again."""
    with closing(SQLiteMapping(path)) as mapping:
        fill(storage_of(mapping, derive), 3)
    for each in ("TRIGGER {}/added", "TRIGGER {}/removed", "TABLE {}/counts", "INDEX {}/order"):
        kind, name = each.split()
        execute(path, f'DROP {kind} "{name.format("sessions/lists")}"')

    with closing(SQLiteMapping(path)) as mapping:
        storage = storage_of(mapping, lambda key, read: 1 / 0)
        assert (storage.count("active"), storage.count("user/ada/active"), storage.count("none")) == (4, 3, 0)
        storage.write([Change(drop=["doc/p0"], lists=[Listing("active", "p0", 0, None)])])
        assert storage.count("active") == 3


# What a call costs --------------------------------------------------------------------------------------------------


def steps(mapping, call):
    """Return the number of SQLite's virtual machine steps of a call."""
    taken = []
    with mapping.connections.reading() as connection:
        connection.set_progress_handler(lambda: taken.append(1), 1)
    call()
    return len(taken)


def statements(mapping, call):
    """Return the statements that a call runs."""
    asked = []
    with mapping.connections.reading() as connection:
        connection.set_trace_callback(asked.append)
    call()
    return [each for each in asked if not each.startswith("--")]


@pytest.mark.parametrize("under", ["", "namespace/n/"])
def test_what_other_lists_hold_costs_nothing(storage, mapping, under):
    """The cost of a call does not depend on other lists' lengths."""

    def move():
        revision = storage.read([f"{under}doc/p0"])[f"{under}doc/p0"].decode()[13:].partition('"')[0]
        saved = change("p0", revision + "+", revision, listed={"active": 5}, was={"active": 5}, under=under)
        assert storage.write([saved]) == [True]

    calls = [
        lambda: storage.scan(f"{under}active", newest_first=True),
        lambda: storage.scan(f"{under}active", (3, "p0"), 2),
        lambda: storage.count(f"{under}active"),
        lambda: list(storage.listings([(f"{under}active", "p0")])),
        lambda: list(storage.listings(prefix=f"{under}a")),
        move,
    ]
    storage.write([change("p0", "r", listed={"active": 5}, under=under)])
    storage.write([change("p0", "r", listed={"active": 5}, under="namespace/other/")])
    before = [[steps(mapping, call) for call in calls] for _ in range(2)][1]

    storage.write(
        [change(f"p{n}", "r", listed={"active": n, "all": n}, under="namespace/other/") for n in range(1, 400)]
    )

    assert storage.count("namespace/other/active") == 400
    assert [steps(mapping, call) for call in calls] == before


def test_a_count_costs_nothing_by_the_length_of_the_list(storage, mapping):
    """The cost of a count does not depend on the list's length."""
    fill(storage, 1)
    before = [steps(mapping, lambda: storage.count("active")) for _ in range(2)][1]

    storage.write([change(f"q{n}", "r1", listed={"active": n}) for n in range(500)])

    assert storage.count("active") == 502
    assert steps(mapping, lambda: storage.count("active")) == before


def test_a_save_is_one_transaction_of_few_statements(storage, mapping):
    """A save is one statement for the document and one for each list, in one transaction."""
    storage.write([change("a", "r1", listed={"active": 1, "user/ada/active": 1})])
    saved = change("a", "r2", "r1", listed={"active": 2, "user/ada/active": 2}, was={"active": 1, "user/ada/active": 1})

    asked = statements(mapping, lambda: storage.write([saved]))

    assert [each.split()[0] for each in asked] == ["BEGIN", "UPDATE", "UPDATE", "UPDATE", "COMMIT"]


def test_a_list_that_is_empty_leaves_no_name_behind(storage, path):
    """An empty list leaves no name, which could be an erased user's."""
    storage.write([change("a", "r1", listed={"user/ada/active": 1})])
    gone = Change(drop=["doc/a"], lists=[Listing("user/ada/active", "a", 1, None)])

    storage.write([gone])

    for table in ("sessions", "sessions/lists", "sessions/lists/counts"):
        assert execute(path, f'SELECT * FROM "{table}"') == []


def test_what_is_dropped_is_overwritten_in_the_file(storage, path):
    """Dropped text is overwritten in the file."""
    for text in (b"a small secret", b"a big secret" * 2000):
        storage.write([Change(put=[("doc/a", text)])])
        storage.write([Change(put=[("doc/a", b"another")])])
    storage.write([Change(put=[("doc/b", b"a third secret")])])
    storage.write([Change(drop=["doc/b"])])
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")

    assert b"secret" not in path.read_bytes()


# In which order keys come -------------------------------------------------------------------------------------------


def test_keys_of_what_a_table_mostly_holds_come_as_they_lie(storage):
    """Keys that most rows match are read in the table's order, since seeks are expensive."""
    names = [f"doc/{n * 7919 % 1000}" for n in range(1000)]  # not in the order of their keys
    for start in range(0, 1000, 100):
        storage.write([Change(put=[(name, b"text")]) for name in names[start : start + 100]])
    storage.write([change("a", "r1", pages={f"{n}": "page" for n in range(50)})])

    assert list(storage.keys("doc/")) == [*names, "doc/a"]
    assert list(storage.keys("page/")) == sorted(storage.keys("page/"))
    assert list(storage.keys()) == sorted(storage.keys())


def test_no_key_is_missed_where_rows_are_rewritten_meanwhile(storage, path):
    """A VACUUM or changes during an iteration do not make it miss a key."""
    storage.write([Change(put=[(f"doc/gone{n}", b"text") for n in range(300)])])
    storage.write([change(f"p{n}", "r1") for n in range(1500)])
    seen = []

    for key in storage.keys("doc/p"):
        seen.append(key)
        if len(seen) == 100:
            storage.write([Change(drop=[f"doc/gone{n}" for n in range(300)])])
            storage.write([change(f"p{n}", "r2" + "x" * 5000, "r1") for n in range(1500)])
            storage.write([Change(put=[(f"doc/p{n}", b"anew")]) for n in range(0, 1500, 2)])
            execute(path, "VACUUM")

    assert set(seen) == {f"doc/p{n}" for n in range(1500)}


def test_a_table_without_rowid_is_walked_by_its_keys(path):
    """A table without rowid can be iterated over."""
    execute(path, "CREATE TABLE sessions (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    with closing(SQLiteMapping(path)) as mapping:
        storage = storage_of(mapping, derive)
        storage.write([Change(put=[(f"doc/{n:04}", b"text") for n in range(1100)])])

        assert list(storage.keys("doc/")) == [f"doc/{n:04}" for n in range(1100)]
        assert len(storage.read(["doc/"])) == 1100


# What files and other processes do ----------------------------------------------------------------------------------


def test_a_file_that_another_process_locked_raises_within_the_timeout(path):
    """A locked file makes writes raise within the timeout. Readers do not wait."""
    with closing(SQLiteMapping(path, timeout=0.2)) as mapping:
        storage = storage_of(mapping, derive)
        fill(storage)

        with python_until_told(LOCKED, path):
            for name in ("write", "write many", "exclusive"):
                with pytest.raises(StorageLockedError) as caught:
                    ACTS[name](storage)
                assert caught.value.where == str(path)
            for name in ("read", "read below", "keys", "scan", "count", "listings", "listings of"):
                assert ACTS[name](storage_of(mapping, derive))

        assert ACTS["write"](storage) == [True]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("closed", ["mapping", "SqliteDict"])
def test_a_mapping_that_its_owner_closed_says_so(path, closed, act):
    """After its mapping is closed, the storage raises StorageClosedError."""
    mapping = SQLiteMapping(path) if closed == "mapping" else SqliteDict(str(path))
    with closing(storage_of(mapping, derive)) as storage:
        fill(storage)
        mapping.close()

        with pytest.raises(StorageClosedError):
            ACTS[act](storage)


def test_closing_a_storage_leaves_the_given_mapping_open(mapping, storage):
    """Closing a storage does not close the given mapping."""
    fill(storage)
    storage.close()

    assert mapping["page/a/1"] == "one"


@pytest.mark.parametrize("act", ACTS)
def test_a_file_that_was_renamed_is_not_written(storage, path, act):
    """A write to a renamed file raises."""
    fill(storage)
    path.rename(path.with_name("moved.db"))

    with pytest.raises(StorageMovedError):
        ACTS[act](storage)


def test_a_file_that_is_opened_for_reading_is_read(path):
    """A read-only file's documents and lists can be read. A write raises."""
    with closing(SQLiteMapping(path)) as mapping:
        fill(storage_of(mapping, derive))

    with (
        closing(SqliteDict(str(path), tablename="sessions", flag="r", journal_mode="WAL")) as mapping,
        closing(storage_of(mapping, derive)) as storage,
    ):
        for name in ("read", "read below", "keys", "scan", "count", "listings"):
            assert ACTS[name](storage)
        for name in ("write", "write many", "exclusive"):
            with pytest.raises(StorageReadOnlyError):
                ACTS[name](storage)


def test_a_file_that_is_opened_for_reading_and_was_never_listed_says_so(path):
    """A read-only file without lists raises at a list."""
    with closing(SqliteDict(str(path), encode=str, decode=str)) as plain:
        plain["doc/a"] = document("r1", ("active", "a", 1)).decode()
        plain.commit()

    with (
        closing(SqliteDict(str(path), flag="r", journal_mode="WAL")) as mapping,
        closing(storage_of(mapping, derive)) as storage,
    ):
        assert list(storage.read(["doc/a"])) == ["doc/a"]
        assert list(storage.keys()) == ["doc/a"]
        for name in ("scan", "count", "listings", "listings of"):
            with pytest.raises(StorageReadOnlyError, match="open it once for writing"):
                ACTS[name](storage)


def test_parent_and_child_both_write_after_a_fork(path):
    """A forked child opens its own connections."""
    printed = run_python(
        """
        import os, sys
        from sqlitedict import SqliteDict
        from pyai_sessions.storage.families import storage_of
        from pyai_sessions.testing.storage import change, derive
        storage = storage_of(SqliteDict(sys.argv[1]), derive)
        storage.write([change("before", "r1", listed={"active": 0})])
        child = os.fork()
        for n in range(20):
            name = f"{'parent' if child else 'child'}{n}"
            assert storage.write([change(name, "r1", listed={"active": n})]) == [True]
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(storage.count("active"), len(storage.scan("active")), len(list(storage.keys())))
        os._exit(0)
        """,
        path,
    )

    assert printed.split() == ["41", "41", "41"]


# Transactions -------------------------------------------------------------------------------------------------------


def test_a_write_in_a_transaction_of_the_callers_own_is_a_part_of_it(storage, mapping):
    """A write in the caller's transaction is rolled back with it."""

    def fail():
        with mapping.connections.writing() as connection:
            connection.execute("INSERT INTO sessions (key, value) VALUES ('mine', 'text')")
            assert storage.write([change("a", "r1", listed={"active": 1})]) == [True]
            assert storage.write([change("b", "r1"), change("a", "r2")]) == [True, False]
            assert (storage.scan("active"), storage.count("active")) == ([(1, "a")], 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert list(storage.keys()) == []
    assert storage.count("active") == 0
    fill(storage)
    assert storage.count("active") == 2


def test_what_is_done_is_looked_for_before_what_is_expected(storage):
    """`done` is compared before `expect`."""
    for expected in ("", "{", '{"revision":"r1"', '{"revision":"r1","listed"'):
        storage.write([Change(put=[("doc/a", document("r1"))])])
        again = Change(expect=[("doc/a", expected)], done='{"revision":"r1"', put=[("doc/a", b"another")])

        assert storage.write([again]) == [True]
        assert storage.read(["doc/a"]) == {"doc/a": document("r1")}


def test_a_connection_that_is_still_reading_is_not_lent_again(storage, mapping):
    """A connection with an open read of an interrupted call is not used again."""
    fill(storage)

    def fail():
        with mapping.connections.reading() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM sessions").fetchone()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with mapping.connections.reading() as connection:
        assert not connection.in_transaction


# Copies -------------------------------------------------------------------------------------------------------------


def test_a_backup_is_a_storage_with_its_lists(storage, path, tmp_path):
    """A backup has the documents and lists of one moment, and overwrites a file only if asked."""
    fill(storage, 3)
    storage.backup(tmp_path / "copy.db", overwrite=False)
    storage.write([Change(drop=["doc/p0"], lists=[Listing("active", "p0", 0, None)])])

    with closing(SQLiteMapping(tmp_path / "copy.db")) as mapping:
        copy = storage_of(mapping, lambda key, read: 1 / 0)
        assert (copy.count("active"), len(list(copy.keys()))) == (4, 5)
    with pytest.raises(InvalidValueError):
        storage.backup(tmp_path / "copy.db")
    storage.backup(tmp_path / "copy.db", overwrite=True)
    with closing(SQLiteMapping(tmp_path / "copy.db")) as mapping:
        assert storage_of(mapping, derive).count("active") == 3


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path):
    """A file that is not a database raises, and stays."""
    path.write_bytes(b"a diary, not a database. " * 100)

    with pytest.raises(StorageCorruptError) as caught:
        SQLiteMapping(path)

    assert caught.value.where == str(path)
    assert path.read_bytes() == b"a diary, not a database. " * 100


# What threads bring together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [2, 3])
def test_changes_of_one_place_that_come_together_are_applied_one_after_another(storage, together):
    """Concurrent changes of one place are applied in turn. The last is stored and listed."""
    assert storage.write([change("a", "r1", listed={"active": 1})]) == [True]
    gone = Change([("doc/a", start_of("r1"))], drop=["doc/a", "page/a/"], lists=[Listing("active", "a", 1, None)])
    anew = change("a", "r2", listed={"active": 2})._replace(expect=[("doc/a", None)])
    other = change("b", "r1", listed={"active": 3})

    assert storage._apply([gone, anew, other][:together]) == [True] * together

    assert storage.read(["doc/a"]).keys() == {"doc/a"}
    assert (2, "a") in storage.scan("active")
    assert storage.count("active") == together - 1
