"""Tests that tables and namespaces of one storage are separate, whatever their names."""

import sqlite3
from contextlib import ExitStack, closing, contextmanager

import diskcache
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from sqlitedict import SqliteDict

from pyai_sessions import InvalidValueError, KVSessionStore, SessionManager, SQLiteMapping


@pytest.mark.parametrize(("one", "other"), [("sessions", "Sessions"), ("a", "A")])
def test_a_table_whose_name_differs_in_case_alone_is_refused(tmp_path, one, other):
    """A table name that differs only in case raises, since SQLite treats both as one table."""
    with closing(SQLiteMapping(tmp_path / "chat.db", one)) as mapping:
        SessionManager(mapping).create_session("ada", session_id="s")

    refused = pytest.raises(InvalidValueError, match=f"is {other!r}, but the file has a table {one!r}")
    with closing(SQLiteMapping(tmp_path / "chat.db", other)) as mapping, refused:
        SessionManager(mapping).clear_all()

    with closing(SQLiteMapping(tmp_path / "chat.db", one)) as mapping:
        assert SessionManager(mapping).get_session("s") is not None


@pytest.mark.parametrize("name", ["sessions/lists", "a/LISTS", "a/Search", "sessions/search/links", "a/search_data"])
def test_a_name_that_a_store_derives_from_that_of_its_table_is_refused(tmp_path, name):
    """The name of a store's lists or of its search index raises as a table name, on every mapping of a file."""
    with pytest.raises(InvalidValueError, match=r"table_name is .* choose another name"):
        SQLiteMapping(tmp_path / "chat.db", name)
    assert list(tmp_path.iterdir()) == []

    refused = pytest.raises(InvalidValueError, match=r"table_name is .* choose another name")
    with closing(SqliteDict(tmp_path / "chat.db", tablename=name)) as mapping, refused:
        SessionManager(mapping)


def test_a_store_uses_no_name_that_another_table_can_have(tmp_path):
    """Whatever a store makes in a file beside its table has a name that raises as a table name."""
    path = tmp_path / "chat.db"
    with closing(SQLiteMapping(path)) as mapping:
        manager = SessionManager(mapping)
        manager.create_session("ada")
        manager.build_search_index()
    with closing(sqlite3.connect(path)) as connection:
        made = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name != 'sessions'")]

    assert len(made) > 10
    for name in made:
        with pytest.raises(InvalidValueError, match="table_name"):
            SQLiteMapping(path, name)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a b"), ("a", 'a"b'), ("a", "a'b"), ("a/b", "a"), ("é", "É"), ("a", "ab")]
)
def test_tables_of_one_file_are_stores_of_their_own(tmp_path, one, other):
    """Clearing, repairing, erasing and rebuilding one table's store leaves the other."""
    with (
        closing(SQLiteMapping(tmp_path / "c.db", one)) as first,
        closing(SQLiteMapping(tmp_path / "c.db", other)) as second,
    ):
        mine, theirs = SessionManager(first), SessionManager(second)
        kept = theirs.create_session("ada", session_id="s")
        mine.create_session("ada", session_id="s")

        mine.reindex()
        mine.verify(repair=True)
        assert mine.delete_user("ada", scan=True).session_ids == ["s"]
        mine.create_session("ada", session_id="t")
        assert mine.clear_all() == 1

        assert theirs.get_session("s") == kept
        assert theirs.count() == 1
        assert theirs.verify().problems == []


# Any names -----------------------------------------------------------------------------------------------------------

NAMES = st.text(st.sampled_from("aAbé/:%.\"' -_~0*[]\\?"), min_size=1, max_size=6)
ENDS = ["/lists", "/lists/counts", "/search", "/search/links", "/search/due", "/search/documents", "/search_data", "/s"]
PAIRS = st.tuples(NAMES, NAMES) | st.tuples(NAMES, st.sampled_from(ENDS)).map(lambda each: (each[0], "".join(each)))


@contextmanager
def tables(path, names):
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SQLiteMapping(path / "c.db", each))) for each in names]


@contextmanager
def namespaces(mapping, names):
    yield [KVSessionStore(mapping, namespace=each) for each in names]


@contextmanager
def in_a_file(path, names):
    with closing(SQLiteMapping(path / "c.db")) as mapping, namespaces(mapping, names) as stores:
        yield stores


@contextmanager
def in_a_directory(path, names):
    index = diskcache.Index(str(path / "chat"))
    with closing(index.cache), namespaces(index, names) as stores:
        yield stores


def in_a_dict(path, names):
    return namespaces({}, names)


@pytest.mark.parametrize("opened", [tables, in_a_dict, in_a_file, in_a_directory])
def test_neighbours_of_any_names_never_meet(tmp_path_factory, opened):
    """Two stores of one storage share nothing under any names, or a name raises."""

    @settings(max_examples=30)
    @given(PAIRS)
    def check(names):
        assume(names[0] != names[1])
        try:
            with opened(tmp_path_factory.mktemp("neighbours"), names) as stores:
                check_apart(*map(SessionManager, stores))
        except InvalidValueError:
            event("refused")

    check()


def check_apart(mine, theirs):
    kept = theirs.create_session("ada", session_id="s")
    mine.create_session("ada", session_id="s")
    kept.add_message("user", "theirs alone")
    theirs.save(kept)
    theirs.build_search_index()

    mine.build_search_index()
    assert len(theirs.search("alone")) == 1
    mine.drop_search_index()
    assert len(theirs.search("alone")) == 1
    mine.reindex()
    mine.verify(repair=True)
    assert mine.delete_user("ada", scan=True).session_ids == ["s"]
    mine.create_session("ada", session_id="t")
    assert [each.session_id for each in theirs.list_sessions()] == ["s"]
    assert mine.clear_all() == 1

    assert theirs.get_session("s") == kept
    assert theirs.count() == 1
    assert theirs.verify().problems == []
