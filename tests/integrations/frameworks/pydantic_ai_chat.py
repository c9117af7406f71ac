"""A turn of an agent of Pydantic AI, with a scripted model, in a process of its own.

python -m tests.integrations.frameworks.pydantic_ai_chat URL QUESTION

Prints as JSON the messages of each call of the model, the answer, and the ids of the entries that were stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.pydantic_ai import SessionConversationStore

calls: list[Any] = []


def model(messages: Any, _: Any) -> ModelResponse:
    """Ask for the weather, and then say what it was told."""
    calls.append(ModelMessagesTypeAdapter.dump_python(messages, mode="json"))
    last = messages[-1].parts[-1]
    if last.part_kind == "tool-return":
        return ModelResponse(parts=[TextPart(f"It has {last.content}.")])
    thought = ThinkingPart("Hm.", signature="c2ln", provider_name="anthropic")
    return ModelResponse(parts=[thought, ToolCallPart("weather", {"city": "Oslo"}, tool_call_id=f"c{len(messages)}")])


agent = Agent(FunctionModel(model), system_prompt="Be brief.")


@agent.tool_plain
def weather(city: str) -> str:
    """Return the temperature in a city."""
    return f"21 degrees in {city}"


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask the agent one question in the conversation "c" of "ada"."""
    async with AsyncSessionManager(url) as manager:
        store = SessionConversationStore(manager)
        conversation = await store.load("c", scope="ada") or Conversation(conversation_id="c")
        result = await agent.run(question, conversation=conversation)
        entries = await store.save(result, scope="ada")
        return {"answer": result.output, "calls": calls, "entries": [each.id for each in entries]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
