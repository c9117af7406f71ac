"""Fixtures of the tests of documents: direct access to what a KVSessionStore has stored."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import pytest

from pyai_sessions import Change, KVSessionStore, SessionManager, Storage
from pyai_sessions.testing.storage.fixtures import text_of
from pyai_sessions.testing.store.fixtures import StoreFixtures


class DocumentFixtures(StoreFixtures):
    """Direct access to the stored documents."""

    @pytest.fixture
    def another(self, manager: SessionManager) -> Callable[..., KVSessionStore]:
        """Return a function that makes another store over the same sessions, with given options."""
        return lambda **options: KVSessionStore(manager.store.mapping, **options)

    @pytest.fixture
    def raw(self, manager: SessionManager) -> Any:
        """Return the stored documents as a mapping of text."""
        mapping = manager.store.mapping
        return _Documents(mapping) if isinstance(mapping, Storage) else mapping

    @pytest.fixture
    def damage(self, raw: Any) -> Callable[[str], object]:
        """Return a function that cuts off the end of a session's head."""

        def damage(session_id: str) -> None:
            key = f"session/{session_id}"
            raw[key] = raw[key][:-30]

        return damage

    @staticmethod
    def ours(raw: Iterable[str]) -> list[str]:
        """Return the keys of all sessions' documents."""
        return sorted(key for key in raw if key.startswith(("session/", "messages/", "forks/")))


class _Documents(MutableMapping[str, str]):
    """The documents of a storage as a mapping of text."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getitem__(self, key: str) -> str:
        return text_of(self._storage.read([key])[key])

    def __setitem__(self, key: str, text: str) -> None:
        self._storage.write([Change(put=[(key, text.encode("utf-8", "surrogatepass"))])])

    def __delitem__(self, key: str) -> None:
        self[key]
        self._storage.write([Change(drop=[key])])

    def __iter__(self) -> Iterator[str]:
        return iter(set(self._storage.keys()))

    def __len__(self) -> int:
        return len(set(self))
