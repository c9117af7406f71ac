"""An example for authors of storages: the eight methods on two tables of SQLite, to read and to begin from.

It is short, not fast, and careless of what a file can do to it; the storage for SQLite files is another.
"""

import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from pyai_sessions.errors import StorageClosedError, StorageError, StorageLockedError
from pyai_sessions.storage.protocol import Change, Listed, Position, Storage

_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS documents (key TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lists (list TEXT, member TEXT, score INTEGER, PRIMARY KEY (list, member));
CREATE INDEX IF NOT EXISTS in_order ON lists (list, score, member);
"""
_FIND = "SELECT key, text FROM documents"
_DROP = "DELETE FROM documents"
_PAGE = 500
"""Rows that are read at once: no walk holds up writers, or more than these in memory."""


class ExampleStorage(Storage):
    """Documents and lists in tables of an SQLite file.

    >>> from pyai_sessions.storage.protocol import Listing
    >>> storage = ExampleStorage(":memory:")
    >>> created = Change(
    ...     expect=[("session/s", None)],
    ...     put=[("session/s", b'{"revision":1}')],
    ...     lists=[Listing("active", "s", None, 10)],
    ... )
    >>> storage.write([created]), storage.write([created])  # then there is one already
    ([True], [False])
    >>> storage.read(["session/s", "session/t"]), storage.scan("active")
    ({'session/s': '{"revision":1}'}, [(10, 's')])

    """

    def __init__(self, path: str, *, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.RLock()  # one connection for all threads: one at a time has it
        self._db = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        self._db.executescript(_TABLES)

    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return documents, all of one moment: a transaction that reads sees none of what others write meanwhile."""
        with self._transaction("BEGIN") as db:
            return {name: text for key in keys for name, text in db.execute(_FIND + _at(key), _range(key))}

    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one transaction: all that are applied are stored, or an error says that none is."""
        with self._transaction() as db:
            return [_apply(db, each) for each in changes]

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over keys, page by page: keys that begin alike are neighbours."""
        last = prefix
        query = "SELECT key FROM documents WHERE key >= ? AND key <> ? ORDER BY key LIMIT ?"
        skipped = ""
        while True:
            with self._transaction("BEGIN") as db:
                page = [key for (key,) in db.execute(query, (last, skipped, _PAGE))]
            yield from (key for key in page if key.startswith(prefix))
            if len(page) < _PAGE or not page[-1].startswith(prefix):
                return
            last = skipped = page[-1]

    def scan(
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        """Return the next positions, by the SQL index that has them in order."""
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        query = f"SELECT score, member FROM lists WHERE list = ? AND (score, member) {beyond} (?, ?)"  # noqa: S608 (ours)
        first = (2**62 if newest_first else -(2**62), "")
        with self._transaction("BEGIN") as db:
            rows = db.execute(
                f"{query} ORDER BY score {order}, member {order} LIMIT ?", (name, *(after or first), limit)
            )
            return rows.fetchall()

    def count(self, name: str) -> int:
        """Return how many rows a list has."""
        with self._transaction("BEGIN") as db:
            (found,) = db.execute("SELECT count(*) FROM lists WHERE list = ?", (name,)).fetchone()
            return int(found)

    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:
        """Iterate over the rows of these members, or over all, page by page."""
        if of is not None:
            with self._transaction("BEGIN") as db:
                query = "SELECT list, member, score FROM lists WHERE list = ? AND member = ?"
                yield from [row for pair in of for row in db.execute(query, pair)]
            return
        query = "SELECT list, member, score FROM lists WHERE (list, member) > (?, ?) ORDER BY list, member LIMIT ?"
        last = ("", "")
        page: list[Listed] = []
        while not last[0] or len(page) == _PAGE:
            with self._transaction("BEGIN") as db:
                page = db.execute(query, (*last, _PAGE)).fetchall()
            yield from (row for row in page if row[0].startswith(prefix))
            last = page[-1][:2] if page else ("end", "")

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep other writers out: what is written inside is a part of one transaction."""
        return self._transaction()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Generator[sqlite3.Connection, None, None]:
        """Begin and end a transaction; inside another one of this thread it is a part of that."""
        if not self._lock.acquire(timeout=self._timeout):
            raise StorageLockedError(self._path, f"other threads used it for {self._timeout} s")
        try:
            inner = self._db.in_transaction
            self._db.execute("SELECT 1" if inner else begin)
            try:
                yield self._db
            except BaseException:
                if not inner:
                    self._db.rollback()
                raise
            if not inner:
                self._db.commit()
        except sqlite3.Error as err:
            raise self._error(err) from err
        finally:
            self._lock.release()

    def _error(self, err: sqlite3.Error) -> StorageError:
        """Return what an error of SQLite means: what to do about it depends on that."""
        if "closed" in str(err):
            return StorageClosedError(self._path, str(err))
        return StorageLockedError(self._path, str(err)) if "locked" in str(err) else StorageError(self._path, str(err))


def _apply(db: sqlite3.Connection, change: Change) -> bool:
    answer = change.answer(lambda key: _text(db, key))
    if answer is not None:
        return answer
    for key, document in change.put:
        value = document.decode() if isinstance(document, bytes) else document
        db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, value))
    for key in change.drop:
        db.execute(_DROP + _at(key), _range(key))
    for name, member, _, score in change.lists:
        db.execute("DELETE FROM lists WHERE list = ? AND member = ?", (name, member))
        if score is not None:
            db.execute("INSERT INTO lists VALUES (?, ?, ?)", (name, member, score))
    return True


def _text(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute(_FIND + _at(key), (key,)).fetchone()
    return row[1] if row else None


def _at(key: str) -> str:
    """Return what finds one key, or all below one that ends with a slash."""
    return " WHERE key > ? AND key < ?" if key.endswith("/") else " WHERE key = ?"


def _range(key: str) -> tuple[str, ...]:
    return (key, key[:-1] + "0") if key.endswith("/") else (key,)  # "0" is the character after the slash
