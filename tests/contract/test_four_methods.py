"""Stores of one's own, sync and async, with four methods and with more, that keep the contract of stores."""

import asyncio

import pytest

from pyai_sessions import SessionManager
from pyai_sessions.testing import SessionStoreContract
from pyai_sessions.testing.store.appending import Appending
from pyai_sessions.testing.store.everyday import Everyday
from pyai_sessions.testing.store.lists import Lists
from pyai_sessions.testing.store.merging import Merging
from pyai_sessions.testing.store.reading import Reading
from pyai_sessions.testing.store.refusals import Refusals
from tests.contract.stores import AsyncFullStore, AsyncStore, FullStore, SyncStore, Unrelated


class OfCalls(Refusals, Lists, Appending, Everyday, Reading):
    """What depends on how a store is called, for stores of which another kind keeps the whole contract."""


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


@pytest.mark.wide
class TestSyncStore(OfCalls):
    @pytest.fixture
    def store(self):
        return SyncStore()


@pytest.mark.long
class TestAStoreOfNoBaseClass(OfCalls):
    @pytest.fixture
    def store(self):
        return Unrelated()


ALL_POWERS = ("list_by_activity", "revisions")


@pytest.mark.wide
class TestFullStore(SessionStoreContract):
    must_have = ALL_POWERS

    @pytest.fixture
    def store(self):
        return FullStore()


class TestAsyncFullStore(Merging, OfCalls):
    must_have = ALL_POWERS

    @pytest.fixture
    def store(self):
        return AsyncFullStore()


class TestSyncStoreWithAnIndex(OfCalls):
    must_have = ("list_by_activity",)

    @pytest.fixture
    def store(self):
        return SyncStore()

    @pytest.fixture
    def index(self):
        return {}
