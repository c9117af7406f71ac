"""Tests of storages on clusters: the contract, and what it does not cover."""

import secrets

import pytest
import valkey.cluster

from pyai_sessions import RedisMapping
from pyai_sessions.storage.redis import layout
from pyai_sessions.storage.redis.cluster import ClusterStorage
from pyai_sessions.testing.storage import StorageContract, change, derive
from tests.storage.hashes import Counted, new_prefix

pytestmark = pytest.mark.wide


class OnACluster(StorageContract):
    lists_apart = True

    @pytest.fixture(autouse=True)
    def fewer_buckets(self, monkeypatch):
        """Split lists in few buckets: each costs each list a command."""
        monkeypatch.setattr(layout, "BUCKETS", 3)

    @pytest.fixture
    def reopen(self, client):
        prefix = f"contract:{secrets.token_hex(8)}:"
        return lambda: ClusterStorage(RedisMapping(client, prefix), timeout=30, derive=derive)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()


@pytest.fixture(scope="module")
def client_of_valkey(valkey_cluster):
    with valkey_cluster.client() as client:
        yield client


@pytest.fixture(scope="module")
def client_of_redis(redis_cluster):
    port = redis_cluster.primaries()[0].port
    with valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port, decode_responses=True) as client:
        yield client


class TestOnAValkeyCluster(OnACluster):
    @pytest.fixture
    def client(self, client_of_valkey):
        return client_of_valkey


@pytest.mark.long
class TestOnARedisCluster(OnACluster):
    """With a decoding client of valkey-py."""

    @pytest.fixture
    def client(self, client_of_redis):
        return client_of_redis


# What the contract does not reach -------------------------------------------------------------------------------------


def listed(revision, before=None, **lists):
    """Return a change of a document that names its member's lists, as `derive` reads them."""
    new = {name: score for name, (_, score) in lists.items() if score is not None}
    old = {name: score for name, (score, _) in lists.items() if score is not None}
    return change("s", revision, before, listed=new, was=old)


@pytest.fixture
def counted(client_of_valkey):
    return Counted(client_of_valkey)


@pytest.fixture
def storage(counted):
    return ClusterStorage(RedisMapping(counted, new_prefix()), timeout=30, derive=derive)


def test_a_refused_change_takes_nothing_from_the_one_that_won(storage):
    """A refused change removes only its own entries, not the winner's at the same score."""
    assert storage.write([listed("r1", active=(None, 7))]) == [True]

    assert storage.write([listed("r2", active=(None, 7), archived=(None, 7))]) == [False]
    assert storage.write([listed("r3", active=(None, 9))]) == [False]

    assert sorted(storage.listings()) == [("active", "s", 7)]


def test_a_member_goes_only_from_where_it_was_seen(storage):
    """An entry that another writer added meanwhile stays."""
    storage.write([listed("r1", active=(None, 7))])

    assert storage.write([listed("r2", "r1", active=(6, None))]) == [True]

    assert storage.scan("active") == [(7, "s")]
