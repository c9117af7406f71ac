"""Tests of the cost of calls: round trips to a server, and statements in a file, independent of what is stored."""

import asyncio
import random
import threading
from contextlib import ExitStack, closing
from functools import partial
from types import SimpleNamespace

import pytest

from pyai_sessions import AsyncSessionManager, Encrypted, KVSessionStore, RedisMapping, SessionManager
from pyai_sessions.errors import StorageClosedError, StorageError, StorageUnreachableError
from pyai_sessions.sessions.trips import Asking, Read, Write, asked_of, sharing
from pyai_sessions.sessions.trips import Trips as SharedTrips
from pyai_sessions.storage.sqlite import connections
from pyai_sessions.storage.sqlite.mapping import SQLiteMapping

DEADLINE = 60.0


class Trips:
    """A client that counts its round trips."""

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
    """Counts the statements of connections, with those that begin and end transactions."""

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
    """Store two sessions of *count* messages and twenty short ones, of one user."""
    for n in range(22):
        session = manager.create_session("ada", session_id=f"s{n}", metadata={"channel": "web"})
        for each in range(messages if n < 2 else 2):
            session.add_message("user", f"message {each} " * 20)
        manager.save(session)


def turn(session):
    session.add_message("user", "one")
    session.add_message("assistant", "two")


WAYS = {"plain": lambda mapping: mapping, "encrypted": lambda mapping: Encrypted(mapping, {"a": bytes(32)})}
ALLOWED = {  # trips, statements
    "get": (1, 1),
    "get the last 60": (2, 2),
    "get the last 60 again": (1, 1),
    "get none": (1, 1),
    "get messages": (2, 2),
    "get messages before": (1, 1),
    "get a message": (3, 3),
    "save": (1, 5),
    "append again": (1, 5),
    "append to another": (2, 6),
    "create": (1, 5),
    "list summaries": (2, 2),
    "list summaries of all": (2, 2),
    "list summaries where": (2, 2),
    "list whole sessions": (3, 3),
    "count": (2, 2),
    "append to a full tail": (1, 6),
    "archive": (2, 8),
    "delete": (2, 6),
    "archive 21 that are idle": (3, 109),
    "fork": (5, 11),
    "fork again": (4, 8),
    "save a fork": (1, 5),
    "append to a fork": (2, 6),
    "delete a fork": (5, 10),
}

WITHOUT_PAGES = {  # where nothing is shared
    "get the last 60": (1, 1),
    "get the last 60 again": (1, 1),
    "get messages": (1, 1),
    "get a message": (1, 1),
    "list whole sessions": (2, 2),
    "fork": (2, 6),
    "fork again": (2, 6),
    "delete a fork": (2, 6),
}


def spending(manager, counter, messages):
    """Return the cost of each kind of call."""
    session = manager.get_session("s0")
    manager.append("s1", {"role": "user", "content": "the first"})
    forks, shown = {}, []

    def save(session):
        turn(session)
        manager.save(session)

    def fork(name):
        forks[name] = manager.fork("s1", new_id=name, last=0)

    calls = {
        "get": lambda: manager.get_session("s0"),
        "get the last 60": lambda: manager.get_session("s0", last=60),
        "get none": lambda: manager.get_session("nobody"),
        "get the last 60 again": lambda: manager.get_session("s0", last=60),
        "save": lambda: save(session),
        "get messages": lambda: shown.extend(manager.get_messages("s0", limit=60)),
        "append again": lambda: manager.append("s1", {"role": "user", "content": "x"}),
        "get messages before": lambda: manager.get_messages("s0", before=shown[0], limit=60),
        "append to another": lambda: manager.append("s5", {"role": "user", "content": "x"}),
        "get a message": lambda: manager.get_message("s0", session.messages[-40:][0].message_id),
        "create": lambda: manager.create_session("ada"),
        "list summaries": lambda: manager.list_sessions("ada", limit=20),
        "list summaries of all": lambda: manager.list_sessions(limit=20),
        "list summaries where": lambda: manager.list_sessions("ada", where={"channel": "web"}),
        "list whole sessions": lambda: manager.get_sessions_for_user("ada", limit=20),
        "count": lambda: manager.count("ada"),
        "append to a full tail": lambda: manager.append("s5", {"role": "user", "content": "x" * 8 * 1024}),
        "archive": lambda: manager.archive("s9"),
        "delete": lambda: manager.delete("s8"),
        "archive 21 that are idle": lambda: manager.archive_inactive(0),
        "fork": lambda: fork("fork"),
        "fork again": lambda: fork("again"),
        "save a fork": lambda: save(forks["fork"]),
        "append to a fork": lambda: manager.append("again", {"role": "user", "content": "x"}),
        "delete a fork": lambda: manager.delete("again"),
    }
    spent = {}
    for name, call in calls.items():
        counter.count = 0
        call()
        spent[name] = counter.count
    return spent


@pytest.mark.parametrize(("messages", "way"), [(2, "plain"), (400, "plain"), (400, "encrypted")])
def test_round_trips(valkey_server, messages, way):
    """On a server, each kind of call takes as many round trips as the table says, for any length and wrapper."""
    with valkey_server.client() as client:
        trips = Trips(client)
        for _ in range(2):  # first send the scripts to the server
            mapping = RedisMapping(trips, prefix=f"trips:{messages}:{way}:")
            manager = SessionManager(KVSessionStore(WAYS[way](mapping)))
            fill(manager, messages)
            spent = spending(manager, trips, messages)
            manager.clear_all()
    allowed = ALLOWED | WITHOUT_PAGES if messages == 2 else ALLOWED
    assert spent == {name: trips for name, (trips, _) in allowed.items()}


@pytest.mark.parametrize("instructed", [False, True])
@pytest.mark.parametrize("forked", [False, True])
def test_the_end_of_a_session_comes_in_one_trip(valkey_server, forked, instructed):
    """A session's end takes one round trip if the last load was like it. Other ends and parents' pages cost another."""
    with valkey_server.client() as client:
        trips = Trips(client)
        prefix = f"end:{forked}:{instructed}:"
        manager = SessionManager(RedisMapping(trips, prefix=prefix))
        other = SessionManager(RedisMapping(client, prefix=prefix))
        session = manager.create_session("ada")
        if instructed:
            session.add_message("system", "be kind")
        for n in range(300):
            session.add_message("user", f"message {n} " * 20)
        manager.save(session)
        if forked:
            session = manager.fork(session.session_id)
            for n in range(100):
                session.add_message("user", f"more {n} " * 20)
            manager.save(session)
        session = other.get_session(session.session_id)

        for last in (0, 1, 20, 33, 90, 1000):
            shared = forked and last > 150
            apart = forked and instructed and last <= 300
            for new, more in ((0, 1), (0, 0), (5, 0), (50, 1), (0, 0), (200, 1), (0, 0)):
                for n in range(new):
                    session.add_message("user", f"new {n} " * 20)
                other.save(session)
                trips.count = 0
                found = manager.get_session(session.session_id, last=last)
                assert list(found.messages) == (session.messages[-last:] if last else [])
                assert (found.history()[:1] == [{"role": "system", "content": "be kind"}]) is instructed
                many = last > 90  # more pages than are remembered
                assert trips.count <= 1 + max(shared + apart, (more or many) * (1 + instructed))


@pytest.mark.parametrize(("messages", "way"), [(2, "plain"), (400, "plain"), (400, "encrypted")])
def test_statements(tmp_path, messages, way, monkeypatch):
    """In a file, each kind of call runs as many statements as the table says, for any length and wrapper."""
    statements = Statements(monkeypatch)
    with closing(SQLiteMapping(tmp_path / "chat.db")) as mapping:
        manager = SessionManager(KVSessionStore(WAYS[way](mapping)))
        fill(manager, messages)
        spent = spending(manager, statements, messages)
    allowed = ALLOWED | WITHOUT_PAGES if messages == 2 else ALLOWED
    assert spent == {name: count for name, (_, count) in allowed.items()}


# Calls that share their trips ----------------------------------------------------------------------------------------


class Backend:
    """A backend whose storage records its calls. Those in `failing` fail."""

    together = 8

    def __init__(self):
        self.storage, self.asked, self.failing = self, [], {}

    def mend(self):
        """Do nothing: an interrupted call leaves nothing open here."""

    def _note(self, what, given):
        self.asked.append((what, list(given)))
        for each in given:
            if each in self.failing:
                raise self.failing[each]
        return {each: f"{each}!" for each in given}

    def read(self, keys):
        return self._note("read", keys)

    def commit_many(self, drafts):
        return list(self._note("commit", drafts).values())

    def commit(self, draft):
        return self.commit_many([draft])[0]


class Caller:
    def __init__(self, backend):
        self._engine = SimpleNamespace(trips=SharedTrips(backend))

    @sharing
    def call(self, name, *, more=None) -> "Asking[str]":
        try:
            found = yield Read([name])
            yield None
            return found, more and (yield Read(more))
        except StorageError as err:
            return err


@pytest.fixture
def backend():
    return Backend()


def test_a_call_alone_asks_one_thing_after_another(backend):
    """A single call makes its requests one after another."""
    assert Caller(backend).call("a", more=["p", "q"]) == ({"a": "a!"}, {"p": "p!", "q": "q!"})
    assert backend.asked == [("read", ["a"]), ("read", ["p", "q"])]


def test_an_error_is_raised_where_the_call_asks(backend):
    """An error of a request is raised inside the call."""
    backend.failing["a"] = StorageError("here", "no")
    assert Caller(backend).call("a") is backend.failing["a"]
    backend.failing["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        Caller(backend).call("a")


def test_what_many_ask_is_asked_together(backend):
    """All reads of many calls take one round trip, each document once, and all writes another."""
    asks = [Write("d"), Read(["a"]), None, Read(["p", "q"]), Read(["b"]), Read(["a", "r"])]

    found = SharedTrips(backend).answers(asks)

    assert backend.asked == [("read", ["a", "p", "q", "b", "r"]), ("commit", ["d"])]
    read = {each: f"{each}!" for each in "apqbr"}
    assert found == ["d!", read, None, read, read, read]


@pytest.mark.parametrize("error", [StorageError("here", "no"), StorageClosedError("here", "no"), KeyboardInterrupt()])
def test_what_fails_takes_no_other_along(backend, error):
    """If one of many requests fails, the others get their answers."""
    backend.failing["b"] = error
    asks = [Write(each) for each in "abc"]
    assert SharedTrips(backend).answers(asks) == ["a!", error, "c!"]
    assert [given for _, given in backend.asked] == [["a", "b", "c"], ["a"], ["b"], ["c"]]


@pytest.mark.parametrize("failing", [{"a": StorageUnreachableError("here", "gone")}, {"b": StorageError("here", "no")}])
def test_once_the_storage_is_gone_nobody_waits_for_it_anew(backend, failing):
    """If the storage cannot be reached, later requests fail at once."""
    gone = StorageUnreachableError("here", "gone")
    backend.failing = {**failing, "c": gone} if "b" in failing else {"a": gone}
    found = SharedTrips(backend).answers([*(Read([each]) for each in "abcd"), Write("e")])
    assert found == ([{"a": "a!"}, failing["b"], gone, gone, gone] if "b" in failing else [gone] * 5)
    assert ("read", ["d"]) not in backend.asked
    assert ("commit", ["e"]) not in backend.asked


def test_a_method_of_the_users_own_shares_nothing(backend):
    """A subclass's own method does not share round trips."""

    class Own(Caller):
        def call(self, name, *, more=None):
            return "own"

    assert asked_of(partial(Caller(backend).call, "a")) is not None
    assert asked_of(partial(Own(backend).call, "a")) is None
    assert asked_of(Caller(backend).call) is None
    assert asked_of(partial(len, "a")) is None


class Waiting(Trips):
    """A client whose first round trip waits until it is released."""

    def __init__(self, client):
        super().__init__(client)
        self.begun, self.go = threading.Event(), threading.Event()

    def execute_command(self, *args, **options):
        if not self.begun.is_set():
            self.begun.set()
            assert self.go.wait(DEADLINE)
        return super().execute_command(*args, **options)


def test_many_tasks_share_their_trips(valkey_server):
    """Tasks that call while one is on its way share a trip for heads, one for pages and one for saves."""

    async def main(client):
        manager = SessionManager(RedisMapping(client, "shared:"))
        fill(manager, 60)
        manager.list_sessions("ada")  # the server has the scripts
        async with AsyncSessionManager(RedisMapping(client, "shared:", allow_eviction=True), threads=1) as manager:

            async def alike(calls):
                client.begun.clear()
                client.go.clear()
                first = asyncio.create_task(manager.get_session("nobody", last=1))
                await asyncio.to_thread(client.begun.wait, DEADLINE)
                tasks = [asyncio.create_task(each) for each in calls]
                await asyncio.sleep(0.01)  # all of them wait
                client.count = 0
                client.go.set()
                await first
                return await asyncio.gather(*tasks), client.count - 1

            names = [f"s{n}" for n in range(20)]
            sessions, read = await alike([manager.get_session(each, last=50) for each in names])
            assert [each.session_id for each in sessions] == names
            for each in sessions:
                turn(each)
            _, saved = await alike([manager.save(each) for each in sessions])
            whole, read_whole = await alike([manager.get_session(each) for each in names])
            assert [each.message_count for each in whole] == [62, 62, *[4] * 18]
            return read, saved, read_whole

    with valkey_server.client() as client:
        waiting = Waiting(client)
        waiting.go.set()
        assert asyncio.run(main(waiting)) == (2, 1, 1)


def test_a_backend_that_answers_too_little_leaves_nobody_waiting(valkey_server, monkeypatch):
    """If a backend answers too little, every waiting task gets an error."""

    async def main(client):
        async with AsyncSessionManager(RedisMapping(client, "short:"), threads=1) as manager:
            sessions = [await manager.create_session("ada") for _ in range(5)]
            monkeypatch.setattr(SharedTrips, "answers", lambda *_: {}["answers"])
            saves = [manager.save(each) for each in sessions]
            return await asyncio.wait_for(asyncio.gather(*saves, return_exceptions=True), DEADLINE)

    with valkey_server.client() as client:
        assert {type(each) for each in asyncio.run(main(client))} == {KeyError}


def test_messages_in_the_middle_of_a_long_session_cost_a_few_trips(valkey_server):
    """A new process finds messages in the middle in a few trips: one more for ten times as many messages."""
    with valkey_server.client() as client:
        trips = Trips(client)
        spent = []
        for count in (2_000, 20_000):
            mapping = RedisMapping(trips, prefix=f"middle:{count}:")
            session = SessionManager(mapping).create_session("ada", session_id="s")
            for n in range(count):
                session.add_message("user", f"message {n}")
            SessionManager(mapping).save(session)
            trips.count = 0
            for place in (count // 2, 40, count - 100, count // 3):
                found = SessionManager(mapping).get_messages("s", before=session.messages[place])
                assert list(found) == session.messages[max(0, place - 50) : place]
            spent.append(trips.count / 4)
    assert spent[0] <= 5
    assert spent[1] <= 6


@pytest.mark.parametrize("chosen", [False, True], ids=["drawn ids", "ids of one's own"])
@pytest.mark.parametrize("kind", ["a dict", "SQLite", "Valkey"])
def test_messages_in_the_middle_cost_the_pages_that_hold_them(kind, chosen, tmp_path, valkey_server):
    """A process reads a few extra pages for the first message of a session, and hardly any later."""
    with ExitStack() as stack:
        if kind == "Valkey":
            mapping = RedisMapping(stack.enter_context(valkey_server.client()), prefix=f"cost:{chosen}:")
        else:
            mapping = {} if kind == "a dict" else stack.enter_context(closing(SQLiteMapping(tmp_path / "chat.db")))
        ended = []
        manager = SessionManager(mapping, on_event=lambda each: each.name == "ended" and ended.append(each))
        session = manager.create_session("ada", session_id="s")
        for n in range(20_000):
            session.add_message("user", f"message {n}", **({"message_id": f"m{n}"} if chosen else {}))
        manager.save(session)
        page = len(mapping[next(key for key in mapping if key.startswith("messages/s/"))])
        ended.clear()
        for place in random.Random(1).sample(range(100, 20_000), 60):
            found = manager.get_messages("s", before=session.messages[place])
            assert list(found) == session.messages[place - 50 : place]

    pages = [each.bytes_read / page for each in ended]
    assert pages[0] < (650 if chosen else 32)
    assert sum(pages[-20:]) / 20 < 8
    assert sum(each.trips for each in ended[-20:]) / 20 <= 5
