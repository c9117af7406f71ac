"""An exception from outside between a command and its reply: nobody else is given that reply.

Not held, since it is beyond us: `BlockingConnectionPool` waits in a `queue.Queue`, whose lock stays locked where an
exception hits the entry of its own functions.
"""

import secrets
from contextlib import ExitStack, closing, contextmanager

import pytest
import redis
import valkey
import valkey.cluster

from pyai_sessions import RedisSessionStore, SessionManager
from pyai_sessions.backends.clients import Clients
from tests.clusters import Sentinel
from tests.faults.interrupts import CALLS, Stop, attack, attacked, interrupt

KINDS = [
    "redis",
    "valkey",
    "own connection",
    "blocking pool",
    "redis cluster",
    "valkey cluster",
    "sentinel",
]


class TimeLimit(Exception):  # noqa: N818 (not an error of any library)
    """What a signal's handler raises, as an ordinary exception."""


@pytest.fixture(scope="module")
def sentinel():
    with Sentinel("valkey-server") as sentinel:
        yield sentinel


@pytest.fixture(params=KINDS)
def make(request):
    """Make clients of one kind, each with new connections."""
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
            library = valkey.Valkey if kind == "valkey" else redis.Redis
            options |= {"single_connection_client": True} if kind == "own connection" else {}
            url = request.getfixturevalue("valkey_server").url
            yield lambda: stack.enter_context(library.from_url(url, **options))


LATE = "for _ = 1, 300000 do end return 'late'"
"""What the server answers so late that the reply is not there yet when the call has been interrupted."""


def ask_alone(client, key):
    return client.execute_command("EVAL", LATE, 1, key)


def ask_together(client, key):
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(2):
            pipeline.execute_command("EVAL", LATE, 1, key)
        return pipeline.execute(raise_on_error=False)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # within a client's __del__
@pytest.mark.parametrize("ask", [ask_alone, ask_together])
@pytest.mark.parametrize("error", [Stop, TimeLimit])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
def test_no_reply_is_left_for_another_command(make, ask, error, connected, long_form):
    """At the entry of any function, ours or the client's: each later command gets its own reply, for others, too."""
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
            step = 1 if long_form else 1 + points // 25
        assert outcome in (b"late", [b"late"] * 2) or (at and type(outcome) is error), tracer.where
        check_what_follows(client, clients, at, tracer.where)
        at += step
    assert points > 10


class OnAServer:
    """Stores on a server or a cluster, each with a client of its own."""

    def __init__(self, make):
        self._make = make
        self._prefix = f"stop:{secrets.token_hex(8)}:"

    @contextmanager
    def open(self, *, timeout=10.0, **options):
        client = self._make()
        with closing(RedisSessionStore(client=client, prefix=self._prefix, timeout=timeout, **options)) as store:
            yield SessionManager(store)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("make", ["redis", "valkey", "redis cluster"], indirect=True)
def test_after_an_interruption_all_goes_on_on_a_server(make, name, long_form):
    """Whatever point of a call is interrupted, of ours or of the client: all that follows is right, from everywhere."""
    with attacked(OnAServer(make)) as managers:
        tally = attack(managers, name, lines=long_form, most=None if long_form else 12)
        managers.manager.clear_all()

    assert tally.points
    assert not tally.wrong, "\n".join([str(tally), *tally.examples])
