"""Tests of the events that a manager reports to ``on_event=`` and logs, without any text of a conversation."""

import asyncio
import logging
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
import redis

from pyai_sessions import (
    AsyncSessionManager,
    Event,
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionConflictError,
    SessionManager,
    SQLiteSessionStore,
    StorageUnreachableError,
)
from pyai_sessions import events as our_events
from pyai_sessions.concurrency import turns
from pyai_sessions.concurrency.turns import Claim, Turn, current_frame
from pyai_sessions.testing import StoppedClock
from tests.contract.stores import AsyncStore, SyncStore
from tests.faults.points import interrupt, stop
from tests.loops import run, settled
from tests.sessions.test_trips import Trips
from tests.test_aio import public, use

DOCS = Path(__file__).parents[1] / "docs"
SECRET = "xyzzy-plugh"
MESSAGE = {"role": "user", "content": SECRET}


@pytest.fixture(autouse=True)
def _no_wait_is_long(monkeypatch):
    """Raise the limit of long waits, since a busy machine may delay any call."""
    monkeypatch.setattr(turns, "WAITED", float("inf"))
    monkeypatch.setattr(our_events, "WAITED", float("inf"))


def in_order(told):
    """Return whether each call starts before its other events, and ends once after them."""
    calls = {}
    for each in told:
        calls.setdefault(each.call, []).append(each)
    return all(
        [each.name for each in its].count("started") == [each.name for each in its].count("ended") == 1
        and (its[0].name, its[-1].name) == ("started", "ended")
        and len({each.method for each in its}) == 1
        for its in calls.values()
    )


def names(told, *left_out):
    return [each.name for each in told if each.name not in left_out]


def noted(told):
    return names(told, "started", "ended")


# Around each call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [SessionManager, AsyncSessionManager])
@pytest.mark.parametrize("store", [dict, SyncStore, AsyncStore, lambda: "sqlite:///:memory:"])
def test_each_method_tells_when_it_starts_and_when_it_has_ended(face, store):
    """Each method of both managers reports one start and one end, whatever the result, on each kind of store."""
    told, clock = [], StoppedClock()

    async def main():
        await use(face(store(), clock=clock, on_event=told.append), clock)

    run(main)

    assert in_order(told)
    methods = {each.method for each in told}
    assert {"create_session", "save", "append", "get_session", "list_sessions", "verify", "delete_user"} <= methods
    outcomes = {each.outcome for each in told if each.name == "ended"}
    assert {"ok", "SessionExistsError", "SessionNotFoundError", "InvalidValueError"} <= outcomes


@pytest.mark.parametrize("face", [SessionManager, AsyncSessionManager])
def test_all_methods_are_told_and_nothing_else_is_replaced(face):
    """Methods of subclasses are reported, too. Without a hook, methods are not wrapped."""

    class Mine(face):
        async def chat(self):
            """Talk."""

    hooked = face(on_event=lambda _: None)

    assert public(face) - {"store", "namespace"} == public(face) & vars(hooked).keys()
    assert not vars(face()).keys() & public(face)
    assert "chat" in vars(Mine(on_event=lambda _: None))
    assert hooked.save.__doc__ == face.save.__doc__


def test_an_event_tells_the_session_the_outcome_the_time_and_what_was_asked():
    """An event has the session's id, also of a session that the call made, the outcome and the time."""
    told = []
    manager = SessionManager(on_event=told.append)
    session = manager.create_session("ada", session_id="s")
    manager.save(session=session)
    manager.get_session(session_id="s")
    manager.list_sessions("ada")
    ended = [each for each in told if each.name == "ended"]

    assert [each.session_id for each in ended] == ["s", "s", "s", None]
    assert [each.outcome for each in ended] == ["ok"] * 4
    assert [each.trips for each in ended[:3]] == [1, 1, 1]
    assert ended[1].bytes_written == ended[2].bytes_read > 100
    assert all(each.seconds >= 0 for each in ended)


@pytest.mark.parametrize("awaited", [False, True])
def test_the_trips_of_a_call_are_those_that_the_server_answers(awaited, valkey_server, tmp_path):
    """An event counts the call's round trips, shared ones included."""
    told = []
    with closing(redis.Redis.from_url(valkey_server.url)) as client:
        counted = Trips(client)
        store = KVSessionStore(RedisMapping(counted, f"{tmp_path.name}:"))
        SessionManager(store).create_session("ada", session_id="t")  # from now on the server has the script
        counted.count = 0
        manager = (AsyncSessionManager if awaited else SessionManager)(store, on_event=told.append)

        async def main():
            for act in (
                partial(manager.create_session, "ada", session_id="s"),
                partial(manager.append, "s", MESSAGE),
                partial(manager.get_session, "s"),
            ):
                await settled(act())

        run(main)

    ended = [each for each in told if each.name == "ended"]
    assert [each.trips for each in ended] == [1, 2, 1]
    assert counted.count == 4
    assert ended[-1].bytes_read > len(SECRET)


# From inside ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooked(tmp_path):
    """Return a manager with a hook, the list of its events, and a second manager of the same file."""
    told = []
    with (
        SessionManager(f"sqlite:///{tmp_path}/chat.db?ttl=60", clock=StoppedClock(), on_event=told.append) as manager,
        SessionManager(f"sqlite:///{tmp_path}/chat.db?ttl=60", clock=manager.store.clock) as other,
    ):
        yield manager, told, other


def stale(manager, other):
    """Return a copy of a session that another writer has saved since."""
    mine = manager.create_session("ada", session_id="s", state={"n": 0})
    theirs = other.get_session("s")
    theirs.set_state("n", 1)
    other.save(theirs)
    return mine


def merge(manager, other):
    mine = stale(manager, other)
    mine.add_message(**MESSAGE)
    manager.save(mine)


def conflict(manager, other):
    mine = stale(manager, other)
    with pytest.raises(SessionConflictError):
        manager.save(mine, on_conflict="error")


def purge(manager, other):
    manager.create_session("ada", session_id="s")
    manager.store.clock.advance(minutes=2)
    manager.purge_expired()


def repair(manager, other):
    manager.create_session("ada", session_id="s")
    with closing(sqlite3.connect(manager.store.mapping.path)) as file, file:
        file.execute("UPDATE sessions SET value = 'damaged'")
    manager.verify(repair=True)


def wait(manager, other):
    """Make every wait a long one, and cause one."""
    session = manager.create_session("ada", session_id="s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "WAITED", -1.0)
        manager.save(session)


@pytest.mark.parametrize(
    ("act", "expected", "method", "session_id"),
    [
        (merge, ["merged"], "save", "s"),
        (conflict, ["conflict"], "save", "s"),
        (purge, ["purged"], "purge_expired", None),
        (repair, ["repaired"], "verify", None),
        (wait, ["waited"], "save", "s"),
    ],
)
def test_what_happens_inside_a_call_is_told_and_logged(  # noqa: PLR0917 (a table)
    hooked, act, expected, method, session_id, caplog
):
    """A merge, conflict, purge, repair or wait is reported once, within its call. The log has the same fields."""
    caplog.set_level(logging.DEBUG, "pyai_sessions")
    manager, told, other = hooked
    act(manager, other)
    inside = [each for each in told if each.name in expected]

    assert noted(told) == expected
    assert in_order(told)
    assert {each.method for each in inside} == {method}
    assert [each.session_id for each in inside] in ([session_id] * len(inside), [None] * len(inside))
    assert [each.event for each in caplog.records] == expected
    assert [each.count for each in caplog.records] == [each.count for each in inside]
    assert all(each.name == "pyai_sessions" for each in caplog.records)
    assert SECRET not in caplog.text


def test_each_try_after_the_first_is_told_and_logged(valkey_server, tmp_path, caplog):
    """Each retry of a save is reported and logged."""
    caplog.set_level(logging.DEBUG, "pyai_sessions")
    told, meddling = [], []
    with closing(RedisSessionStore(valkey_server.url, prefix=f"{tmp_path.name}:")) as store:
        manager, other = SessionManager(store, on_event=told.append), SessionManager(store)
        mine = manager.create_session("ada", session_id="s")
        storage = store._engine.backend.storage
        write = storage.write

        def meddled(changes):
            if len(meddling) < 2:
                meddling.append(other)
                storage.write = write
                other.append("s", MESSAGE)
                storage.write = meddled
            return write(changes)

        storage.write = meddled
        mine.add_message(**MESSAGE)
        manager.save(mine)

        assert manager.get_session("s").message_count == 3
    assert noted(told) == [each.event for each in caplog.records] == ["retried", "merged"]
    assert [each.count for each in told if each.name == "retried"] == [2]
    assert caplog.records[0].getMessage() == "another writer was faster: try 2 of a write (session 's')"


def test_a_storage_that_does_not_answer_is_told_and_logged_once(caplog):
    """A storage that does not answer is reported once, with its address, and logged without a hook, too."""
    told = []
    for on_event in (told.append, None):
        with (
            SessionManager("redis://:hunter2@127.0.0.1:1", on_event=on_event) as manager,
            pytest.raises(StorageUnreachableError),
        ):
            manager.get_or_create_session("s")

    assert noted(told) == ["unreachable"]
    assert [each.getMessage() for each in caplog.records] == ["127.0.0.1:1 did not answer"] * 2


def test_a_thread_that_waited_for_another_says_so_once_nobody_waits_for_it(monkeypatch, caplog):
    """A wait for another thread is reported when no other thread waits for the hook."""
    monkeypatch.setattr(turns, "WAITED", 0.0)
    turn, held, go_on = Turn(), threading.Event(), threading.Event()

    def hold():
        claim = Claim(current_frame())
        turn.take(claim, 60.0, "here")
        held.set()
        while not turn._sleeping:
            pass
        turn.give_back(claim)
        go_on.set()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    mine = Claim(current_frame())
    turn.take(mine, 60.0, "here")
    assert not caplog.records
    turn.give_back(mine)
    thread.join()

    assert [(each.event, each.where) for each in caplog.records] == [("waited", "here")]


# Hooks that misbehave -------------------------------------------------------------------------------------------------


def test_a_hook_that_raises_fails_no_call_and_is_logged_once(caplog):
    """A hook that raises does not make calls fail. It is logged once, and called again."""
    seen = []

    def on_event(event):
        seen.append(event)
        raise RuntimeError

    manager = SessionManager(on_event=on_event)
    manager.create_session("ada", session_id="s")
    manager.append("s", MESSAGE)

    assert manager.get_session("s").message_count == 1
    assert len(seen) == 6
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "on_event= raised" in record.getMessage()


def test_what_a_hook_asks_of_a_manager_is_not_told_to_it():
    """Calls that a hook makes are not reported to it, or it would never end."""
    told = []

    def on_event(event):
        told.append(event)
        manager.count()

    manager = SessionManager(on_event=on_event)
    manager.create_session("ada")

    assert names(told) == ["started", "ended"]


def test_an_exception_from_outside_that_hits_a_hook_is_raised():
    """Ctrl-C inside a hook is raised, and the next call is reported."""
    told, first = [], [KeyboardInterrupt]

    def on_event(event):
        told.append(event)
        if first:
            raise first.pop()

    manager = SessionManager(on_event=on_event)
    with pytest.raises(KeyboardInterrupt):
        manager.create_session("ada")
    manager.create_session("ada")

    assert [each.outcome for each in told if each.name == "ended"] == ["KeyboardInterrupt", "ok"]


@pytest.mark.parametrize("given", [1, "print", asyncio.sleep, {}])
def test_what_cannot_be_a_hook_is_refused(given):
    """An invalid hook raises when the manager is made."""
    for face in (SessionManager, AsyncSessionManager):
        with pytest.raises(InvalidValueError, match=r"^on_event is"):
            face(on_event=given)


# Threads, tasks, interrupts -------------------------------------------------------------------------------------------


def test_calls_of_threads_are_told_apart():
    """Events of one thread's call do not appear in another's."""
    told = []
    manager = SessionManager(on_event=told.append)
    manager.create_session("ada", session_id="s")

    def work(n):
        mine = manager.get_session("s")
        mine.add_message("user", str(n))
        manager.save(mine)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))

    assert in_order(told)
    assert {each.method for each in told if each.name == "merged"} <= {"save"}
    assert Counter(names(told, "merged", "retried")) == {"started": 81, "ended": 81}


@pytest.mark.parametrize("kind", ["SQLite", "Valkey"])
def test_calls_of_tasks_are_told_apart(kind, tmp_path, valkey_server):
    """Events of one task's call do not appear in another's, even if they share round trips."""
    told = []
    store = {
        "SQLite": lambda: SQLiteSessionStore(tmp_path / "chat.db"),
        "Valkey": lambda: RedisSessionStore(valkey_server.url, prefix=f"{tmp_path.name}:"),
    }[kind]

    async def main():
        async with (
            AsyncSessionManager(store(), close_store=True, on_event=told.append) as manager,
            anyio.create_task_group() as tasks,
        ):
            for n in range(40):
                tasks.start_soon(partial(manager.create_session, "ada", session_id=f"{n}", metadata={"n": "n" * n}))

    run(main)

    assert in_order(told)
    made = {each.session_id: each for each in told if each.name == "ended" and each.session_id}
    written = [made[str(n)].bytes_written for n in range(40)]
    assert written == sorted(written)
    assert len(set(written)) > 30
    assert {each.trips for each in made.values()} == {1}


def test_a_call_that_is_cut_off_has_ended_and_the_next_is_told_as_ever():
    """A call that is interrupted anywhere reports its end, and the next call reports only its own events."""
    points = 1
    for at in range(1, 10_000):
        told = []
        manager = SessionManager(on_event=told.append)
        tracer, _ = interrupt(lambda m=manager: m.create_session("ada", session_id="s"), at, stop, only=("/events.py",))
        points = max(points, tracer.points)
        cut = told[:]
        manager.count()

        assert names(told[-2:]) == ["started", "ended"]
        assert {each.method for each in told[-2:]} == {"count"}
        if names(cut) == ["started"]:
            assert tracer.where.endswith((" end", " tell"))  # at the step that reports the end
        if tracer.points < at:
            break
    assert points > 5


# What is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [SessionManager, AsyncSessionManager])
def test_no_event_and_no_log_has_a_word_of_a_conversation(face, caplog):
    """No event and no log record has text, state, metadata or a user id, whatever a method is given or raises."""
    caplog.set_level(logging.DEBUG)
    told = []
    key = f"{SECRET}-user"

    async def main():
        manager = face(KVSessionStore({}), on_event=told.append)
        session = await settled(
            manager.create_session(key, session_id="s", metadata={"a": SECRET}, state={"a": SECRET})
        )
        session.add_message(**MESSAGE)
        await settled(manager.save(session))
        for act in (
            lambda: manager.append("s", MESSAGE),
            lambda: manager.append("s", {**MESSAGE, "unknown": SECRET}),
            lambda: manager.append("s", {**MESSAGE, "metadata": {"x": {SECRET}}}),
            lambda: manager.get_session("s", user_id=SECRET),
            lambda: manager.get_sessions_for_user(key),
            lambda: manager.list_sessions(key, where={"a": SECRET}),
            lambda: manager.redact("s", session.messages[0].message_id, text=SECRET),
            lambda: manager.delete_user(key),
            lambda: manager.import_sessions([Session(key, metadata={"a": SECRET})]),
        ):
            with suppress(Exception):
                await settled(act())

    run(main)

    assert len(told) > 20
    assert SECRET not in repr(told) + caplog.text


def test_the_reference_has_each_event_with_its_level():
    """The reference's table has each event with its log level."""
    page = (DOCS / "reference" / "events.md").read_text("utf-8")

    for name, (level, _) in our_events._LOGGED.items():
        assert f"| `{name}` | {logging.getLevelName(level)} |" in page
    for name in ("started", "ended"):
        assert f"| `{name}` | not logged |" in page
    for name in Event.__dataclass_fields__:
        assert f"`{name}`" in page
