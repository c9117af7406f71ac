"""Tests of the tables of a search index in an SQLite file: they are made and removed, and no others."""

import sqlite3
from contextlib import closing

import pytest

from pyai_sessions import Message, StorageError
from tests.search.stored import Stored
from tests.search.test_searching import fill


@pytest.fixture
def in_file(tmp_path):
    with closing(Stored("sqlite", tmp_path)) as made:
        yield made


def test_an_index_is_removed_and_made_anew(in_file):
    """A search finds the same with the index, without it, and with a new one."""
    fill(in_file.manager, in_file.clock, ["night"] * 70, "ada", "a")
    in_file.index.build()
    found = in_file.search("night", limit=None)

    in_file.manager.drop_search_index()
    assert in_file.search("night", limit=None) == found
    with closing(sqlite3.connect(in_file.path)) as connection:
        left = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%/search%'").fetchall()
    assert left == []

    assert in_file.manager.build_search_index() == 3
    assert in_file.search("night", limit=None) == found


@pytest.fixture(params=["", "/documents", "/links", "/due", "/documents/unreadable", "/inserted", "/DUE", "_data"])
def foreign(request, in_file):
    """Something of another program's that has the name of a part of an index."""
    in_file.manager.drop_search_index()
    name = f"sessions/search{request.param}"
    with closing(sqlite3.connect(in_file.path)) as connection:
        connection.execute(f'CREATE TABLE "{name}" (key TEXT PRIMARY KEY, value BLOB)')
        connection.execute(f"""INSERT INTO "{name}" VALUES ('a', 'b')""")  # noqa: S608
        connection.commit()
        yield name
        assert connection.execute(f'SELECT * FROM "{name}"').fetchall() == [("a", "b")]  # noqa: S608


def test_an_index_takes_the_place_of_no_other_table(in_file, foreign):
    """An index does not replace a table that has the name of one of its parts: making it raises."""
    fill(in_file.manager, in_file.clock, ["night"], "ada", "a")

    with pytest.raises(StorageError, match=foreign):
        in_file.manager.build_search_index()
    assert len(in_file.search("night")) == 1


@pytest.mark.parametrize("how", ["table", "index", "trigger", "view"])
def test_an_index_is_removed_only_if_all_of_it_is_its_own(in_file, how):
    """If another program replaced a part of the index, removing it raises, and a search reads the documents."""
    fill(in_file.manager, in_file.clock, ["night"] * 70, "ada", "a")
    in_file.index.build()
    statements = {
        "table": 'DROP TABLE "{0}/links"; CREATE TABLE "{0}/links" (key, value)',
        "index": 'DROP INDEX "{0}/documents/unreadable"; CREATE INDEX "{0}/documents/unreadable" ON "{0}/due" (key)',
        "trigger": 'DROP TRIGGER "{0}/moved"; CREATE TRIGGER "{0}/moved" AFTER UPDATE ON "{0}/due" BEGIN SELECT 1; END',
        "view": 'DROP TABLE "{0}/links"; CREATE VIEW "{0}/links" AS SELECT 1',
    }
    with closing(sqlite3.connect(in_file.path)) as connection:
        connection.executescript(statements[how].format("sessions/search"))
        before = connection.execute("SELECT * FROM sqlite_master").fetchall()
        in_file.manager.append("a", Message("user", "a bus by night"))

        for act in (in_file.manager.build_search_index, in_file.manager.drop_search_index):
            with pytest.raises(StorageError, match=f"it has a {how} 'sessions/search/.* is no part of a search index"):
                act()

        assert connection.execute("SELECT * FROM sqlite_master").fetchall() == before
    assert len(in_file.search("bus")) == 1


def test_an_index_that_lacks_a_part_is_made_anew(in_file):
    """Without one of its triggers an index would miss changes: a search reads the documents until it is made anew."""
    fill(in_file.manager, in_file.clock, ["night"] * 70, "ada", "a")
    in_file.index.build()
    with closing(sqlite3.connect(in_file.path)) as connection:
        connection.execute('DROP TRIGGER "sessions/search/updated"')
    in_file.manager.append("a", Message("user", "a bus by night"))

    assert len(in_file.search("bus")) == 1
    in_file.manager.build_search_index()
    assert in_file.index.is_made()
    assert len(in_file.search("bus")) == 1
