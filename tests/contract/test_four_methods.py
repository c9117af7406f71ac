"""Stores of one's own, sync and async, with four methods and with more, that keep the contract of stores."""

import pytest

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
