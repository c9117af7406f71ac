"""`SQLiteMapping`: text under keys, in a table of an SQLite file."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from typing_extensions import Self

from pyai_sessions.concurrency.processes import OfOneProcess
from pyai_sessions.errors import InvalidValueError, StorageReadOnlyError
from pyai_sessions.storage.sqlite.connections import Connections
from pyai_sessions.storage.sqlite.files import check_is_there, full_path, make_private
from pyai_sessions.storage.sqlite.tables import Table, quoted
from pyai_sessions.values.checks import AnyPath, check_timeout, kind_of, shown

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


class SQLiteMapping(OfOneProcess, MutableMapping[str, str]):
    """Text under keys, in a table of an SQLite file.

    Each operation is a transaction in the calling thread: if it fails, it raises. A SqliteDict opens the same file and
    table with ``encode=str, decode=str, journal_mode="WAL"``.

    Args:
        path: The file, or ``":memory:"``; ``~`` is the home folder. The file and its folders are made if absent, for
            this user alone (0600, 0700).
        table_name: The table.
        synchronous: ``"FULL"``: what was saved survives a power cut. ``"NORMAL"``: it survives a killed process;
            faster.
        timeout: Seconds to wait for other writers.
        read_only: Whether to open an existing file for reading only. The disk may be read-only, too.

    >>> mapping = SQLiteMapping(":memory:")
    >>> mapping["greeting"] = "hello"
    >>> mapping["greeting"]
    'hello'

    """

    def __init__(
        self,
        path: AnyPath,
        table_name: str = "sessions",
        *,
        synchronous: str = "FULL",
        timeout: float = 10.0,
        read_only: bool = False,
    ) -> None:
        if not isinstance(path, str) or path != ":memory:":
            path = full_path(path, "path", "'chat.db', '~/chat.db', or ':memory:'")
        table = Table(table_name)
        if synchronous not in SYNCHRONOUS:
            raise InvalidValueError("synchronous", f"is {shown(synchronous)}; it is one of {', '.join(SYNCHRONOUS)}")
        check_timeout(timeout)
        if not isinstance(read_only, bool):
            raise InvalidValueError("read_only", f"is {shown(read_only)}; it is True or False")
        in_file = path != ":memory:"
        if read_only and not in_file:
            raise InvalidValueError("read_only", "is given of ':memory:', which holds nothing to read")
        if read_only:
            check_is_there(path)
        elif in_file:
            make_private(path)
        self.path = path
        self.table = table
        self.connections = Connections(
            path, timeout=timeout, synchronous=synchronous, wal=in_file and not read_only, read_only=read_only
        )
        try:
            self._make_table()
        except BaseException:
            self.connections.close()
            raise

    def _make_table(self) -> None:
        query = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)"
        if self._rows(query, self.table.name):
            return  # without a transaction, which would wait for other writers
        if self.connections.read_only:
            problem = f"it has no table {self.table.name!r}, and was opened for reading alone"
            raise StorageReadOnlyError(self.path, problem, "check the name, or open it for writing")
        self._write(f"CREATE TABLE IF NOT EXISTS {self._quoted} (key TEXT PRIMARY KEY, value BLOB)")

    def __getitem__(self, key: str) -> str:
        rows = self._rows(f"SELECT value FROM {self._quoted} WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        value: str = rows[0][0]
        return value

    def __setitem__(self, key: str, value: str) -> None:
        for name, given in (("key", key), ("value", value)):
            if not isinstance(given, str):
                raise InvalidValueError(name, f"is {kind_of(given)}; this mapping holds text")
        self._write(self.table.replace, key, value)

    def __delitem__(self, key: str) -> None:
        if not self._write(self.table.delete, key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self._rows(f"SELECT key FROM {self._quoted}")])

    def __len__(self) -> int:
        count: int = self._rows(f"SELECT COUNT(*) FROM {self._quoted}")[0][0]
        return count

    def clear(self) -> None:
        """Remove all items, in one transaction."""
        self._write(f"DELETE FROM {self._quoted}")

    def close(self) -> None:
        """Close the file. Calls after this raise StorageClosedError."""
        self.connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SQLiteMapping of the table {self.table.name!r} in {self.path}>"

    @property
    def _quoted(self) -> str:
        return quoted(self.table.name)

    def _rows(self, query: str, *parameters: str) -> list[Any]:
        with self.connections.reading() as connection:
            return connection.execute(query, parameters).fetchall()

    def _write(self, statement: str, *parameters: str) -> int:
        """Run a statement in a transaction; return how many rows it changed."""
        with self.connections.writing() as connection:
            return connection.execute(statement, parameters).rowcount
