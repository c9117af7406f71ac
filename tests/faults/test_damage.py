"""Tests of damaged documents on every storage: a read is correct or raises, runs no code, overwrites nothing."""

import pickle
import shelve
import sqlite3
from contextlib import closing
from pathlib import Path

import diskcache
import pytest
import redis
from sqlitedict import SqliteDict

from pyai_sessions import InvalidDocumentError, KVSessionStore, Message, SessionManager, StorageCorruptError
from pyai_sessions.documents.keys import page_keys
from pyai_sessions.model.session import history_of
from tests.faults.storages import ALL, IN_FILES, ON_SERVERS, Folder
from tests.faults.workers import check_indexes

SECRET = "nobody else's business"


class Raw:
    """The stored bytes of documents, past the library."""

    def __init__(self, storage):
        self.kind, self.at = storage.kind, storage.at

    def __getitem__(self, key):
        if self.kind == "dict":
            value = self.at[key]
            return value.encode() if isinstance(value, str) else value
        if self.kind == "folder":
            return Folder(self.at / "items")[key]
        if self.kind in ON_SERVERS:
            with redis.Redis.from_url(self.at[0]) as client:
                return client.hget(*self._place(key))
        return self._execute("SELECT CAST(value AS BLOB) FROM {} WHERE key = ?", (key,))[0][0]

    def put(self, key, value, *, as_blob=False):
        """Store bytes as a document, as text if the storage has text, unless *as_blob*."""
        if self.kind == "dict":
            self.at[key] = value
        elif self.kind == "folder":
            Folder(self.at / "items")[key] = value
        elif self.kind in ON_SERVERS:
            with redis.Redis.from_url(self.at[0]) as client:
                client.hset(*self._place(key), value)
        else:
            as_text = "UPDATE {} SET value = CAST(? AS TEXT) WHERE key = ?"
            self._execute(as_text.replace("TEXT", "BLOB") if as_blob else as_text, (value, key))

    def _place(self, key):
        kind, session_id, *page = key.split("/")
        return self.at[1] + session_id, "/".join([kind, *page])

    def _execute(self, query, parameters):
        path = self.at / "chat" / "cache.db" if self.kind == "diskcache" else self.at / "chat.db"
        table = {"sqlite": "sessions", "sqlitedict": "unnamed", "diskcache": "Cache"}[self.kind]
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(query.format(table), parameters).fetchall()


@pytest.fixture
def manager(storage):
    with storage.open() as manager:
        yield manager


@pytest.fixture
def raw(storage):
    return Raw(storage)


def two_sessions(manager, count):
    """Return a session of *count* messages, and another."""
    session = manager.create_session("user0", session_id="s0", metadata={"title": SECRET})
    for n in range(count):
        session.add_message("user", SECRET, message_id=f"m{n}")
    manager.save(session)
    other = manager.create_session("user1", session_id="s1")
    other.add_message("user", SECRET)
    manager.save(other)
    return session, other


def refused(act):
    """Return whether a call raised InvalidDocumentError."""
    refusal = None
    try:
        act()
    except InvalidDocumentError as err:
        refusal = err
    assert refusal is None or (refusal.session_id == "s0" and SECRET not in str(refusal))
    return refusal is not None


def check_reads(manager, other):
    """Assert that the damaged s0 is read or refused, also in lists, and that the other session is unchanged."""
    found = []
    unreadable = refused(lambda: found.append(manager.get_session("s0")))
    assert unreadable or found[0].session_id == "s0"
    refused(lambda: manager.get_session("s0", last=1))
    refused(lambda: manager.get_sessions_for_user("user0"))
    refused(lambda: manager.list_sessions(status=None))
    listed = manager.get_sessions_for_user("user0", skip_invalid=True)
    assert [each.session_id for each in listed] in ([], ["s0"])
    assert not (unreadable and listed)
    assert manager.get_session("s1") == other
    assert manager.get_sessions_for_user("user1") == [other]
    return unreadable


def check_writes(manager, raw, key, damaged):
    """Assert that a refused document stays as it is. Appends need not notice damage in pages."""
    head = raw["session/s0"]
    for act in (lambda: manager.append("s0", Message("user", "more")), lambda: manager.archive("s0")):
        if refused(act):
            assert raw["session/s0"] == head
        assert key == "session/s0" or raw[key] == damaged


def damages(document, step):
    """Iterate over a document with a byte flipped, and cut off, at every *step*-th place."""
    for n in range(0, len(document), step):
        for flip in (0x01, 0x20, 0x80):
            yield document[:n] + bytes([document[n] ^ flip]) + document[n + 1 :]
        yield document[:n]


@pytest.mark.parametrize("storage", [each for each in ALL if each != "dict"], indirect=True)
def test_any_damaged_byte_is_refused_or_read(storage, manager, raw, long_form):
    """Each byte of a head is flipped three ways, and cut off there. The short form takes every 23rd."""
    _, other = two_sessions(manager, 2)
    document, unreadable = raw["session/s0"], 0

    for damaged in damages(document, 1 if long_form else 23):
        raw.put("session/s0", damaged)
        unreadable += check_reads(manager, other)
        check_writes(manager, raw, "session/s0", damaged)
    raw.put("session/s0", document)

    assert unreadable > 40
    assert manager.get_session("s0").message_count == 2
    manager.reindex()
    check_indexes(manager, {"s0": "user0", "s1": "user1"})


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_any_damaged_byte_of_a_page_is_refused_or_read(storage, manager, raw, long_form):
    """Each byte of a page is flipped three ways, and cut off there. The short form takes every 23rd."""
    session, other = two_sessions(manager, 40)
    key = page_keys(history_of(session).origin.head.sealed)[0]
    document, head, unreadable = raw[key], raw["session/s0"], 0

    for damaged in damages(document, 7 if long_form else 211):
        raw.put(key, damaged)
        unreadable += check_reads(manager, other)
        check_writes(manager, raw, key, damaged)
        raw.put("session/s0", head)
    raw.put(key, document)

    assert unreadable > 10
    assert manager.get_session("s0").message_count == 40


# Pickles --------------------------------------------------------------------------------------------------------------


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def fuse(tmp_path):
    """A path at which no file is when the test ends."""
    path = tmp_path / "code was run"
    pickle.loads(pickle.dumps(Bomb(path)))  # noqa: S301  (so it goes off)
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


def work_through(manager, session):
    """Make all calls. One that refuses the document raises InvalidDocumentError."""
    session.add_message("user", "more")
    for act in (
        lambda: manager.get_session("s0"),
        lambda: manager.get_session("s0", last=1),
        lambda: manager.get_sessions_for_user("user0"),
        lambda: manager.list_sessions(status=None),
        lambda: manager.append("s0", Message("user", "more")),
        lambda: manager.save(session),
        lambda: manager.archive_inactive(0),
        lambda: manager.archive("s0"),
        manager.reindex,
        manager.verify,
    ):
        refused(act)
    assert manager.get_session("s1") is not None
    assert not manager.verify()
    assert manager.verify(repair=True)
    assert manager.verify()
    manager.delete("s0")
    manager.clear_all()


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("where", ["head", "page"])
@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_a_pickle_is_never_opened(storage, fuse, where, protocol):
    """A pickle in place of a document raises InvalidDocumentError at every call."""
    with storage.open() as manager:
        session, _ = two_sessions(manager, 40)
        key = "session/s0" if where == "head" else page_keys(history_of(session).origin.head.sealed)[0]

        Raw(storage).put(key, pickle.dumps(Bomb(fuse), protocol), as_blob=True)

        with pytest.raises(InvalidDocumentError):
            manager.get_session("s0")
        work_through(manager, session)


def test_a_pickle_of_diskcache_s_own_is_never_opened(tmp_path, fuse):
    """A row that diskcache pickled is not unpickled, in the table or in a file."""
    with closing(diskcache.Cache(str(tmp_path / "chat"), eviction_policy="none")) as cache:
        manager = SessionManager(KVSessionStore(cache))
        session, _ = two_sessions(manager, 1)
        for value in (Bomb(fuse), [Bomb(fuse), "x" * 100_000], b"\0" * 100_000):
            cache["session/s0"] = value

            with pytest.raises(InvalidDocumentError):
                manager.get_session("s0")
            refused(lambda: manager.save(session))
            refused(lambda: manager.append("s0", Message("user", "more")))
            refused(lambda: manager.get_sessions_for_user("user0"))
        work_through(manager, session)
        manager.store.close()


def test_a_pickle_of_sqlitedict_s_own_is_never_opened(tmp_path, fuse):
    """A row that a default SqliteDict pickled is not unpickled."""
    mapping = SqliteDict(str(tmp_path / "chat.db"), autocommit=True)
    with closing(mapping), closing(KVSessionStore(mapping)) as store:
        manager = SessionManager(store)
        session, _ = two_sessions(manager, 40)
        key = page_keys(history_of(session).origin.head.sealed)[0]
        mapping["session/s0"] = mapping[key] = Bomb(fuse)
        mapping.commit()

        with pytest.raises(InvalidDocumentError):
            manager.get_session("s0")
        work_through(manager, session)


def test_a_pickle_in_a_shelf_is_never_opened(tmp_path, fuse):
    """A shelf's pickles are not opened. Our documents lie beside them as text."""
    with closing(shelve.open(str(tmp_path / "shelf"))) as shelf:  # noqa: S301  (only written)
        manager = SessionManager(KVSessionStore(shelf))
        session, _ = two_sessions(manager, 40)
        shelf["session/s0"] = shelf[page_keys(history_of(session).origin.head.sealed)[0]] = Bomb(fuse)

        with pytest.raises(InvalidDocumentError):
            manager.get_session("s0")
        work_through(manager, session)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", [each for each in IN_FILES if each != "sqlitedict"], indirect=True)
def test_a_file_that_is_no_database_is_corrupt(storage):
    """Such a file raises StorageCorruptError, and stays as it is."""
    path = storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"This is a letter to a friend, and no database. " * 200)
    before = path.read_bytes()

    def use():
        with storage.open() as manager:
            manager.create_session("user0")

    with pytest.raises(StorageCorruptError):
        use()
    assert path.read_bytes() == before


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_database_with_damaged_pages_is_corrupt(storage):
    """A read of an overwritten file works or raises our own error, and no save makes it worse."""
    with storage.open() as manager:
        two_sessions(manager, 200)
    path = storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))

    def use(act):
        with storage.open() as manager:
            act(manager)

    for act in (lambda manager: manager.get_session("s0"), lambda manager: manager.create_session("user0")):
        with pytest.raises(StorageCorruptError):
            use(act)
