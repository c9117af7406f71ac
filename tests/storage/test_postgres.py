"""Tests of examples/postgres_storage.py on a real PostgreSQL server.

`tests/test_examples.py` runs the contracts on it; hammers and kills are among the fault tests.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from threading import Barrier
from urllib.parse import quote

import psycopg
import pytest

from examples.postgres_storage import PostgresStorage
from pyai_sessions import (
    AsyncSessionManager,
    Change,
    Listing,
    Message,
    SessionManager,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.testing import Recorder, find_faults
from tests.processes import run_python
from tests.servers import PostgresServer

pytestmark = pytest.mark.wide

CREATE = Change(expect=[("doc/a", None)], put=[("doc/a", b"{}")], lists=[Listing("active", "a", None, 1)])


@pytest.fixture
def sql(postgres_url):
    """Execute a statement in the test's database and return its rows."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield lambda statement: connection.execute(statement).fetchall()


@pytest.fixture
def storage(postgres_url):
    with closing(PostgresStorage(postgres_url, timeout=30.0)) as storage:
        yield storage


def test_a_second_process_goes_on_with_the_conversation(storage, postgres_url):
    """Another process loads, extends and lists what one saved."""
    manager = SessionManager(storage)
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "ours"})

    run_python(
        """
        import sys
        from contextlib import closing
        from examples.postgres_storage import PostgresStorage
        from pyai_sessions import SessionManager

        with closing(PostgresStorage(sys.argv[1])) as storage:
            manager = SessionManager(storage)
            [session] = manager.get_sessions_for_user("ada")
            session.add_message("assistant", "theirs")
            manager.save(session)
        """,
        postgres_url,
    )

    assert [each.content for each in manager.get_session("s").messages] == ["ours", "theirs"]


def test_many_storages_may_open_at_once(postgres_url):
    """Storages that open at the same time make the tables once."""
    start = Barrier(8, timeout=30)

    def open_and_write(number):
        start.wait()
        with closing(PostgresStorage(postgres_url)) as storage:
            return storage.write([Change(put=[(f"doc/{number}", b"{}")])])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(open_and_write, range(8))) == [[True]] * 8


def test_many_tasks_write_in_few_transactions(storage, sql):
    """Concurrent saves of an event loop's tasks are committed together."""

    async def main():
        async with AsyncSessionManager(storage) as manager:
            before = transactions(sql)
            await asyncio.gather(*[manager.create_session("ada") for _ in range(200)])
            return transactions(sql) - before, await manager.count("ada")

    spent, created = asyncio.run(main())

    assert created == 200
    assert spent < 100


def transactions(sql):
    """Return the number of transactions that have written in this database."""
    return int(sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])


def test_sql_reads_what_is_stored(storage, sql):
    """SQL can query a document as JSON."""
    manager = SessionManager(storage)
    manager.create_session("ada", session_id="s1", metadata={"channel": "web"})
    manager.create_session("ada", session_id="s2", metadata={"channel": "app", "n": 1})

    names = sql("""SELECT key FROM chat_documents
        WHERE key LIKE 'session/%' AND convert_from(document, 'UTF8')::json -> 'metadata' -> 'n' IS NOT NULL""")

    assert names == [(b"session/s2",)]


@pytest.mark.parametrize("refused", [StorageReadOnlyError, StoragePermissionError])
def test_a_server_that_refuses_to_write_has_its_error(storage, postgres_url, refused):
    """A replica, and a role without rights, raise errors that say so."""
    if refused is StoragePermissionError:
        with psycopg.connect(postgres_url) as connection:
            connection.execute("CREATE ROLE reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    setting = "role=reader" if refused is StoragePermissionError else "default_transaction_read_only=on"
    url = f"{postgres_url}?options={quote('-c ' + setting)}"

    with closing(PostgresStorage(url)) as other:
        with pytest.raises(refused):
            other.write([CREATE])

        assert other.read(["doc/a"]) == {}


def test_a_password_is_in_no_error():
    """An error shows the URL without its password."""
    with pytest.raises(StorageUnreachableError) as caught:
        PostgresStorage("postgresql://ada:s3cret@127.0.0.1:1/chat", timeout=1.0)

    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_after_a_restart_of_the_server_one_call_fails_at_the_most():
    """After a restart at most one call fails, and the next one connects again."""
    with PostgresServer() as server, closing(PostgresStorage(server.create_database(), timeout=30.0)) as storage:
        with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
            start = Barrier(4, timeout=30)
            stack.enter_context(storage.exclusive())  # readers need connections of their own
            list(threads.map(lambda _: (start.wait(), storage.count("active"), start.wait()), range(4)))
        server.stop()
        server.start()

        with pytest.raises(StorageUnreachableError):
            storage.write([CREATE])

        assert storage.write([CREATE]) == [True]
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(lambda _: storage.count("active"), range(4))) == [1] * 4


async def write(manager, number, ended):
    """Add messages to one of four sessions, until the server fails or the test ends."""
    for n in count():
        if ended.is_set():
            return
        if number % 2:
            await manager.append(f"s{number % 4}", Message("user", f"{number}-{n}"))
        else:
            session = await manager.get_session(f"s{number % 4}")
            session.add_message("user", f"{number}-{n}")
            await manager.save(session)


async def crash(server, storage, events):
    """Kill the server under sixteen writers and start it again; read all sessions at the end."""
    async with AsyncSessionManager(storage) as manager:
        recorder, ended = Recorder(manager, events.append), asyncio.Event()
        for n in range(4):
            await manager.create_session("ada", session_id=f"s{n}")
        tasks = [asyncio.ensure_future(write(recorder, n, ended)) for n in range(16)]
        while sum(each.what == "returned" for each in events) < 60:
            await manager.get_sessions_for_user("ada")
        server.kill()
        server.start()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # a writer has met the crash
        ended.set()
        outcomes = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if each is not None]
        assert outcomes
        assert all(isinstance(each, StorageUnreachableError) for each in outcomes), outcomes
        for n in range(4):
            await recorder.get_session(f"s{n}")


def test_what_was_acknowledged_survives_a_crash_of_the_server():
    """After a crash under many writers, every acknowledged message is there, in order, once."""
    events = []

    with PostgresServer() as server, closing(PostgresStorage(server.create_database(), timeout=30.0)) as storage:
        asyncio.run(crash(server, storage, events))

    assert find_faults(events) == []
