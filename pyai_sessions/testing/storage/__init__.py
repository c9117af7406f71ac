"""The contract of a storage: documents under keys, ordered lists, and one write that is all or nothing.

Whoever writes the eight methods of `Storage` for a database gets sessions, lists, forks, expiry and encryption on it.
This kit says whether they are right; `example.py` in it has them on two tables of SQLite::

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
`exclusive`, `close`. For a kind of failure of your database raise the `StorageError` that says what to do about it.
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


# The last class comes first: a storage is read and written before it is tried on more.
class StorageContract(Closing, Exclusive, TwoStorages, Lists, Dropping, Repeating, Comparing, Keys, Reading):
    """What a `Storage` does, by its docstrings.

    Subclass it, and give it two fixtures: `storage`, an empty one, and `reopen`, a function that opens a second storage
    on the data of the first. The contract closes what it opens; it also closes `storage` in a test of that.

    A storage that makes its lists from documents takes `derive` of this module, which knows the documents of the tests.

    What follows is optional.

    - A fixture `impatient`: a function that opens a storage on the same data that waits for others for 0.1 seconds. The
      test of deadlines needs it, and a storage that has `exclusive`.
    - ``takes_key(key)``, where the storage does not take every text as a key.
    """

    def test_it_behaves_as_dicts(self, storage: Any, other: Any) -> None:
        """After any sequence of changes it holds the documents and the lists that dicts hold."""
        clear = self.clear

        class Machine(StorageMachine):
            def open(self) -> Any:
                clear(storage)
                return storage, other

        run_short(Machine)

    @staticmethod
    def clear(storage: Any) -> None:
        """Drop all documents and take all members out of lists."""
        for key in set(storage.keys()):
            storage.write([Change(drop=[key])])
        for name, member, score in list(storage.listings()):
            storage.write([Change(expect=[("doc/none", None)], lists=[Listing(name, member, score, None)])])
