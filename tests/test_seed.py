"""Every snippet of the specification runs as it is written there, with pyai_sessions for pyai.sessions."""

# The snippets stay as they are written.
# fmt: off
# ruff: noqa: T201

import asyncio
from typing import List, Optional  # noqa: UP035  (as in the snippet)

import pytest

from pyai_sessions import (
    MemorySessionStore,
    RedisSessionStore,
    Session,
    SessionManager,
    SessionStore,
    SQLiteSessionStore,
)
from pyai_sessions.testing import StoppedClock


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The snippets name files without a folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_basic_usage(folder):
    """Create, add messages, save and retrieve, also from a second process's view."""
    from pyai_sessions import SessionManager, SQLiteSessionStore

    # Create manager with SQLite storage
    manager = SessionManager(
        store=SQLiteSessionStore("sessions.db")
    )

    # Create a session
    session = manager.create_session(user_id="user123")

    # Add messages
    session.add_message("user", "Hello!")
    session.add_message("assistant", "Hi there!")

    # Save session
    manager.save(session)

    # Later: retrieve session
    session = manager.get_session(session.session_id)

    assert [(each.role, each.content) for each in session.messages] == [("user", "Hello!"), ("assistant", "Hi there!")]
    assert (folder / "sessions.db").exists()
    manager.store.close()
    with SessionManager("sqlite:///sessions.db") as later:
        assert later.get_session(session.session_id) == session


def test_session_object(capsys):
    """A session can be made, read and changed without any store."""
    from pyai_sessions import Session

    session = Session(
        session_id="sess_abc123",
        user_id="user123",
        metadata={"channel": "web", "language": "en"}
    )

    # Add messages
    session.add_message("user", "What is PYAI?")
    session.add_message("assistant", "PYAI is an intelligence engine.")

    # Access messages
    for msg in session.messages:
        print(f"{msg.role}: {msg.content}")

    # Store custom state
    session.set_state("last_topic", "PYAI")
    topic = session.get_state("last_topic")

    # Session info
    print(session.created_at)
    print(session.updated_at)
    print(session.message_count)

    assert topic == "PYAI"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["user: What is PYAI?", "assistant: PYAI is an intelligence engine."]
    assert lines[2:] == [str(session.created_at), str(session.updated_at), "2"]
    assert session.created_at <= session.updated_at


def works(store):
    """Use a store in full."""
    manager = SessionManager(store=store)
    session = manager.create_session("user123", metadata={"channel": "web"})
    session.add_message("user", "Hello!")
    manager.save(session)
    return manager.get_session(session.session_id) == session and manager.get_sessions_for_user("user123") == [session]


def test_sqlite_session_store():
    """A store by path and table name works."""
    from pyai_sessions import SQLiteSessionStore

    store = SQLiteSessionStore(
        path="sessions.db",
        table_name="sessions"
    )

    assert works(store)
    store.close()


def test_redis_session_store(any_server):
    """A store by URL, prefix and ttl works, and connects at its first use."""
    from pyai_sessions import RedisSessionStore

    store = RedisSessionStore(
        url="redis://localhost:6379",
        prefix="pyai:sessions:",
        ttl=86400  # 24 hours
    )
    store.close()
    store = RedisSessionStore(
        url=any_server.url,
        prefix="pyai:sessions:",
        ttl=86400  # 24 hours
    )

    try:
        assert works(store)
        with any_server.client() as client:
            keys = [key for key in client.scan_iter("pyai:sessions:*") if client.type(key) == b"hash"]
            assert keys
            assert all(0 < client.ttl(key) <= 86400 for key in keys)
    finally:
        SessionManager(store).clear_all()
        store.close()


def test_memory_session_store():
    """A store without arguments works, and another one is empty."""
    from pyai_sessions import MemorySessionStore

    store = MemorySessionStore()  # Cleared on restart

    assert works(store)
    assert SessionManager(MemorySessionStore()).count() == 0


class Agent:
    """Stands for an agent of a framework."""

    def __init__(self, name, instructions):
        self.name = name
        self.instructions = instructions


class Result:
    def __init__(self, final_output):
        self.final_output = final_output


class Runner:
    """Stands for a framework's runner. Its answer shows what it was given."""

    @staticmethod
    async def run_async(agent, message, history):
        await asyncio.sleep(0)
        said = [each["content"] for each in history if each["role"] == "user"]
        return Result(f"{agent.name} heard {message!r} after {said}")


def test_using_with_agents():
    """A chat continues, and each user has a session."""
    from pyai_sessions import SessionManager, SQLiteSessionStore

    # Setup
    manager = SessionManager(store=SQLiteSessionStore("chat.db"))

    # Create agent
    agent = Agent(
        name="Assistant",
        instructions="You are helpful."
    )

    # Chat with session persistence
    async def chat(user_id: str, message: str):
        # Get or create session
        sessions = manager.get_sessions_for_user(user_id)
        session = sessions[0] if sessions else manager.create_session(user_id)

        # Get history for context
        history = [
            {"role": msg.role, "content": msg.content}
            for msg in session.messages
        ]

        # Run agent with history
        result = await Runner.run_async(agent, message, history=history)

        # Store conversation
        session.add_message("user", message)
        session.add_message("assistant", result.final_output)
        manager.save(session)

        return result.final_output

    assert asyncio.run(chat("ada", "one")) == "Assistant heard 'one' after []"
    assert asyncio.run(chat("bob", "two")) == "Assistant heard 'two' after []"
    assert asyncio.run(chat("ada", "three")) == "Assistant heard 'three' after ['one']"
    assert [each.message_count for each in manager.get_sessions_for_user("ada")] == [4]
    manager.store.close()


def test_session_lifecycle():
    """A session goes through every arrow of the diagram."""
    manager = SessionManager()
    session = manager.create_session()  # [*] --> Created
    session.add_message("user", "one")  # Created --> Active
    session.add_message("user", "two")  # Active --> Active
    manager.save(session)  # Active --> Saved

    session = manager.get_session(session.session_id)  # Saved --> Active
    session.add_message("user", "three")
    session.archive()  # Active --> Archived
    manager.save(session)

    assert manager.get_session(session.session_id).status == "archived"
    assert manager.get_session(session.session_id).message_count == 3
    manager.delete(session.session_id)  # Archived --> [*]
    assert manager.get_session(session.session_id) is None


def test_session_management():
    """Sessions can be listed, deleted, archived if inactive, and cleared."""
    clock = StoppedClock()
    manager = SessionManager(store=MemorySessionStore(clock=clock))
    session_id = manager.create_session("user123").session_id
    manager.create_session("user123")
    clock.advance(days=31)
    recent = manager.create_session("user123")

    # List user's sessions
    sessions = manager.get_sessions_for_user("user123")

    # Delete session
    manager.delete(session_id)

    left = manager.get_sessions_for_user("user123")

    # Archive old sessions
    manager.archive_inactive(days=30)

    active = manager.get_sessions_for_user("user123")

    # Clear all sessions
    manager.clear_all()

    assert len(sessions) == 3
    assert sessions[0] == recent
    assert len(left) == 2
    assert active == [recent]
    assert manager.count(status=None) == 0


def connect(connection_string):
    """Stands for a database driver: a table of JSON texts."""
    return {}


class PostgresSessionStore(SessionStore):
    """PostgreSQL session storage."""

    def __init__(self, connection_string: str):
        self.db = connect(connection_string)

    async def save(self, session: Session) -> None:
        # Save to PostgreSQL
        await asyncio.sleep(0)
        self.db[session.session_id] = session.to_json()

    async def get(self, session_id: str) -> Optional[Session]:  # noqa: UP045
        # Retrieve from PostgreSQL
        await asyncio.sleep(0)
        text = self.db.get(session_id)
        return None if text is None else Session.from_json(text)

    async def delete(self, session_id: str) -> None:
        # Delete from PostgreSQL
        await asyncio.sleep(0)
        self.db.pop(session_id, None)

    async def list_for_user(self, user_id: str) -> List[Session]:  # noqa: UP006
        # List user's sessions
        await asyncio.sleep(0)
        sessions = [Session.from_json(text) for text in self.db.values()]
        return [each for each in sessions if each.user_id == user_id]


def use_custom_store():
    manager = SessionManager(store=PostgresSessionStore("postgresql://localhost/chat"))
    session = manager.create_session(user_id="user123")
    session.add_message("user", "Hello!")
    manager.save(session)
    loaded = manager.get_session(session.session_id)
    listed = manager.get_sessions_for_user("user123")
    manager.delete(session.session_id)
    return loaded == session, listed == [session], manager.get_session(session.session_id)


def test_custom_session_store_from_sync_code():
    """A store of four async methods works under the sync manager."""
    assert use_custom_store() == (True, True, None)


def test_custom_session_store_from_inside_a_running_event_loop():
    """The same works inside a running loop."""

    async def main():
        return use_custom_store()

    assert asyncio.run(asyncio.wait_for(main(), 10)) == (True, True, None)


def test_custom_session_store_as_written():
    """The snippet's class, whose methods are `pass`, is a SessionStore that finds nothing."""

    class EmptySessionStore(SessionStore):
        """PostgreSQL session storage."""

        def __init__(self, connection_string: str):
            self.db = connect(connection_string)

        async def save(self, session: Session) -> None:
            # Save to PostgreSQL
            pass

        async def get(self, session_id: str) -> Optional[Session]:  # noqa: UP045
            # Retrieve from PostgreSQL
            pass

        async def delete(self, session_id: str) -> None:
            # Delete from PostgreSQL
            pass

        async def list_for_user(self, user_id: str) -> List[Session]:  # noqa: UP006
            # List user's sessions
            pass

    manager = SessionManager(store=EmptySessionStore("postgresql://localhost/chat"))

    assert manager.create_session(user_id="user123").user_id == "user123"
    assert manager.get_session("sess_abc123") is None


def test_the_names_of_the_module_overview():
    """The manager, the stores, a session and its parts are importable by these names, and the stores are stores."""
    for kind in (SQLiteSessionStore, RedisSessionStore, MemorySessionStore):
        assert issubclass(kind, SessionStore)
