"""The contract of mappings, run on ours and on those of other packages."""

import dbm.dumb
import secrets
import shelve
from contextlib import closing, contextmanager
from urllib.parse import quote

import diskcache
import diskcache_community
import pytest
import redis
import valkey
import zict
from sqlitedict import SqliteDict

from pyai_sessions import RedisMapping, SQLiteMapping
from pyai_sessions.testing import MappingContract, PersistentMappingContract
from tests.contract.decoded import Decoded


class TestDict(MappingContract):
    @pytest.fixture
    def mapping(self):
        return {}


class TestSQLiteMappingInMemory(MappingContract):
    @pytest.fixture
    def mapping(self):
        with closing(SQLiteMapping(":memory:")) as mapping:
            yield mapping


class OpenedTwice(PersistentMappingContract):
    """A mapping from the context manager `open`, which can be opened again."""

    @pytest.fixture
    def mapping(self, tmp_path):
        with self.open(tmp_path) as mapping:
            yield mapping

    @pytest.fixture
    def reopen(self, tmp_path, request):
        def reopen():
            opened = self.open(tmp_path)
            mapping = opened.__enter__()
            request.addfinalizer(lambda: opened.__exit__(None, None, None))
            return mapping

        return reopen


class TestSQLiteMapping(OpenedTwice):
    def open(self, folder):
        return closing(SQLiteMapping(folder / "chat.db", synchronous="NORMAL"))


@pytest.mark.wide
class TestSQLiteMappingWithItsOwnTable(OpenedTwice):
    def open(self, folder):
        return closing(SQLiteMapping(folder / "chat.db", 'a "table" of mine', synchronous="NORMAL"))


class TestSqliteDict(OpenedTwice):
    def open(self, folder):
        return closing(SqliteDict(str(folder / "chat.db"), encode=str, decode=str, autocommit=True))


class OfDiskcache(OpenedTwice):
    @contextmanager
    def open(self, folder):
        index = self.library.Index(str(folder / "chat"))
        yield index
        index.cache.close()


class TestDiskcacheIndex(OfDiskcache):
    library = diskcache


@pytest.mark.wide
class TestDiskcacheCommunityIndex(OfDiskcache):
    library = diskcache_community


CLIENTS = {
    "redis-py": (redis.Redis, {}),
    "redis-py, text": (redis.Redis, {"decode_responses": True}),
    "redis-py, protocol 3": (redis.Redis, {"protocol": 3}),
    "redis-py, protocol 3, text": (redis.Redis, {"protocol": 3, "decode_responses": True}),
    "redis-py, protocol 2": (redis.Redis, {"protocol": 2}),
    "valkey-py": (valkey.Valkey, {}),
    "valkey-py, text": (valkey.Valkey, {"decode_responses": True}),
    "valkey-py, protocol 3": (valkey.Valkey, {"protocol": 3}),
    "valkey-py, protocol 3, text": (valkey.Valkey, {"protocol": 3, "decode_responses": True}),
}


class OfRedis(PersistentMappingContract):
    prefix = "mapping:"
    ttl = None

    @pytest.fixture
    def reopen(self, client_name, request):
        kind, options = CLIENTS[client_name]
        prefix = f"{self.prefix}{secrets.token_hex(8)}:"
        server = request.getfixturevalue(self.server)

        def reopen():
            client = kind.from_url(server.url, **options)
            request.addfinalizer(client.close)
            return RedisMapping(client, prefix=prefix, ttl=self.ttl)

        return reopen

    @pytest.fixture
    def mapping(self, reopen):
        mapping = reopen()
        yield mapping
        for key in list(mapping):  # the server is shared, and iteration scans all of it
            del mapping[key]


class EveryClient(OfRedis):
    @pytest.fixture(params=CLIENTS)
    def client_name(self, request):
        return request.param


class TestRedisMappingOnValkey(EveryClient):
    server = "valkey_server"


@pytest.mark.wide
class TestRedisMappingOnRedis(EveryClient):
    server = "redis_server"


class OneClient(OfRedis):
    @pytest.fixture
    def client_name(self):
        return "redis-py"


@pytest.mark.wide
class TestRedisMappingWhoseItemsExpire(OneClient):
    server = "valkey_server"
    ttl = 3600


class TestRedisMappingWithAHostilePrefix(OneClient):
    """The prefix has characters that are special in Redis patterns."""

    server = "redis_server"
    prefix = "a*b/?[c-d]^\\{e}:\u00e9"


class TestShelf(MappingContract):
    """A shelf of dbm.dumb, which reads its index once, so a second object does not see changes."""

    @pytest.fixture
    def mapping(self, tmp_path):
        with shelve.Shelf(dbm.dumb.open(str(tmp_path / "chat"))) as shelf:
            yield shelf


@pytest.mark.wide
class TestZictFile(MappingContract):
    def takes_key(self, text):
        return 0 < len(quote(text, safe="")) < 250  # a file's name has at most 255 bytes

    @pytest.fixture
    def mapping(self, tmp_path):
        return Decoded(zict.File(tmp_path / "chat"))
