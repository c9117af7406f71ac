"""Tests of SQLiteStorage on diskcache's table: the contract, eviction, values in files, and pickles."""

import os
import sqlite3
from contextlib import ExitStack, closing

import diskcache
import diskcache_community
import pytest

from pyai_sessions.errors import UnsuitableMappingError
from pyai_sessions.storage.protocol import Change
from pyai_sessions.storage.sqlite.diskcache import storage_of
from pyai_sessions.testing.storage import StorageContract, change, derive, document
from tests.bombs import Bomb, check_that_it_would_explode


class OfDiskcache(StorageContract):
    @pytest.fixture
    def reopen(self, tmp_path):
        with ExitStack() as opened:

            def reopen(timeout=30.0):
                mapping = self.open(str(tmp_path / "chat"))
                opened.enter_context(closing(getattr(mapping, "cache", mapping)))
                return opened.enter_context(closing(storage_of(mapping, derive, timeout=timeout)))

            yield reopen

    @pytest.fixture
    def storage(self, reopen):
        return reopen()

    @pytest.fixture
    def impatient(self, reopen):
        return lambda: reopen(0.1)


class TestIndex(OfDiskcache):
    def open(self, path):
        return diskcache.Index(path)


@pytest.mark.long
class TestCache(OfDiskcache):
    """A Cache without eviction, of the community's fork."""

    def open(self, path):
        return diskcache_community.Cache(path, eviction_policy="none")


# Where documents lie --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[diskcache, diskcache_community])
def library(request):
    return request.param


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "chat"


@pytest.fixture
def index(directory, library):
    index = library.Index(str(directory))
    yield index
    index.cache.close()


@pytest.fixture
def storage(index):
    with closing(storage_of(index, derive)) as storage:
        yield storage


def files(directory):
    return [each for each in directory.rglob("*") if each.is_file() and not each.name.startswith("cache.db")]


def rows(directory, query, *parameters):
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        return connection.execute(query, parameters).fetchall()


def test_documents_stay_inside_the_table_whatever_their_size(storage, index, directory):
    """Documents stay in the table, although diskcache puts values of 32 KiB into files."""
    for size in (1, 100_000, 10):
        storage.write([Change(put=[("doc/a", b"x" * size)])])

        assert files(directory) == []
        assert index["doc/a"] == "x" * size


def test_diskcache_counts_our_rows(storage, index):
    """`len(index)` and iteration agree after documents were put, changed and dropped, as does its own check."""
    storage.write([change(f"p{n}", "r1", pages={"1": "one"}) for n in range(5)])
    storage.write(
        [change("p1", "r2", "r1", pages={"1": "two"}, drop=["page/p1/0"]), Change(drop=["doc/p2", "page/p2/"])]
    )
    index["mine"] = 1

    assert len(index) == len(list(index)) == 9
    assert index.cache.check() == []


@pytest.mark.parametrize("put", ["a comparison", "no comparison"])
def test_a_document_that_diskcache_wrote_to_a_file_is_read_and_brought_in(storage, index, directory, put):
    """A document in a file of diskcache can be read. The next change moves it into the table."""
    index["doc/a"] = "x" * 100_000
    assert len(files(directory)) == 1
    assert storage.read(["doc/a"]) == {"doc/a": b"x" * 100_000}
    assert storage.write([Change(expect=[("doc/a", "y")], put=[("doc/a", b"new")])]) == [False]

    expect = [("doc/a", "x" * 1000)] if put == "a comparison" else []
    assert storage.write([Change(expect=expect, put=[("doc/a", b"short")])]) == [True]

    assert index["doc/a"] == "short"
    assert rows(directory, "SELECT mode, size, filename FROM Cache") == [(1, 0, None)]


def test_what_was_written_as_text_to_a_file_is_listed(index):
    """Such a document is listed when lists are made."""
    index["doc/a"] = document("r1", ("active", "a", 5), text="x" * 100_000).decode()

    with closing(storage_of(index, derive)) as storage:
        assert storage.scan("active") == [(5, "a")]


def test_a_document_does_not_expire_with_the_row_that_it_replaces(storage, index):
    """A document does not inherit the time to live of the row that it replaces."""
    for key in ("doc/a", "doc/b"):
        index.cache.set(key, "old", expire=3600)

    storage.write([Change(put=[("doc/a", b"new")]), Change(expect=[("doc/b", "old")], put=[("doc/b", b"new")])])

    assert [index.cache.get(key, expire_time=True) for key in ("doc/a", "doc/b")] == [("new", None)] * 2


# What is never run or read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ballast", [0, 100_000], ids=["in a row", "in a file"])
def test_a_pickle_is_never_opened(storage, index, directory, tmp_path, ballast):
    """A pickle is an unreadable document, and is set aside as it is."""
    bomb = Bomb(tmp_path / "exploded", ballast)
    index["doc/a"] = bomb
    value = storage.read(["doc/a"])["doc/a"]
    row = rows(directory, "SELECT value, mode, filename, size FROM Cache")

    assert not isinstance(value, (str, bytes))
    assert "exploded" not in repr(value)
    for start in ("", None, "x"):
        found = storage.write([Change(expect=[("doc/a", start)], put=[("page/a/1", b"new")])])
        assert found == [start == ""]
    assert storage.write([Change(expect=[("doc/a", "")], put=[("aside/a/doc", value)], drop=["doc/a"])]) == [True]

    assert storage.read(["aside/a/doc"]) == {"aside/a/doc": value}
    assert rows(directory, "SELECT value, mode, filename, size FROM Cache WHERE key = 'aside/a/doc'") == row
    assert list(storage.listings()) == []
    assert not (tmp_path / "exploded").exists()
    check_that_it_would_explode(bomb)
    assert index["aside/a/doc"] == '{"format":1}'


@pytest.mark.parametrize(
    "name", ["../outside", "{}/outside", "link", "folder/link", "pipe", "folder", "hole", ".", "", "no", "a\0b", 7]
)
def test_no_file_outside_of_the_directory_is_read(storage, index, directory, name):
    """A row that names a foreign file, link, pipe, folder or sparse file is an unreadable document."""
    outside = directory.parent / "outside"
    outside.write_text("not of this directory")
    (directory / "link").symlink_to(outside)
    (directory / "folder").mkdir()
    (directory / "folder" / "link").symlink_to(outside)
    os.mkfifo(directory / "pipe")
    with (directory / "hole").open("wb") as file:
        file.truncate(10**12)
    index["doc/a"] = "text"
    name = name.format(directory.parent) if isinstance(name, str) else name
    for mode in (1, 2, 3, 4, None, b"\xff"):
        rows(directory, "UPDATE Cache SET value = NULL, mode = ?, filename = ?", mode, name)

        found = storage.read(["doc/a"])["doc/a"]

        assert not isinstance(found, (str, bytes))
        for moved in (("doc/a", "aside/a/doc"), ("aside/a/doc", "doc/a")):
            change = Change(expect=[(moved[0], "")], put=[(moved[1], found)], drop=[moved[0]])
            assert storage.write([change]) == [True]
            assert storage.read(moved) == {moved[1]: found}
    assert outside.read_text() == "not of this directory"


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda library, path: library.Cache(path),
        lambda library, path: library.Cache(path, eviction_policy="least-recently-used"),
        lambda library, path: library.Index.fromcache(library.Cache(path)),
        lambda library, path: library.Cache(path, eviction_policy="none", disk=library.JSONDisk),
        lambda library, path: library.FanoutCache(path),
        lambda library, path: library.Deque(directory=path),
    ],
    ids=["Cache", "LRU", "Index of a Cache", "JSONDisk", "FanoutCache", "Deque"],
)
def test_what_may_lose_documents_is_refused(directory, library, make):
    """A cache that evicts, has another disk class or several files raises an error with the remedy."""
    mapping = make(library, str(directory))

    with ExitStack() as opened:
        opened.callback(mapping.close if hasattr(mapping, "close") else mapping.cache.close)
        with pytest.raises(UnsuitableMappingError) as caught:
            storage_of(mapping, derive)

    assert f"{library.__name__}.Index(directory)" in str(caught.value)
    assert "\n" not in str(caught.value)
