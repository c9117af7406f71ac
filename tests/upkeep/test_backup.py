"""Tests of backups: each is a copy of one moment, made while others write, complete or absent."""

import asyncio
import os
import queue
import shutil
import sqlite3
import stat
import threading
from contextlib import closing, suppress
from pathlib import Path

import diskcache
import pytest
from sqlitedict import SqliteDict

from pyai_sessions import (
    AsyncSessionManager,
    DiskCacheSessionStore,
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    MemorySessionStore,
    Message,
    RedisSessionStore,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageError,
    UnsupportedOperationError,
)
from pyai_sessions.storage.sqlite.diskcache import CacheTable
from tests.processes import python_until_told

WORDS = "what nobody else may read"


def contents(path, session_id="s", **options):
    with closing(SQLiteSessionStore(path, **options)) as store:
        return [each.content for each in store.get(session_id).messages]


def fill(manager, count=100):
    session = manager.create_session("ada", session_id="s")
    for n in range(count):
        session.add_message("user", f"message {n}")
    manager.save(session)
    return session


@pytest.fixture
def path(tmp_path):
    return tmp_path / "backups" / "backup.db"


@pytest.fixture
def manager(tmp_path):
    with SessionManager(tmp_path / "chat.db") as manager:
        fill(manager)
        yield manager


def test_a_backup_holds_what_a_plain_copy_lacks(tmp_path, manager, path):
    """A backup has what is only in the log, which a copy of the file lacks."""
    plain = shutil.copy(tmp_path / "chat.db", tmp_path / "plain.db")

    manager.backup(path)

    with closing(SQLiteSessionStore(plain)) as store:
        assert store.get("s") is None
    assert contents(path) == [f"message {n}" for n in range(100)]
    with SessionManager(path) as copy:
        assert copy.verify()
        assert copy.count("ada") == 1
        copy.append("s", Message("user", "more"))
    assert manager.get_session("s").message_count == 100


def test_a_backup_is_for_this_user_alone_and_leaves_nothing_beside_it(manager, path):
    """A backup and its new folder are private, and no log or part lies beside it."""
    manager.backup(path)

    assert os.listdir(path.parent) == ["backup.db"]  # noqa: PTH208 (its names are the point)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_there_is_replaced_only_when_told(manager, path):
    """An existing file raises an error that says how to replace it, and stays."""
    path.parent.mkdir()
    path.write_bytes(b"another's")

    with pytest.raises(InvalidValueError, match="overwrite=True"):
        manager.backup(path)
    assert path.read_bytes() == b"another's"

    manager.backup(path, overwrite=True)
    assert len(contents(path)) == 100
    manager.backup(path, overwrite=True)
    assert len(contents(path)) == 100


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_file_of_the_store_is_never_the_backup(tmp_path, manager, overwrite):
    """The store's own file raises, under any name."""
    (tmp_path / "link.db").symlink_to("chat.db")
    for each in ("chat.db", "link.db", "../" + tmp_path.name + "/chat.db"):
        with pytest.raises(InvalidValueError, match="the file of this store"):
            manager.backup(tmp_path / each, overwrite=overwrite)

    assert manager.get_session("s").message_count == 100


def test_a_database_in_use_is_not_replaced(manager, path):
    """A database in use raises, since SQLite would apply its log to the backup."""
    with SessionManager(path) as other:
        fill(other, 1)
        with pytest.raises(InvalidValueError, match="-wal' beside it"):
            manager.backup(path, overwrite=True)

    assert contents(path) == ["message 0"]


def test_a_backup_that_fails_leaves_what_was_there(manager, path):
    """A failed backup leaves no part of it, and an older one complete."""
    path.mkdir(parents=True)

    with pytest.raises(StorageError):
        manager.backup(path, overwrite=True)

    assert os.listdir(path.parent) == ["backup.db"]  # noqa: PTH208


@pytest.mark.parametrize("given", [None, 5, "", "a\0b", "sqlite:///backup.db"])
def test_what_is_no_path_is_refused(manager, given):
    """An invalid path raises an error that names it."""
    with pytest.raises(InvalidValueError) as caught:
        manager.backup(given)

    assert caught.value.path == "path"


def test_a_namespace_is_backed_up_with_the_whole_file(tmp_path, path):
    """A backup of a namespace has all tables and namespaces of the file."""
    with closing(SQLiteSessionStore(tmp_path / "chat.db", namespace="one")) as one:
        fill(SessionManager(one), 1)
    with closing(SQLiteSessionStore(tmp_path / "chat.db", "other table")) as other:
        manager = SessionManager(other)
        fill(manager, 2)
        manager.backup(path)

    assert len(contents(path, namespace="one")) == 1
    assert len(contents(path, table_name="other table")) == 2


def test_an_encrypted_store_is_backed_up_encrypted(tmp_path, path):
    """A backup of an encrypted store opens with the same keys, and shows no text."""
    keys = {"k": bytes(32)}
    with closing(SQLiteMapping(tmp_path / "chat.db")) as mapping, closing(SQLiteMapping(path)) as copy:
        manager = SessionManager(Encrypted(mapping, keys))
        manager.append(manager.create_session("ada", session_id="s").session_id, Message("user", WORDS))
        copy.close()
        manager.backup(path, overwrite=True)

    assert WORDS.encode() not in path.read_bytes()
    with closing(SQLiteMapping(path)) as copy:
        assert SessionManager(Encrypted(copy, keys)).get_session("s").messages[0].content == WORDS


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
def test_a_sqlite_dict_is_backed_up(tmp_path, path, journal_mode):
    """A SqliteDict's file is backed up in any mode."""
    mapping = SqliteDict(str(tmp_path / "chat.db"), "sessions", journal_mode=journal_mode)
    with mapping, closing(KVSessionStore(mapping)) as store:
        fill(SessionManager(store))
        SessionManager(store).backup(path)

    assert len(contents(path)) == 100


def test_a_store_in_memory_is_backed_up_into_a_file(path):
    """An SQLite database in memory is backed up into a file."""
    with SessionManager("sqlite:///:memory:") as manager:
        fill(manager)
        manager.backup(path)

    assert len(contents(path)) == 100


def test_async_managers_back_up_too(tmp_path, path):
    """AsyncSessionManager has the same method."""

    async def back_up():
        async with AsyncSessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
            await manager.create_session("ada", session_id="s")
            await manager.append("s", Message("user", "hello"))
            await manager.backup(path)

    asyncio.run(back_up())

    assert contents(path) == ["hello"]


class FourMethods:
    def save(self, session): ...
    def get(self, session_id): ...
    def delete(self, session_id): ...
    def list_for_user(self, user_id): ...

    def close(self): ...


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (lambda at: {}, "copy_sessions"),
        (lambda at: MemorySessionStore(), "copy_sessions"),
        (lambda at: Encrypted({}, {"k": bytes(32)}), "copy_sessions"),
        (lambda at: RedisSessionStore(), "redis-cli --rdb"),
        (lambda at: FourMethods(), "by its own tools"),
    ],
)
def test_other_storages_say_how_they_are_backed_up(tmp_path, path, make, way):
    """Other storages raise an error that says how to back them up."""
    with (
        SessionManager(make(tmp_path), close_store=True) as manager,
        pytest.raises(UnsupportedOperationError, match=way),
    ):
        manager.backup(path)

    assert not path.exists()


# A directory of diskcache ---------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cached(directory):
    with SessionManager(DiskCacheSessionStore(directory, timeout=30), close_store=True) as manager:
        fill(manager)
        yield manager


@pytest.fixture
def copied(tmp_path):
    return tmp_path / "backups" / "cache"


def said(path, session_id="s"):
    with SessionManager(DiskCacheSessionStore(path), close_store=True) as manager:
        return [each.content for each in manager.get_session(session_id).messages]


def test_a_directory_of_diskcache_is_backed_up_whole(cached, copied):
    """A diskcache directory is backed up with foreign values in files, and is private."""
    cached.store.mapping["theirs"] = "x" * 100_000

    cached.backup(copied)

    assert stat.S_IMODE(copied.stat().st_mode) == stat.S_IMODE(copied.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in copied.rglob("*") if each.is_file()} == {0o600}
    assert os.listdir(copied.parent) == ["cache"]  # noqa: PTH208
    with closing(diskcache.Cache(str(copied), eviction_policy="none")) as copy:
        assert copy.check() == []
        assert copy["theirs"] == "x" * 100_000
    with SessionManager(DiskCacheSessionStore(copied), close_store=True) as copy:
        assert copy.verify()
        assert copy.count("ada") == 1
        assert copy.get_session("s").message_count == 100


def test_a_directory_is_replaced_only_when_told_and_only_by_its_like(cached, copied):
    """Only a diskcache directory is replaced, and never the store's own."""
    copied.mkdir(parents=True)
    with pytest.raises(InvalidValueError, match="overwrite=True"):
        cached.backup(copied)
    (copied / "diary").write_text("mine")
    with pytest.raises(InvalidValueError, match="no diskcache directory"):
        cached.backup(copied, overwrite=True)
    assert (copied / "diary").read_text() == "mine"
    (copied / "diary").unlink()

    cached.backup(copied, overwrite=True)
    cached.append("s", Message("user", "more"))
    cached.backup(copied, overwrite=True)

    assert len(said(copied)) == 101
    assert os.listdir(copied.parent) == ["cache"]  # noqa: PTH208
    with pytest.raises(InvalidValueError, match="the file of this store"):
        cached.backup(cached.store.mapping.directory, overwrite=True)


def test_a_value_that_is_deleted_during_a_backup_is_not_half_there(cached, copied, monkeypatch):
    """If a value is deleted during a backup, the copy is made again without it."""
    index = cached.store.mapping
    index["theirs"] = "x" * 100_000
    index["lost before"] = "y" * 100_000
    lost = next(each for each in Path(index.directory).rglob("*.val") if each.read_text().startswith("y"))
    lost.unlink()
    opened = CacheTable._open

    def open_late(table, name):
        with suppress(KeyError):
            del index["theirs"]
        return opened(table, name)

    monkeypatch.setattr(CacheTable, "_open", open_late)

    cached.backup(copied)

    with closing(diskcache.Cache(str(copied), eviction_policy="none")) as copy:
        assert "theirs" not in copy
        assert "lost before" in copy
    assert len(said(copied)) == 100


@pytest.mark.parametrize(
    "name",
    ["../../secret", "{tmp}/secret", "pipe", "link", "cache.db", "../cache/inner", "\0", "x" * 5000, "pipe/x", "loop"],
)
def test_no_file_that_diskcache_did_not_write_is_copied(tmp_path, cached, copied, name):
    """Files that a row names outside the directory, pipes and the table itself are not copied."""
    folder = Path(cached.store.mapping.directory)
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to("loop")
    (folder / "inner").write_text("theirs")
    cached.store.mapping["theirs"] = "x" * 100_000
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET filename = ? WHERE filename IS NOT NULL", (name.format(tmp=tmp_path),))

    cached.backup(copied)

    assert sorted(each.name for each in copied.rglob("*") if each.is_file()) == ["cache.db"]
    assert os.listdir(copied.parent) == ["cache"]  # noqa: PTH208
    assert len(said(copied)) == 100


# Beside writers -------------------------------------------------------------------------------------------------------

WRITES = """
    import sys
    from pyai_sessions import Message, SessionManager
    with SessionManager(sys.argv[1]) as manager:
        manager.create_session("bob", session_id="of the process")
        print("begun", flush=True)
        for n in range(300):
            manager.append("of the process", Message("user", str(n)))
        sys.stdin.readline()
"""


def is_a_beginning(found):
    return found == [str(n) for n in range(len(found))]


@pytest.mark.parametrize("kind", ["sqlite", "diskcache"])
def test_each_of_many_backups_beside_writers_is_of_one_moment(tmp_path, request, kind):
    """Every backup beside writers is sound, has what was stored before it, and ends in time."""
    manager = request.getfixturevalue("manager" if kind == "sqlite" else "cached")
    url, name = (f"sqlite:///{tmp_path}", "chat.db") if kind == "sqlite" else (f"diskcache://{tmp_path}", "cache")
    done = threading.Event()
    stored = dict.fromkeys(range(2), 0)
    wrote, failures = queue.Queue(), []

    def write(n):
        try:
            manager.create_session("bob", session_id=f"t{n}")
            while not done.is_set():
                manager.append(f"t{n}", Message("user", str(stored[n])))
                stored[n] += 1
                wrote.put(n)
        except Exception as err:  # noqa: BLE001 (the test judges it)
            failures.append(err)

    threads = [threading.Thread(target=write, args=[n]) for n in stored]
    with python_until_told(WRITES, f"{url}/{name}"):
        for each in threads:
            each.start()
        try:
            while not all(stored.values()):
                wrote.get(timeout=60)
            for n in range(10):
                before = dict(stored)
                manager.backup(tmp_path / f"backup{n}.db")
                with SessionManager(f"{url}/backup{n}.db") as copy:
                    assert copy.verify()
                    for each, count in before.items():
                        if count:
                            found = [m.content for m in copy.get_session(f"t{each}").messages]
                            assert is_a_beginning(found)
                            assert len(found) >= count
                    assert is_a_beginning([m.content for m in copy.get_session("of the process").messages])
        finally:
            done.set()
            for each in threads:
                each.join()

    assert not failures
    assert manager.verify()


def test_a_writer_goes_on_while_a_backup_is_under_way(tmp_path, manager, path):
    """A write during a backup does not wait, and is not in the backup."""
    big = manager.create_session("ada", session_id="big")
    for _ in range(600):
        big.add_message("user", "x" * 10_000)
    manager.save(big)
    wrote = []
    with SessionManager(tmp_path / "chat.db") as other:
        connections = manager.store._engine.backend._whole._connections
        extend = connections.extend

        def between_two_steps(connection):
            extend(connection)
            if connection.in_transaction and not wrote:
                wrote.append(other.append("s", Message("user", "meanwhile")))

        connections.extend = between_two_steps
        manager.backup(path)
        del connections.extend

    assert wrote
    assert len(contents(path)) == 100
    assert manager.get_session("s").message_count == 101
