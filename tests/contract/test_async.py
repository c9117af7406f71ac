"""Contracts of SessionManager, run on AsyncSessionManager by awaiting each call in a loop."""

import asyncio
import inspect
import secrets
import threading
from contextlib import closing

import pytest

from pyai_sessions import AsyncSessionManager, RedisSessionStore, SQLiteSessionStore
from pyai_sessions.testing import SessionStoreContract
from pyai_sessions.testing.documents.expiry import Expiry
from pyai_sessions.testing.documents.shared_state import SharingState, UpkeepOfState
from pyai_sessions.testing.documents.upkeep import Upkeep
from tests.contract.stores import AsyncFullStore
from tests.contract.variants import OfItems


class Awaited:
    """An AsyncSessionManager with a sync interface. Each call is awaited in another thread's loop."""

    def __init__(self, manager, loop):
        self._manager = manager
        self._loop = loop

    def __getattr__(self, name):
        value = getattr(self._manager, name)
        return self._awaited(value) if inspect.iscoroutinefunction(value) else value

    def _awaited(self, value):
        async def outcome(args, kwargs):
            try:
                return await value(*args, **kwargs), None
            except BaseException as err:  # noqa: BLE001 (a KeyboardInterrupt would end the loop)
                return None, err

        def call(*args, **kwargs):
            result, error = asyncio.run_coroutine_threadsafe(outcome(args, kwargs), self._loop).result(60)
            if error is not None:
                raise error
            return result

        return call

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def stream(self, *args, **kwargs):
        return AwaitedStream(self._manager.stream(*args, **kwargs), self._loop)


class AwaitedStream(Awaited):
    """An AsyncMessageStream with a sync interface."""

    def __exit__(self, *error):
        self.leave(*error)

    @property
    def leave(self):
        return self._awaited(self._manager.__aexit__)


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class OfAwaited:
    """Managers whose calls are awaited."""

    @pytest.fixture
    def manager(self, store, clock, index, loop):
        with Awaited(AsyncSessionManager(store, clock=clock, index=index), loop) as manager:
            yield manager

    @pytest.fixture
    def other(self, reopen, clock, index, loop):
        with Awaited(AsyncSessionManager(reopen(), clock=clock, index=index), loop) as manager:
            yield manager


class TestSQLite(OfAwaited, UpkeepOfState, SharingState, Upkeep, Expiry, SessionStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        with closing(SQLiteSessionStore(tmp_path / "chat.db", synchronous="NORMAL")) as store:
            yield store

    @pytest.fixture
    def reopen(self, tmp_path, request):
        def reopen():
            store = SQLiteSessionStore(tmp_path / "chat.db", synchronous="NORMAL")
            request.addfinalizer(store.close)
            return store

        return reopen


@pytest.mark.wide
class TestValkey(OfAwaited, OfItems):
    @pytest.fixture
    def reopen(self, valkey_server, request):
        prefix = f"{secrets.token_hex(8)}:"

        def reopen():
            store = RedisSessionStore(valkey_server.url, prefix=prefix)
            request.addfinalizer(store.close)
            return store

        return reopen

    @pytest.fixture
    def store(self, reopen):
        return reopen()


@pytest.mark.long
class TestAsyncFullStore(OfAwaited, SessionStoreContract):
    must_have = ("list_by_activity", "revisions")

    @pytest.fixture
    def store(self):
        return AsyncFullStore()
