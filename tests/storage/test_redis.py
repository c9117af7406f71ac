"""Redis and Valkey servers as storages: the contract with each client, and what it does not reach."""

import secrets

import pytest
import redis
import valkey

from pyai_sessions import RedisMapping
from pyai_sessions.storage.redis import RedisStorage
from pyai_sessions.testing.storage import StorageContract

CLIENTS = {
    "valkey server": ("valkey_server", redis.Redis, {}),
    "valkey server, valkey-py, decoding": ("valkey_server", valkey.Valkey, {"decode_responses": True}),
    "redis server, the newer protocol": ("redis_server", redis.Redis, {"protocol": 3}),
    "redis server, decoding": ("redis_server", redis.Redis, {"decode_responses": True}),
}


class OnAServer(StorageContract):
    name = ""

    @pytest.fixture
    def client(self, request):
        server, kind, options = CLIENTS[self.name]
        with kind.from_url(request.getfixturevalue(server).url, socket_timeout=30.0, **options) as client:
            yield client

    @pytest.fixture
    def reopen(self, client):
        prefix = f"contract:{secrets.token_hex(8)}:"
        return lambda: RedisStorage(RedisMapping(client, prefix), timeout=30)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()


for _name in CLIENTS:
    globals()[f"TestOn {_name}"] = type(f"TestOn {_name}", (OnAServer,), {"name": _name})
