"""Contracts of mappings and stores, run on real clusters."""

import secrets
from contextlib import closing

import pytest
import valkey.cluster

from pyai_sessions import RedisMapping, RedisSessionStore
from pyai_sessions.testing import KVSessionStoreContract, MappingContract
from tests.contract.variants import OfEndings, OfItemsAndIndexes

pytestmark = pytest.mark.wide


class OnACluster:
    """An unused prefix on a cluster that all tests of a worker share."""

    cluster = "valkey_cluster"

    @pytest.fixture
    def client(self, request):
        cluster = request.getfixturevalue(self.cluster)
        with cluster.client() as client:
            yield client

    @pytest.fixture
    def prefix(self, client):
        prefix = f"store:{secrets.token_hex(8)}:"
        yield prefix
        for key in client.scan_iter(prefix + "*", count=1000):
            client.delete(key)


class OnAStore(OnACluster):
    ttl = None

    @pytest.fixture
    def make(self, client, prefix, request):
        def make():
            store = RedisSessionStore(client=client, prefix=prefix, ttl=self.ttl, timeout=2.0)
            request.addfinalizer(store.close)
            return store

        return make

    @pytest.fixture
    def store(self, make):
        return make()


class TestValkeyCluster(OnAStore, OfItemsAndIndexes):
    pass


@pytest.mark.long  # a cluster's round trips take ten times as long; tests/storage runs the contract of storages
class TestTheWholeContractOnAValkeyCluster(OnAStore, KVSessionStoreContract):
    pass


@pytest.mark.long
class TestRedisClusterWithATimeToLive(OnAStore, OfEndings):
    cluster = "redis_cluster"
    ttl = 365 * 24 * 3600


class TestMappingOnAValkeyCluster(OnACluster, MappingContract):
    @pytest.fixture
    def mapping(self, client, prefix):
        return RedisMapping(client, prefix=prefix)


@pytest.mark.long
class TestMappingOfAValkeyClientOnARedisCluster(OnACluster, MappingContract):
    cluster = "redis_cluster"

    @pytest.fixture
    def mapping(self, request, client, prefix):
        port = request.getfixturevalue(self.cluster).primaries()[0].port
        with closing(valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port, decode_responses=True)) as other:
            yield RedisMapping(other, prefix=prefix)
