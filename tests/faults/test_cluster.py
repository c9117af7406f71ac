"""Tests of failovers and moving slots under load, on clusters and under sentinels."""

import threading
import time
from contextlib import closing, contextmanager
from itertools import count

import pytest

from pyai_sessions import Message, RedisMapping, RedisSessionStore, SessionManager
from pyai_sessions.errors import StorageError
from pyai_sessions.testing import Recorder, check_events
from tests.clusters import Sentinel

pytestmark = pytest.mark.wide

SESSIONS = [f"s{n}" for n in range(12)]
PATIENCE = 30.0  # seconds for writers to be served again


class Load:
    """Writers with a client and sessions each, which repeat failed calls until they succeed."""

    def __init__(self, open_client, prefix, writers=3):
        self.open_client, self.prefix = open_client, prefix
        self.in_hand = set()
        self.events = []
        self.turns = []
        self.errors = []
        self.failures = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n, writers)) for n in range(writers)]

    @contextmanager
    def manager(self):
        with self.open_client() as client, closing(RedisSessionStore(client=client, prefix=self.prefix)) as store:
            yield SessionManager(store)

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for each in self._threads:
            each.join(PATIENCE)
        assert self.failures == []

    def go_on(self, turns=60):
        """Wait until so many more turns are acknowledged."""
        wanted, end = len(self.turns) + turns, time.monotonic() + PATIENCE
        while len(self.turns) < wanted:
            assert time.monotonic() < end, "the writers are not served"
            assert self.failures == []
            time.sleep(0.01)

    def _write(self, first, step):
        try:
            with self.manager() as manager:
                recorder = Recorder(manager, self.events.append)
                mine = SESSIONS[first::step]
                for each in mine:
                    self._until_stored(lambda each=each: recorder.get_or_create_session(each, f"user {first}"))
                hands = {each: self._until_stored(lambda each=each: recorder.get_session(each)) for each in mine[::2]}
                self.in_hand.update(hands)
                for n in count():
                    for each in mine:
                        if self._stop.is_set():
                            return
                        self._turn(recorder, each, hands.get(each), n)
                        self.turns.append(each)
        except Exception as err:  # noqa: BLE001 (the test reports it)
            self.failures.append(err)

    def _turn(self, manager, session_id, hand, n):
        """Save a turn from a copy in hand, or append it and read the session."""
        turn = [Message(role, f"{role} {n}") for role in ("user", "assistant")]
        if hand is None:
            self._until_stored(lambda: manager.append(session_id, *turn))
            self._until_stored(lambda: manager.get_session(session_id))
            return
        for message in turn:
            hand.add_message(message.role, message.content)
        self._until_stored(lambda: manager.save(hand))

    def _until_stored(self, act):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except StorageError as err:  # noqa: PERF203 (it waits)
                self.errors.append(err)
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def check(self, *, may_lose=False):
        """Check events and indexes. If the storage may lose turns, those without a copy may be lost."""
        with self.manager() as manager:
            check_events(manager, [each for each in self.events if each.session_id in self.in_hand])
            others = [each for each in self.events if each.session_id not in self.in_hand]
            check_events(manager, others, may_lose=may_lose)
            listed = {each.session_id for n in range(3) for each in manager.list_sessions(f"user {n}", limit=None)}
            assert listed == set(SESSIONS)
            assert {each.session_id for each in manager.list_sessions(limit=None)} == set(SESSIONS)
            manager.reindex()
            assert manager.verify().problems == []
            assert manager.clear_all() == len(SESSIONS)


@pytest.fixture
def load(any_cluster, request):
    yield Load(any_cluster.client, f"load:{request.node.name}:")
    any_cluster.wait_until_ok()


def in_use(client, cluster, prefix):
    """Return a slot in which a session lies, and the node that has it."""
    slot = client.keyslot(f"{prefix}s0")
    return slot, cluster.primary_of(slot)


def test_a_replica_takes_over_from_a_killed_node(load, any_cluster):
    """After a failover no turn is torn or doubled, copies restore what the node lost, and writers go on.

    Replication is asynchronous: a turn that was acknowledged and not yet replicated is lost with its server, by the
    server's own promise. Here a writer that appends without a copy may lose one, whole; one with a copy may not.
    """
    with load, any_cluster.client() as client:
        load.go_on()
        _, node = in_use(client, any_cluster, load.prefix)
        any_cluster.kill(node)
        any_cluster.wait_until_ok()
        load.go_on()
    any_cluster.restart(node)
    assert load.errors, "nothing failed while a node was down: the test proves nothing"
    load.check(may_lose=True)


def test_slots_move_the_classic_way_under_load(load, any_cluster):
    """While a slot moves between two servers, all saves, appends, reads and lists succeed."""
    with load, any_cluster.client() as client:
        load.go_on()
        slot, source = in_use(client, any_cluster, load.prefix)
        index = client.keyslot(f"{load.prefix}/user/user%200/active")
        target = next(each for each in any_cluster.primaries() if each is not source)
        for step in any_cluster.migrate_slot(slot, target, batch=1):
            load.go_on(20)
            del step
        if index != slot:
            source = any_cluster.primary_of(index)
            target = next(each for each in any_cluster.primaries() if each is not source)
            for step in any_cluster.migrate_slot(index, target, batch=1):
                load.go_on(20)
                del step
        load.go_on()
    assert load.errors == []
    load.check()


def test_slots_move_as_a_whole_under_load(valkey_cluster, request):
    """While Valkey moves a slot atomically, all saves, appends, reads and lists succeed."""
    load = Load(valkey_cluster.client, f"load:{request.node.name}:")
    with load, valkey_cluster.client() as client:
        load.go_on()
        slot, source = in_use(client, valkey_cluster, load.prefix)
        target = next(each for each in valkey_cluster.primaries() if each is not source)
        valkey_cluster.migrate_slots_atomically(slot, slot, target)
        load.go_on()
    assert load.errors == []
    load.check()


def test_sentinels_promote_a_replica_under_load():
    """The client of `Sentinel.master_for` finds the new primary, and writers go on."""
    with Sentinel("valkey-server") as sentinel:
        load = Load(sentinel.client, "load:")
        with load:
            load.go_on()
            sentinel.kill_primary()
            load.go_on()
        assert load.errors, "nothing failed while the primary was down: the test proves nothing"
        load.check(may_lose=True)


def test_a_cluster_that_does_not_answer_is_unreachable(valkey_cluster):
    """If no node answers, our own error is raised in bounded time."""
    client, hasty = valkey_cluster.client(), valkey_cluster.client(socket_timeout=0.2)
    with closing(RedisSessionStore(client=client, prefix="silent:")) as store:
        manager = SessionManager(store)
        in_haste = SessionManager(RedisSessionStore(client=hasty, prefix="silent:", timeout=0.5))
        session = manager.create_session("ada")
        for each in valkey_cluster.nodes:
            each.pause()
        try:
            session.add_message("user", "x")
            with pytest.raises(StorageError):
                in_haste.save(session)
            with pytest.raises(StorageError):
                in_haste.list_sessions("ada")
        finally:
            for each in valkey_cluster.nodes:
                each.resume()
        valkey_cluster.wait_until_ok()
        manager.save(session)
        assert manager.get_session(session.session_id).message_count == 1
        assert isinstance(store.mapping, RedisMapping)
        manager.clear_all()
    client.close()
    hasty.close()
