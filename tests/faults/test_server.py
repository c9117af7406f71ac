"""Tests of servers that die, restart, pause or lose replies: each turn is stored exactly once."""

import secrets
import threading
from contextlib import closing
from itertools import count, takewhile

import pytest
import redis
import valkey

from pyai_sessions import (
    KVSessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    SessionManager,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.testing import Recorder
from tests.faults.proxy import Proxy
from tests.faults.workers import check_turns, plan, session_ids, user_of, write_turns

pytestmark = pytest.mark.wide

MORE = [Message("user", f"more {n}", message_id=f"more{n}") for n in range(70)]


def fill(session, how_many, word="message"):
    for n in range(how_many):
        session.add_message("user", f"{word} {n}", message_id=f"{word}{n}")


# A broken connection --------------------------------------------------------------------------------------------------


def client_of(library, proxy):
    """Return a client that tries once."""
    client_class = library.Redis if library is redis else library.Valkey
    return client_class(port=proxy.port, socket_timeout=30, retry=library.retry.Retry(library.backoff.NoBackoff(), 0))


def test_valkey_s_own_client_stores_once_too(any_server):
    """A save through valkey-py whose reply is lost is stored once."""
    with (
        Proxy(any_server.port) as proxy,
        closing(client_of(valkey, proxy)) as client,
        closing(KVSessionStore(RedisMapping(client, f"{secrets.token_hex(8)}:"))) as store,
    ):
        manager = SessionManager(store)
        session = manager.create_session("user0", session_id="s0")
        fill(session, 2)
        proxy.drop_reply(1)
        with pytest.raises(StorageUnreachableError):
            manager.save(session)
        manager.save(session)

        assert [each.content for each in manager.get_session("s0").messages] == ["message 0", "message 1"]


def test_a_read_that_failed_is_unreachable_and_works_again(any_server):
    """A failed read or list raises StorageUnreachableError, and a later one works."""
    with (
        Proxy(any_server.port) as proxy,
        closing(client_of(redis, proxy)) as client,
        closing(KVSessionStore(RedisMapping(client, f"{secrets.token_hex(8)}:"))) as store,
    ):
        manager = SessionManager(store)
        session = manager.create_session("user0", session_id="s0")
        for read in (
            lambda: manager.get_session("s0") == session,
            lambda: manager.get_sessions_for_user("user0") == [session],
            lambda: len(manager.list_sessions()) == 1,
            lambda: manager.count() == 1,
            lambda: manager.reindex() == 1,
            lambda: manager.verify().sessions == 1,
        ):
            for at in count(1):
                proxy.cut(at)
                try:
                    right = read()
                except StorageUnreachableError:
                    assert proxy.heal()
                    assert read()
                else:
                    assert right
                    assert not proxy.heal()
                    assert at > 1
                    break


# A server that is gone ------------------------------------------------------------------------------------------------

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture(params=["redis", "valkey"])
def server(request, start_server):
    """A server that persists what it acknowledged."""
    return start_server(request.param, *DURABLE)


def opened(server, **options):
    """Return a store with a client that tries once."""
    return closing(KVSessionStore(RedisMapping(server.client(**options))))


def test_a_killed_server_comes_back_with_all_that_was_saved(server):
    """While the server is down a save raises. Afterwards the same save succeeds and stores once."""
    events = []
    with opened(server) as store:
        manager = Recorder(SessionManager(store), events.append)
        session = manager.create_session("user0", session_id="s0")
        for n in range(3):
            fill(session, 40, f"life {n} ")
            manager.save(session)
            server.kill()
            fill(session, 40, f"while down {n} ")
            with pytest.raises(StorageUnreachableError):
                manager.save(session)
            with pytest.raises(StorageUnreachableError):
                manager.get_session("s0")
            server.start()
            manager.save(session)

        assert session.message_count == 240
        check_turns(manager, ["s0"], events)


def test_writers_outlive_their_server(server, long_form):
    """Threads that repeat failed calls store everything once while the server is killed and started."""
    ids, writers = session_ids(3), 4
    done, events, failures = threading.Event(), [], []
    with opened(server) as store:
        manager = SessionManager(store)
        for session_id in ids:
            manager.create_session(user_of(session_id), session_id=session_id)

        def write(writer):
            turns = takewhile(lambda _: not done.is_set(), plan(writer, ids, 10_000))
            recorder = Recorder(manager, events.append)
            failures.append(write_turns(recorder, turns, "append" if writer % 2 else "save"))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
        for each in threads:
            each.start()
        for _ in range(50 if long_form else 5):
            wait_for_scripts(server, 30)
            server.kill()
            server.start()
        wait_for_scripts(server, 30)
        done.set()
        for each in threads:
            each.join()

        check_turns(manager, ids, events)
        assert len(failures) == writers
        assert sum(failures) > 0


def wait_for_scripts(server, how_many):
    """Wait until the server has run so many scripts."""
    with server.client() as client:
        while client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"] < how_many:
            pass


def test_a_server_that_stands_still_is_unreachable_at_the_deadline(server):
    """A save to a paused server raises at the timeout. What the server does later is not stored twice."""
    hasty = RedisSessionStore(client=server.client(socket_timeout=0.2))
    events = []
    with closing(hasty), closing(RedisSessionStore(client=server.client())) as store:
        manager, in_haste = (Recorder(SessionManager(each), events.append) for each in (store, hasty))
        session = manager.create_session("user0", session_id="s0")
        fill(session, 40)
        manager.save(session)
        server.pause()
        fill(session, 40, "late")
        for _ in range(2):
            with pytest.raises(StorageUnreachableError):
                in_haste.save(session)
        with pytest.raises(StorageUnreachableError):
            in_haste.append("s0", *MORE)
        server.resume()
        manager.append("s0", *MORE)
        manager.save(session)

        check_turns(manager, ["s0"], events)


def test_the_deadline_is_the_store_s(start_server):
    """A store's own client waits at most `timeout` per try."""
    server = start_server("valkey")
    hasty = RedisSessionStore(server.url, timeout=0.1)
    with closing(hasty), closing(RedisSessionStore(server.url, timeout=30)) as store:
        manager = SessionManager(store)
        session = manager.create_session("user0")
        server.pause()

        with pytest.raises(StorageUnreachableError):
            hasty.save(session)
        server.resume()
        manager.save(session)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_without_its_scripts_gets_them_again(start_server, kind):
    """SCRIPT FLUSH or a restart between two saves has no effect."""
    server = start_server(kind)
    with opened(server) as store, server.client() as client:
        manager = SessionManager(store)
        session = manager.create_session("user0", session_id="s0")
        for n in range(3):
            client.script_flush()
            fill(session, 20, f"{n} ")
            manager.save(session)
        client.script_flush()

        assert manager.get_sessions_for_user("user0") == [session]
        client.script_flush()
        assert manager.delete("s0")
        assert manager.count() == 0


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_replica_refuses_writes_as_read_only(start_server, kind):
    """A save to a replica raises StorageReadOnlyError. After its promotion the same save succeeds."""
    at_once = ("--repl-diskless-sync-delay", "0")
    first, replica = start_server(kind, *at_once), start_server(kind, *at_once)
    with opened(first) as store, opened(replica) as copy, replica.client() as client:
        session = SessionManager(store).create_session("user0", session_id="s0")
        fill(session, 40)
        SessionManager(store).save(session)
        client.replicaof("127.0.0.1", first.port)
        while client.info("replication")["master_link_status"] != "up" or not client.dbsize():
            pass
        manager = SessionManager(copy)
        session = manager.get_session("s0")
        fill(session, 2, "more")
        for act in (
            lambda: manager.save(session),
            lambda: manager.append("s0", *MORE),
            lambda: manager.delete("s0"),
            lambda: manager.archive("s0"),
        ):
            with pytest.raises(StorageReadOnlyError):
                act()

        assert manager.get_session("s0").message_count == 40
        assert [each.message_count for each in manager.get_sessions_for_user("user0")] == [40]
        client.replicaof("NO", "ONE")
        manager.save(session)
        assert manager.get_session("s0").message_count == 42
