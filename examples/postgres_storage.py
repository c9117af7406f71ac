"""Sessions in PostgreSQL, for any number of processes and hosts: the eight methods of a `Storage`, by psycopg 3.

pip install "psycopg[binary]"
python postgres_storage.py postgresql://localhost/chat    # a conversation that goes on at each run
pytest test_postgres_storage.py                           # the rules of a storage, tried on the url in DATABASE_URL
"""

import os
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b

try:
    import psycopg
    from psycopg import Connection, IsolationLevel, errors
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
except ModuleNotFoundError as err:
    raise ModuleNotFoundError(f'{err}; this storage needs: pip install "psycopg[binary]"', name=err.name) from None

from pyai_sessions import (
    Change,
    SessionManager,
    Storage,
    StorageClosedError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.storage.names import place_of

# Keys and members are bytes: they may hold any character, and bytes sort as Python's text does.
SCHEMA = """
CREATE TABLE IF NOT EXISTS chat_documents (key bytea PRIMARY KEY, document bytea NOT NULL);
CREATE TABLE IF NOT EXISTS chat_lists (
    name bytea, member bytea, score bigint NOT NULL, PRIMARY KEY (name, member), UNIQUE (name, score, member));
"""
FIND = "SELECT key, document FROM chat_documents WHERE "
DROP = "DELETE FROM chat_documents WHERE "
COMPARE = "SELECT key, substring(document FOR %s) FROM chat_documents WHERE key = ANY(%s)"
PUT = """
INSERT INTO chat_documents SELECT * FROM unnest(%s::bytea[], %s::bytea[])
ON CONFLICT (key) DO UPDATE SET document = excluded.document"""
LIST = """
INSERT INTO chat_lists SELECT * FROM unnest(%s::bytea[], %s::bytea[], %s::bigint[])
ON CONFLICT (name, member) DO UPDATE SET score = excluded.score"""
UNLIST = """
DELETE FROM chat_lists USING unnest(%s::bytea[], %s::bytea[]) AS gone (n, m) WHERE name = n AND member = m"""
SCAN = """
SELECT score, member FROM chat_lists WHERE name = %s AND (score, member) {} (%s, %s)
ORDER BY score {}, member {} LIMIT %s"""
LISTED_OF = """
SELECT name, member, score FROM chat_lists JOIN unnest(%s::bytea[], %s::bytea[]) AS wanted (n, m)
ON name = n AND member = m"""
LISTED = """
SELECT name, member, score FROM chat_lists WHERE (name, member) >= (%s, %s) AND name < %s
ORDER BY name, member LIMIT %s"""
KEYS = "SELECT key FROM chat_documents WHERE key >= %s AND key < %s ORDER BY key LIMIT %s"
PAGE = 500  # rows that are read at once, so that no walk needs more memory
END = b"\xff"  # sorts after all that begins alike: no text has this byte

KINDS = {  # what an error of the server means
    errors.LockNotAvailable: StorageLockedError,
    errors.DeadlockDetected: StorageLockedError,
    errors.QueryCanceled: StorageLockedError,
    errors.DiskFull: StorageFullError,
    errors.ReadOnlySqlTransaction: StorageReadOnlyError,
    errors.InsufficientPrivilege: StoragePermissionError,
}


class PostgresStorage(Storage):
    """Documents and lists in two tables, which are made if they are absent.

    `write` is one transaction in two round trips, `read` and `scan` are one statement. `count` looks at each row of a
    list: a counter would be one row for which all writers wait. Writers of one session take turns; others wait only for
    `exclusive`. In SQL, ``convert_from(document, 'UTF8')::json`` is a document,
    if no text in it has a NUL.

    A thread has a connection during a call. When one breaks, all that are idle are given up: after a restart of the
    server one call raises StorageUnreachableError, and the next connects anew. Open the storage after a fork, not
    before.
    """

    together = 32

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self._url = url
        self._known = {"host": "localhost", "dbname": ""} | conninfo_to_dict(url)
        self.where = "PostgreSQL at {host}, database {dbname}".format_map(self._known)
        self._idle: list[Connection] = []
        self._mine = threading.local()  # the connection that this thread has inside `exclusive`
        self._closed = False
        try:
            self._make_tables()
        except StorageError:
            self.close()
            raise

    def read(self, keys: Sequence[str]) -> dict[str, object]:
        """Return documents, by one statement, so all of one moment."""
        which, values = _where(keys)
        return {_text(key): value for key, value in self._rows(FIND + which, values)}

    def write(self, changes: Sequence[Change]) -> list[bool]:
        """Apply changes in one transaction: lock and compare, then write and commit."""
        places = sorted({_place(each) for each in changes})  # in one order, so that no two writers wait in a ring
        if len(places) < len(changes) > 1:  # a later one of a place sees what an earlier one put
            return [applied for each in changes for applied in self.write([each])]
        starts = [_bytes(each or "") for change in changes for each in (change.done, *dict(change.expect).values())]
        expected = [_bytes(key) for change in changes for key, _ in change.expect]
        with self._connection() as conn, conn.pipeline(), conn.transaction():
            conn.execute("LOCK TABLE chat_documents IN ROW EXCLUSIVE MODE")  # waits for `exclusive`
            conn.execute("SELECT pg_advisory_xact_lock(place) FROM unnest(%s::bigint[]) AS place", [places])
            found = conn.execute(COMPARE, [max(map(len, starts), default=0), expected])
            stored = {_text(key): start for key, start in found.fetchall()}
            verdicts = [_judge(stored, each) for each in changes]
            self._apply(conn, [each for each, verdict in zip(changes, verdicts, strict=True) if verdict == "apply"])
        return [each != "refuse" for each in verdicts]

    def _apply(self, conn: Connection, changes: list[Change]) -> None:
        """Write what changes of different places say: in each place the documents, then what is dropped."""
        put = {_bytes(key): _bytes(value) for each in changes for key, value in each.put}
        if put:
            conn.execute(PUT, [list(put), list(put.values())])
        if drop := [key for each in changes for key in each.drop]:
            which, values = _where(drop)
            conn.execute(DROP + which, values)
        lists = {(_bytes(name), _bytes(member)): new for each in changes for name, member, _, new in each.lists}
        if gone := sorted(each for each, new in lists.items() if new is None):
            conn.execute(UNLIST, _columns(gone))
        if moved := sorted((*each, new) for each, new in lists.items() if new is not None):
            conn.execute(LIST, _columns(moved))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over keys, page by page: keys that begin alike are neighbours."""
        first, end, page = _bytes(prefix), _bytes(prefix) + END, [()] * PAGE
        while len(page) == PAGE:
            page = self._rows(KEYS, [first, end, PAGE])
            yield from (_text(key) for (key,) in page)
            first = page[-1][0] + b"\0" if page else end

    def scan(
        self, name: str, after: tuple[int, str] | None = None, limit: int = 100, *, newest_first: bool = False
    ) -> list[tuple[int, str]]:
        """Return the next positions of a list, by the index that has them in order."""
        beyond, order, edge = ("<", "DESC", (2**63 - 1, END)) if newest_first else (">", "ASC", (-(2**63), b""))
        score, member = edge if after is None else (after[0], _bytes(after[1]))
        rows = self._rows(SCAN.format(beyond, order, order), [_bytes(name), score, member, limit])
        return [(score, _text(member)) for score, member in rows]

    def count(self, name: str) -> int:
        """Return how many members a list has."""
        return self._rows("SELECT count(*) FROM chat_lists WHERE name = %s", [_bytes(name)])[0][0]

    def listings(
        self, of: Sequence[tuple[str, str]] | None = None, *, prefix: str = ""
    ) -> Iterator[tuple[str, str, int]]:
        """Iterate over where these members stand, or over all, page by page."""
        if of is not None:
            rows = self._rows(LISTED_OF, _columns([(_bytes(name), _bytes(member)) for name, member in of]))
            yield from (_listed(*row) for row in rows)
            return
        first, end, page = (_bytes(prefix), b""), _bytes(prefix) + END, [()] * PAGE
        while len(page) == PAGE:
            page = self._rows(LISTED, [*first, end, PAGE])
            yield from (_listed(*row) for row in page)
            first = (page[-1][0], page[-1][1] + b"\0") if page else first

    @contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keep other writers out: what is written inside is a part of one transaction. Readers see what was before."""
        with self._connection() as conn, conn.transaction():
            conn.execute("LOCK TABLE chat_documents IN SHARE ROW EXCLUSIVE MODE")
            outer, self._mine.conn = getattr(self._mine, "conn", None), conn
            try:
                yield
            finally:
                self._mine.conn = outer

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._give_up_idle()

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple]:
        with self._connection() as conn:
            return conn.execute(query, values).fetchall()

    @contextmanager
    def _connection(self) -> Generator[Connection, None, None]:
        """Lend a connection that no other thread has; inside `exclusive`, the one of this thread."""
        if self._closed:
            raise StorageClosedError(self.where, "the storage was closed")
        conn = lent = getattr(self._mine, "conn", None)
        try:
            if conn is None:
                with suppress(IndexError):
                    conn = self._idle.pop()
            conn = conn or self._connect()
            yield conn
        except psycopg.Error as err:
            raise self._error(err) from err
        finally:
            if lent is None and conn is not None:
                if self._closed or conn.info.transaction_status != TransactionStatus.IDLE:
                    conn.close()  # broken, or an interrupt came in a transaction
                else:
                    self._idle.append(conn)

    def _make_tables(self) -> None:
        with self._connection() as conn, conn.transaction():
            # Of two processes that create tables at the same time, one would fail.
            conn.execute("SELECT pg_advisory_xact_lock(hashtext('chat_documents'))")
            if conn.execute("SELECT to_regclass('chat_lists')").fetchone()[0] is None:
                conn.execute(SCHEMA)

    def _connect(self) -> Connection:
        options = f"{self._known.get('options', '')} -c lock_timeout={max(1, int(self.timeout * 1000))}"
        wait = max(2, int(self.timeout))
        conn = psycopg.connect(self._url, options=options, connect_timeout=wait, tcp_user_timeout=wait * 1000)
        conn.autocommit = True
        # Who waited for a lock must see what the other writer stored, whatever the default of the server is.
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        return conn

    def _give_up_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _error(self, err: psycopg.Error) -> StorageError:
        problem = err.diag.message_primary or str(err).partition("\n")[0]
        gone = isinstance(err, psycopg.OperationalError)  # no connection, or the server ends, where KINDS has it not
        kind = KINDS.get(type(err), StorageUnreachableError if gone else StorageError)
        if kind is StorageUnreachableError:
            self._give_up_idle()
        return kind(self.where, problem)


def _judge(stored: dict[str, bytes], change: Change) -> str:
    """Return whether to "apply" or "refuse" a change, or "skip" one that was applied before."""
    for n, (key, start) in enumerate(change.expect):
        text = stored.get(key)
        if n == 0 and change.done is not None and text is not None and text.startswith(_bytes(change.done)):
            return "skip"
        if (text is not None) if start is None else (text is None or not text.startswith(_bytes(start))):
            return "refuse"
    return "apply"


def _place(change: Change) -> int:
    """Return the number by which writers lock the place of a change; any key of it tells that."""
    first = [*(key for key, _ in change.expect), *(key for key, _ in change.put), *change.drop][0]
    return int.from_bytes(blake2b(_bytes(place_of(first)), digest_size=8).digest(), "big", signed=True)


def _where(keys: Sequence[str]) -> tuple[str, list[object]]:
    """Return the condition that finds keys, and all below those that end with a slash; and its values."""
    below = [_bytes(each) for each in keys if each.endswith("/")]
    single = [_bytes(each) for each in keys if not each.endswith("/")]
    ranges = [edge for each in below for edge in (each, each + END)]
    return "key = ANY(%s)" + " OR key >= %s AND key < %s" * len(below), [single, *ranges]


def _bytes(value: object) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)


def _columns(rows: list[tuple]) -> list[list]:
    """Return what `unnest` makes rows of again: two columns or more."""
    return [list(each) for each in zip(*rows, strict=True)] or [[], []]


def _listed(name: bytes, member: bytes, score: int) -> tuple[str, str, int]:
    return _text(name), _text(member), score


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("give a url, postgresql://localhost/chat, as the argument or in DATABASE_URL")
    with closing(PostgresStorage(url)) as storage:
        manager = SessionManager(storage)
        session = manager.get_or_create_session("demo", "ada")
        session.add_message("user", f"Run {session.message_count + 1}")
        manager.save(session)
        for message in session.messages:
            print(message.content)
