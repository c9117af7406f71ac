"""The tests of postgres_storage.py: the rules of a storage, and all that SessionManager does with one.

pip install pytest hypothesis "psycopg[binary]"
DATABASE_URL=postgresql://localhost/empty pytest test_postgres_storage.py     # they delete what is in this database
"""

import os

import psycopg
import pytest
from postgres_storage import PostgresStorage

from pyai_sessions.testing import KVSessionStoreContract
from pyai_sessions.testing.storage import StorageContract

URL = os.environ["DATABASE_URL"]


@pytest.fixture(name="empty")
def open_empty():
    """Open a storage on empty tables."""
    storage = PostgresStorage(URL, timeout=30.0)
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute("TRUNCATE chat_documents, chat_lists")
    yield storage
    storage.close()


class TestPostgres(StorageContract):
    """The storage by itself."""

    @pytest.fixture
    def storage(self, empty):
        return empty

    @pytest.fixture
    def reopen(self):
        return lambda: PostgresStorage(URL, timeout=30.0)

    @pytest.fixture
    def impatient(self):
        return lambda: PostgresStorage(URL, timeout=0.1)


class TestSessionsInPostgres(KVSessionStoreContract):
    """Sessions in it."""

    @pytest.fixture
    def store(self, empty):
        return empty
