"""Tests of stores on clusters, where indexes lie on other servers than documents."""

import random
import secrets
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from itertools import count

import pytest
import redis
import valkey.cluster

from pyai_sessions import ANYONE, RedisSessionStore, Session, SessionManager
from pyai_sessions.errors import StorageUnreachableError
from pyai_sessions.testing import StoppedClock

pytestmark = pytest.mark.wide

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def client(any_cluster):
    with any_cluster.client() as client:
        yield client


@pytest.fixture
def prefix(client):
    prefix = f"cluster:{secrets.token_hex(8)}:"
    yield prefix
    for key in client.scan_iter(prefix + "*", count=1000):
        client.delete(key)


def open_store(client, prefix, **options):
    return RedisSessionStore(client=client, prefix=prefix, timeout=0.2, **options)


# Where things lie -----------------------------------------------------------------------------------------------------


def test_a_session_lies_as_on_one_server(client, prefix):
    """A session's hash is the same as on one server, so that it can be moved between both."""
    manager = SessionManager(open_store(client, prefix))
    session = manager.create_session("ada", session_id="s/1")
    for n in range(40):
        session.add_message("user", f"message {n}")
    manager.save(session)

    fields = {each.decode() for each in client.hkeys(f"{prefix}s%2F1")}
    assert "session" in fields
    assert all(each.startswith("messages/") for each in fields - {"session"})
    assert client.zrange(f"{prefix}/user/ada/active", 0, -1) == [b"s%2F1"]


def test_sessions_spread_over_all_servers(client, prefix, any_cluster):
    """Sessions and the index of all sessions are spread over all servers."""
    manager = SessionManager(open_store(client, prefix))
    manager.import_sessions(Session(user_id="ada") for _ in range(300))

    for node in any_cluster.primaries():
        with node.client() as alone:
            names = list(alone.scan_iter(prefix + "*", count=1000))
        assert sum(b"/" not in each for each in names) > 50
        assert sum(b"/active/" in each for each in names) > 30


def test_sessions_of_one_server_are_listed_after_reindex(client, prefix, any_server):
    """Sessions that were moved by their hashes are listed after `reindex`."""
    with any_server.client() as alone, closing(RedisSessionStore(client=alone, prefix=prefix)) as store:
        old = SessionManager(store)
        for n in range(5):
            old.create_session("ada", session_id=f"s{n}")
            client.hset(f"{prefix}s{n}", mapping=alone.hgetall(f"{prefix}s{n}"))
        old.clear_all()
    manager = SessionManager(open_store(client, prefix))
    assert manager.list_sessions() == []

    assert manager.reindex() == 5

    assert {each.session_id for each in manager.list_sessions("ada")} == {f"s{n}" for n in range(5)}
    assert manager.count() == 5
    assert manager.verify()


def test_a_client_of_valkey_py_serves_as_well(any_cluster, prefix):
    """A decoding client of valkey-py works, with its own pipelines and errors."""
    port = any_cluster.primaries()[0].port
    with closing(valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port, decode_responses=True)) as client:
        manager = SessionManager(open_store(client, prefix))
        given = (Session(session_id=f"s{n}", user_id=f"user {n % 3}") for n in range(30))
        assert manager.import_sessions(given).inserted == 30
        session = manager.get_session("s3")
        for n in range(50):
            session.add_message("user", f"message {n}")
        manager.save(session)
        manager.append("s3", {"role": "user", "content": "more"})

        assert [each.session_id for each in manager.list_sessions(limit=1)] == ["s3"]
        assert len(manager.get_sessions_for_user("user 0")) == 10
        assert manager.get_sessions_for_user("user 0", limit=1)[0].message_count == 51
        manager.delete("s0")
        assert manager.archive_inactive(0) == manager.count(status="archived") == 29
        assert manager.restore("s3") is None
        assert manager.count() == 1
        assert manager.verify()
        assert manager.clear_all() == 29


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 7, 50, 1000])
def test_a_list_of_all_users_is_in_order(client, prefix, order, limit):
    """The list of all users merges its buckets in order, also if most sessions are in one."""
    dice = random.Random(limit)
    times = {f"s{n}": START + timedelta(seconds=dice.choice([n % 60, n, 10_000 - n])) for n in range(400)}
    manager = SessionManager(open_store(client, prefix))
    manager.import_sessions(
        Session(session_id=name, user_id="ada", created_at=START, updated_at=at) for name, at in times.items()
    )

    for users in ([], ["ada"]):
        found, cursor = [], None
        while True:
            page = manager.list_sessions(*users, order=order, limit=limit, cursor=cursor)
            found += [each.session_id for each in page]
            cursor = page.next_cursor
            if cursor is None or (limit == 1 and len(found) == 30):
                break
        expected = sorted(times, key=lambda name: (times[name], name), reverse=order == "newest")
        assert found == (expected if limit > 1 else expected[:30])


# Crashes between the steps --------------------------------------------------------------------------------------------


class Crash(Exception):  # noqa: N818 (not an error of any library)
    """Stands for the end of the process."""


class CrashingClient:
    """A cluster client whose process ends at one round trip, of which some commands were applied."""

    def __init__(self, client, at, applied):
        self._client, self._at, self._applied = client, at, applied
        self._trips = count(1)
        self.crashed = False

    def __getattr__(self, name):
        return getattr(self._client, name)

    def execute_command(self, *args, **options):
        if args[0] in ("EVALSHA", "EVAL", "ZADD", "ZREM") and self._due():
            if self._applied(0):
                self._client.execute_command(*args, **options)
            raise Crash
        return self._client.execute_command(*args, **options)

    def pipeline(self, **options):
        return CrashingPipeline(self, self._client.pipeline(**options))

    def _due(self):
        if next(self._trips) == self._at:
            self.crashed = True
        return self.crashed


class CrashingPipeline:
    def __init__(self, client, pipeline):
        self._owner, self._pipeline, self._commands = client, pipeline, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipeline.reset()

    def execute_command(self, *args, **options):
        self._commands.append((args, options))
        self._pipeline.execute_command(*args, **options)

    def execute(self, **options):
        if self._owner._due():
            for n, (args, each) in enumerate(self._commands):
                if self._owner._applied(n):
                    self._owner._client.execute_command(*args, **each)
            raise Crash
        return self._pipeline.execute(**options)


def change_user(manager):
    session = manager.get_session("s")
    session.user_id = "eve"
    manager.save(session)


def talk(manager):
    session = manager.get_session("s")
    session.add_message("user", "x")
    manager.save(session)


CHANGES = {
    "create": lambda manager: manager.create_session("ada", session_id="new"),
    "save": talk,
    "append": lambda manager: manager.append("s", {"role": "user", "content": "x"}),
    "change the user": change_user,
    "fork": lambda manager: manager.fork("s", new_id="new", user_id="eve"),
    "archive": lambda manager: manager.archive("s"),
    "restore": lambda manager: manager.restore("old"),
    "archive many": lambda manager: manager.archive_inactive(0),
    "delete": lambda manager: manager.delete("s"),
    "import": lambda manager: manager.import_sessions(
        Session(session_id=f"i{n}", user_id="ada", created_at=START, updated_at=START) for n in range(3)
    ),
}
APPLIED = {
    "nothing": lambda n: False,
    "all": lambda n: True,
    "the first": lambda n: n == 0,
    "all but the first": lambda n: n > 0,
    "every other": lambda n: n % 2 == 0,
}


@pytest.mark.parametrize(
    "applied",
    [
        pytest.param(APPLIED[name], id=name, marks=pytest.mark.long if name in ("all", "every other") else ())
        for name in APPLIED
    ],
)
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("ttl", [30 * 24 * 3600, pytest.param(None, marks=pytest.mark.long)])
def test_a_crash_between_the_steps_hides_no_session(valkey_cluster, change, applied, ttl):
    """After a crash at any round trip, applied in any part, the lists have every stored session."""
    with valkey_cluster.client() as client:
        for at in count(1):
            prefix, clock = f"crash:{secrets.token_hex(8)}:", StoppedClock()
            manager = SessionManager(open_store(client, prefix, ttl=ttl, clock=clock))
            for name in ("s", "old", "other"):
                manager.create_session("ada", session_id=name)
                clock.advance(seconds=1)
            manager.archive("old")
            crashing = CrashingClient(client, at, applied)
            clock.advance(days=1)
            with suppress(Crash):
                change(SessionManager(open_store(crashing, prefix, ttl=ttl, clock=clock)))

            documents = [manager.get_session(each) for each in ("s", "old", "other", "new", "i0", "i1", "i2")]
            for status in ("active", "archived"):
                for user in ("ada", "eve", ANYONE):
                    stored = {
                        each.session_id
                        for each in documents
                        if each and each.status == status and user in (ANYONE, each.user_id)
                    }
                    assert {each.session_id for each in manager.list_sessions(user, status=status)} == stored
            clock.advance(days=1)
            manager.restore("other")
            change_again = manager.get_session("other")
            change_again.add_message("user", "goes on")
            manager.save(change_again)
            assert manager.list_sessions("ada", limit=1)[0].session_id == "other"
            if crashing.crashed:
                manager.reindex()
            assert manager.verify().problems == []
            assert manager.count(status=None) == manager.clear_all()
            if not crashing.crashed:
                break
        assert at > 1


# Expiry ---------------------------------------------------------------------------------------------------------------


def test_an_expired_session_is_in_no_list_and_no_count(client, prefix):
    """An expired session is in no list. `purge_expired` removes its rest, but not a new session of its id."""
    manager = SessionManager(open_store(client, prefix, ttl=1))
    for n in range(4):
        manager.create_session(f"user {n % 2}", session_id=f"s{n}")
    while any(client.exists(f"{prefix}s{n}") for n in range(4)):
        time.sleep(0.02)
    again = manager.create_session("user 1", session_id="s0")

    assert [each.session_id for each in manager.list_sessions()] == ["s0"]
    assert manager.list_sessions("user 0") == []
    time.sleep(0.01)
    assert manager.count() == 1
    assert manager.count("user 0") == 0
    assert client.zcard(f"{prefix}/user/user%200/active") == 0
    assert manager.purge_expired() == 0
    assert manager.get_session("s0") == again
    assert manager.verify()


def test_shared_pages_live_as_long_as_what_shares_them(client, prefix):
    """Shared pages of a deleted session stay on their server as long as a fork shares them."""
    manager = SessionManager(open_store(client, prefix, ttl=1000))
    session = manager.create_session("ada", session_id="s")
    for n in range(100):
        session.add_message("user", f"message {n}")
    manager.save(session)
    for n in range(4):
        fork = manager.fork("s", new_id=f"fork {n}")
        client.expire(f"{prefix}s", 10)
        manager.save(fork)
        assert client.ttl(f"{prefix}s") > 1000
    manager.delete("s")
    client.expire(f"{prefix}s", 10)
    manager.append("fork 0", {"role": "user", "content": "x"})

    assert client.ttl(f"{prefix}s") > 1000
    assert manager.purge_expired() == 0
    assert (manager.count(), manager.get_session("fork 3").message_count) == (4, 100)
    assert manager.clear_all() == 4
    assert not client.exists(f"{prefix}s")


@pytest.mark.parametrize("first", ["parent", "fork"])
def test_what_only_an_expired_fork_kept_goes(client, prefix, first):
    """Pages that only a fork shared go with it, though its hash is gone, and its parent's lives on."""
    manager = SessionManager(open_store(client, prefix))
    session = manager.create_session("ada", session_id="s")
    for n in range(100):
        session.add_message("user", f"message {n}")
    manager.save(session)
    fork = SessionManager(open_store(client, prefix, ttl=1)).fork("s", new_id="fork")
    if first == "parent":
        manager.delete("s")
    while client.exists(f"{prefix}fork") or datetime.now(timezone.utc) <= fork.expires_at:
        time.sleep(0.02)
    assert manager.verify().problems == []
    if first == "fork":
        manager.delete("s")
        assert not client.exists(f"{prefix}s")
    manager.purge_expired()

    assert list(client.scan_iter(prefix + "*", count=1000)) == []


def test_a_session_that_lives_on_is_not_purged(client, prefix):
    """A session whose life was extended by a store with another ttl is not purged."""
    manager = SessionManager(open_store(client, prefix, ttl=1))
    for name in "st":
        manager.create_session("ada", session_id=name)
    client.persist(f"{prefix}s")
    longer = SessionManager(open_store(client, prefix, ttl=100))
    longer.append("t", {"role": "user", "content": "x"})
    assert client.ttl(f"{prefix}t") > 90
    time.sleep(1.1)

    assert ([each.session_id for each in manager.list_sessions("ada")], manager.count("ada")) == (["t"], 1)
    assert manager.purge_expired() == 1

    assert not client.exists(f"{prefix}s")
    assert (manager.get_session("t").message_count, manager.count("ada"), manager.verify().problems) == (1, 1, [])


# Errors ---------------------------------------------------------------------------------------------------------------


def test_no_node_that_answers_is_unreachable(prefix, valkey_cluster):
    """If no node answers, StorageUnreachableError is raised."""

    class Lost:
        def __getattr__(self, name):
            return getattr(client, name)

        def execute_command(self, *_, **__):
            msg = "Redis Cluster cannot be connected"
            raise redis.exceptions.RedisClusterException(msg)

    with valkey_cluster.client() as client:
        manager = SessionManager(open_store(Lost(), prefix))
        with pytest.raises(StorageUnreachableError, match="the cluster of 127"):
            manager.get_session("s")
