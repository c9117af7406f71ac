"""Tests that tables and namespaces of one storage are separate, whatever their names."""

from contextlib import ExitStack, closing, contextmanager

import diskcache
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

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


@pytest.mark.parametrize("name", ["sessions/lists", "sessions/LISTS", "a/lists/counts"])
def test_a_name_that_lists_have_is_refused(tmp_path, name):
    """The name of a store's list table raises as a table name."""
    with pytest.raises(InvalidValueError, match="table_name"):
        SQLiteMapping(tmp_path / "chat.db", name)


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
    @given(one=NAMES, other=NAMES)
    def check(one, other):
        assume(one != other)
        try:
            with opened(tmp_path_factory.mktemp("neighbours"), [one, other]) as stores:
                check_apart(*map(SessionManager, stores))
        except InvalidValueError:
            event("refused")

    check()


def check_apart(mine, theirs):
    kept = theirs.create_session("ada", session_id="s")
    mine.create_session("ada", session_id="s")
    kept.add_message("user", "theirs alone")
    theirs.save(kept)

    mine.reindex()
    mine.verify(repair=True)
    assert mine.delete_user("ada", scan=True).session_ids == ["s"]
    mine.create_session("ada", session_id="t")
    assert [each.session_id for each in theirs.list_sessions()] == ["s"]
    assert mine.clear_all() == 1

    assert theirs.get_session("s") == kept
    assert theirs.count() == 1
    assert theirs.verify().problems == []
