"""Redis and Valkey servers as storages: the contract with each client, and what it does not reach."""

import secrets

import pytest
import redis
import valkey

from pyai_sessions import RedisMapping
from pyai_sessions.storage.redis import RedisStorage
from pyai_sessions.testing.storage import StorageContract


def new_prefix():
    return f"storage:{secrets.token_hex(8)}:"


# The contract ---------------------------------------------------------------------------------------------------------


class OnAServer(StorageContract):
    @pytest.fixture
    def reopen(self, client):
        prefix = new_prefix()
        return lambda: RedisStorage(RedisMapping(client, prefix), timeout=30)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()


@pytest.fixture(scope="module")
def own_client(valkey_server):
    with valkey.Valkey.from_url(valkey_server.url, socket_timeout=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def decoding_client(valkey_server):
    with redis.Redis.from_url(valkey_server.url, socket_timeout=30.0, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def newer_client(redis_server):
    with redis.Redis.from_url(redis_server.url, socket_timeout=30.0, protocol=3) as client:
        yield client


class TestOnValkeyWithItsOwnClient(OnAServer):
    @pytest.fixture
    def client(self, own_client):
        return own_client


class TestOnValkeyDecoding(OnAServer):
    @pytest.fixture
    def client(self, decoding_client):
        return decoding_client


class TestOnRedisWithTheNewerProtocol(OnAServer):
    @pytest.fixture
    def client(self, newer_client):
        return newer_client
