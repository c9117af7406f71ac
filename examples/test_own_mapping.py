"""The tests of own_mapping.py: all rules of a mapping of text, and of sessions that are kept in one.

pip install pytest hypothesis
pytest test_own_mapping.py
"""

from urllib.parse import quote

import pytest
from own_mapping import Folder

from pyai_sessions.testing import KVSessionStoreContract, PersistentMappingContract


class TestFolder(PersistentMappingContract):
    """The folder as a mapping."""

    def takes_key(self, text):
        """Return whether a file's name can hold it: what is longer is refused by the operating system."""
        return len(quote(text, safe="")) < 255

    @pytest.fixture
    def mapping(self, reopen):
        return reopen()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: Folder(tmp_path / "folder")


class TestSessionsInAFolder(KVSessionStoreContract):
    """All that SessionManager does, with the folder under it."""

    longest_id = 60  # in bytes: a key has a few more, and a file's name 255

    @pytest.fixture
    def store(self, tmp_path):
        return Folder(tmp_path / "sessions")
