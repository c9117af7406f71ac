"""SQLStorage on diskcache's table: the contract, and what diskcache would evict, move out of its table, or unpickle."""

from contextlib import ExitStack, closing

import diskcache
import diskcache_community
import pytest

from pyai_sessions.storage.diskcache import storage_of
from pyai_sessions.testing.storage import StorageContract, derive


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


class TestCache(OfDiskcache):
    """A Cache that evicts nothing, of the community's fork."""

    def open(self, path):
        return diskcache_community.Cache(path, eviction_policy="none")
