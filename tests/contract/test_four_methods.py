"""Stores of four methods, sync and async, that keep their contract."""

import asyncio
from collections import deque

import pytest

from pyai_sessions import Session, SessionManager, SessionStore
from pyai_sessions.testing import SessionStoreContract


class AsyncStore(SessionStore):
    """Rows of JSON behind an event loop, as a database's async client has them."""

    def __init__(self):
        self.rows = {}

    async def save(self, session):
        await asyncio.sleep(0)
        self.rows[session.session_id] = session.to_json()

    async def get(self, session_id):
        await asyncio.sleep(0)
        row = self.rows.get(session_id)
        return row and Session.from_json(row)

    async def delete(self, session_id):
        await asyncio.sleep(0)
        self.rows.pop(session_id, None)

    async def list_for_user(self, user_id):
        await asyncio.sleep(0)
        sessions = map(Session.from_json, self.rows.values())
        return [each for each in sessions if each.user_id == user_id]


class SyncStore(SessionStore):
    """The same four, without `async`; it gives its sessions in no useful order, and as no list."""

    def __init__(self):
        self.rows = deque()

    def save(self, session):
        self.delete(session.session_id)
        self.rows.appendleft(session.to_dict())

    def get(self, session_id):
        return next((Session.from_dict(each) for each in self.rows if each["session_id"] == session_id), None)

    def delete(self, session_id):
        self.rows = deque(each for each in self.rows if each["session_id"] != session_id)

    def list_for_user(self, user_id):
        return tuple(Session.from_dict(each) for each in self.rows if each["user_id"] == user_id)


class Unrelated:
    """Four methods of a class that knows nothing of ours."""

    def __init__(self):
        self._store = SyncStore()
        for name in ("save", "get", "delete", "list_for_user"):
            setattr(self, name, getattr(self._store, name))


class TestAsyncStore(SessionStoreContract):
    @pytest.fixture
    def store(self):
        return AsyncStore()

    def test_it_works_inside_a_running_loop(self, manager):
        """A sync call from async code does not wait for the loop that it blocks."""

        async def chat():
            session = manager.create_session("ada", session_id="s")
            session.add_message("user", "Hello!")
            manager.save(session)
            return manager.get_sessions_for_user("ada")

        assert [each.message_count for each in asyncio.run(chat())] == [1]

    def test_an_error_of_the_store_reaches_the_caller(self, store):
        """As it was raised."""

        async def fail(session):
            msg = "the database is down"
            raise ConnectionError(msg)

        store.save = fail

        with pytest.raises(ConnectionError, match="the database is down"):
            SessionManager(store).create_session("ada")


class TestSyncStore(SessionStoreContract):
    @pytest.fixture
    def store(self):
        return SyncStore()


class TestAStoreOfNoBaseClass(SessionStoreContract):
    @pytest.fixture
    def store(self):
        return Unrelated()
