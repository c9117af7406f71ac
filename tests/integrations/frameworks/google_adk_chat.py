"""A turn of an agent of Google's ADK, with a scripted model, in a process of its own.

python -m tests.integrations.frameworks.google_adk_chat URL QUESTION

Prints as JSON the contents of each call of the model, the answer, and the events of the session.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.tools import ToolContext
from google.genai import types

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.google_adk import GoogleADKSessionService

OF = {"app_name": "weather_app", "user_id": "ada"}


class ScriptedModel(BaseLlm):
    """A model that asks for the weather in two places, and then says what it was told."""

    model: str = "scripted"
    inputs: list[Any]

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        """Yield the calls of the tool, or the answer after their results."""
        contents = [each.model_dump(mode="json", exclude_none=True) for each in llm_request.contents]
        self.inputs.append(contents)
        results = [each["function_response"] for each in contents[-1]["parts"] if "function_response" in each]
        if results:
            said = " and ".join(each["response"]["result"] for each in results)
            parts = [types.Part(text=f"It has {said}.")]
        else:
            thought = types.Part(text="Where?", thought=True, thought_signature=b"\xff\xfe\xfb")
            calls = [types.Part.from_function_call(name="weather", args={"city": each}) for each in ("Oslo", "Bergen")]
            parts = [thought, *calls]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def weather(city: str, tool_context: ToolContext) -> str:
    """Return the temperature in a city."""
    tool_context.state[city] = {"asked": True}
    tool_context.state["user:last"] = {city: 1}
    tool_context.state["app:asked"] = tool_context.state.get("app:asked", 0) + 1
    tool_context.state["temp:now"] = city
    return f"21 degrees in {city}"


async def talk(service: Any, *questions: str) -> dict[str, Any]:
    """Ask the agent in the session "s", which is created where there is none."""
    model = ScriptedModel(inputs=[])
    agent = LlmAgent(name="helper", model=model, tools=[weather], output_key="answer")
    runner = Runner(app_name=OF["app_name"], agent=agent, session_service=service)
    if await service.get_session(**OF, session_id="s") is None:
        await service.create_session(**OF, session_id="s", state={"app:greeting": "Hello!"})
    for question in questions:
        message = types.Content(role="user", parts=[types.Part(text=question)])
        async for _ in runner.run_async(user_id=OF["user_id"], session_id="s", new_message=message):
            pass
    session = await service.get_session(**OF, session_id="s")
    events = [each.model_dump(mode="json", exclude_none=True) for each in session.events]
    return {"state": session.state, "inputs": model.inputs, "events": events}


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask one question."""
    async with AsyncSessionManager(url) as manager:
        return await talk(GoogleADKSessionService(manager), question)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
