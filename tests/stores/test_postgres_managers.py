"""The PostgreSQL store of the examples under both managers, from sync code and from inside a running loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from examples.postgres_store import PostgresSessionStore
from pyai_sessions import AsyncSessionManager, SessionDeletedError, SessionManager
from pyai_sessions.testing import Recorder, find_faults

pytestmark = pytest.mark.wide

DEADLINE = 60


def chat_by(manager):
    """Return the chat loop of the documentation: a sync manager in an async function."""

    async def chat(user_id, message):
        sessions = manager.get_sessions_for_user(user_id)
        session = sessions[0] if sessions else manager.create_session(user_id)
        history = [{"role": msg.role, "content": msg.content} for msg in session.messages]
        session.add_message("user", message)
        session.add_message("assistant", f"I read {len(history)} messages.")
        manager.save(session)
        return session.messages[-1].content

    return chat


ANSWERS = ["I read 0 messages.", "I read 2 messages.", "I read 4 messages."]


@pytest.fixture
def manager(postgres_url):
    with SessionManager(PostgresSessionStore(postgres_url), close_store=True) as manager:
        yield manager


def test_a_sync_manager_inside_a_running_loop(manager):
    """An async chat function calls the manager as it is; the store's coroutines run on a loop of their own."""
    chat = chat_by(manager)

    async def main():
        return [await asyncio.wait_for(chat("ada", str(n)), DEADLINE) for n in range(3)]

    assert asyncio.run(main()) == ANSWERS
    assert [each.message_count for each in manager.get_sessions_for_user("ada")] == [6]


def test_a_sync_manager_from_threads(manager):
    """Each call waits for the store's loop, none for another's end."""
    chat = chat_by(manager)

    def talk(user_id):
        return [asyncio.run(chat(user_id, str(n))) for n in range(3)]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(talk, ["ada", "bob", "carol", "dan"], timeout=DEADLINE)) == [ANSWERS] * 4
    assert manager.count() == 4


def test_an_async_manager_awaits_it(postgres_url):
    """Many chats at once, in the loop that the connections belong to."""

    async def chat(manager, user_id):
        for n in range(3):
            sessions = await manager.get_sessions_for_user(user_id, limit=1)
            session = sessions[0] if sessions else await manager.create_session(user_id)
            session.add_message("user", str(n))
            await manager.save(session)
            await manager.append(session.session_id, {"role": "assistant", "content": f"answer {n}"})

    async def main():
        async with AsyncSessionManager(PostgresSessionStore(postgres_url), close_store=True) as manager:
            users = [f"user{n}" for n in range(40)]
            await asyncio.wait_for(asyncio.gather(*(chat(manager, each) for each in users)), DEADLINE)
            sessions = [await manager.get_sessions_for_user(each) for each in users]
            return [[[m.content for m in s.messages] for s in each] for each in sessions], await manager.count()

    assert asyncio.run(main()) == ([[["0", "answer 0", "1", "answer 1", "2", "answer 2"]]] * 40, 40)


def test_stale_copies_are_merged(postgres_url):
    """Twenty tasks save copies of one session: every message is there once; a deleted session stays deleted."""

    events = []

    async def main():
        async with AsyncSessionManager(PostgresSessionStore(postgres_url), close_store=True) as manager:
            await manager.create_session("ada", session_id="s")
            recorder = Recorder(manager, events.append)

            async def write(n):
                session = await recorder.get_session("s")
                session.add_message("user", str(n))
                session.set_state(str(n), n)
                await recorder.save(session)

            await asyncio.wait_for(asyncio.gather(*map(write, range(20))), DEADLINE)
            session = await recorder.get_session("s")
            await manager.delete("s")
            session.add_message("user", "late")
            with pytest.raises(SessionDeletedError):
                await manager.save(session)
            return len(session.state)

    assert asyncio.run(main()) == 20
    assert find_faults(events) == []


def test_all_methods_work(manager):
    """Its optional methods make lists, counts and upkeep of all users' sessions."""
    for n in range(5):
        manager.create_session("ada", session_id=f"s{n}", metadata={"n": n})
    manager.archive("s4")

    assert [each.session_id for each in manager.list_sessions(limit=2)] == ["s3", "s2"]
    assert [manager.count(), manager.count(status=None), manager.count(where={"n": 1})] == [4, 5, 1]
    assert manager.verify().sessions == 5
    assert manager.archive_inactive(days=0) == 4
    assert manager.clear_all() == 5
