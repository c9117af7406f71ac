"""Tests of AsyncSessionManager: the same methods as SessionManager, and how it is opened and closed."""

import asyncio
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
    InvalidValueError,
    KVSessionStore,
    Message,
    Session,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SQLiteMapping,
    StateConflictError,
    StorageClosedError,
    UnsupportedOperationError,
)
from pyai_sessions.testing import StoppedClock
from tests.contract.stores import AsyncFullStore, AsyncStore, MixedStore, SyncStore
from tests.loops import DEADLINE, FRAMEWORKS, run, settled

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
