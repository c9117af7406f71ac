"""The sessions of the OpenAI Agents SDK."""

from typing import Any

from agents import SQLiteSession
from agents.extensions.memory import RedisSession
from redis.asyncio import BlockingConnectionPool, Redis

from tests.benchmarks.families import Place
from tests.benchmarks.floors import modes_of
from tests.benchmarks.texts import Messages


class Items:
    """A conversation of the SDK: items, in and out."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def turn(self, messages: Messages) -> None:
        await self._session.add_items(messages)

    async def load(self, last: int | None = None) -> list[str]:
        return [each["content"] for each in await self._session.get_items(limit=last)]

    def close(self) -> Any:
        """Close the session of a chat that has ended: an SQLiteSession keeps a connection for each thread."""
        return self._session.close()


class AgentsSQLite:
    """`SQLiteSession(session_id, db_path)`, a new one for each request, as its documentation shows."""

    name = "OpenAI Agents SQLiteSession"
    beside = "SQLite FULL"
    awaited = True
    window = 50
    lists = False
    note = "a turn is one transaction; no users, no list; a row that it cannot read is left out without a word"

    def __init__(self, place: Place) -> None:
        self._path = place.folder / "openai-agents.db"
        self._open: list[SQLiteSession] = []

    def durability(self) -> str:
        session = SQLiteSession("probe", self._path)
        found = modes_of(session._get_connection())
        session.close()
        return found

    def open(self, session_id: str, user_id: str) -> Items:
        while len(self._open) > 4:
            self._open.pop(0).close()
        self._open.append(SQLiteSession(session_id, self._path))
        return Items(self._open[-1])

    def create(self, session_id: str, user_id: str) -> Items:
        return Items(SQLiteSession(session_id, self._path))

    def close(self) -> None:
        for each in self._open:
            each.close()


class AgentsRedis:
    """`RedisSession(session_id, redis_client=…)`, on one client."""

    name = "OpenAI Agents RedisSession"
    beside = "Valkey"
    awaited = True
    window = 50
    lists = False
    note = (
        "a turn is one MULTI; no users, no list, no head: a load tells not whose it is nor whether all is there; "
        "an item that it cannot read is left out without a word"
    )

    def __init__(self, place: Place) -> None:
        self._client = Redis.from_url(place.url)

    def durability(self) -> str:
        return "the server's"

    def open(self, session_id: str, user_id: str) -> Items:
        return Items(RedisSession(session_id, redis_client=self._client))

    def create(self, session_id: str, user_id: str) -> Items:
        return Items(RedisSession(session_id, redis_client=self._client))

    async def close(self) -> None:
        await self._client.aclose()


class AgentsRedisPool(AgentsRedis):
    """The same for many chats at a time: redis-py's default pool raises beyond 100 connections, this one waits.

    Pools of 8 to 100 connections were tried, and got about as much done.
    """

    def __init__(self, place: Place) -> None:
        self._client = Redis.from_pool(BlockingConnectionPool.from_url(place.url, max_connections=32, timeout=60))


PEERS = (AgentsSQLite, AgentsRedis)
CHATTING = (AgentsSQLite, AgentsRedisPool)
