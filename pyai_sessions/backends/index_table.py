"""The two indexes, a user's sessions and all sessions, each by activity: one table, beside that of the documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from pyai_sessions.backends.protocol import Position
from pyai_sessions.backends.sql import BATCH, LAST, quoted, run, select_in, unquoted
from pyai_sessions.drafts import Draft
from pyai_sessions.errors import StorageCorruptError
from pyai_sessions.heads import Entry, SessionStatus
from pyai_sessions.keys import NAMESPACES, decode_id, encode_id
from pyai_sessions.storage.walks import Walk

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
Row = tuple[str, str | None, str, int, int | None]
"""The id, the user, the status, the activity and the expiry, in microseconds since 1970, of a session."""

_NEVER = -(2**62)
"""An activity, in microseconds since 1970, that no session has."""

_FIT = "typeof(activity) = 'integer' AND typeof(id) = 'text'"
"""What holds of the rows that can be ours; others are passed over, and go when the index is mended."""


def row_of(entry: Entry, under: str) -> Row:
    """Return an entry of a namespace as it stands in the table."""
    user = None if entry.user_id is None else encode_id(entry.user_id)
    return under + encode_id(entry.session_id), user, under + entry.status.value, entry.activity, entry.expires


class IndexTable:
    """The index table of a file: one row a session, by two SQL indexes in the order of lists, counted by triggers.

    Ids and statuses begin with *under*: one table serves all namespaces. *reading* lends a connection to a file whose
    index is prepared.
    """

    def __init__(self, path: str, name: str, under: str, reading: Reading) -> None:
        self._path = path
        self._under = under
        self._reading = reading
        self._counted = True
        self.name = self._rows = name
        self.counts = self._name_of("counts")
        self._put = (
            f"INSERT INTO {name} (id, user, status, activity, expires) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) "
            "DO UPDATE SET user = excluded.user, status = excluded.status, activity = excluded.activity, "
            "expires = excluded.expires"
        )
        self._move = f"UPDATE {name} SET activity = ?, expires = ? WHERE id = ? AND user IS ? AND status = ?"
        self._drop = f"DELETE FROM {name} WHERE id = ?"
        statuses = ", ".join(f"'{self._at(each.value)}'" for each in SessionStatus)  # percent-encoded: without quotes
        self._fit = f"({_FIT} AND status IN ({statuses}))"
        self._drop_exact = (
            f"DELETE FROM {name} WHERE id = ? AND (user IS ? AND status = ? AND activity = ? OR NOT {self._fit})"
        )

    def _at(self, name: str) -> str:
        return self._under + name

    def _row(self, entry: Entry) -> Row:
        return row_of(entry, self._under)

    # Writing, in the caller's transaction ------------------------------------------------------------------------

    def record(self, connection: sqlite3.Connection, drafts: Sequence[Draft]) -> None:
        """List sessions as they are once these drafts are stored."""
        new: list[Row] = []
        moved: list[Row] = []
        for each in drafts:
            (new if each.listed_anew else moved).append(self._row(each.entry))
        if run(connection, self._move, [(*each[3:], *each[:3]) for each in moved]) < len(moved):
            new += moved  # one or another was not listed as it should have been
        run(connection, self._put, new)

    def put(self, connection: sqlite3.Connection, row: Row) -> None:
        """List a session of any namespace."""
        connection.execute(self._put, row)

    def drop(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Take a session's row away."""
        connection.execute(self._drop, (self._at(encode_id(session_id)),))

    def drop_stale(self, connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
        """Take the rows of these entries away where they still are so, or fit no session."""
        run(connection, self._drop_exact, [self._row(each)[:4] for each in entries])

    # Reading -----------------------------------------------------------------------------------------------------

    def scan(
        self, status: SessionStatus, user_id: str | None, after: Position | None, limit: int, *, newest_first: bool
    ) -> list[Position]:
        """Return positions, as `Backend.scan` does."""
        where, parameters = self._one_index(status, user_id)
        if after is not None:
            where += f" AND (activity, id) {'<' if newest_first else '>'} (?, ?)"
            parameters += (after[0], self._at(after[1]))
        order = "DESC" if newest_first else "ASC"
        where += f" AND {_FIT} ORDER BY activity {order}, id {order} LIMIT ?"
        with self._reading() as connection:
            query = f"SELECT activity, id FROM {self.name} WHERE {where}"
            rows = connection.execute(query, (*parameters, limit)).fetchall()
        return [(activity, name[len(self._under) :]) for activity, name in rows]

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:
        """Return a number, as `Backend.count` does: without a user in no time, else at the cost of reading the rows."""
        where, parameters = self._one_index(status, user_id)
        query = f"SELECT COUNT(*) FROM {self.name} WHERE {where}"
        with self._reading() as connection:
            # The sign keeps SQLite to the index of those that expire: they are the fewest.
            over = f"SELECT COUNT(*) FROM {self._rows} WHERE expires <= ? AND {where.replace('user', '+user')}"
            if user_id is None and self._counted:
                query = f"SELECT COALESCE(SUM(n), 0) FROM {self.counts} WHERE {where}"
            found: object = connection.execute(
                f"SELECT ({query}) - ({over})", (*parameters, now, *parameters)
            ).fetchone()[0]
        if not isinstance(found, int):
            raise StorageCorruptError(self._path, f"{self.counts} does not hold numbers")
        return found

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:
        """Return positions, as `Backend.expiring` does."""
        where = f"expires <= ? AND status = ? AND {_FIT}"
        parameters: tuple[object, ...] = (limit,)
        if after is not None:
            where += " AND (expires, id) > (?, ?)"
            parameters = (after[0], self._at(after[1]), limit)
        rows: list[tuple[int, str]] = []
        with self._reading() as connection:
            query = f"SELECT expires, id FROM {self._rows} WHERE {where} ORDER BY expires, id LIMIT ?"
            for status in SessionStatus:  # each by itself: what expired in other namespaces is not looked at
                rows += connection.execute(query, (until, self._at(status.value), *parameters)).fetchall()
        return [(expires, name[len(self._under) :]) for expires, name in sorted(rows)[:limit]]

    def _one_index(self, status: SessionStatus, user_id: str | None) -> tuple[str, tuple[object, ...]]:
        if user_id is None:
            return "status = ?", (self._at(status.value),)
        return "user = ? AND status = ?", (encode_id(user_id), self._at(status.value))

    def entries(self) -> Iterator[Entry]:
        """Iterate over all entries, in the order of their ids."""
        start = len(self._under)
        # All without a namespace come before or after all that have one.
        parts = ((self._under, self._at(LAST)),) if start else (("", NAMESPACES), (NAMESPACES + LAST, LAST))
        query = f"SELECT id, user, status, activity, expires, {self._fit} FROM"
        for first, end in parts:
            last, walk = first, Walk(self._path)
            while True:
                with self._reading() as connection:
                    between = f"{self._rows} WHERE id > ? AND id < ? ORDER BY id LIMIT {BATCH}"
                    rows = connection.execute(f"{query} {between}", (last, end)).fetchall()
                if not rows:
                    break
                for name, user, status, activity, expires, fit in rows:
                    session_id = decode_id(name[start:]) if isinstance(name, str) else None
                    if session_id is None:
                        continue
                    if fit:
                        user_id = decode_id(user) if isinstance(user, str) else None
                        ends = expires if isinstance(expires, int) else None
                        yield Entry(session_id, user_id, SessionStatus(status[start:]), activity, ends)
                    else:  # as none is: it is found to be wrong
                        yield Entry(session_id, None, SessionStatus.ACTIVE, _NEVER)
                last = rows[-1][0]
                walk.reach(last)

    def holds(self, entries: Sequence[Entry]) -> list[bool]:
        """Return of each entry whether it is in the table."""
        rows = [self._row(each) for each in entries]
        with self._reading() as connection:
            query = f"SELECT id, user, status, activity, expires FROM {self._rows} WHERE id IN "
            found = set(select_in(connection, query, [row[0] for row in rows]))
        return [row in found for row in rows]

    # Making ------------------------------------------------------------------------------------------------------

    def only_read(self, connection: sqlite3.Connection) -> None:
        """Do with the table as it is: that of a file that is read alone."""
        self._counted = False
        if not self._has_expiry(connection):
            self._rows = f"(SELECT *, NULL AS expires FROM {self.name})"

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Return whether the table is there, with all that this release wants of it."""
        names = [self.name, self.counts, *map(self._name_of, ("expires", "added", "removed", "moved"))]
        query = f"SELECT COUNT(*) FROM sqlite_master WHERE name IN ({', '.join('?' * len(names))})"
        (found,) = connection.execute(query, [unquoted(each) for each in names]).fetchone()
        return found == len(names) and self._has_expiry(connection)

    def make(self, connection: sqlite3.Connection) -> bool:
        """Make the table, and what one of an earlier release lacks; return whether there was none."""
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        made = connection.execute(query, (unquoted(self.name),)).fetchone()
        if not made:
            connection.execute(
                f"CREATE TABLE {self.name} (id TEXT PRIMARY KEY, user TEXT, status TEXT, activity INTEGER, "
                "expires INTEGER) WITHOUT ROWID"
            )
            for columns in ("status, activity, id", "user, status, activity, id"):
                connection.execute(f"CREATE INDEX {self._name_of(columns.split(',')[0])} ON {self.name} ({columns})")
        self._add_expiry(connection)
        if not made or not connection.execute(query, (unquoted(self.counts),)).fetchone():
            self._add_counts(connection)
        return not made

    def _add_expiry(self, connection: sqlite3.Connection) -> None:
        """Index when sessions expire, where that is not: not of the others, so they cost nothing by it."""
        if not self._has_expiry(connection):  # it was made by an earlier release
            connection.execute(f"ALTER TABLE {self.name} ADD COLUMN expires INTEGER")
        name = self._name_of("expires")
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {name} ON {self.name} (status, expires, id) WHERE expires IS NOT NULL"
        )

    def _add_counts(self, connection: sqlite3.Connection) -> None:
        """Keep how many sessions have a status: counting them would take as long as there are sessions."""
        counts = self.counts
        connection.execute(f"DROP TABLE IF EXISTS {counts}")
        connection.execute(f"CREATE TABLE {counts} (status TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        connection.execute(f"INSERT INTO {counts} SELECT status, COUNT(*) FROM {self.name} GROUP BY status")
        more = f"INSERT INTO {counts} VALUES (NEW.status, 1) ON CONFLICT (status) DO UPDATE SET n = n + 1"
        fewer = f"UPDATE {counts} SET n = n - 1 WHERE status = OLD.status"
        for name, event, action in (
            ("added", "INSERT", more),
            ("removed", "DELETE", fewer),
            ("moved", "UPDATE OF status", f"{more}; {fewer}"),
        ):
            connection.execute(f"DROP TRIGGER IF EXISTS {self._name_of(name)}")
            connection.execute(f"CREATE TRIGGER {self._name_of(name)} AFTER {event} ON {self.name} BEGIN {action}; END")

    def _has_expiry(self, connection: sqlite3.Connection) -> bool:
        query = "SELECT 1 FROM pragma_table_info(?) WHERE name = 'expires'"
        return connection.execute(query, (unquoted(self.name),)).fetchone() is not None

    def _name_of(self, part: str) -> str:
        """Return the name of a part of the index, quoted."""
        return quoted(f"{unquoted(self.name)}/{part}")
