"""A plugin of pytest for the tests of Strands: ours stand in for the repository that they mock, and for its files."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType

import strands.storage

from pyai_sessions import SessionManager
from pyai_sessions.integrations.strands import StrandsSessionRepository
from pyai_sessions.integrations.strands.storage import StrandsStorage


class MockedSessionRepository(StrandsSessionRepository):
    """A StrandsSessionRepository over a file of its own."""

    def __init__(self) -> None:
        super().__init__(SessionManager(f"sqlite:///{Path(tempfile.mkdtemp()) / 'sessions.db'}?synchronous=NORMAL"))


class LocalFileStorage(StrandsStorage):
    """A StrandsStorage over a file in a folder. Storages with one folder share it."""

    def __init__(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        super().__init__(SessionManager(f"sqlite:///{path}/sessions.db?synchronous=NORMAL"))


strands.storage.LocalFileStorage = LocalFileStorage  # type: ignore[misc]
fixture = ModuleType("tests.fixtures.mock_session_repository")
fixture.MockedSessionRepository = MockedSessionRepository  # type: ignore[attr-defined]
sys.modules[fixture.__name__] = fixture  # before a test imports it
