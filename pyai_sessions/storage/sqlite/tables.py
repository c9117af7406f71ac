"""The SQL of a table of documents: how they are read, compared, written and found, whatever its columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pyai_sessions.errors import InvalidValueError, StorageCorruptError
from pyai_sessions.storage.sqlite.backup import copy_file
from pyai_sessions.storage.sqlite.connections import Connections
from pyai_sessions.values.checks import AnyPath

BATCH = 500
"""Rows that one query returns."""

LAST = chr(0x10FFFF)
"""Comes after all keys."""


class Null:
    """Stands for NULL where a document should be. It is not absent, but to read it as a document fails."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return 0


class Table:
    """The SQL by which a key and its document lie in a table: SqliteDict's columns are ``key`` and ``value``.

    Documents are written as text, for other tools. They are read as bytes, so that the reader can name what is not
    UTF-8, and compared as bytes, since SQLite's text functions end at a NUL.

    Args:
        name: The table's name.
        unique: The columns that identify a row.
        fit: The condition for rows that can be ours, followed by AND.
        more: Columns to select after the value, from which `value` finds a document that lies elsewhere.
        insert: Columns of a new row beside ``key`` and ``value``, and the SQL of their values.
        inline: What else to set when a row gets a new document.

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
        self.name = name
        self.lists = f"{name}/lists"
        table, value = quoted(name), f"CAST(value AS BLOB){more}"
        columns, values = insert
        row = f"INTO {table} (key, value{columns}) VALUES (?, CAST(? AS TEXT){values})"
        self.first_keys, self.next_keys = [
            f"SELECT key FROM {table} WHERE {fit}key {start} ? AND key < ? ORDER BY key LIMIT {BATCH}"
            for start in (">=", ">")
        ]
        self.last_row = f"SELECT MAX(rowid) FROM {table}"
        self.rows = f"SELECT rowid, key FROM {table} WHERE {fit}rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
        self.select = f"SELECT key, {value} FROM {table} WHERE {fit}"
        self.select_one = f"{self.select}key = ?"
        self.insert = f"INSERT OR IGNORE {row}"
        compared = "? = substr(CAST(value AS BLOB), 1, ?)"
        self.update = f"UPDATE {table} SET value = CAST(? AS TEXT){inline} WHERE {fit}key = ? AND {compared}"
        # Not REPLACE, which moves the row and does not run the triggers that count rows.
        self.replace = f"INSERT {row} ON CONFLICT ({unique}) DO UPDATE SET value = excluded.value{inline}"
        self.delete = f"DELETE FROM {table} WHERE {fit}key = ?"
        self.delete_compared = f"{self.delete} AND {compared}"
        self.delete_below = f"DELETE FROM {table} WHERE {fit}key >= ? AND key < ?"

    def value(self, row: Sequence[Any]) -> object:
        """Return the document of a selected row: its key comes first."""
        value: object = row[1]
        return Null() if value is None else value

    def put(self, connection: sqlite3.Connection, documents: Sequence[tuple[str, object]]) -> int:
        """Write documents, over what lies under their keys; return how many rows were written."""
        rows = [(key, None if isinstance(each, Null) else each) for key, each in documents]
        return run(connection, self.replace, rows)

    def backup(self, connections: Connections, path: AnyPath, *, overwrite: bool) -> None:
        """Copy the file that the table lies in, and with it all that belongs to the table."""
        copy_file(connections, path, overwrite=overwrite)


def below(prefix: str) -> tuple[str, str]:
    """Return the first key that begins with *prefix*, which ends with a slash, and the first key after all these."""
    return prefix, prefix[:-1] + "0"  # "0" follows "/"


def check_tables(connection: sqlite3.Connection, path: str, names: Sequence[str]) -> None:
    """Raise unless these are plain tables: views and computed columns can return rows and bytes without end."""
    marks = ", ".join(["lower(?)"] * len(names))
    query = (
        "SELECT name, type = 'table' AND rootpage > 0 FROM sqlite_master "
        f"WHERE type IN ('table', 'view') AND lower(name) IN ({marks})"
    )
    computed = "SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden > 0"
    for name, is_table in connection.execute(query, names).fetchall():
        if name not in names:  # to SQLite they are one: two stores would have the same documents
            problem = f"is {names[0]!r}, but the file has a table {name!r}, which SQLite takes for the same"
            raise InvalidValueError("table_name", f"{problem}; use that name, or another one")
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


@contextmanager
def one_moment(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Let several queries read the file as it is at one moment."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
