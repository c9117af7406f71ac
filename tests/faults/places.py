"""Storages that fail at the n-th write or read: a mapping, an SQLite file, a server."""

import errno
import os
import secrets
import shutil
import signal
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import product
from typing import Any, ClassVar
from unittest.mock import patch

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyai_sessions import Encrypted, KVSessionStore, RedisMapping, SessionManager, SQLiteMapping
from pyai_sessions.storage.sqlite import connections
from pyai_sessions.testing import FaultyMapping, StoppedClock
from tests.faults.operations.worlds import NOW
from tests.storage.mappings import Folder


class Death(BaseException):
    """The process ends here: nothing catches it, and nothing reaches the storage any more."""


class Killed(BaseException):
    """Ends the process at once where it would be raised."""

    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Nth:
    """Raises at the n-th step, before or after it takes effect."""

    def __init__(self, at, error, *, applied=False):
        self.left, self._error, self._applied = at, error, applied

    def __call__(self, do):
        self.left -= 1
        if self.left != 0:
            return do()
        if self._applied:
            do()
        raise self._error


class Place:
    """Where sessions lie. Of a copy, what is opened first is what fails; others look at it.

    Attributes:
        WAYS: How it can fail, by name.
        HIDDEN: The ways of which a caller learns nothing: the call is done.
        TRANSACTIONS: Whether changes of several documents can be one step.
        timeout: Seconds; `verify` waits as long for other writers, where there may be some.

    """

    WAYS: ClassVar[dict[str, Any]]
    HIDDEN: ClassVar[list[str]] = []
    TRANSACTIONS = False
    timeout = 10.0

    @contextmanager
    def open(self, ring=None):
        """Open a store, and close all that was opened at the end."""
        with ExitStack() as stack:
            mapping = self.mapping(stack)
            store = KVSessionStore(mapping if ring is None else Encrypted(mapping, ring), timeout=self.timeout)
            yield SessionManager(stack.enter_context(closing(store)), clock=StoppedClock(NOW))


class InMapping(Place):
    """A mapping whose writes fail: a dict, or a folder for other processes."""

    WAYS: ClassVar = {
        "fails": {"error": OSError(errno.EIO, "broken")},
        "fails afterwards": {"error": ConnectionResetError(), "applied": True},
        "is full": {"error": OSError(errno.ENOSPC, "full"), "once": False},
        "dies": {"error": Death(), "once": False},
        "dies afterwards": {"error": Death(), "once": False, "applied": True},
    }

    def __init__(self, items):
        self.items = items
        self.opened = []

    def copy(self):
        if isinstance(self.items, dict):
            return InMapping(dict(self.items))
        return InMapping(Folder(shutil.copytree(self.items.path, self.items.path.with_name(secrets.token_hex(4)))))

    def mapping(self, stack):
        self.opened.append(FaultyMapping(self.items))
        return self.opened[-1]

    def fail(self, at, way, *, reads=False):
        self.opened[0].fail(of="read" if reads else ("write", "delete"), at=at, **self.WAYS[way])

    def mend(self):
        """Stop failing, and return whether anything failed."""
        self.opened[0].mend()
        return self.opened[0].faults > 0

    def kill(self, at, *, applied):
        self.opened[0].fail(Killed, of=("write", "delete"), at=at, applied=applied)


class Failing(connections.Connection):
    """A connection that fails at statements which write, begin or end a transaction, or at those which read."""

    nth: Nth | None = None
    reads = False

    def execute(self, sql, *args):
        return self._do(sql, partial(super().execute, sql, *args))

    def executemany(self, sql, *args):
        return self._do(sql, partial(super().executemany, sql, *args))

    def _do(self, sql, do):
        if Failing.nth is None or sql == "BEGIN" or sql.startswith(("PRAGMA", "ROLLBACK")):
            return do()
        if sql.startswith(("SELECT", "WITH")) != Failing.reads:
            return do()
        return Failing.nth(do)


class InFile(Place):
    """An SQLite file whose statements fail."""

    TRANSACTIONS = True
    WAYS: ClassVar = {
        "fails": {"error": sqlite3.OperationalError("disk I/O error")},
        "fails afterwards": {"error": sqlite3.OperationalError("disk I/O error"), "applied": True},
    }

    def __init__(self, path):
        self.path = path

    def copy(self):
        return InFile(shutil.copy(self.path, self.path.with_name(f"{secrets.token_hex(4)}.db")))

    def mapping(self, stack):
        stack.enter_context(patch.object(connections, "Connection", Failing))
        return stack.enter_context(closing(SQLiteMapping(self.path, synchronous="OFF")))

    def fail(self, at, way, *, reads=False):
        Failing.nth, Failing.reads = Nth(at, **self.WAYS[way]), reads

    def mend(self):
        nth, Failing.nth, Failing.reads = Failing.nth, None, False
        return nth.left <= 0

    def kill(self, at, *, applied):
        Failing.nth = Nth(at, Killed, applied=applied)


class OnServer(Place):
    """A server whose connection breaks. The client repeats unanswered commands, or does not."""

    WAYS: ClassVar = {
        f"{how}, {retries} retries, scripts {'known' if known else 'new'}": (how, retries, known)
        for how, retries, known in product(("cut", "drop_reply"), (0, 3), (True, False))
    }
    HIDDEN: ClassVar = [way for way in WAYS if "3 retries" in way]
    timeout = 0.05

    def __init__(self, url, prefix, proxy=None):
        self.url, self.prefix, self.proxy = url, prefix, proxy
        self.clients = []

    def copy(self):
        prefix = f"{secrets.token_hex(8)}:"
        with closing(redis.Redis.from_url(self.url)) as client:
            for key in list(client.scan_iter(f"{self.prefix}*", count=10_000)):
                client.copy(key, prefix.encode() + key.removeprefix(self.prefix.encode()))
        return OnServer(self.url, prefix, self.proxy)

    def mapping(self, stack):
        url = self.proxy.url if self.proxy and not self.clients else self.url
        retry = Retry(NoBackoff(), 0)
        self.clients.append(stack.enter_context(closing(redis.Redis.from_url(url, socket_timeout=30, retry=retry))))
        return RedisMapping(self.clients[-1], self.prefix)

    def fail(self, at, way, *, reads=False):  # a command is a command
        how, retries, known = self.WAYS[way]
        if not known:
            self.clients[0].script_flush()
        self.clients[0].set_retry(Retry(NoBackoff(), retries))
        getattr(self.proxy, how)(at)

    def mend(self):
        return self.proxy.heal()

    def kill(self, at, *, applied):
        nth = Nth(at, Killed, applied=applied)
        for owner, name in ((redis.Redis, "execute_command"), (redis.client.Pipeline, "execute")):
            setattr(owner, name, with_steps(getattr(owner, name), nth))


def with_steps(method, nth):
    return lambda *args, **options: nth(partial(method, *args, **options))
