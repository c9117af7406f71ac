"""Runs of OpenAI's Agents SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, SQLiteSession, Usage
from agents.models.interface import Model
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession
from tests.benchmarks.frameworks import ANSWER, Pair, Stopwatch, manager_in
from tests.benchmarks.texts import Messages


class Scripted(Model):
    """A model that always says the same."""

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        text = ResponseOutputText(type="output_text", text=ANSWER, annotations=[], logprobs=[])
        said = ResponseOutputMessage(id="msg", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Chats:
    """Conversations in sessions of the SDK's."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._agent = Agent(name="helper", model=Scripted())

    def session(self, name: str) -> Any:
        raise NotImplementedError

    async def start(self, name: str, messages: Messages) -> Any:
        session = self.session(name)
        await session.add_items(messages)
        return self._watch.watch(session, "get_items", "add_items", "pop_item")

    async def turn(self, conversation: Any, text: str) -> object:
        config = RunConfig(tracing_disabled=True)
        return await Runner.run(self._agent, text, session=conversation, run_config=config)

    async def load(self, name: str) -> int:
        return len(await self.session(name).get_items())


class Theirs(Chats):
    """In `SQLiteSession(session_id, path)`."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        super().__init__(watch)
        self._path = folder / "openai.db"
        self._made: list[Any] = []

    def session(self, name: str) -> Any:
        while len(self._made) > 8:
            self._made.pop(0).close()
        self._made.append(SQLiteSession(name, self._path))
        return self._made[-1]

    async def start(self, name: str, messages: Messages) -> Any:
        made = await super().start(name, messages)
        self._made.remove(made)
        return made

    async def close(self) -> None:
        for each in self._made:
            each.close()


class Ours(Chats):
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        super().__init__(watch)
        self._manager = manager_in(folder, "ours-openai")

    def session(self, name: str) -> Any:
        return OpenAIAgentsSession(name, self._manager)

    async def close(self) -> None:
        await self._manager.close()


PAIRS = (Pair("OpenAI Agents SQLiteSession", "SQLite, WAL, FULL", Theirs, Ours),)
