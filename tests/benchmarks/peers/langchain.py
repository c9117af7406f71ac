"""The chat histories of LangChain.

langchain-redis has a history too. It needs the search module, which a plain Redis or Valkey server lacks, so the one of
langchain-community is measured.
"""

from contextlib import suppress
from typing import Any

from langchain_community.chat_message_histories import RedisChatMessageHistory, SQLChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import create_engine, text

from tests.benchmarks.families import Place
from tests.benchmarks.floors import modes
from tests.benchmarks.texts import Messages


class History:
    """A chat history: messages, in and out. It loads all of them or none."""

    def __init__(self, history: Any) -> None:
        self.history = history

    def turn(self, messages: Messages) -> None:
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        self.history.add_messages([kinds[each["role"]](content=each["content"]) for each in messages])

    def load(self, last: int | None = None) -> list[str]:
        return [each.content for each in self.history.messages]


class LangChainSQL:
    """`SQLChatMessageHistory(session_id, connection=engine)`, on one engine."""

    name = "LangChain SQLChatMessageHistory"
    beside = "SQLite FULL"
    awaited = False
    window = None
    lists = False
    note = (
        "a turn is one transaction; no users, no list; always loads all; its table has no index by session, so a load "
        "reads every session's rows; more: any SQL server"
    )

    def __init__(self, place: Place) -> None:
        self._engine = create_engine(f"sqlite:///{place.folder / 'langchain.db'}")

    def durability(self) -> str:
        with self._engine.connect() as connection:
            journal = connection.execute(text("PRAGMA journal_mode")).scalar_one()
            return modes(journal, connection.execute(text("PRAGMA synchronous")).scalar_one())

    def open(self, session_id: str, user_id: str) -> History:
        return History(SQLChatMessageHistory(session_id, connection=self._engine))

    def create(self, session_id: str, user_id: str) -> History:
        return History(SQLChatMessageHistory(session_id, connection=self._engine))

    def close(self) -> None:
        self._engine.dispose()


class LangChainRedis:
    """`RedisChatMessageHistory(session_id, url)`: it makes a client each time."""

    name = "LangChain RedisChatMessageHistory"
    beside = "Valkey"
    awaited = False
    window = None
    lists = False
    note = (
        "each message a round trip: a killed process leaves half a turn; no users, no list; always loads all; "
        "each object opens a connection"
    )

    def __init__(self, place: Place) -> None:
        self._url = place.url
        self._last: Any = None

    def durability(self) -> str:
        return "the server's"

    def open(self, session_id: str, user_id: str) -> History:
        self.close()
        self._last = RedisChatMessageHistory(session_id, url=self._url)
        return History(self._last)

    def create(self, session_id: str, user_id: str) -> History:
        return History(RedisChatMessageHistory(session_id, url=self._url))

    def close(self) -> None:
        with suppress(AttributeError):
            self._last.redis_client.close()


PEERS = (LangChainSQL, LangChainRedis)
