"""Tests that no method opens a pickle, wherever in a storage it lies."""

import pickle
import sqlite3
from contextlib import closing

import pytest
import redis

from pyai_sessions import Encrypted, KVSessionStore, SessionManager, SQLiteMapping, UnsupportedOperationError
from tests.bombs import Bomb, check_that_it_would_explode
from tests.faults.storages import ALL, IN_FILES, ON_SERVERS
from tests.faults.test_damage import Raw
from tests.faults.test_hostile_documents import NAMED, all_acts

KEYS = {"one": b"\x00" * 32}


@pytest.fixture
def mark(tmp_path):
    """A path at which an opened pickle makes a folder. Asserts at the end that there is none."""
    check_that_it_would_explode(Bomb(tmp_path / "proof"))
    yield tmp_path / "opened"
    assert not (tmp_path / "opened").exists()


def fill(manager):
    """Store every kind of document: heads, pages, a branch, references, and one set aside."""
    session = manager.create_session("ada", session_id="s")
    for n in range(40):
        session.add_message("user", f"message {n}", message_id=f"m{n}")
    manager.save(session)
    manager.fork("s", new_id="fork")
    session.rewind("m35")
    session.checkpoint("c")
    manager.save(session)
    return session


def documents_of(manager):
    """Return the keys of all documents by kind."""
    kinds = {}
    for key in manager.store._engine.backend.storage.keys(""):
        kinds.setdefault("page" if key.endswith("/0") and "/s/" in key else key.partition("/")[0], key)
    branch = manager.get_session("s").branches[0].branch_id
    return {**kinds, "session": "session/s", "branch": f"messages/s/{branch}/0"}


def work(manager, session):
    """Make every call."""
    for act in [
        *all_acts(manager),
        lambda: manager.save(session),
        manager.rotate_keys,
        manager.purge_expired,
        lambda: manager.import_sessions([session]),
    ]:
        try:
            act()
        except (*NAMED, UnsupportedOperationError):  # noqa: PERF203 (one after another)
            continue


@pytest.mark.parametrize("kind", ["session", "page", "branch", "forks", "unreadable"])
@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_no_pickle_in_the_place_of_a_document_is_opened(storage, mark, kind):
    """A pickle in place of any document is not opened by any call."""
    with storage.open(timeout=0.3) as manager:
        session = fill(manager)
        if kind == "unreadable":
            Raw(storage).put("session/fork", b"damaged")
            manager.verify(repair=True)
        key = documents_of(manager)[kind]

        Raw(storage).put(key, pickle.dumps(Bomb(mark)), as_blob=True)

        work(manager, session)


@pytest.mark.parametrize("kind", ["session", "page", "branch", "forks"])
def test_no_pickle_in_the_place_of_an_encrypted_document_is_opened(tmp_path, mark, kind):
    """A pickle in place of an encrypted document raises."""
    with closing(SQLiteMapping(tmp_path / "chat.db", synchronous="OFF")) as mapping:
        manager = SessionManager(KVSessionStore(Encrypted(mapping, KEYS), timeout=0.3))
        session = fill(manager)
        key = documents_of(manager)[kind]
        with closing(sqlite3.connect(tmp_path / "chat.db")) as connection, connection:
            connection.execute("UPDATE sessions SET value = ? WHERE key = ?", (pickle.dumps(Bomb(mark)), key))

        work(manager, session)


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_no_pickle_in_a_column_is_opened(storage, mark):
    """Pickles as keys, as rows that diskcache would unpickle, and in the index are not opened."""
    bomb = pickle.dumps(Bomb(mark))
    table = {"sqlite": "sessions", "sqlitedict": "unnamed", "diskcache": "Cache"}[storage.kind]
    index = {"diskcache": "pyai_sessions"}.get(storage.kind, table)
    with storage.open(timeout=0.3) as manager:
        session = fill(manager)
        path = storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            if storage.kind == "diskcache":
                (storage.at / "chat" / "planted.val").write_bytes(bomb)
                connection.execute("INSERT INTO Cache (key, raw, value, mode) VALUES (?, 0, ?, 4)", (bomb, bomb))
                connection.execute("INSERT INTO Cache (key, raw, value, mode) VALUES ('session/s', 0, ?, 4)", (bomb,))
                connection.execute("UPDATE Cache SET value = ?, mode = 4 WHERE key = 'session/fork'", (bomb,))
                inside = "UPDATE Cache SET value = NULL, mode = 4, filename = 'planted.val' WHERE key LIKE 'messages/%'"
                connection.execute(inside)
            else:
                connection.execute(f"INSERT INTO {table} (key, value) VALUES (?, ?)", (bomb, bomb))  # noqa: S608
            for column, name in ("list", "s"), ("member", "fork"), ("score", "fork"):
                change = f'UPDATE "{index}/lists" SET {column} = ? WHERE member = ? AND list = ?'  # noqa: S608
                connection.execute(change, (bomb, name, "user/ada/active" if column == "score" else "active"))

        work(manager, session)


@pytest.mark.parametrize("storage", ON_SERVERS, indirect=True)
def test_no_pickle_in_a_name_is_opened(storage, mark):
    """Pickles as names of hashes, fields and members are not opened."""
    bomb = pickle.dumps(Bomb(mark))
    with storage.open(timeout=0.3) as manager:
        session = fill(manager)
        url, prefix = storage.at
        with redis.Redis.from_url(url) as client:
            client.hset(prefix + "s", bomb, bomb)
            client.hset(prefix.encode() + bomb, "session", bomb)
            client.zadd(prefix + "/active", {bomb: 1})
            client.zadd(prefix.encode() + b"/user/" + bomb + b"/active", {bomb: 1})
            client.zadd(prefix + "/expiry", {bomb: 1})

        work(manager, session)
