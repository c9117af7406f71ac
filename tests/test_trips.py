"""What each call asks of a storage: trips to a server, statements in a file. They do not grow with anything stored."""

from contextlib import closing

import pytest

from pyai_sessions import KVSessionStore, RedisMapping, SessionManager
from pyai_sessions.backends import connections
from pyai_sessions.backends.sqlite import SQLiteMapping


class Trips:
    """A client of a server that counts its round trips."""

    def __init__(self, client):
        self._client, self.count = client, 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def execute_command(self, *args, **options):
        self.count += 1
        return self._client.execute_command(*args, **options)

    def pipeline(self, **options):
        pipeline = self._client.pipeline(**options)

        def execute(*args, **more):
            self.count += 1
            return type(pipeline).execute(pipeline, *args, **more)

        pipeline.execute = execute
        return pipeline


class Statements:
    """Counts the statements that connections run, those of a transaction's begin and end included."""

    def __init__(self, monkeypatch):
        self.count, self._last = 0, None
        real = connections.Connections._open

        def traced(mine):
            connection = real(mine)
            connection.set_trace_callback(self._seen)
            return connection

        monkeypatch.setattr(connections.Connections, "_open", traced)

    def _seen(self, statement):
        self.count += statement != self._last  # what a trigger does is told by its statement once more
        self._last = statement


def fill(manager, messages):
    """Store two sessions of so many messages and twenty short ones, of one user."""
    for n in range(22):
        session = manager.create_session("ada", session_id=f"s{n}", metadata={"channel": "web"})
        for each in range(messages if n < 2 else 2):
            session.add_message("user", f"message {each} " * 20)
        manager.save(session)


def turn(session):
    session.add_message("user", "one")
    session.add_message("assistant", "two")


ALLOWED = {  # trips, statements
    "get": (1, 1),
    "get the last 60": (2, 2),
    "get none": (1, 1),
    "save": (1, 4),
    "append again": (1, 4),
    "append to another": (2, 5),
    "create": (1, 4),
    "list summaries": (2, 2),
    "list summaries of all": (2, 2),
    "list summaries where": (2, 2),
    "list whole sessions": (3, 3),
    "count": (2, 1),
    "archive": (2, 5),
    "delete": (2, 6),
    "archive 21 that are idle": (3, 46),
}


def spending(manager, counter, messages):
    """Return what each kind of call costs."""
    session = manager.get_session("s0")
    manager.append("s1", {"role": "user", "content": "the first"})

    def save():
        turn(session)
        manager.save(session)

    calls = {
        "get": lambda: manager.get_session("s0"),
        "get the last 60": lambda: manager.get_session("s0", last=60),
        "get none": lambda: manager.get_session("nobody"),
        "save": save,
        "append again": lambda: manager.append("s1", {"role": "user", "content": "x"}),
        "append to another": lambda: manager.append("s5", {"role": "user", "content": "x"}),
        "create": lambda: manager.create_session("ada"),
        "list summaries": lambda: manager.list_sessions("ada", limit=20),
        "list summaries of all": lambda: manager.list_sessions(limit=20),
        "list summaries where": lambda: manager.list_sessions("ada", where={"channel": "web"}),
        "list whole sessions": lambda: manager.get_sessions_for_user("ada", limit=20),
        "count": lambda: manager.count("ada"),
        "archive": lambda: manager.archive("s9"),
        "delete": lambda: manager.delete("s8"),
        "archive 21 that are idle": lambda: manager.archive_inactive(0),
    }
    spent = {}
    for name, call in calls.items():
        counter.count = 0
        call()
        spent[name] = counter.count
    return spent


@pytest.mark.parametrize("messages", [2, 400])
def test_round_trips(valkey_server, messages, request):
    with valkey_server.client() as client:
        trips = Trips(client)
        for _ in range(2):  # at first the server learns the scripts
            manager = SessionManager(KVSessionStore(RedisMapping(trips, prefix=f"trips:{messages}:")))
            fill(manager, messages)
            spent = spending(manager, trips, messages)
            manager.clear_all()
    allowed = {"get the last 60": 1, "list whole sessions": 2} if messages == 2 else {}
    assert spent == {name: trips for name, (trips, _) in ALLOWED.items()} | allowed


@pytest.mark.parametrize("messages", [2, 400])
def test_statements(tmp_path, messages, monkeypatch):
    statements = Statements(monkeypatch)
    with closing(SQLiteMapping(tmp_path / "chat.db")) as mapping:
        manager = SessionManager(KVSessionStore(mapping))
        fill(manager, messages)
        spent = spending(manager, statements, messages)
    allowed = {"get the last 60": 1, "list whole sessions": 2} if messages == 2 else {}
    assert spent == {name: count for name, (_, count) in ALLOWED.items()} | allowed
