"""The contract of stores, run on custom stores, sync and async, with four methods and with more."""

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
    """The rules that depend on how a store is called. Another kind of store runs the whole contract."""


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
