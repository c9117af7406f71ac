"""A turn of an agent of Strands, with a scripted model, in a process of its own.

python -m tests.integrations.frameworks.strands_chat URL QUESTION

Prints as JSON the messages of each call of the model, the answer, and the messages of the agent.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

from strands import Agent, tool
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager

from pyai_sessions import SessionManager
from pyai_sessions.integrations.strands import StrandsSessionRepository


class ScriptedModel(Model):
    """A model that asks for the weather in two places, and then says what it was told."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def update_config(self, **_: Any) -> None:
        """Do nothing."""

    def get_config(self) -> Any:
        """Return no configuration."""
        return {}

    async def structured_output(self, *_: Any, **__: Any) -> Any:
        """Not used."""
        raise NotImplementedError
        yield

    async def stream(self, messages: Any, *_: Any, **__: Any) -> Any:
        """Yield the events of the calls of the tool, or of the answer after their results."""
        self.inputs.append(copy.deepcopy(messages))
        results = [each["toolResult"] for each in messages[-1]["content"] if "toolResult" in each]
        yield {"messageStart": {"role": "assistant"}}
        if results:
            said = " and ".join(each["content"][0]["text"] for each in results)
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": f"It has {said}."}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}
            return
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Where?"}}}}
        yield {"contentBlockDelta": {"delta": {"reasoningContent": {"signature": "c2ln"}}}}
        yield {"contentBlockStop": {}}
        for n, city in enumerate(("Oslo", "Bergen")):
            start = {"toolUse": {"name": "weather", "toolUseId": f"c{len(messages)}{n}"}}
            yield {"contentBlockStart": {"start": start}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps({"city": city})}}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use"}}


@tool
def weather(city: str) -> str:
    """Return the temperature in a city."""
    return f"21 degrees in {city}"


def talk(repository: Any, *questions: str) -> dict[str, Any]:
    """Ask an agent in the session "s"."""
    model = ScriptedModel()
    manager = RepositorySessionManager("s", repository)
    agent = Agent(model=model, tools=[weather], session_manager=manager, callback_handler=None)
    agent.state.set("asked", (agent.state.get("asked") or 0) + len(questions))
    answers = [str(agent(question)) for question in questions]
    return {"answers": answers, "inputs": model.inputs, "messages": agent.messages, "state": agent.state.get()}


if __name__ == "__main__":
    with SessionManager(sys.argv[1]) as opened:
        print(json.dumps(talk(StrandsSessionRepository(opened, user_id="ada"), sys.argv[2])))  # noqa: T201
