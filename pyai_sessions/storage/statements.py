"""Statements for many rows, and names in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

BATCH = 500
"""Rows that one query returns."""

LAST = chr(0x10FFFF)
"""Comes after all keys."""


def run(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Run a statement for each row; return how many rows of its table it changed."""
    if not rows:
        return 0
    return (connection.executemany(statement, rows) if rows[1:] else connection.execute(statement, rows[0])).rowcount


def quoted(name: str) -> str:
    """Return the name of a table as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'
