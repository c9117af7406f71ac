"""Tests of storages on servers: the contract with each client, and what it does not cover."""

import pytest
import redis
import valkey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyai_sessions import RedisMapping
from pyai_sessions.errors import (
    SessionError,
    StorageError,
    StorageFullError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.storage.redis.storage import RedisStorage
from pyai_sessions.testing.storage import StorageContract
from tests.faults.hostile_server import HostileServer, array, bulk
from tests.faults.proxy import Proxy
from tests.storage.hashes import Counted, new_prefix, save

# The contract ---------------------------------------------------------------------------------------------------------


class OnAServer(StorageContract):
    @pytest.fixture
    def reopen(self, client):
        prefix = new_prefix()
        return lambda: RedisStorage(RedisMapping(client, prefix), timeout=30)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()


@pytest.fixture(scope="module")
def own_client(valkey_server):
    with valkey.Valkey.from_url(valkey_server.url, socket_timeout=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def decoding_client(valkey_server):
    with redis.Redis.from_url(valkey_server.url, socket_timeout=30.0, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def newer_client(redis_server):
    with redis.Redis.from_url(redis_server.url, socket_timeout=30.0, protocol=3) as client:
        yield client


@pytest.mark.long
class TestOnValkeyWithItsOwnClient(OnAServer):
    @pytest.fixture
    def client(self, own_client):
        return own_client


class TestOnValkeyDecoding(OnAServer):
    @pytest.fixture
    def client(self, decoding_client):
        return decoding_client


class TestOnRedisWithTheNewerProtocol(OnAServer):
    @pytest.fixture
    def client(self, newer_client):
        return newer_client


# What lies where ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(any_server):
    with any_server.client() as client:
        yield client


@pytest.fixture
def prefix():
    return new_prefix()


@pytest.fixture
def storage(client, prefix):
    return RedisStorage(RedisMapping(client, prefix), timeout=30)


def test_a_place_is_one_hash_and_a_list_one_sorted_set(storage, client, prefix):
    """Places and lists have the documented key names, in a namespace too."""
    for under in ("", "namespace/n/"):
        storage.write(
            [
                Change(
                    put=[(f"{under}page/s%2F1/g/0", b"page"), (f"{under}doc/s%2F1", b"head")],
                    lists=[Listing(f"{under}user/ada/active", "s%2F1", None, -5)],
                )
            ]
        )

    assert sorted(each.decode().removeprefix(prefix) for each in client.keys(f"{prefix}*")) == [
        "/namespace/n//user/ada/active",
        "/namespace/n/s%2F1",
        "/user/ada/active",
        "s%2F1",
    ]
    assert client.hgetall(f"{prefix}s%2F1") == {b"page/g/0": b"page", b"doc": b"head"}
    assert client.zrange(f"{prefix}/namespace/n//user/ada/active", 0, -1, withscores=True) == [(b"s%2F1", -5)]


def test_what_is_no_text_is_left_alone(storage, client, prefix):
    """Foreign names that are not UTF-8, and scores that are not whole numbers, are ignored."""
    storage.write([save("r1", active=(None, 2))])
    client.hset(prefix.encode() + b"\xff\xfe", b"doc", b"theirs")
    client.hset(f"{prefix}s", b"\xff", b"theirs")
    client.zadd(f"{prefix}/active", {b"\xff": 1, b"far": "inf", b"near": "-inf", b"half": 3.5})
    client.zadd(prefix.encode() + b"/\xff", {b"s": 1})
    client.zadd(f"{prefix}/namespace/n/s", {b"s": 1})
    client.set(f"{prefix}/text", b"theirs")

    end = 10**18 - 1
    assert storage.scan("active") == [(-end, "near"), (2, "s"), (3, "half"), (end, "far")]
    assert [storage.scan("active", (3, "half"), 1), storage.scan("active", (end, "far"))] == [[(end, "far")], []]
    assert sorted(storage.listings()) == [
        ("active", "far", end),
        ("active", "half", 3),
        ("active", "near", -end),
        ("active", "s", 2),
    ]
    assert "doc/s" in list(storage.keys("doc/"))
    storage.write([Change(drop=["doc/s", "page/s/"])])
    assert client.hgetall(f"{prefix}s") == {b"\xff": b"theirs"}


def test_a_damaged_document_is_moved_as_it_is(storage, client, prefix):
    """Bytes that are not text are read, put and compared as they are."""
    client.hset(f"{prefix}s", "doc", b"\xff\x00\xc4")
    value = storage.read(["doc/s"])["doc/s"]

    assert storage.write([Change(expect=[("doc/s", "")], put=[("aside/s/t/doc", value)], drop=["doc/s"])]) == [True]

    assert client.hgetall(f"{prefix}s") == {b"aside/t/doc": b"\xff\x00\xc4"}


# What a write costs and keeps -----------------------------------------------------------------------------------------


def test_each_call_is_one_trip(client, prefix):
    """Each call is one round trip, for any number of keys and changes."""
    counted = Counted(client)
    storage = RedisStorage(RedisMapping(counted, prefix), timeout=30)
    pages = [(f"page/s/g/{n}", b"page") for n in range(150)]
    changes = [save("r1", place=f"s{n}", active=(None, n)) for n in range(150)]
    calls = [
        lambda: storage.write([save("r1", active=(None, 1))._replace(put=[*pages, ("doc/s", b"r1: text")])]),
        lambda: storage.write(changes),
        lambda: storage.read(["doc/s"]),
        lambda: storage.read(["doc/s", *(key for key, _ in pages)]),
        lambda: storage.read(["doc/s", "page/s/"]),
        lambda: storage.read(["page/s/g/"]),
        lambda: storage.read([f"doc/s{n}" for n in range(150)]),
        lambda: list(storage.keys("page/s/")),
        lambda: storage.scan("active", limit=150),
        lambda: storage.count("active"),
        lambda: list(storage.listings([("active", "s"), ("archived", "s"), ("user/ada/active", "s")])),
    ]
    for each in calls:
        each()  # the server learns the scripts

    assert [counted.cost(each) for each in calls] == [1] * len(calls)
    assert counted.cost(lambda: (storage.read([]), storage.write([]), list(storage.listings([])))) == 0


def test_a_place_never_lives_shorter(storage, client, prefix):
    """A new place gets its time. An existing one keeps a longer time; 0 keeps it, and None means for ever."""

    def left(lives):
        storage.write([Change(put=[("doc/s", b"text")], lives=lives)])
        return round(client.pttl(f"{prefix}s") / 100_000)

    assert [left(each) for each in (1_000_000, 100_000, 0, 2_000_000)] == [10, 10, 10, 20]
    assert client.persist(f"{prefix}s")
    assert [client.pttl(f"{prefix}s"), left(1_000_000), left(None)] == [-1, 0, 0]
    client.delete(f"{prefix}s")
    assert [left(0), left(1_000_000)] == [0, 0]
    client.pexpire(f"{prefix}s", 1_000_000)
    assert left(None) == 0
    assert client.pttl(f"{prefix}s") == -1


def test_a_refused_change_prolongs_nothing(storage, client, prefix):
    """A refused change does not extend a place's life."""
    storage.write([Change(put=[("doc/s", b"text")], lives=1_000_000)])

    assert storage.write([Change(expect=[("forks/s/f/1", "")], lives=9_000_000)]) == [False]
    assert client.pttl(f"{prefix}s") <= 1_000_000
    assert storage.write([Change(expect=[("doc/s", "")], lives=9_000_000)]) == [True]
    assert client.pttl(f"{prefix}s") > 8_000_000


@pytest.mark.parametrize("name", ["s", "/active", "/archived"])
@pytest.mark.parametrize("expected", [True, False])
def test_a_key_of_another_type_fails_the_whole_change(storage, client, prefix, name, expected):
    """A key of another type fails the whole change, and nothing changes."""
    change = save("r2", "r1", active=(1, None), archived=(None, 2))._replace(lives=1000)
    storage.write([save("r1", active=(None, 1))])
    if name == "s":
        client.delete(f"{prefix}s")
    client.rename(f"{prefix}{name}", f"{prefix}kept:") if client.exists(f"{prefix}{name}") else None
    client.set(f"{prefix}{name}", "theirs")
    before = {key: client.dump(key) for key in client.keys(f"{prefix}*")}

    with pytest.raises(StorageError, match="WRONGTYPE"):
        storage.write([change if expected else change._replace(expect=[])])

    assert {key: client.dump(key) for key in client.keys(f"{prefix}*")} == before
    assert all(client.pttl(key) == -1 for key in before)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_full_server_takes_a_change_whole_or_not_at_all(start_server, kind):
    """A full server applies a change whole or not at all. Removals are applied."""
    with start_server(kind).client() as client:
        storage = RedisStorage(RedisMapping(client, "full:"), timeout=30)
        storage.write([save("r1", active=(None, 1))])
        client.config_set("maxmemory", "1")

        with pytest.raises(StorageFullError):
            storage.write([save("r2", "r1", active=(1, None), archived=(None, 2))])

        assert (storage.scan("active"), storage.count("archived")) == ([(1, "s")], 0)
        assert storage.read(["doc/s"]) == {"doc/s": b"r1: text"}
        gone = Change(expect=[("doc/s", "r1:")], drop=["doc/s"], lists=[Listing("active", "s", 1, None)])
        assert storage.write([gone]) == [True]
        assert client.keys("full:*") == []


@pytest.mark.parametrize(("policy", "lives", "refused"), [("allkeys-lru", 0, True), ("volatile-lru", 1000, True)])
def test_a_server_that_evicts_is_refused(start_server, policy, lives, refused):
    """A server that evicts raises before a write, unless it evicts only expiring keys and all changes expire."""
    with start_server("valkey").client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", policy)
        storage = RedisStorage(RedisMapping(client, "evicts:"), timeout=30)

        with pytest.raises(UnsuitableMappingError, match="maxmemory-policy"):
            storage.write([save("r1")._replace(lives=lives)])

        assert client.keys() == []
        if policy.startswith("volatile"):
            assert storage.write([save("r1"), save("r1", place="t")._replace(lives=None)]) == [True, True]
            with pytest.raises(UnsuitableMappingError, match="allow_eviction=True"):
                RedisStorage(RedisMapping(client, "evicts:", ttl=5), timeout=30).read(["doc/s"])
        accepting = RedisStorage(RedisMapping(client, "evicts:", allow_eviction=True), timeout=30)
        assert accepting.write([save("r1", place="u")._replace(lives=lives)]) == [True]


# What fails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["cut", "drop_reply"])
@pytest.mark.parametrize("changes", [1, 3])
def test_a_lost_reply_stores_nothing_twice(any_server, client, prefix, when, changes):
    """After a lost reply the call raises. Repeated, its changes are applied once."""
    with Proxy(any_server.port) as proxy, redis.Redis(port=proxy.port, socket_timeout=30, retry=None) as through:
        storage = RedisStorage(RedisMapping(through, prefix), timeout=30)
        new = [save("r1", place=f"s{n}", active=(None, n)) for n in range(changes)]
        storage.write([save("r0", place="known")])
        getattr(proxy, when)(1)

        with pytest.raises(StorageUnreachableError):
            storage.write(new)

        assert proxy.heal()
        assert storage.write(new) == storage.write(new) == [True] * changes
        assert storage.scan("active") == [(n, f"s{n}") for n in range(changes)]
        later = [save("r2", "r1", place=f"s{n}", active=(n, n + 10)) for n in range(changes)]
        assert storage.write(later) == [True] * changes
        assert storage.write(new) == [False] * changes
        assert storage.count("active") == changes


@pytest.mark.parametrize("script_is_known", [True, False])
def test_a_client_that_sends_again_writes_once(any_server, client, prefix, script_is_known):
    """A client that repeats a command after a lost reply returns the usual result."""
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 3)
    options = {"socket_timeout": 30, "retry": retry, "retry_on_error": [redis.exceptions.ConnectionError]}
    with Proxy(any_server.port) as proxy, redis.Redis(port=proxy.port, **options) as through:
        storage = RedisStorage(RedisMapping(through, prefix), timeout=30)
        storage.write([save("r1", active=(None, 1))])
        if not script_is_known:
            client.script_flush()
        for at in (1, 2):
            proxy.drop_reply(at)
            change = save(f"r{at + 1}", f"r{at}", active=(at, at + 1))

            assert storage.write([change]) == [True]
            assert storage.scan("active") == [(at + 1, "s")]
            proxy.heal()


ACTS = {
    "read": lambda storage: storage.read(["doc/s"]),
    "read many": lambda storage: storage.read(["doc/s", "doc/t"]),
    "read below": lambda storage: storage.read(["page/s/"]),
    "read a place": lambda storage: storage.read(["doc/s", "page/s/"]),
    "write": lambda storage: storage.write([save("r1", active=(None, 1))]),
    "write many": lambda storage: storage.write([save("r1", place=each) for each in "abc"]),
    "keys": lambda storage: list(storage.keys()),
    "keys below": lambda storage: list(storage.keys("page/s/")),
    "scan": lambda storage: storage.scan("active", (1, "s"), 1),
    "count": lambda storage: storage.count("active"),
    "listings": lambda storage: list(storage.listings()),
    "listings of": lambda storage: list(storage.listings([("active", "s")])),
}
PARTS = [
    b":0\r\n",
    b":1\r\n",
    b":7\r\n",
    b"$-1\r\n",
    b"+OK\r\n",
    b"-ERR no\r\n",
    *map(bulk, [b"", b"0", b"1", b"nan", b"\xff"]),
]
REPLIES = st.recursive(st.sampled_from(PARTS), lambda inner: st.lists(inner, max_size=3).map(lambda each: array(*each)))


@pytest.fixture(scope="module")
def hostile():
    with HostileServer() as server, redis.Redis(port=server.port, socket_timeout=0.3, retry=None) as client:
        yield server, client


@given(st.sampled_from(sorted(ACTS)), st.lists(REPLIES, min_size=1, max_size=4))
@example("scan", [array(*[part for n in range(9) for part in (bulk(b"%d" % n), bulk(b"1"))])] * 2)
@settings(max_examples=60)
def test_any_reply_gives_a_result_or_an_error_by_name(hostile, act, replies):
    """Replies of wrong types, lengths and numbers give a result or our own error."""
    server, client = hostile
    client.connection_pool.disconnect()
    server.answer(replies, endless=True)
    mapping = RedisMapping(client, "p:", allow_eviction=True)

    try:
        ACTS[act](RedisStorage(mapping, timeout=0.3))
    except SessionError as err:
        assert str(server.port) in str(err)  # noqa: PT017 (others pass)


@pytest.mark.parametrize("reply", [b":3\r\n", b":-1\r\n", bulk(b"1"), b"+OK\r\n", b"$-1\r\n", array()])
def test_a_write_that_is_not_acknowledged_raises(hostile, reply):
    """A write returns only after a valid acknowledgement."""
    server, client = hostile
    client.connection_pool.disconnect()
    server.answer([reply], endless=True)

    with pytest.raises(StorageError):
        RedisStorage(RedisMapping(client, "p:", allow_eviction=True), timeout=0.3).write([save("r1")])
