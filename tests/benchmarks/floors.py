"""The floors: the same conversations on stdlib sqlite3 or a bare redis client, one row or list item a message.

What a careful programmer would write in an afternoon for this one task: no revision, no merge, no users' lists. The
bytes are ours: each message has a time and an id of 32 characters.
"""

import json
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import redis

from tests.benchmarks.texts import Messages

_numbers = count()


def modes_of(connection: sqlite3.Connection) -> str:
    """Return the journal mode and the `synchronous` that a connection runs with."""
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return modes(journal, connection.execute("PRAGMA synchronous").fetchone()[0])


def modes(journal: str, synchronous: int) -> str:
    return f"{journal.upper()}, {('OFF', 'NORMAL', 'FULL', 'EXTRA')[synchronous]}"


class Floor(Protocol):
    """A conversation store without anything else."""

    durability: str

    def turn(self, session: str, messages: Messages) -> None: ...
    def load(self, session: str, last: int | None = None) -> Messages: ...
    def close(self) -> None: ...


def _texts(messages: Messages) -> list[str]:
    now = datetime.now(timezone.utc).isoformat()
    stamped = ({**each, "timestamp": now, "message_id": f"{next(_numbers):032x}"} for each in messages)
    return [json.dumps(each, ensure_ascii=False) for each in stamped]


class MemoryFloor:
    """One list a conversation, one `extend` a turn."""

    durability = "-"

    def __init__(self) -> None:
        self._lists: dict[str, list[str]] = {}

    def turn(self, session: str, messages: Messages) -> None:
        self._lists.setdefault(session, []).extend(_texts(messages))

    def load(self, session: str, last: int | None = None) -> Messages:
        return [json.loads(body) for body in self._lists[session][-last if last else 0 :]]

    def close(self) -> None:
        self._lists.clear()


class SQLiteFloor:
    """One row a message, one transaction a turn, WAL."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.connection.execute("CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, session TEXT, body TEXT)")
        self.connection.execute("CREATE INDEX IF NOT EXISTS by_session ON messages (session, id)")
        self.durability = modes_of(self.connection)

    def turn(self, session: str, messages: Messages) -> None:
        rows = [(session, each) for each in _texts(messages)]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO messages (session, body) VALUES (?, ?)", rows)
        self.connection.execute("COMMIT")

    def load(self, session: str, last: int | None = None) -> Messages:
        query = "SELECT body FROM messages WHERE session = ? ORDER BY id DESC LIMIT ?"
        rows = self.connection.execute(query, (session, -1 if last is None else last)).fetchall()
        return [json.loads(body) for (body,) in reversed(rows)]

    def close(self) -> None:
        self.connection.close()


class RedisFloor:
    """One list a conversation, one RPUSH a turn."""

    durability = "the server's"

    def __init__(self, url: str, prefix: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.prefix = prefix

    def turn(self, session: str, messages: Messages) -> None:
        self.client.rpush(self.prefix + session, *_texts(messages))

    def load(self, session: str, last: int | None = None) -> Messages:
        bodies: Any = self.client.lrange(self.prefix + session, 0 if last is None else -last, -1)
        return [json.loads(body) for body in bodies]

    def close(self) -> None:
        self.client.close()


# The floors of a load: the rows that our store reads, decoded with stdlib json. ----------------------------------


def rows_of_dict(mapping: dict[str, str], session_id: str) -> Callable[[], object]:
    keys = [key for key in mapping if key.startswith((f"session/{session_id}", f"messages/{session_id}/"))]
    return lambda: [json.loads(mapping[key]) for key in keys]


def rows_of_table(path: Path, table: str, session_id: str) -> Callable[[], object]:
    connection = sqlite3.connect(path, isolation_level=None)
    query = f'SELECT value FROM "{table}" WHERE key = ? OR key >= ? AND key < ?'  # noqa: S608  the table is ours
    keys = (f"session/{session_id}", f"messages/{session_id}/", f"messages/{session_id}0")
    return lambda: [json.loads(value) for (value,) in connection.execute(query, keys)]


def rows_of_hash(url: str, name: str) -> Callable[[], object]:
    client: Any = redis.Redis.from_url(url)
    fields = client.hkeys(name)
    return lambda: [json.loads(value) for value in client.hmget(name, fields)]
