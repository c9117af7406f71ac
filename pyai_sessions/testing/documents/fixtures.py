"""What the tests of a KVSessionStore's documents use: the documents as they lie in the mapping."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from pyai_sessions import KVSessionStore, SessionManager
from pyai_sessions.testing.store.fixtures import StoreFixtures


class DocumentFixtures(StoreFixtures):
    """The stored documents, past the store."""

    @pytest.fixture
    def another(self, manager: SessionManager) -> Callable[..., KVSessionStore]:
        """Return a function that makes one more store over the same sessions, with any options."""
        return lambda **options: KVSessionStore(manager.store.mapping, **options)

    @pytest.fixture
    def raw(self, manager: SessionManager) -> Any:
        """Return the stored documents, as a mapping of text."""
        return manager.store.mapping

    @pytest.fixture
    def damage(self, raw: Any) -> Callable[[str], object]:
        """Return a function that tears off the end of a session's head."""

        def damage(session_id: str) -> None:
            key = f"session/{session_id}"
            raw[key] = raw[key][:-30]

        return damage

    @staticmethod
    def ours(raw: Iterable[str]) -> list[str]:
        """Return the keys of all documents."""
        return sorted(key for key in raw if key.startswith(("session/", "messages/", "forks/")))
