"""One conversation, begun under OpenAI's Agents SDK and continued under Pydantic AI and LangGraph.

pip install pyai-sessions openai-agents pydantic-ai-slim langgraph
python one_conversation.py

The models are scripted, so nothing is sent anywhere: each says how many messages it was given.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import agents
from agents.models.interface import Model
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic_ai import Agent, Conversation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.langgraph import LangGraphSaver
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession
from pyai_sessions.integrations.pydantic_ai import SessionConversationStore


class ScriptedModel(Model):
    """A model of the Agents SDK that calls the tool, and says what it was told."""

    async def get_response(self, *arguments: Any, **options: Any) -> agents.ModelResponse:
        """Return the call, or the answer after its result."""
        given = options["input"] if "input" in options else arguments[1]
        if given[-1].get("type") != "function_call_output":
            call = ResponseFunctionToolCall(
                type="function_call", call_id="c1", name="weather", arguments='{"city": "Oslo"}'
            )
            return agents.ModelResponse(output=[call], usage=agents.Usage(), response_id=None)
        text = ResponseOutputText(type="output_text", text=f"It has {given[-1]['output']}.", annotations=[])
        said = ResponseOutputMessage(id="msg_1", type="message", role="assistant", status="completed", content=[text])
        return agents.ModelResponse(output=[said], usage=agents.Usage(), response_id=None)

    def stream_response(self, *arguments: Any, **options: Any) -> Any:
        """Not used here."""
        raise NotImplementedError


@agents.function_tool
def weather(city: str) -> str:
    """Return the temperature in a city."""
    return f"21 degrees in {city}"


def pydantic_model(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Answer as a model of Pydantic AI."""
    parts = sum(len(each.parts) for each in messages)
    return ModelResponse(parts=[TextPart(f"Pydantic AI was given {parts} parts.")])


def graph_model(state: MessagesState) -> dict[str, Any]:
    """Answer as a node of a graph."""
    return {"messages": [AIMessage(f"LangGraph was given {len(state['messages'])} messages.")]}


async def main() -> None:
    """Hold the conversation, list it, and export it."""
    async with AsyncSessionManager("sqlite:///frameworks.db") as manager:
        agent = agents.Agent(name="helper", model=ScriptedModel(), tools=[weather])
        session = OpenAIAgentsSession("trip", manager, user_id="ada")
        config = agents.RunConfig(tracing_disabled=True)
        await agents.Runner.run(agent, "Is it warm in Oslo?", session=session, run_config=config)

        store = SessionConversationStore(manager)
        conversation = await store.load("trip", scope="ada") or Conversation(conversation_id="trip")
        result = await Agent(FunctionModel(pydantic_model)).run("And tomorrow?", conversation=conversation)
        await store.save(result, scope="ada")

        builder = StateGraph(MessagesState)
        builder.add_node("model", graph_model)
        builder.add_edge(START, "model")
        graph = builder.compile(checkpointer=LangGraphSaver(manager))
        named: Any = {"configurable": {"thread_id": "trip", "user_id": "ada"}}
        await graph.ainvoke({"messages": [("user", "And in Rome?")]}, named)

        [summary] = await manager.list_sessions("ada")
        print(f"{summary.session_id}: {summary.title}")
        session = await manager.get_session("trip")
        for message in session.history(format="openai"):
            print(json.dumps(message))
        with Path("trip.jsonl").open("w", encoding="utf-8") as file:  # noqa: ASYNC230 (nobody waits beside it)
            await manager.export_sessions(file, session_id="trip")


if __name__ == "__main__":
    asyncio.run(main())
