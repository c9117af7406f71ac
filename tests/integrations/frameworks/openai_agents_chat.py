"""A turn of an agent of OpenAI's Agents SDK, with a scripted model, in a process of its own.

python -m tests.integrations.frameworks.openai_agents_chat URL QUESTION

Prints as JSON the input of each call of the model, and the answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents import Agent, ModelResponse, RunConfig, Runner, Usage, function_tool
from agents.models.interface import Model
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession


class ScriptedModel(Model):
    """A model that asks for the weather, and then says what it was told. *inputs* is what it was given."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:  # noqa: A002
        """Return the call of the tool, or the answer after its result."""
        self.inputs.append(json.loads(json.dumps(input)))
        last, turn = input[-1], sum(each.get("role") == "user" for each in input)
        if last.get("type") == "function_call_output":
            text = ResponseOutputText(type="output_text", text=f"It has {last['output']}.", annotations=[], logprobs=[])
            said = ResponseOutputMessage(
                id=f"msg_{turn}", type="message", role="assistant", status="completed", content=[text]
            )
            return ModelResponse(output=[said], usage=Usage(), response_id=None)
        thought = ResponseReasoningItem(id=f"rs_{turn}", type="reasoning", summary=[], encrypted_content="c2VjcmV0")
        called = ResponseFunctionToolCall(
            id=f"fc_{turn}", type="function_call", call_id=f"c{turn}", name="weather", arguments='{"city": "Oslo"}'
        )
        return ModelResponse(output=[thought, called], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        """Not used."""
        raise NotImplementedError


@function_tool
def weather(city: str) -> str:
    """Return the temperature in a city."""
    return f"21 degrees in {city}"


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask the agent one question in the session "s"."""
    model = ScriptedModel()
    agent = Agent(name="helper", model=model, tools=[weather])
    async with AsyncSessionManager(url) as manager:
        session = OpenAIAgentsSession("s", manager, user_id="ada")
        result = await Runner.run(agent, question, session=session, run_config=RunConfig(tracing_disabled=True))
        return {"answer": result.final_output, "inputs": model.inputs, "items": await session.get_items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
