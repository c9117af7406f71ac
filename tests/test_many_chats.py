"""A thousand chats at a time on one event loop, through AsyncSessionManager."""

import asyncio

import pytest

from pyai_sessions import AsyncSessionManager, RedisSessionStore, SessionManager, SQLiteSessionStore
from pyai_sessions.testing import Recorder, check_events

pytestmark = pytest.mark.wide

CHATS, TURNS = 1_000, 3


@pytest.fixture(params=["SQLite FULL", "Valkey"])
def open_store(request, tmp_path):
    """Return a function that opens the same store again and again."""
    if request.param == "SQLite FULL":
        return lambda: SQLiteSessionStore(tmp_path / "chats.db", synchronous="FULL", timeout=60)
    url = request.getfixturevalue("valkey_server").url
    return lambda: RedisSessionStore(url, prefix=f"{tmp_path.name}:", timeout=60)


async def converse(manager, chat):
    """Save turns of different lengths, so that a partly written turn would be noticed."""
    await manager.create_session(f"user {chat % 100}", session_id=f"chat-{chat}")
    for n in range(TURNS):
        session = await manager.get_session(f"chat-{chat}", last=50)
        session.add_message("user", f"{n} question " + "?" * (chat % 50))
        await asyncio.sleep(0)  # the model's call
        session.add_message("assistant", f"{n} answer " + "!" * (chat % 400))
        await manager.save(session)


def test_a_thousand_chats_at_a_time_are_all_stored(open_store):
    """Each chat has all its messages once and in order, and is in its user's list."""
    events = []

    async def run():
        async with AsyncSessionManager(open_store(), close_store=True) as manager:
            recorder = Recorder(manager, events.append)
            await asyncio.gather(*(converse(recorder, chat) for chat in range(CHATS)))

    asyncio.run(run())

    with SessionManager(open_store(), close_store=True) as manager:
        check_events(manager, events)
        assert manager.count() == CHATS
        for user in range(100):
            listed = {each.session_id for each in manager.list_sessions(f"user {user}")}
            assert listed == {f"chat-{chat}" for chat in range(user, CHATS, 100)}
        assert manager.verify()


def test_a_thousand_tasks_that_append_to_one_session_lose_nothing(open_store):
    """Appends of many tasks to one session are each stored once, and in every later read."""
    events = []

    async def work(manager, n):
        await manager.append("shared", {"role": "user", "content": f"message {n}"})
        if n % 50 == 0:
            await manager.get_session("shared")

    async def run():
        async with AsyncSessionManager(open_store(), close_store=True) as manager:
            await manager.create_session("ada", session_id="shared")
            recorder = Recorder(manager, events.append)
            await asyncio.gather(*(work(recorder, n) for n in range(CHATS)))

    asyncio.run(run())

    with SessionManager(open_store(), close_store=True) as manager:
        check_events(manager, events)
