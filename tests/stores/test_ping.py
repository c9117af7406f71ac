"""Tests that a ping raises the same error as a read would."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from pyai_sessions import (
    AsyncSessionManager,
    DiskCacheSessionStore,
    KVSessionStore,
    RedisSessionStore,
    SessionManager,
    SQLiteSessionStore,
    StorageClosedError,
    StorageCorruptError,
    StorageError,
    StorageMovedError,
    StorageUnreachableError,
)
from tests.contract.stores import SyncStore


def pings(store):
    """Return what pings of both managers raise, or None."""

    async def awaited():
        await AsyncSessionManager(store).ping()

    found = []
    for ping in (SessionManager(store).ping, lambda: asyncio.run(awaited())):
        try:
            found.append(ping())
        except (StorageError, OSError) as err:  # noqa: PERF203 (each is one of two)
            found.append(type(err))
    return found


def test_a_ping_of_a_file_that_was_moved_says_so(tmp_path):
    """A ping raises if the file was moved, since writes would be lost."""
    with closing(SQLiteSessionStore(tmp_path / "chat.db")) as store:
        assert pings(store) == [None, None]
        (tmp_path / "chat.db").rename(tmp_path / "other.db")

        assert pings(store) == [StorageMovedError] * 2


def test_a_ping_of_a_damaged_file_says_so(tmp_path):
    """A ping raises if the file is damaged, also after it was opened."""
    with closing(SQLiteSessionStore(tmp_path / "chat.db")) as store:
        SessionManager(store).create_session("ada")
        with closing(sqlite3.connect(tmp_path / "chat.db")) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (tmp_path / "chat.db").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 1_000_000)

        assert pings(SQLiteSessionStore(tmp_path / "chat.db")) == [StorageCorruptError] * 2


@pytest.mark.parametrize("kind", ["SQLite", "diskcache", "Redis", "a dict"])
def test_a_ping_of_a_closed_store_says_so(kind, tmp_path, valkey_server):
    """A ping of a closed store raises StorageClosedError."""
    store = {
        "SQLite": lambda: SQLiteSessionStore(tmp_path / "chat.db"),
        "diskcache": lambda: DiskCacheSessionStore(tmp_path / "chats"),
        "Redis": lambda: RedisSessionStore(valkey_server.url, prefix=f"{tmp_path.name}:"),
        "a dict": lambda: KVSessionStore({}),
    }[kind]()
    assert pings(store) == [None, None]
    store.close()

    assert pings(store) == [StorageClosedError] * 2


def test_a_ping_of_a_server_that_is_not_there_says_so():
    """A ping of an absent server raises StorageUnreachableError."""
    with closing(RedisSessionStore("redis://127.0.0.1:1")) as store:
        assert pings(store) == [StorageUnreachableError] * 2


def test_a_ping_of_a_store_of_the_users_own_raises_what_it_raises():
    """A ping of a custom store reads a session, and passes its error on."""

    class Down(SyncStore):
        def get(self, session_id):
            raise ConnectionResetError

    assert pings(SyncStore()) == [None, None]
    assert pings(Down()) == [ConnectionResetError] * 2
