"""Contracts, run with a client that sends every command twice."""

import secrets

import pytest
import redis
import valkey

from pyai_sessions import Encrypted, KVSessionStore, RedisMapping, RedisSessionStore, SessionManager
from pyai_sessions.testing import MappingContract, Recorder, StoppedClock, check_events
from pyai_sessions.testing.store.erasing import Erasing
from tests.contract.variants import Made, OfEndings, OfWrites
from tests.repeating import repeating

pytestmark = pytest.mark.wide


@pytest.fixture
def client(valkey_server):
    with repeating(redis.Redis).from_url(valkey_server.url) as client:
        yield client


@pytest.fixture
def prefix(client):
    prefix = f"twice:{secrets.token_hex(8)}:"
    yield prefix
    for key in client.scan_iter(prefix + "*", count=1000):
        client.delete(key)


class TestMapping(MappingContract):
    @pytest.fixture
    def client(self, valkey_server):
        with repeating(valkey.Valkey).from_url(valkey_server.url) as client:
            yield client

    @pytest.fixture
    def mapping(self, client, prefix):
        return RedisMapping(client, prefix)


class OfStores(Made):
    @pytest.fixture
    def make(self, client, prefix, request):
        def make():
            store = RedisSessionStore(client=client, prefix=prefix, timeout=2.0)
            request.addfinalizer(store.close)
            return store

        return make


class TestStore(OfStores, OfWrites):
    pass


@pytest.mark.long
class TestStoreOnACluster(OfStores, Erasing, OfEndings):
    @pytest.fixture
    def client(self, valkey_cluster):
        port = valkey_cluster.primaries()[0].port
        with repeating(redis.RedisCluster)(host="127.0.0.1", port=port) as client:
            yield client


def test_a_rotation_counts_each_document_once(client, prefix):
    """A document is counted once if its command is sent twice."""
    keys = {"index": b"i" * 32, "old": b"o" * 32}
    before = SessionManager(KVSessionStore(Encrypted(RedisMapping(client, prefix), keys)))
    for n in range(3):
        before.create_session("ada", session_id=f"s{n}")
    after = SessionManager(KVSessionStore(Encrypted(RedisMapping(client, prefix), keys | {"new": b"n" * 32})))

    assert [after.rotate_keys(), after.rotate_keys()] == [3, 0]


def test_a_purge_counts_each_session_once(client, prefix):
    """A session that the server dropped is counted once if the command is sent twice."""
    clock = StoppedClock()
    store = RedisSessionStore(client=client, prefix=prefix, ttl=60, clock=clock)
    manager = SessionManager(store)
    for n in range(250):
        manager.create_session("ada", session_id=f"s{n}")
    client.delete(*(f"{prefix}s{n}" for n in range(250)))
    clock.advance(seconds=61)

    assert [manager.purge_expired(), manager.purge_expired(), manager.count()] == [250, 0, 0]


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("others", [1, 70])
def test_an_append_that_others_wrote_over_before_it_was_sent_again_is_stored_once(
    valkey_server, prefix, before, others
):
    """An append that is repeated after its message moved to a page is stored once."""

    class Late(redis.Redis):
        def execute_command(self, *args, **options):
            reply = super().execute_command(*args, **options)
            if meanwhile and args[0] == "EVALSHA":
                meanwhile.pop()()
                return super().execute_command(*args, **options)
            return reply

    def append_others():
        for n in range(others):
            another.append("s", {"role": "user", "content": f"other {n}"})

    meanwhile, events = [], []
    with redis.Redis.from_url(valkey_server.url) as plain, Late.from_url(valkey_server.url) as late:
        stores = (RedisSessionStore(client=each, prefix=prefix) for each in (plain, late))
        another, manager = (Recorder(SessionManager(each), events.append) for each in stores)
        another.create_session("ada", session_id="s")
        for n in range(before):
            manager.append("s", {"role": "user", "content": f"before {n}"})
        meanwhile.append(append_others)

        manager.append("s", {"role": "user", "content": "mine"})

        assert not meanwhile
        check_events(another, events)
