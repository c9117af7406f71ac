"""A plugin of pytest for the tests of Strands: a repository of ours stands in for the one that they mock."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType

from pyai_sessions import SessionManager
from pyai_sessions.integrations.strands import StrandsSessionRepository


class MockedSessionRepository(StrandsSessionRepository):
    """A StrandsSessionRepository over a file of its own."""

    def __init__(self) -> None:
        super().__init__(SessionManager(f"sqlite:///{Path(tempfile.mkdtemp()) / 'sessions.db'}?synchronous=NORMAL"))


fixture = ModuleType("tests.fixtures.mock_session_repository")
fixture.MockedSessionRepository = MockedSessionRepository  # type: ignore[attr-defined]
sys.modules[fixture.__name__] = fixture  # before a test imports it
