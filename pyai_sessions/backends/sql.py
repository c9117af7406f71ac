"""Statements for many rows, and names in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

BATCH = 500
"""Values in one statement; SQLite allows 999 parameters at the least."""

LAST = chr(0x10FFFF)
"""Comes after all keys."""


def run(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Run a statement for each row; return how many rows of its table it changed."""
    if not rows:
        return 0
    return (connection.executemany(statement, rows) if rows[1:] else connection.execute(statement, rows[0])).rowcount


def select_in(connection: sqlite3.Connection, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the rows of a query, which ends with IN, for these values."""
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        rows += connection.execute(f"{query}({','.join('?' * len(batch))})", batch).fetchall()
    return rows


def quoted(name: str) -> str:
    """Return the name of a table as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(name: str) -> str:
    """Return the name that was quoted."""
    return name[1:-1].replace('""', '"')
