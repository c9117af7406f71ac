"""Tests of AsyncSessionManager: the event loop goes on, threads are bounded, and a cancelled call ends."""

import asyncio
import contextvars
import threading
from contextlib import closing

import anyio
import anyio.lowlevel
import pytest

from pyai_sessions import (
    AsyncSessionManager,
    InvalidValueError,
    KVSessionStore,
    Session,
    SQLiteSessionStore,
)
from tests.contract.stores import AsyncStore, SyncStore
from tests.loops import DEADLINE, FRAMEWORKS, Held, run, sharing

# The loop goes on --------------------------------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_mapping_writes(framework):
    """A slow storage delays only its caller, not the event loop."""
    mapping = Held()

    async def main():
        async with AsyncSessionManager(mapping) as manager, anyio.create_task_group() as tasks:
            mapping.go.clear()
            tasks.start_soon(manager.create_session)
            while not mapping.held.is_set():  # noqa: ASYNC110 (a thread sets it)
                await anyio.sleep(0.001)  # the loop runs
            mapping.go.set()

    run(main, framework)


def test_no_more_threads_than_were_asked_for(framework):
    """Any number of tasks use at most `threads=` threads."""
    together, most, lock = threading.Barrier(3), [0, 0], threading.Lock()

    class Counting(SyncStore):
        def save(self, session):
            with lock:
                most[0] += 1
                most[1] = max(most)
            together.wait(DEADLINE)
            super().save(session)
            with lock:
                most[0] -= 1

    async def main():
        async with AsyncSessionManager(Counting(), threads=3) as manager, anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(manager.create_session, "ada")

    run(main, framework)

    assert most == [0, 3]


def test_a_long_call_holds_up_no_other(framework):
    """A long import does not delay other calls."""
    reading, go_on = threading.Event(), threading.Event()

    def sessions():
        reading.set()
        assert go_on.wait(DEADLINE)
        yield Session("i", "carol")

    async def main():
        async with AsyncSessionManager(threads=1) as manager, anyio.create_task_group() as tasks:
            tasks.start_soon(manager.import_sessions, sessions())
            while not reading.is_set():  # noqa: ASYNC110 (a thread sets it)
                await anyio.sleep(0.001)
            await manager.create_session("ada")
            go_on.set()

    run(main, framework)


def test_a_ping_waits_for_no_other_call(framework):
    """A ping does not wait for other calls of the manager."""
    saving, go_on = threading.Event(), threading.Event()

    class Slow(SyncStore):
        def save(self, session):
            saving.set()
            assert go_on.wait(DEADLINE)
            super().save(session)

    async def main():
        async with AsyncSessionManager(Slow(), threads=1) as manager, anyio.create_task_group() as tasks:
            tasks.start_soon(manager.create_session, "ada")
            while not saving.is_set():  # noqa: ASYNC110 (a thread sets it)
                await anyio.sleep(0.001)
            await manager.ping()
            go_on.set()

    run(main, framework)


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "8"])
def test_what_is_no_number_of_threads_is_refused(threads):
    """An invalid `threads=` raises when the manager is made."""
    with pytest.raises(InvalidValueError, match=r"^threads is"):
        AsyncSessionManager(threads=threads)


def test_async_methods_run_in_the_callers_loop_and_sync_ones_in_threads():
    """A store's coroutines run on the caller's loop, and its other methods in threads."""
    seen = {}

    class Store(SyncStore):
        async def save(self, session):
            seen["save"] = (asyncio.get_running_loop(), threading.get_ident())
            super().save(session)

        async def get(self, session_id):
            seen["get"] = (asyncio.get_running_loop(), threading.get_ident())
            return super().get(session_id)

        def list_for_user(self, user_id):
            seen["list"] = threading.get_ident()
            return super().list_for_user(user_id)

    async def main():
        async with AsyncSessionManager(Store()) as manager:
            await manager.create_session("ada", session_id="s")
            await manager.get_session("s")
            await manager.get_sessions_for_user("ada")
            return asyncio.get_running_loop(), threading.get_ident()

    loop, thread = run(main)

    assert seen["save"] == (loop, thread)
    assert seen["get"] == (loop, thread)
    assert seen["list"] != thread


@pytest.mark.parametrize("store", [SyncStore, AsyncStore])
def test_a_call_sees_the_context_of_its_caller(store):
    """A store sees the caller's context variables, in a thread too."""
    tenant, seen = contextvars.ContextVar("tenant"), []

    class TenantStore(store):
        def save(self, session):
            seen.append(tenant.get())
            return super().save(session)

    async def main():
        tenant.set("t1")
        async with AsyncSessionManager(TenantStore()) as manager:
            await manager.create_session()

    run(main)

    assert seen == ["t1"]


def test_it_works_in_one_loop_after_another(tmp_path):
    """A manager can be used in several event loops, one after another."""
    with closing(SQLiteSessionStore(tmp_path / "chat.db", synchronous="NORMAL")) as store:
        manager = AsyncSessionManager(store)
        for n in range(3):
            run(lambda n=n: manager.create_session("ada", session_id=f"s{n}"), FRAMEWORKS[n % 2])
        assert run(lambda: manager.count("ada")) == 3
        run(manager.close)


def test_many_tasks_wait_for_few_threads(framework):
    """All calls of many tasks are made, although there are few threads."""

    async def counted():
        store = KVSessionStore({})
        done = []

        async def chat(manager, n):
            session = await manager.create_session("ada", session_id=f"s{n}")
            for k in range(5):
                session.add_message("user", f"{n} {k}")
                await manager.save(session)
            done.append(n)

        async with AsyncSessionManager(store, threads=2) as manager, anyio.create_task_group() as tasks:
            for n in range(200):
                tasks.start_soon(chat, manager, n)
        return sorted(done), [len(each.messages) for each in store.list_for_user("ada")]

    assert run(counted, framework) == (list(range(200)), [5] * 200)


# Cancellation ------------------------------------------------------------------------------------------------------


async def cancelled_by_task(function, when):
    """Cancel a call's task when *when* is set. Return whether it raised, after it ended."""
    task = asyncio.ensure_future(function())
    while not when.is_set():  # noqa: ASYNC110 (a thread sets it)
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.02)
    waits = not task.done()
    return waits, task


@pytest.mark.parametrize("together", [1, 8])
def test_a_cancelled_save_raises_when_its_outcome_is_known(together):
    """A cancelled save is stored before it raises, and the session can be saved again."""
    mapping = Held()

    async def main():
        async with AsyncSessionManager(sharing(mapping, together)) as manager:
            session = await manager.create_session("ada", session_id="s")
            session.add_message("user", "one")
            mapping.go.clear()
            waited, task = await cancelled_by_task(lambda: manager.save(session), mapping.held)
            task.cancel()  # again
            await asyncio.sleep(0.01)
            assert not task.done()
            mapping.go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            stored = await manager.get_session("s")
            assert [each.content for each in stored.messages] == ["one"]
            assert stored.revision == session.revision
            session.add_message("user", "two")
            await manager.save(session, on_conflict="error")
            return waited, (await manager.get_session("s")).message_count

    assert run(main) == (True, 2)


def test_a_cancelled_save_that_fails_raises_the_cancellation():
    """If a cancelled save fails, the task gets the cancellation, and nothing is stored."""

    class Failing(Held):
        def __setitem__(self, key, value):
            super().__setitem__(key, value)
            if self.held.is_set():
                del self[key]
                raise OSError(28, "No space left on device")

    mapping = Failing()

    async def main():
        async with AsyncSessionManager(mapping) as manager:
            mapping.go.clear()
            _, task = await cancelled_by_task(lambda: manager.create_session(session_id="s"), mapping.held)
            mapping.go.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            return dict(mapping)

    assert run(main) == {}


def test_a_scope_that_ends_waits_for_a_save(framework):
    """A save inside `move_on_after` of anyio ends before the scope does."""
    mapping = Held()

    async def main():
        async with AsyncSessionManager(mapping) as manager:
            session = await manager.create_session("ada", session_id="s")
            session.add_message("user", "one")
            mapping.go.clear()
            threading.Timer(0.1, mapping.go.set).start()
            with anyio.move_on_after(0.02) as scope:
                await manager.save(session)
                await anyio.lowlevel.checkpoint()  # here, at the latest, it is cancelled
                pytest.fail("it was not cancelled")
            assert scope.cancelled_caught
            assert mapping.go.is_set()
            stored = await manager.get_session("s")
            return stored.message_count, stored.revision == session.revision

    assert run(main, framework) == (1, True)


def test_a_scope_that_was_cancelled_is_not_told_again_and_again():
    """A save in a cancelled scope does not keep the loop busy while it ends."""
    mapping, futures = Held(), []

    async def save(manager, session, scope):
        with scope:
            await manager.save(session)

    async def main():
        loop = asyncio.get_running_loop()
        async with AsyncSessionManager(mapping) as manager:
            session = await manager.create_session("ada", session_id="s")
            session.add_message("user", "one")
            mapping.go.clear()
            scope, make = anyio.CancelScope(), loop.create_future
            task = asyncio.create_task(save(manager, session, scope))
            assert await asyncio.to_thread(mapping.held.wait, DEADLINE)
            loop.create_future = lambda: futures.append(1) or make()
            scope.cancel()
            for _ in range(100):
                await asyncio.sleep(0)
            del loop.create_future
            mapping.go.set()
            await task
            assert scope.cancelled_caught
            return (await manager.get_session("s")).message_count

    assert run(main) == 1
    assert len(futures) < 10


def test_a_timeout_of_asyncio_waits_for_a_save():
    """If `asyncio.wait_for` times out, the save is stored, and TimeoutError is raised."""
    mapping = Held()

    async def main():
        async with AsyncSessionManager(mapping) as manager:
            mapping.go.clear()
            threading.Timer(0.1, mapping.go.set).start()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(manager.create_session("ada", session_id="s"), 0.02)
            return (await manager.get_session("s")).user_id

    assert run(main) == "ada"


@pytest.mark.parametrize("by", ["task", "scope"])
def test_a_cancelled_save_of_an_async_store_runs_to_its_end(by):
    """A cancelled task does not interrupt a store's coroutine within a write."""
    steps = []

    class Slow(AsyncStore):
        async def save(self, session):
            steps.append("begun")
            begun.set()
            await asyncio.sleep(0.05)
            await super().save(session)
            steps.append("stored")

    begun = threading.Event()

    async def main():
        async with AsyncSessionManager(Slow()) as manager:
            if by == "scope":
                with anyio.move_on_after(0.01):
                    await manager.create_session(session_id="s")
                    await anyio.lowlevel.checkpoint()
                    pytest.fail("it was not cancelled")
            else:
                waited, task = await cancelled_by_task(lambda: manager.create_session(session_id="s"), begun)
                assert waited
                with pytest.raises(asyncio.CancelledError):
                    await task
            return steps, await manager.get_session("s") is not None

    assert run(main) == (["begun", "stored"], True)
