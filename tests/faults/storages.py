"""Storages of the fault tests. Each has a name, by which any process can open it."""

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlitedict import SqliteDict

from pyai_sessions import DiskCacheSessionStore, KVSessionStore, RedisSessionStore, SessionManager, SQLiteSessionStore

IN_FILES = ["sqlite", "sqlitedict", "diskcache"]
ON_SERVERS = ["redis", "valkey"]
SHARED = [*IN_FILES, *ON_SERVERS]
"""Kinds of storage that several processes may write."""
ALL = ["dict", "folder", *SHARED]
EXAMPLE = "postgres"
"""The kind of `examples/postgres_storage.py`, which several processes may write, too."""


class Folder(MutableMapping):
    """A mapping with a file per item, which is replaced atomically."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(exist_ok=True)

    def _file(self, key):
        return self.path / quote(key, safe="")

    def __getitem__(self, key):
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError as err:
            raise KeyError(key) from err

    def __setitem__(self, key, value):
        new = self.path / f"%{threading.get_ident()}"  # no quoted key is like that
        try:
            new.write_bytes(value)
            new.replace(self._file(key))
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def __delitem__(self, key):
        try:
            self._file(key).unlink()
        except FileNotFoundError as err:
            raise KeyError(key) from err

    def __iter__(self):
        names = [each.name for each in self.path.iterdir()]
        return (unquote(each) for each in names if quote(unquote(each), safe="") == each)

    def __len__(self):
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Storage:
    """A place for sessions: *kind* is one of `ALL` or `EXAMPLE`, *at* a dict, a folder, or a url and maybe a prefix."""

    kind: str
    at: Any

    @contextmanager
    def open(self, *, timeout: float = 30.0, **options) -> Iterator[SessionManager]:
        """Open a store on the storage, and close all that was opened at the end."""
        with ExitStack() as stack:
            yield SessionManager(self._store(stack, {"timeout": timeout, **options}))

    def _store(self, stack, options):
        if self.kind == "dict":
            return KVSessionStore(self.at, **options)
        if self.kind == EXAMPLE:
            from examples.postgres_storage import PostgresStorage  # its client takes long to import

            storage = PostgresStorage(self.at, timeout=options.pop("timeout"))
            return KVSessionStore(stack.enter_context(closing(storage)), **options)
        if self.kind in ON_SERVERS:
            url, prefix = self.at
            return stack.enter_context(closing(RedisSessionStore(url, prefix, **options)))
        path = Path(self.at)
        if self.kind == "folder":
            return KVSessionStore(Folder(path / "items"), **options)
        if self.kind == "sqlite":
            store = SQLiteSessionStore(path / "chat.db", **options)
        elif self.kind == "sqlitedict":
            store = KVSessionStore(stack.enter_context(closing(SqliteDict(str(path / "chat.db")))), **options)
        else:
            store = DiskCacheSessionStore(path / "chat", **options)
        return stack.enter_context(closing(store))
