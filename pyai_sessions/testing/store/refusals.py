"""Tests that a store refuses what it cannot do, and names what is missing."""

import io
from typing import Any

import pytest

from pyai_sessions import KVSessionStore, UnsupportedOperationError
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import has, report

OPERATIONS: dict[str, Any] = {
    "list_sessions of all users": lambda m: m.list_sessions(),
    "count of all users": lambda m: m.count(),
    "users": lambda m: m.users(),
    "archive_inactive": lambda m: m.archive_inactive(days=1),
    "delete_inactive": lambda m: m.delete_inactive(days=1),
    "clear_all": lambda m: m.clear_all(),
    "delete_user(scan=True)": lambda m: m.delete_user("ada", scan=True),
    "export_sessions(scan=True)": lambda m: m.export_sessions(io.StringIO(), user_id="ada", scan=True),
    "verify": lambda m: m.verify(),
}
"""Calls that need a list of all users' sessions."""

_MESSAGE = {"role": "user", "content": "x"}


class Refusals(StoreFixtures):
    """An operation works or raises an error that names what is missing."""

    def test_an_unreadable_session_is_not_absent(self, manager: Any, damage: Any) -> None:
        """Reading, listing, changing or replacing a damaged session raises some exception. Others can be read."""
        if damage is None:
            report(f"the test of {type(manager.store).__name__} has no fixture `damage`: no row was made unreadable")
        kept = manager.create_session("bob", session_id="kept")
        manager.create_session("ada", session_id="s")
        damage("s")

        for act in (
            lambda: manager.get_session("s"),
            lambda: manager.append("s", _MESSAGE),
            lambda: manager.archive("s"),
            lambda: manager.create_session("ada", session_id="s"),
            lambda: manager.get_or_create_session("s", "ada"),
            lambda: manager.get_sessions_for_user("ada"),
        ):
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the store's own)
                act()

        assert manager.get_session("kept") == kept

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_an_operation_works_or_says_what_it_lacks(self, manager: Any, operation: Any) -> None:
        """An operation that the store cannot do raises, names what would make it possible, and changes nothing."""
        act = OPERATIONS[operation]
        session = manager.create_session("ada", session_id="s")

        if has(manager, "list_by_activity"):
            act(manager)
            return
        with pytest.raises(UnsupportedOperationError, match="list_by_activity"):
            act(manager)

        assert manager.get_session("s") == session

    def test_state_is_kept_or_refused(self, manager: Any) -> None:
        """A store without state raises when state is read or written. It does not return an empty one."""
        calls = {
            "user_state": lambda: manager.user_state("ada"),
            "update_user_state": lambda: manager.update_user_state("ada", {"n": 1}),
            "app_state": manager.app_state,
            "update_app_state": lambda: manager.update_app_state({"n": 1}),
        }
        if isinstance(manager.store, KVSessionStore):
            assert [call() for call in calls.values()] == [{}, {"n": 1}, {}, {"n": 1}]
            return
        for call in calls.values():
            with pytest.raises(UnsupportedOperationError, match="keeps sessions alone"):
                call()

        with pytest.raises(UnsupportedOperationError, match="keeps sessions alone"):
            manager.import_sessions([{"user_id": "ada", "shared_state": {"n": 1}}])
        assert manager.delete_user("ada").session_ids == []
