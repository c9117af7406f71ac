"""`Table`: the SQL that reads, compares, writes and finds documents in a table; and what other tables need, too."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pyai_sessions.errors import InvalidValueError, StorageCorruptError
from pyai_sessions.storage.sqlite.backup import copy_file
from pyai_sessions.storage.sqlite.connections import Connections
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import AnyPath, is_utf8, shown

BATCH = 500
"""Rows that one query returns, at most."""

LAST = chr(0x10FFFF)
"""Sorts after all characters of a key."""

_LISTS, _SEARCH = "/lists", "/search"
"""What follows the name of a table in the names of all that is derived from it, and lies beside it."""

_LONGEST_NAME = 1000
"""Characters that the name of a table may have."""

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
"""Lends a connection for reading."""


class Null:
    """Stands for NULL in the place of a document: it is not absent, but cannot be read as a document."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 0


class Table:
    """The SQL of a table that has a key and a document in each row. The defaults are those of SqliteDict's tables.

    Documents are written as text, so that other tools can read them. They are read as bytes, so that an error can quote
    what is not UTF-8, and compared as bytes, since SQLite's text functions end at a NUL.

    Args:
        name: The table's name.
        unique: The columns that identify a row.
        fit: The condition for rows that can be ours, followed by AND.
        more: Columns to select after ``value``, with a comma before each. `value` is given them, too.
        insert: Columns of a new row beside ``key`` and ``value``, and the SQL of their values, likewise.
        inline: What else to set when a row gets a new document, likewise.

    """

    def __init__(
        self,
        name: str,
        *,
        unique: str = "key",
        fit: str = "",
        more: str = "",
        insert: tuple[str, str] = ("", ""),
        inline: str = "",
    ) -> None:
        check_name(name, "table_name")
        self.name = name
        self.lists = name + _LISTS
        self.search = name + _SEARCH
        table, value = quoted(name), f"CAST(value AS BLOB){more}"
        columns, values = insert
        row = f"INTO {table} (key, value{columns}) VALUES (?, CAST(? AS TEXT){values})"
        start, end = f"SELECT key FROM {table} WHERE {fit}key", f"? AND key < ? ORDER BY key LIMIT {BATCH}"
        self._in_order = f"{start} >= {end}", f"{start} > {end}"
        self.last_row = f"SELECT MAX(rowid) FROM {table}"
        self.rows = f"SELECT rowid, key FROM {table} WHERE {fit}rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
        self.select = f"SELECT key, {value} FROM {table} WHERE {fit}"
        self.select_one = f"{self.select}key = ?"
        self.insert = f"INSERT OR IGNORE {row}"
        compared = "? = substr(CAST(value AS BLOB), 1, ?)"
        self.update = f"UPDATE {table} SET value = CAST(? AS TEXT){inline} WHERE {fit}key = ? AND {compared}"
        # Not REPLACE: it moves the row, and does not run the triggers that count rows.
        self.replace = f"INSERT {row} ON CONFLICT ({unique}) DO UPDATE SET value = excluded.value{inline}"
        self.delete = f"DELETE FROM {table} WHERE {fit}key = ?"
        self.delete_compared = f"{self.delete} AND {compared}"
        self.delete_below = f"DELETE FROM {table} WHERE {fit}key >= ? AND key < ?"

    def key_batches(self, connections: Connections, prefix: str) -> Iterator[list[str]]:
        """Iterate over the keys that begin with *prefix*, in order, as `batches` does."""
        for rows in batches(connections.reading, connections.path, self._in_order, (prefix,), prefix + LAST):
            yield [key for (key,) in rows if isinstance(key, str)]

    def value(self, row: Sequence[Any]) -> object:
        """Return the document of a selected row, whose columns are the key, the value and *more*."""
        value: object = row[1]
        return Null() if value is None else value

    def put(self, connection: sqlite3.Connection, documents: Sequence[tuple[str, object]]) -> int:
        """Write documents, over what lies under their keys; return how many rows were written."""
        rows = [(key, None if isinstance(each, Null) else each) for key, each in documents]
        return run(connection, self.replace, rows)

    def backup(self, connections: Connections, path: AnyPath, *, overwrite: bool) -> None:
        """Copy the file that the table lies in, and with it all that belongs to the table."""
        copy_file(connections, path, overwrite=overwrite)


def batches(
    reading: Reading, path: str, queries: tuple[str, str], start: tuple[object, ...], end: object
) -> Iterator[list[tuple[Any, ...]]]:
    """Iterate over the rows of an ordered query, batch by batch. No transaction stays open between two batches.

    The first of the two queries begins at *start*, the second after a row; *end* is the last parameter of both.
    """
    (query, following), walk, place = queries, Walk(path), start
    while True:
        with reading() as connection:
            rows = connection.execute(query, (*place, end)).fetchall()
        if not rows:
            return
        yield rows
        query, place = following, rows[-1]
        walk.reach(place)


def below(prefix: str) -> tuple[str, str]:
    """Return the bounds of the keys that begin with *prefix*, which ends with a slash; the second is none of them."""
    return prefix, prefix[:-1] + "0"  # "0" follows "/"


def check_name(name: object, argument: str) -> None:
    """Raise unless a table or a view can have this name, which no store derives from that of its table."""
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= _LONGEST_NAME
        or "\0" in name
        or name.lower().startswith("sqlite_")
        or not is_utf8(name)
    ):
        problem = f"is {shown(name)}; it is text in UTF-8 that does not begin with 'sqlite_'"
        raise InvalidValueError(argument, problem)
    for part in (_LISTS, _SEARCH):
        if part in name.lower():
            what = f"a store keeps its lists and its search index under names with {part!r}"
            raise InvalidValueError(argument, f"is {shown(name)}; {what}; choose another name")


def check_tables(connection: sqlite3.Connection, path: str, names: Sequence[str]) -> None:
    """Raise unless these are plain tables: views and computed columns may return any number of rows and bytes."""
    marks = ", ".join(["lower(?)"] * len(names))
    query = (
        "SELECT name, type, type = 'table' AND rootpage > 0 FROM sqlite_master "
        f"WHERE type IN ('table', 'view') AND lower(name) IN ({marks})"
    )
    computed = "SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden > 0"
    for name, kind, is_table in connection.execute(query, names).fetchall():
        if name not in names:  # the names differ in case only: two stores would share one table
            problem = f"is {names[0]!r}, but the file has a {kind} {name!r}, which SQLite takes for the same"
            raise InvalidValueError("table_name", f"{problem}; use that name, or another one")
        if kind == "view" and name == names[0]:  # one of the messages of another store, perhaps
            problem = f"is {name!r}, and the file has a view of that name, which holds nothing; give another one"
            raise InvalidValueError("table_name", problem)
        if not is_table or connection.execute(computed, (name,)).fetchone():
            raise StorageCorruptError(path, f"{quoted(name)} is computed, and no plain table")


def run(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Run a statement for each row; return how many rows of its table it changed."""
    if not rows:
        return 0
    return (connection.executemany(statement, rows) if rows[1:] else connection.execute(statement, rows[0])).rowcount


def quoted(name: str) -> str:
    """Return the name of a table as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'
