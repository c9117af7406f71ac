"""Neighbours in one file never meet, whatever their tables are called."""

from contextlib import closing

import pytest

from pyai_sessions import InvalidValueError, SessionManager, SQLiteMapping


@pytest.mark.parametrize(("one", "other"), [("sessions", "Sessions"), ("a", "A")])
def test_a_table_whose_name_differs_in_case_alone_is_refused(tmp_path, one, other):
    """To SQLite both are one table: two stores would clear each other's sessions."""
    with closing(SQLiteMapping(tmp_path / "chat.db", one)) as mapping:
        SessionManager(mapping).create_session("ada", session_id="s")

    refused = pytest.raises(InvalidValueError, match=f"is {other!r}, but the file has a table {one!r}")
    with closing(SQLiteMapping(tmp_path / "chat.db", other)) as mapping, refused:
        SessionManager(mapping).clear_all()

    with closing(SQLiteMapping(tmp_path / "chat.db", one)) as mapping:
        assert SessionManager(mapping).get_session("s") is not None


@pytest.mark.parametrize("name", ["sessions/index", "sessions/INDEX", "a/index/counts"])
def test_a_name_that_an_index_has_is_refused(tmp_path, name):
    """A store keeps its index in a table beside its own, of such a name."""
    with pytest.raises(InvalidValueError, match="table_name"):
        SQLiteMapping(tmp_path / "chat.db", name)


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a b"), ("a", 'a"b'), ("a", "a'b"), ("a/b", "a"), ("é", "É"), ("a", "ab")]
)
def test_tables_of_one_file_are_stores_of_their_own(tmp_path, one, other):
    """Clearing, repairing, erasing and rebuilding one leaves the other."""
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
