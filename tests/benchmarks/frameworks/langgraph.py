"""Runs of LangGraph: a graph of one node, which stores two or three checkpoints and the writes between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosqlite
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from pyai_sessions.integrations.langgraph import LangGraphSaver
from tests.benchmarks.frameworks import ANSWER, Pair, Stopwatch, manager_in
from tests.benchmarks.texts import Messages

WATCHED = ("aget_tuple", "aput", "aput_writes")


def graph_of(saver: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda _: {"messages": [AIMessage(ANSWER)]})
    graph.add_edge(START, "model")
    return graph.compile(checkpointer=saver)


class Chats:
    """Threads of a graph."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._graph: Any = None

    async def saver(self) -> Any:
        raise NotImplementedError

    async def start(self, name: str, messages: Messages) -> Any:
        if self._graph is None:
            self._graph = graph_of(self._watch.watch(await self.saver(), *WATCHED))
        config = {"configurable": {"thread_id": name}}
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        said = [kinds[each["role"]](each["content"]) for each in messages]
        await self._graph.aupdate_state(config, {"messages": said}, as_node="model")
        return config

    async def turn(self, conversation: Any, text: str) -> object:
        return await self._graph.ainvoke({"messages": [HumanMessage(text)]}, conversation)

    async def load(self, name: str) -> int:
        graph = graph_of(await self.saver())
        return len((await graph.aget_state({"configurable": {"thread_id": name}})).values["messages"])


class Theirs(Chats):
    """In `AsyncSqliteSaver(connection)`, on one connection of aiosqlite."""

    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        super().__init__(watch)
        self._path = folder / "langgraph.db"
        self._connection: Any = None

    async def saver(self) -> Any:
        if self._connection is None:
            self._connection = await aiosqlite.connect(self._path)
            await AsyncSqliteSaver(self._connection).setup()
        made = AsyncSqliteSaver(self._connection)
        made.is_setup = True
        return made

    async def close(self) -> None:
        await self._connection.close()


class Ours(Chats):
    def __init__(self, folder: Path, watch: Stopwatch) -> None:
        super().__init__(watch)
        self._manager = manager_in(folder, "ours-langgraph")

    async def saver(self) -> Any:
        return LangGraphSaver(self._manager)

    async def close(self) -> None:
        await self._manager.close()


PAIRS = (Pair("LangGraph AsyncSqliteSaver", "SQLite, WAL, FULL", Theirs, Ours),)
