"""The example of a store of one's own, on a real PostgreSQL server: examples/postgres_store.py."""

import asyncio
import json
from datetime import datetime, timedelta, timezone
from itertools import count

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.postgres_store import PostgresSessionStore, dumps, loads
from pyai_sessions import (
    AsyncSessionManager,
    Message,
    Session,
    SessionArchivedError,
    SessionConflictError,
    SessionNotFoundError,
    SessionStatus,
)
from pyai_sessions.testing import NOON, Recorder, StoppedClock, find_faults
from tests.samples import CALLS, PARTS
from tests.servers import PostgresServer

pytestmark = pytest.mark.wide

HOSTILE = [
    "a",
    "\0",
    "a\0",
    "\ud800",
    "\udfff b",
    "\x1a",
    "\x1a0000",
    "\x1af1e5",
    "\\u0000",
    "%00",
    "%s",
    "'; DROP TABLE chat_sessions; --",
    "\\x61",
    "\n",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "\U0001f600",
    "\uffff",
    "x" * 1024,
    "\U0001f600" * 256,
]
NUMBERS = [0, -1, 2**53 + 1, -(2**64), 10**4000, 0.0, -0.0, 1.0, 100.0, 0.1, 1e16, 1e22, 1e23, 1.7976931348623157e308]
NUMBERS += [5e-324, 1e-7, 123456789.123456789, True, False, None]


@pytest.fixture
def run(postgres_url):
    """Run an async function of a store, on a database of its own, to its end."""

    def run(work, **options):
        async def opened():
            store = PostgresSessionStore(postgres_url, **options)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(opened())

    return run


@pytest.fixture
def sql(postgres_url):
    """Execute a statement in the test's database and return its rows."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield lambda statement: connection.execute(statement).fetchall()


def session_with(count, **fields):
    """Return a new session of so many messages."""
    session = Session(**{"session_id": "s", "user_id": "ada", "created_at": NOON, "updated_at": NOON} | fields)
    for n in range(count):
        session.add_message("user", f"text {n}", message_id=f"m{n}")
    return session


def exact(value):
    """Return what tells 1 from 1.0 and from True, and -0.0 from 0.0."""
    return json.dumps(value, sort_keys=True)


def test_everything_comes_back(run):
    """Fields of all kinds, checkpoints, tool calls and fields of later releases are what they were."""
    session = session_with(2, metadata={"title": "Tea", "tags": ["a", None]}, state={"n": {"deep": [[{}]]}})
    session.checkpoint("here")
    session.add_message("assistant", PARTS, tool_calls=CALLS, metadata={"k": 1}, name="bot", tool_call_id="call_0")
    values = session.to_dict()
    values["later"] = {"release": 2}
    values["messages"][0]["later"] = [1]
    session = Session.from_dict(values)

    async def work(store):
        await store.save(session)
        return await store.get("s")

    stored = run(work)

    assert stored.revision == session.revision is not None
    assert exact(stored.to_dict()) == exact(values | {"revision": stored.revision})
    assert stored == session


def test_texts_and_numbers_come_back_exactly(run):
    """What JSONB cannot hold comes back too, wherever it stands: keys, values, messages."""
    texts = {text: text for text in HOSTILE}
    session = session_with(0, user_id="\0", metadata=texts, state={"numbers": NUMBERS})
    for text in HOSTILE:
        session.add_message(text, text, metadata=texts, name=text)
    session.add_message("tool", NUMBERS, tool_calls=[NUMBERS])

    async def work(store):
        await store.save(session)
        return await store.get("s")

    assert exact(run(work).to_dict()) == exact(session.to_dict())


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=[]) | st.sampled_from("\0\x1a\ud800\udc000f")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=[])), inner),
    )
)
def test_escaping_is_undone_by_reading(value):
    """No value is changed on its way to JSONB's text and back."""
    assert exact(loads(dumps(value).encode())) == exact(value)


TICK = timedelta(microseconds=1)
EARLIEST = datetime.min.replace(tzinfo=timezone.utc)
LATEST = datetime.max.replace(tzinfo=timezone.utc)


@pytest.mark.parametrize("time", [EARLIEST, LATEST, NOON + timedelta(microseconds=999_999)], ids=str)
def test_times_come_back_to_the_microsecond(run, time):
    """Any time that Python knows can be the last activity, and an append after it too."""

    async def work(store):
        await store.save(Session(session_id="s", user_id="ada", created_at=time, updated_at=time))
        first = await store.get("s")
        await store.append("s", [Message("user", "Hello!")])
        return first, await store.get("s")

    first, second = run(work, clock=lambda: time)

    assert (first.created_at, first.updated_at) == (time, time)
    assert second.updated_at == min(time, LATEST - TICK) + TICK


def test_hostile_ids_name_what_they_should(run):
    """Each id of sessions, users and messages stands for itself alone, and they sort as text does in Python."""

    async def work(store):
        for text in HOSTILE:
            session = Session(session_id=text, user_id=text, updated_at=NOON)
            await store.save(session)
            await store.append(text, [Message("user", each, message_id=each) for each in HOSTILE])
        for text in HOSTILE:
            [listed] = await store.list_for_user(text)
            assert listed.session_id == listed.user_id == text
            assert [each.message_id for each in listed.messages] == HOSTILE
            assert await store.count(text, None) == 1
        return [each.session_id for each in await store.list_by_activity((NOON, "a"), 100)]

    listed = run(work, clock=lambda: NOON - timedelta(days=1))

    assert sorted(listed) == listed == sorted(HOSTILE)


def test_of_two_writers_the_later_is_refused(run):
    """A copy that was loaded before another writer saved raises, says both revisions, and changes nothing."""

    async def work(store):
        await store.save(session_with(1))
        mine, theirs = await store.get("s"), await store.get("s")
        theirs.add_message("user", "theirs")
        await store.save(theirs)
        mine.add_message("user", "mine")
        with pytest.raises(SessionConflictError) as caught:
            await store.save(mine)
        return mine, theirs, caught.value, await store.get("s")

    mine, theirs, error, stored = run(work)

    assert (error.base_revision, error.stored_revision) == (mine.revision, theirs.revision)
    assert mine.revision != theirs.revision
    assert stored == theirs


def test_a_taken_id_is_a_conflict(run):
    """A new session does not replace one that is stored."""

    async def work(store):
        await store.save(session_with(1))
        with pytest.raises(SessionConflictError):
            await store.save(session_with(0))
        return await store.get("s")

    assert run(work).message_count == 1


@pytest.mark.parametrize("anew", [False, True])
def test_a_deleted_session_is_not_brought_back(run, anew):
    """A copy of a deleted session is refused, also where another was created under its id."""

    async def work(store):
        await store.save(session_with(1))
        copy = await store.get("s")
        await store.delete("s")
        if anew:
            await store.save(session_with(0))
        with pytest.raises(SessionConflictError):
            await store.save(copy)
        return await store.get("s")

    stored = run(work)

    assert (stored is None) is not anew
    assert not anew or stored.message_count == 0


def test_of_many_who_save_at_once_one_is_stored(run):
    """Sixteen new sessions of one id at once, then sixteen copies: one of each is stored, the others raise."""

    async def work(store):
        news = [session_with(n) for n in range(16)]
        first = await asyncio.gather(*map(store.save, news), return_exceptions=True)
        copies = [await store.get("s") for _ in range(16)]
        for n, each in enumerate(copies):
            each.set_state("writer", n)
        second = await asyncio.gather(*map(store.save, copies), return_exceptions=True)
        return news, first, copies, second, await store.get("s")

    news, first, copies, second, stored = run(work)

    for outcome in (first, second):
        assert sorted(type(each).__name__ for each in outcome) == ["NoneType"] + ["SessionConflictError"] * 15
    assert stored.message_count == news[first.index(None)].message_count
    assert stored.state == {"writer": second.index(None)} == copies[second.index(None)].state


def test_a_session_may_change_while_it_is_saved(run):
    """A message that is added while a save waits for the server is not taken to be stored: the next save stores it."""

    async def work(store):
        session = session_with(1)
        saving = asyncio.ensure_future(store.save(session))
        await asyncio.sleep(0)
        session.add_message("user", "meanwhile", message_id="meanwhile")
        await saving
        await store.save(session)
        return await store.get("s")

    assert [each.message_id for each in run(work).messages] == ["m0", "meanwhile"]


def test_a_rewritten_history_is_stored(run):
    """Replaced, removed and popped messages, and all of them, by copies that were loaded and that others made."""

    async def work(store):
        session = session_with(5)
        await store.save(session)
        session.replace_message("m1", content=1.0)
        session.remove_message("m3")
        await store.save(session)
        first = await store.get("s")
        made = Session.from_dict(first.to_dict())
        made.revision = first.revision
        made.replace_message("m1", content=1)
        made.add_message("user", "more", message_id="m5")
        await store.save(made)
        second = await store.get("s")
        session = await store.get("s")
        session.clear_messages()
        await store.save(session)
        return first, second, await store.get("s")

    first, second, third = run(work)

    assert [each.message_id for each in first.messages] == ["m0", "m1", "m2", "m4"]
    assert exact(first.messages[1].content) == "1.0"
    assert [each.message_id for each in second.messages] == ["m0", "m1", "m2", "m4", "m5"]
    assert exact(second.messages[1].content) == "1"
    assert list(third.messages) == []


def test_many_appends_at_once_lose_nothing(run):
    """Sixteen writers that append to one session, each its own messages in order and one that all share."""

    events = []

    async def work(store):
        manager = Recorder(AsyncSessionManager(store), events.append)
        await manager.create_session("ada", session_id="s")

        async def write(writer):
            for n in range(10):
                both = [Message("user", each, message_id=each) for each in (f"{writer}-{n}", "shared")]
                await manager.append("s", *both)

        await asyncio.gather(*map(write, range(16)))
        await manager.get_session("s")

    run(work)

    assert find_faults(events) == []


def test_an_append_may_be_repeated(run):
    """What is stored already is not stored again, in the same call neither, and changes no revision."""
    messages = [Message("user", text, message_id=text) for text in "abc"]

    async def work(store):
        await store.save(session_with(0))
        await store.append("s", [*messages, messages[0]])
        first = await store.get("s")
        await store.append("s", messages)
        await store.append("s", [])
        return first, await store.get("s")

    first, second = run(work)

    assert list(second.messages) == messages
    assert first.revision == second.revision


def test_an_append_makes_a_copy_in_hand_stale(run):
    """Who loaded the session before is told so when they save."""

    async def work(store):
        session = session_with(1)
        await store.save(session)
        await store.append("s", [Message("user", "more")])
        with pytest.raises(SessionConflictError):
            await store.save(session)

    run(work)


def test_an_append_is_activity(run):
    """It moves the session to the top, by the store's clock, and never back."""
    clock = StoppedClock()

    async def work(store):
        await store.save(session_with(0, updated_at=NOON))
        times = []
        for days in (1, -5):
            clock.pass_(days=days)
            await store.append("s", [Message("user", "more")])
            times.append((await store.get("s")).updated_at)
        return times

    assert run(work, clock=clock) == [NOON + timedelta(days=1), NOON + timedelta(days=1, microseconds=1)]


def test_appends_are_refused_where_no_active_session_is(run):
    """An absent session and an archived one each have their error."""

    async def work(store):
        await store.save(session_with(1, status=SessionStatus.ARCHIVED))
        with pytest.raises(SessionArchivedError):
            await store.append("s", [Message("user", "more")])
        with pytest.raises(SessionNotFoundError):
            await store.append("gone", [Message("user", "more")])
        return await store.get("s")

    assert run(work).message_count == 1


def test_a_user_s_sessions_are_listed_latest_first(run):
    """The order is that of activity, then of ids, backwards; archived ones are among them, others' are not."""

    async def work(store):
        for name, minute, user in [("b", 1, "ada"), ("c", 2, "ada"), ("a", 1, "ada"), ("d", 3, "bob"), ("e", 3, None)]:
            status = SessionStatus.ARCHIVED if name == "c" else SessionStatus.ACTIVE
            time = NOON + timedelta(minutes=minute)
            await store.save(Session(session_id=name, user_id=user, status=status, updated_at=time))
        return [each.session_id for each in await store.list_for_user("ada")]

    assert run(work) == ["c", "b", "a"]


def test_a_session_that_changes_its_user_changes_the_list(run):
    """It stands in the list of its present user alone."""

    async def work(store):
        session = session_with(1)
        await store.save(session)
        session.user_id = "bob"
        await store.save(session)
        return [len(await store.list_for_user(user)) for user in ("ada", "bob")]

    assert run(work) == [0, 1]


def test_all_sessions_are_walked_by_activity(run):
    """Pages of any size give each session of all users once, idle longest first."""

    async def work(store):
        for n in range(7):
            time = NOON + timedelta(minutes=n // 3)
            await store.save(Session(session_id=f"s{n}", user_id="ada" if n % 2 else None, updated_at=time))
        walks = []
        for limit in (1, 2, 100):
            walk, after = [], None
            while page := await store.list_by_activity(after, limit):
                assert len(page) <= limit
                walk += page
                after = (page[-1].updated_at, page[-1].session_id)
            walks.append([each.session_id for each in walk])
        return walks

    assert run(work) == [[f"s{n}" for n in range(7)]] * 3


def test_sessions_are_counted(run):
    """By user, by status, by both or by none."""

    async def work(store):
        for n in range(6):
            status = SessionStatus.ARCHIVED if n < 2 else SessionStatus.ACTIVE
            await store.save(Session(session_id=f"s{n}", user_id=["ada", "bob", None][n % 3], status=status))
        wanted = [
            (None, None),
            ("ada", None),
            (None, SessionStatus.ARCHIVED),
            ("bob", SessionStatus.ACTIVE),
            ("x", None),
        ]
        return [await store.count(*each) for each in wanted]

    assert run(work) == [6, 2, 2, 1, 0]


def test_clearing_deletes_all(run, sql):
    """It tells how many sessions there were, and leaves no message behind."""

    async def work(store):
        for n in range(3):
            await store.save(session_with(2, session_id=f"s{n}"))
        return await store.clear(), await store.clear(), await store.count(None, None)

    assert run(work) == (3, 0, 0)
    assert sql("SELECT count(*) FROM chat_messages") == [(0,)]


def test_deleting_what_is_not_there_does_nothing(run):
    """Nor is an absent session an error of `get`."""

    async def work(store):
        await store.delete("gone")
        return await store.get("gone")

    assert run(work) is None


@pytest.mark.parametrize("how", ["save", "append", "save a copy that others made"])
def test_a_turn_writes_as_much_in_a_long_conversation(run, sql, monkeypatch, how):
    """A turn is as many statements at 1,000 messages as at 10, and writes the rows of its two messages alone."""
    statements = []
    execute = psycopg.AsyncConnection.execute

    async def counted(self, query, *args, **options):
        if any(
            each in query for each in ("INSERT", "UPDATE", "DELETE", "SELECT body", "SELECT revision", "SELECT number")
        ):
            statements.append(query)  # not those by which the pool prepares a connection of its own
        return await execute(self, query, *args, **options)

    async def work(store):
        costs = []
        for size in (10, 1000):
            name = f"s{size}"
            await store.save(session_with(size, session_id=name))
            session = await store.get(name)
            if how == "save a copy that others made":
                revision, session = session.revision, Session.from_dict(session.to_dict())
                session.revision = revision
            before = set(sql("SELECT session, position, ctid::text, xmin::text FROM chat_messages"))
            new = [session.add_message(role, "text") for role in ("user", "assistant")]
            with monkeypatch.context() as patch:
                patch.setattr(psycopg.AsyncConnection, "execute", counted)
                statements.clear()
                await (store.append(name, new) if how == "append" else store.save(session))
            after = set(sql("SELECT session, position, ctid::text, xmin::text FROM chat_messages"))
            assert before < after, "no stored row was written again"
            costs.append((len(statements), len(after - before)))
            assert (await store.get(name)).message_count == size + 2
        return costs

    short, long = run(work)

    assert short == long
    assert long[1] == 2


def test_a_load_is_one_statement(run, monkeypatch):
    """A session and a list of sessions are read in one statement each, and so at one moment."""
    statements = []
    execute = psycopg.AsyncConnection.execute

    async def counted(self, query, *args, **options):
        statements.append(query)
        return await execute(self, query, *args, **options)

    async def work(store):
        for n in range(3):
            await store.save(session_with(5, session_id=f"s{n}"))
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
        counts = []
        for call in (store.get("s1"), store.list_for_user("ada"), store.list_by_activity(None, 10)):
            statements.clear()
            await call
            counts.append(sum("FROM chat_sessions" in each for each in statements))  # not those of the pool
        return counts

    assert run(work) == [1, 1, 1]


def test_sql_can_query_what_is_stored(run, sql):
    """The documents are JSONB: fields are columns of a query, whatever other sessions hold."""

    async def work(store):
        await store.save(session_with(2, session_id="s1", metadata={"channel": "web"}))
        await store.save(session_with(1, session_id="s2", metadata={"channel": "\0\ud800", "n": 1e23}))

    run(work)

    assert sql("SELECT body ->> 'content' FROM chat_messages ORDER BY session, position") == [
        ("text 0",),
        ("text 1",),
        ("text 0",),
    ]
    found = sql("""SELECT session_id FROM chat_sessions WHERE body -> 'metadata' @> '{"channel": "web"}'""")
    assert found == [(b"s1",)]


def test_many_stores_may_start_at_once(postgres_url):
    """The tables are made once, whoever comes first."""

    async def one(n):
        store = PostgresSessionStore(postgres_url)
        try:
            await store.save(Session(session_id=f"s{n}"))
        finally:
            await store.close()

    async def work():
        await asyncio.gather(*map(one, range(8)))

    asyncio.run(work())

    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM chat_sessions").fetchone() == (8,)


def test_a_closed_store_may_be_used_again(postgres_url):
    """Closing twice does nothing, and the next call opens connections in the loop that then runs."""
    store = PostgresSessionStore(postgres_url)

    async def work(name):
        await store.save(Session(session_id=name, user_id="ada"))
        found = await store.list_for_user("ada")
        await store.close()
        await store.close()
        return len(found)

    assert [asyncio.run(work("a")), asyncio.run(work("b"))] == [1, 2]


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


async def crash(server, url, events):
    """Kill the server under sixteen writers and start it again; read all sessions at the end."""
    async with AsyncSessionManager(PostgresSessionStore(url), close_store=True) as manager:
        recorder, ended = Recorder(manager, events.append), asyncio.Event()
        for n in range(4):
            await manager.create_session("ada", session_id=f"s{n}")
        tasks = [asyncio.ensure_future(write(recorder, n, ended)) for n in range(16)]
        for _ in range(20):
            await manager.get_sessions_for_user("ada")
        server.kill()
        server.start()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # a writer has met the crash
        ended.set()
        outcomes = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if each is not None]
        assert outcomes
        assert all(isinstance(each, psycopg.OperationalError) for each in outcomes)
        for n in range(4):
            await recorder.get_session(f"s{n}")


def test_what_was_acknowledged_survives_a_crash_of_the_server():
    """The server is killed under many writers: every message that a call returned for is there, in order, once."""
    events = []

    with PostgresServer() as server:
        asyncio.run(crash(server, server.create_database(), events))

    assert sum(each.what == "returned" for each in events) > 50
    assert find_faults(events) == []
