"""Sessions in a table of an SQLite file, whatever its columns, with an index table beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import compress
from typing import Any

from pyai_sessions.backends.connections import Connections
from pyai_sessions.backends.copies import copy_file
from pyai_sessions.backends.grouping import Group
from pyai_sessions.backends.index_table import IndexTable, row_of
from pyai_sessions.backends.protocol import Backend, Found, Position, Wanted
from pyai_sessions.backends.sql import BATCH, LAST, quoted, run, select_in, unquoted
from pyai_sessions.checks import AnyPath
from pyai_sessions.drafts import Draft
from pyai_sessions.envelopes import read_entry
from pyai_sessions.errors import (
    InvalidDocumentError,
    StorageClosedError,
    StorageReadOnlyError,
)
from pyai_sessions.heads import Entry, Run, SessionStatus
from pyai_sessions.keys import (
    NAMESPACES,
    aside_key,
    aside_prefix,
    head_key,
    page_prefix,
    reference_prefix,
    session_beside,
    session_of_key,
    split_namespace,
)
from pyai_sessions.storage.tables import Null, check_tables
from pyai_sessions.storage.walks import Walk

_LONG_HEAD = 9 * 1024
"""Heads of sessions with pages are filled up with spaces to this many bytes, a full tail's length or so.

SQLite then writes them in place, and of their pages only those that changed: a fifth of what a save costs (measured).
"""


_SPAN = 8
"""Rows, most of them pages of messages, that a disk reads one after another in the time of a seek, or sooner."""


_SAMPLE = 64
"""Rows that are looked at to tell what a table mostly holds."""


class Table:
    """The SQL by which a key and its text lie in a table: SqliteDict's columns are ``key`` and ``value``.

    `select` yields the value and, where a value can lie outside the table, what `Table.value` needs to fetch it.
    """

    def __init__(self, name: str) -> None:
        self.name = table = quoted(name)
        # As bytes: what is not UTF-8 is for `documents` to name, and what is goes to the JSON reader as it is.
        value = "CAST(value AS BLOB)"
        self.index = quoted(f"{name}/index")
        self.keys = f"SELECT key FROM {table} WHERE key > ? AND key < ? ORDER BY key LIMIT {BATCH}"
        self.there = f"SELECT key FROM {table} WHERE key IN "
        self.last_row = f"SELECT MAX(rowid) FROM {table}"
        self.rows = f"SELECT rowid, key FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT ?"
        self.select = f"SELECT {value} FROM {table} WHERE key = ?"
        self.select_many = f"SELECT key, {value} FROM {table} WHERE key IN "
        self.select_whole = f"SELECT key, {value} FROM {table} WHERE key = ? OR (key >= ? AND key < ?)"
        compared = "? = substr(CAST(value AS TEXT), 1, ?)"
        self.begins = f"SELECT {compared} FROM {table} WHERE key = ?"
        self.insert = f"INSERT OR IGNORE INTO {table} (key, value) VALUES (?, CAST(? AS TEXT))"
        self.update = f"UPDATE {table} SET value = CAST(? AS TEXT) WHERE key = ? AND {compared}"
        self.put = f"REPLACE INTO {table} (key, value) VALUES (?, CAST(? AS TEXT))"
        self.rename = f"UPDATE {table} SET key = ? WHERE key = ?"
        self.delete = f"DELETE FROM {table} WHERE key = ?"
        self.delete_head = f"DELETE FROM {table} WHERE key = ? AND {compared}"
        self.delete_range = f"DELETE FROM {table} WHERE key >= ? AND key < ?"

    copied_by = ""
    """How it is backed up, where its file alone is not all of it."""

    def value(self, row: Sequence[Any]) -> object:
        """Return the text of a selected row."""
        value: object = row[0]
        return Null() if value is None else value

    def bring_in(self, connection: sqlite3.Connection, key: str) -> bool:  # noqa: ARG002
        """Bring a value that lies outside the table into it, to be compared; return whether there was one."""
        return False


class TableBackend(Backend):
    """Sessions in a table of an SQLite file, with an index table beside it.

    *alive* tells whether the caller's own mapping is still open. *under* is what keys begin with, and the ids and
    statuses of the index: one index serves all namespaces of a table.
    """

    def __init__(
        self, connections: Connections, table: Table, *, owned: bool, alive: Callable[[], bool], under: str = ""
    ) -> None:
        self._connections = connections
        self._table = table
        self._owned = owned
        self._under = under
        self._alive = alive
        self._ready = False
        self._closed = False
        self._checked = False
        # Beside an event loop, more would keep the interpreter from it; with FULL they wait for the disk, together.
        self.threads = 4 if connections.synchronous in ("OFF", "NORMAL") else 8
        self._group: Group[Draft] = Group(lambda: connections.path, connections.timeout)
        self._index = IndexTable(connections.path, table.index, under, self._indexed)

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, session_id: str) -> object | None:  # noqa: D102 (the protocol documents it)
        self._check_open()
        with self._connections.reading() as connection:
            row = connection.execute(self._table.select, (self._at(head_key(session_id)),)).fetchone()
            return None if row is None else self._table.value(row)

    def read_many(self, session_ids: Sequence[str]) -> list[object | None]:  # noqa: D102
        return self.read_pages([head_key(each) for each in session_ids])

    def read_session(self, wanted: Wanted) -> Found:  # noqa: D102
        session_id, pages = wanted
        if pages is not None:
            return self.read(session_id), {}
        self._check_open()
        key, start = head_key(session_id), len(self._under)
        parameters = (self._at(key), *_below(self._at(page_prefix(session_id))))
        with self._connections.reading() as connection:
            rows = connection.execute(self._table.select_whole, parameters).fetchall()
        found = {name[start:]: self._table.value(row) for name, *row in rows}
        return found.pop(key, None), found

    def read_pages(self, keys: Sequence[str]) -> list[object | None]:  # noqa: D102
        self._check_open()
        names = [self._at(key) for key in keys]
        with self._connections.reading() as connection:
            rows = select_in(connection, self._table.select_many, names)
            found = {key: self._table.value(row) for key, *row in rows}
        return [found.get(name) for name in names]

    def all_keys(self) -> Iterator[object]:  # noqa: D102
        return self._keys("", LAST)

    def _keys(self, first: str, end: str) -> Iterator[str]:
        self._check_open()
        first, end, start = self._at(first), self._at(end), len(self._under)
        walk = Walk(self._connections.path)
        while True:  # in batches, so that no read transaction stays open between them
            with self._connections.reading() as connection:
                rows = connection.execute(self._table.keys, (first, end)).fetchall()
            batch = [row[0] for row in rows if isinstance(row[0], str)]
            if not batch:
                return
            yield from (key[start:] for key in batch)
            first = batch[-1]
            walk.reach(first)

    def session_ids(self) -> Iterator[str]:  # noqa: D102
        self._check_open()
        last = self._last_row()
        if last is not None and self._is_dense(last):
            keys = self._heads_as_they_lie(last)
        else:
            keys = self._keys("session/", "session0")
        return filter(None, map(session_of_key, keys))

    def _last_row(self) -> int | None:
        """Return the number of the table's last row, if it has any."""
        with self._connections.reading() as connection, suppress(sqlite3.OperationalError):
            last: int | None = connection.execute(self._table.last_row).fetchone()[0]
            return last
        return None  # another tool made the table, WITHOUT ROWID

    def _is_dense(self, last: int) -> bool:
        """Return whether to walk through all rows finds our heads sooner than to seek each: by a sample of rows."""
        with self._connections.reading() as connection:
            starts = [last * n // _SAMPLE for n in range(_SAMPLE)]
            rows = [row for at in starts for row in connection.execute(self._table.rows, (at, last, 1)).fetchall()]
        return len(self._heads_of(rows)) * _SPAN >= _SAMPLE

    def _heads_as_they_lie(self, last: int) -> Iterator[str]:
        """Iterate over the keys of heads in the order of their rows up to *last*, in which the disk need not seek.

        Those that are made meanwhile are left out; what changes keeps its place, and a VACUUM keeps all places.
        """
        first, walk = -(2**63), Walk(self._connections.path)
        while first <= last:
            with self._connections.reading() as connection:
                rows = connection.execute(self._table.rows, (first, last, BATCH)).fetchall()
            yield from self._heads_of(rows)
            first = rows[-1][0] + 1 if rows else last + 1
            walk.reach(first)

    def _heads_of(self, rows: Iterable[tuple[int, object]]) -> list[str]:
        """Return which keys are those of our heads."""
        prefix = self._at("session/")
        return [key[len(self._under) :] for _, key in rows if isinstance(key, str) and key.startswith(prefix)]

    def keys_of(self, session_ids: Iterable[str]) -> Iterator[str]:  # noqa: D102
        for each in session_ids:
            for prefix in (page_prefix(each), reference_prefix(each), aside_prefix(each)):
                yield from (key for key in self._keys(*_below(prefix)) if session_beside(key) == each)

    # Writing -----------------------------------------------------------------------------------------------------

    def commit(self, draft: Draft) -> bool:  # noqa: D102
        if self._connections.joined() is None:
            return self._group.put(draft, self.commit_many)
        return self.commit_many([draft])[0]

    def commit_many(self, drafts: Sequence[Draft]) -> list[bool]:  # noqa: D102
        with self._writing() as connection:
            stored = self._put_heads(connection, drafts)
            done = list(compress(drafts, stored))
            pages = [(self._at(key), page) for each in done for key, page in each.pages.items()]
            if pages:
                connection.executemany(self._table.put, pages)
            garbage = [(self._at(key),) for each in done for key in each.garbage]
            if garbage:
                connection.executemany(self._table.delete, garbage)
            self._index.record(connection, done)
        return stored

    def _put_heads(self, connection: sqlite3.Connection, drafts: Sequence[Draft]) -> list[bool]:
        """Write the heads of all drafts that find what they expect; return which are stored, now or since before."""
        new: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        for each in drafts:
            key, expected = self._at(head_key(each.session_id)), each.expected
            head = each.head.ljust(_LONG_HEAD) if each.stored.head.sealed else each.head
            if expected is None:
                new.append((key, head))
            else:
                changed.append((head, key, expected, len(expected)))
        table, written = self._table, 0
        for statement, rows in ((table.insert, new), (table.update, changed)):
            written += run(connection, statement, rows)
        if written == len(drafts):
            return [True] * written
        for row in changed:
            if table.bring_in(connection, str(row[1])):
                connection.execute(table.update, row)
        return [self._begins(connection, each.session_id, each.stamp) for each in drafts]

    def remove(self, session_id: str, expected: str | None, runs: Sequence[Run], previous: Entry | None) -> bool:  # noqa: ARG002, D102
        with self._writing() as connection:
            key = self._at(head_key(session_id))
            if expected is None:
                connection.execute(self._table.delete, (key,))
            else:
                self._table.bring_in(connection, key)
                if not connection.execute(self._table.delete_head, (key, expected, len(expected))).rowcount:
                    return False
            pages = self._at(page_prefix(session_id))
            for generation in {run.generation for run in runs}:
                connection.execute(self._table.delete_range, _below(f"{pages}{generation}/"))
            self._index.drop(connection, session_id)
        return True

    def remove_pages(self, session_id: str, keys: Sequence[str], expected: str | None) -> bool:  # noqa: D102
        with self._writing() as connection:
            if not self._begins(connection, session_id, expected):
                return False
            connection.executemany(self._table.delete, [(self._at(each),) for each in keys])
            return True

    def refer(self, key: str, reference: bytes | None, time_left: int | None = None) -> None:  # noqa: ARG002, D102
        with self._writing() as connection:
            if reference is None:
                connection.execute(self._table.delete, (self._at(key),))
            else:
                connection.execute(self._table.put, (self._at(key), reference))

    def references(self, owner: str) -> dict[str, object]:  # noqa: D102
        keys = list(self._keys(*_below(reference_prefix(owner))))
        return {key: value for key, value in zip(keys, self.read_pages(keys), strict=True) if value is not None}

    def set_aside(self, session_id: str, keys: Sequence[str], token: str) -> None:  # noqa: ARG002, D102
        with self._writing() as connection:
            names = [(self._at(aside_key(key, token)), self._at(key)) for key in keys]
            connection.executemany(self._table.rename, names)

    def rewrite(self, changes: Sequence[tuple[str, object, bytes]]) -> list[bool]:  # noqa: D102
        with self._writing() as connection:
            return [self._rewrite(connection, self._at(key), old, text) for key, old, text in changes]

    def _rewrite(self, connection: sqlite3.Connection, key: str, old: object, document: bytes) -> bool:
        self._table.bring_in(connection, key)
        row = connection.execute(self._table.select, (key,)).fetchone()
        if row is None or self._table.value(row) != old:
            return False
        return connection.execute(self._table.update, (document, key, "", 0)).rowcount > 0

    def backup(self, path: AnyPath, *, overwrite: bool) -> None:  # noqa: D102
        self._check_open()
        if self._table.copied_by:
            self.copied_by = self._table.copied_by
            super().backup(path, overwrite=overwrite)
        copy_file(self._connections, path, overwrite=overwrite)

    def exclusive(self) -> AbstractContextManager[object]:  # noqa: D102
        return self._writing()

    # Indexes -----------------------------------------------------------------------------------------------------

    def scan(  # noqa: D102
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        return self._index.scan(status, user_id, after, limit, newest_first=newest_first)

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:  # noqa: D102
        return self._index.count(status, user_id, now)

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:  # noqa: D102
        return self._index.expiring(until, after, limit)

    def entries(self) -> Iterator[Entry]:  # noqa: D102
        return self._index.entries()

    def suspects(self, entries: Sequence[Entry]) -> Sequence[Entry]:  # noqa: D102
        self._check_open()
        names = [self._at(head_key(each.session_id)) for each in entries]
        with self._connections.reading() as connection:
            there = {key for (key,) in select_in(connection, self._table.there, names)}
        return [each for each, name in zip(entries, names, strict=True) if name not in there]

    def indexed(self, entries: Sequence[Entry]) -> list[bool]:  # noqa: D102
        return self._index.holds(entries)

    def index(self, session_id: str, expected: str | None, stale: Iterable[Entry], entry: Entry | None) -> bool:  # noqa: D102
        with self._writing() as connection:
            if not self._begins(connection, session_id, expected):
                return False
            self._index.drop_stale(connection, stale)
            if entry:
                self._index.put(connection, row_of(entry, self._under))
            return True

    def mend(self) -> None:  # noqa: D102
        self._connections.mend()

    def close(self) -> None:  # noqa: D102
        self._closed = True
        if self._owned:
            self._connections.close()

    # Below: the file and its tables ------------------------------------------------------------------------------

    def _begins(self, connection: sqlite3.Connection, session_id: str, expected: str | None) -> bool:
        parameters = (expected, len(expected or ""), self._at(head_key(session_id)))
        row = connection.execute(self._table.begins, parameters).fetchone()
        return row is None if expected is None else row is not None and bool(row[0])

    def _at(self, name: str) -> str:
        """Return a key, an id or a status as it stands in the file."""
        return self._under + name

    def _check_open(self) -> None:
        if self._closed or not self._alive():
            raise StorageClosedError(self._connections.path, "the store or its mapping was closed")
        if not self._checked:
            with self._connections.reading() as connection:
                names = [unquoted(each) for each in (self._table.name, self._index.name, self._index.counts)]
                check_tables(connection, self._connections.path, names)
            self._checked = True

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        self._check_open()
        if self._connections.read_only:
            raise StorageReadOnlyError(self._connections.path, "it was opened for reading alone")
        self._make_ready()
        return self._connections.writing()

    def _indexed(self) -> AbstractContextManager[sqlite3.Connection]:
        self._check_open()
        if not self._connections.read_only:
            self._make_ready()
        elif not self._ready:
            with self._connections.reading() as connection:
                self._index.only_read(connection)
            self._ready = True
        return self._connections.reading()

    def _make_ready(self) -> None:
        if self._ready:
            return
        with self._connections.reading() as connection:  # to write would wait for other writers
            self._ready = self._index.is_made(connection)
        if not self._ready:
            with self._connections.writing() as connection:
                if self._index.make(connection):
                    self._index_documents(connection)
            self._ready = True

    def _index_documents(self, connection: sqlite3.Connection) -> None:
        """Index what was written before there was an index, in any namespace: by another tool."""
        for start in ("session/", NAMESPACES):
            walk = Walk(self._connections.path)
            first, end = _below(start)
            while batch := [row[0] for row in connection.execute(self._table.keys, (first, end)).fetchall()]:
                for key in batch:
                    self._index_document(connection, key)
                first = batch[-1]
                walk.reach(first)
                self._connections.renew(connection)

    def _index_document(self, connection: sqlite3.Connection, key: object) -> None:
        under, name = split_namespace(key) if isinstance(key, str) else ("", "")
        session_id = session_of_key(name)
        if session_id is None or name != head_key(session_id):
            return
        row = connection.execute(self._table.select, (key,)).fetchone()
        with suppress(InvalidDocumentError):
            self._index.put(connection, row_of(read_entry(self._table.value(row), session_id), under))


def _below(prefix: str) -> tuple[str, str]:
    """Return between which keys those lie that begin with *prefix*, which ends with a slash."""
    return prefix, prefix[:-1] + "0"  # "0" follows "/"
