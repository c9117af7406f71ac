"""SQLite: sessions in SqliteDict's table."""

from __future__ import annotations

from sqlitedict import SqliteDict

from pyai_sessions.backends.protocol import Backend
from pyai_sessions.backends.tables import Table, TableBackend
from pyai_sessions.storage.sqlite import connections_of, table_of


def backend_of(mapping: SqliteDict, timeout: float, under: str = "") -> Backend:
    """Return the backend of a SqliteDict."""
    connections, owned = connections_of(mapping, timeout)
    table = Table(table_of(mapping))
    return TableBackend(connections, table, owned=owned, alive=lambda: mapping.conn is not None, under=under)
