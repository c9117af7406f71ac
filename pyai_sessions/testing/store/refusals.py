"""What a store cannot do is refused, by a name that says what is missing."""

import io
from typing import Any

import pytest

from pyai_sessions import KVSessionStore, UnsupportedOperationError
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import has, report

# What is called, and the methods of which one is enough for it.
OPERATIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "list_sessions of all users": (lambda m: m.list_sessions(), ("list_by_activity",)),
    "count of all users": (lambda m: m.count(), ("list_by_activity", "count")),
    "archive_inactive": (lambda m: m.archive_inactive(days=1), ("list_by_activity",)),
    "clear_all": (lambda m: m.clear_all(), ("list_by_activity", "clear")),
    "delete_user(scan=True)": (lambda m: m.delete_user("bob", scan=True), ("list_by_activity",)),
    "export_user(scan=True)": (lambda m: m.export_user("bob", io.StringIO(), scan=True), ("list_by_activity",)),
    "verify": (lambda m: m.verify(), ("list_by_activity",)),
    "save(on_conflict='error')": (lambda m: m.save(m.get_session("s"), on_conflict="error"), ("revision",)),
}


_MESSAGE = {"role": "user", "content": "x"}


class Refusals(StoreFixtures):
    """Nothing is pretended: an operation works or says what it lacks, and what cannot be read is not absent."""

    def test_an_unreadable_session_is_not_absent(self, manager: Any, store: Any, damage: Any) -> None:
        """To read, list, change or replace it raises, whatever the exception; the others can be read.

        A store's own append need not read what it adds to.
        """
        if damage is None:
            report(f"the test of {type(manager.store).__name__} has no fixture `damage`: no row was made unreadable")
        kept = manager.create_session("bob", session_id="kept")
        manager.create_session("ada", session_id="s")
        damage("s")

        for act in (
            lambda: manager.get_session("s"),
            *([] if callable(getattr(store, "append", None)) else [lambda: manager.append("s", _MESSAGE)]),
            lambda: manager.archive("s"),
            lambda: manager.create_session("ada", session_id="s"),
            lambda: manager.get_or_create_session("s", "ada"),
            lambda: manager.get_sessions_for_user("ada"),
        ):
            with pytest.raises(Exception):  # noqa: B017, PT011 (it is the store's own)
                act()

        assert manager.get_session("kept") == kept

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_an_operation_works_or_says_what_it_lacks(self, manager: Any, index: Any, operation: Any) -> None:
        """Nothing is pretended: what is missing is named, with what would give it, and nothing is changed."""
        act, any_of = OPERATIONS[operation]
        session = manager.create_session("ada", session_id="s")
        able = (
            isinstance(manager.store, KVSessionStore)
            or any(callable(getattr(manager.store, each, None)) for each in any_of)
            or ("list_by_activity" in any_of and index is not None)
            or ("revision" in any_of and has(manager, "revisions"))
        )

        if able:
            act(manager)
            return
        with pytest.raises(UnsupportedOperationError) as caught:
            act(manager)

        assert [each for each in any_of if each not in str(caught.value)] == []
        assert manager.get_session("s") == session
