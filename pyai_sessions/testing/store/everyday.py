"""Tests of everyday use, for which a store needs only its four methods."""

from typing import Any

import pytest

from pyai_sessions import InvalidValueError, Session, SessionArchivedError, SessionManager, SessionStatus
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.samples import (
    HOSTILE_IDS,
    NO_SESSIONS,
    RICH,
    all_pages,
    contents,
    fill,
    ids,
    without_revision,
)
from pyai_sessions.testing.store.fixtures import StoreFixtures


class Everyday(StoreFixtures):
    """What works without any optional power."""

    def test_a_saved_session_is_read_as_it_was(self, manager: Any) -> None:
        """A session of any length is read with all fields as saved."""
        session = manager.create_session("ada", session_id="s")
        for fields in RICH:
            session.add_message(**fields)
        fill(session, 100)
        session.set_state("nested", {"a": [1, None]})
        manager.save(session)

        assert manager.get_session("s") == session

    def test_any_text_is_an_id_of_a_session_and_of_a_user(self, manager: Any) -> None:
        """Session ids and user ids may be any text. Different texts name different sessions and users."""
        for each in self.hostile_ids:
            manager.create_session(each, session_id=each)

        for each in self.hostile_ids:
            assert manager.get_session(each).session_id == each
            assert ids(manager.get_sessions_for_user(each)) == [each]
            assert manager.delete(each)
            assert manager.get_session(each) is None

    def test_any_text_is_a_key_of_metadata_and_of_state_and_a_checkpoints_name(self, manager: Any, other: Any) -> None:
        """Keys of metadata and state, and names of checkpoints, may be any text."""
        hostile = {each: n for n, each in enumerate(HOSTILE_IDS)}
        session = manager.create_session("ada", session_id="s", metadata=dict(hostile), state=dict(hostile))
        for each in hostile:
            session.checkpoint(each)
        manager.save(session)

        found = other.get_session("s")

        assert (found.metadata, found.state) == (hostile, hostile)
        assert [each.name for each in found.checkpoints] == list(hostile)
        assert found == session

    def test_an_id_that_the_storage_does_not_take_is_refused(self, manager: Any) -> None:
        """An id that the storage does not accept raises some exception. No other session is stored or read."""
        for each in HOSTILE_IDS:
            if self.takes_id(each):
                continue
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the storage's own)
                manager.create_session("ada", session_id=each)
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the storage's own)
                manager.create_session(each, session_id="of a user")

        assert manager.get_sessions_for_user("ada", include_archived=True) == []
        assert manager.get_session("of a user") is None

    def test_deleting_says_whether_there_was_a_session(self, manager: Any) -> None:
        """`delete` returns whether there was a session. After it, no read and no list has it."""
        manager.create_session("ada", session_id="s")

        assert [manager.delete("s"), manager.delete("s")] == [True, False]
        assert manager.get_session("s") is None
        assert manager.get_sessions_for_user("ada") == []

    def test_an_archived_session_is_out_of_lists_and_refuses_changes(self, manager: Any) -> None:
        """An archived session is in no list and takes no changes, but can be read and restored."""
        manager.create_session("ada", session_id="s")
        manager.archive("s")

        session = manager.get_session("s")
        assert session.status is SessionStatus.ARCHIVED
        assert manager.get_sessions_for_user("ada") == []
        assert ids(manager.get_sessions_for_user("ada", include_archived=True)) == ["s"]
        session.add_message("user", "too late")
        with pytest.raises(SessionArchivedError):
            manager.save(session)
        with pytest.raises(SessionArchivedError):
            manager.append("s", {"role": "user", "content": "too late"})

        manager.restore("s")
        manager.append("s", {"role": "user", "content": "again"})

        assert contents(manager.get_session("s")) == ["again"]
        assert ids(manager.get_sessions_for_user("ada")) == ["s"]

    def test_a_users_sessions_come_in_order_of_activity(self, manager: Any, ten: Any) -> None:
        """A user's list is ordered by activity, whatever the store returns. Limits and times cut it."""
        time = manager.get_session("s6").updated_at

        assert ids(manager.get_sessions_for_user("ada")) == ten
        assert ids(manager.get_sessions_for_user("ada", limit=3)) == ten[:3]
        assert ids(manager.get_sessions_for_user("ada", before=time)) == ten[4:]
        assert ids(manager.list_sessions("ada", limit=4)) == ten[:4]
        assert [manager.count("ada"), manager.count("bob"), manager.count("carol")] == [10, 1, 0]

    @pytest.mark.parametrize("limit", [1, 3, 10, 50])
    def test_pages_of_a_user_hold_each_session_once(self, manager: Any, ten: Any, limit: Any) -> None:
        """Pages of a user's list give each session once, in either order."""
        assert all_pages(manager, "ada", limit=limit) == ten
        assert all_pages(manager, "ada", limit=limit, order="oldest") == ten[::-1]

    def test_a_filter_keeps_the_sessions_whose_metadata_has_the_values(self, manager: Any, ten: Any) -> None:
        """Lists, pages and counts keep sessions whose metadata equals the filter as JSON. None is a value."""
        for name, metadata in (("a", {"n": True}), ("b", {"n": None}), ("c", {"n": [1]}), ("d", {"n": 1, "m": 2})):
            manager.create_session("ada", session_id=name, metadata=metadata)
        manager.archive("s7")

        assert sorted(ids(manager.list_sessions("ada", where={"n": 1}))) == ["d", "s1"]
        assert ids(manager.list_sessions("ada", where={"n": True})) == ["a"]
        assert ids(manager.list_sessions("ada", where={"n": None})) == ["b"]
        assert manager.list_sessions("ada", where={"n": [True]}) == []
        assert ids(manager.list_sessions("ada", where={"n": 1, "m": 2})) == ["d"]
        assert manager.list_sessions("ada", where={"o": None}) == []
        assert ids(manager.list_sessions("ada", where={"n": 7}, status=None)) == ["s7"]
        assert [manager.count("ada", where=each) for each in ({"n": 1}, {"n": 7}, {}, None)] == [2, 0, 13, 13]
        assert sorted(all_pages(manager, "ada", where={"n": 1}, limit=1)) == ["d", "s1"]

    def test_what_cannot_be_a_filter_or_an_order_is_refused(self, manager: Any, ten: Any) -> None:
        """An invalid filter or order raises, as with the built-in stores."""
        no_filters: list[Any] = [[], "", 0, {1: 1}, {"a": {1}}]
        for where in no_filters:
            for act in (manager.list_sessions, manager.count):
                with pytest.raises(InvalidValueError) as caught:
                    act("ada", where=where)
                assert caught.value.path.startswith("where"), where
            with pytest.raises(InvalidValueError, match="order"):
                manager.list_sessions("ada", order=where)

    def test_sessions_of_another_store_are_imported_as_they_are(self, manager: Any, clock: Any) -> None:
        """An import keeps times, status, messages, checkpoints and unknown fields, of sessions and of dicts."""
        source = SessionManager({}, clock=StoppedClock())
        for name in ("short", "long", "archived"):
            session = source.create_session("ada", session_id=name, metadata={"title": name}, state={"n": [1]})
            for fields in RICH:
                session.add_message(**fields)
            session.checkpoint("here")
            fill(session, 150 if name == "long" else 1)
            source.save(session)
        source.archive("archived")
        source.import_sessions([{**session.to_dict(), "session_id": "unknown", "mood": "good"}])
        clock.advance(days=1)
        old = source.get_sessions_for_user("ada", include_archived=True)
        before = [(each.revision, without_revision(each)) for each in old]
        told: list[int] = []

        assert manager.import_sessions(old[:2], progress=told.append).inserted == 2
        assert manager.import_sessions((each.to_dict() for each in old), progress=told.append).inserted == 2

        assert manager.get_sessions_for_user("ada", include_archived=True) == old
        assert [without_revision(each) for each in manager.get_sessions_for_user("ada", include_archived=True)] == [
            each for _, each in before
        ]
        assert [(each.revision, without_revision(each)) for each in old] == before
        assert told[-1] == 4
        assert manager.import_sessions(old).inserted == 0

    def test_an_import_leaves_taken_ids_alone(self, manager: Any, ten: Any) -> None:
        """An import keeps stored sessions, and the first of two with one id. The report tells same from different."""
        first, second = Session(session_id="s", user_id="carol"), Session(session_id="s", user_id="dan")
        given = [Session(session_id="s3", user_id="carol"), first, second, first, manager.get_session("s4")]

        report = manager.import_sessions(given)

        assert (report.inserted, report.identical, report.different) == (1, 2, 2)
        assert report.different_ids == ["s3", "s"]
        assert ids(manager.get_sessions_for_user("carol")) == ["s"]
        assert manager.get_session("s3").metadata == {"n": 3}

    def test_what_is_no_session_is_named_by_an_import(self, manager: Any) -> None:
        """The error gives the number of the invalid item, which is not passed to the store."""
        a, b = Session(session_id="a", user_id="ada"), Session(session_id="b", user_id="ada")
        for kind, no_session in NO_SESSIONS.items():
            with pytest.raises(InvalidValueError) as caught:
                manager.import_sessions([a, no_session, b])

            assert caught.value.path.partition(".")[0] in ("sessions[1]", "line 2"), kind
            assert set(ids(manager.get_sessions_for_user("ada", include_archived=True))) <= {"a"}, kind

    def test_an_error_of_a_generator_comes_as_it_is(self, manager: Any) -> Any:
        """An exception of the caller's generator is passed on unchanged. A repeated import goes on."""

        def sessions() -> Any:
            yield Session(session_id="a", user_id="ada")
            msg = "the old database is down"
            raise ConnectionError(msg)

        with pytest.raises(ConnectionError, match="the old database is down"):
            manager.import_sessions(sessions())

        manager.import_sessions([Session(session_id="a", user_id="ada")])
        assert ids(manager.get_sessions_for_user("ada")) == ["a"]

    def test_deleting_a_user_leaves_other_users(self, manager: Any, ten: Any) -> None:
        """`delete_user` removes archived sessions too, and no other user's."""
        manager.archive("s3")

        assert len(manager.delete_user("ada")) == 10

        assert manager.get_sessions_for_user("ada", include_archived=True) == []
        assert ids(manager.get_sessions_for_user("bob")) == ["bob's"]

    def test_closing_the_manager_leaves_the_store_open(self, manager: Any, store: Any) -> None:
        """Closing the manager does not close the caller's store."""
        manager.create_session("ada", session_id="s")
        manager.close()

        assert SessionManager(store).get_session("s") is not None

    def test_the_manager_gives_back_the_store(self, manager: Any, store: Any) -> None:
        """`manager.store` is the object that was passed."""
        assert manager.store is store or manager.store.mapping is store
        assert isinstance(manager.create_session(), Session)
