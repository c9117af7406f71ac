"""The contract of storages, run on the simplest one and on the example for authors."""

import pytest

from pyai_sessions.testing.storage import StorageContract
from pyai_sessions.testing.storage.example import ExampleStorage
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


class TestExampleStorage(StorageContract):
    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: ExampleStorage(str(tmp_path / "chat.db"), timeout=30.0)

    @pytest.fixture
    def storage(self, reopen):
        storage = reopen()
        yield storage
        storage.close()

    @pytest.fixture
    def impatient(self, tmp_path):
        return lambda: ExampleStorage(str(tmp_path / "chat.db"), timeout=0.1)
