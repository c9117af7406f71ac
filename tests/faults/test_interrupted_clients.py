"""Tests of interruptions inside a Redis client: no other call gets its reply, and none waits for ever."""

import secrets
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
import redis
import valkey
import valkey.cluster

from pyai_sessions import RedisSessionStore, SessionManager
from pyai_sessions.storage.redis.clients import Clients
from tests.clusters import Sentinel
from tests.faults.calls import CALLS, CHANGES, each_in_short
from tests.faults.interrupts import Points, attack, attacked
from tests.faults.points import Stop, interrupt, stop

pytestmark = pytest.mark.wide

FEW = 4
"""Connections of a bounded pool: more than concurrent calls, far fewer than interruptions."""


def _blocking(library, url, **options):
    pool = library.BlockingConnectionPool.from_url(url, max_connections=FEW, timeout=30, **options)
    return library.Redis.from_pool(pool) if library is redis else library.Valkey.from_pool(pool)


ON_ONE_SERVER = {
    "redis": lambda url, **options: redis.Redis.from_url(url, max_connections=FEW, **options),
    "valkey": lambda url, **options: valkey.Valkey.from_url(url, max_connections=FEW, **options),
    "by hand": lambda url, **_: redis.Redis(port=urlsplit(url).port),
    "own connection": lambda url, **options: redis.Redis.from_url(url, single_connection_client=True, **options),
    "text": lambda url, **options: redis.Redis.from_url(url, decode_responses=True, **options),
    "valkey text": lambda url, **options: valkey.Valkey.from_url(url, decode_responses=True, **options),
    "blocking pool": partial(_blocking, redis),
    "valkey blocking pool": partial(_blocking, valkey),
}
BOUNDED = ["redis", "valkey", "blocking pool", "valkey blocking pool"]
KINDS = [*ON_ONE_SERVER, "redis cluster", "valkey cluster", "sentinel"]
DIFFERENT = ["redis", "valkey", "own connection", "blocking pool", "redis cluster", "valkey cluster", "sentinel"]
"""Kinds of clients that get their connection in different ways."""


class TimeLimit(Exception):  # noqa: N818 (not an error of any library)
    """A signal handler's exception, derived from Exception."""


@pytest.fixture(scope="module")
def sentinel():
    with Sentinel("valkey-server") as sentinel:
        yield sentinel


@pytest.fixture
def make(request):
    """Make clients of one kind with new connections."""
    kind, options = request.param, {"socket_timeout": 30}
    with ExitStack() as stack:
        if "cluster" in kind:
            port = request.getfixturevalue("valkey_cluster").primaries()[0].port
            library = redis.RedisCluster if kind == "redis cluster" else valkey.cluster.ValkeyCluster
            yield lambda: stack.enter_context(library(host="127.0.0.1", port=port, **options))
        elif kind == "sentinel":
            sentinel = request.getfixturevalue("sentinel")
            yield lambda: stack.enter_context(sentinel.client(**options))
        else:
            url = request.getfixturevalue("valkey_server").url
            yield lambda: stack.enter_context(ON_ONE_SERVER[kind](url, **options))


LATE = "for _ = 1, 300000 do end return 'late'"
"""A command whose reply comes only after the call was interrupted."""


def ask_alone(client, key):
    return client.execute_command("EVAL", LATE, 1, key)


def ask_together(client, key):
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(2):
            pipeline.execute_command("EVAL", LATE, 1, key)
        return pipeline.execute(raise_on_error=False)


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # within a client's __del__
@pytest.mark.parametrize("make", DIFFERENT, indirect=True)
@pytest.mark.parametrize(
    ("error", "ask"),
    [
        (Stop, ask_alone),
        (TimeLimit, ask_together),
        pytest.param(Stop, ask_together, marks=pytest.mark.long),
        pytest.param(TimeLimit, ask_alone, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
def test_no_reply_is_left_for_another_command(make, ask, error, connected, long_form):
    """After an interruption of a command, each later command gets its own reply."""
    key = f"late:{secrets.token_hex(8)}"

    def act():
        raise error

    def check_what_follows(client, clients, at, where):
        for n in range(3):
            text = f"{at}/{n}".encode()
            for asked in (clients.call, lambda ask: ask(client)):  # as a call asks, and as the client's owner does
                assert asked(lambda one: one.set(key, text)) in (True, b"OK"), where  # noqa: B023 (called at once)
                assert asked(lambda one: one.get(key)) == text, where

    client = make()
    clients = Clients(client)
    at, points, step = 0, 1, 1
    while at <= points:
        if not connected or at % (20 * step) == 0:
            client = make()
            clients = Clients(client)
        if connected:
            clients.call(lambda one: one.set(key, "before"))
        tracer, outcome = interrupt(lambda: clients.call(lambda one: ask(one, key)), at, act)  # noqa: B023 (likewise)
        if at == 0:
            points = tracer.points
            step = 1 + points // (300 if long_form else 12)
        assert outcome in (b"late", [b"late"] * 2) or (at and type(outcome) is error), tracer.where
        check_what_follows(client, clients, at, tracer.where)
        at += step
    assert points > 10


def count_lent(client):
    """Return the number of connections of a pool that are in use or lost."""
    pool = client.connection_pool
    if hasattr(pool, "_created_connections"):
        return pool._created_connections - len(pool._available_connections)
    return pool.max_connections - pool.pool.qsize()


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*get_connection:DeprecationWarning")  # by redis-py, of what valkey-py asks for
@pytest.mark.parametrize("make", BOUNDED, indirect=True)
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
def test_a_pool_with_a_limit_keeps_its_connections(make, connected, long_form):
    """After an interruption at any point, the connection goes back to the pool."""
    at, points, step = 0, 1, 1
    while at <= points:
        if at == 0 or not connected:
            client = make()
            clients = Clients(client)
        if connected:
            clients.call(lambda one: one.ping())
        tracer, _ = interrupt(lambda: clients.call(lambda one: one.echo("text")), at, stop)  # noqa: B023 (called at once)
        if at == 0:
            points = tracer.points
            step = 1 + points // (1000 if long_form else 100)

        assert count_lent(client) == 0, tracer.where

        with ExitStack() as lent:
            for _ in range(FEW):
                connection = client.connection_pool.get_connection("PING")
                lent.callback(client.connection_pool.release, connection)
        at += step
    assert points > 20


class OnAServer:
    """Stores on a server or a cluster, each with its own client."""

    def __init__(self, make):
        self._make = make
        self._prefix = f"stop:{secrets.token_hex(8)}:"

    @contextmanager
    def open(self, *, timeout=10.0, **options):
        client = self._make()
        with closing(RedisSessionStore(client=client, prefix=self._prefix, timeout=timeout, **options)) as store:
            yield SessionManager(store)


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("make", "name"), each_in_short(KINDS, CALLS | CHANGES, ["redis"]), indirect=["make"])
def test_after_an_interruption_all_goes_on_on_a_server(make, name, long_form, check, request):
    """After an interruption at any point, of the package or of the client, all later calls are right."""
    kind = request.node.callspec.params["make"]
    if long_form:
        points = Points(lines=100) if kind in ("redis", "valkey") else Points(300, 50)
    else:
        points = Points(12 if kind in ("redis", "valkey", "redis cluster") else 2)
    with attacked(OnAServer(make)) as managers:
        tally = attack(managers, name, points)

    check(tally)
