"""Runs of Strands Agents."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager

from pyai_sessions import SessionManager, SQLiteSessionStore
from pyai_sessions.integrations.strands import StrandsSessionRepository
from tests.benchmarks.frameworks import ANSWER, Pair, Stopwatch
from tests.benchmarks.texts import Messages

logging.getLogger("strands").setLevel(logging.ERROR)
WATCHED = ("create_message", "update_message", "read_agent", "update_agent", "list_messages")


class Scripted(Model):
    """A model that always says the same."""

    def update_config(self, **_: Any) -> None: ...

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, *_: Any, **__: Any) -> Any:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": ANSWER}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


class Chats:
    """Agents with a session manager. The agent has a window of 40 messages, which is the default."""

    def manager(self, name: str, *, watched: bool = False) -> Any:
        raise NotImplementedError

    async def start(self, name: str, messages: Messages) -> Any:
        said: Any = [{"role": each["role"], "content": [{"text": each["content"]}]} for each in messages]
        manager = self.manager(name, watched=True)
        return Agent(model=Scripted(), agent_id="agent", messages=said, session_manager=manager, callback_handler=None)

    async def turn(self, conversation: Any, text: str) -> object:
        return await conversation.invoke_async(text)

    async def load(self, name: str) -> int:
        agent = Agent(model=Scripted(), agent_id="agent", session_manager=self.manager(name), callback_handler=None)
        return len(agent.messages)


class Theirs(Chats):
    """In `FileSessionManager(session_id, storage_dir=folder)`."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self._folder = str(folder / "strands")
        self._watch = watch

    def manager(self, name: str, *, watched: bool = False) -> Any:
        made = FileSessionManager(name, storage_dir=self._folder)
        return self._watch.watch(made, *WATCHED) if watched else made

    async def close(self) -> None: ...


class Ours(Chats):
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self._manager = SessionManager(SQLiteSessionStore(folder / "ours-strands.db", synchronous="NORMAL"))
        self._watch = watch

    def manager(self, name: str, *, watched: bool = False) -> Any:
        repository = StrandsSessionRepository(self._manager)
        return RepositorySessionManager(name, self._watch.watch(repository, *WATCHED) if watched else repository)

    async def close(self) -> None:
        self._manager.close()


PAIRS = (
    Pair("Strands FileSessionManager", "theirs: files, no fsync; ours: SQLite, WAL, NORMAL", Theirs, Ours, window=40),
)
