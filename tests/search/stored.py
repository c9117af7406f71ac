"""Two managers of one storage, one of which knows of a search index: on every kind of storage."""

import secrets
from contextlib import ExitStack, closing

import diskcache

from pyai_sessions import (
    Encrypted,
    KVSessionStore,
    RedisSessionStore,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
)
from pyai_sessions.testing.clock import StoppedClock
from tests.storage.plain import PlainStorage

KEYS = {each: each.encode() * 32 for each in "123"}


KINDS = ["sqlite", "namespace", "dict", "encrypted", "encrypted file", "storage", "diskcache", "valkey"]


class Stored:
    """A manager of a store with a search index, and another on the same storage without one."""

    def __init__(self, kind, path, url=None):
        self.clock = StoppedClock()
        self.kind, self.path, self.url = kind, path / "chat.db", url
        self.prefix = f"index:{secrets.token_hex(8)}:"
        self.mapping = PlainStorage() if kind == "storage" else {}
        self.opened = ExitStack()
        self.store, other = self.open("123"), self.open("132")
        self.manager = SessionManager(self.store, clock=self.clock)
        self.other = SessionManager(other, clock=self.clock)
        self.manager.build_search_index(path / "search.db" if kind in ("storage", "valkey") else None)
        self.index = self.manager._search_index()

    def open(self, keys):
        """Return a store of the same storage. It encrypts with the last of the keys, where it encrypts."""
        if self.kind in ("sqlite", "namespace"):
            name = "acme" if self.kind == "namespace" else None
            return SQLiteSessionStore(self.path, synchronous="OFF", ttl=1000, namespace=name)
        if self.kind == "valkey":
            return RedisSessionStore(self.url, prefix=self.prefix, ttl=1000)
        if self.kind == "diskcache":
            return KVSessionStore(diskcache.Index(str(self.path)), ttl=1000)
        mapping = self.mapping
        if self.kind == "encrypted file":
            mapping = self.opened.enter_context(closing(SQLiteMapping(self.path, synchronous="OFF")))
        if "encrypted" in self.kind:
            mapping = Encrypted(mapping, {each: KEYS[each] for each in keys})
        return KVSessionStore(mapping, ttl=1000)

    def close(self):
        self.store.close()
        self.other.store.close()
        self.opened.close()

    def search(self, query, **options):
        return self.manager.search(query, **options)
