"""The contract of stores, run in memory, in files, on servers and in mappings."""

import dbm.dumb
import json
import secrets
import shelve
from contextlib import closing

import diskcache
import diskcache_community
import pytest
import redis
import valkey
import zict
from sqlitedict import SqliteDict

from pyai_sessions import (
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    SQLiteMapping,
    SQLiteSessionStore,
)
from pyai_sessions.storage.names import place_of
from pyai_sessions.testing import KVSessionStoreContract
from tests.contract.decoded import Decoded
from tests.contract.variants import Made, OfItems, OfItemsAndIndexes
from tests.storage.plain import PlainStorage

# In memory ------------------------------------------------------------------------------------------------------------


class TestDict(KVSessionStoreContract):
    @pytest.fixture
    def store(self):
        return {}


class Strict(PlainStorage):
    """A storage that asserts what `Storage` promises about its arguments."""

    def write(self, changes):
        for each in changes:
            keys = [*(key for key, _ in each.expect), *(key for key, _ in each.put), *each.drop]
            assert len({place_of(key) for key in keys}) == 1, "a change touches two places, or none"
            members = [(name, member) for name, member, _, _ in each.lists]
            assert len(set(members)) == len(members), "a change moves a member of a list twice"
        return super().write(changes)


@pytest.mark.long
class TestStrictStorage(KVSessionStoreContract):
    @pytest.fixture
    def store(self):
        return Strict()


class Minimal:
    """The least mapping: `[k]`, `[k] = v`, `del` and `iter`."""

    __slots__ = ("_items",)  # so that it takes not even a weak reference

    def __init__(self):
        self._items = []

    def __getitem__(self, key):
        for each, value in self._items:
            if each == key:
                return value
        raise KeyError(key)

    def __setitem__(self, key, value):
        self._items = [*(item for item in self._items if item[0] != key), (key, value)]

    def __delitem__(self, key):
        self[key]
        self._items = [item for item in self._items if item[0] != key]

    def __iter__(self):
        return iter([key for key, _ in self._items])


@pytest.mark.wide
class TestAMappingOfOnesOwn(OfItems):
    @pytest.fixture
    def store(self):
        return Minimal()


# SQLite ---------------------------------------------------------------------------------------------------------------


class InAFile:
    """Sessions in a table of an SQLite file. `open` opens a store, and the documents are read past it."""

    table_name = "sessions"

    @pytest.fixture
    def path(self, tmp_path):
        return str(tmp_path / "chat.db")

    @pytest.fixture
    def store(self, path):
        with closing(self.open(path)) as store:
            yield store

    @pytest.fixture
    def reopen(self, path, request):
        def reopen():
            store = self.open(path)
            request.addfinalizer(store.close)
            return store

        return reopen

    @pytest.fixture
    def raw(self, store, path):
        with closing(SQLiteMapping(path, self.table_name, synchronous="NORMAL")) as raw:
            yield raw


class TestSQLite(InAFile, KVSessionStoreContract):
    def open(self, path):
        return SQLiteSessionStore(path, synchronous="NORMAL")


@pytest.mark.long
class TestSQLiteInMemory(OfItems):
    @pytest.fixture
    def store(self):
        with closing(SQLiteSessionStore(":memory:")) as store:
            yield store


class InASqliteDict(Made, InAFile):
    table_name = "unnamed"
    options = {}  # noqa: RUF012 (read only)

    @pytest.fixture
    def make(self, path, request):
        def make():
            mapping = SqliteDict(path, journal_mode="WAL", **self.options)
            request.addfinalizer(mapping.close)
            store = KVSessionStore(mapping)
            request.addfinalizer(store.close)
            return store

        return make


@pytest.mark.wide
class TestSqliteDict(InASqliteDict, OfItems):
    options = {"encode": str, "decode": str, "autocommit": True}  # noqa: RUF012


@pytest.mark.long
class TestSqliteDictWithoutAutocommit(InASqliteDict, OfItems):
    options = {"encode": str, "decode": str}  # noqa: RUF012


@pytest.mark.long
class TestSqliteDictThatPickles(InASqliteDict, OfItems):
    options = {}  # noqa: RUF012


@pytest.mark.long
class TestSqliteDictOfJSON(InASqliteDict, OfItems):
    options = {"encode": json.dumps, "decode": json.loads, "autocommit": True}  # noqa: RUF012


# diskcache ------------------------------------------------------------------------------------------------------------


class InADirectory(Made):
    @pytest.fixture
    def make(self, tmp_path, request):
        def make():
            mapping = self.open(str(tmp_path / "chat"))
            request.addfinalizer(getattr(mapping, "cache", mapping).close)
            store = KVSessionStore(mapping)
            request.addfinalizer(store.close)
            return store

        return make


class TestDiskcacheIndex(InADirectory, KVSessionStoreContract):
    def open(self, directory):
        return diskcache.Index(directory)


@pytest.mark.long
class TestDiskcacheCache(InADirectory, OfItems):
    def open(self, directory):
        return diskcache.Cache(directory, eviction_policy="none")


@pytest.mark.long
class TestDiskcacheCommunityIndex(InADirectory, OfItems):
    def open(self, directory):
        return diskcache_community.Index(directory)


# Redis and Valkey -----------------------------------------------------------------------------------------------------


class OnAServer(Made):
    ttl = None

    @pytest.fixture
    def prefix(self, url):
        prefix = f"store:{secrets.token_hex(8)}:"
        yield prefix
        with redis.Redis.from_url(url) as client:  # the server is shared, and a scan reads all of it
            for key in client.scan_iter(prefix + "*", count=1000):
                client.delete(key)

    @pytest.fixture
    def url(self, request):
        return request.getfixturevalue(self.server).url

    @pytest.fixture
    def make(self, url, prefix, request):
        def make():
            store = self.open(url, prefix, request)
            request.addfinalizer(store.close)
            return store

        return make

    def open(self, url, prefix, request):
        return RedisSessionStore(url, prefix=prefix, ttl=self.ttl)


class TestRedisSessionStoreOnValkey(OnAServer, KVSessionStoreContract):
    server = "valkey_server"


@pytest.mark.wide
class TestRedisSessionStoreOnRedis(OnAServer, OfItemsAndIndexes):
    server = "redis_server"


@pytest.mark.long
class TestRedisSessionStoreWithATimeToLive(OnAServer, OfItemsAndIndexes):
    server = "valkey_server"
    ttl = 365 * 24 * 3600


@pytest.mark.long
class TestRedisMappingOfAValkeyClient(OnAServer, OfItems):
    server = "redis_server"

    def open(self, url, prefix, request):
        client = valkey.Valkey.from_url(url, decode_responses=True)
        request.addfinalizer(client.close)
        return KVSessionStore(RedisMapping(client, prefix=prefix))


# Mappings of others ---------------------------------------------------------------------------------------------------


@pytest.mark.long
class TestShelf(OfItems):
    """A shelf of dbm.dumb, which every Python has, and which any thread may use."""

    @pytest.fixture
    def store(self, tmp_path):
        with shelve.Shelf(dbm.dumb.open(str(tmp_path / "chat"))) as shelf:
            yield shelf

    @pytest.fixture
    def raw(self, store):
        return Decoded(store.dict, str.encode)


@pytest.mark.wide
class TestZictFile(OfItems):
    longest_id = 60  # a file's name has at most 255 bytes

    @pytest.fixture
    def store(self, tmp_path):
        return zict.File(tmp_path / "chat")

    @pytest.fixture
    def raw(self, store):
        return Decoded(store)
