"""Tests of the clusters and sentinels that other tests use: they are real, fail over, and move slots."""

import pytest
import redis
from redis.crc import key_slot

from tests.clusters import SLOTS, Cluster, Sentinel
from tests.conftest import PROGRAMS

pytestmark = pytest.mark.wide


@pytest.fixture
def cluster(any_cluster):
    """An empty cluster in state ok."""
    any_cluster.wait_until_ok()
    any_cluster.flush()
    return any_cluster


def another(cluster, node):
    """Return a primary other than *node*."""
    return next(each for each in cluster.primaries() if each is not node)


def test_a_cluster_answers_and_puts_keys_where_their_slots_lie(cluster):
    """Each of the three primaries holds the keys of its own slots."""
    keys = [f"key{n}".encode() for n in range(100)]
    with cluster.client() as client:
        for each in keys:
            client.set(each, "x")

        assert [client.get(each) for each in keys] == [b"x"] * 100
    for node in cluster.primaries():
        assert set(node.say("KEYS", "*")) == {each for each in keys if cluster.primary_of(key_slot(each)) is node}
        assert node.say("DBSIZE")


def test_three_primaries_have_all_slots_and_a_replica_each(cluster):
    """All nodes agree on the primaries and replicas."""
    primaries = cluster.primaries()

    assert len(primaries) == 3
    assert len({cluster.replica_of(each) for each in primaries} - set(primaries)) == 3
    for node in cluster.nodes:
        known = node.known()
        assert known.keys() == {each.id for each in cluster.nodes}
        assert sum(last + 1 - first for each in known.values() for first, last in each.slots) == SLOTS


def test_a_killed_primarys_replica_is_promoted_with_what_it_acknowledged(cluster):
    """A failover keeps writes that WAIT confirmed. The old primary comes back as a replica."""
    slot = key_slot(b"{tag}")
    primary = cluster.primary_of(slot)
    replica = cluster.replica_of(primary)
    with primary.client() as client:
        for n in range(100):
            client.set(f"{{tag}}{n}", n)
        assert client.wait(1, 5000) == 1

    cluster.kill(primary)
    cluster.wait_until_ok()

    assert cluster.primary_of(slot) is replica
    with cluster.client() as client:
        assert [client.get(f"{{tag}}{n}") for n in range(100)] == [b"%d" % n for n in range(100)]
    cluster.restart(primary)
    assert cluster.replica_of(replica) is primary


def test_a_slot_moves_there_and_back_key_by_key(cluster):
    """While a slot moves, a client can read every key at each step."""
    slot = key_slot(b"{tag}")
    source = cluster.primary_of(slot)
    target = another(cluster, source)
    keys = [f"{{tag}}{n}".encode() for n in range(25)] + [b"{tag}\xff"]
    with cluster.client() as client:
        for each in keys:
            client.set(each, each)
        for there, back in ((target, source), (source, target)):
            sizes = []
            for moved in cluster.migrate_slot(slot, there):
                sizes.append(moved)
                assert [client.get(each) for each in keys] == keys

            assert sizes == [0, 10, 10, 6]
            assert cluster.primary_of(slot) is there
            assert (there.say("DBSIZE"), back.say("DBSIZE")) == (26, 0)
            assert [client.get(each) for each in keys] == keys


def test_slots_move_as_a_whole_where_the_server_can(cluster):
    """Valkey moves slots in one step. Redis 7 answers that it does not know the command."""
    slot = key_slot(b"{tag}")
    source = cluster.primary_of(slot)
    target = another(cluster, source)
    with cluster.client() as client:
        for n in range(100):
            client.set(f"{{tag}}{n}", n)
        if source.program == "redis-server":
            with pytest.raises(redis.ResponseError, match="nknown subcommand"):
                cluster.migrate_slots_atomically(slot, slot, target)
            return
        for there in (target, source):
            cluster.migrate_slots_atomically(slot, slot, there)

            assert cluster.primary_of(slot) is there
            assert there.say("DBSIZE") == 100
            assert [client.get(f"{{tag}}{n}") for n in range(100)] == [b"%d" % n for n in range(100)]


def test_a_paused_primary_is_replaced_too(cluster):
    """A paused primary is replaced. Resumed, it is a replica."""
    slot = key_slot(b"{tag}")
    primary = cluster.primary_of(slot)

    primary.pause()
    cluster.wait_until_ok()

    assert cluster.primary_of(slot) is not primary
    primary.resume()
    cluster.wait_until_ok()
    assert cluster.replica_of(cluster.primary_of(slot)) is primary


def test_a_closed_cluster_leaves_nothing_behind():
    """Closing ends all processes and removes all folders, also of a cluster without replicas."""
    with Cluster("valkey-server", replicas=0) as cluster:
        assert len(cluster.nodes) == 3

    assert not any(each.pid or each.folder.exists() for each in cluster.nodes)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_sentinels_promote_the_replica_of_a_killed_primary(kind):
    """Sentinels promote a killed primary's replica with its data. The client finds it."""
    with Sentinel(PROGRAMS[kind]) as sentinel, sentinel.client() as client:
        first = sentinel.primary()
        client.set("kept", "yes")
        assert client.wait(1, 5000) == 1

        sentinel.kill_primary()

        second = sentinel.primary()
        assert second is not first
        assert client.get("kept") == b"yes"
        assert client.set("written", "after")
        sentinel.restart(first)
        with first.client() as replica:
            assert replica.get("written") == b"after"
            with pytest.raises(redis.ReadOnlyError):
                replica.set("written", "here")
