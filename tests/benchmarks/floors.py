"""The floors: the same conversation on stdlib sqlite3 or a bare redis client, one row or list item a message.

What a careful programmer would write in an afternoon for this one task: no revision, no merge, no users' lists.
"""

import json
import sqlite3
from typing import Any, Protocol

import redis


class Floor(Protocol):
    """A conversation store without anything else."""

    def turn(self, messages: list[dict[str, Any]]) -> None: ...
    def load(self, last: int | None = None) -> list[dict[str, Any]]: ...


class SQLiteFloor:
    """One row a message, one transaction a turn, WAL."""

    def __init__(self, path: str, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, session TEXT, body TEXT)")
        self.connection.execute("CREATE INDEX by_session ON messages (session, id)")

    def turn(self, messages: list[dict[str, Any]]) -> None:
        rows = [("s", json.dumps(each)) for each in messages]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO messages (session, body) VALUES (?, ?)", rows)
        self.connection.execute("COMMIT")

    def load(self, last: int | None = None) -> list[dict[str, Any]]:
        query = "SELECT body FROM messages WHERE session = 's' ORDER BY id DESC LIMIT ?"
        rows = self.connection.execute(query, (-1 if last is None else last,)).fetchall()
        return [json.loads(body) for (body,) in reversed(rows)]

    def close(self) -> None:
        self.connection.close()


class RedisFloor:
    """One list a conversation, one RPUSH a turn."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def turn(self, messages: list[dict[str, Any]]) -> None:
        self.client.rpush("floor", *(json.dumps(each) for each in messages))

    def load(self, last: int | None = None) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.client.lrange("floor", 0 if last is None else -last, -1)]

    def close(self) -> None:
        self.client.close()
