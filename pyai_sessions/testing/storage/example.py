"""An example of a storage, to read and to start from: the eight methods on two tables of SQLite.

It is short, but slow, and not hardened against damaged files. `SQLiteSessionStore` uses another storage.
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
"""Rows per query. Between two queries of an iteration writers can write, and no more rows than this are in memory."""


class ExampleStorage(Storage):
    """Stores documents and lists in two tables of an SQLite file.

    >>> from pyai_sessions.storage.protocol import Listing
    >>> storage = ExampleStorage(":memory:")
    >>> created = Change(
    ...     expect=[("session/s", None)],
    ...     put=[("session/s", b'{"revision":1}')],
    ...     lists=[Listing("active", "s", None, 10)],
    ... )
    >>> storage.write([created]), storage.write([created])  # the second time there is one already
    ([True], [False])
    >>> storage.read(["session/s", "session/t"]), storage.scan("active")
    ({'session/s': '{"revision":1}'}, [(10, 's')])

    """

    def __init__(self, path: str, *, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._lock = threading.RLock()  # all threads share one connection, one at a time
        self._db = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        self._db.executescript(_TABLES)

    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return documents in one transaction, so that all are from the same moment."""
        with self._transaction("BEGIN") as db:
            return {name: text for key in keys for name, text in db.execute(_FIND + _at(key), _range(key))}

    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one transaction. An error means that none is stored."""
        with self._transaction() as db:
            return [_apply(db, each) for each in changes]

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over keys, one query per page."""
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
        """Return the next positions, in the order of the SQL index."""
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        query = f"SELECT score, member FROM lists WHERE list = ? AND (score, member) {beyond} (?, ?)"  # noqa: S608 (ours)
        first = (2**62 if newest_first else -(2**62), "")
        with self._transaction("BEGIN") as db:
            rows = db.execute(
                f"{query} ORDER BY score {order}, member {order} LIMIT ?", (name, *(after or first), limit)
            )
            return rows.fetchall()

    def count(self, name: str) -> int:
        """Return the number of rows of a list."""
        with self._transaction("BEGIN") as db:
            (found,) = db.execute("SELECT count(*) FROM lists WHERE list = ?", (name,)).fetchone()
            return int(found)

    def listings(self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = "") -> Iterator[Listed]:
        """Iterate over the rows of these members, or over all rows, one query per page."""
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
        """Keep other writers out. All writes inside belong to one transaction."""
        return self._transaction()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Generator[sqlite3.Connection, None, None]:
        """Run a transaction. Inside another one of the same thread, join it."""
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
        """Return our exception for an error of SQLite, by what the user can do about it."""
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
    """Return the condition for one key, or for all keys below one that ends with a slash."""
    return " WHERE key > ? AND key < ?" if key.endswith("/") else " WHERE key = ?"


def _range(key: str) -> tuple[str, ...]:
    return (key, key[:-1] + "0") if key.endswith("/") else (key,)  # "0" is the character after the slash
