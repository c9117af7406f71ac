"""The tests of lmdb_storage.py: the rules of a storage, and all that SessionManager does with one.

pip install pytest hypothesis lmdb
pytest test_lmdb_storage.py
"""

import pytest
from lmdb_storage import LMDBStorage

from pyai_sessions.testing import KVSessionStoreContract
from pyai_sessions.testing.storage import StorageContract


class TestLMDB(StorageContract):
    """The storage by itself."""

    def takes_key(self, key):
        """Return whether LMDB can hold a key."""
        return 0 < len(key.encode()) <= 400  # 511, with what the tests put before it

    @pytest.fixture
    def storage(self, reopen):
        storage = reopen()
        yield storage
        storage.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: LMDBStorage(tmp_path / "chat.lmdb", timeout=30.0)

    @pytest.fixture
    def impatient(self, tmp_path):
        return lambda: LMDBStorage(tmp_path / "chat.lmdb", timeout=0.1)


class TestSessionsInLMDB(KVSessionStoreContract):
    """Sessions in it."""

    longest_id = 60

    @pytest.fixture
    def store(self, tmp_path):
        return LMDBStorage(tmp_path / "sessions.lmdb", timeout=30.0)
