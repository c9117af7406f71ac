"""A full-text index in an SQLite file: the words of documents, by their keys."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pyai_sessions.errors import StorageError, UnsupportedOperationError
from pyai_sessions.storage.sqlite.connections import Connection, Connections, one_moment
from pyai_sessions.storage.sqlite.tables import BATCH, LAST, quoted, run

_AT_ONCE = 300
"""Keys in one query. Every SQLite allows 999 parameters."""

_MERGED = 500
"""Pages of the index, of 4 KB, that are written in one transaction when it is merged."""

_MANY, _PART = 200, 10
"""An index is of no use if this many documents match, and they are more than this part of all."""

_HAS_FTS5 = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"

UNREADABLE = -1
"""The number of items of a document that cannot be read. Every search finds it."""


class Indexed(NamedTuple):
    """What the index holds of a document.

    Args:
        key: Its key.
        stamp: How it begins, if that tells whether it has changed.
        items: How many items it has, or `UNREADABLE`.
        words: Its words, separated by spaces. They are folded: the index tells apart all characters but the upper and
            lower case of ASCII. None: the document has none, or is gone, and the index holds nothing of it.
        links: Names of places whose documents are part of what this one describes.

    """

    key: str
    stamp: str = ""
    items: int = 0
    words: str | None = None
    links: Sequence[str] = ()


class Matches(NamedTuple):
    """What the index says of a query at one moment.

    Args:
        keys: The keys of the documents that hold what is looked for.
        due: The keys of documents that changed since they were indexed, or were never.
        last: The greatest number of an indexed document.

    """

    keys: list[str]
    due: list[str]
    last: int


class FullText:
    """A full-text index of documents.

    A row for each document, and its words in a table of FTS5 that holds no text (`content=''`). FTS5 before 3.43 takes
    a row out of such a table only with the very words that were put in, and the document may be gone by then. So the
    words are kept in the document's row, compressed: a third of the text.

    Where the documents lie in the same file, triggers note in a table the keys of those that changed, in the
    transaction of whoever writes.

    Args:
        connections: Connections to the file.
        name: What the names of the tables begin with.
        table: The table of the documents, if it is in the same file.

    """

    def __init__(self, connections: Connections, name: str, table: str | None = None) -> None:
        self.connections = connections
        self._table = table
        names = [name, *(f"{name}/{part}" for part in ("documents", "links", "due"))]
        self._words, self._documents, self._links, self._due = map(quoted, names)
        self._parts = self._tables(name) | ({} if table is None else self._triggers(name, quoted(table)))

    def _tables(self, name: str) -> dict[str, str]:
        """Return the statements that make the tables, by the names of what they make."""
        return {
            name: f"CREATE VIRTUAL TABLE {self._words} USING fts5(words, content='', columnsize=0, tokenize='ascii')",
            # Not a number that was used before: `Matches.last` tells which rows are new.
            f"{name}/documents": f"CREATE TABLE {self._documents} (id INTEGER PRIMARY KEY AUTOINCREMENT, "
            "key TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL, count INTEGER NOT NULL, words BLOB)",
            (unreadable := f"{name}/documents/unreadable"): f"CREATE INDEX {quoted(unreadable)} "
            f"ON {self._documents} (count) WHERE count < 0",
            f"{name}/links": f"CREATE TABLE {self._links} (place TEXT, key TEXT, PRIMARY KEY (place, key)) "
            "WITHOUT ROWID",
            f"{name}/due": f"CREATE TABLE {self._due} (key TEXT PRIMARY KEY) WITHOUT ROWID",
        }

    def _triggers(self, name: str, table: str) -> dict[str, str]:
        """Return the statements of triggers that note each change of a table."""
        events = {
            "inserted": ("INSERT", "NEW"),
            "deleted": ("DELETE", "OLD"),
            "updated": ("UPDATE", "NEW"),
            "moved": ("UPDATE OF key", "OLD"),
        }
        return {
            (trigger := f"{name}/{part}"): f"CREATE TRIGGER {quoted(trigger)} AFTER {event} ON {table} "
            f"BEGIN INSERT OR IGNORE INTO {self._due} VALUES ({row}.key); END"
            for part, (event, row) in events.items()
        }

    # Making ------------------------------------------------------------------------------------------------------

    def is_made(self) -> bool:
        """Return whether the index is there as it is made, and this SQLite can use it."""
        with self.connections.reading() as connection:
            found = {name: sql for _, name, sql in self._found(connection)}
            return found == self._parts and connection.execute(_HAS_FTS5).fetchone() is not None

    def _found(self, connection: Connection) -> list[tuple[str, str, str]]:
        """Return the kind, the name and the statement of all that has the name of a part of the index.

        SQLite keeps the statement that made it as it was given.
        """
        marks = ", ".join(["lower(?)"] * len(self._parts))
        query = f"SELECT type, name, sql FROM sqlite_master WHERE lower(name) IN ({marks})"
        return connection.execute(query, [*self._parts]).fetchall()

    def make(self) -> None:
        """Make an empty index in place of the former one. Every document of the file is to be indexed anew.

        Raises:
            StorageError: The file has something else of the name of a part of the index.
            UnsupportedOperationError: This SQLite was built without FTS5.

        """
        with self.connections.writing() as connection:
            if connection.execute(_HAS_FTS5).fetchone() is None:
                msg = "this SQLite was built without FTS5; search without an index works"
                raise UnsupportedOperationError(msg)
            self._remove(connection)
            for statement in self._parts.values():
                connection.execute(statement)
            if self._table is not None:
                keys = f"SELECT key FROM {quoted(self._table)} WHERE typeof(key) = 'text'"
                connection.execute(f"INSERT OR IGNORE INTO {self._due} {keys}")

    def drop(self) -> None:
        """Remove the index.

        Raises:
            StorageError: The file has something else of the name of a part of the index.

        """
        with self.connections.writing() as connection:
            self._remove(connection)

    def _remove(self, connection: Connection) -> None:
        """Remove what `make` made, and nothing else."""
        found = self._found(connection)
        for kind, name, sql in found:
            if self._parts.get(name) != sql:
                problem = f"it has a {kind} {name!r}, which is no part of a search index"
                raise StorageError(self.connections.path, problem, "rename or remove it")
        for kind, name, _ in sorted(found, reverse=True):  # triggers, tables, and then the index, which is gone
            connection.execute(f"DROP {kind} IF EXISTS {quoted(name)}")

    # Changing ----------------------------------------------------------------------------------------------------

    def due(self, after: str = "", limit: int = BATCH) -> list[str]:
        """Return the next keys of documents that changed, in order."""
        query = f"SELECT key FROM {self._due} WHERE key > ? AND typeof(key) = 'text' ORDER BY key LIMIT ?"
        with self.connections.reading() as connection:
            return [key for (key,) in connection.execute(query, (after, limit)).fetchall()]

    def put(self, documents: Sequence[Indexed], are_current: Callable[[], Iterable[str]] | None = None) -> None:
        """Index documents in the place of what was indexed under their keys.

        *are_current* is called within the transaction; it returns the keys of those that did not change since they were
        read. The others stay due.
        """
        with self.connections.writing() as connection:
            keys = None if are_current is None else set(are_current())
            for each in documents:
                if keys is None or each.key in keys:
                    self._put(connection, each)
                    connection.execute(f"DELETE FROM {self._due} WHERE key = ?", (each.key,))

    def _put(self, connection: Connection, document: Indexed) -> None:
        query = f"SELECT id, words FROM {self._documents} WHERE key = ?"
        for number, words in connection.execute(query, (document.key,)).fetchall():
            if words is not None:
                delete = f"INSERT INTO {self._words} ({self._words}, rowid, words) VALUES ('delete', ?, ?)"
                connection.execute(delete, (number, zlib.decompress(words).decode()))
            connection.execute(f"DELETE FROM {self._documents} WHERE id = ?", (number,))
            connection.execute(f"DELETE FROM {self._links} WHERE key = ?", (document.key,))
        if document.words is None and document.items != UNREADABLE:
            return
        packed = None if not document.words else zlib.compress(document.words.encode(), 1)
        row = (document.key, document.stamp, document.items, packed)
        insert = f"INSERT INTO {self._documents} (key, stamp, count, words) VALUES (?, ?, ?, ?)"
        number = connection.execute(insert, row).lastrowid
        if document.words:
            connection.execute(f"INSERT INTO {self._words} (rowid, words) VALUES (?, ?)", (number, document.words))
        run(
            connection,
            f"INSERT OR IGNORE INTO {self._links} VALUES (?, ?)",
            [(place, document.key) for place in document.links],
        )

    def optimize(self) -> None:
        """Leave nothing in the file of words that were taken out of the index.

        It is read and written anew, a part in each transaction, so that other writers do not wait for long.
        """
        merge = f"INSERT INTO {self._words} ({self._words}, rank) VALUES ('merge', ?)"
        pages = -_MERGED  # less than 0: begins to merge all segments into one
        while True:
            with self.connections.writing() as connection:
                before = connection.total_changes
                connection.execute(merge, (pages,))
                if connection.total_changes - before < 2:  # noqa: PLR2004 (as FTS5 tells that nothing is left)
                    return
            pages = _MERGED

    # Reading -----------------------------------------------------------------------------------------------------

    def matches(self, expression: str, most_due: int) -> Matches | None:
        """Return which documents hold what an expression of FTS5 asks for.

        None if more than *most_due* are due, or if so many match that a look at one after the other finds some soon.
        """
        due = f"SELECT key FROM {self._due} WHERE typeof(key) = 'text' LIMIT ?"
        last = f"SELECT COALESCE(MAX(id), 0) FROM {self._documents}"
        found = (
            f"SELECT key FROM {self._documents} WHERE id IN (SELECT rowid FROM {self._words} WHERE {self._words} "
            f"MATCH ? LIMIT ?) UNION ALL SELECT key FROM {self._documents} WHERE count < 0"
        )
        size = f"SELECT COUNT(*) FROM {self._documents}"
        with self.connections.reading() as connection, one_moment(connection):
            changed = [key for (key,) in connection.execute(due, (most_due + 1,)).fetchall()]
            if len(changed) > most_due:
                return None
            keys = [key for (key,) in connection.execute(found, (expression, _MANY)).fetchall()]
            if len(keys) >= _MANY:
                most = connection.execute(size).fetchone()[0] // _PART
                keys = [key for (key,) in connection.execute(found, (expression, most)).fetchall()]
                if len(keys) >= most:
                    return None
            return Matches(keys, changed, connection.execute(last).fetchone()[0])

    def known(self, keys: Sequence[str]) -> dict[str, tuple[int, str, int]]:
        """Return the number, the stamp and the count of items of the documents that are indexed."""
        found: dict[str, tuple[int, str, int]] = {}
        with self.connections.reading() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                query = f"SELECT key, id, stamp, count FROM {self._documents} WHERE key IN ({_marks(some)})"
                found |= {key: (number, stamp, count) for key, number, stamp, count in connection.execute(query, some)}
        return found

    def linked(self, places: Sequence[str]) -> list[str]:
        """Return the keys of the documents that have a link to one of these places."""
        found: list[str] = []
        with self.connections.reading() as connection:
            if connection.execute(f"SELECT 1 FROM {self._links} LIMIT 1").fetchone() is None:
                return found
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                query = f"SELECT key FROM {self._links} WHERE place IN ({_marks(some)})"
                found += [key for (key,) in connection.execute(query, some)]
        return found

    def keys(self, prefix: str) -> Iterator[list[str]]:
        """Iterate over the keys of indexed documents that begin with *prefix*, in order, in batches."""
        query = f"SELECT key FROM {self._documents} WHERE key > ? AND key < ? ORDER BY key LIMIT {BATCH}"
        after = prefix
        while True:
            with self.connections.reading() as connection:
                found = [key for (key,) in connection.execute(query, (after, prefix + LAST)).fetchall()]
            if not found:
                return
            yield found
            after = found[-1]

    def size(self) -> int:
        """Return how many documents are indexed."""
        with self.connections.reading() as connection:
            found: int = connection.execute(f"SELECT COUNT(*) FROM {self._documents}").fetchone()[0]
            return found


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
