"""The contract of storages on the simplest one."""

import pytest

from pyai_sessions.testing.storage import StorageContract
from tests.storage.plain import PlainStorage


class TestPlainStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        return PlainStorage()

    @pytest.fixture
    def reopen(self, storage):
        return lambda: PlainStorage(storage.data)

    @pytest.fixture
    def impatient(self, storage):
        return lambda: PlainStorage(storage.data, timeout=0.1)
