"""Tests of creating and reading sessions."""

from datetime import timedelta
from typing import Any

import pytest

from pyai_sessions import Message, Session, SessionExistsError, SessionStatus
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.machines import SESSION_IDS, SessionStoreMachine, run_short
from pyai_sessions.testing.samples import RICH, contents, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Reading(StoreFixtures):
    def test_a_created_session_is_stored_at_once(self, manager: Any, clock: Any) -> None:
        """`create_session` stores the session without a save."""
        session = manager.create_session("ada", session_id="s", metadata={"channel": "web"}, state={"n": 1})

        stored = manager.get_session("s")

        assert stored == session
        assert (stored.user_id, stored.metadata, stored.state) == ("ada", {"channel": "web"}, {"n": 1})
        assert stored.created_at == stored.updated_at == clock.now
        assert stored.status is SessionStatus.ACTIVE
        assert stored.message_count == 0

    def test_a_storage_that_answers_a_read_answers_a_ping(self, manager: Any) -> None:
        """`ping` succeeds whenever a read does, and stores nothing."""
        manager.ping()
        manager.create_session("ada", session_id="s")
        manager.ping()

        assert [each.session_id for each in self.listed(manager, "ada")] == ["s"]

    def test_sessions_without_an_id_get_different_ones(self, manager: Any) -> None:
        """Sessions created without an id get different ids."""
        made = {manager.create_session().session_id for _ in range(10)}

        assert len(made) == 10

    def test_a_taken_id_is_refused_and_what_is_stored_stays(self, manager: Any) -> None:
        """Creating a session under a used id raises, and leaves the stored one."""
        first = manager.create_session("ada", session_id="s", state={"n": 1})

        with pytest.raises(SessionExistsError) as caught:
            manager.create_session("bob", session_id="s")

        assert caught.value.session_id == "s"
        assert manager.get_session("s") == first

    def test_an_id_that_another_writer_took_is_refused(self, manager: Any, other: Any) -> None:
        """A store that has not read the id yet raises, too, if another writer used it."""
        other.create_session("bob", session_id="bob's")
        first = manager.create_session("ada", session_id="s")

        with pytest.raises(SessionExistsError):
            other.create_session("bob", session_id="s")

        assert manager.get_session("s") == first

    def test_a_session_made_by_hand_is_stored(self, manager: Any, clock: Any) -> None:
        """`Session(...)` and `save` store the same as `create_session`."""
        made = Session(session_id="s", user_id="ada", messages=[Message("user", "Hello!")], metadata={"a": 1})
        manager.save(made)

        assert manager.get_session("s") == made
        assert ids(manager.get_sessions_for_user("ada")) == ["s"]

    def test_a_session_made_by_hand_is_stored_by_save(self, manager: Any) -> None:
        """A session made by hand is stored once. Its id is checked as `create_session` does."""
        manager.save(Session(session_id="s", user_id="ada", messages=[Message("user", "Hello!")]))

        with pytest.raises(SessionExistsError):
            manager.save(Session(session_id="s", user_id="ada"))

        assert contents(manager.get_session("s")) == ["Hello!"]

    def test_an_absent_session_is_none(self, manager: Any) -> None:
        """Reading an absent session returns None, also beside others."""
        manager.create_session(session_id="s")

        assert manager.get_session("other") is None
        assert manager.get_session("S") is None
        assert manager.get_session("s/") is None

    def test_get_or_create_creates_once(self, manager: Any) -> None:
        """The second `get_or_create_session` returns the first session, whatever else it is given."""
        made = manager.get_or_create_session("s", "ada", metadata={"a": 1}, state={"b": 2})
        got = manager.get_or_create_session("s", "ada", metadata={"a": 9})

        assert got == made
        assert (got.user_id, got.metadata, got.state) == ("ada", {"a": 1}, {"b": 2})

    def test_all_fields_are_read_as_they_were_saved(self, manager: Any, other: Any, clock: Any) -> None:
        """Messages, state and metadata are read as saved: tool calls, any Unicode, and times to the microsecond."""
        clock.advance(microseconds=1)
        session = manager.create_session("ada", metadata={"title": "\U0001f600", "n": [1, {"a": None}]})
        for fields in RICH:
            clock.advance(microseconds=7)
            session.add_message(**fields)
        session.set_state("nested", {"a": [1, 2.5, "x", None, True, {"\ud800": "\ud800"}], "": {}})
        session.set_state("big", 2**70)
        session.checkpoint("here")
        manager.save(session)

        stored = other.get_session(session.session_id)

        assert stored == session
        assert stored.to_dict() == session.to_dict()
        assert [each.timestamp for each in stored.messages] == [
            NOON + timedelta(microseconds=1 + 7 * n) for n in range(1, len(RICH) + 1)
        ]

    def test_a_second_save_replaces_the_first(self, manager: Any) -> None:
        """A read returns what was saved last, with each message once."""
        session = manager.create_session("ada", state={"keep": 1, "drop": 2})
        session.add_message("user", "one")
        manager.save(session)
        session.add_message("assistant", "two")
        session.set_state("keep", 3)
        session.delete_state("drop")
        session.metadata["title"] = "Counting"
        manager.save(session)
        manager.save(session)

        stored = manager.get_session(session.session_id)

        assert contents(stored) == ["one", "two"]
        assert (stored.state, stored.metadata) == ({"keep": 3}, {"title": "Counting"})

    def test_a_save_gives_a_new_revision(self, manager: Any) -> None:
        """A save sets a new revision on the object, which is the stored one."""
        session = manager.create_session("ada")
        first = session.revision
        session.add_message("user", "one")
        manager.save(session)

        assert first is not None
        assert session.revision not in (None, first)
        assert manager.get_session(session.session_id).revision == session.revision

    @of_all_users
    def test_a_second_store_sees_each_change_at_once(self, manager: Any, other: Any) -> None:
        """Each change by one store is visible at once to another on the same storage."""
        assert other.list_sessions() == []
        session = manager.create_session("ada", session_id="s")
        assert (other.count(), ids(other.list_sessions("ada")), ids(other.get_sessions_for_user("ada"))) == (
            1,
            ["s"],
            ["s"],
        )

        session.add_message("user", "one")
        manager.save(session)
        assert contents(other.get_session("s")) == ["one"]

        other.append("s", {"role": "assistant", "content": "two"})
        assert contents(manager.get_session("s")) == ["one", "two"]
        assert manager.list_sessions("ada")[0].message_count == 2

        other.archive("s")
        assert (manager.count("ada"), manager.count("ada", status=SessionStatus.ARCHIVED)) == (0, 1)

        other.restore("s")
        assert ids(manager.list_sessions()) == ["s"]

        manager.delete("s")
        assert other.get_session("s") is None
        assert (other.count(status=None), other.get_sessions_for_user("ada", include_archived=True)) == (0, [])

    def test_a_new_store_has_no_sessions(self, manager: Any) -> None:
        """The fixture returns an empty store. Otherwise the other tests would prove nothing."""
        assert self.listed(manager, "ada", "bob") == []
        for user_id in ("ada", "bob", "carol"):
            assert manager.get_sessions_for_user(user_id, include_archived=True) == []

    def test_a_second_manager_sees_each_change_at_once(self, manager: Any, other: Any) -> None:
        """What a store keeps in memory is never older than what is stored."""
        session = manager.create_session("ada", session_id="s")
        assert ids(other.get_sessions_for_user("ada")) == ["s"]

        session.add_message("user", "one")
        manager.save(session)
        assert contents(other.get_session("s")) == ["one"]

        other.append("s", {"role": "assistant", "content": "two"})
        assert contents(manager.get_session("s")) == ["one", "two"]

        other.archive("s")
        assert manager.get_sessions_for_user("ada") == []

        manager.delete("s")
        assert other.get_session("s") is None
        assert other.get_sessions_for_user("ada", include_archived=True) == []

    def test_what_is_stored_shares_nothing_with_the_object_that_was_saved(self, manager: Any) -> None:
        """Later changes of a saved object are not stored until the next save, and reach no other loaded object."""
        session = manager.create_session("ada", session_id="s", metadata={"tags": ["a"]}, state={"n": [1]})
        loaded = manager.get_session("s")

        session.metadata["tags"].append("b")
        session.state["n"].append(2)
        session.set_state("new", 1)
        session.add_message("user", "not saved")

        for each in (loaded, manager.get_session("s"), *manager.get_sessions_for_user("ada")):
            assert (each.metadata, each.state) == ({"tags": ["a"]}, {"n": [1]})
            assert contents(each) == []

    def test_any_sequence_of_calls_leaves_what_a_dict_would_hold(self, manager: Any, other: Any, clock: Any) -> Any:
        """After any sequence of calls by two managers in turns, the store holds what a dict would."""
        managers = (manager, other)

        class Machine(SessionStoreMachine):
            def open_managers(self) -> Any:
                self.clock = clock
                for each in SESSION_IDS:
                    manager.delete(each)
                return managers

        run_short(Machine)
