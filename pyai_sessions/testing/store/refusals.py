"""What a store cannot do is refused, by a name that says what is missing."""

from typing import Any

import pytest

from pyai_sessions import KVSessionStore, UnsupportedOperationError
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import has

# What is called, and the methods of which one is enough for it.
OPERATIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "list_sessions of all users": (lambda m: m.list_sessions(), ("list_by_activity",)),
    "count of all users": (lambda m: m.count(), ("list_by_activity", "count")),
    "archive_inactive": (lambda m: m.archive_inactive(days=1), ("list_by_activity",)),
    "clear_all": (lambda m: m.clear_all(), ("list_by_activity", "clear")),
    "verify": (lambda m: m.verify(), ()),
    "save(on_conflict='error')": (lambda m: m.save(m.get_session("s"), on_conflict="error"), ("revision",)),
    "save(on_conflict='overwrite')": (lambda m: m.save(m.get_session("s"), on_conflict="overwrite"), ("revision",)),
}


class Refusals(StoreFixtures):
    """Every operation works, or says what it lacks."""

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
