"""Tests of custom stores of four methods, sync, async or mixed, with and without a running event loop."""

import asyncio
import contextvars
import io
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from pyai_sessions import (
    InvalidValueError,
    Session,
    SessionManager,
    SessionStore,
    StorageCorruptError,
    UnsupportedOperationError,
)
from pyai_sessions.testing import StoppedClock
from tests.contract.stores import AsyncStore, MixedStore, SyncStore

DEADLINE = 60  # seconds after which a call counts as hung


KINDS = [SyncStore, AsyncStore, MixedStore]


@pytest.fixture(params=KINDS)
def store(request):
    return request.param()


def within_deadline(act):
    """Return the result of *act*, run in a thread, so that a deadlock fails the test."""
    future = Future()

    def run():
        try:
            future.set_result(act())
        except BaseException as err:  # noqa: BLE001  (the caller raises it)
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future.result(DEADLINE)


def use(store):
    """Use everything that four methods can do, and return the results."""
    manager = SessionManager(store, clock=StoppedClock())
    session = manager.create_session("ada", session_id="s", metadata={"t": 1})
    session.add_message("user", "one")
    manager.save(session)
    manager.append("s", {"role": "assistant", "content": "two"})
    loaded = manager.get_session("s")
    listed = manager.get_sessions_for_user("ada")
    manager.archive("s")
    archived = (manager.count("ada"), manager.count("ada", status="archived"))
    manager.restore("s")
    deleted = manager.delete("s"), manager.delete("s")
    return [each.content for each in loaded.messages], listed == [loaded], archived, deleted, manager.get_session("s")


EXPECTED = (["one", "two"], True, (0, 1), (True, False), None)


def test_it_works_from_sync_code(store):
    """The sync manager works with any kind of store."""
    assert within_deadline(lambda: use(store)) == EXPECTED


def test_it_works_from_inside_a_running_loop(store):
    """A call from a coroutine does not wait for the loop that it blocks."""

    async def main():
        return use(store)

    assert within_deadline(lambda: asyncio.run(main())) == EXPECTED


def test_it_works_from_many_threads_at_once(store):
    """Calls of several threads, some inside a loop, do not block each other."""
    manager = SessionManager(store)

    async def in_loop(n):
        manager.create_session("ada", session_id=f"loop {n}")

    def work(n):
        manager.create_session("ada", session_id=f"sync {n}")
        asyncio.run(in_loop(n))

    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(work, n) for n in range(8)]:
            each.result(DEADLINE)

    assert len(manager.get_sessions_for_user("ada")) == 16


class ForwardingStore(SessionStore):
    """An async store that uses the sync manager of another async store."""

    def __init__(self):
        self.inner = SessionManager(AsyncStore())

    async def save(self, session):
        outer = self.inner.get_or_create_session(session.session_id, session.user_id)
        outer.set_state("kept", session.to_dict())
        self.inner.save(outer)

    async def get(self, session_id):
        outer = self.inner.get_session(session_id)
        return outer and Session.from_dict(outer.state["kept"])

    async def delete(self, session_id):
        self.inner.delete(session_id)

    async def list_for_user(self, user_id):
        return [Session.from_dict(each.state["kept"]) for each in self.inner.get_sessions_for_user(user_id)]


def run_apart(code):
    """Run code in a new Python, so that a deadlock ends with it. Return the exit code."""
    command = [sys.executable, "-c", "from tests.stores.test_custom import *\n" + textwrap.dedent(code)]
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=env, timeout=2 * DEADLINE, check=False).returncode


def test_an_async_store_may_use_another_by_a_manager():
    """A manager's call inside a store's coroutine does not wait for itself."""
    code = f"""
        import signal
        signal.alarm({DEADLINE})
        assert use(ForwardingStore()) == EXPECTED
    """

    assert run_apart(code) == 0


def test_it_works_in_a_forked_child():
    """A forked child, which has no threads of its parent, starts its own loop."""
    code = f"""
        import os, signal, warnings
        warnings.simplefilter("ignore")  # Python warns of a fork beside a thread, which is what is tried here
        manager = SessionManager(AsyncStore())
        manager.create_session("ada", session_id="s")
        child = os.fork()
        if child == 0:
            signal.alarm({DEADLINE})
            os._exit(0 if manager.get_session("s").user_id == "ada" else 1)
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """

    assert run_apart(code) == 0


def test_a_coroutine_sees_the_context_of_its_caller():
    """A store sees the caller's context variables."""
    tenant = contextvars.ContextVar("tenant")

    class TenantStore(AsyncStore):
        async def save(self, session):
            self.seen = tenant.get()
            await super().save(session)

    store = TenantStore()
    tenant.set("t1")

    SessionManager(store).create_session()

    assert store.seen == "t1"


@pytest.mark.parametrize("kind", [SyncStore, AsyncStore])
def test_an_error_of_the_store_comes_as_it_is(kind):
    """A custom store's exceptions are neither wrapped nor swallowed."""

    class FailingStore(kind):
        def get(self, session_id):
            raise ConnectionResetError(session_id)

    with pytest.raises(ConnectionResetError, match="s"):
        SessionManager(FailingStore()).get_session("s")


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.archive_inactive(days=30),
        lambda m: m.clear_all(),
        lambda m: m.verify(),
        lambda m: m.list_sessions(),
        lambda m: m.count(),
        lambda m: m.delete_user("ada", scan=True),
        lambda m: m.export_sessions(io.StringIO(), user_id="ada", scan=True),
    ],
)
def test_what_four_methods_cannot_do_says_what_is_missing(call):
    """The error names the missing method and the index. Nothing is written."""
    store = SyncStore()

    with pytest.raises(UnsupportedOperationError) as caught:
        call(SessionManager(store))

    assert str(caught.value) == (
        "a list of the sessions of all users needs `list_by_activity`, which SyncStore lacks, "
        "or an index: SessionManager(store, index=SQLiteMapping('index.db'))"
    )
    assert isinstance(caught.value, NotImplementedError)
    assert not store.rows


def test_what_an_index_cannot_give_either_says_what_is_missing():
    """`reindex` without a list, and `close_store=True` without `close`, raise errors that name the method."""
    store = SyncStore()

    for call, needs in (
        (SessionManager(store, index={}).reindex, "reindex needs `list_by_activity`, which SyncStore lacks"),
        (partial(SessionManager, store, close_store=True), "close_store=True needs `close`, which SyncStore lacks"),
    ):
        with pytest.raises(UnsupportedOperationError) as caught:
            call()
        assert needs in str(caught.value)


@pytest.mark.parametrize("given", [None, 7, ""], ids=repr)
def test_arguments_are_checked_before_the_store_is_asked(given):
    """The manager checks ids, so that a store need not."""

    class NeverAsked(SyncStore):
        def get(self, session_id):
            pytest.fail("it was asked")

        list_for_user = get

    manager = SessionManager(NeverAsked())

    with pytest.raises(InvalidValueError):
        manager.get_sessions_for_user(given)
    if given == 7:
        for call in (manager.get_session, manager.delete):
            with pytest.raises(InvalidValueError):
                call(given)
    else:  # a session cannot have such an id
        assert (manager.get_session(given), manager.delete(given)) == (None, False)


# Stores that go in a circle -------------------------------------------------------------------------------------------


class ListsFromTheBeginning(SyncStore):
    """Its list ignores the start."""

    def list_by_activity(self, after, limit):
        return sorted(map(Session.from_dict, self.rows), key=lambda each: each.session_id)[:limit]


class DeletesNothing(ListsFromTheBeginning):
    def delete(self, session_id):
        pass


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        *((ListsFromTheBeginning, act) for act in ("list_sessions", "count", "archive_inactive", "verify")),
        (DeletesNothing, "clear_all"),
    ],
)
def test_a_list_that_comes_back_to_where_it_was_ends_in_an_error(kind, act):
    """A list that never ends raises an error that names the store's method."""
    clock = StoppedClock()
    manager = SessionManager(kind(), clock=clock)
    manager.import_sessions(Session(f"s{n}", "ada", updated_at=clock.now) for n in range(150))
    clock.advance(days=31)

    with pytest.raises(StorageCorruptError, match=f"{kind.__name__}.(list_by_activity|delete): .*; let ") as caught:
        getattr(manager, act)()

    assert caught.value.where.startswith(kind.__name__)
