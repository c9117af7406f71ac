"""The PostgreSQL store of the examples keeps the contract of stores, with all its optional powers."""

from contextlib import closing, suppress

import psycopg
import pytest

from examples.postgres_store import PostgresSessionStore
from pyai_sessions import SessionManager
from pyai_sessions.testing import SessionStoreContract

pytestmark = pytest.mark.wide


@pytest.fixture(scope="module")
def database(postgres_server):
    return postgres_server.create_database()


class TestPostgres(SessionStoreContract):
    must_have = ("list_by_activity", "revisions")

    @pytest.fixture
    def store(self, database, clock):
        with closing(SessionManager(PostgresSessionStore(database, clock=clock), close_store=True)) as manager:
            yield manager.store
            with suppress(psycopg.errors.UndefinedTable), psycopg.connect(database) as connection:
                connection.execute("DELETE FROM chat_sessions")  # unreadable ones, too

    @pytest.fixture
    def reopen(self, database, clock, request):
        def reopen():
            manager = SessionManager(PostgresSessionStore(database, clock=clock), close_store=True)
            request.addfinalizer(manager.close)
            return manager.store

        return reopen

    @pytest.fixture
    def damage(self, database):
        def damage(session_id):
            with psycopg.connect(database) as connection:
                query = 'UPDATE chat_sessions SET body = body || \'{"status": "lost"}\' WHERE session_id = %s'
                assert connection.execute(query, [session_id.encode()]).rowcount == 1

        return damage
