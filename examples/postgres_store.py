"""A store of one's own: sessions in PostgreSQL, by psycopg 3, for any number of processes and hosts.

    python postgres_store.py [postgresql://localhost/chat]

The url may also stand in DATABASE_URL. It needs `pip install "psycopg[binary,pool]"`, and PostgreSQL 13 or newer.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from itertools import takewhile
from typing import Any
from uuid import uuid4

try:
    from psycopg import AsyncConnection, IsolationLevel
    from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
    from psycopg_pool import AsyncConnectionPool
except ModuleNotFoundError as err:
    raise ModuleNotFoundError(f'{err}; this store needs: pip install "psycopg[binary,pool]"', name=err.name) from None

from pyai_sessions import (
    Message,
    Session,
    SessionArchivedError,
    SessionConflictError,
    SessionNotFoundError,
    SessionStatus,
    SessionStore,
)

# A row a session and a row a message. Ids are bytes: they may hold any character, and bytes sort as Python's text does.
SCHEMA = """
CREATE TABLE chat_sessions (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, session_id bytea NOT NULL UNIQUE, user_id bytea,
    status text NOT NULL, updated_at timestamptz NOT NULL, message_count bigint NOT NULL, revision text NOT NULL,
    body jsonb NOT NULL);
CREATE INDEX ON chat_sessions (user_id, updated_at, session_id);
CREATE INDEX ON chat_sessions (updated_at, session_id);
CREATE TABLE chat_messages (
    session bigint REFERENCES chat_sessions ON DELETE CASCADE, position bigint, message_id bytea NOT NULL,
    body jsonb NOT NULL, PRIMARY KEY (session, position), UNIQUE (session, message_id));
"""
IN_COLUMNS = ("updated_at", "message_count", "messages")  # which `append` changes, so they are not in the body
SELECT = """
SELECT revision, updated_at AT TIME ZONE 'UTC', body,
    (SELECT json_agg(m.body ORDER BY position) FROM chat_messages m WHERE session = number)
FROM chat_sessions """
INSERT = """
INSERT INTO chat_sessions (user_id, status, updated_at, message_count, revision, body, session_id)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING number"""
UPDATE = """
UPDATE chat_sessions SET user_id = %s, status = %s, updated_at = %s, message_count = %s, revision = %s, body = %s
WHERE session_id = %s AND revision = %s RETURNING number"""
# A microsecond later at least, since lists are in this order; the last one is the last that Python knows.
TOUCH = """
UPDATE chat_sessions SET message_count = %s, revision = %s,
    updated_at = greatest(%s, least(updated_at + interval '1 microsecond', '9999-12-31 23:59:59.999999Z'))
WHERE number = %s"""
ADD = """
INSERT INTO chat_messages (session, position, message_id, body)
SELECT %(number)s, %(first)s + row_number() OVER (ORDER BY n) - 1, id, body
FROM unnest(%(ids)s::bytea[], %(bodies)s::jsonb[]) WITH ORDINALITY AS given (id, body, n)
WHERE NOT EXISTS (SELECT FROM chat_messages WHERE session = %(number)s AND message_id = id)"""
COUNT = """
SELECT count(*) FROM chat_sessions
WHERE (%(user)s::bytea IS NULL OR user_id = %(user)s) AND (%(status)s::text IS NULL OR status = %(status)s)"""

# JSONB takes neither NUL nor lone surrogates, and knows one kind of number: it makes an integer of 1e+23, 0.0 of -0.0.
# So such characters are stored as U+001A and four hex digits, U+001A itself too, and such floats as the text of U+001A,
# "f" and the number. All else is stored as it is, for SQL to query.
UNFIT = re.compile("[\0\x1a\ud800-\udfff]")


def convert(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Return a JSON value with *leaf* called on each key, text and number."""
    if isinstance(value, dict):
        return {leaf(key): convert(each, leaf) for key, each in value.items()}
    return [convert(each, leaf) for each in value] if isinstance(value, (list, tuple)) else leaf(value)


def escape(value: Any) -> Any:
    """Return a text or number as JSONB can hold it."""
    if isinstance(value, float) and ("e" in repr(value) or repr(value) == "-0.0"):
        return f"\x1af{value!r}"
    return UNFIT.sub(lambda found: f"\x1a{ord(found[0]):04x}", value) if isinstance(value, str) else value


def unescape(value: Any) -> Any:
    """Return the text or number that `escape` was given."""
    if not isinstance(value, str):
        return value
    if value.startswith("\x1af"):
        return float(value[2:])
    return re.sub("\x1a(....)", lambda found: chr(int(found[1], 16)), value)


def dumps(value: Any) -> str:
    """Return the JSON of a value for JSONB, the same for values that JSONB takes to be the same."""
    return json.dumps(convert(value, escape), sort_keys=True)


def loads(text: bytes) -> Any:
    """Return the value of JSON from JSONB."""
    value = json.loads(text)
    return convert(value, unescape) if rb"\u001a" in text else value


def as_bytes(value: str | None) -> bytes | None:
    """Return an id as its column holds it."""
    return None if value is None else value.encode("utf-8", "surrogatepass")


class PostgresSessionStore(SessionStore):
    """Sessions in PostgreSQL. Each call is one transaction: all or nothing.

    `save` writes the session's row and the messages that changed, `append` the new messages and a few columns: neither
    writes more in a long conversation. `get` and the lists are one statement each, and load all messages. What comes
    back is equal to what was stored; only the keys of objects are in another order, JSONB's own.

    Connections are opened at first use and the tables made if absent. A store serves the event loop that first used it,
    until `close`. Errors of the server are psycopg's: `psycopg.OperationalError` where it did not answer.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        self.url = url
        self.clock = clock
        self._pool: AsyncConnectionPool | None = None

    async def save(self, session: Session) -> None:
        """Store a new session (its revision is None), or replace the revision that it was loaded at."""
        session_id, messages, revision = as_bytes(session.session_id), list(session.messages), uuid4().hex
        now = session.to_dict()  # it may change while we wait; raises where it is loaded only in part
        body = Jsonb({name: each for name, each in now.items() if name not in IN_COLUMNS})
        row = [as_bytes(now["user_id"]), now["status"], session.updated_at, len(messages), revision, body, session_id]
        async with self._connection() as conn, conn.transaction():
            if session.revision is None:
                found = await conn.execute(INSERT, row)
            else:
                found = await conn.execute(UPDATE, [*row, session.revision])
            if (saved := await found.fetchone()) is None:
                found = await conn.execute("SELECT revision FROM chat_sessions WHERE session_id = %s", [session_id])
                (stored,) = await found.fetchone() or (None,)
                problem = "was changed by another writer" if stored else "was deleted by another writer"
                raise SessionConflictError(session.session_id, session.revision, stored, problem)
            known, old = vars(session).get("_stored", (None, []))
            if known != session.revision:
                # A copy that others made, as a merge does: its history is read, rather than written again.
                found = await conn.execute("SELECT body FROM chat_messages WHERE session = %s ORDER BY position", saved)
                old = [Message.from_dict(body) for (body,) in await found.fetchall()]
            same = len(list(takewhile(is_stored, zip(messages, old, strict=False))))
            if same < len(old):
                await conn.execute("DELETE FROM chat_messages WHERE session = %s AND position >= %s", [*saved, same])
            await self._add(conn, *saved, same, messages[same:])
        self._note(session, revision, messages)

    async def get(self, session_id: str) -> Session | None:
        """Return a session, or None."""
        return next(iter(await self._sessions("WHERE session_id = %s", as_bytes(session_id))), None)

    async def delete(self, session_id: str) -> None:
        """Delete a session, if there is one."""
        async with self._connection() as conn:
            await conn.execute("DELETE FROM chat_sessions WHERE session_id = %s", [as_bytes(session_id)])

    async def list_for_user(self, user_id: str) -> list[Session]:
        """Return a user's sessions, latest activity first."""
        return await self._sessions("WHERE user_id = %s ORDER BY updated_at DESC, session_id DESC", as_bytes(user_id))

    # What a store need not have. The manager calls `list_by_activity` and `close`; the others are for your own code.

    async def append(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add messages at the end, each id once. Writers of the same session wait for each other."""
        locked = "SELECT number, message_count, status FROM chat_sessions WHERE session_id = %s FOR UPDATE"
        async with self._connection() as conn, conn.transaction():
            row = await (await conn.execute(locked, [as_bytes(session_id)])).fetchone()
            if row is None:
                raise SessionNotFoundError(session_id)
            number, count, status = row
            if status == SessionStatus.ARCHIVED:
                raise SessionArchivedError(session_id)
            new: dict[str, Message] = {}
            for each in messages:
                new.setdefault(each.message_id, each)
            if added := await self._add(conn, number, count, [*new.values()]):
                await conn.execute(TOUCH, [count + added, uuid4().hex, self.clock(), number])

    async def list_by_activity(self, after: tuple[datetime, str] | None, limit: int) -> list[Session]:
        """Return up to *limit* sessions of all users that come after *after*, idle longest first."""
        order = "ORDER BY updated_at, session_id LIMIT %s"
        if after is None:
            return await self._sessions(order, limit)
        return await self._sessions(
            f"WHERE (updated_at, session_id) > (%s, %s) {order}", after[0], as_bytes(after[1]), limit
        )

    async def count(self, user_id: str | None, status: SessionStatus | None) -> int:
        """Return how many sessions a user has, or all users have, of one status or of both."""
        values = {"user": as_bytes(user_id), "status": status and str(status)}
        async with self._connection() as conn:
            return (await (await conn.execute(COUNT, values)).fetchone())[0]

    async def clear(self) -> int:
        """Delete all sessions; return how many there were."""
        async with self._connection() as conn:
            return (await conn.execute("DELETE FROM chat_sessions")).rowcount

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    # Rows

    async def _sessions(self, which: str, *values: Any) -> list[Session]:
        async with self._connection() as conn:
            rows = await (await conn.execute(SELECT + which, values)).fetchall()
        sessions = []
        for revision, time, body, messages in rows:
            session = Session.from_dict({**body, "updated_at": f"{time.isoformat()}Z", "messages": messages or []})
            self._note(session, revision, list(session.messages))
            sessions.append(session)
        return sessions

    def _note(self, session: Session, revision: str, messages: list[Message]) -> None:
        session.revision = revision
        vars(session)["_stored"] = (revision, messages)  # messages never change, so the next save compares objects

    async def _add(self, conn: AsyncConnection, number: int, first: int, messages: Sequence[Message]) -> int:
        ids, bodies = [as_bytes(each.message_id) for each in messages], [Jsonb(each.to_dict()) for each in messages]
        values = {"number": number, "first": first, "ids": ids, "bodies": bodies}
        return (await conn.execute(ADD, values)).rowcount if messages else 0

    # Connections

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        if self._pool is None:
            # The check is one more trip a call; without it a restarted server would be an error on each old connection.
            options = {
                "min_size": 1,
                "max_size": 10,
                "configure": configure,
                "check": AsyncConnectionPool.check_connection,
            }
            self._pool = AsyncConnectionPool(self.url, kwargs={"autocommit": True}, open=False, **options)
        await self._pool.open()
        async with self._pool.connection() as conn:
            yield conn


async def configure(conn: AsyncConnection) -> None:
    """Prepare a new connection, and make the tables if absent."""
    set_json_dumps(dumps, conn)
    set_json_loads(loads, conn)
    # What waited for a row must see what the other writer stored, whatever the server's default is.
    await conn.set_isolation_level(IsolationLevel.READ_COMMITTED)
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('chat_sessions'))")
        if (await (await conn.execute("SELECT to_regclass('chat_messages')")).fetchone())[0] is None:
            await conn.execute(SCHEMA)


def is_stored(pair: tuple[Message, Message]) -> bool:
    """Return whether the message in hand is the one that is stored."""
    mine, stored = pair
    return mine is stored or dumps(mine.to_dict()) == dumps(stored.to_dict())


async def demo(url: str) -> None:
    """Store a conversation, let another writer add to it, and see that the stale copy does not replace that."""
    store = PostgresSessionStore(url)
    session = Session(user_id="ada", metadata={"title": "Tea"})
    session.add_message("user", "Is green tea stronger than black?")
    await store.save(session)
    await store.append(session.session_id, [Message("assistant", "It usually has less caffeine.")])
    for message in (await store.get(session.session_id)).messages:
        print(f"{message.role}: {message.content}")
    try:
        await store.save(session)
    except SessionConflictError as err:
        print(f"SessionConflictError: {err}")
    await store.delete(session.session_id)
    await store.close()


if __name__ == "__main__":
    dsn = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DATABASE_URL")
    if not dsn:
        sys.exit("give a url, postgresql://localhost/chat, as the argument or in DATABASE_URL")
    asyncio.run(demo(dsn))
