"""An SQLite file as a storage: documents in one table, lists in another, a transaction for each write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import chain

from pyai_sessions.errors import (
    StorageClosedError,
    StorageError,
    StorageReadOnlyError,
)
from pyai_sessions.storage.grouping import Group
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.protocol import Change, Derive, Listed, Position, Storage
from pyai_sessions.storage.sqlite.connections import Connection, Connections, one_moment
from pyai_sessions.storage.sqlite.lists import ListTable
from pyai_sessions.storage.sqlite.tables import BATCH, Table, below, check_tables, run
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import AnyPath

_AT_ONCE = 300
"""Keys, and ranges of keys, in one query. Every SQLite allows 999 parameters."""

_SPAN = 8
"""Rows that a disk reads in sequence in the time of one seek."""

_SAMPLE = 64
"""Rows that are looked at to tell what a table mostly holds."""


class SQLiteStorage(Storage):
    """Documents in a table of an SQLite file.

    A change is one transaction; changes of several threads share one. A document that changes keeps its row.

    Args:
        connections: Connections to the file.
        table: The table of the documents.
        derive: Returns the entries of lists that follow from a document, to list what other programs wrote.
        owned: Whether to close the connections with the storage.
        alive: Returns whether the user's own mapping is still open, if closing it does not close the connections.

    """

    padded = 9 * 1024
    """A document of constant size stays where it lies in the file, and SQLite writes only the pages that changed."""

    def __init__(
        self,
        connections: Connections,
        table: Table,
        derive: Derive,
        *,
        owned: bool,
        alive: Callable[[], bool] | None = None,
    ) -> None:
        self._connections = connections
        self._table = table
        self._derive = derive
        self._owned = owned
        self._alive = alive
        self._closed = self._checked = self._ready = False
        # More threads would take the interpreter from an event loop. With FULL they wait for the disk, together.
        self.threads = 4 if connections.synchronous in ("OFF", "NORMAL") else 8
        self._group: Group[Change] = Group(lambda: connections.path, connections.timeout)
        self._lists = ListTable(connections.path, table.lists, self._reading_lists)

    # Documents ---------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> dict[str, object]:  # noqa: D102 (the protocol documents it)
        self._check_open()
        queries = self._queries(keys)
        with self._connections.reading() as connection:
            if len(queries) == 1:
                rows = connection.execute(*queries[0]).fetchall()
            else:
                with one_moment(connection):
                    rows = [row for each in queries for row in connection.execute(*each).fetchall()]
            found = {row[0]: self._table.value(row) for row in rows}
        wanted = set(keys)
        if found.keys() <= wanted:
            return found
        # There are documents below a key; or the schema is damaged, and takes different keys for equal.
        starts = tuple([key for key in keys if key[-1:] == "/"])
        return {key: each for key, each in found.items() if key in wanted or (starts and key.startswith(starts))}

    def _queries(self, keys: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
        """Return the queries, usually one, that read keys and what lies below those that end with a slash."""
        names = [key for key in keys if key[-1:] != "/"]
        if len(names) == len(keys) <= _AT_ONCE:
            return [(f"{self._table.select}key IN ({','.join('?' * len(keys))})", keys)]
        ranges = [below(key) for key in keys if key[-1:] == "/"]
        queries: list[tuple[str, Sequence[str]]] = []
        for start in range(0, max(len(names), len(ranges)), _AT_ONCE):
            some, here = names[start : start + _AT_ONCE], ranges[start : start + _AT_ONCE]
            terms = [f"key IN ({','.join('?' * len(some))})"] * bool(some) + ["key >= ? AND key < ?"] * len(here)
            queries.append((f"{self._table.select}({' OR '.join(terms)})", [*some, *chain.from_iterable(here)]))
        return queries

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102
        if len(changes) == 1 and self._connections.joined() is None:
            return [self._group.put(changes[0], self._apply)]
        return self._apply(changes)

    def _apply(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one transaction. Threads may bring several of one place: these are applied in order."""
        with self._writing() as connection:
            if len(changes) == 1:
                return self._apply_to(connection, changes)
            return [answer for part in _without_repeated_places(changes) for answer in self._apply_to(connection, part)]

    def _apply_to(self, connection: sqlite3.Connection, changes: Sequence[Change]) -> list[bool]:
        """Apply changes of different places: first the documents that they compare, then the others, then the lists."""
        answers: list[bool] = []
        applied: list[Change] = []
        puts: list[tuple[str, object]] = []
        drops: list[str] = []
        gone: list[str] = []  # documents that are compared here and then dropped
        for each in changes:
            if self._write_compared(connection, each):
                key = each.expect[0][0]
                puts += [pair for pair in each.put if pair[0] != key]
                drops += each.drop if each.put else [dropped for dropped in each.drop if dropped != key]
            else:
                answer = each.answer(partial(self._read_one, connection))
                if answer is not None:
                    answers.append(answer)
                    continue
                puts += each.put
                drops += each.drop
                gone += [key for key, _ in each.expect if key in each.drop]
            answers.append(True)
            applied.append(each)
        written = self._table.put(connection, puts) if puts else 0
        if drops:
            run(connection, self._table.delete, [(key,) for key in drops if key[-1:] != "/"])
            run(connection, self._table.delete_below, [below(key) for key in drops if key[-1:] == "/"])
        if written < len(puts) or any(self._read_one(connection, key) is not None for key in gone):
            problem = f"a trigger of the table {self._table.name!r} keeps documents from being written or deleted"
            raise StorageError(self._connections.path, problem, "remove the trigger")
        self._lists.apply(connection, [listing for each in applied for listing in each.lists])
        return answers

    def _write_compared(self, connection: sqlite3.Connection, change: Change) -> bool:
        """Write or drop the one document that a change compares, if it is as expected, in one statement.

        Return whether that was done. If not, `Change.answer` tells why.
        """
        if len(change.expect) != 1:
            return False
        (key, start), done = change.expect[0], change.done
        last, text = change.put[-1] if change.put else (None, b"")
        if (key != last and (last is not None or key not in change.drop)) or type(text) is not bytes:
            return False
        if start is None:
            return last is not None and connection.execute(self._table.insert, (key, text)).rowcount > 0
        if done is not None and (start.startswith(done) or done.startswith(start)):
            return False  # a document that begins as expected may be that of the change itself
        expected = start.encode("utf-8", "surrogatepass")
        if last is None:
            return connection.execute(self._table.delete_compared, (key, expected, len(expected))).rowcount > 0
        return connection.execute(self._table.update, (text, key, expected, len(expected))).rowcount > 0

    def _read_one(self, connection: sqlite3.Connection, key: str) -> object:
        row = connection.execute(self._table.select_one, (key,)).fetchone()
        return None if row is None else self._table.value(row)

    # Keys --------------------------------------------------------------------------------------------------------

    def keys(self, prefix: str = "") -> Iterator[str]:  # noqa: D102
        self._check_open()
        batches = self._table.key_batches(self._connections, prefix)
        for n, batch in enumerate(batches):
            if n == 0 and prefix and len(batch) == BATCH:
                last = self._last_row()
                if last is not None and self._is_dense(last, prefix):
                    yield from self._keys_as_they_lie(last, prefix)
                    return
            yield from (key for key in batch if key.startswith(prefix))

    def _last_row(self) -> int | None:
        """Return the number of the table's last row, if it has any."""
        with self._connections.reading() as connection, suppress(sqlite3.OperationalError):
            last: int | None = connection.execute(self._table.last_row).fetchone()[0]
            return last
        return None  # another program made the table WITHOUT ROWID

    def _is_dense(self, last: int, prefix: str) -> bool:
        """Return whether reading all rows in sequence is faster than seeking each document: a sample of rows tells."""
        with self._connections.reading() as connection:
            starts = [last * n // _SAMPLE for n in range(_SAMPLE)]
            rows = [row for at in starts for row in connection.execute(self._table.rows, (at, last, 1)).fetchall()]
        return sum(isinstance(key, str) and key.startswith(prefix) for _, key in rows) * _SPAN >= _SAMPLE

    def _keys_as_they_lie(self, last: int, prefix: str) -> Iterator[str]:
        """Iterate over keys in the order of their rows, up to the row *last*: a disk reads them without seeking.

        Rows that are added meanwhile are left out. Neither a change nor a VACUUM moves a row.
        """
        first, walk = -(2**63), Walk(self._connections.path)
        while first <= last:
            with self._connections.reading() as connection:
                rows = connection.execute(self._table.rows, (first, last, BATCH)).fetchall()
            yield from (key for _, key in rows if isinstance(key, str) and key.startswith(prefix))
            first = rows[-1][0] + 1 if rows else last + 1
            walk.reach(first)

    # Lists -------------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, name: str, after: Position | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[Position]:
        return self._lists.scan(name, after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:  # noqa: D102
        return self._lists.count(name)

    def listings(  # noqa: D102
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[Listed]:
        return self._lists.listings(of, prefix)

    # The file and its tables -------------------------------------------------------------------------------------

    def backup(self, path: AnyPath, *, overwrite: bool = False) -> None:
        """Copy all that the storage holds to *path*, as it is at one moment, while others write."""
        self._check_open()
        self._table.backup(self._connections, path, overwrite=overwrite)

    def beside(self) -> tuple[Connections, Table]:
        """Return the connections to the file, and the table, for what else is derived from it there."""
        self._check_open()
        return self._connections, self._table

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102
        return self._writing()

    def mend(self) -> None:  # noqa: D102
        self._connections.mend()

    def close(self) -> None:  # noqa: D102
        self._closed = True
        if self._owned:
            self._connections.close()

    def _check_open(self) -> None:
        if self._closed or (self._alive is not None and not self._alive()):
            raise StorageClosedError(self._connections.path, "the store or its mapping was closed")
        if not self._checked:
            with self._connections.reading() as connection:
                check_tables(connection, self._connections.path, [self._table.name, *self._lists.names])
            self._checked = True

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        self._check_open()
        if self._connections.read_only:
            raise StorageReadOnlyError(self._connections.path, "it was opened for reading alone", "open it for writing")
        if not self._ready:
            self._make_lists()
        return self._connections.writing()

    def _reading_lists(self) -> AbstractContextManager[sqlite3.Connection]:
        self._check_open()
        if not self._ready:
            self._make_lists()
        return self._connections.reading()

    def _make_lists(self) -> None:
        with self._connections.reading() as connection:  # a transaction would wait for other writers
            made = self._lists.is_made(connection)
        if not made:
            if self._connections.read_only:
                problem = "its lists were never made, and it was opened for reading alone"
                raise StorageReadOnlyError(
                    self._connections.path, problem, "open it once for writing, and ask for a list"
                )
            with self._connections.writing() as connection:
                if self._lists.make(connection):
                    self._list_documents(connection)
        self._ready = self._connections.joined() is None  # a transaction around this call may be undone

    def _list_documents(self, connection: Connection) -> None:
        """List the documents that other programs wrote before the lists were made."""
        for batch in self._table.key_batches(self._connections, ""):  # in the transaction of this call
            for key in batch:
                self._lists.put(connection, self._derive(key, partial(self._read_one, connection, key)))
            self._connections.extend(connection)


def _without_repeated_places(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """Split changes, in their order, into parts in which no two changes have the same place."""
    part: dict[str, Change] = {}
    for each in changes:
        place = place_of([*(key for key, _ in (*each.expect, *each.put)), *each.drop][0])
        if place in part:
            yield list(part.values())
            part = {}
        part[place] = each
    yield list(part.values())
