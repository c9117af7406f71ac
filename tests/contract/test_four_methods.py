"""Stores of one's own, sync and async, with four methods and with more, that keep the contract of stores."""

import asyncio

import pytest

from pyai_sessions import Session, SessionManager
from pyai_sessions.testing import SessionStoreContract
from tests.contract.stores import AsyncFullStore, AsyncStore, FullStore, SyncStore, Unrelated


class OfFourMethods(SessionStoreContract):
    @pytest.mark.xfail(reason="a restored session of four methods keeps its time", strict=False)
    def test_a_restored_session_goes_forward_in_time(self, manager, other, clock, ten):
        """Restoring is activity."""
        super().test_a_restored_session_goes_forward_in_time(manager, other, clock, ten)


class TestAsyncStore(OfFourMethods):
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


class TestSyncStore(OfFourMethods):
    @pytest.fixture
    def store(self):
        return SyncStore()


class TestAStoreOfNoBaseClass(OfFourMethods):
    @pytest.fixture
    def store(self):
        return Unrelated()


@pytest.mark.skipif(Session.revision.fset is None, reason="a store cannot set a revision yet")
class WithAllPowers(SessionStoreContract):
    must_have = ("list_by_activity", "revisions", "append")


class TestFullStore(WithAllPowers):
    @pytest.fixture
    def store(self):
        return FullStore()


class TestAsyncFullStore(WithAllPowers):
    @pytest.fixture
    def store(self):
        return AsyncFullStore()


@pytest.mark.skipif(Session.revision.fset is None, reason="SessionManager takes no index yet")
class TestSyncStoreWithAnIndex(SessionStoreContract):
    must_have = ("list_by_activity",)

    @pytest.fixture
    def store(self):
        return SyncStore()

    @pytest.fixture
    def index(self):
        return {}
