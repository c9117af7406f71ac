"""Runs of Google's Agent Development Kit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.events.event import Event
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from pyai_sessions.integrations.google_adk import GoogleADKSessionService
from tests.benchmarks.frameworks import ANSWER, Pair, Stopwatch, manager_in
from tests.benchmarks.texts import Messages

logging.getLogger("google_adk").setLevel(logging.ERROR)
OF = {"app_name": "bench", "user_id": "ada"}


class Scripted(BaseLlm):
    """A model that always says the same."""

    model: str = "scripted"

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=ANSWER)]))


class Chats:
    """Conversations of a session service. A run loads the session and appends two events."""

    def __init__(self, service: Any, watch: Stopwatch) -> None:
        self.service = watch.watch(service, "get_session", "append_event")
        self._runner = Runner(
            app_name="bench", agent=LlmAgent(name="helper", model=Scripted()), session_service=self.service
        )

    async def start(self, name: str, messages: Messages) -> Any:
        session = await self.service.create_session(**OF, session_id=name)
        for n, each in enumerate(messages):
            role, author = ("user", "user") if each["role"] == "user" else ("model", "helper")
            content = types.Content(role=role, parts=[types.Part(text=each["content"])])
            await self.service.append_event(session, Event(author=author, invocation_id=f"i{n // 2}", content=content))
        return name

    async def turn(self, conversation: Any, text: str) -> None:
        message = types.Content(role="user", parts=[types.Part(text=text)])
        async for _ in self._runner.run_async(user_id="ada", session_id=conversation, new_message=message):
            pass

    async def load(self, name: str) -> int:
        return len((await self.service.get_session(**OF, session_id=name)).events)


class Theirs(Chats):
    """In `SqliteSessionService(path)`, which opens the file for each call."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        super().__init__(SqliteSessionService(str(folder / "adk.db")), watch)

    async def close(self) -> None:
        await self.service.close()


class Ours(Chats):
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        self._manager = manager_in(folder, "ours-adk")
        super().__init__(GoogleADKSessionService(self._manager), watch)

    async def close(self) -> None:
        await self._manager.close()


PAIRS = (Pair("ADK SqliteSessionService", "SQLite, FULL; theirs with a rollback journal", Theirs, Ours),)
