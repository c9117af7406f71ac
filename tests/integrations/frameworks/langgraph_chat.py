"""A turn of a graph of LangGraph with a scripted model and a tool, in a process of its own.

python -m tests.integrations.frameworks.langgraph_chat URL QUESTION

Prints as JSON the messages that the model was given at each call, and the answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph

from pyai_sessions import SessionManager
from pyai_sessions.integrations.langgraph import LangGraphSaver


def graph_of(saver: Any, given: list[Any] | None = None) -> Any:
    """Return a graph that asks for the weather, and says what it was told. *given* is what the model was given."""

    def model(state: Any) -> Any:
        if given is not None:
            given.append([[each.type, each.content] for each in state["messages"]])
        last, turn = state["messages"][-1], sum(each.type == "human" for each in state["messages"])
        if last.type == "tool":
            return {"messages": [AIMessage(f"It has {last.content}.", response_metadata={"turn": turn})]}
        call = {"name": "weather", "args": {"city": "Oslo"}, "id": f"c{turn}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    def tools(state: Any) -> Any:
        [call] = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(f"21 degrees in {call['args']['city']}", tool_call_id=call["id"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges(
        "model", lambda state: "tools" if state["messages"][-1].tool_calls else "__end__", ["tools", "__end__"]
    )
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer=saver)


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask the graph one question in the thread "s"."""
    given: list[Any] = []
    with SessionManager(url) as manager:
        graph = graph_of(LangGraphSaver(manager), given)
        config = {"configurable": {"thread_id": "s", "user_id": "ada"}}
        state = await graph.ainvoke({"messages": [("user", question)]}, config)
        return {"given": given, "answer": state["messages"][-1].content}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
