"""Sessions in LMDB, a database that the library does not know: the eight methods of a `Storage`, and nothing else.

pip install lmdb
python lmdb_storage.py          # a conversation that goes on at each run
pytest test_lmdb_storage.py     # the rules of a storage, and of sessions in it, tried on it
"""

import os
import struct
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from pyai_sessions import (
    Change,
    KVSessionStore,
    SessionManager,
    Storage,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageLockedError,
)

PAGE = 500  # keys that are read in one transaction: a long one would keep LMDB from using pages again
SCORE = struct.Struct(">Q")  # eight bytes that sort as the numbers do
ZERO = 2**63


class _Environment:
    """An open file. LMDB forbids to open one twice in a process, so all storages on it share this."""

    def __init__(self, path: str, map_size: int) -> None:
        self.lmdb = lmdb.open(path, map_size=map_size, max_dbs=4, subdir=False)
        self.writing = threading.Lock()
        names = (b"documents", b"order", b"scores", b"counts")
        self.documents, self.order, self.scores, self.counts = (self.lmdb.open_db(each) for each in names)


_environments: WeakValueDictionary[str, _Environment] = WeakValueDictionary()


class LMDBStorage(Storage):
    """Documents and lists in an LMDB file: one writer at a time, and readers who wait for nobody.

    A key has at most 511 bytes, so ids must be shorter than usual: ``KVSessionStore(storage,
    limits=Limits(id_bytes=60))``. Open it after a fork, not before.

    Three tables make the lists: *order* has ``list, score, member`` as a key, so that a scan reads neighbours; *scores*
    says where a member stands; *counts* how many there are.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 10.0, map_size: int = 2**30) -> None:
        self.path = str(Path(path).resolve())
        self.timeout = timeout
        found = _environments.get(self.path)
        self._env = _environments[self.path] = found or _Environment(self.path, map_size)
        self._mine = threading.local()  # the transaction that this thread has open
        self._closed = False

    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return documents, all of one moment."""
        found: dict[str, object] = {}
        with self._transaction() as txn:
            for key in keys:
                if key.endswith("/"):
                    found.update((_text(k), v) for k, v in self._below(txn, key))
                elif (value := txn.get(_bytes(key), db=self._env.documents)) is not None:
                    found[key] = value
        return found

    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one transaction."""
        with self._transaction(write=True) as txn:
            return [self._apply(txn, each) for each in changes]

    def _apply(self, txn: lmdb.Transaction, change: Change) -> bool:
        done = change.done
        for key, start in change.expect:
            stored = txn.get(_bytes(key), db=self._env.documents)
            if done is not None and stored is not None and stored.startswith(_bytes(done)):
                return True  # it was applied before
            done = None  # it is sought in the first alone
            if (stored is not None) if start is None else (stored is None or not stored.startswith(_bytes(start))):
                return False
        for key, document in change.put:
            value = document if isinstance(document, bytes) else _bytes(str(document))
            txn.put(_bytes(key), value, db=self._env.documents)
        for key in change.drop:
            gone = [k for k, _ in self._below(txn, key)] if key.endswith("/") else [_bytes(key)]
            for each in gone:
                txn.delete(each, db=self._env.documents)
        for name, member, _, score in change.lists:
            self._move(txn, name, member, score)
        return True

    def _move(self, txn: lmdb.Transaction, name: str, member: str, score: int | None) -> None:
        """Let a member stand at a score (None: nowhere), wherever it stood."""
        start, place = _bytes(name) + b"\0", _bytes(f"{name}\0{member}")
        old = txn.get(place, db=self._env.scores)
        if old is not None:
            txn.delete(start + old + _bytes(member), db=self._env.order)
        if score is None:
            txn.delete(place, db=self._env.scores)
        else:
            new = SCORE.pack(score + ZERO)
            txn.put(start + new + _bytes(member), b"", db=self._env.order)
            txn.put(place, new, db=self._env.scores)
        more = (score is not None) - (old is not None)
        if more:
            count = self._count(txn, name) + more
            txn.put(start, SCORE.pack(count), db=self._env.counts)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over keys, page by page: keys that begin alike are neighbours."""
        first = _bytes(prefix)
        while True:
            with self._transaction() as txn:
                page = _neighbours(txn, self._env.documents, first, _bytes(prefix), PAGE)
            yield from (_text(key) for key, _ in page)
            if len(page) < PAGE:
                return
            first = page[-1][0] + b"\0"

    def scan(
        self, name: str, after: tuple[int, str] | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[tuple[int, str]]:
        """Return the next positions of a list: neighbours in *order*, read forwards or backwards."""
        start, found = _bytes(name) + b"\0", list[tuple[int, str]]()
        edge = None if after is None else start + SCORE.pack(after[0] + ZERO) + _bytes(after[1])
        with self._transaction() as txn, txn.cursor(self._env.order) as cursor:
            if newest_first:
                there = cursor.prev() if cursor.set_range(edge or _bytes(name) + b"\1") else cursor.last()
            else:
                there = cursor.set_range(start if edge is None else edge + b"\0")
            while there and len(found) < limit and cursor.key().startswith(start):
                score, member = cursor.key()[len(start) : len(start) + 8], cursor.key()[len(start) + 8 :]
                found.append((SCORE.unpack(score)[0] - ZERO, _text(member)))
                there = cursor.prev() if newest_first else cursor.next()
        return found

    def count(self, name: str) -> int:
        """Return how many members a list has."""
        with self._transaction() as txn:
            return self._count(txn, name)

    def _count(self, txn: lmdb.Transaction, name: str) -> int:
        found = txn.get(_bytes(name) + b"\0", db=self._env.counts)
        return SCORE.unpack(found)[0] if found else 0

    def listings(
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[tuple[str, str, int]]:
        """Iterate over where these members stand, or over all, page by page."""
        if of is not None:
            with self._transaction() as txn:
                places = [_bytes(f"{name}\0{member}") for name, member in of]
                page = [(each, txn.get(each, db=self._env.scores)) for each in places]
            yield from (_listed(place, score) for place, score in page if score is not None)
            return
        first, page = _bytes(prefix), [(b"", b"")] * PAGE
        while len(page) == PAGE:
            with self._transaction() as txn:
                page = _neighbours(txn, self._env.scores, first, _bytes(prefix), PAGE)
            yield from (_listed(place, score) for place, score in page)
            first = page[-1][0] + b"\0" if page else b""

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out: what is written inside is a part of one transaction."""
        return self._transaction(write=True)

    def close(self) -> None:
        """Close the file, once no other storage has it."""
        self._closed = True

    def _below(self, txn: lmdb.Transaction, key: str) -> list[tuple[bytes, bytes]]:
        return _neighbours(txn, self._env.documents, _bytes(key) + b"\0", _bytes(key), None)

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Generator[lmdb.Transaction, None, None]:
        """Begin and end a transaction; inside another one of this thread it is a part of that."""
        if self._closed:
            raise StorageClosedError(self.path, "the storage was closed")
        outer = getattr(self._mine, "txn", None)
        if outer is not None:
            yield outer
            return
        # Writers of other processes wait for LMDB's own lock, which knows no deadline, and ends with its process.
        if write and not self._env.writing.acquire(timeout=self.timeout):
            raise StorageLockedError(self.path, f"other threads wrote for {self.timeout} s")
        try:
            with self._env.lmdb.begin(write=write) as txn:
                self._mine.txn = txn if write else None
                yield txn
        except lmdb.MapFullError as err:
            raise StorageFullError(self.path, "its map is full", "open it with a larger map_size") from err
        except lmdb.BadValsizeError as err:
            problem = "a key has more than 511 bytes, which LMDB cannot hold"
            raise StorageError(self.path, problem, "use shorter ids: Limits(id_bytes=60)") from err
        except lmdb.Error as err:
            raise StorageError(self.path, str(err)) from err
        finally:
            self._mine.txn = None
            if write:
                self._env.writing.release()


def _neighbours(
    txn: lmdb.Transaction, table: object, first: bytes, prefix: bytes, limit: int | None
) -> list[tuple[bytes, bytes]]:
    """Return keys that begin with a prefix, from *first* on, and what lies under them."""
    found: list[tuple[bytes, bytes]] = []
    with txn.cursor(table) as cursor:
        there = cursor.set_range(first) if first else cursor.first()
        while there and cursor.key().startswith(prefix) and (limit is None or len(found) < limit):
            found.append(cursor.item())
            there = cursor.next()
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def _listed(place: bytes, score: bytes) -> tuple[str, str, int]:
    name, _, member = place.partition(b"\0")
    return _text(name), _text(member), SCORE.unpack(score)[0] - ZERO


if __name__ == "__main__":
    manager = SessionManager(KVSessionStore(LMDBStorage("chat.lmdb")))
    session = manager.get_or_create_session("demo", "ada")
    session.add_message("user", f"Run {session.message_count + 1}")
    manager.save(session)
    for message in session.messages:
        print(message.content)
