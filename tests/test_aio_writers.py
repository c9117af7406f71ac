"""Tests of tasks that write at the same time, and of calls that share their round trips."""

import asyncio
import threading

import anyio
import anyio.lowlevel
import pytest

from pyai_sessions import (
    AsyncSessionManager,
    InvalidDocumentError,
    KVSessionStore,
    Message,
    SessionArchivedError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    StorageError,
)
from pyai_sessions.testing import Recorder, check_events, find_faults
from tests.contract.stores import AsyncStore, MixedStore, SyncStore
from tests.loops import DEADLINE, run, sharing

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
