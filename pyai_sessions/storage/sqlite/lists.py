"""`ListTable`: ordered lists in a table of an SQLite file, and how many members each has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from pyai_sessions.errors import StorageCorruptError
from pyai_sessions.storage.protocol import Listed, Listing, Position
from pyai_sessions.storage.sqlite.tables import BATCH, LAST, Reading, batches, quoted, run

NOWHERE = -(2**62)
"""Returned for a score that is not a number. No score is as low, so `verify` finds it wrong."""

_FIT = "typeof(score) = 'integer' AND typeof(member) = 'text'"
"""The condition for rows that can be ours; scans skip others."""


class ListTable:
    """Lists in one table: a row for each member of each list, an index in the order of the lists, and their counts.

    The rows lie in the order of members, so a member that moves in several lists changes one page of the file. Triggers
    keep the counts, whoever writes. A member moves by an UPDATE of one row. Measured: an upsert takes twice as long,
    since SQLite prepares the triggers; an UPDATE of two rows takes a quarter longer than two of one row; an UPDATE from
    VALUES for 21 members takes more than twice as long as 21 updates.

    Args:
        path: The file, for errors.
        name: The table's name.
        reading: Lends a connection to the file, in which it makes the table first.

    """

    def __init__(self, path: str, name: str, reading: Reading) -> None:
        self._path = path
        self._reading = reading
        self.names = (name, f"{name}/counts")
        self._others = [f"{name}/{part}" for part in ("order", "added", "removed", "moved")]
        table, counts = map(quoted, self.names)
        self._table, self._counts = table, counts
        self._move = f"UPDATE {table} SET score = ? WHERE member = ? AND list = ?"
        row = f"INTO {table} (score, member, list) VALUES (?, ?, ?)"
        self._add = f"INSERT OR IGNORE {row}"
        self._put = f"INSERT {row} ON CONFLICT (member, list) DO UPDATE SET score = excluded.score"
        self._drop = f"DELETE FROM {table} WHERE member = ? AND list = ?"
        self._one = f"SELECT list, member, score FROM {table} WHERE member = ? AND list = ?"
        self._count = f"SELECT n FROM {counts} WHERE list = ?"
        order = f"ORDER BY list, score, member LIMIT {BATCH}"
        rows = f"SELECT list, score, member FROM {table} WHERE"
        self._in_order = (
            f"{rows} list >= ? AND list < ? {order}",
            f"{rows} (list, score, member) > (?, ?, ?) AND list < ? {order}",
        )

    # Writing, in the caller's transaction ------------------------------------------------------------------------

    def apply(self, connection: sqlite3.Connection, changes: Sequence[Listing]) -> None:
        """Change lists, each member of a list once."""
        moved: list[tuple[object, ...]] = []
        added: list[tuple[object, ...]] = []
        gone: list[tuple[object, ...]] = []
        for name, member, old, new in changes:
            if new is None:
                gone.append((member, name))
            else:
                (added if old is None else moved).append((new, member, name))
        for statement, rows in ((self._move, moved), (self._add, added)):
            # The writer may be wrong about which members are listed.
            if rows and run(connection, statement, rows) < len(rows):
                run(connection, self._put, rows)
        run(connection, self._drop, gone)

    def put(self, connection: sqlite3.Connection, listed: Iterable[Listed]) -> None:
        """List members."""
        run(connection, self._put, [(score, member, name) for name, member, score in listed])

    # Reading -----------------------------------------------------------------------------------------------------

    def scan(self, name: str, after: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next positions of a list, as `Storage.scan` does."""
        where = "list = ?"
        parameters: tuple[object, ...] = (name,)
        if after is not None:
            where += f" AND (score, member) {'<' if newest_first else '>'} (?, ?)"
            parameters += after
        order = "DESC" if newest_first else "ASC"
        where += f" AND {_FIT} ORDER BY score {order}, member {order} LIMIT ?"
        with self._reading() as connection:
            query = f"SELECT score, member FROM {self._table} WHERE {where}"
            return connection.execute(query, (*parameters, limit)).fetchall()

    def count(self, name: str) -> int:
        """Return how many members a list has."""
        with self._reading() as connection:
            row = connection.execute(self._count, (name,)).fetchone()
        found: object = row[0] if row else 0
        if not isinstance(found, int):
            raise StorageCorruptError(self._path, f"{self._counts} does not hold numbers")
        return found

    def listings(self, of: Sequence[tuple[str, str]] | None, prefix: str) -> Iterator[Listed]:
        """Iterate over entries of lists, as `Storage.listings` does."""
        return self._listings_below(prefix) if of is None else self._listings_of(of)

    def _listings_of(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Listed]:
        for start in range(0, len(pairs), BATCH):
            with self._reading() as connection:
                found = [
                    row
                    for name, member in pairs[start : start + BATCH]
                    for row in connection.execute(self._one, (member, name)).fetchall()
                ]
            yield from _fitting(found)

    def _listings_below(self, prefix: str) -> Iterator[Listed]:
        for rows in batches(self._reading, self._path, self._in_order, (prefix,), prefix + LAST):
            yield from _fitting([(name, member, score) for name, score, member in rows])

    # Making ------------------------------------------------------------------------------------------------------

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table exists, with its index, counts and triggers."""
        names = [*self.names, *self._others]
        query = f"SELECT COUNT(*) FROM sqlite_master WHERE name IN ({', '.join('?' * len(names))})"
        found: int = connection.execute(query, names).fetchone()[0]
        return found == len(names)

    def make(self, connection: sqlite3.Connection) -> bool:
        """Make the table, or what it lacks; return whether there was no table."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        made = connection.execute(query, self.names[:1]).fetchone()
        order, *triggers = map(quoted, self._others)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (member TEXT NOT NULL, list TEXT NOT NULL, "
            "score INTEGER NOT NULL, PRIMARY KEY (member, list)) WITHOUT ROWID"
        )
        connection.execute(f"CREATE INDEX IF NOT EXISTS {order} ON {self._table} (list, score, member)")
        connection.execute(f"DROP TABLE IF EXISTS {self._counts}")
        connection.execute(f"CREATE TABLE {self._counts} (list TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        connection.execute(f"INSERT INTO {self._counts} SELECT list, COUNT(*) FROM {self._table} GROUP BY list")
        more = f"INSERT INTO {self._counts} VALUES (NEW.list, 1) ON CONFLICT (list) DO UPDATE SET n = n + 1"
        # An empty list leaves no name behind: it may contain the id of a user who was erased.
        fewer = (
            f"UPDATE {self._counts} SET n = n - 1 WHERE list = OLD.list; "
            f"DELETE FROM {self._counts} WHERE list = OLD.list AND n <= 0"
        )
        for name, event, action in zip(
            triggers, ("INSERT", "DELETE", "UPDATE OF list"), (more, fewer, f"{more}; {fewer}"), strict=True
        ):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            connection.execute(f"CREATE TRIGGER {name} AFTER {event} ON {self._table} BEGIN {action}; END")
        return not made


def _fitting(rows: Iterable[tuple[object, object, object]]) -> Iterator[Listed]:
    """Return the rows whose list and member are text; a score that is not a number becomes `NOWHERE`."""
    for name, member, score in rows:
        if isinstance(name, str) and isinstance(member, str):
            yield name, member, score if isinstance(score, int) else NOWHERE
