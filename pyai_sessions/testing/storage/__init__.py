"""The contract of a storage: documents under keys, ordered lists, and atomic writes.

Write the eight methods of `Storage` for your database, and you get sessions, lists, forks, expiry and encryption on it.
This contract tests the methods. The module `example` shows them on two tables of SQLite::

    import pytest
    from pyai_sessions.testing.storage import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def reopen(self, tmp_path):
            return lambda: MyStorage(tmp_path / "chat.db")

        @pytest.fixture
        def storage(self, reopen):
            storage = reopen()
            yield storage
            storage.close()

Write them in this order, and run the tests after each: `read` and `write`, `keys`, `scan` with `count` and `listings`,
`exclusive`, `close`. For each kind of failure of your database, raise the `StorageError` that tells users what to do.
"""

from typing import Any

from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.testing.machines import run_short
from pyai_sessions.testing.storage.fixtures import change, derive, document
from pyai_sessions.testing.storage.lists import Lists
from pyai_sessions.testing.storage.machine import StorageMachine
from pyai_sessions.testing.storage.reading import Keys, Reading
from pyai_sessions.testing.storage.sharing import Closing, Exclusive, TwoStorages
from pyai_sessions.testing.storage.writing import Comparing, Dropping, Repeating

__all__ = ["StorageContract", "StorageMachine", "change", "derive", "document"]


# pytest runs the last base class first: reading and writing come before what is built on them.
class StorageContract(Closing, Exclusive, TwoStorages, Lists, Dropping, Repeating, Comparing, Keys, Reading):
    """Tests what the docstrings of `Storage` promise.

    Subclass it with two fixtures: `storage` returns an empty storage; `reopen` returns a function that opens a second
    one on the same data. The tests close what they open. The tests of `close` also close `storage`.

    If your storage derives its lists from documents, pass it this module's `derive`, which reads the tests' documents.

    Optional:

    - A fixture `impatient` that returns a function. It opens a storage on the same data with a timeout of 0.1 seconds,
      for the test of deadlines, which runs where the storage has `exclusive`.
    - ``takes_key(key)``, if the storage does not accept every text as a key.
    """

    def test_it_behaves_as_dicts(self, storage: Any, other: Any) -> None:
        """After any sequence of changes, it holds the same documents and lists as plain dicts."""
        clear = self.clear

        class Machine(StorageMachine):
            def open(self) -> Any:
                clear(storage)
                return storage, other

        run_short(Machine)

    @staticmethod
    def clear(storage: Any) -> None:
        """Drop all documents, and remove all members from lists."""
        for key in set(storage.keys()):
            storage.write([Change(drop=[key])])
        for name, member, score in list(storage.listings()):
            storage.write([Change(expect=[("doc/none", None)], lists=[Listing(name, member, score, None)])])
