"""Tests of what an interrupted call leaves in a client's pool: connections, places and locks, case by case."""

import logging
import sys
import threading
from contextlib import ExitStack, closing
from queue import LifoQueue

import pytest
import redis
import valkey
import valkey.cluster

from pyai_sessions.storage.redis.clients import Clients
from pyai_sessions.storage.redis.pools import idle
from tests.clusters import Sentinel
from tests.faults.points import OURS, Stop, interrupt, stop
from tests.servers import find_free_port

pytestmark = [
    pytest.mark.usefixtures("own_garbage"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # within a client's __del__
    pytest.mark.filterwarnings("ignore:.*get_connection:DeprecationWarning"),  # by redis-py, of what valkey-py asks for
]

LIBRARIES = pytest.mark.parametrize("library", [redis, valkey])


def call_interrupted(clients, act, name, *, by=None, event="call", when=lambda _: True):
    """Make a call that raises Stop where a function of this name, called *by* another, begins. Return what it raised.

    With the event ``"opcode"`` that is at its first step *when* something holds.
    """
    reached = []

    def at_function(frame, kind, _):
        if reached or frame.f_code.co_name != name or by not in (None, frame.f_back.f_code.co_name):
            return None
        frame.f_trace_opcodes = event == "opcode"
        if kind == event and when(frame):
            reached.append(name)
            raise Stop
        return at_function

    before = sys.gettrace()
    sys.settrace(at_function)
    try:
        clients.call(act)
    except BaseException as err:  # noqa: BLE001 (it is what the test is about)
        return err
    finally:
        sys.settrace(before)
        assert reached
    return None


def class_of(library):
    return library.Redis if library is redis else library.Valkey


def client_of(library, pool):
    return closing(class_of(library).from_pool(pool))


def nodes_of(library, client):
    """Return the clients of the nodes that a cluster's client has used."""
    found = [getattr(each, f"{library.__name__}_connection") for each in client.get_nodes()]
    return [each for each in found if each is not None and idle(each.connection_pool)]


@pytest.fixture
def cluster(valkey_cluster):
    """Make a cluster client of either library."""
    port = valkey_cluster.primaries()[0].port
    kinds = {redis: redis.RedisCluster, valkey: valkey.cluster.ValkeyCluster}
    return lambda library: kinds[library](host="127.0.0.1", port=port, socket_timeout=30)


def ping(client):
    return client.ping()


def ask(client):
    return client.get("key")


def ask_together(client):
    with client.pipeline(transaction=False) as pipeline:
        for n in range(20):
            pipeline.get(f"key {n}")
        return pipeline.execute()


# Replies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "valkey", "own connection", "blocking", "valkey blocking"])
@pytest.mark.parametrize("act", [ask, ask_together])
def test_a_reply_that_was_not_read_is_for_nobody_else(valkey_server, kind, act):
    """If a call is interrupted before it read the reply, the next command gets its own reply."""
    library = valkey if "valkey" in kind else redis
    with ExitStack() as stack:
        if kind == "own connection":
            client = stack.enter_context(redis.Redis.from_url(valkey_server.url, single_connection_client=True))
        else:
            pools = library.BlockingConnectionPool if "blocking" in kind else library.ConnectionPool
            client = stack.enter_context(client_of(library, pools.from_url(valkey_server.url)))
        clients = Clients(client)
        assert clients.call(ping)

        assert type(call_interrupted(clients, act, "parse_response")) is Stop

        assert clients.call(lambda one: one.echo("text")) == b"text"
        assert client.echo("text") == b"text"


@LIBRARIES
def test_a_reply_of_a_connection_that_is_being_made_is_for_nobody_else(valkey_server, library):
    """A connection that was being made is given back by the client itself. Others' connections stay."""
    pool = library.BlockingConnectionPool.from_url(valkey_server.url, max_connections=2)
    with client_of(library, pool) as client:
        clients = Clients(client)
        lent = pool.get_connection("PING")
        lent.connect()

        assert type(call_interrupted(clients, ping, "read_response")) is Stop

        assert [each._sock for each in idle(pool)] == [None]
        assert lent._sock is not None
        pool.release(lent)


@pytest.fixture(scope="module")
def sentinel():
    with Sentinel("valkey-server") as sentinel:
        yield sentinel


def test_a_reply_of_a_sentinel_is_for_nobody_else(sentinel):
    """A sentinel's connection with an unread reply is closed and given back."""
    with sentinel.client(socket_timeout=30) as client:
        clients = Clients(client)

        assert type(call_interrupted(clients, ping, "parse_response")) is Stop

        pools = [each.connection_pool for each in client.connection_pool.sentinel_manager.sentinels]
        assert [count_lent(each) for each in pools] == [0] * len(pools)
        assert not any(each._sock for pool in pools for each in idle(pool))
        assert clients.call(ping)


@LIBRARIES
def test_an_error_that_a_server_answers_costs_no_connection(valkey_server, library):
    """An error reply that was read leaves the connection open."""
    with client_of(library, library.ConnectionPool.from_url(valkey_server.url)) as client:
        clients = Clients(client)
        connection = clients.call(lambda one: one.client_id())

        with pytest.raises(library.ResponseError):
            clients.call(lambda one: one.execute_command("NO SUCH COMMAND"))

        assert clients.call(lambda one: one.client_id()) == connection


def watched(kind, connected):
    """Return a pool class that records whether a connection is closed when it is given back."""

    class Watched(kind):
        def release(self, connection):
            connected.append(connection._sock is not None)
            super().release(connection)

    return Watched


@LIBRARIES
@pytest.mark.parametrize("where", [{"name": "parse_response"}, {"name": "notify", "by": "get"}])
def test_a_connection_is_closed_before_others_can_have_it(valkey_server, library, where):
    """A connection with an unread reply is closed before another thread can take it."""
    connected = []
    pool = watched(library.BlockingConnectionPool, connected).from_url(valkey_server.url)
    with client_of(library, pool) as client:
        clients = Clients(client)
        assert clients.call(ping)

        assert type(call_interrupted(clients, ping, **where)) is Stop

        assert connected == [True, False]


@LIBRARIES
def test_connections_to_a_cluster_are_closed_before_others_can_have_them(cluster, library):
    """A connection to a node with an unread reply, also of a pipeline, is closed before another thread can take it."""
    connected = []
    with cluster(library) as client:
        clients = Clients(client)
        clients.call(ask_together)
        for each in nodes_of(library, client):
            each.connection_pool = watched(library.ConnectionPool, connected)(**each.connection_pool.connection_kwargs)

        assert type(call_interrupted(clients, ask_together, "parse_response")) is Stop

        assert connected
        assert not any(connected)


@LIBRARIES
def test_a_reply_to_what_a_cluster_s_client_asks_by_itself_is_for_nobody_else(cluster, library):
    """A connection with an unread reply to the cluster client's own command is closed."""
    with cluster(library) as client:
        clients = Clients(client)
        clients.call(ask_together)

        pools = [each.connection_pool for each in nodes_of(library, client)]

        error = call_interrupted(clients, lambda one: one.nodes_manager.initialize(), "parse_response")

        assert type(error) is Stop
        assert [each._sock for pool in pools for each in idle(pool)] == [None] * len(pools)


# Connections ----------------------------------------------------------------------------------------------------------


def count_lent(pool):
    """Return the number of connections of a pool that are in use or lost."""
    if hasattr(pool, "_created_connections"):
        return pool._created_connections - len(pool._available_connections)
    return pool.max_connections - pool.pool.qsize()


@LIBRARIES
def test_a_connection_is_given_back_once(valkey_server, library):
    """A connection is given back once, wherever giving it back was interrupted."""
    pool = library.ConnectionPool.from_url(valkey_server.url)
    with client_of(library, pool) as client:
        clients = Clients(client)
        at, points = 0, 1
        while at <= points:
            tracer, _ = interrupt(lambda: clients.call(ping), at, stop, lines=True, only=OURS)
            points = points if at else tracer.points

            assert count_lent(pool) == 0, tracer.where
            at += 1
    assert points > 10


@LIBRARIES
def test_no_place_is_lost_where_no_server_answers(library):
    """A connection that could not be made is given back once, also after an interruption."""
    pool = library.ConnectionPool(host="127.0.0.1", port=find_free_port(), max_connections=2)
    with client_of(library, pool) as client:
        clients = Clients(client)

        assert type(call_interrupted(clients, ping, "release")) is Stop

        assert count_lent(pool) == 0
        assert len(idle(pool)) == 1


@LIBRARIES
def test_all_connections_of_a_call_to_a_cluster_are_given_back(cluster, library):
    """A call with a connection to each node gives all of them back."""
    with cluster(library) as client:
        clients = Clients(client)
        for n in range(20):
            clients.call(lambda one: one.set(f"key {n}", n))  # noqa: B023 (called at once)
        pools = [each.connection_pool for each in nodes_of(library, client)]

        assert type(call_interrupted(clients, ask_together, "parse_response")) is Stop

        assert [count_lent(each) for each in pools] == [0] * len(pools)
        assert clients.call(ask_together) == [f"{n}".encode() for n in range(20)]


@LIBRARIES
def test_a_connection_by_which_a_cluster_s_client_asks_by_itself_is_given_back(cluster, library):
    """A connection that the cluster client took for itself is given back."""
    with cluster(library) as client:
        clients = Clients(client)
        clients.call(ask_together)
        pools = [each.connection_pool for each in nodes_of(library, client)]

        error = call_interrupted(
            clients,
            lambda one: one.nodes_manager.initialize(),
            "_execute_command" if hasattr(class_of(library), "_execute_command") else "execute_command",
            event="opcode",
            when=lambda frame: "conn" in frame.f_locals,
        )

        assert type(error) is Stop
        assert [count_lent(each) for each in pools] == [0] * len(pools)


@LIBRARIES
def test_a_node_whose_pool_was_replaced_is_asked_by_the_new_one(cluster, library):
    """After a client learns of nodes anew, the new pool is used."""
    with cluster(library) as client:
        clients = Clients(client)
        clients.call(ask_together)
        nodes = nodes_of(library, client)
        for each in nodes:
            each.connection_pool = library.ConnectionPool(**each.connection_pool.connection_kwargs)

        clients.call(ask_together)

        assert [len(idle(each.connection_pool)) for each in nodes] == [1] * len(nodes)


@LIBRARIES
def test_a_client_s_own_connection_stays_its_own(valkey_server, library):
    """An interrupted call closes the client's own connection, and lends no other."""
    with closing(class_of(library).from_url(valkey_server.url, single_connection_client=True)) as client:
        clients = Clients(client)
        assert clients.call(ping)

        assert type(call_interrupted(clients, ping, "parse_response")) is Stop

        assert client.connection._sock is None
        assert client.connection not in idle(client.connection_pool)
        assert clients.call(ping)


@LIBRARIES
def test_a_connection_of_another_thread_stays_its_own(valkey_server, library):
    """An interrupted call that closes all connections takes none from other threads."""
    pool = library.BlockingConnectionPool.from_url(valkey_server.url, max_connections=2)
    with client_of(library, pool) as client:
        clients = Clients(client)
        theirs = pool.get_connection("PING")

        assert type(call_interrupted(clients, lambda one: one.connection_pool.disconnect(), "on_disconnect")) is Stop

        assert theirs not in idle(pool)
        pool.release(theirs)


# Waiting --------------------------------------------------------------------------------------------------------------


@LIBRARIES
def test_a_call_that_is_cut_off_while_it_waits_says_so(valkey_server, library):
    """A call that is interrupted while it waits for a connection has none to give back."""
    pool = library.BlockingConnectionPool.from_url(valkey_server.url, max_connections=1, timeout=30)
    with client_of(library, pool) as client:
        clients = Clients(client)
        theirs = pool.get_connection("PING")

        assert type(call_interrupted(clients, ping, "wait")) is Stop

        pool.release(theirs)
        assert clients.call(ping)
        assert count_lent(pool) == 0


@LIBRARIES
def test_a_place_of_a_pool_is_given_back_whatever_others_do_meanwhile(valkey_server, library):
    """The place of a connection that was to be made is given back, while another is, too."""
    pool = library.BlockingConnectionPool.from_url(valkey_server.url, max_connections=2, timeout=30)
    with client_of(library, pool) as client:
        clients = Clients(client)
        theirs = pool.get_connection("PING")

        error = call_interrupted(clients, ping, "make_connection", when=lambda _: pool.release(theirs) is None)

        assert type(error) is Stop
        assert count_lent(pool) == 0


@LIBRARIES
def test_one_that_waits_is_told_of_a_connection_whose_giving_back_was_cut_off(valkey_server, library):
    """A waiter is woken even if giving the connection back was interrupted before the notification."""
    pool = library.BlockingConnectionPool.from_url(valkey_server.url, max_connections=1, timeout=30)
    waited = []

    def wait():
        waited.append(pool.get_connection("PING"))

    def ask_while_another_waits(one):
        one.ping()
        other.start()
        while not pool.pool.not_empty._waiters:
            pass

    with client_of(library, pool) as client:
        other = threading.Thread(target=wait)
        clients = Clients(client)
        assert clients.call(ping)

        assert type(call_interrupted(clients, ask_while_another_waits, "notify", by="put")) is Stop

        other.join()
        assert len(waited) == 1
        pool.release(waited[0])


class Lock:
    """A queue's lock that tells whether somebody waits for it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.waited = threading.Event()

    def acquire(self, *arguments, **options):
        if self._lock.acquire(blocking=False):
            return True
        if arguments != (False,):  # as a condition does, in order to see whether it is locked
            self.waited.set()
        return self._lock.acquire(*arguments, **options)

    def release(self):
        self._lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


def test_a_queue_that_another_thread_uses_is_left_to_it(valkey_server):
    """A queue's lock is freed only if no thread will give it back."""

    class Queue(LifoQueue):
        def __init__(self, maxsize):
            super().__init__(maxsize)
            self.mutex = lock
            self.not_empty, self.not_full = threading.Condition(lock), threading.Condition(lock)

    def use():
        with lock:
            used.set()
            lock.waited.wait()
        ended.append(True)

    lock, used, ended = Lock(), threading.Event(), []
    pool = redis.BlockingConnectionPool.from_url(valkey_server.url, max_connections=2, queue_class=Queue)
    with client_of(redis, pool) as client:
        clients = Clients(client)

        def ask_while_another_uses_it(one):
            one.ping()
            other.start()
            used.wait()
            raise Stop

        other = threading.Thread(target=use)
        with pytest.raises(Stop):
            clients.call(ask_while_another_uses_it)

        lock.waited.set()
        other.join()
        assert ended
        assert count_lent(pool) == 0


# What else ------------------------------------------------------------------------------------------------------------


def test_a_client_of_an_unknown_class_is_used_as_it_is():
    """With a client of an unknown class, the call's exception is raised as it is."""
    with pytest.raises(Stop):
        Clients(object()).call(lambda _: stop())


@pytest.mark.skipif(not hasattr(logging, "_releaseLock"), reason="Python 3.13 has no such function")
@pytest.mark.parametrize("event", ["call", "opcode"])
def test_the_lock_of_logging_is_freed_once(event):
    """The lock of `logging` is freed if its function was interrupted before it did so, and not twice."""

    def use():
        with logging._lock:
            used.append(True)

    used = []

    error = call_interrupted(
        Clients(object()),
        lambda _: logging.getLogger(f"{__name__}.{event}"),
        "_releaseLock",
        event=event,
        when=lambda _: event == "call" or not logging._lock._is_owned(),
    )

    assert type(error) is Stop
    other = threading.Thread(target=use, daemon=True)
    other.start()
    other.join(30)
    assert used
