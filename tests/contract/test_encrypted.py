"""Contracts of mappings and stores, run on encrypted ones."""

import pytest
import redis

from pyai_sessions import Encrypted, KVSessionStore, RedisMapping, SQLiteMapping
from pyai_sessions.testing import KVSessionStoreContract, MappingContract
from pyai_sessions.testing.documents.erasing import ErasingOfDocuments
from tests.contract.test_store import OnAServer
from tests.contract.variants import Made, OfItemsAndIndexes

KEYS = {"index": b"i" * 32, "old": b"o" * 32, "new": b"n" * 32}


class TestAnEncryptedMapping(MappingContract):
    @pytest.fixture(params=[False, True], ids=["plain", "compressed"])
    def mapping(self, request):
        return Encrypted({}, KEYS, compress=request.param)


class TestEncryptedDict(KVSessionStoreContract):
    @pytest.fixture
    def store(self):
        return Encrypted({}, KEYS)


@pytest.mark.long  # encryption knows nothing of the storage inside
class TestEncryptedSQLite(Made, ErasingOfDocuments, OfItemsAndIndexes):
    @pytest.fixture
    def make(self, tmp_path, request):
        def make():
            mapping = SQLiteMapping(tmp_path / "chat.db", synchronous="NORMAL")
            request.addfinalizer(mapping.close)
            store = KVSessionStore(Encrypted(mapping, KEYS))
            request.addfinalizer(store.close)
            return store

        return make


@pytest.mark.long
class TestEncryptedAndCompressedOnValkey(OnAServer, ErasingOfDocuments, OfItemsAndIndexes):
    server = "valkey_server"

    def open(self, url, prefix, request):
        client = redis.Redis.from_url(url, decode_responses=True)
        request.addfinalizer(client.close)
        return KVSessionStore(Encrypted(RedisMapping(client, prefix=prefix), KEYS, compress=True))
