"""Tests of the clients of stores on Redis and Valkey, and of servers that fail."""

import time
from contextlib import closing

import pytest
import redis
import redis.asyncio
import redis.cluster
import valkey
import valkey.asyncio

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    SessionManager,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from tests.storage.redis_stores import talk


@pytest.fixture
def store(any_server, prefix):
    with closing(RedisSessionStore(any_server.url, prefix=prefix)) as store:
        yield store


# Clients --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [redis.Redis, valkey.Valkey])
@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3, "decode_responses": True}])
def test_a_clients_settings_stay_as_they_are(any_server, prefix, kind, options):
    """A given client keeps its options, callbacks and results."""
    with kind.from_url(any_server.url, **options) as client:
        client.set(prefix + "mine", "1")
        before = (
            dict(client.connection_pool.connection_kwargs),
            dict(client.response_callbacks),
            client.get(prefix + "mine"),
        )

        with closing(KVSessionStore(RedisMapping(client, prefix=prefix))) as store:
            talk(store, count=100)
            assert store.list_for_user("ada")[0].message_count == 100

        assert (
            dict(client.connection_pool.connection_kwargs),
            dict(client.response_callbacks),
            client.get(prefix + "mine"),
        ) == before
        assert client.ping()  # and it is still open


@pytest.mark.parametrize(
    "kind",
    [redis.asyncio.Redis, redis.asyncio.RedisCluster, valkey.asyncio.Valkey, dict, object],
)
def test_a_client_that_cannot_serve_is_refused(kind):
    """An async client, or another object, raises an error that says what is accepted."""
    client = kind.__new__(kind)  # a cluster's constructor would connect

    with pytest.raises(UnsuitableMappingError) as caught:
        RedisMapping(client)

    assert "redis.Redis(" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_client_may_be_given_and_stays_open(any_server, prefix):
    """A client may be given instead of a URL, and stays open."""
    with any_server.client() as client:
        store = RedisSessionStore(client=client, prefix=prefix)
        talk(store)
        store.close()

        assert client.ping()
        with pytest.raises(StorageClosedError):
            store.get("s")
        with pytest.raises(InvalidValueError) as caught:
            RedisSessionStore(any_server.url, client=client)
        assert caught.value.path == "client"


def test_a_store_connects_only_at_first_use(start_server):
    """A store can be made before the server runs."""
    server = start_server("valkey")
    server.kill()
    with closing(RedisSessionStore(server.url, timeout=30)) as store:
        server.start()

        assert SessionManager(store).count() == 0


def test_a_store_uses_its_server_again_after_a_restart(start_server):
    """After a restart the store connects again."""
    server = start_server("redis", "--appendonly", "yes")
    with closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        server.restart()
        session.add_message("assistant", "again")
        store.save(session)

        assert store.get("s") == session


# What fails -----------------------------------------------------------------------------------------------------------


def test_an_unreachable_server_is_an_error_without_credentials(start_server):
    """The error, its cause and the store's name show no credentials."""
    server = start_server("valkey")
    server.kill()
    url = f"redis://user:hush@127.0.0.1:{server.port}/0"

    with closing(RedisSessionStore(url, timeout=1)) as store:
        manager = SessionManager(store)
        for act in (
            lambda: store.get("s"),
            lambda: talk(store),
            lambda: store.list_for_user("ada"),
            manager.count,
            lambda: store.delete("s"),
            manager.verify,
        ):
            with pytest.raises(StorageUnreachableError) as caught:
                act()
            assert caught.value.where == f"127.0.0.1:{server.port}"
            assert isinstance(caught.value, ConnectionError)
            shown = f"{caught.value!r} {caught.value} {caught.value.__cause__} {store!r} {store.mapping!r}"
            assert "hush" not in shown


def test_a_wrong_password_is_an_error_without_it(start_server):
    """The error for a wrong password does not show it."""
    server = start_server("redis")
    with server.client() as client:
        client.config_set("requirepass", "right")
    store = RedisSessionStore(f"redis://:hush@127.0.0.1:{server.port}/0", timeout=30)

    with closing(store), pytest.raises(StoragePermissionError) as caught:
        store.get("s")

    assert "hush" not in f"{caught.value} {caught.value!r}"


def test_a_server_that_answers_nothing_raises_within_the_timeout(start_server):
    """A server that does not answer raises within the timeout."""
    server = start_server("valkey")
    with closing(RedisSessionStore(server.url, timeout=0.3)) as store:
        session = talk(store)
        session.add_message("user", "into the silence")
        server.pause()
        began = time.monotonic()
        with pytest.raises(StorageUnreachableError):
            store.save(session)
        waited = time.monotonic() - began
        server.resume()

        assert waited < 60
        store.save(session)
        assert [each.content for each in store.get("s").messages] == ["message 0", "into the silence"]


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_full_server_refuses_a_save_and_keeps_what_it_has(start_server, kind):
    """At the memory limit a save raises and stores nothing. Reads work."""
    server = start_server(kind)
    with server.client() as client, closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        client.config_set("maxmemory", "1")
        session.add_message("user", "too much")

        for act in (lambda: store.save(session), lambda: talk(store, "other")):
            with pytest.raises(StorageFullError):
                act()

        assert store.get("s").message_count == 1
        client.config_set("maxmemory", "0")
        assert store.get("other") is None
        assert SessionManager(store).verify()
        store.save(session)
        assert store.get("s").message_count == 2


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_replica_refuses_a_save(start_server, kind):
    """A save to a replica raises an error that says so."""
    server = start_server(kind)
    with server.client() as client, closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        client.replicaof("127.0.0.1", "1")  # nothing listens there: it keeps what it has
        session.add_message("user", "x")

        for act in (lambda: store.save(session), lambda: store.delete("s")):
            with pytest.raises(StorageReadOnlyError):
                act()
        assert store.get("s").message_count == 1
        assert [each.session_id for each in store.list_for_user("ada")] == ["s"]


def test_a_key_of_another_kind_is_an_error(store, client, prefix):
    """A key of another type in place of a session raises, and is not overwritten."""
    client.set(prefix + "s", "mine")

    for act in (lambda: store.get("s"), lambda: talk(store)):
        with pytest.raises(StorageError):
            act()

    assert client.get(prefix + "s") == b"mine"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port/0", "", "memory://"])
def test_what_is_no_url_of_a_server_is_refused(url):
    """An invalid URL raises when the store is made."""
    with pytest.raises(InvalidValueError) as caught:
        RedisSessionStore(url)

    assert caught.value.path == "url"
