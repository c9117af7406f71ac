"""A plugin of pytest for the tests of OpenAI's Agents SDK: a session of ours stands in for its SQLiteSession."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import agents
import agents.memory

from pyai_sessions import SessionManager
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession


class SQLiteSession(OpenAIAgentsSession):
    """An OpenAIAgentsSession that is opened as the SDK's own session is."""

    def __init__(self, session_id: str, db_path: Any = ":memory:", *, session_settings: Any = None) -> None:
        if str(db_path) == ":memory:":
            db_path = Path(tempfile.mkdtemp()) / "memory"
        self.manager = SessionManager(f"sqlite:///{db_path}.ours?synchronous=NORMAL")
        super().__init__(session_id, self.manager, session_settings=session_settings or {})

    def close(self) -> None:
        """Close the file."""
        self.manager.close()


agents.SQLiteSession = agents.memory.SQLiteSession = SQLiteSession  # before a test imports it
