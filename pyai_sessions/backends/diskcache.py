"""diskcache: sessions in its table."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from pyai_sessions.backends.protocol import Backend
from pyai_sessions.backends.tables import Table, TableBackend
from pyai_sessions.storage.diskcache import connections_of, value_of


class CacheTable(Table):
    """diskcache's table ``Cache``: text keys are ``raw`` ones, text values have mode 1, or 3 in a file."""

    def __init__(self, directory: str) -> None:
        super().__init__("Cache")
        self._directory = directory
        value = "CAST(value AS BLOB), mode, filename"
        compared = "? = substr(CAST(value AS TEXT), 1, ?)"
        self.index = '"pyai_sessions/index"'
        self.exists = "SELECT 1 FROM Cache WHERE key >= 'session/' AND key < 'session0' AND raw = 1 LIMIT 1"
        between = "key > ? AND key < ? AND raw = 1 AND typeof(key) = 'text'"
        self.keys = f"SELECT key FROM Cache WHERE {between} ORDER BY key LIMIT 500"
        self.there = "SELECT key FROM Cache WHERE raw = 1 AND key IN "
        self.select = f"SELECT {value} FROM Cache WHERE key = ? AND raw = 1"
        self.select_many = f"SELECT key, {value} FROM Cache WHERE raw = 1 AND key IN "
        self.select_whole = f"SELECT key, {value} FROM Cache WHERE raw = 1 AND (key = ? OR (key >= ? AND key < ?))"
        self.begins = f"SELECT {compared} FROM Cache WHERE key = ? AND raw = 1"
        columns = "(key, value, raw, store_time, access_time, access_count, size, mode)"
        now = "CAST(strftime('%s', 'now') AS REAL)"
        self.insert = f"INSERT OR IGNORE INTO Cache {columns} VALUES (?, CAST(? AS TEXT), 1, {now}, {now}, 0, 0, 1)"
        inline = "mode = 1, size = 0, filename = NULL"
        changes = f"value = CAST(? AS TEXT), {inline}, store_time = {now}"
        self.update = f"UPDATE Cache SET {changes} WHERE key = ? AND raw = 1 AND {compared}"
        # Not REPLACE: it would skip the triggers by which diskcache counts its rows.
        self.put = (
            self.insert.replace("OR IGNORE ", "")
            + f" ON CONFLICT (key, raw) DO UPDATE SET value = excluded.value, {inline}"
        )
        self.rename = "UPDATE Cache SET key = ? WHERE key = ? AND raw = 1"
        self.delete = "DELETE FROM Cache WHERE key = ? AND raw = 1"
        self.delete_head = f"DELETE FROM Cache WHERE key = ? AND raw = 1 AND {compared}"
        self.delete_range = "DELETE FROM Cache WHERE key >= ? AND key < ? AND raw = 1"

    copied_by = "copy the directory, also while it is used, by: sqlite3 DIRECTORY/cache.db '.backup NEW/cache.db'"

    def value(self, row: Sequence[Any]) -> object:
        """Return the text of a row, from the file where diskcache put it; a pickle stays closed."""
        return value_of(self._directory, row)

    def bring_in(self, connection: sqlite3.Connection, key: str) -> bool:
        """Put the text of a file, which another tool made of a large value, into the table; return whether it did."""
        row = connection.execute(self.select, (key,)).fetchone()
        text = self.value(row) if row and row[2] is not None else None
        if not isinstance(text, bytes):
            return False
        query = (
            "UPDATE Cache SET value = CAST(? AS TEXT), mode = 1, size = 0, filename = NULL WHERE key = ? AND raw = 1"
        )
        connection.execute(query, (text, key))
        return True


def backend_of(mapping: Any, timeout: float, under: str = "") -> Backend:
    """Return the backend of a diskcache Index or Cache, or of the community fork's; refuse what may lose items."""
    connections, directory = connections_of(mapping, timeout)
    return TableBackend(connections, CacheTable(directory), owned=True, alive=lambda: True, under=under)
