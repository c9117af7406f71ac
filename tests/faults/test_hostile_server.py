"""Tests of a hostile server: each call returns or raises our own error, in bounded time."""

import tracemalloc
from contextlib import closing

import pytest
import redis
import valkey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyai_sessions import (
    KVSessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionError,
    SessionManager,
    StorageError,
)
from tests.faults.hostile_server import HostileServer, array, bulk

pytestmark = pytest.mark.wide

HEAD = b'{"format":1,"revision":"r","session_id":"s","user_id":"ada","incarnation":"i","messages":[]}'
MEMORY = bulk(b"# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n")
"""What a server says that removes no keys: with it, the replies that follow are those to the call itself."""

ACTS = {
    "get": lambda manager: manager.get_session("s"),
    "get the last": lambda manager: manager.get_session("s", last=2),
    "create": lambda manager: manager.create_session("ada", session_id="s"),
    "append": lambda manager: manager.append("s", Message("user", "more")),
    "list": lambda manager: manager.get_sessions_for_user("ada"),
    "summaries": lambda manager: manager.list_sessions(status=None),
    "count": lambda manager: manager.count(),
    "fork": lambda manager: manager.fork("s", new_id="f"),
    "archive": lambda manager: manager.archive("s"),
    "archive idle": lambda manager: manager.archive_inactive(0),
    "import": lambda manager: manager.import_sessions([Session(session_id="a"), Session(session_id="b")]),
    "delete": lambda manager: manager.delete("s"),
    "delete user": lambda manager: manager.delete_user("ada"),
    "purge": lambda manager: manager.purge_expired(),
    "reindex": lambda manager: manager.reindex(),
    "verify": lambda manager: manager.verify(),
    "repair": lambda manager: manager.verify(repair=True),
    "clear": lambda manager: manager.clear_all(),
    "read an item": lambda manager: manager.store.mapping.get("session/s"),
    "write an item": lambda manager: manager.store.mapping.update({"k": "v"}),
    "keys": lambda manager: list(manager.store.mapping),
}

# ruff: noqa: E501 (tables)
WHOLE = [
    *(b":0\r\n", b":1\r\n", b":-5\r\n", b":99999999999999999999\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"+OK\r\n", b"-\r\n"),
    *(b"-ERR no\r\n", b"-WRONGTYPE no\r\n", b"-NOSCRIPT no\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"-MOVED x\r\n", b"-ASK y\r\n"),
    *map(bulk, [b"", b"abc", b"\xff", b"1.5", b"inf", b"nan", b"0", b"1e999", HEAD, b"session", b"messages/g/0", b"p:s", b"p:/active"]),
    # The newer protocol's: nil, true, a float, a number without end, a map, a set, an error, a push, an attribute.
    *(b"_\r\n", b"#t\r\n", b",1.5\r\n", b",nan\r\n", b"(" + b"9" * 40 + b"\r\n", b"%1\r\n$1\r\na\r\n:1\r\n", b"~1\r\n:1\r\n"),
    *(b"!3\r\nERR\r\n", b">2\r\n+message\r\n+x\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n"),
]  # fmt: skip
BROKEN = [
    *(b"$100\r\nabc", b"$2147483647\r\nabc", b"*2147483647\r\n", b"*99999999999999999999\r\n", b"$-5\r\n", b"$x\r\n", b":x\r\n"),
    *(b"\0\xff\0\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1\r\n" * 5000, b"$3\r\nabcde\r\n", b":1\r\n:2\r\n:3\r\n", None),
]  # fmt: skip
LIKELY = [
    *(array(bulk(b"session"), bulk(HEAD)), array(bulk(b"session"), b":1\r\n"), array(bulk(HEAD)), array(bulk(b"s"), bulk(b"nan"))),
    *(array(bulk(b"0"), array(bulk(b"p:s"), bulk(b"p:/active"), bulk(b"p:\xff"))), array(b":7\r\n", array()), array(bulk(b"0"))),
    *(array(bulk(b"x"), array()), array(bulk(b"0"), array(bulk(b"s"), bulk(b"1"))), array(bulk(b"0"), b"$-1\r\n")),
    *(array(bulk(b"\xff"), bulk(b"inf")), array(array(bulk(b"s")))),
]  # fmt: skip
REPLIES = (
    st.sampled_from([*WHOLE, *LIKELY])
    | st.sampled_from(BROKEN)
    | st.lists(st.sampled_from(WHOLE), max_size=4).map(lambda items: array(*items))
)
CLIENTS = {
    "redis": lambda **options: redis.Redis(**options, retry=Retry(NoBackoff(), 0)),
    "redis, the newer protocol": lambda **options: redis.Redis(**options, protocol=3, retry=Retry(NoBackoff(), 0)),
    "redis, decoding": lambda **options: redis.Redis(**options, decode_responses=True, retry=Retry(NoBackoff(), 0)),
    "valkey": valkey.Valkey,
}
WAIT = 0.3


@pytest.fixture(scope="module")
def server():
    with HostileServer() as server:
        yield server


def manager_of(client, ttl=None):
    """Return a manager with its own connections, since redis-py 8 would pass leftover bytes to the next command."""
    client.connection_pool.disconnect()
    return SessionManager(KVSessionStore(RedisMapping(client, "p:", ttl), timeout=WAIT))


@pytest.fixture(scope="module", params=CLIENTS)
def client(server, request):
    options = {"port": server.port, "socket_timeout": WAIT, "socket_connect_timeout": WAIT}
    with closing(CLIENTS[request.param](**options)) as client:
        yield client


@given(
    st.sampled_from(sorted(ACTS)),
    st.tuples(st.sampled_from([MEMORY, None]), st.lists(REPLIES, min_size=1, max_size=5)),
    st.sampled_from([None, 60]),
)
@example("get", (MEMORY, [array(bulk(b"session"), b":1\r\n")]), None)
@example("reindex", (MEMORY, [array(bulk(b"0"), array(bulk(b"p:s")))]), None)
@example("create", (MEMORY, [bulk(b"0")]), None)  # it is no 0, and no 1 either
@settings(max_examples=60)
def test_any_reply_gives_a_result_or_an_error_by_name(server, client, act, answers, ttl):
    """Replies of wrong types and lengths, half replies and garbage give a result or our own error."""
    info, replies = answers
    server.answer(replies, info=info)
    refusal = None

    try:
        ACTS[act](manager_of(client, ttl))
    except SessionError as err:
        refusal = err
    assert refusal is None or str(server.port) in str(refusal) or not isinstance(refusal, StorageError)


@pytest.mark.parametrize("reply", [bulk(b"0"), bulk(b"1"), b"$-1\r\n", array(), b"+OK\r\n", bulk(HEAD)])
def test_a_save_that_was_not_acknowledged_as_a_server_does_raises(server, client, reply):
    """A save returns only after a valid acknowledgement. Any other reply raises."""
    server.answer([reply], endless=True)

    with pytest.raises(StorageError):
        manager_of(client).create_session("ada", session_id="s")


@pytest.mark.parametrize("act", ACTS)
def test_a_script_that_is_never_known_ends_in_an_error(server, client, act):
    """NOSCRIPT is retried once."""
    server.answer([b"-NOSCRIPT No matching script\r\n"], endless=True)

    with pytest.raises(StorageError):
        ACTS[act](manager_of(client))


@pytest.mark.parametrize("act", ["reindex", "verify", "clear", "keys"])
@pytest.mark.parametrize("cursor", [b"5", b"18446744073709551615"])
def test_a_scan_that_goes_round_in_a_circle_ends(server, client, act, cursor):
    """A repeated cursor ends a scan."""
    server.answer([array(bulk(cursor), array(bulk(b"other:s")))], endless=True)

    with pytest.raises(StorageError):
        ACTS[act](manager_of(client))


@pytest.mark.parametrize(
    "reply", [each for each in BROKEN if each] + [b"$1000000000\r\n", b"*1000000000\r\n*1000000000\r\n"]
)
@pytest.mark.parametrize("info", [MEMORY, None], ids=["to the call", "to the question before it"])
def test_a_reply_that_claims_to_be_huge_takes_no_memory(server, client, reply, info):
    """A reply uses only the memory of the bytes that came. The rest is awaited until the timeout."""
    server.answer([reply], endless=True, info=info)
    manager = manager_of(client)
    tracemalloc.start()

    with pytest.raises(SessionError):
        manager.get_session("s")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("reply", [b":1\r\n", array(b":1\r\n", array()), b"$100\r\nabc", b"*1\r\n*x\r\n", None])
@pytest.mark.parametrize("info", [MEMORY, None], ids=["to the call", "to the question before it"])
def test_a_store_works_again_when_the_server_does(server, client, reply, info):
    """The rest of a broken reply is not read as the next reply."""
    manager = manager_of(client)
    server.answer([reply], info=info)
    with pytest.raises(SessionError):
        manager.get_session("s")

    server.answer([array(bulk(b"session"), bulk(HEAD))], info=MEMORY)

    assert manager.get_session("s").user_id == "ada"


def test_an_error_does_not_quote_what_the_server_says(server):
    """An error does not quote the server, which may repeat arguments."""
    with closing(RedisSessionStore(f"redis://:hunter2@127.0.0.1:{server.port}/0", timeout=WAIT)) as store:
        server.answer([b"-ERR unknown command, with args beginning with: 'our secret'\r\n"], endless=True)

        with pytest.raises(StorageError) as caught:
            store.get("s")

    assert "does not know a command" in str(caught.value)
    assert not any(word in f"{caught.value!r}{caught.value.args}" for word in ("our secret", "hunter2"))


# What others put there ------------------------------------------------------------------------------------------------


@pytest.fixture
def real(any_server):
    with redis.Redis.from_url(any_server.url) as client:
        yield client
        client.delete(*(client.keys("foreign:*") or ["none"]))


def test_names_that_are_no_text_are_left_alone(real):
    """Hashes, fields and members with names that are not UTF-8 are ignored."""
    manager = SessionManager(KVSessionStore(RedisMapping(real, "foreign:", 3600)))
    session = manager.create_session("ada", session_id="s")
    real.hset(b"foreign:\xff\xfe", b"session", b"theirs")
    real.hset(b"foreign:s", b"\xff", b"theirs")
    real.hset(b"foreign:s", b"forks/\xff", b"theirs")
    real.zadd(b"foreign:/active", {b"\xff": 1, b"%": 2, b"": 3, b"far": "inf", b"near": "-inf"})
    real.zadd(b"foreign:/user/\xff/active", {b"s": 1})
    real.zadd(b"foreign:/expiry", {b"\xff": 1, b"": 2, b"x": 3, b"/active/": 4, b"a/gone/b": 5, b"a/b/c/d": 6})

    assert [each.session_id for each in manager.list_sessions()] == ["s"]
    assert manager.get_sessions_for_user("ada") == [session]
    manager.purge_expired()
    manager.reindex()
    manager.fork("s", new_id="f")
    manager.verify(repair=True)
    session.add_message("user", "more")
    manager.save(session)
    assert manager.get_session("s") == session
    assert manager.clear_all() == 2
    assert real.hget(b"foreign:s", b"\xff") == b"theirs"
    assert real.hget(b"foreign:\xff\xfe", b"session") == b"theirs"


def test_an_item_that_is_no_text_is_refused_by_name(real):
    """Reading such an item through the mapping raises."""
    mapping = RedisMapping(real, "foreign:")
    real.hset("foreign:s", "session", b"\xff")

    with pytest.raises(SessionError, match="not UTF-8"):
        mapping["session/s"]
