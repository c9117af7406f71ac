"""Runs of Microsoft's Agent Framework."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from agent_framework import Agent, AgentSession, BaseChatClient, ChatResponse, FileHistoryProvider, Message

from pyai_sessions.integrations.agent_framework import AgentFrameworkHistory
from tests.benchmarks.frameworks import ANSWER, Pair, Stopwatch, manager_in
from tests.benchmarks.texts import Messages


class Scripted(BaseChatClient):
    """A model that always says the same."""

    def _inner_get_response(self, **_: Any) -> Any:
        async def answer() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [ANSWER])])

        return answer()


class Chats:
    """Conversations of a history provider."""

    def __init__(self, history: Any, watch: Stopwatch) -> None:
        self.history = watch.watch(history, "get_messages", "save_messages")
        self._agent = Agent(client=Scripted(), context_providers=[self.history])

    async def start(self, name: str, messages: Messages) -> Any:
        await self.history.save_messages(name, [Message(each["role"], [each["content"]]) for each in messages])
        return AgentSession(session_id=name)

    async def turn(self, conversation: Any, text: str) -> object:
        return await self._agent.run(text, session=conversation)

    async def load(self, name: str) -> int:
        return len(await self.history.get_messages(name))


class Theirs(Chats):
    """In `FileHistoryProvider(folder)`."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of being experimental
            super().__init__(FileHistoryProvider(folder / "agent-framework"), watch)

    async def close(self) -> None: ...


class Ours(Chats):
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self._manager = manager_in(folder, "ours-agent-framework", "NORMAL")
        super().__init__(AgentFrameworkHistory(self._manager), watch)

    async def close(self) -> None:
        await self._manager.close()


PAIRS = (
    Pair("Agent Framework FileHistoryProvider", "theirs: a file, no fsync; ours: SQLite, WAL, NORMAL", Theirs, Ours),
)
