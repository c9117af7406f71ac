"""Tests of saving unusual copies: from JSON, from another store, renamed, or of a deleted session."""

import json
from typing import Any

import pytest

from pyai_sessions import (
    InvalidValueError,
    Session,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
)
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures


def _again(session: Session) -> Session:
    """Return a session as a program gets it back that kept it as JSON."""
    return Session.from_dict(json.loads(session.to_json()))


class Returning(StoreFixtures):
    @pytest.mark.parametrize("mode", ["merge", "error", "overwrite"])
    @pytest.mark.parametrize("count", [3, 100])
    def test_a_copy_of_json_is_saved_as_one_that_was_loaded(
        self, manager: Any, other: Any, mode: Any, count: Any
    ) -> None:
        """A copy from JSON can be changed and saved as a loaded one, if nobody else saved meanwhile."""
        fill(session := manager.create_session("ada", session_id="s", state={"a": 1, "b": 1}), count)
        branch = session.rewind("m1")
        fill(session, count, 2)
        manager.save(session)
        back = _again(session)
        del back.state["a"]
        back.metadata["title"] = "Tea"
        fill(back, 40, 200)
        other.save(back, on_conflict=mode)

        stored = manager.get_session("s")
        assert stored == back
        assert contents(stored)[-1] == "message 239"
        assert (stored.state, stored.metadata) == ({"b": 1}, {"title": "Tea"})
        back = _again(stored)
        back.replace_message("m0", content="changed")
        back.pop()
        other.save(back, on_conflict=mode)
        fill(back, 1, 300)
        manager.save(back)

        stored = other.get_session("s")
        assert contents(stored) == ["changed", *contents(stored)[1:-1], "message 300"]
        assert stored.message_count == count + 2 + 40
        assert [each.branch_id for each in stored.branches] == [branch.branch_id]
        assert self.sound(other)

    def test_a_stale_copy_of_json_conflicts(self, manager: Any, other: Any) -> None:
        """A stale copy from JSON raises, since its base is unknown. Overwriting, or loading again, helps."""
        session = manager.create_session("ada", session_id="s")
        back = _again(session)
        fill(session, 2)
        manager.save(session)
        back.add_message("user", "from JSON")
        for mode in ("merge", "error"):
            with pytest.raises(SessionConflictError) as caught:
                other.save(back, on_conflict=mode)
            assert caught.value.stored_revision == session.revision
        assert other.get_session("s") == session

        other.save(back, on_conflict="overwrite")

        assert contents(manager.get_session("s")) == ["from JSON"]
        back.add_message("user", "and more")
        other.save(back)
        assert contents(manager.get_session("s")) == ["from JSON", "and more"]
        session.add_message("user", "stale")
        with pytest.raises(SessionConflictError):
            manager.save(session)
        assert self.sound(other)

    def test_a_session_made_by_hand_replaces_another_where_that_is_asked_for(self, manager: Any, other: Any) -> None:
        """Only `on_conflict="overwrite"` lets a session made by hand replace a stored one. An archived one stays."""
        fill(session := manager.create_session("ada", session_id="s", state={"a": 1}), 100)
        manager.save(session)
        for mode in ("merge", "error"):
            with pytest.raises((SessionExistsError, SessionConflictError)):
                other.save(Session(session_id="s", user_id="bob"), on_conflict=mode)
        made = Session(session_id="s", user_id="bob", state={"b": 2})
        fill(made, 2)

        other.save(made, on_conflict="overwrite")

        stored = manager.get_session("s")
        assert (stored.user_id, stored.state, contents(stored)) == ("bob", {"b": 2}, ["message 0", "message 1"])
        manager.archive("s")
        with pytest.raises(SessionArchivedError):
            other.save(Session(session_id="s", user_id="bob"), on_conflict="overwrite")
        assert self.sound(other)

    def test_a_stored_session_keeps_its_id(self, manager: Any, other: Any) -> None:
        """Saving under a changed id raises an error that names both ids. Nothing is written."""
        fill(session := manager.create_session("ada", session_id="s"), 3)
        manager.save(session)
        for copy in (session, other.get_session("s")):
            copy.session_id = "t"
            for mode in ("merge", "error", "overwrite"):
                with pytest.raises(InvalidValueError, match=r"was changed from 's' to 't'.*manager.fork") as caught:
                    manager.save(copy, on_conflict=mode)
                assert caught.value.path == "session_id"
            assert manager.get_session("t") is None
            copy.session_id = "s"
            manager.save(copy)

        assert manager.fork("s", new_id="t").message_count == 3

    def test_a_copy_of_a_session_that_is_gone_says_what_became_of_it(
        self, manager: Any, other: Any, clock: Any
    ) -> None:
        """The error says whether the session was deleted, or replaced by a new one. Its remedy works."""
        fill(session := manager.create_session("ada", session_id="s"), 3)
        manager.save(session)
        manager.delete("s")
        for mode in ("merge", "error", "overwrite"):
            for copy in (session, _again(session)):
                with pytest.raises(SessionDeletedError, match=r"was deleted.*import_sessions"):
                    manager.save(copy, on_conflict=mode)
        assert manager.get_session("s") is None
        clock.advance(seconds=1)
        manager.create_session("bob", session_id="s")
        with pytest.raises((SessionDeletedError, SessionConflictError)):
            manager.save(session)
        manager.delete("s")

        manager.import_sessions([session])

        assert contents(other.get_session("s")) == contents(session)

    def test_a_copy_of_another_store_is_not_said_to_be_deleted(self, manager: Any) -> None:
        """The error for another store's session does not call it deleted. `import_sessions` stores it here."""
        elsewhere = SessionManager()
        fill(session := elsewhere.create_session("ada", session_id="s"), 3)
        elsewhere.save(session)
        for copy in (session, _again(session)):
            with pytest.raises((SessionDeletedError, SessionExistsError)) as caught:
                manager.save(copy)
            assert "was deleted after" not in str(caught.value)
            assert manager.get_session("s") is None

        assert manager.import_sessions([session]).inserted == 1
        assert manager.get_session("s") == session
