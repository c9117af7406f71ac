"""The contracts of mappings and of stores, on real clusters."""

import secrets

import pytest
import redis
import valkey.cluster

from pyai_sessions import RedisMapping, RedisSessionStore
from tests.contract.mapping import MappingContract
from tests.contract.store import StoreContract

pytestmark = pytest.mark.xdist_group("clusters")  # six processes a cluster: one worker starts them


class OnACluster:
    """A prefix of one's own on a cluster that all tests of one worker share."""

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


class OnAStore(OnACluster, StoreContract):
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


class TestValkeyCluster(OnAStore):
    pass
