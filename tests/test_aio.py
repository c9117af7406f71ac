"""Tests of AsyncSessionManager: the same methods as SessionManager, a free event loop, and cancellation."""

import asyncio
import contextvars
import functools
import inspect
import io
import threading
import time
from contextlib import closing, suppress

import anyio
import anyio.lowlevel
import pytest

from pyai_sessions import (
    AsyncSessionManager,
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionArchivedError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SQLiteMapping,
    SQLiteSessionStore,
    StateConflictError,
    StorageClosedError,
    StorageError,
    UnsupportedOperationError,
)
from pyai_sessions.testing import Recorder, StoppedClock, check_events, find_faults
from tests.contract.stores import AsyncFullStore, AsyncStore, MixedStore, SyncStore

DEADLINE = 60
FRAMEWORKS = ["asyncio", "trio"]


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def run(function, framework="asyncio"):
    """Run an async function to its end, within a deadline."""

    async def main():
        with anyio.fail_after(DEADLINE):
            return await function()

    return anyio.run(main, backend=framework)


class Held(dict):
    """A dict whose writes wait until they are released. It counts the waiting ones."""

    def __init__(self):
        super().__init__()
        self.held = threading.Event()  # a write has begun and waits
        self.go = threading.Event()
        self.go.set()
        self.at_work = self.most = 0

    def __setitem__(self, key, value):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        if not self.go.is_set():
            self.held.set()
            assert self.go.wait(DEADLINE)
        super().__setitem__(key, value)
        self.at_work -= 1


def sharing(mapping, together=8):
    """Return a store whose calls share round trips, as Redis calls do."""
    store = KVSessionStore(mapping)
    store._engine.trips.together = together
    return store


# The two faces -----------------------------------------------------------------------------------------------------


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_both_faces_have_the_same_methods():
    """Both managers have the same public methods."""
    assert public(SessionManager) == public(AsyncSessionManager)


@pytest.mark.parametrize("name", sorted(public(SessionManager) - {"store", "close", "namespace", "stream"}))
def test_both_faces_of_a_method_take_the_same_arguments_and_have_the_same_documentation(name):
    """A method has the same arguments and the same documentation in both managers."""
    sync, awaited = getattr(SessionManager, name), getattr(AsyncSessionManager, name)

    assert inspect.iscoroutinefunction(awaited)
    assert inspect.signature(awaited) == inspect.signature(sync)
    assert awaited.__doc__ == sync.__doc__
    assert awaited.__name__ == name


def test_the_constructors_differ_by_threads_alone():
    """The constructors differ only in `threads=`."""
    sync, awaited = (inspect.signature(each).parameters for each in (SessionManager, AsyncSessionManager))

    assert set(awaited) - set(sync) == {"threads"}
    assert set(sync) <= set(awaited)


STORES = {
    "memory": lambda _: None,
    "a dict": lambda _: {},
    "a KVSessionStore": lambda _: KVSessionStore({}),
    "a url": lambda folder: f"sqlite:///{folder}/chat.db?synchronous=NORMAL",
    "a sync store": lambda _: SyncStore(),
    "an async store": lambda _: AsyncStore(),
    "a mixed store": lambda _: MixedStore(),
}
ASYNCIO = ("an async store", "a mixed store")  # whose own coroutines are asyncio's


async def settled(value):
    return await value if inspect.isawaitable(value) else value


def told(session):
    """Return all of a session but its revision, which is random."""
    return {name: value for name, value in session.to_dict().items() if name != "revision"}


async def use_state(manager, see, refused):
    """Use user and application state, if the store has it."""
    of_ada = functools.partial(manager.user_state, "ada"), functools.partial(manager.update_user_state, "ada")
    for read, update in ((manager.app_state, manager.update_app_state), of_ada):
        if isinstance(manager.store, KVSessionStore):
            await see(update({"a": {"b": 1}, "c": 2}, if_revision=""))
            await see(update({"a": {"d": 3}}, remove=["c"], ttl=60))
            await see(read())
            await refused(StateConflictError, lambda update=update: update({}, if_revision=""))
        else:
            await refused(UnsupportedOperationError, read)
            await refused(UnsupportedOperationError, lambda update=update: update({}))


async def use(manager, clock):
    """Call all methods of a manager of either kind, and return the results."""
    seen = []

    async def see(value):
        value = await settled(value)
        seen.append(told(value) if isinstance(value, Session) else value)
        return value

    async def refused(error, call):
        with pytest.raises(error):
            await settled(call())
        seen.append(error)

    session = await see(manager.create_session("ada", session_id="s", metadata={"t": 1}, state={"n": 0}))
    session.add_message("user", "one", message_id="m1")
    clock.advance(minutes=1)
    await see(manager.save(session))
    await see(manager.append("s", {"role": "assistant", "content": "two", "message_id": "m2"}))
    await see(manager.append("s", Message("user", "three", message_id="m3", timestamp=clock.now)))
    await see(manager.get_session("s"))
    await see(manager.get_session("missing"))
    await refused(SessionExistsError, lambda: manager.get_or_create_session("s", "bob"))
    await see(manager.get_session("s", user_id="bob"))
    await refused(SessionNotFoundError, lambda: manager.append("s", {"role": "user", "content": "x"}, user_id="bob"))
    await see(manager.get_or_create_session("s", "ada"))
    clock.advance(minutes=1)
    await see(manager.get_or_create_session("t", "bob", metadata={"t": 2}))
    await refused(SessionExistsError, lambda: manager.create_session(session_id="s"))
    await see(manager.load_history(session))
    await see(manager.archive("s"))
    await refused(SessionArchivedError, lambda: manager.append("s", {"role": "user", "content": "late"}))
    await see(manager.count("ada", status="archived"))
    clock.advance(minutes=1)
    await see(manager.restore("s"))
    page = await see(manager.list_sessions("ada", where={"t": 1}, limit=1))
    seen.append(page.next_cursor)
    seen.append([told(each) for each in await settled(manager.get_sessions_for_user("ada"))])
    await see(manager.count("ada"))
    await see(manager.purge_expired())
    progress = []
    await see(
        manager.import_sessions(
            [Session("i", "carol", created_at=clock.now, updated_at=clock.now)], progress=progress.append
        )
    )
    seen.append(progress)
    for act in (
        lambda: manager.list_sessions(limit=2),
        manager.count,
        lambda: manager.archive_inactive(days=0),
        manager.reindex,
        manager.verify,
        manager.rotate_keys,
    ):
        try:
            await see(act())
        except UnsupportedOperationError as err:  # noqa: PERF203 (each is tried)
            seen.append(str(err))
    await use_state(manager, see, refused)
    await see(manager.delete("s"))
    await see(manager.delete("s"))
    await see(manager.delete_user("bob"))
    with suppress(UnsupportedOperationError):
        await see(manager.clear_all())
    for wrong in ({"session_id": 7}, {"session_id": "s", "user_id": None}):
        await refused(InvalidValueError, lambda wrong=wrong: manager.get_session(**wrong))
    await refused(InvalidValueError, lambda: manager.save({}))
    return seen


@pytest.mark.parametrize(
    ("kind", "framework"),
    [(kind, each) for kind in STORES for each in FRAMEWORKS if each == "asyncio" or kind not in ASYNCIO],
)
def test_both_faces_do_the_same(kind, framework, tmp_path):
    """Each method gives the same result in both managers, on each kind of store."""
    (tmp_path / "sync").mkdir()
    (tmp_path / "async").mkdir()

    async def sync():
        clock = StoppedClock()
        with closing(SessionManager(STORES[kind](tmp_path / "sync"), clock=clock)) as manager:
            return await use(manager, clock)

    async def awaited():
        clock = StoppedClock()
        async with AsyncSessionManager(STORES[kind](tmp_path / "async"), clock=clock) as manager:
            return await use(manager, clock)

    assert run(awaited, framework) == run(sync)


def test_an_async_store_written_for_trio_is_awaited_under_trio():
    """A store's coroutines run in the caller's framework, also in trio."""

    class AnyioStore(SyncStore):
        async def save(self, session):
            await anyio.lowlevel.checkpoint()
            super().save(session)

        async def get(self, session_id):
            await anyio.lowlevel.checkpoint()
            return super().get(session_id)

    async def main():
        async with AsyncSessionManager(AnyioStore()) as manager:
            await manager.create_session("ada", session_id="s")
            await manager.append("s", {"role": "user", "content": "one"})
            return (await manager.get_session("s")).message_count

    assert [run(main, each) for each in FRAMEWORKS] == [1, 1]


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


# Two writers -------------------------------------------------------------------------------------------------------


def test_tasks_that_append_to_one_session_lose_nothing():
    """Appends of many tasks to one session are all stored, on each kind of store."""

    async def main(store, tell):
        async with AsyncSessionManager(store) as manager, anyio.create_task_group() as tasks:
            await manager.create_session("ada", session_id="s")
            recorder = Recorder(manager, tell)
            for n in range(40):
                tasks.start_soon(recorder.append, "s", {"role": "user", "content": str(n)})
                if n % 9 == 0:
                    tasks.start_soon(recorder.get_session, "s")

    for store in (KVSessionStore({}), SyncStore(), AsyncStore(), MixedStore()):
        events = []
        run(lambda store=store, tell=events.append: main(store, tell))
        check_events(SessionManager(store), events)


def test_two_tasks_save_two_copies():
    """Two tasks' copies are merged, as two threads' are."""
    events = []

    async def main():
        async with AsyncSessionManager({}) as manager:
            await manager.create_session("ada", session_id="s")
            recorder = Recorder(manager, events.append)

            async def write(n):
                session = await recorder.get_session("s")
                await asyncio.sleep(0)
                session.add_message("user", str(n))
                session.set_state(f"by {n}", n)
                await recorder.save(session)

            await asyncio.gather(*map(write, range(20)))
            return len((await recorder.get_session("s")).state)

    assert run(main) == 20
    assert find_faults(events) == []


def test_a_deleted_session_stays_deleted():
    """Saving a copy of a deleted session raises, as in SessionManager."""

    async def main():
        async with AsyncSessionManager({}) as manager:
            session = await manager.create_session("ada")
            await manager.delete(session.session_id)
            with pytest.raises(SessionDeletedError):
                await manager.save(session)

    run(main)


# Calls that share their trips --------------------------------------------------------------------------------------


class Stopping(dict):
    """A dict in which one key's look-up waits and others' fail, once they are told to."""

    def __init__(self):
        super().__init__()
        self.stopped, self.go = threading.Event(), threading.Event()
        self.stop, self.fail = None, set()

    def __getitem__(self, key):
        if key in self.fail:
            raise OSError(5, "Input/output error")
        if key == self.stop:
            self.stopped.set()
            assert self.go.wait(DEADLINE)
        return super().__getitem__(key)


async def until(event):
    while not event.is_set():  # noqa: ASYNC110 (a thread sets it)
        await asyncio.sleep(0.001)


def test_many_tasks_chat_through_few_trips():
    """Tasks that share round trips each get all of their own messages."""
    events, mapping = [], {}

    async def chat(manager, name):
        await manager.create_session("ada", session_id=name)
        for n in range(20):
            session = await manager.get_session(name, last=4)
            session.add_message("user", f"{name} {n}")
            await manager.save(session)
            await manager.append(name, Message("assistant", f"to {name} {n}"))

    async def main():
        async with AsyncSessionManager(sharing(mapping)) as manager:
            recorder = Recorder(manager, events.append)
            await asyncio.gather(*[chat(recorder, f"s{n}") for n in range(40)])

    run(main)
    check_events(SessionManager(mapping), events)


def test_each_hears_of_its_own_error_alone():
    """Of calls that share a round trip, each gets only its own error."""
    mapping = Stopping()

    async def main():
        async with AsyncSessionManager(sharing(mapping), threads=1) as manager:
            for name in "abcd":
                await manager.create_session("ada", session_id=name)
            mapping.fail.add("session/b")
            mapping["session/c"] = "damaged"
            mapping.stop = "session/d"
            first = asyncio.create_task(manager.get_session("d", last=1))
            await until(mapping.stopped)
            tasks = [asyncio.create_task(manager.get_session(name, last=1)) for name in "abc"]
            tasks.append(asyncio.create_task(manager.create_session("eve", session_id="a")))
            await asyncio.sleep(0.01)  # they wait for the one thread
            mapping.go.set()
            await first
            return await asyncio.gather(*tasks, return_exceptions=True)

    got, failed, unreadable, taken = run(main)
    assert got.session_id == "a"
    assert [type(each) for each in (failed, unreadable, taken)] == [
        StorageError,
        InvalidDocumentError,
        SessionExistsError,
    ]


def test_a_call_that_takes_long_holds_up_no_other(monkeypatch):
    """A save that must first read what is stored does not delay other calls."""
    store, reading, go = sharing({}), threading.Event(), threading.Event()
    head = store._engine.backend.head

    def slow(session_id):
        if session_id == "s":
            reading.set()
            assert go.wait(DEADLINE)
        return head(session_id)

    async def main():
        async with AsyncSessionManager(store, threads=1) as manager:
            await manager.create_session("ada", session_id="s")
            await manager.archive("s")
            archived = await manager.get_session("s")
            monkeypatch.setattr(store._engine.backend, "head", slow)
            saving = asyncio.create_task(manager.save(archived))
            await until(reading)
            other = await manager.create_session("ada")
            assert await manager.get_session(other.session_id) is not None
            assert not saving.done()
            go.set()
            with pytest.raises(SessionArchivedError):
                await saving

    run(main)


def test_a_save_that_merges_ends_though_the_manager_is_closed():
    """A save that merges ends after the manager is closed, and its caller gets the result."""
    mapping = Stopping()

    async def main():
        manager = AsyncSessionManager(sharing(mapping), threads=1)
        await manager.create_session("ada", session_id="t")
        stale = await manager.create_session("ada", session_id="s")
        await manager.append("s", Message("user", "one"))
        stale.add_message("user", "two")
        mapping.stop = "session/t"
        first = asyncio.create_task(manager.get_session("t", last=1))
        await until(mapping.stopped)
        merging = asyncio.create_task(manager.save(stale))
        await asyncio.sleep(0.01)  # it waits for the one thread
        await manager.close()
        mapping.go.set()
        await first
        await merging
        return [each.content for each in stale.messages]

    assert run(main) == ["one", "two"]


def test_methods_of_a_class_of_the_users_own_are_called():
    """A subclass's own `save` is called, also by methods that create a session."""
    saved = []

    class Own(KVSessionStore):
        def save(self, session, *, on_conflict="merge"):
            saved.append(session.session_id)
            super().save(session, on_conflict=on_conflict)

    async def main():
        store = Own({})
        store._engine.trips.together = 8
        async with AsyncSessionManager(store) as manager:
            session = await manager.create_session("ada", session_id="s")
            session.add_message("user", "one")
            await manager.save(session)
            return (await manager.get_session("s")).message_count

    assert run(main) == 1
    assert saved == ["s", "s"]


# Closing -----------------------------------------------------------------------------------------------------------


def test_leaving_the_block_closes_what_was_made_here(tmp_path, framework):
    """Leaving the block closes a store that was made from a URL. Later calls raise."""

    async def main():
        async with AsyncSessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
            await manager.create_session("ada")
        with pytest.raises(StorageClosedError):
            await manager.count("ada")
        with pytest.raises(StorageClosedError):
            SessionManager(manager.store).count("ada")

    run(main, framework)


def test_leaving_the_block_leaves_open_what_was_given(tmp_path):
    """Leaving the block does not close a given mapping or store, unless `close_store=True`."""

    async def main():
        with closing(SQLiteMapping(tmp_path / "chat.db", synchronous="NORMAL")) as mapping:
            async with AsyncSessionManager(mapping) as manager:
                await manager.create_session("ada")
            store = KVSessionStore(mapping)
            async with AsyncSessionManager(store) as manager:
                assert await manager.count("ada") == 1
            assert SessionManager(store).count("ada") == 1
            async with AsyncSessionManager(store, close_store=True) as manager:
                assert await manager.count("ada") == 1
            with pytest.raises(StorageClosedError):
                SessionManager(store).count("ada")
            assert list(mapping)

    run(main)


def test_sessions_are_exported_imported_and_copied_awaited():
    """Export, import and copy work with async stores on either side."""

    def of_this_loop():
        store, loop = AsyncFullStore(), asyncio.get_running_loop()
        save = store.save

        async def checked(session):
            assert asyncio.get_running_loop() is loop
            return await save(session)

        store.save = checked
        return store

    async def main():
        file = io.StringIO()
        async with (
            AsyncSessionManager({}) as old,
            AsyncSessionManager(of_this_loop()) as middle,
            AsyncSessionManager(of_this_loop(), index={}) as new,
        ):
            await old.create_session("ada", session_id="s")
            await old.create_session("bob", session_id="t")
            assert await old.export_sessions(file, user_id="ada") == 1
            file.seek(0)
            assert (await middle.import_sessions(file)).inserted == 1
            assert (await old.copy_sessions(middle)).identical == 1
            assert (await middle.copy_sessions(new)).inserted == 2
            assert (await new.copy_sessions(SessionManager({}))).inserted == 2
            assert SessionManager({}).copy_sessions(old).inserted == 0
            assert (await new.get_session("s")).user_id == "ada"

    asyncio.run(main())


def test_threads_end_with_the_manager():
    """A closed manager leaves no thread behind."""
    before = threading.active_count()

    async def main():
        async with AsyncSessionManager({}, threads=4) as manager:
            await asyncio.gather(*[manager.create_session("ada") for _ in range(20)])

    run(main)

    deadline = time.monotonic() + DEADLINE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() <= before


def test_its_repr_names_the_store():
    """The repr names the store, and shows nothing that it holds."""
    assert repr(AsyncSessionManager()) == "<AsyncSessionManager of <MemorySessionStore on a dict>>"


@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_a_stream_whose_task_ends_in_the_middle_keeps_what_was_said(framework, leave):
    """If a stream's task is cancelled or no longer read, its text so far is stored as cut off."""

    async def speak(manager):
        async with manager.stream("s", every=60) as answer:
            for word in ("One, ", "two, ", "three"):
                await answer.write(word)
                yield word
            await anyio.sleep_forever()

    async def read(manager, said):
        async for word in speak(manager):
            said.append(word)

    async def main():
        async with AsyncSessionManager({}) as manager:
            await manager.create_session("ada", session_id="s")
            if leave == "close":
                parts = speak(manager)
                assert [await anext(parts), await anext(parts)] == ["One, ", "two, "]
                await parts.aclose()
                expected = "One, two, "
            else:
                said, expected = [], "One, two, three"
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read, manager, said)
                    while len(said) < 3:
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
            [message] = await manager.get_messages("s")
            return message.content == expected, message.status

    assert run(main, framework) == (True, "cut off")
