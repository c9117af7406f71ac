"""Every operation fails, and its process is killed, at each of its writes: what is stored is before or after it.

The n-th write fails, for each n until the operation has no n-th. Then another store looks at the same data, and the
operation is repeated: by the caller whose call raised, or by another who does not know how far a dead one came.
"""

import errno
import os
import secrets
import shutil
import signal
import sqlite3
import sys
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import count, product
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pyai_sessions import (
    Encrypted,
    KVSessionStore,
    RedisMapping,
    Session,
    SessionManager,
    SQLiteMapping,
    StorageError,
    StorageLockedError,
)
from pyai_sessions.storage.sqlite import connections
from pyai_sessions.testing import FaultyMapping, StoppedClock
from tests.faults.operations import IDS, NOW, OPERATIONS, contents, states, store_world
from tests.faults.proxy import Proxy
from tests.faults.workers import DEADLINE, check_indexes, in_a_process
from tests.storage.mappings import Folder

LEFTOVERS = {"orphan page", "orphan reference"}
"""What an operation of several steps may leave that was cut short: nothing of a session, and `verify` removes it."""


class Death(BaseException):
    """The process ends here: nothing catches it, and nothing reaches the storage any more."""


class Killed(BaseException):
    """Ends the process where it would be raised, at once."""

    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Nth:
    """Raises at the n-th of the steps that it is given, before or after that took effect."""

    def __init__(self, at, error, *, applied=False):
        self.left, self._error, self._applied = at, error, applied

    def __call__(self, do):
        self.left -= 1
        if self.left != 0:
            return do()
        if self._applied:
            do()
        raise self._error


# Places ---------------------------------------------------------------------------------------------------------------


class Place:
    """Where sessions lie. Of a copy, what is opened first is what fails; others look at it.

    Attributes:
        WAYS: How it can fail, by name.
        HIDDEN: The ways of which a caller learns nothing: the call is done.
        timeout: Seconds; `verify` waits as long for other writers, where there may be some.

    """

    WAYS: ClassVar[dict[str, Any]]
    HIDDEN: ClassVar[list[str]] = []
    timeout = 10.0

    @contextmanager
    def open(self, ring=None):
        """Open a store of its own, and close all that was opened."""
        with ExitStack() as stack:
            mapping = self.mapping(stack)
            store = KVSessionStore(mapping if ring is None else Encrypted(mapping, ring), timeout=self.timeout)
            yield SessionManager(stack.enter_context(closing(store)), clock=StoppedClock(NOW))


class InMapping(Place):
    """Any mapping, whose writes fail: a dict, or a folder for another process."""

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

    def fail(self, at, way):
        self.opened[0].fail(of=("write", "delete"), at=at, **self.WAYS[way])

    def mend(self):
        """Fail no more; return whether anything failed."""
        self.opened[0].mend()
        return self.opened[0].faults > 0

    def kill(self, at, *, applied):
        self.opened[0].fail(Killed, of=("write", "delete"), at=at, applied=applied)


class Failing(connections.Connection):
    """A connection whose statements fail that write, those that begin and end a transaction included."""

    nth: Nth | None = None

    def execute(self, sql, *args):
        return self._do(sql, partial(super().execute, sql, *args))

    def executemany(self, sql, *args):
        return self._do(sql, partial(super().executemany, sql, *args))

    def _do(self, sql, do):
        if Failing.nth is None or sql == "BEGIN" or sql.startswith(("SELECT", "PRAGMA", "ROLLBACK")):
            return do()
        return Failing.nth(do)


class InFile(Place):
    """An SQLite file, whose statements fail."""

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

    def fail(self, at, way):
        Failing.nth = Nth(at, **self.WAYS[way])

    def mend(self):
        nth, Failing.nth = Failing.nth, None
        return nth.left <= 0

    def kill(self, at, *, applied):
        Failing.nth = Nth(at, Killed, applied=applied)


class OnServer(Place):
    """A server, to which the connection breaks; a client sends again what has no answer, or does not."""

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

    def fail(self, at, way):
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


@pytest.fixture
def place(request, tmp_path):
    """An empty place of the kind that the test is parametrised with."""
    if request.param == "dict":
        return InMapping({})
    if request.param == "folder":
        return InMapping(Folder(tmp_path / "items"))
    if request.param == "sqlite":
        return InFile(tmp_path / "chat.db")
    server = request.getfixturevalue(f"{request.param}_server")
    return OnServer(server.url, f"{secrets.token_hex(8)}:")


@pytest.fixture
def proxy(place):
    """Lets the connections of what is opened first go through a proxy, if the place is on a server."""
    if not isinstance(place, OnServer):
        yield
        return
    with Proxy(int(place.url.split(":")[2].partition("/")[0])) as place.proxy:
        yield


@pytest.fixture
def tell(request, long_form, capsys):
    """Print how many writes were tried, in the long form."""

    def tell(writes):
        if long_form:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.callspec.id:50} {writes} writes")
                sys.stdout.flush()

    return tell


# What holds -----------------------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """What an operation does that nothing disturbs."""

    before: dict[str, Any]
    after: dict[str, Any]
    returned: Any
    states: tuple[dict[str, Any], dict[str, Any]]


def told(result):
    """Return what a call returned, as far as it can be compared."""
    return result.session_id if isinstance(result, Session) else result


def prepare(place, operation):
    """Store what is there before; return what the operation makes of a copy of it."""
    with place.open(operation.rings[0]) as manager:
        store_world(manager)
        operation.arrange(manager)
    trial = place.copy()
    with trial.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        with trial.open(operation.rings[1]) as other:
            before, states_before = contents(other, branches=not operation.mends), states(other)
        returned = told(act())
        after, states_after = contents(manager, branches=not operation.mends), states(manager)
        expected = Expected(before, after, returned, (states_before, states_after))
        check_end(trial, operation, expected, manager)
    return expected


def check_lists(manager, found):
    users = {key: each[0] for key, each in found.items() if each}
    check_indexes(manager, users, [key for key in users if found[key][1] == "archived"])


def is_between(found, before, after):
    """Whether each text is as it was or as it will be."""
    if isinstance(found, (list, tuple)) and type(found) is type(before) is type(after):
        return len(found) == len(before) == len(after) and all(map(is_between, found, before, after))
    if isinstance(found, dict):
        return found.keys() == before.keys() == after.keys() and all(
            is_between(found[k], before[k], after[k]) for k in found
        )
    return found in (before, after)


def mend_all(manager):
    """Repair what is found; nothing is found then."""
    report = manager.verify(repair=True)
    assert report
    assert not report.problems or not manager.verify().problems


def check_between(place, operation, expected, *, mend):
    """Another store sees each session before or after, and lists that agree; what is left over can be removed."""
    with place.open(operation.rings[1]) as other:
        found = contents(other, branches=not operation.mends)
        for each in IDS:
            ends = expected.before[each], expected.after[each]
            assert found[each] in ends or (operation.stepwise and is_between(found[each], *ends))
        assert states(other) in expected.states
        if not operation.mends:
            check_lists(other, found)
            assert {each.kind for each in other.verify().problems} <= LEFTOVERS
        if mend:
            mend_all(other)
            assert operation.mends or contents(other) == found


def check_end(place, operation, expected, manager):
    """The operation is done, whole and once: for the manager that did it, for others, and in what lies there."""
    with place.open(operation.rings[1]) as other:
        for each in (manager, other):
            assert contents(each, branches=not operation.mends) == expected.after
            check_lists(each, expected.after)
            assert states(each) == expected.states[1]
        mend_all(other)
        for each in IDS:
            other.delete(each)
        for each in expected.states[1]:
            other.delete_user(each)
        other.purge_expired()
        assert not other.count(status=None)
        with ExitStack() as stack:
            mapping = place.mapping(stack)
            kept = [value for key in mapping if key != "pyai_sessions/probe" and (value := text_of(mapping[key]))]
        assert set(kept) == set(operation.kept)


def text_of(value):
    return value if isinstance(value, str) else bytes(value).decode()


def attack(base, operation, expected, way, at, *, mend):
    """Let the n-th write fail, and look; repeat the operation, and look. Return whether there was an n-th write."""
    place = base.copy()
    with place.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        place.fail(at, way)
        caught = returned = None
        try:
            returned = told(act())
        except (StorageError, Death) as err:
            caught = err
        failed = place.mend()
        if way in place.HIDDEN:  # where the short timeout was over before the second try, the call may still say so
            assert caught is None or isinstance(caught, StorageLockedError)
        assert caught is not None or returned == expected.returned
        if not failed:
            assert caught is None
            check_end(place, operation, expected, manager)
            return False
        check_between(place, operation, expected, mend=mend)
        if isinstance(caught, Death):
            repeat(place, operation, expected)
        else:
            if not operation.mends:
                check_lists(manager, contents(manager))
            returned = told(act())
            assert caught is None or not operation.returns or returned == expected.returned
            check_end(place, operation, expected, manager)
    return True


def repeat(place, operation, expected):
    """Do it again in another process, by who does not know how far the dead one came."""
    with place.open(operation.rings[1]) as manager:
        operation.load(manager)()
        check_end(place, operation, expected, manager)


@pytest.mark.parametrize("place", ["dict", "sqlite", pytest.param("valkey", marks=pytest.mark.long)], indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("proxy")
def test_a_write_that_fails(place, name, long_form, tell):
    """Each session is before or after, lists agree, and the same call, repeated, stores all of it, once."""
    operation = OPERATIONS[name]
    expected = prepare(place, operation)
    for at in count(1):
        ways = [(way, (n + at + at // len(place.WAYS)) % 2 == 0) for n, way in enumerate(place.WAYS)]
        tried = ways if long_form else [ways[at % len(ways)]]
        failed = [attack(place, operation, expected, way, at, mend=mend) for way, mend in tried]
        if not any(failed):
            break
    tell(at - 1)


def act_until_killed(link, place, name, at, applied):
    """In a process: do it, and be killed at the n-th write."""
    operation = OPERATIONS[name]
    with place.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        place.kill(at, applied=applied)
        act()
        link.send("done")


@pytest.mark.long
@pytest.mark.parametrize("place", ["folder", "sqlite", "valkey"], indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_process_that_is_killed(place, name, tell):
    """SIGKILL before or after a write: each session is before or after, and another process does what is missing."""
    operation = OPERATIONS[name]
    expected = prepare(place, operation)
    for applied in (False, True):
        for at in count(1):
            copy = place.copy()
            process, link = in_a_process(act_until_killed, copy, name, at, applied)
            process.join(DEADLINE)
            with link:
                if process.exitcode == 0:
                    assert link.recv() == "done"
                    break
            assert process.exitcode == -signal.SIGKILL
            check_between(copy, operation, expected, mend=at % 2 == 0)
            repeat(copy, operation, expected)
    tell(at - 1)
