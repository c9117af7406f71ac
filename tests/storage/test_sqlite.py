"""Tests of SQLiteStorage on SqliteDict's table: the contract on each way to open it."""

from contextlib import ExitStack, closing

import pytest
from sqlitedict import SqliteDict

from pyai_sessions.storage.families import storage_of
from pyai_sessions.storage.sqlite.mapping import SQLiteMapping
from pyai_sessions.testing.storage import StorageContract, derive


class OfSQLite(StorageContract):
    @pytest.fixture
    def reopen(self, tmp_path):
        with ExitStack() as opened:

            def reopen(timeout=30.0):
                mapping = opened.enter_context(closing(self.open(tmp_path / "chat.db", timeout)))
                return opened.enter_context(closing(storage_of(mapping, derive, timeout=timeout)))

            yield reopen

    @pytest.fixture
    def storage(self, reopen):
        return reopen()

    @pytest.fixture
    def impatient(self, reopen):
        return lambda: reopen(0.1)


class TestFile(OfSQLite):
    """A file by its path. Each storage has its own connections."""

    def open(self, path, timeout):
        return SQLiteMapping(path, synchronous="OFF", timeout=timeout)


class TestSqliteDict(OfSQLite):
    """A SqliteDict of text."""

    def open(self, path, timeout):
        return SqliteDict(str(path), encode=str, decode=str, autocommit=True, journal_mode="WAL")


@pytest.mark.long
class TestPicklingSqliteDict(OfSQLite):
    """A default SqliteDict, whose pickles are never read. Its journal is not a WAL."""

    def open(self, path, timeout):
        return SqliteDict(str(path))


@pytest.mark.long
class TestMemory(StorageContract):
    """A database in memory. Storages share its one connection through the mapping."""

    @pytest.fixture
    def mapping(self):
        with closing(SQLiteMapping(":memory:", timeout=30.0)) as mapping:
            yield mapping

    @pytest.fixture
    def reopen(self, mapping):
        return lambda: storage_of(mapping, derive)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()
