"""Tests of stores on Redis and Valkey: keys, expiry, clients and servers."""

import secrets
import time
from contextlib import closing
from datetime import datetime, timezone

import pytest
import redis
import redis.asyncio
import redis.cluster
import valkey
import valkey.asyncio
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import (
    ANYONE,
    InvalidValueError,
    KVSessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionDeletedError,
    SessionManager,
    SessionNotFoundError,
    SessionStatus,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from pyai_sessions.documents.keys import encode_id, head_key, namespace_prefix
from pyai_sessions.documents.listed import EXPIRY
from pyai_sessions.storage.redis.layout import Layout


@pytest.fixture
def prefix():
    return f"test:{secrets.token_hex(8)}:"


@pytest.fixture
def client(any_server):
    with any_server.client() as client:
        yield client


@pytest.fixture
def store(any_server, prefix):
    with closing(RedisSessionStore(any_server.url, prefix=prefix)) as store:
        yield store


def talk(store, session_id="s", user_id="ada", count=1):
    session = Session(session_id=session_id, user_id=user_id)
    for n in range(count):
        session.add_message("user", f"message {n}")
    store.save(session)
    return session


def keys(client, prefix):
    return {key.decode().removeprefix(prefix): client.type(key).decode() for key in client.keys(f"{prefix}*")}


def wait_until_gone(client, *names):
    deadline = time.monotonic() + 60
    while client.exists(*names):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Beside others --------------------------------------------------------------------------------------------------------


NEIGHBOURS = ["", "inner:", "active/", "user/ada/", "namespace/a/", "s:", "other/", ":", "é", "*"]
"""What longer prefixes add to a prefix."""


def neighbours(any_server, prefix):
    """Return stores with prefixes that begin alike, with and without a namespace."""
    found = {}
    for more in NEIGHBOURS:
        for namespace in (None, "a", "user", "/", "other"):
            options = {"prefix": prefix + more, "namespace": namespace, "timeout": 0.2}
            found[more, namespace] = SessionManager(RedisSessionStore(any_server.url, **options))
    return found


def test_neighbours_on_a_server_never_meet(any_server, client, prefix):
    """Stores with prefixes that begin alike repair, erase and clear only their own sessions."""
    managers = neighbours(any_server, prefix)
    foreign = [f"{prefix}{each}" for each in ("my:hash", "inner:/x", "/other/%ff", "/active/", "/user/ada", "a/b")]
    for name in foreign:
        client.hset(name, "session", "2")
    for manager in managers.values():
        for session_id in ("s", "active", "0"):
            session = manager.create_session("ada", session_id=session_id)
            for n in range(40):
                session.add_message("user", str(n))
            manager.save(session)
        manager.fork("s", user_id="bob", new_id="ada")
        manager.archive("0")

    for name, manager in managers.items():
        assert manager.verify(repair=True).problems == [], name
        assert (manager.count(), manager.count("ada"), manager.reindex()) == (3, 2, 4), name
        assert manager.delete_user("ada", scan=True).session_ids == ["0", "active", "s"], name
        assert manager.clear_all() == 1, name

    assert [client.hgetall(name) for name in foreign] == [{b"session": b"2"}] * len(foreign)
    assert sorted(keys(client, prefix)) == sorted(each.removeprefix(prefix) for each in foreign)
    for manager in managers.values():
        manager.store.close()


def test_neighbouring_mappings_hold_their_own_items_alone(client, prefix):
    """A mapping does not show or clear items of one with a longer prefix."""
    keys = ["session/s", "inner:s", "kind/inner:s", "kind//s", "kind/namespace/a", "namespace/a/k/inner:s", "k/\ud800:"]
    mappings = [RedisMapping(client, prefix + more) for more in NEIGHBOURS]
    for mapping in mappings:
        for key in keys:
            mapping[key] = mapping.prefix

    assert [sorted(mapping) for mapping in mappings] == [sorted(keys)] * len(mappings)
    for n, mapping in enumerate(mappings, start=1):
        mapping.clear()
        assert [len(each) for each in mappings] == [0] * n + [len(keys)] * (len(mappings) - n)


def names_of(layout, namespace, texts):
    """Return all key names that a storage can write for these ids and users."""
    under = namespace_prefix(namespace)
    keys = ["kind", *(f"kind/{each}" for each in (*texts, *NEIGHBOURS)), *map(head_key, texts)]
    lists = [EXPIRY]
    for status in SessionStatus:
        lists += [status.value, *(f"user/{encode_id(each)}/{status.value}" for each in texts)]
    found = {layout.at(under + each)[0] for each in keys}
    return found | {key for each in lists for key in layout.sets_of(under + each)}


def accepted(prefix):
    try:
        RedisMapping(redis.Redis(), prefix)
    except InvalidValueError:
        return False
    return True


WORDS = ["active", "archived", "user", "other", "namespace", "expiry", "expiring", "a", "1"]
TEXTS = st.sampled_from(WORDS) | st.text(st.sampled_from("a1%/:._~-\ud800é{}*") | st.characters(), min_size=1)
ENDS = st.lists(st.tuples(st.sampled_from(["", *WORDS]), st.sampled_from([":", "/", ""])).map("".join), max_size=3)
PREFIXES = (
    st.tuples(ENDS, ENDS)
    .map(lambda parts: ("a:" + "".join(parts[0]), "a:" + "".join(parts[0] + parts[1])))
    .filter(lambda prefixes: all(map(accepted, prefixes)))
)
"""Two prefixes; the second begins with the first."""


@given(
    prefixes=PREFIXES,
    namespaces=st.tuples(st.none() | TEXTS, st.none() | TEXTS),
    texts=st.lists(TEXTS, max_size=4),
    kinds=st.tuples(st.booleans(), st.booleans()),
)
def test_two_stores_never_name_the_same_key(prefixes, namespaces, texts, kinds):
    """Stores of two accepted prefixes never use the same key, for any namespaces, ids and users."""
    ids = [*texts, *WORDS, *(f"{each}{more}" for each in WORDS for more in WORDS)]
    names = []
    for prefix, namespace, clustered in zip(prefixes, namespaces, kinds, strict=True):
        names.append(names_of(Layout(prefix, split=clustered), namespace, ids))

    same = (prefixes[0], namespaces[0]) == (prefixes[1], namespaces[1])
    assert bool(names[0] & names[1]) == same


@pytest.mark.parametrize("bad", ["", "tenant1", "app.", "/", "/app/", "app:/", "app//", "app%", "a:/b:", 7, b"a:"])
def test_a_prefix_that_others_could_be_taken_for_is_refused(bad, any_server):
    """An ambiguous prefix raises an error that suggests another."""
    for make in (lambda: RedisSessionStore(any_server.url, prefix=bad), lambda: RedisMapping(redis.Redis(), bad)):
        with pytest.raises(InvalidValueError) as caught:
            make()
        assert caught.value.path == "prefix"
        assert "':'" in str(caught.value) or "'app/sessions/'" in str(caught.value) or "'pyai:" in str(caught.value)
    for good in ("app:", "app/sessions/", "{app}", "app/é", "a:b:", "app "):
        RedisMapping(redis.Redis(), good)


def test_a_session_of_a_namespace_lives_as_long_as_the_mapping_says(client, prefix):
    """A mapping's ttl applies in namespaces, too."""
    talk(KVSessionStore(RedisMapping(client, prefix, ttl=1000), namespace="a"))

    assert 0 < client.ttl(f"{prefix}/namespace/a/s") <= 1000


# What lies on the server ----------------------------------------------------------------------------------------------


def test_a_session_is_one_hash_beside_two_sorted_sets(store, client, prefix):
    """Sessions and indexes have the documented key names, with percent-encoded ids."""
    session = talk(store, "s/1*", "a:b", count=100)

    assert keys(client, prefix) == {
        "s%2F1%2A": "hash",
        "/active": "zset",
        "/user/a%3Ab/active": "zset",
    }
    fields = sorted(each.decode() for each in client.hkeys(prefix + "s%2F1%2A"))
    assert [each.rpartition("/")[::2] for each in fields[:-1]] == [
        (fields[0].rpartition("/")[0], str(n)) for n in range(len(fields) - 1)
    ]
    assert fields[0].startswith("messages/")
    assert fields[-1] == "session"
    microseconds = round(session.updated_at.timestamp() * 1_000_000)
    assert client.zrange(prefix + "/active", 0, -1, withscores=True) == [(b"s%2F1%2A", microseconds)]


def test_a_deleted_session_leaves_no_key(store, client, prefix):
    """A deleted session leaves no key and no entry."""
    talk(store, count=100)
    store.clock = lambda: Session().created_at.replace(year=2100)
    assert SessionManager(store).archive_inactive(days=1) == 1
    store.delete("s")

    assert keys(client, prefix) == {}


def test_stores_of_different_prefixes_do_not_meet(store, any_server, client, prefix):
    """Stores of different prefixes share nothing, and clearing one keeps others' keys."""
    talk(store)
    with closing(RedisSessionStore(any_server.url, prefix=prefix + "inner:")) as inner:
        talk(inner, user_id="bob")
        client.set(prefix + "mine", "1")
        client.hset(prefix + "my:hash", "session", "2")

        assert SessionManager(store).clear_all() == 1

        assert inner.get("s").user_id == "bob"
        assert SessionManager(inner).count() == 1
        assert (client.get(prefix + "mine"), client.hget(prefix + "my:hash", "session")) == (b"1", b"2")


def test_scripts_that_the_server_forgot_are_sent_again(store, client):
    """After SCRIPT FLUSH or a restart, scripts are sent again."""
    session = talk(store)
    client.script_flush()
    session.add_message("assistant", "still here")
    store.save(session)
    client.script_flush()

    assert SessionManager(store).count() == 1
    assert store.get("s") == session


def test_a_save_is_one_round_trip(store, any_server, client, prefix):
    """A save is one command, however long the conversation is."""
    session = talk(store, count=100)
    session.add_message("user", "one more")
    client.ping()  # it is connected

    with any_server.client() as other, other.monitor() as monitor:
        store.save(session)
        client.echo(prefix)
        met = [monitor.next_command()]
        while met[-1]["command"] != f"ECHO {prefix}":
            met.append(monitor.next_command())

    sent = [each["command"].split()[0] for each in met if each["client_type"] != "lua"]  # the script's own are no trips
    assert sent == ["EVALSHA", "ECHO"]
    assert len(met) > len(sent)


# The indexes ----------------------------------------------------------------------------------------------------------


def drop(client, sets):
    client.delete(*sets)


def drop_those_of_users(client, sets):
    client.delete(*(each for each in sets if b"/user/" in each))


def shift(client, sets):
    for each in sets:
        for member, score in client.zrange(each, 0, 50, withscores=True):
            client.zadd(each, {member: score - 86_400_000_000})


def swap(client, sets):
    for each in sets:
        client.rename(each, each + b".")
    for each in sets:
        start, _, status = each.rpartition(b"/")
        client.rename(each + b".", start + {b"active": b"/archived", b"archived": b"/active"}[status])


def haunt(client, sets):
    for each in sets:
        client.zadd(each, {f"ghost{n}": n for n in range(150)})


@pytest.mark.parametrize("wrong", [drop, drop_those_of_users, shift, swap, haunt])
@pytest.mark.parametrize("act", ["reindex", "repair"])
def test_wrong_sorted_sets_are_put_right(store, client, prefix, wrong, act):
    """`reindex` and a repair correct missing, wrong and superfluous entries in both indexes."""
    manager = SessionManager(store)
    sessions = [Session(session_id=f"s{n}", user_id=("ada", "bob")[n % 2]) for n in range(250)]
    for each in sessions[::5]:
        each.archive()
    SessionManager(store).import_sessions(sessions)
    wrong(client, client.keys(f"{prefix}/*"))
    assert not manager.verify()

    if act == "reindex":
        assert manager.reindex() == 250
    else:
        assert manager.verify(repair=True)

    assert manager.verify().problems == []
    for user in ("ada", "bob", ANYONE):
        for status in SessionStatus:
            expected = {
                each.session_id for each in sessions if each.status is status and user in (ANYONE, each.user_id)
            }
            listed = [each.session_id for each in manager.list_sessions(user, status=status, limit=None)]
            assert set(listed) == expected
            assert len(listed) == manager.count(user, status=status) == len(expected)


def test_upkeep_writes_nothing_where_all_is_right(store, client):
    """`reindex`, `verify` and a repair write nothing if all is right."""
    manager = SessionManager(store)
    SessionManager(store).import_sessions(Session(session_id=f"s{n}", user_id="ada") for n in range(250))
    talk(store, count=100)
    manager.archive("s7")
    before = client.info("persistence")["rdb_changes_since_last_save"]

    assert manager.reindex() == 251
    assert manager.verify(repair=True)

    assert client.info("persistence")["rdb_changes_since_last_save"] == before


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


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "60", True])
def test_what_cannot_be_a_time_to_live_is_refused(ttl):
    """A ttl is a whole number of seconds above 0, or None."""
    with pytest.raises(InvalidValueError) as caught:
        RedisSessionStore("redis://localhost", ttl=ttl)

    assert caught.value.path == "ttl"


# Clients --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [redis.Redis, valkey.Valkey])
@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3, "decode_responses": True}])
def test_a_clients_settings_stay_as_they_are(any_server, prefix, kind, options):
    """A given client keeps its options, callbacks and results."""
    with kind.from_url(any_server.url, **options) as client:
        client.set(prefix + "mine", "1")
        before = (
            dict(client.connection_pool.connection_kwargs),
            dict(client.response_callbacks),
            client.get(prefix + "mine"),
        )

        with closing(KVSessionStore(RedisMapping(client, prefix=prefix))) as store:
            talk(store, count=100)
            assert store.list_for_user("ada")[0].message_count == 100

        assert (
            dict(client.connection_pool.connection_kwargs),
            dict(client.response_callbacks),
            client.get(prefix + "mine"),
        ) == before
        assert client.ping()  # and it is still open


@pytest.mark.parametrize(
    "kind",
    [redis.asyncio.Redis, redis.asyncio.RedisCluster, valkey.asyncio.Valkey, dict, object],
)
def test_a_client_that_cannot_serve_is_refused(kind):
    """An async client, or another object, raises an error that says what is accepted."""
    client = kind.__new__(kind)  # a cluster's constructor would connect

    with pytest.raises(UnsuitableMappingError) as caught:
        RedisMapping(client)

    assert "redis.Redis(" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_client_may_be_given_and_stays_open(any_server, prefix):
    """A client may be given instead of a URL, and stays open."""
    with any_server.client() as client:
        store = RedisSessionStore(client=client, prefix=prefix)
        talk(store)
        store.close()

        assert client.ping()
        with pytest.raises(StorageClosedError):
            store.get("s")
        with pytest.raises(InvalidValueError) as caught:
            RedisSessionStore(any_server.url, client=client)
        assert caught.value.path == "client"


def test_a_store_connects_only_at_first_use(start_server):
    """A store can be made before the server runs."""
    server = start_server("valkey")
    server.kill()
    with closing(RedisSessionStore(server.url, timeout=30)) as store:
        server.start()

        assert SessionManager(store).count() == 0


def test_a_store_uses_its_server_again_after_a_restart(start_server):
    """After a restart the store connects again."""
    server = start_server("redis", "--appendonly", "yes")
    with closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        server.restart()
        session.add_message("assistant", "again")
        store.save(session)

        assert store.get("s") == session


# What fails -----------------------------------------------------------------------------------------------------------


def test_an_unreachable_server_is_an_error_without_credentials(start_server):
    """The error, its cause and the store's name show no credentials."""
    server = start_server("valkey")
    server.kill()
    url = f"redis://user:hush@127.0.0.1:{server.port}/0"

    with closing(RedisSessionStore(url, timeout=1)) as store:
        manager = SessionManager(store)
        for act in (
            lambda: store.get("s"),
            lambda: talk(store),
            lambda: store.list_for_user("ada"),
            manager.count,
            lambda: store.delete("s"),
            manager.verify,
        ):
            with pytest.raises(StorageUnreachableError) as caught:
                act()
            assert caught.value.where == f"127.0.0.1:{server.port}"
            assert isinstance(caught.value, ConnectionError)
            shown = f"{caught.value!r} {caught.value} {caught.value.__cause__} {store!r} {store.mapping!r}"
            assert "hush" not in shown


def test_a_wrong_password_is_an_error_without_it(start_server):
    """The error for a wrong password does not show it."""
    server = start_server("redis")
    with server.client() as client:
        client.config_set("requirepass", "right")
    store = RedisSessionStore(f"redis://:hush@127.0.0.1:{server.port}/0", timeout=30)

    with closing(store), pytest.raises(StoragePermissionError) as caught:
        store.get("s")

    assert "hush" not in f"{caught.value} {caught.value!r}"


def test_a_server_that_answers_nothing_raises_within_the_timeout(start_server):
    """A server that does not answer raises within the timeout."""
    server = start_server("valkey")
    with closing(RedisSessionStore(server.url, timeout=0.3)) as store:
        session = talk(store)
        session.add_message("user", "into the silence")
        server.pause()
        began = time.monotonic()
        with pytest.raises(StorageUnreachableError):
            store.save(session)
        waited = time.monotonic() - began
        server.resume()

        assert waited < 60
        store.save(session)
        assert [each.content for each in store.get("s").messages] == ["message 0", "into the silence"]


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_full_server_refuses_a_save_and_keeps_what_it_has(start_server, kind):
    """At the memory limit a save raises and stores nothing. Reads work."""
    server = start_server(kind)
    with server.client() as client, closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        client.config_set("maxmemory", "1")
        session.add_message("user", "too much")

        for act in (lambda: store.save(session), lambda: talk(store, "other")):
            with pytest.raises(StorageFullError):
                act()

        assert store.get("s").message_count == 1
        client.config_set("maxmemory", "0")
        assert store.get("other") is None
        assert SessionManager(store).verify()
        store.save(session)
        assert store.get("s").message_count == 2


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_replica_refuses_a_save(start_server, kind):
    """A save to a replica raises an error that says so."""
    server = start_server(kind)
    with server.client() as client, closing(RedisSessionStore(server.url, timeout=30)) as store:
        session = talk(store)
        client.replicaof("127.0.0.1", "1")  # nothing listens there: it keeps what it has
        session.add_message("user", "x")

        for act in (lambda: store.save(session), lambda: store.delete("s")):
            with pytest.raises(StorageReadOnlyError):
                act()
        assert store.get("s").message_count == 1
        assert [each.session_id for each in store.list_for_user("ada")] == ["s"]


def test_a_key_of_another_kind_is_an_error(store, client, prefix):
    """A key of another type in place of a session raises, and is not overwritten."""
    client.set(prefix + "s", "mine")

    for act in (lambda: store.get("s"), lambda: talk(store)):
        with pytest.raises(StorageError):
            act()

    assert client.get(prefix + "s") == b"mine"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port/0", "", "memory://"])
def test_what_is_no_url_of_a_server_is_refused(url):
    """An invalid URL raises when the store is made."""
    with pytest.raises(InvalidValueError) as caught:
        RedisSessionStore(url)

    assert caught.value.path == "url"
