"""Real deployments of several servers for the tests, all on 127.0.0.1: a cluster, and a primary under sentinels."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import redis
import redis.cluster
import redis.sentinel

from tests.servers import Server, find_free_port, find_program

DEADLINE = 90.0  # seconds for the servers to agree, or for a slot to move
NODE_TIMEOUT = 1500  # milliseconds of silence after which the others consider a node dead
SLOTS = 16_384
PRIMARIES = 3
IN_STEP_AT_ONCE = ("--repl-diskless-sync-delay", "0")


def wait_until(what: str, so: Callable[[], bool]) -> None:
    """Return when *so* returns true. An error of the server counts as false."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with suppress(redis.ConnectionError, redis.TimeoutError):
            if so():
                return
        time.sleep(0.02)
    msg = f"not within {DEADLINE} s: {what}"
    raise TimeoutError(msg)


# A cluster ------------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What a node knows about a node."""

    primary: str | None  # the id of its primary
    slots: tuple[tuple[int, int], ...]
    reachable: bool


class Node(Server):
    """A server of a cluster, with its node id."""

    def __init__(self, program: str, *args: str) -> None:
        self.bus_port = find_free_port()
        self.id = ""
        super().__init__(
            program,
            *("--cluster-enabled", "yes"),
            *("--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", str(NODE_TIMEOUT)),
            *("--cluster-replica-validity-factor", "0"),  # a replica is promoted, no matter how long it was cut off
            *("--cluster-allow-replica-migration", "no"),  # a primary without slots keeps its replica
            *IN_STEP_AT_ONCE,
            *args,
        )

    def start(self) -> None:
        """Start the server, and return when it answers. It may not be in step with the others yet."""
        super().start()
        self.id = self.say("CLUSTER MYID").decode()

    def say(self, *command):
        """Run a command on a new connection, and return the reply."""
        with self.client() as client:
            return client.execute_command(*command)

    def known(self) -> dict[str, Known]:
        """Return what this node knows about each node, by id."""
        return {
            each["node_id"]: Known(
                primary=None if each["master_id"] == "-" else each["master_id"],
                slots=tuple((int(run[0]), int(run[-1])) for run in each["slots"]),
                reachable=each["connected"] and not {"fail", "fail?"} & set(each["flags"].split(",")),
            )
            for each in self.say("CLUSTER NODES").values()
        }

    def serves(self) -> bool:
        """Return whether it accepts commands, and follows its primary if it has one."""
        link = self.say("INFO", "replication").get("master_link_status", "up")
        return link == "up" and self.say("CLUSTER INFO")["cluster_state"] == "ok"


class Cluster:
    """A cluster for tests: `Cluster("valkey-server", "--appendonly", "yes")`, with arguments for each node.

    Three primaries have a third of the slots each, and each of them a replica, or none with `replicas=0`. The nodes are
    servers, to be killed and paused like any. A primary that stores nothing on disk, and is started again before its
    replica was promoted, comes back empty and empties the replica.

    As a context manager it is started on entry and closed on exit. One that is open when Python exits is closed then.
    """

    def __init__(self, program: str, *args: str, replicas: int = 1) -> None:
        self.nodes = [Node(program, *args) for _ in range(PRIMARIES * (1 + replicas))]

    def __repr__(self) -> str:
        return f"<Cluster of {self.nodes[0].program} at {', '.join(str(each.port) for each in self.nodes)}>"

    def __enter__(self) -> "Cluster":  # noqa: PYI034  typing.Self is Python 3.11's
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return the address of a running node. A client learns the others from it."""
        return self._up()[0].url

    def client(self, **options) -> redis.cluster.RedisCluster:
        """Return a client that waits at most 30 seconds for an answer. The caller closes it."""
        nodes = [redis.cluster.ClusterNode("127.0.0.1", each.port) for each in self._up()]
        defaults = {"startup_nodes": nodes, "socket_timeout": 30.0, "socket_connect_timeout": 30.0}
        return redis.cluster.RedisCluster(**(defaults | options))

    def start(self) -> None:
        """Start and join the nodes, and return when all agree. It takes 2 seconds."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for each in self.nodes:
            each.start()
        primaries, replicas = self.nodes[:PRIMARIES], self.nodes[PRIMARIES:]
        for n, each in enumerate(primaries):
            each.say("CLUSTER SET-CONFIG-EPOCH", n + 1)
            each.say("CLUSTER ADDSLOTSRANGE", SLOTS * n // PRIMARIES, SLOTS * (n + 1) // PRIMARIES - 1)
        for each in self.nodes[1:]:
            self.nodes[0].say("CLUSTER MEET", "127.0.0.1", each.port, each.bus_port)
        ids = {each.id for each in self.nodes}
        wait_until("all know all", lambda: all(each.known().keys() == ids for each in self.nodes))
        for n, each in enumerate(replicas):
            each.say("CLUSTER REPLICATE", primaries[n % PRIMARIES].id)
        self.wait_until_ok()

    def close(self) -> None:
        """End the nodes, and remove their folders."""
        for each in self.nodes:
            each.close()

    def wait_until_ok(self) -> None:
        """Return when all running nodes serve, and agree on who has which slot.

        After a primary was killed: when its replica is promoted. Every replica is then connected to its primary.
        """
        wait_until(f"{self!r} is ok", self._ok)

    def _ok(self) -> bool:
        up = self._up()
        opinions = {frozenset((each.id, known.get(each.id)) for each in up) for known in (each.known() for each in up)}
        if len(opinions) > 1:
            return False
        known = [each for _, each in opinions.pop()]
        if not all(known) or not all(each.reachable for each in known):
            return False
        covered = sum(last + 1 - first for each in known for first, last in each.slots)
        return covered == SLOTS and all(each.serves() for each in up)

    def _up(self) -> list[Node]:
        return [each for each in self.nodes if each.pid is not None and not each.paused]

    # Who has what ----------------------------------------------------------------------------------------------------

    def primaries(self) -> list[Node]:
        """Return the running primaries."""
        known = self._up()[0].known()
        return [each for each in self._up() if known[each.id].primary is None]

    def primary_of(self, slot: int) -> Node:
        """Return the node that has a slot, according to the first running node."""
        known = self._up()[0].known()
        for each in self.nodes:
            if any(first <= slot <= last for first, last in known[each.id].slots):
                return each
        msg = f"no node has slot {slot}"
        raise LookupError(msg)

    def replica_of(self, primary: Node) -> Node:
        """Return a running replica of a primary."""
        known = self._up()[0].known()
        for each in self._up():
            if known[each.id].primary == primary.id:
                return each
        msg = f"{primary!r} has no running replica"
        raise LookupError(msg)

    # What happens to it ----------------------------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """Kill a node (SIGKILL). `wait_until_ok` then waits for the promotion of its replica."""
        node.kill()

    def restart(self, node: Node) -> None:
        """Start or restart a node, and return when it is in step with the others."""
        if node.pid is not None:
            node.stop()
        node.start()
        self.wait_until_ok()

    def flush(self) -> None:
        """Remove all keys."""
        for each in self.primaries():
            each.say("FLUSHALL")

    def migrate_slot(self, slot: int, target: Node, batch: int = 10) -> Iterator[int]:
        """Move a slot step by step, *batch* keys at each step of the iteration. Yield the number of keys moved.

        The first step moves none: it announces the move, and from then on the slot lies with both nodes. When the
        iteration ends, the target has it and all nodes know.
        """
        source = self.primary_of(slot)
        target.say("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.say("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        yield 0
        # Two words: redis-py decodes the reply to "CLUSTER GETKEYSINSLOT", and not every key is UTF-8.
        while keys := source.say("CLUSTER", "GETKEYSINSLOT", slot, batch):
            source.say("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            yield len(keys)
        for each in (target, source, *self.primaries()):
            each.say("CLUSTER SETSLOT", slot, "NODE", target.id)
        self.wait_until_ok()

    def migrate_slots_atomically(self, first: int, last: int, target: Node) -> None:
        """Move a range of one node's slots in one step, and return when it is done. Redis 7 cannot do this."""
        source = self.primary_of(first)
        before = set(_migrations(source))
        source.say("CLUSTER MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", target.id)

        def over() -> bool:
            (name,) = set(_migrations(source)) - before
            state, message = _migrations(source)[name]
            if state in (b"failed", b"cancelled"):
                msg = f"slots {first} to {last} were not moved: {state} {message}"
                raise RuntimeError(msg)
            return state == b"success"

        wait_until(f"slots {first} to {last} have moved", over)
        self.wait_until_ok()


def _migrations(node: Node) -> dict[bytes, tuple[bytes, bytes]]:
    """Return the state and message of each atomic migration by name, finished ones included."""
    found = {}
    for each in node.say("CLUSTER GETSLOTMIGRATIONS"):
        fields = each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True))
        found[fields[b"name"]] = (fields[b"state"], fields[b"message"])
    return found


# A primary under sentinels --------------------------------------------------------------------------------------------


class Watcher(Server):
    """A sentinel process that watches the primary on a port."""

    def __init__(self, program: str, watched: int) -> None:
        super().__init__(program)
        self.watched = watched

    def _command(self) -> list[str]:
        config = self.folder / "sentinel.conf"  # it rewrites this file, so what it learned survives a restart
        if not config.exists():
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nloglevel warning\n"
                f"sentinel monitor main 127.0.0.1 {self.watched} 2\n"
                "sentinel down-after-milliseconds main 1000\n"
                "sentinel failover-timeout main 3000\n"
            )
        return [find_program(self.program), str(config), "--sentinel"]


class Sentinel:
    """A primary and its replica under three sentinels, of which two must agree: `Sentinel("valkey-server")`.

    As a context manager it is started on entry and closed on exit. One that is open when Python exits is closed then.
    """

    def __init__(self, program: str, *args: str) -> None:
        first = Server(program, *IN_STEP_AT_ONCE, *args)
        second = Server(program, *IN_STEP_AT_ONCE, *args, "--replicaof", "127.0.0.1", str(first.port))
        self.servers = [first, second]
        self.sentinels = [Watcher(program, first.port) for _ in range(3)]

    def __repr__(self) -> str:
        return f"<Sentinel of {self.servers[0].program} at {', '.join(str(each.port) for each in self.servers)}>"

    def __enter__(self) -> "Sentinel":  # noqa: PYI034  typing.Self is Python 3.11's
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start all, and return when the replica is in step and all sentinels know each other."""
        try:
            for each in self.servers:
                each.start()
            wait_until("the replica is in step", lambda: self._in_step(self.servers[1]))
            for each in self.sentinels:
                each.start()
                with each.client() as client:  # what it does every 2 or 10 seconds, it does at once
                    for name in ("info-period", "publish-period", "ask-period"):
                        client.execute_command("SENTINEL", "DEBUG", name, "100")
            wait_until("the sentinels know all", self._known)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes, and remove their folders."""
        for each in (*self.sentinels, *self.servers):
            each.close()

    def client(self, **options) -> redis.Redis:
        """Return a client of the present primary, which waits at most 30 seconds for an answer."""
        options = {"socket_timeout": 30.0, "socket_connect_timeout": 30.0} | options
        places = [("127.0.0.1", each.port) for each in self.sentinels]
        return redis.sentinel.Sentinel(places, **options).master_for("main")

    def primary(self) -> Server:
        """Return the server that all sentinels consider the primary."""
        (port,) = {self._told(each)["port"] for each in self.sentinels}
        return next(each for each in self.servers if each.port == port)

    def kill_primary(self) -> None:
        """Kill the primary (SIGKILL), and return when its replica has been promoted."""
        killed = self.primary()
        (other,) = (each for each in self.servers if each is not killed)
        killed.kill()
        wait_until(f"{other!r} is promoted", lambda: self._promoted(other))

    def restart(self, server: Server) -> None:
        """Start a killed server, and return when it follows the promoted one."""
        server.start()
        wait_until(f"{server!r} is in step", lambda: self._in_step(server))

    def _promoted(self, server: Server) -> bool:
        with server.client() as client:
            role = client.info("replication")["role"]
        return role == "master" and all(self._told(each)["port"] == server.port for each in self.sentinels)

    def _in_step(self, server: Server) -> bool:
        with server.client() as client:
            return client.info("replication").get("master_link_status") == "up"

    def _known(self) -> bool:
        told = [self._told(each) for each in self.sentinels]
        return all((each["num-slaves"], each["num-other-sentinels"]) == (1, 2) for each in told)

    def _told(self, sentinel: Watcher) -> dict:
        with sentinel.client() as client:
            return client.sentinel_master("main")
