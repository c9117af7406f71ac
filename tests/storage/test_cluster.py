"""Clusters of Redis and Valkey as storages: the contract, and what it does not reach."""

import secrets

import pytest
import valkey.cluster

from pyai_sessions import RedisMapping
from pyai_sessions.storage import cluster
from pyai_sessions.storage.cluster import ClusterStorage
from pyai_sessions.testing.storage import StorageContract, derive


class OnACluster(StorageContract):
    lists_apart = True

    @pytest.fixture(autouse=True)
    def fewer_buckets(self, monkeypatch):
        """Split lists in few buckets: each costs each list a command."""
        monkeypatch.setattr(cluster, "BUCKETS", 3)

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


class TestOnARedisCluster(OnACluster):
    """With a client of valkey-py, which decodes."""

    @pytest.fixture
    def client(self, client_of_redis):
        return client_of_redis
