"""Tests of the expiry of sessions on Redis and Valkey: forks, families and purges."""

import itertools
import time
from contextlib import closing
from datetime import datetime, timezone

import pytest

from pyai_sessions import (
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionDeletedError,
    SessionManager,
    SessionNotFoundError,
)
from tests.storage.redis_stores import keys, talk, wait_until_expired, wait_until_gone


@pytest.fixture
def store(any_server, prefix):
    with closing(RedisSessionStore(any_server.url, prefix=prefix)) as store:
        yield store


@pytest.fixture
def mortal(any_server, prefix):
    """Return a manager of the same sessions, whose own expire after a second."""
    with SessionManager(RedisSessionStore(any_server.url, prefix=prefix, ttl=1), close_store=True) as manager:
        yield manager


# Expiry ---------------------------------------------------------------------------------------------------------------


def test_every_save_begins_the_time_to_live_anew(any_server, client, prefix):
    """Save, append, archive and restore start the ttl anew."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        session = talk(store)
        assert 0 < client.ttl(prefix + "s") <= 1000

        for act in (
            lambda: store.save(session),
            lambda: manager.append("s", Message("user", "x")),
            lambda: manager.archive("s"),
            lambda: manager.restore("s"),
        ):
            client.expire(prefix + "s", 10)
            act()
            assert client.ttl(prefix + "s") > 900


def test_shared_pages_live_as_long_as_what_shares_them(any_server, client, prefix):
    """Each save of a fork keeps its parents' pages alive a little longer than itself."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        talk(store, count=100)
        manager.fork("s", new_id="child")
        child = store.get("child")
        for n in range(100):
            child.add_message("user", f"more {n}")
        store.save(child)
        fork = manager.fork("child", new_id="fork")
        store.delete("s")
        assert set(client.hkeys(prefix + "s")) == {
            each for each in client.hkeys(prefix + "s") if each.startswith((b"messages/", b"forks/"))
        }

        for act in (
            lambda: store.save(fork),
            lambda: manager.append("fork", Message("user", "x")),
            lambda: manager.archive("fork"),
            lambda: manager.fork("fork", new_id="another"),
        ):
            for name in ("s", "child"):
                client.expire(prefix + name, 10)
            act()
            assert [client.ttl(prefix + name) > 1000 for name in ("s", "child")] == [True, True]
        for name in ("child", "fork", "another"):
            store.delete(name)
        assert keys(client, prefix) == {}


def kinds_of_fork(manager, without):
    """Return functions that each make a session which shares pages of the expiring "s", and does not expire."""

    def fork_anew():  # of a former session of its own id
        manager.fork("s", new_id="child")
        manager.delete("s")
        without.fork("child", new_id="s")
        return "s"

    return {
        "a fork": lambda: without.fork("s", new_id="fork").session_id,
        "a fork of a fork": lambda: (
            without.fork(manager.fork("s", new_id="child").session_id, new_id="fork").session_id
        ),
        "a fork of a fork, late": lambda: (
            without.fork(without.fork("s", new_id="c").session_id, new_id="fork").session_id
        ),
        "the id again": fork_anew,
    }


@pytest.mark.parametrize("kind", kinds_of_fork(None, None))
def test_a_fork_without_an_expiry_outlives_its_parents(any_server, client, prefix, kind):
    """The pages of a fork without a ttl stay, whatever happens to its parents."""
    with (
        SessionManager(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000), close_store=True) as manager,
        SessionManager(RedisSessionStore(any_server.url, prefix=prefix), close_store=True) as without,
    ):
        talk(manager, count=100)
        fork = kinds_of_fork(manager, without)[kind]()
        for parent in ("s", "child", "c"):
            if parent != fork and (session := manager.get_session(parent)):
                session.add_message("user", "one more")
                manager.save(session)
                manager.append(parent, Message("user", "x"))

        for each in ("s", "child", "c"):
            if client.pttl(prefix + each) >= 0:
                client.delete(prefix + each)  # as the server will
        assert without.get_session(fork).message_count == 100
        assert client.pttl(prefix + "s") == client.pttl(prefix + fork) == -1


def test_a_fork_is_whole_when_its_parent_has_expired(any_server, client, prefix):
    """A fork of an expired parent is whole. Its end frees the pages."""
    with (
        closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1)) as store,
        SessionManager(RedisSessionStore(any_server.url, prefix=prefix), close_store=True) as without,
    ):
        talk(store, count=100)
        without.fork("s", new_id="fork")
        while store.get("s") is not None:
            time.sleep(0.01)

        assert without.get_session("fork").message_count == 100
        assert (without.count(), without.purge_expired()) == (1, 1)
        assert without.get_session("fork").message_count == 100
        assert without.verify().problems == []
        without.delete("fork")
        assert keys(client, prefix) == {}


@pytest.mark.parametrize("ttl", [None, 1000])
def test_a_session_in_the_place_of_one_whose_pages_forks_share_lives_as_it_should(any_server, client, prefix, ttl):
    """A new session under the id of one whose pages are shared keeps both for their own times."""
    other_ttl = 1000 if ttl is None else None
    with (
        closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=other_ttl)) as before,
        closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=ttl)) as store,
    ):
        talk(before, count=100)
        SessionManager(before).fork("s", new_id="fork")
        before.delete("s")

        session = talk(store, count=3)
        session.add_message("user", "more")
        store.save(session)

        assert client.pttl(prefix + "s") == -1
        assert before.get("fork").message_count == 100
        assert store.get("s").message_count == 4


def test_a_missing_reference_is_mended_for_as_long_as_its_fork_lives(any_server, client, prefix):
    """A repaired reference keeps the owner's pages for as long as the fork lives."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        talk(store, count=100)
        manager.fork("s", new_id="fork")
        store.delete("s")
        (field,) = (each for each in client.hkeys(prefix + "s") if each.startswith(b"forks/"))
        client.hdel(prefix + "s", field)
        client.expire(prefix + "s", 10)

        assert [each.kind for each in manager.verify(repair=True).problems] == ["missing reference"]

        assert client.hexists(prefix + "s", field)
        assert 900 < client.ttl(prefix + "s") <= 1060


def test_what_a_family_leaves_expires_with_it(any_server, client, prefix):
    """A deleted session's shared pages are in no list, no count and no purge."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1)) as store:
        manager = SessionManager(store)
        talk(store, count=100)
        manager.fork("s", new_id="fork")
        store.delete("s")
        client.expire(prefix + "s", 2)
        assert (manager.count(), manager.count("ada"), manager.purge_expired()) == (1, 1, 0)
        assert store.get("fork").message_count == 100
        wait_until_gone(client, prefix + "fork", prefix + "s")

        assert (manager.count(), manager.list_sessions(), store.get("fork"), store.get("s")) == (0, [], None, None)
        assert manager.verify().problems == []


def test_an_expired_session_is_gone_from_everything_at_once(any_server, client, prefix):
    """An expired session is in no read, list, count or index. Others are."""
    with (
        closing(RedisSessionStore(any_server.url, prefix=prefix)) as kept,
        closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1)) as store,
    ):
        manager = SessionManager(store)
        talk(kept, "kept")
        copies = [talk(store, f"s{n}", count=40) for n in range(3)]
        manager.archive("s2")
        wait_until_gone(client, *(f"{prefix}s{n}" for n in range(3)))

        assert [store.get(f"s{n}") for n in range(3)] == [None] * 3
        assert [each.session_id for each in store.list_for_user("ada", include_archived=True)] == ["kept"]
        assert [each.session_id for each in manager.list_sessions(status=None)] == ["kept"]
        assert (manager.count("ada"), manager.count(), manager.count(status=None)) == (1, 1, 1)
        assert store.delete("s0") is False
        copies[0].add_message("user", "too late")
        with pytest.raises(SessionDeletedError):
            store.save(copies[0])
        assert manager.verify()
        assert keys(client, prefix) == {"kept": "hash", "/active": "zset", "/user/ada/active": "zset"}
        assert (
            client.zrange(prefix + "/active", 0, -1) == client.zrange(prefix + "/user/ada/active", 0, -1) == [b"kept"]
        )


@pytest.mark.parametrize("anew", ["eve", "Ädä / 1", None])
def test_an_expired_session_makes_room_for_another_of_its_id(any_server, client, prefix, anew):
    """A new session under an expired one's id replaces it in all lists and counts."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1)) as store:
        manager = SessionManager(store)
        talk(store, "s")
        wait_until_gone(client, prefix + "s")
        store.save(Session(session_id="s", user_id=anew))
        client.expire(prefix + "s", 100)

        manager.purge_expired()

        assert (manager.count("ada"), manager.count()) == (0, 1)
        assert [each.session_id for each in (manager.list_sessions(anew) if anew else manager.list_sessions())] == ["s"]
        assert client.exists(prefix + "/user/ada/active") == 0
        assert manager.verify()


def test_an_append_does_not_bring_an_expired_session_back(any_server, client, prefix):
    """An append to an expired session raises, even if the store remembers it."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        for again in range(2):
            talk(store)
            for n in range(3):
                manager.append("s", Message("user", f"{again}/{n}"))
            assert [each.content for each in store.get("s").messages][-3:] == [f"{again}/{n}" for n in range(3)]
            client.pexpire(prefix + "s", 1)
            wait_until_gone(client, prefix + "s")

            with pytest.raises(SessionNotFoundError):
                manager.append("s", Message("user", "too late"))
            assert store.get("s") is None

        talk(store)
        manager.append("s", Message("user", "new"))
        assert [each.content for each in store.get("s").messages] == ["message 0", "new"]
        assert manager.verify()


def test_a_session_that_the_server_drops_early_is_not_listed(any_server, client, prefix):
    """A session that the server dropped early is in no read or list, and `verify` finds its entries."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        for n in range(3):
            talk(store, f"s{n}")
        client.pexpire(prefix + "s1", 1)
        wait_until_gone(client, prefix + "s1")

        assert store.get("s1") is None
        assert [each.session_id for each in store.list_for_user("ada")] == ["s2", "s0"]
        assert [each.session_id for each in manager.list_sessions(limit=2)] == ["s2", "s0"]
        assert [each.session_id for each in manager.verify(repair=True).problems] == ["s1"]
        assert manager.verify()
        assert manager.count("ada") == 2


def plant_expired_parents(client, prefix, count):
    """Store expired parents of forks, whose heads the server still has."""
    with client.pipeline() as pipeline:
        for n in range(count):
            name = f"parent{n:06}"
            pipeline.hset(prefix + name, "session", '{"format":1,"status":"active","user_id":"ada"}')
            pipeline.zadd(prefix + "/active", {name: n})
            pipeline.zadd(prefix + "/user/ada/active", {name: n})
            pipeline.zadd(prefix + "/expiry", {f"{name}/active/ada": n})
        pipeline.execute()


def calls_of(client, act):
    """Return how often each command ran during *act*, scripts included."""
    before = client.info("commandstats")
    act()
    after = client.info("commandstats")
    calls = {key: after[key]["calls"] - before.get(key, {"calls": 0})["calls"] for key in after}
    return {key.removeprefix("cmdstat_"): each for key, each in calls.items() if each}


def test_expired_parents_of_forks_hide_no_other_expired_session(any_server, client, prefix):
    """Saves clear away dropped sessions even behind expired parents that stay."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        plant_expired_parents(client, prefix, 30)
        client.zadd(prefix + "/expiry", {f"gone{n}/active/bob": 1000 + n for n in range(30)})
        client.zadd(prefix + "/user/bob/active", {f"gone{n}": n for n in range(30)})
        client.zadd(prefix + "/active", {f"gone{n}": n for n in range(30)})
        session = talk(store)

        for n in range(200):
            session.add_message("user", str(n))
            store.save(session)

        assert client.zcard(prefix + "/user/bob/active") < 10
        assert client.zcard(prefix + "/user/ada/active") == 31
        assert (manager.count("bob"), manager.count("ada"), manager.count()) == (0, 1, 1)


@pytest.mark.parametrize("count", [50, 999, 1000, 1001, 3500])
def test_no_count_looks_at_all_that_is_due_in_one_script(any_server, client, prefix, count):
    """A count is right, and no script or command looks at more than a thousand entries."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        manager = SessionManager(store)
        plant_expired_parents(client, prefix, count)
        talk(store)
        talk(store, "t", "bob")
        manager.count("ada")  # the server has learnt the script
        counts = []

        for user, expected in (("ada", 1), ("bob", 1), (None, 2)):
            calls = calls_of(
                client, lambda user=user: counts.append(manager.count() if user is None else manager.count(user))
            )
            assert counts.pop() == expected
            assert calls["zrangebyscore"] <= 4 + count // 500
            assert calls.get("hget", 0) <= 50


def test_purging_counts_what_had_expired(any_server, client, prefix):
    """`purge_expired` counts each expired session once, and keeps a new one of the same id."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1)) as store:
        manager = SessionManager(store)
        talked = [talk(store, f"s{n}") for n in range(3)]
        wait_until_gone(client, *(f"{prefix}s{n}" for n in range(3)))
        while datetime.now(timezone.utc) < talked[-1].expires_at:  # the server's clock may be some milliseconds ahead
            time.sleep(0.001)

        assert manager.purge_expired() == 3
        assert manager.purge_expired() == 0


def forks_by_kind(manager, mortal):
    """Return functions that each make the expiring "fork", which shares pages of "s"; some also make "c"."""

    def of_a_fork():
        manager.fork("s", new_id="c")
        mortal.fork("c", new_id="fork")

    def beside_another():
        manager.fork("s", new_id="c")
        mortal.fork("s", new_id="fork")

    def prolonged():
        mortal.fork("s", new_id="fork")
        mortal.append("fork", Message("user", "x"))

    return {
        "a fork": lambda: mortal.fork("s", new_id="fork"),
        "a fork of a fork": of_a_fork,
        "a fork beside another": beside_another,
        "a prolonged fork": prolonged,
    }


CASES = list(itertools.product(forks_by_kind(None, None), ["parents", "fork"], ["purge", "erase"]))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_what_only_an_expired_fork_kept_goes(store, mortal, client, prefix, case):
    """Pages that only a fork shared go with it, though the server drops its hash, and its parents' hashes live on."""
    manager = SessionManager(store)
    kind, first, act = case
    talk(manager, count=100)
    forks_by_kind(manager, mortal)[kind]()
    if first == "parents":
        for each in ("s", "c"):
            manager.delete(each)
    wait_until_expired(client, prefix, "fork")
    if first == "fork":
        for each in ("s", "c"):
            manager.delete(each)
        assert {*keys(client, prefix)} <= {"/active", "/user/ada/active", "/expiry"}
    if act == "erase":
        assert manager.delete_user("ada").shared == []
        assert {*keys(client, prefix)} <= {"/active", "/expiry"}
    manager.purge_expired()

    assert keys(client, prefix) == {}


def test_what_only_an_expired_fork_kept_of_an_encrypted_session_goes(client, prefix):
    """The same holds in an encrypted store, and in a namespace of it."""
    manager, mortal = (
        SessionManager(KVSessionStore(Encrypted(RedisMapping(client, prefix, ttl), {"k": bytes(32)}), namespace="acme"))
        for ttl in (None, 1)
    )
    talk(manager, count=100)
    mortal.fork("s", new_id="fork")
    manager.delete("s")
    wait_until_expired(client, f"{prefix}/namespace/acme/", "fork")
    assert manager.verify().problems == []
    manager.purge_expired()

    assert keys(client, prefix) == {}


def test_what_an_expired_fork_shared_with_others_stays(store, mortal, client, prefix):
    """Purging keeps pages that another fork, a new session or the parent names."""
    manager = SessionManager(store)
    for parent in ("s", "kept"):
        talk(manager, parent, count=100)
        mortal.fork(parent, new_id=f"fork-{parent}")
        manager.fork(parent, new_id=f"other-{parent}")
    manager.delete("s")
    wait_until_expired(client, prefix, "fork-s", "fork-kept")
    again = manager.fork("kept", new_id="fork-kept")

    assert manager.purge_expired() == 2

    assert manager.verify().problems == []
    for each in ("kept", "other-s", "other-kept", again.session_id):
        assert len(manager.get_session(each).messages) == 100
    for each in ("kept", "other-s", "other-kept", again.session_id):
        manager.delete(each)
    assert keys(client, prefix) == {}


def test_saves_clear_away_what_lists_say_of_forks_that_went_with_their_parents(any_server, client, prefix):
    """Where nobody purges, the list of forks does not grow for ever."""
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as store:
        client.zadd(prefix + "/forks", {f"gone{n}/fork/c{n}": n for n in range(30)})
        talk(store, count=100)
        SessionManager(store).fork("s", new_id="fork")
        session = store.get("s")

        for n in range(70):
            session.add_message("user", str(n))
            store.save(session)

        assert [each.split(b"/")[:2] for each in client.zrange(prefix + "/forks", 0, -1)] == [[b"s", b"fork"]]


def test_clearing_leaves_nothing_of_forks_that_expired(mortal, client, prefix):
    """`clear_all` also removes what lists say of forks that the server dropped with their parents."""
    talk(mortal, count=100)
    mortal.fork("s", new_id="fork")
    client.pexpire(prefix + "s", 1)
    wait_until_expired(client, prefix, "s", "fork")
    mortal.clear_all()

    assert keys(client, prefix) == {}


def test_what_expired_is_no_problem(store, mortal, client, prefix):
    """`verify` reports no problem with list entries and references of sessions that the server dropped in time."""
    manager = SessionManager(store)
    talk(manager, count=100)
    mortal.fork("s", new_id="fork")
    talk(mortal, "anew")
    talk(mortal, "app", user_id=None)
    wait_until_expired(client, prefix, "fork", "app", "anew")
    talk(manager, "anew", user_id="bob")

    assert manager.verify().problems == []
    assert manager.verify(repair=True).problems == []
    assert manager.purge_expired() == 3

    assert {*keys(client, prefix)} == {"s", "anew", "/active", "/user/ada/active", "/user/bob/active"}
    assert not [each for each in client.hkeys(prefix + "s") if each.startswith(b"forks/")]
    assert manager.verify().problems == []


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "60", True])
def test_what_cannot_be_a_time_to_live_is_refused(ttl):
    """A ttl is a whole number of seconds above 0, or None."""
    with pytest.raises(InvalidValueError) as caught:
        RedisSessionStore("redis://localhost", ttl=ttl)

    assert caught.value.path == "ttl"
