"""The checkpointers of LangGraph over SQLite, each with one checkpoint for a turn: a graph of one node stores three."""

import sqlite3
from typing import Any

import aiosqlite
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from tests.benchmarks.families import Place
from tests.benchmarks.floors import modes, modes_of
from tests.benchmarks.texts import Messages

KINDS = {"user": HumanMessage, "assistant": AIMessage}


class Thread:
    """A thread whose state is its messages: each checkpoint holds all of them."""

    def __init__(self, saver: Any, thread_id: str) -> None:
        self._saver = saver
        self._config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        self._said: list[Any] = []

    def _next(self, messages: Messages) -> tuple[Any, Any, Any, Any]:
        """Return the arguments that store a checkpoint with some messages more."""
        self._said = [*self._said, *[KINDS[each["role"]](each["content"]) for each in messages]]
        count = len(self._said)
        made = {**empty_checkpoint(), "id": str(uuid6()), "channel_values": {"messages": self._said}}
        made["channel_versions"] = {"messages": count}
        return self._config, made, {"source": "loop", "step": count}, {"messages": count}

    def _texts(self, found: Any) -> list[str]:
        self._said = found.checkpoint["channel_values"]["messages"]
        return [each.content for each in self._said]

    def turn(self, messages: Messages) -> None:
        self._config = self._saver.put(*self._next(messages))

    def load(self, last: int | None = None) -> list[str]:
        found = self._saver.get_tuple(self._config)
        self._config = found.config
        return self._texts(found)


class AwaitedThread(Thread):
    """The same, awaited: its saver is opened by the first call."""

    def __init__(self, peer: "LangGraphAwaited", thread_id: str) -> None:
        super().__init__(None, thread_id)
        self._peer = peer

    async def turn(self, messages: Messages) -> None:
        self._config = await (await self._peer.opened()).aput(*self._next(messages))

    async def load(self, last: int | None = None) -> list[str]:
        found = await (await self._peer.opened()).aget_tuple(self._config)
        self._config = found.config
        return self._texts(found)


class LangGraphSQLite:
    """`SqliteSaver(connection)`, on one connection."""

    name = "LangGraph SqliteSaver"
    beside = "SQLite FULL"
    awaited = False
    window = None
    lists = False
    note = (
        "a turn is one transaction, and stores the whole conversation once more; no users, no list; more: time travel"
    )

    def __init__(self, place: Place) -> None:
        self._connection = sqlite3.connect(place.folder / "langgraph.db", check_same_thread=False)
        self._saver = SqliteSaver(self._connection)
        self._saver.setup()

    def durability(self) -> str:
        return modes_of(self._connection)

    def open(self, session_id: str, user_id: str) -> Thread:
        return Thread(self._saver, session_id)

    def create(self, session_id: str, user_id: str) -> Thread:
        return Thread(self._saver, session_id)

    def close(self) -> None:
        self._connection.close()


class LangGraphAwaited:
    """`AsyncSqliteSaver(connection)`, on one connection of aiosqlite."""

    name = "LangGraph AsyncSqliteSaver"
    beside = "SQLite FULL"
    awaited = True
    window = None
    lists = False
    note = LangGraphSQLite.note

    def __init__(self, place: Place) -> None:
        self._path = place.folder / "langgraph-aio.db"
        self._saver: Any = None

    async def durability(self) -> str:
        saver, found = await self.opened(), list[Any]()
        for name in ("journal_mode", "synchronous"):
            async with saver.conn.execute(f"PRAGMA {name}") as cursor:
                found.append((await cursor.fetchone())[0])
        return modes(*found)

    async def opened(self) -> Any:
        """Return the saver, which is made within a running loop."""
        if self._saver is None:
            self._saver = AsyncSqliteSaver(await aiosqlite.connect(self._path))
            await self._saver.setup()
        return self._saver

    def open(self, session_id: str, user_id: str) -> Thread:
        return AwaitedThread(self, session_id)

    def create(self, session_id: str, user_id: str) -> Thread:
        return AwaitedThread(self, session_id)

    async def close(self) -> None:
        if self._saver is not None:
            await self._saver.conn.close()


PEERS = (LangGraphSQLite, LangGraphAwaited)
