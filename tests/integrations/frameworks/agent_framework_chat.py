"""A turn of an agent of Microsoft's Agent Framework, with a scripted model, in a process of its own.

python -m tests.integrations.frameworks.agent_framework_chat URL QUESTION

Prints as JSON the messages of each call of the model, and the answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    Content,
    FunctionInvocationLayer,
    Message,
    tool,
)

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.agent_framework import AgentFrameworkHistory


class ScriptedClient(FunctionInvocationLayer, BaseChatClient):
    """A model that asks for the weather in two places, and then says what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Any] = []

    def _inner_get_response(self, *, messages: Any, **_: Any) -> Any:
        async def answer() -> ChatResponse:
            self.inputs.append([each.to_dict() for each in messages])
            results = [each for each in messages[-1].contents if each.type == "function_result"]
            if results:
                said = " and ".join(each.result for each in results)
                return ChatResponse(messages=[Message("assistant", [f"It has {said}."])])
            calls = [
                Content.from_function_call(f"c{len(messages)}{n}", "weather", arguments=json.dumps({"city": city}))
                for n, city in enumerate(("Oslo", "Bergen"))
            ]
            thought = Content.from_text_reasoning(text="Where?", protected_data="c2VjcmV0")
            return ChatResponse(messages=[Message("assistant", [thought, *calls])])

        return answer()


@tool(approval_mode="never_require")
def weather(city: str) -> str:
    """Return the temperature in a city."""
    return f"21 degrees in {city}"


async def talk(history: Any, *questions: str, providers: Iterable[Any] = ()) -> dict[str, Any]:
    """Ask an agent in the session "s". It has a history, and other context providers before it."""
    client = ScriptedClient()
    agent = Agent(client=client, tools=[weather], context_providers=[*providers, history])
    session = AgentSession(session_id="s")
    answers = [(await agent.run(question, session=session)).text for question in questions]
    return {"answers": answers, "inputs": client.inputs}


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask one question."""
    async with AsyncSessionManager(url) as manager:
        return await talk(AgentFrameworkHistory(manager, user_id="ada"), question)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
