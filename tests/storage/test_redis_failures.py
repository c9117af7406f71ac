"""Tests of what servers and clients refuse: each error names the cause and the remedy."""

import secrets
import threading
from contextlib import closing, contextmanager

import pytest
import redis
import valkey

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionManager,
    StorageError,
    StoragePermissionError,
    StorageUnreachableError,
    UnsuitableMappingError,
    open_store,
)
from pyai_sessions.storage.redis.server import Server
from tests.faults.hostile_server import HostileServer


def test_a_client_is_named_by_its_address_or_its_class():
    """A url without a host means this machine, as redis-py has it; what is no client is named with its article."""
    assert Server(redis.Redis.from_url("redis://")).where == "localhost:6379"
    for given, named in ((5, "an int"), ("text", "a str"), (redis.asyncio.Redis(), "a redis.asyncio.client.Redis")):
        with pytest.raises(UnsuitableMappingError, match=f"^{named} is not a synchronous client"):
            RedisMapping(given)


@pytest.fixture
def prefix():
    return f"fails:{secrets.token_hex(8)}:"


def calls(store):
    """Return calls that read, write, list and delete."""
    manager = SessionManager(store)
    return [
        lambda: manager.get_session("s"),
        lambda: manager.create_session("ada", session_id="s"),
        lambda: manager.append("s", {"role": "user", "content": "x"}),
        lambda: manager.list_sessions("ada"),
        lambda: manager.delete("s"),
    ]


def check_each(store, kind, cause, remedy):
    """Assert that each call raises exactly this class with this text."""
    for call in calls(store):
        with pytest.raises(StorageError) as caught:
            call()
        assert type(caught.value) is kind, repr(caught.value)
        assert cause in str(caught.value)
        assert remedy in str(caught.value)
        assert kind is StorageUnreachableError or "repeat the call" not in str(caught.value)
        assert "hush" not in f"{caught.value} {caught.value.__cause__}"


# Urls -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://localhost?timeout=3", "RedisSessionStore(url, timeout=...)"),
        ("redis://localhost?sockettimeout=3", "unknown option 'sockettimeout'"),
        ("redis://localhost?retry=3", "socket_timeout"),
        ("redis://localhost?socket_timeout=soon", "a number of seconds above 0"),
        ("redis://localhost?socket_timeout=nan", "a number of seconds above 0"),
        ("redis://localhost?socket_timeout=-1", "a number of seconds above 0"),
        ("redis://localhost?max_connections=many", "a whole number"),
        ("redis://localhost?socket_keepalive=perhaps", "true or false"),
        ("redis://localhost?client_name=", "is not text"),
        ("redis://localhost?db=1&db=2", "'db' twice"),
        ("redis://localhost/1?db=2", "twice"),
        ("redis://localhost?ssl_ca_certs=x", "rediss://"),
        ("redis://localhost?client_name=%ff", "UTF-8"),
        ("redis://localhost/abc", "number of a database"),
        ("redis://localhost/0/1", "number of a database"),
        ("redis://localhost/-1", "number of a database"),
        ("redis://:12/hush@localhost/0", "percent-encoded"),
        ("redis://:1#hush@localhost/0", "%23"),
        ("redis://localhost:99999", "cannot be read"),
        ("redis://localhost:port", "cannot be read"),
        ("redis:localhost", "//"),
        ("unix://localhost/tmp/x", "unix:///run/redis.sock"),
        ("unix://", "unix:///run/redis.sock"),
        ("http://localhost", "redis://"),
        (7, "an int"),
    ],
)
def test_a_url_of_which_a_part_would_be_passed_over_is_refused(url, told):
    """A URL with a part that would be ignored raises before connecting, without showing a possible password."""
    with pytest.raises(InvalidValueError) as caught:
        RedisSessionStore(url)

    assert caught.value.path == "url"
    assert told in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost/",
        "redis://ada:p%2Fw%23@localhost:6379/3",
        "redis:///2",
        "redis://[::1]:7/0",
        "redis://localhost?db=3&socket_timeout=1.5&health_check_interval=30&protocol=3&retry_on_timeout=true",
        "rediss://localhost:6380/0?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock?db=1",
        "unix://ada:pw@/run/redis.sock",
    ],
)
def test_what_is_a_url_is_accepted(url):
    """A URL may have every part, and options of stores and clients."""
    RedisSessionStore(url).close()
    open_store(url + ("&" if "?" in url else "?") + "prefix=app:&ttl=60&allow_eviction=true").close()


# Clients --------------------------------------------------------------------------------------------------------------


@contextmanager
def disconnecting(pool):
    """Close the connections of a pool at the end. A client does not close a pool that it was given."""
    try:
        yield
    finally:
        pool.disconnect()


@pytest.mark.parametrize("library", [redis, valkey])
def test_a_full_pool_says_so(valkey_server, prefix, library):
    """If all connections are in use, the error suggests a larger pool, since repeating would not help."""
    pool = library.ConnectionPool.from_url(valkey_server.url, max_connections=1)
    client = (redis.Redis if library is redis else valkey.Valkey)(connection_pool=pool)
    taken = client.pubsub()
    taken.subscribe("news")
    with disconnecting(pool), closing(RedisSessionStore(client=client, prefix=prefix)) as store:
        check_each(store, StorageError, "connections of the client's pool are in use", "max_connections")
        taken.close()
        SessionManager(store).create_session("ada", session_id="s")

        assert SessionManager(store).delete("s")


def test_threads_that_share_a_pool_that_waits_all_get_their_turn(valkey_server, prefix):
    """Eight threads can share one connection of a blocking pool."""
    pool = redis.BlockingConnectionPool.from_url(valkey_server.url, max_connections=1, timeout=60)
    with disconnecting(pool):
        manager = SessionManager(RedisSessionStore(client=redis.Redis(connection_pool=pool), prefix=prefix))
        ids = [f"s{n}" for n in range(8)]
        threads = [
            threading.Thread(target=manager.save, args=(Session(user_id="ada", session_id=each),)) for each in ids
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert manager.count() == 8
        assert manager.clear_all() == 8


# Servers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_wrong_password_and_a_missing_one_say_so(start_server, kind):
    """A wrong or missing password raises an error that says so."""
    server = start_server(kind)
    with server.client() as client:
        client.config_set("requirepass", "right")
    for credentials in (":hush@", "ada:hush@", ""):
        with closing(RedisSessionStore(server.url.replace("//", f"//{credentials}"), timeout=30)) as store:
            check_each(store, StoragePermissionError, "password", "redis://name:password@host:port")


@pytest.mark.parametrize(
    "rules", ["~* +@read +info", "~other:* +@all", "+@all -@scripting ~*", "~* +@all -info -config"]
)
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_user_who_may_not_do_what_a_store_does_is_told(start_server, kind, rules):
    """NOPERM raises an error that names the permission. A user who may not read settings can use the store."""
    server = start_server(kind)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "ada", "on", ">hush", *rules.split())
    with closing(RedisSessionStore(server.url.replace("//", "//ada:hush@"), timeout=30)) as store:
        manager = SessionManager(store)
        if "-config" in rules:
            manager.create_session("ada", session_id="s")
            assert manager.count() == 1
            return
        with pytest.raises(StoragePermissionError) as caught:
            manager.create_session("ada", session_id="s")
        assert "ACL SETUSER" in str(caught.value)
        assert isinstance(caught.value, PermissionError)


def test_a_key_of_another_type_says_so(any_server, prefix):
    """A key of another type in place of a session or index stays, and the error says what to do."""
    with any_server.client() as client, closing(RedisSessionStore(any_server.url, prefix=prefix)) as store:
        manager = SessionManager(store)
        for name, call in (
            ("s", lambda: manager.get_session("s")),
            ("s", lambda: manager.create_session("ada", session_id="s")),
            ("/active", lambda: manager.create_session("ada", session_id="t")),
            ("/user/ada/active", lambda: manager.list_sessions("ada")),
        ):
            client.set(prefix + name, "mine")
            with pytest.raises(StorageError) as caught:
                call()
            assert "WRONGTYPE" in str(caught.value)
            assert "use a prefix that nothing else uses" in str(caught.value)
            assert client.getdel(prefix + name) == b"mine"


@pytest.mark.parametrize(
    ("reply", "kind", "cause", "remedy"),
    [
        (b"-LOADING Redis is loading\r\n", StorageUnreachableError, "LOADING", "wait until it has loaded"),
        (b"-ERR max number of clients reached\r\n", StorageError, "as many clients", "maxclients"),
        (b"-DENIED Redis is running in protected mode\r\n", StoragePermissionError, "protected mode", "set a password"),
        (b"-MOVED 1 127.0.0.1:1\r\n", StorageError, "node of a cluster", "redis.RedisCluster"),
        (b"-ERR unknown command 'x', with args beginning with: hush\r\n", StorageError, "not know", "Redis 7.0"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", StorageError, "Redis's protocol", "check that a Redis"),
    ],
)
def test_what_a_server_refuses_says_why(reply, kind, cause, remedy):
    """Every refusal of a server raises an error with the cause and a remedy."""
    with HostileServer() as server, redis.Redis(port=server.port, socket_timeout=30, retry=None) as client:
        server.answer([reply], endless=True)
        check_each(KVSessionStore(RedisMapping(client, "p:")), kind, cause, remedy)


def test_a_server_without_tls_says_so(valkey_server):
    """A TLS client on a plain server raises an error that says so."""
    with closing(RedisSessionStore(valkey_server.url.replace("redis:", "rediss:"), timeout=1)) as store:
        with pytest.raises(StorageError) as caught:
            store.get("s")
        assert "TLS" in str(caught.value)
        assert "redis://" in str(caught.value)


def test_a_database_that_the_server_does_not_have_says_so(any_server):
    """An absent database number raises an error that says so."""
    with closing(RedisSessionStore(any_server.url.replace("/0", "/9999"), timeout=30)) as store:
        check_each(store, StorageError, "no database of this number", "redis://host:port/0")


def test_a_client_of_a_cluster_s_node_and_the_reverse_say_so(valkey_cluster):
    """A plain client on a cluster, and the reverse, raise errors that say so."""
    port = valkey_cluster.primaries()[0].port
    with closing(RedisSessionStore(f"redis://127.0.0.1:{port}")) as store, pytest.raises(StorageError) as caught:
        _ = [store.get(f"s{n}") for n in range(30)]
    assert "redis.RedisCluster" in str(caught.value)


# Eviction -------------------------------------------------------------------------------------------------------------


def limit(client, policy, memory="100mb"):
    client.config_set("maxmemory", memory)
    client.config_set("maxmemory-policy", policy)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_that_evicts_sessions_is_refused(start_server, kind):
    """A server that evicts raises before a write, with its policy and the remedy, unless you accept the loss."""
    server = start_server(kind)
    with server.client() as client:
        for policy, ttl, refused in (
            ("noeviction", None, False),
            ("allkeys-lru", None, True),
            ("allkeys-random", 60, True),
            ("volatile-lru", None, False),
            ("volatile-ttl", 60, True),
        ):
            limit(client, policy)
            stores = [
                RedisSessionStore(server.url, ttl=ttl),
                KVSessionStore(RedisMapping(client), ttl=ttl),
                RedisSessionStore(server.url, ttl=ttl, allow_eviction=True),
                open_store(f"{server.url}?allow_eviction=true" + (f"&ttl={ttl}" if ttl else "")),
            ]
            for n, store in enumerate(stores):
                if refused and n < 2:
                    with pytest.raises(UnsuitableMappingError) as caught:
                        SessionManager(store).create_session("ada", session_id="s")
                    assert "maxmemory-policy" in str(caught.value)
                    assert "allow_eviction=True" in str(caught.value)
                    assert client.keys() == []
                else:
                    SessionManager(store).create_session("ada", session_id="s")
                    assert SessionManager(store).clear_all() == 1
                store.close()
        limit(client, "allkeys-lru", "0")
        SessionManager(RedisMapping(client)).create_session("ada")


def test_a_cluster_that_evicts_sessions_is_refused(valkey_cluster, prefix):
    """A cluster raises if one of its servers evicts."""
    one = valkey_cluster.primaries()[-1]
    with one.client() as node, valkey_cluster.client() as client:
        limit(node, "allkeys-lru")
        try:
            with pytest.raises(UnsuitableMappingError):
                SessionManager(RedisMapping(client, prefix)).create_session("ada")
        finally:
            limit(node, "noeviction", "0")
        manager = SessionManager(RedisMapping(client, prefix))
        manager.create_session("ada", session_id="s")
        assert manager.delete("s")
