"""Tests of stores on Redis and Valkey: which keys lie on the server, and how lists are put right."""

from contextlib import closing

import pytest
import redis
import redis.asyncio
import redis.cluster
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import (
    ANYONE,
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionManager,
    SessionStatus,
)
from pyai_sessions.documents.keys import encode_id, head_key, namespace_prefix
from pyai_sessions.documents.listed import EXPIRY
from pyai_sessions.storage.redis.layout import Layout
from tests.storage.redis_stores import keys, talk


@pytest.fixture
def store(any_server, prefix):
    with closing(RedisSessionStore(any_server.url, prefix=prefix)) as store:
        yield store


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


@pytest.mark.parametrize("act", ["reindex", "repair"])
def test_the_list_of_forks_that_expire_is_put_right(any_server, client, prefix, act):
    """`reindex` and a repair list the forks by which `purge_expired` finds what only they kept."""
    with SessionManager(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000), close_store=True) as manager:
        talk(manager, count=100)
        manager.fork("s", new_id="fork")
        before = client.zrange(prefix + "/forks", 0, -1, withscores=True)
        client.delete(prefix + "/forks")

        if act == "reindex":
            manager.reindex()
        else:
            manager.verify(repair=True)

        assert client.zrange(prefix + "/forks", 0, -1, withscores=True) == before != []


def test_upkeep_writes_nothing_where_all_is_right(store, any_server, client, prefix):
    """`reindex`, `verify` and a repair write nothing if all is right."""
    manager = SessionManager(store)
    SessionManager(store).import_sessions(Session(session_id=f"s{n}", user_id="ada") for n in range(250))
    talk(store, count=100)
    manager.archive("s7")
    with closing(RedisSessionStore(any_server.url, prefix=prefix, ttl=1000)) as mortal:
        SessionManager(mortal).fork("s", new_id="fork")
    before = client.info("persistence")["rdb_changes_since_last_save"]

    assert manager.reindex() == 252
    assert manager.verify(repair=True)

    assert client.info("persistence")["rdb_changes_since_last_save"] == before
