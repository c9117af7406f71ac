"""Tests of stores in diskcache directories: eviction, values in files, and pickles."""

import json
import sqlite3
import stat
import time
from contextlib import closing
from types import SimpleNamespace

import diskcache
import diskcache_community
import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    InvalidDocumentError,
    KVSessionStore,
    Session,
    SessionManager,
    StorageClosedError,
    StorageCorruptError,
    StorageLockedError,
    StorageUnreachableError,
    UnsuitableMappingError,
)
from tests.bombs import Bomb, check_that_it_would_explode, meet_bombs
from tests.processes import LOCKED, python_until_told, run_python


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "chat"


@pytest.fixture(params=[diskcache, diskcache_community])
def library(request):
    return request.param


@pytest.fixture
def index(directory, library):
    index = library.Index(str(directory))
    yield index
    index.cache.close()


@pytest.fixture
def store(index):
    with closing(KVSessionStore(index, timeout=30)) as store:
        yield store


def talk(store, session_id="s", text="Hello!", count=1):
    session = Session(session_id=session_id, user_id="ada")
    for _ in range(count):
        session.add_message("user", text)
    store.save(session)
    return session


def files(directory):
    return sorted(
        str(each.relative_to(directory))
        for each in directory.rglob("*")
        if each.is_file() and not each.name.startswith("cache.db")
    )


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda library, path: library.Cache(path),
        lambda library, path: library.Cache(path, eviction_policy="least-recently-used"),
        lambda library, path: library.Index.fromcache(library.Cache(path)),
        lambda library, path: library.Cache(path, eviction_policy="none", disk=library.JSONDisk),
        lambda library, path: library.Index.fromcache(
            library.Cache(path, eviction_policy="none", disk=library.JSONDisk)
        ),
    ],
    ids=["Cache", "LRU", "Index of an evicting Cache", "JSONDisk", "Index of JSONDisk"],
)
def test_a_cache_that_may_lose_sessions_is_refused(directory, library, make):
    """A cache that evicts, or has another disk class, raises an error that says how to open the directory."""
    mapping = make(library, str(directory))

    with closing(getattr(mapping, "cache", mapping)), pytest.raises(UnsuitableMappingError) as caught:
        KVSessionStore(mapping)

    assert f"{library.__name__}.Index(directory)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shards_and_queues_are_refused(directory, library):
    """A FanoutCache and a Deque raise."""
    with (
        library.FanoutCache(str(directory)) as fanout,
        library.Deque(directory=str(directory / "deque")).cache as cache,
    ):
        for mapping in (fanout, library.Deque.fromcache(cache)):
            with pytest.raises(UnsuitableMappingError) as caught:
                KVSessionStore(mapping)

            assert f"{library.__name__}.Index(directory)" in str(caught.value)


# Where documents lie --------------------------------------------------------------------------------------------------


def test_documents_stay_inside_the_table_whatever_their_size(store, directory):
    """Documents stay in the table, although diskcache puts values of 32 KiB into files."""
    session = talk(store, text="x" * 100_000, count=3)

    assert files(directory) == []
    assert store.get("s") == session


def test_diskcache_reads_our_documents_as_text(store, index, directory):
    """`index["session/<id>"]` returns the text of new and changed sessions, of any size."""
    session = talk(store)
    assert Session.from_json(index["session/s"]) == session

    session.add_message("assistant", "y" * 100_000)
    store.save(session)

    assert [len(each["content"]) for each in json.loads(index["session/s"])["messages"]][-1] == 100_000
    assert type(index["session/s"]) is str


def test_diskcache_counts_our_rows(store, index):
    """`len(index)` and iteration agree after saves, changes and deletions."""
    for n in range(5):
        talk(store, f"s{n}", count=40)
    store.delete("s1")
    session = store.get("s2")
    session.clear_messages()
    store.save(session)
    index["mine"] = 1

    assert len(index) == len(list(index)) == 4 + 3 + 1
    assert index.cache.check() == []


def test_a_document_that_diskcache_wrote_to_a_file_is_read_and_brought_in(store, index, directory):
    """A document in a file of diskcache can be read. The next save moves it into the table."""
    session = talk(store, text="x" * 100_000)
    index["session/s"] = index["session/s"]
    assert len(files(directory)) == 1

    assert store.get("s") == session
    session.add_message("assistant", "short")
    store.save(session)

    assert store.get("s") == session
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        assert connection.execute("SELECT filename FROM Cache WHERE key = 'session/s'").fetchall() == [(None,)]


def test_a_cache_of_policy_none_evicts_nothing(directory, library):
    """With policy "none" nothing is evicted, at any size limit."""
    with (
        library.Cache(str(directory), eviction_policy="none", size_limit=1, cull_limit=10) as cache,
        closing(KVSessionStore(cache)) as store,
    ):
        for n in range(50):
            talk(store, f"s{n}", text="x" * 1000)
        cache["mine"] = "x" * 1000  # this write is diskcache's own, and culls

        assert SessionManager(store).count() == 50
        assert len(store.list_for_user("ada")) == 50


def test_a_directory_is_for_its_owner_alone(tmp_path):
    """A directory has mode 0700, and its files are private."""
    with closing(DiskCacheSessionStore(tmp_path / "chat")) as store:
        talk(store)

    assert stat.S_IMODE((tmp_path / "chat").stat().st_mode) == 0o700


def test_another_process_reads_what_was_saved(store, directory):
    """Another process reads what was saved, without a close."""
    talk(store)

    printed = run_python(
        """
        import sys
        from pyai_sessions import DiskCacheSessionStore, SessionManager
        store = DiskCacheSessionStore(sys.argv[1])
        print(store.get("s").messages[0].content, SessionManager(store).count("ada"))
        store.close()
        """,
        directory,
    )

    assert printed.split() == ["Hello!", "1"]


def test_parent_and_child_both_save_after_a_fork(directory):
    """A forked child opens its own connections."""
    printed = run_python(
        """
        import os, sys
        from pyai_sessions import DiskCacheSessionStore, Session, SessionManager
        store = DiskCacheSessionStore(sys.argv[1])
        store.save(Session(session_id="before", user_id="ada"))
        child = os.fork()
        for n in range(10):
            store.save(Session(session_id=f"{'parent' if child else 'child'}{n}", user_id="ada"))
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(SessionManager(store).count("ada"))
        store.close()
        """,
        directory,
    )

    assert printed.split() == ["21"]


# What fails -----------------------------------------------------------------------------------------------------------


def test_a_directory_that_another_process_locked_raises_within_the_timeout(directory):
    """A locked directory raises within the timeout."""
    with closing(DiskCacheSessionStore(directory, timeout=0.2)) as store:
        session = talk(store)
        session.add_message("user", "during the lock")

        with python_until_told(LOCKED, directory / "cache.db"):
            with pytest.raises(StorageLockedError) as caught:
                store.save(session)
            assert str(directory) in caught.value.where
            assert store.get("s").message_count == 1

        store.save(session)
        assert store.get("s").message_count == 2


def test_a_directory_that_another_process_locked_is_not_waited_for_longer_than_the_timeout(directory, monkeypatch):
    """Opening a locked directory raises within the timeout."""
    DiskCacheSessionStore(directory).close()

    def sleep(_):
        pytest.fail("diskcache waits")

    with python_until_told(LOCKED, directory / "cache.db"):
        monkeypatch.setattr(diskcache.core, "time", SimpleNamespace(sleep=sleep, time=time.time))
        with pytest.raises(StorageLockedError) as caught:
            DiskCacheSessionStore(directory, timeout=0.2)
        monkeypatch.undo()
        assert str(directory) in caught.value.where

    with closing(DiskCacheSessionStore(directory, timeout=30)) as store:
        talk(store)


def test_a_closed_store_says_so(directory):
    """A closed store raises StorageClosedError, and has nothing open."""
    store = DiskCacheSessionStore(directory)
    session = talk(store)
    store.close()

    for act in (
        lambda: store.save(session),
        lambda: store.get("s"),
        SessionManager(store).count,
        lambda: store.list_for_user("ada"),
    ):
        with pytest.raises(StorageClosedError):
            act()


def test_closing_a_store_leaves_the_given_index_open(index):
    """Closing a store does not close the given index."""
    store = KVSessionStore(index)
    talk(store)
    store.close()

    index["mine"] = 1
    assert set(index) == {"session/s", "mine"}


def test_a_directory_that_holds_no_cache_is_an_error_that_names_it(tmp_path):
    """A file in place of the directory, or an invalid database in it, raises."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnreachableError) as caught:
        DiskCacheSessionStore(tmp_path / "file")
    assert caught.value.where == str(tmp_path / "file")

    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "cache.db").write_bytes(b"a diary, not a database. " * 100)
    with pytest.raises(StorageCorruptError) as caught:
        DiskCacheSessionStore(tmp_path / "chat")
    assert str(tmp_path / "chat") in caught.value.where


# What is never run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ballast", [0, 100_000], ids=["in a row", "in a file"])
def test_a_pickle_is_never_opened(store, index, tmp_path, ballast):
    """A pickle raises in every call that reads it."""
    bomb = Bomb(tmp_path / "exploded", ballast)
    talk(store, "paged", count=100)
    index["session/s"] = bomb
    index[next(key for key in index if key.startswith("messages/"))] = bomb

    meet_bombs(store)

    assert not (tmp_path / "exploded").exists()
    check_that_it_would_explode(bomb)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "missing.val"])
def test_a_row_cannot_name_a_file_outside_its_directory(store, directory, name):
    """A file outside the directory that a row names is not read."""
    (directory.parent / "secret.txt").write_text("secret")
    talk(store)
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        connection.execute("UPDATE Cache SET mode = 3, value = NULL, filename = ? WHERE key = 'session/s'", (name,))
        connection.commit()

    with pytest.raises(InvalidDocumentError) as caught:
        store.get("s")

    assert (caught.value.session_id, caught.value.key) == ("s", "session/s")
    assert "secret" not in str(caught.value.document)
    assert store.list_for_user("ada", skip_invalid=True) == []
    assert [each.kind for each in SessionManager(store).verify().problems] == ["unreadable head"]
    assert store.delete("s")
