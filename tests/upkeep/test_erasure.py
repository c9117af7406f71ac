"""Tests of erasing a user: interrupted, beside writers, without keys, and outside of documents."""

import io
import json
import secrets
import sqlite3
import threading
from contextlib import closing, suppress

import pytest
import redis

from pyai_sessions import (
    DiskCacheSessionStore,
    Encrypted,
    KVSessionStore,
    RedisSessionStore,
    Session,
    SessionManager,
    SessionNotFoundError,
    SQLiteMapping,
    SQLiteSessionStore,
)
from pyai_sessions.testing.samples import fill
from tests.contract.stores import FullStore, SyncStore
from tests.faults.crashing import CrashingDict, Death

KEYS = {"index": b"i" * 32, "a": b"a" * 32}
PAGE = '{"format":1,"pages":{"g":1}}'


@pytest.fixture(params=["dict", "sqlite", "diskcache", "valkey", "encrypted"])
def manager(request, tmp_path):
    store = {
        "dict": dict,
        "sqlite": lambda: SQLiteSessionStore(tmp_path / "chat.db", synchronous="NORMAL"),
        "diskcache": lambda: DiskCacheSessionStore(tmp_path / "chat"),
        "valkey": lambda: RedisSessionStore(
            request.getfixturevalue("valkey_server").url, f"{secrets.token_hex(8)}:", 60, timeout=0.2
        ),
        "encrypted": lambda: KVSessionStore(Encrypted(SQLiteMapping(tmp_path / "chat.db"), KEYS)),
    }[request.param]()
    with closing(SessionManager(store, close_store=True)) as manager:
        yield manager
        manager.clear_all()


def chats(manager, user_id="ada", count=100):
    """Store a long session with a branch, a fork of it by the user, another's fork, and an archived session."""
    fill(session := manager.create_session(user_id, session_id=f"{user_id}'s"), count)
    manager.save(session)
    session.rewind("m80")
    manager.save(session)
    manager.fork(session.session_id, new_id=f"{user_id}'s own")
    manager.create_session(user_id, session_id="archived")
    manager.archive("archived")
    return session


def test_a_scan_clears_what_crashes_left_of_sessions_that_are_gone(manager):
    """A scan removes pages that no session names, and references of forks that never existed."""
    chats(manager, "bob")
    raw = manager.store.mapping
    kept = set(raw)
    raw["messages/gone/g/0"] = raw["messages/gone/g/1"] = "[]"
    raw["forks/gone/never/x"] = PAGE

    assert manager.delete_user("ada").pages == 0
    erased = manager.delete_user("ada", scan=True)

    assert set(raw) == kept
    assert (erased.pages, erased.references) == (2, 1)
    assert erased.unlisted == ["forks/gone/never/x", "messages/gone/g/0", "messages/gone/g/1"]


def test_a_reference_of_a_fork_that_never_was_goes_with_the_session(manager):
    """Such a reference goes with the session and the pages that only it named, and is counted."""
    chats(manager)
    raw = manager.store.mapping
    raw["messages/archived/g/0"] = "[]"
    raw["forks/archived/never/x"] = PAGE
    before = set(raw)

    erased = manager.delete_user("ada")

    assert set(raw) == set()
    assert erased.pages == sum(key.startswith("messages/") for key in before)
    assert erased.references == sum(key.startswith("forks/") for key in before)


def test_a_set_aside_fork_of_another_user_keeps_what_it_shares(manager):
    """Shared pages of another user's fork that was set aside stay, and the report names it."""
    session = chats(manager)
    manager.fork(session.session_id, user_id="bob", new_id="fork")
    raw = manager.store.mapping
    raw["session/fork"] = raw["session/fork"].rstrip()[:-30]
    manager.verify(repair=True)

    erased = manager.delete_user("ada", scan=True)

    assert erased.shared == ["fork"]
    assert {key.split("/")[0] for key in raw} == {"unreadable", "messages", "forks"}
    manager.delete_user("bob", scan=True)
    assert set(raw) == set()


def test_a_damaged_fork_leaves_no_reference_with_the_session_it_was_forked_from(manager):
    """Erasing a damaged fork removes its reference. The parent's pages stay."""
    session = chats(manager, "bob")
    before = set(manager.store.mapping)
    manager.fork(session.session_id, user_id="ada", new_id="fork")
    raw = manager.store.mapping
    raw["session/fork"] = raw["session/fork"].rstrip()[:-30]

    erased = manager.delete_user("ada")

    assert (erased.session_ids, erased.references, erased.pages) == (["fork"], 1, 0)
    assert set(raw) == before


def test_the_last_fork_takes_the_pages_along_that_it_alone_shares(manager):
    """The last fork's erasure removes pages that only it shares, also a deleted user's, and counts them."""
    session = chats(manager, "bob")
    manager.fork(session.session_id, user_id="ada", new_id="fork")
    manager.delete_user("bob")
    pages = [key for key in manager.store.mapping if key.startswith("messages/")]

    erased = manager.delete_user("ada")

    assert (erased.pages, erased.references) == (len(pages), 1)
    assert set(manager.store.mapping) == set()


def test_any_number_of_sessions_is_erased(manager):
    """More sessions than one batch are erased."""
    manager.import_sessions(Session(f"s{n}", "ada") for n in range(250))

    assert len(manager.delete_user("ada")) == 250

    assert set(manager.store.mapping) == set()


class GivenAway(dict):
    """A mapping in which another writer changes a session's user after so many reads of its head."""

    reads = 0

    def __getitem__(self, key):
        if key == "session/s" and self.reads:
            self.reads -= 1
            if not self.reads:
                self[key] = super().__getitem__(key).replace('"user_id":"ada"', '"user_id":"bob"')
        return super().__getitem__(key)


@pytest.mark.parametrize("reads", [1, 2])
def test_a_session_that_is_given_to_another_meanwhile_stays(reads):
    """A session that changes its user before it is deleted stays."""
    mapping = GivenAway()
    manager = SessionManager(mapping)
    manager.create_session("ada", session_id="s")
    assert manager.count("ada") == 1
    mapping.reads = reads

    assert manager.delete_user("ada").session_ids == []

    assert manager.get_session("s").user_id == "bob"


def test_what_was_set_aside_of_a_session_goes_with_its_head_that_was(manager):
    """A page set aside earlier goes with its head that was set aside later, which names the user."""
    chats(manager)
    raw = manager.store.mapping
    page = max(key for key in raw if key.startswith("messages/ada%27s/"))
    for key in (page, "session/ada%27s"):
        raw[key] = "torn" if key == page else raw[key].rstrip()[:-30]
        manager.verify(repair=True)
    manager.delete("ada's own")
    manager.delete("archived")

    erased = manager.delete_user("ada", scan=True)

    assert (set(raw), erased.unknown) == (set(), [])


def test_an_erasure_that_was_cut_short_is_repeated():
    """After an interruption anywhere, a repetition erases all sessions, and with a scan everything."""
    at = 0
    while True:
        at += 1
        mapping = CrashingDict({})
        chats(SessionManager(mapping))
        mapping.crash(at, Death())
        with suppress(Death):
            SessionManager(mapping).delete_user("ada")
        crashed = mapping.crashed
        mapping.recover()
        items = dict(mapping.items_)

        manager = SessionManager(CrashingDict(items))
        manager.delete_user("ada")
        assert not [key for key in items if key.startswith("session/")], at
        manager.delete_user("ada", scan=True)
        assert items == {}, at
        if not crashed:
            break
    assert at > 5


def test_writers_beside_an_erasure_bring_nothing_back(manager):
    """Appends beside an erasure raise or are erased, and leave no document and no entry."""
    for n in range(4):
        fill(session := manager.create_session("ada", session_id=f"s{n}"), 40)
        manager.save(session)
    ready = threading.Barrier(5)

    def write(n):
        ready.wait()
        with suppress(SessionNotFoundError):
            for _ in range(100):
                manager.append(f"s{n}", {"role": "user", "content": "x" * 1000})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    ready.wait()

    erased = manager.delete_user("ada")

    for each in threads:
        each.join()
    assert erased.session_ids == ["s0", "s1", "s2", "s3"]
    assert set(manager.store.mapping) == set()
    assert manager.verify().problems == []


@pytest.mark.parametrize("listed", [True, False])
def test_a_user_is_erased_without_the_key_of_his_documents(tmp_path, listed):
    """A user is erased without the key, by the hash beside the head, also without a list."""
    with closing(SQLiteMapping(tmp_path / "chat.db")) as inner:
        manager = SessionManager(KVSessionStore(Encrypted(inner, KEYS)))
        chats(manager)
        manager.create_session("bob", session_id="bob's")
        if not listed:
            with closing(sqlite3.connect(tmp_path / "chat.db")) as connection, connection:
                connection.execute('DELETE FROM "sessions/lists"')
        without = SessionManager(KVSessionStore(Encrypted(inner, {"index": KEYS["index"], "b": b"b" * 32})))

        erased = without.delete_user("ada", scan=not listed)

        assert erased.session_ids == ["ada's", "ada's own", "archived"]
        assert erased.unlisted == ([] if listed else ["session/ada%27s", "session/ada%27s%20own", "session/archived"])
        assert list(inner) == ["session/bob%27s"]


def test_the_indexes_no_longer_tell_the_user(tmp_path):
    """No index names the user, also where its entries were wrong."""
    path = tmp_path / "chat.db"
    with closing(SessionManager(SQLiteSessionStore(path), close_store=True)) as manager:
        for name in ("gone", "given away", "given and torn", "there"):
            manager.create_session("ada", session_id=name)
        raw = manager.store.mapping
        del raw["session/gone"]
        raw["session/given%20away"] = json.dumps(json.loads(raw["session/given%20away"]) | {"user_id": "bob"})
        raw["session/given%20and%20torn"] = raw["session/given%20away"].replace("away", "and torn")[:-30]

        assert manager.export_sessions(io.StringIO(), user_id="ada") == 1
        assert manager.delete_user("ada").session_ids == ["there"]

        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute('SELECT member, list FROM "sessions/lists" ORDER BY 1, 2').fetchall()
        names = "given%20and%20torn", "given%20away"
        assert rows == [(name, of) for name in names for of in ("active", "user/bob/active")]
        assert manager.get_session("given away").user_id == "bob"


def test_a_server_has_no_key_left_that_names_the_user(valkey_server):
    """No key and no member of a sorted set names the user, also after damage and expiry."""
    prefix = f"{secrets.token_hex(8)}:"
    with closing(SessionManager(RedisSessionStore(valkey_server.url, prefix, 60), close_store=True)) as manager:
        chats(manager)
        raw = manager.store.mapping
        raw["session/archived"] = raw["session/archived"][:-30]

        with redis.Redis.from_url(valkey_server.url) as client:
            client.zadd(f"{prefix}/user/ada/archived", {"ada%27s%20own": 1})  # as a crash on a cluster leaves it

            assert len(manager.delete_user("ada")) == 3

            assert list(client.scan_iter(f"{prefix}*", count=1000)) == []


class _Forgets:
    """A custom store whose user lists lack a session."""

    def list_for_user(self, user_id):
        return [each for each in super().list_for_user(user_id) if each.session_id != "unlisted"]


class Forgetful(_Forgets, SyncStore):
    """Such a store with four methods."""


def test_a_custom_stores_list_of_all_users_is_scanned():
    """A scan finds a session that the user's list lacks. The manager's own index forgets the user, too."""
    store, index = Forgetful(), {}
    manager = SessionManager(store, index=index)
    for name in ("listed", "unlisted", "gone"):
        manager.create_session("ada", session_id=name)
    store.delete("gone")
    manager.create_session("bob", session_id="bob's")

    assert manager.export_sessions(io.StringIO(), user_id="ada") == 1
    assert manager.export_sessions(io.StringIO(), user_id="ada", scan=True) == 2
    erased = manager.delete_user("ada", scan=True)

    assert (erased.session_ids, erased.unlisted) == (["listed", "unlisted"], [])  # the index lists it
    assert [key for key in index if key.startswith("session/")] == ["session/bob%27s"]


class ForgetfulOfUsers(_Forgets, FullStore):
    """Such a store with a list of all users."""


def test_what_a_users_list_lacks_is_found_in_the_list_of_all():
    """With a scan, a session that the user's list lacks is exported and erased."""
    manager = SessionManager(ForgetfulOfUsers())
    for name in ("listed", "unlisted"):
        manager.create_session("ada", session_id=name)

    assert manager.export_sessions(io.StringIO(), user_id="ada") == 1
    assert manager.export_sessions(io.StringIO(), user_id="ada", scan=True) == 2
    assert manager.delete_user("ada", scan=True).session_ids == ["listed", "unlisted"]
    assert manager.count() == 0


# In files -----------------------------------------------------------------------------------------------------------


def in_files(folder, text):
    """Return the names of files that contain a text."""
    return [each.name for each in folder.rglob("*") if each.is_file() and text.encode() in each.read_bytes()]


def checkpoint(folder):
    """Move the log of an SQLite file into it, and empty the log."""
    [path] = [each for each in folder.rglob("*") if each.is_file() and each.suffix == ".db"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("open_store", [SQLiteSessionStore, DiskCacheSessionStore])
@pytest.mark.parametrize("act", ["delete", "delete_user", "rewrite", "clear_all"])
def test_deleted_text_stands_in_no_file_after_a_checkpoint(tmp_path, open_store, act):
    """After a checkpoint, deleted text is neither in free pages, nor in parts of others, nor in the log."""
    with closing(SessionManager(open_store(tmp_path / "chat.db"), close_store=True)) as manager:
        manager.create_session("ada", session_id="s")
        manager.create_session("bob", session_id="kept")
        for n in range(70):
            for name in ("s", "kept"):
                manager.append(name, {"role": "user", "content": f"of {name}: " + f"secret {n} " * 50})
        checkpoint(tmp_path)
        assert in_files(tmp_path, "of s: secret 1 ")

        if act == "rewrite":
            session = manager.get_session("s")
            session.clear_messages()
            manager.save(session)
        else:
            getattr(manager, act)(*{"delete": ["s"], "delete_user": ["ada"], "clear_all": []}[act])
        checkpoint(tmp_path)

        assert in_files(tmp_path, "of s: ") == []
        assert bool(in_files(tmp_path, "of kept: ")) is (act != "clear_all")


@pytest.mark.filterwarnings("always::diskcache.UnknownFileWarning", "always::diskcache.EmptyDirWarning")
def test_a_file_that_diskcache_made_of_a_large_document_goes_by_its_own_check(tmp_path):
    """`check(fix=True)` removes files that no row names, and keeps the sessions."""
    with closing(DiskCacheSessionStore(tmp_path / "chat")) as store:
        manager, index = SessionManager(store), store.mapping
        kept = manager.create_session("bob", session_id="kept")
        manager.create_session("ada", session_id="s")
        index["session/s"] = json.dumps(json.loads(index["session/s"]) | {"metadata": {"a": "secret" * 10_000}})
        assert manager.get_session("s").metadata
        manager.delete_user("ada")
        assert in_files(tmp_path, "secretsecret")

        found = index.cache.check(fix=True)
        checkpoint(tmp_path)

        assert any("unknown file" in str(each.message) for each in found)
        assert in_files(tmp_path, "secretsecret") == []
        assert manager.get_session("kept") == kept
