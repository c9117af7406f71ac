"""A cluster under load: a node is killed and its replica promoted, slots move; a primary under sentinels is killed."""

import threading
import time
from contextlib import closing, contextmanager

import pytest

from pyai_sessions import Message, RedisMapping, RedisSessionStore, SessionManager
from pyai_sessions.errors import StorageError
from tests.clusters import Sentinel

SESSIONS = 12
PATIENCE = 30.0  # seconds for writers to be served again


class Load:
    """Writers, each with sessions of its own and a client of its own, that repeat what failed until it is stored.

    They know which turns were acknowledged, and what was raised meanwhile.
    """

    def __init__(self, open_client, prefix, writers=3):
        self.open_client, self.prefix = open_client, prefix
        self.acknowledged = {f"s{n}": [] for n in range(SESSIONS)}
        self.in_hand = set()
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

    def turns(self):
        return sum(map(len, self.acknowledged.values()))

    def go_on(self, turns=60):
        """Return when so many more turns were acknowledged."""
        wanted, end = self.turns() + turns, time.monotonic() + PATIENCE
        while self.turns() < wanted:
            assert time.monotonic() < end, "the writers are not served"
            assert self.failures == []
            time.sleep(0.01)

    def _write(self, first, step):
        try:
            with self.manager() as manager:
                mine = list(self.acknowledged)[first::step]
                for each in mine:
                    self._until_stored(lambda each=each: manager.get_or_create_session(each, f"user {first}"))
                hands = {each: manager.get_session(each) for each in mine[::2]}
                self.in_hand.update(hands)
                n = 0
                while not self._stop.is_set():
                    for each in mine:
                        n += 1
                        turn = [Message(role, f"{each} {n}") for role in ("user", "assistant")]
                        if each in hands:  # saved from a copy in hand, or appended
                            for message in turn:
                                hands[each].add_message(message.role, message.content, message_id=message.message_id)
                            self._until_stored(lambda each=each: manager.save(hands[each]))
                        else:
                            self._until_stored(lambda each=each, turn=turn: manager.append(each, *turn))
                        self.acknowledged[each].append([message.message_id for message in turn])
        except Exception as err:  # noqa: BLE001 (the test reports it)
            self.failures.append(err)

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
        """All that was acknowledged is there, once, in order, turns whole; and the indexes are right."""
        with self.manager() as manager:
            for session_id, turns in self.acknowledged.items():
                session = manager.get_session(session_id)
                ids = [each.message_id for each in session.messages]
                assert len(ids) == len(set(ids)) == session.message_count
                expected = [each for turn in turns for each in turn]
                if may_lose and session_id not in self.in_hand:
                    there = [each for each in expected if each in set(ids)]
                    assert ids == there
                    assert len(there) % 2 == 0
                else:
                    assert ids == expected
            listed = {each.session_id for n in range(3) for each in manager.list_sessions(f"user {n}", limit=None)}
            assert listed == set(self.acknowledged)
            assert {each.session_id for each in manager.list_sessions(limit=None)} == set(self.acknowledged)
            manager.reindex()
            assert manager.verify().problems == []
            assert manager.clear_all() == SESSIONS


@pytest.fixture
def load(any_cluster, request):
    yield Load(any_cluster.client, f"load:{request.node.name}:")
    any_cluster.wait_until_ok()


def in_use(client, cluster, prefix):
    """Return a slot in which a session lies, and the node that has it."""
    slot = client.keyslot(f"{prefix}s0")
    return slot, cluster.primary_of(slot)


def test_a_replica_takes_over_from_a_killed_node(load, any_cluster):
    """No turn is torn or stored twice, what a copy in hand has is stored again, and all go on by themselves.

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
    """Half moved, a slot lies on two servers; saves, appends, reads and lists go on, and none fails."""
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
    """Valkey's atomic migration."""
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
    """The client of `Sentinel.master_for` finds the new primary; the writers go on by themselves."""
    with Sentinel("valkey-server") as sentinel:
        load = Load(sentinel.client, "load:")
        with load:
            load.go_on()
            sentinel.kill_primary()
            load.go_on()
        assert load.errors, "nothing failed while the primary was down: the test proves nothing"
        load.check(may_lose=True)


def test_a_cluster_that_does_not_answer_is_unreachable(valkey_cluster):
    """No node answers: the library's error, in a bounded time."""
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
