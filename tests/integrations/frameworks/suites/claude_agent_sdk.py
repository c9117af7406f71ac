"""A plugin of pytest for the tests of the Claude Agent SDK: a store of ours stands in for its InMemorySessionStore."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import claude_agent_sdk

from pyai_sessions import SessionManager, SessionNotFoundError
from pyai_sessions.integrations.claude_agent_sdk import ClaudeSessionStore, entries_of, session_id_of


class InMemorySessionStore(ClaudeSessionStore):
    """A ClaudeSessionStore over a file of its own, with what the SDK's tests ask of the SDK's store besides."""

    def __init__(self) -> None:
        self.manager = SessionManager(f"sqlite:///{Path(tempfile.mkdtemp()) / 'sessions.db'}?synchronous=NORMAL")
        super().__init__(self.manager)

    def get_entries(self, key: Any) -> list[Any]:
        """Return the entries of a transcript; none if there is none."""
        try:
            page = self.manager.get_messages(session_id_of(**key), limit=None)
        except SessionNotFoundError:
            return []
        return entries_of(page, key["session_id"])

    @property
    def size(self) -> int:
        """The number of transcripts, without those of sub-agents."""
        return sum("subpath" not in each.metadata.get("claude_agent", {}) for each in self.manager.list_sessions())

    def clear(self) -> None:
        """Delete all transcripts."""
        for each in self.manager.list_sessions():
            self.manager.delete(each.session_id)


claude_agent_sdk.InMemorySessionStore = InMemorySessionStore  # before a test imports it
