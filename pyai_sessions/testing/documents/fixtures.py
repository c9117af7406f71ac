"""What the tests of a KVSessionStore's documents use: the documents as they lie in the mapping."""

from collections.abc import Iterable
from typing import Any

import pytest

from pyai_sessions import SessionManager
from pyai_sessions.testing.store.fixtures import StoreFixtures


class DocumentFixtures(StoreFixtures):
    """The stored documents, past the store."""

    @pytest.fixture
    def raw(self, manager: SessionManager) -> Any:
        """Return the stored documents, as a mapping of text."""
        return manager.store.mapping

    @staticmethod
    def ours(raw: Iterable[str]) -> list[str]:
        """Return the keys of all documents."""
        return sorted(key for key in raw if key.startswith(("session/", "messages/")))
