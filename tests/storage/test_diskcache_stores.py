"""Tests of stores in diskcache directories: eviction, values in files, and pickles."""

import json
import stat
import time
from contextlib import closing
from types import SimpleNamespace

import diskcache
import diskcache_community
import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    Session,
    SessionManager,
    StorageCorruptError,
    StorageLockedError,
    StorageUnreachableError,
)
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


# Where documents lie --------------------------------------------------------------------------------------------------


def test_diskcache_reads_our_documents_as_text(store, index, directory):
    """`index["session/<id>"]` returns the text of new and changed sessions, of any size."""
    session = talk(store)
    assert Session.from_json(index["session/s"]) == session

    session.add_message("assistant", "y" * 100_000)
    store.save(session)

    assert [len(each["content"]) for each in json.loads(index["session/s"])["messages"]][-1] == 100_000
    assert type(index["session/s"]) is str


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


# What fails -----------------------------------------------------------------------------------------------------------


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
