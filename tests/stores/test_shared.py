"""Tests of one store with many managers and namespaces, which share only connections and threads."""

import asyncio
import os
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import redis

from pyai_sessions import (
    AsyncSessionManager,
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    SessionManager,
    SQLiteSessionStore,
    StorageClosedError,
    UnsupportedOperationError,
    jsonable,
)
from pyai_sessions.testing import StoppedClock
from tests.contract.stores import SyncStore
from tests.sessions.test_trips import Trips
from tests.test_aio import run

MANY = 1_000


@pytest.fixture
def our_threads():
    """Return a function that returns the threads which managers have started since."""
    before = set(threading.enumerate())
    return lambda: [
        each for each in threading.enumerate() if each.name.startswith("pyai_sessions") and each not in before
    ]


def open_files(folder=Path("/")):
    """Return the number of this process's open files below a folder."""
    return sum(Path(os.path.realpath(each)).is_relative_to(folder) for each in Path("/proc/self/fd").iterdir())


@pytest.fixture
def client(valkey_server):
    """A client of an empty database, which counts its round trips."""
    with closing(redis.Redis.from_url(valkey_server.url)) as made:
        yield Trips(made)


# Namespaces of a manager ----------------------------------------------------------------------------------------------


def test_a_thousand_namespaces_use_the_connections_of_one_store(tmp_path, our_threads):
    """A thousand namespaces of a file use one connection per thread."""
    with closing(SQLiteSessionStore(tmp_path / "chat.db", synchronous="OFF")) as store:
        manager = SessionManager(store)
        manager.create_session("ada", session_id="s")
        opened = open_files(tmp_path)
        for n in range(MANY):
            manager.namespace(f"tenant {n}").create_session("ada", session_id="s", metadata={"n": n})

        assert open_files(tmp_path) == opened > 0
        assert not our_threads()
        assert manager.namespace("tenant 7").get_session("s").metadata == {"n": 7}
        assert manager.count() == 1


@pytest.mark.parametrize("kind", ["SQLite", "Valkey"])
def test_hundreds_of_awaited_namespaces_use_the_threads_and_connections_of_one_manager(
    kind, tmp_path, client, our_threads
):
    """Hundreds of async namespaces use the threads and connections of one manager."""
    store = {
        "SQLite": lambda: SQLiteSessionStore(tmp_path / "chat.db", synchronous="OFF"),
        "Valkey": lambda: KVSessionStore(RedisMapping(client, f"{tmp_path.name}:")),
    }[kind]()
    seen = []

    async def work(manager, n):
        await manager.create_session("ada", session_id="s", metadata={"n": n})
        seen.append((len(our_threads()), open_files()))
        return (await manager.get_session("s")).metadata["n"]

    async def main():
        async with AsyncSessionManager(store, close_store=True) as manager:
            opened = open_files()
            found = await asyncio.gather(*(work(manager.namespace(f"tenant {n}"), n) for n in range(300)))
            assert found == list(range(300))
            assert await manager.count() == 0
            return opened

    opened = run(main)

    assert max(threads for threads, _ in seen) <= 10
    assert max(files for _, files in seen) <= opened + 30  # an SQLite connection has three files


@pytest.mark.parametrize("wrap", [lambda mapping: mapping, lambda mapping: Encrypted(mapping, {"a": bytes(32)})])
def test_calls_of_many_namespaces_share_their_trips_and_nothing_else(wrap, tmp_path, client):
    """Calls of many namespaces share round trips. Each finds its own session under the same id."""
    store = KVSessionStore(wrap(RedisMapping(client, f"{tmp_path.name}:")))

    async def main():
        async with AsyncSessionManager(store) as whole:
            parts = {"": whole} | {f"tenant {n}": whole.namespace(f"tenant {n}") for n in range(40)}
            await asyncio.gather(*(each.create_session("ada") for each in parts.values()))
            await asyncio.gather(*(each.count("ada") for each in parts.values()))  # the first call looks at the keys
            client.count = 0
            await asyncio.gather(
                *(each.create_session("ada", session_id="s", metadata={"of": name}) for name, each in parts.items())
            )
            trips = client.count
            messages = [{"role": "user", "content": name} for name in parts]
            await asyncio.gather(
                *(each.append("s", message) for each, message in zip(parts.values(), messages, strict=True))
            )
            client.count = 0
            found = await asyncio.gather(*(each.get_session("s") for each in parts.values()))
            trips += client.count
            lists = await asyncio.gather(*(each.count("ada") for each in parts.values()))
            return list(parts), found, trips, lists

    names, found, trips, lists = run(main)

    assert [each.metadata["of"] for each in found] == names
    assert [[message.content for message in each.messages] for each in found] == [[name] for name in names]
    assert lists == [2] * 41
    assert trips < 20  # alone: two for each of 41
    assert SessionManager(store.namespace("tenant 3")).verify()


def test_a_namespace_is_the_one_that_a_store_is_opened_with():
    """A namespace is the same however it is opened."""
    mapping = {}
    manager = SessionManager(mapping)
    manager.namespace("acme/1").create_session("ada", session_id="s")

    assert SessionManager(KVSessionStore(mapping, namespace="acme/1")).get_session("s").user_id == "ada"
    assert manager.namespace("acme/1")._engine is manager.store.namespace("acme/1")._engine


def test_a_namespace_is_as_its_manager():
    """A namespace has its manager's clock, default, hook, ttl and class."""
    told, clock = [], StoppedClock()

    class Mine(SessionManager):
        label = "x"

    manager = Mine(KVSessionStore({}, ttl=60), clock=clock, default=jsonable, on_event=told.append)
    manager.label = "y"
    part = manager.namespace("acme")
    session = part.create_session("ada", session_id="s", state={"at": clock.now})
    told.clear()
    part.save(session)
    manager.save(manager.create_session())

    assert (type(part), part.label) == (Mine, "y")
    assert session.created_at == clock.now
    assert session.expires_at is not None
    assert [each.method for each in told] == ["save"] * 2 + ["create_session"] * 2 + ["save"] * 2
    assert "acme" in repr(part)


@pytest.mark.parametrize("face", [SessionManager, AsyncSessionManager])
def test_what_can_have_no_such_namespace_says_so(face):
    """A namespace, a custom store and an invalid name raise."""
    for name in ("", None, 7, "n" * 2000):
        with pytest.raises(InvalidValueError, match=r"^namespace "):
            face().namespace(name)
    for manager in (face().namespace("acme"), face(SyncStore())):
        with pytest.raises(UnsupportedOperationError, match="namespace"):
            manager.namespace("other")


def test_a_namespace_is_closed_with_its_manager_and_not_before(tmp_path):
    """Closing a namespace closes nothing."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        with manager.namespace("acme") as part:
            part.create_session("ada")
        with closing(SessionManager(part.store, close_store=True)):
            pass
        assert part.count() == 1
    with pytest.raises(StorageClosedError):
        part.count()

    async def main():
        async with AsyncSessionManager() as manager:
            one, two = manager.namespace("one"), manager.namespace("two")
            await one.close()
            with pytest.raises(StorageClosedError):
                await one.count()
            assert await two.count() == await manager.count() == 0
        with pytest.raises(StorageClosedError):
            await two.count()

    run(main)


def test_what_is_remembered_of_one_namespace_is_used_for_no_other():
    """What is remembered of a session is not used for one of the same id in another namespace."""
    manager = SessionManager()
    one, two = manager.namespace("one"), manager.namespace("two")
    for part in (manager, one, two):
        part.create_session("ada", session_id="s")
    for n in range(100):
        one.append("s", {"role": "user", "content": f"one {n}", "message_id": f"m{n}"})
    assert one.get_message("s", "m3").content == "one 3"

    assert two.get_message("s", "m3") is None
    for part, word in ((two, "two"), (manager, "none")):
        part.append("s", {"role": "user", "content": word, "message_id": "m3"})
        assert [each.content for each in part.get_session("s").messages] == [word]
    stores = one.store, two.store, manager.store
    stores[0]._engine._recent.put("key", "value", 1)
    assert [each._engine._recent.get("key") for each in stores] == ["value", None, None]
    assert stores[1]._engine._recent.pop("key") is None
    assert stores[0]._engine._recent.pop("key") == "value"


def test_what_is_remembered_of_all_namespaces_is_bounded():
    """One limit in bytes holds for all namespaces together."""
    store = KVSessionStore({})
    for n in range(5_000):
        store.namespace(f"tenant {n}")

    assert len(store._engine._recent._young) + len(store._engine._recent._old) < 4_000


# Managers of a store --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [lambda: KVSessionStore({}), SyncStore])
def test_managers_of_one_store_share_their_threads_which_end_with_the_last(store, our_threads):
    """Managers of one store share threads, which end with the last manager and start again with the next."""
    made = store()

    async def main():
        managers = [AsyncSessionManager(made) for _ in range(20)]
        await asyncio.gather(*(each.create_session("ada") for each in managers))
        assert 0 < len(our_threads()) <= 16
        before = our_threads()
        for each in managers[1:]:
            await each.close()
        await managers[0].create_session("ada")
        with pytest.raises(StorageClosedError):
            await managers[1].create_session("ada")
        await managers[0].close()
        for each in before:
            await asyncio.to_thread(each.join, 60)
        assert not set(before) & set(our_threads())
        async with AsyncSessionManager(made) as later:
            return len(await later.list_sessions("ada"))

    assert run(main) == 21


def test_one_manager_serves_both_faces():
    """A sync and an async manager of one store see the same sessions."""
    told, clock = [], StoppedClock()
    manager = SessionManager(clock=clock, default=jsonable, on_event=told.append)

    async def main():
        async with AsyncSessionManager(manager) as awaited:
            assert awaited.store is manager.store
            await awaited.create_session("ada", session_id="s", state={"at": clock.now})
        return manager.get_session("s")

    session = run(main)

    assert session.created_at == clock.now
    assert [each.method for each in told if each.name == "ended"] == ["create_session", "close", "get_session"]
    assert SessionManager(manager, on_event=lambda _: None).store is manager.store


def test_a_manager_closes_what_another_opened_where_it_is_told_to(tmp_path):
    """`close_store=True` closes another manager's store."""
    manager = SessionManager(f"sqlite:///{tmp_path}/chat.db")
    run(AsyncSessionManager(manager).close)
    assert manager.count() == 0
    run(AsyncSessionManager(manager, close_store=True).close)

    with pytest.raises(StorageClosedError):
        manager.count()


def test_namespaces_are_made_by_threads_at_the_same_time():
    """Threads that open namespaces at the same time find each other's sessions."""
    manager = SessionManager()
    manager.namespace("acme").create_session("ada", session_id="s")
    threads = [
        threading.Thread(target=partial(manager.namespace("acme").append, "s", {"role": "user", "content": str(n)}))
        for n in range(16)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert manager.namespace("acme").get_session("s").message_count == 16
