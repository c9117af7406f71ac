"""Tests of searches through stores of every kind, compared with a plain search."""

import secrets
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import groupby
from unittest.mock import patch

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    NOBODY,
    Encrypted,
    HitPage,
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    Message,
    RedisSessionStore,
    Session,
    SessionManager,
    SQLiteSessionStore,
)
from pyai_sessions.search import searching
from pyai_sessions.testing.clock import NOON, StoppedClock
from tests.search import oracle
from tests.search.test_queries import GROUPS, TERMS, TEXTS, written
from tests.storage.plain import PlainStorage

KEYS = {"1": b"k" * 32}
STORES = {
    "dict": lambda path, url: KVSessionStore({}),
    "storage": lambda path, url: KVSessionStore(PlainStorage()),
    "sqlite": lambda path, url: SQLiteSessionStore(path / "chat.db", synchronous="OFF"),
    "namespace": lambda path, url: SQLiteSessionStore(path / "chat.db", synchronous="OFF", namespace="acme"),
    "encrypted": lambda path, url: KVSessionStore(Encrypted({}, KEYS)),
    "diskcache": lambda path, url: KVSessionStore(diskcache.Index(str(path / "chat"))),
    "valkey": lambda path, url: RedisSessionStore(url, prefix=f"search:{secrets.token_hex(8)}:"),
}
INDEXED = [
    "sqlite, index",
    "namespace, index",
    "diskcache, index",
    "dict, index in memory",
    "encrypted, index in memory",
    "storage, index in a file",
    "valkey, index in a file",
]


@pytest.fixture(params=[*STORES, *INDEXED])
def store(request, tmp_path):
    """Return a store. Its messages are indexed from the beginning if its name says so."""
    name, _, index = request.param.partition(", ")
    url = request.getfixturevalue("valkey_server").url if name == "valkey" else None
    with closing(STORES[name](tmp_path, url)) as store:
        if index:
            SessionManager(store).build_search_index(tmp_path / "search.db" if index.endswith("file") else None)
        yield store


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def manager(store, clock):
    return SessionManager(store, clock=clock)


def all_pages(manager, query, **options):
    """Return the hits of all pages. Check that all but the last are full."""
    found, cursor = [], None
    while True:
        page = manager.search(query, cursor=cursor, **options)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page) == options["limit"]


def places(hits):
    return [(each.session_id, each.message_id, each.position) for each in hits]


def fill(manager, clock, contents, user_id="ada", session_id=None):
    """Store a session of these texts, by user and assistant in turns, a second apart."""
    session = manager.create_session(user_id, session_id=session_id)
    for n, content in enumerate(contents):
        clock.advance(seconds=1)
        session.add_message(("user", "assistant")[n % 2], content, timestamp=clock())
    manager.save(session)
    return session


# Against a plain search -----------------------------------------------------------------------------------------------

SESSIONS = st.lists(st.lists(TEXTS, max_size=70), max_size=3)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    texts=SESSIONS,
    wanted=st.tuples(GROUPS, st.lists(TERMS, max_size=1)),
    limit=st.sampled_from([1, 2, 7, 100, None]),
)
def test_a_search_finds_what_a_plain_search_finds(manager, clock, texts, wanted, limit):
    """A search finds the same messages in the same order on every storage, by pages of any size."""
    manager.clear_all()
    for each in texts:
        clock.advance(seconds=1)
        fill(manager, clock, each)
    sessions = [manager.get_session(each.session_id) for each in manager.list_sessions()]
    query = written(*wanted)
    expected = oracle.hits(sessions, *wanted)

    assert places(all_pages(manager, query, limit=limit)) == expected


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    texts=SESSIONS,
    terms=GROUPS,
    options=st.tuples(st.sampled_from([1, 2, 7, 100, None]), st.sampled_from([1, 5, 1000]), st.booleans()),
)
def test_the_best_hits_are_those_of_the_newest_then_of_the_next(manager, clock, texts, terms, options):
    """Best hits are ranked by score among so many newest, with one per session or all."""
    limit, together, one = options
    manager.clear_all()
    for each in texts:
        clock.advance(seconds=1)
        fill(manager, clock, each)
    query = written(terms, [])
    newest = manager.search(query, limit=None)

    with patch.object(searching, "_RANKED", together):
        found = all_pages(manager, query, limit=limit, order="best", one_per_session=one)

    assert found == ranked(newest, len(newest) if limit is None else max(limit, together), one=one)
    assert all_pages(manager, query, limit=limit, one_per_session=one) == ranked(newest, 1, one=one)


def ranked(newest, together, *, one):
    """Return hits in the order "best". They are given in the order "newest"."""
    groups = [[*each] for _, each in groupby(newest, lambda each: each.session_id)] if one else [[h] for h in newest]
    found = []
    while groups:
        size = next((n for n in range(len(groups)) if sum(map(len, groups[:n])) >= together), len(groups))
        block, groups = groups[:size], groups[size:]
        found += sorted((max(each, key=score) for each in block), key=score, reverse=True)
    return found


def score(hit):
    return hit.score


def test_a_page_of_the_best_hits_goes_on_beside_writers(manager, clock):
    """Pages of best hits give no hit twice and lose none, while others write."""
    for n in range(4):
        fill(manager, clock, ["night " * (m + 1) for m in range(5)], "ada", f"s{n}")
    with patch.object(searching, "_RANKED", 8):
        before = [each.message_id for each in all_pages(manager, "night", limit=3, order="best")]
        first = manager.search("night", limit=3, order="best")
        clock.advance(seconds=1)
        fill(manager, clock, ["night"] * 5, "ada", "new")
        manager.append("s3", Message("user", "a night again"))
        found, cursor = [*first], first.next_cursor
        while cursor:
            page = manager.search("night", limit=3, order="best", cursor=cursor)
            found, cursor = [*found, *page], page.next_cursor

    assert [each.message_id for each in found if each.message_id in before] == before


# What is looked through -----------------------------------------------------------------------------------------------


def test_a_search_looks_at_the_messages_it_is_asked_for(manager, clock):
    """A search can be limited to a user, session, role, time, metadata, or no user."""
    first = fill(manager, clock, ["night one", "night two", "day"], "ada", "a")
    fill(manager, clock, ["night three"] * 40, "bob", "b")
    fill(manager, clock, ["night four"], None, "n")
    manager.update("b", metadata={"channel": "web"})

    def found(**options):
        return [(each.session_id, each.position) for each in manager.search("night", limit=100, **options)]

    bob = [("b", n) for n in reversed(range(40))]
    assert found() == [("n", 0), *bob, ("a", 1), ("a", 0)]
    assert found(user_id="ada") == [("a", 1), ("a", 0)]
    assert found(user_id=NOBODY) == [("n", 0)]
    assert found(user_id="carol") == []
    assert found(session_id="a") == [("a", 1), ("a", 0)]
    assert found(session_id="a", user_id="bob") == found(session_id="absent") == found(session_id="") == []
    assert found(role="user", user_id="ada") == [("a", 0)]
    assert found(role=["user", "assistant"], user_id="ada") == [("a", 1), ("a", 0)]
    assert found(where={"channel": "web"}) == bob
    start = first.messages[1].timestamp
    assert found(since=start, until=start + timedelta(seconds=1)) == [("a", 1)]
    assert found(until=start) == [("a", 0)]


def test_a_hit_is_never_of_what_is_gone(manager, clock):
    """Deleted, archived, expired, edited, moved or discarded messages are not found."""
    session = fill(manager, clock, ["night one", "night two", *["day"] * 40, "night three"], "ada", "a")
    fill(manager, clock, ["night four"], "ada", "b")

    def found(**options):
        return [(each.session_id, each.position) for each in manager.search("night", **options)]

    assert found() == [("b", 0), ("a", 42), ("a", 1), ("a", 0)]
    manager.archive("b")
    assert found() == [("a", 42), ("a", 1), ("a", 0)]
    assert found(status=None) == [("b", 0), ("a", 42), ("a", 1), ("a", 0)]
    session.replace_message(session.messages[1], content="day")
    session.remove_message(session.messages[0])
    manager.save(session)
    assert found() == [("a", 41)]
    session.user_id = "bob"
    manager.save(session)
    assert found(user_id="ada") == []
    assert found(user_id="bob") == [("a", 41)]
    manager.delete("a")
    assert found() == []


def test_an_expired_session_is_not_found(clock):
    """An expired session is not found, also before it is purged."""
    manager = SessionManager(KVSessionStore({}, ttl=60, clock=clock), clock=clock)
    fill(manager, clock, ["night"])

    assert len(manager.search("night")) == 1
    clock.advance(seconds=61)
    assert len(manager.search("night")) == 0


def test_a_fork_is_found_with_what_it_shares(manager, clock):
    """Messages on shared pages are found in each session that has them."""
    fill(manager, clock, [f"night {n}" for n in range(70)], "ada", "a")
    manager.fork("a", 50, new_id="f")
    manager.delete("a")
    clock.advance(seconds=1)

    assert [each.position for each in manager.search("night", limit=None)] == list(reversed(range(50)))


def test_context_surrounds_a_hit(manager, clock):
    """A hit has so many messages before and after it, across pages."""
    every = fill(manager, clock, [f"text {n}" for n in range(100)], "ada", "a").messages

    for n in (0, 1, 31, 32, 33, 64, 98, 99):
        (hit,) = manager.search(f'"text {n}"', context=2)
        assert list(hit.context) == every[max(0, n - 2) : n + 3]
    assert list(manager.search("text", limit=1)[0].context) == []


def test_texts_of_tools_are_found_when_asked_for(manager, clock):
    """Calls and results are found only if asked for."""
    session = manager.create_session("ada", session_id="a")
    session.add_message(
        "user", [{"type": "text", "text": "weather in Vienna?"}, {"type": "image_url", "url": "Vienna"}]
    )
    session.add_message(
        "assistant", "", tool_calls=[{"function": {"name": "weather", "arguments": '{"city":"Vienna"}'}}]
    )
    session.add_message("tool", "Vienna: rain", tool_call_id="c")
    session.add_message("assistant", [{"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Vienna"}}])
    session.add_message("user", [{"type": "tool_result", "content": [{"type": "text", "text": "Vienna: sun"}]}])
    session.add_message(
        "model", {"parts": [{"functionCall": {"name": "f", "args": {"city": "Vienna"}}}, {"text": "ok"}]}
    )
    session.add_message("model", {"parts": [{"text": "In Vienna it rains."}]})
    manager.save(session)

    def found(**options):
        return sorted(each.position for each in manager.search("vienna", **options))

    assert found() == [0, 6]
    assert found(tools=True) == [0, 1, 2, 3, 4, 5, 6]


def test_messages_that_are_written_with_escapes_are_found():
    """Characters that a document spells as escapes are found."""
    head = (
        '{"format":1,"session_id":"a","messages":[{"role":"user","message_id":"m","timestamp":"2026-01-31T12:00:00Z",'
        '"content":"\\u006eight"}]}'
    )

    assert len(SessionManager(KVSessionStore({"session/a": head})).search("night")) == 1


# Pages, damage, options -----------------------------------------------------------------------------------------------


def test_pages_go_on_beside_writers(manager, clock):
    """A session that moved or was deleted does not make other hits come twice or go missing."""
    for n in range(4):
        fill(manager, clock, ["night"] * 3, "ada", f"s{n}")
    first = manager.search("night", limit=5)
    clock.advance(seconds=1)
    manager.append("s2", Message("user", "night again"))
    manager.delete("s1")

    second = manager.search("night", limit=100, cursor=first.next_cursor)

    assert [(each.session_id, each.position) for each in first] == [
        ("s3", 2),
        ("s3", 1),
        ("s3", 0),
        ("s2", 2),
        ("s2", 1),
    ]
    assert [(each.session_id, each.position) for each in second] == [("s2", 0), ("s0", 2), ("s0", 1), ("s0", 0)]


def test_a_cursor_goes_on_in_one_session_that_is_written_meanwhile(manager, clock):
    """A cursor within one session does not depend on the session's activity."""
    fill(manager, clock, ["night"] * 5, "ada", "a")
    for order in ("newest", "best"):
        first = manager.search("night", session_id="a", limit=2, order=order)
        clock.advance(seconds=1)
        manager.append("a", Message("user", "day"))

        second = manager.search("night", session_id="a", limit=100, order=order, cursor=first.next_cursor)

        assert [each.position for each in [*first, *second]] == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cursor": "x"}, "cursor is no next_cursor of search"),
        ({"cursor": 5}, "cursor is no next_cursor of search"),
        ({"order": "oldest"}, "order is 'oldest'; it is 'newest' or 'best'"),
        ({"limit": -1}, "limit is -1"),
        ({"context": 101}, "context is 101; at most 100"),
        ({"context": None}, "context is None"),
        ({"tools": 1}, "tools is an int; it is True or False"),
        ({"user_id": None}, "user_id is None"),
        ({"session_id": 5}, "session_id is an int"),
        ({"role": 5}, "role is an int"),
        ({"role": [5]}, "role is an int"),
        ({"since": "yesterday"}, "since is text that names no time"),
        ({"status": "gone"}, "status is 'gone'"),
        ({"where": 5}, "where is an int"),
        ({"progress": 5}, "progress is an int"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, problem):
    """Invalid options raise before anything is read."""
    with pytest.raises(InvalidValueError, match=problem):
        SessionManager().search("night", **options)


def test_a_cursor_of_another_order_is_refused(manager, clock):
    """It says where its own order stopped."""
    fill(manager, clock, ["night"] * 5)
    cursor = manager.search("night", limit=2, order="best").next_cursor

    with pytest.raises(InvalidValueError, match="cursor is no next_cursor"):
        manager.search("night", limit=2, cursor=cursor)


def test_a_damaged_session_is_told_of(clock):
    """A search raises at a damaged session, unless asked to skip it."""
    mapping = {}
    manager = SessionManager(KVSessionStore(mapping), clock=clock)
    fill(manager, clock, ["night"] * 40, "ada", "a")
    fill(manager, clock, ["night"], "ada", "b")
    page = next(key for key in mapping if key.startswith("messages/a/"))
    mapping[page] = mapping[page][:50]

    with pytest.raises(InvalidDocumentError):
        manager.search("night", limit=None)
    assert [each.session_id for each in manager.search("night", limit=None, skip_invalid=True)] == ["b"]


def test_a_page_of_hits_is_a_list_and_json(manager, clock):
    """A page of hits can be written as JSON with its cursor. Its repr shows no text."""
    fill(manager, clock, ["night one", "night two"], "ada", "a")
    page = manager.search("night", limit=1, context=1)

    assert page == list(page)
    assert HitPage.from_json(page.to_json()) == page
    assert "two" not in repr(page) + repr(page[0])
    assert page[0].marked("<", ">") == "<night> two"
    assert (page[0].user_id, page[0].title, page[0].role) == ("ada", "night one", "assistant")


# Beside writers -------------------------------------------------------------------------------------------------------


@contextmanager
def interfering(storage, action):
    """Call *action* once before pages are read."""
    read = storage.read
    left = [action]

    def other(keys):
        if left and any(key.startswith("messages/") for key in keys):
            left.pop()()
        return read(keys)

    storage.read = other
    try:
        yield
    finally:
        del storage.read


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_a_session_that_is_rewritten_while_it_is_read(clock, change):
    """A session that is rewritten while it is read is read again."""
    mapping = {}
    manager = SessionManager(KVSessionStore(mapping), clock=clock)
    fill(manager, clock, ["night"] * 100, "ada", "a")
    fill(manager, clock, ["night"], "ada", "b")
    other = SessionManager(KVSessionStore(mapping), clock=clock)

    def act():
        if change == "delete":
            other.delete("a")
            return
        session = other.get_session("a")
        session.replace_message(session.messages[5], content="day")
        other.save(session)

    with interfering(manager.store._engine.backend.storage, act):
        found = [each.position for each in manager.search("night", limit=None, user_id="ada")]

    assert found == [0, *([] if change == "delete" else [n for n in reversed(range(100)) if n != 5])]


@pytest.mark.parametrize("order", ["newest", "best"])
def test_a_search_tells_how_far_it_is_and_ends_where_it_is_told_to(order):
    """A caller sees how many sessions were looked through, and ends a search by an exception."""
    manager, told = SessionManager(), []
    manager.import_sessions(Session(f"s{n}", messages=[Message("user", "night train")]) for n in range(50))

    def stop(number):
        told.append(number)
        if number > 20:
            raise KeyboardInterrupt

    assert len(manager.search("bus", order=order, progress=told.append)) == 0
    assert told == [1, 3, 7, 15, 31, 50]
    told.clear()
    with pytest.raises(KeyboardInterrupt):
        manager.search("bus", order=order, progress=stop)
    assert told == [1, 3, 7, 15, 31]


def test_a_session_as_a_hit_is_a_session(manager, clock):
    """Sessions without messages, or without text, are skipped."""
    manager.save(Session(session_id="empty", created_at=NOON, updated_at=NOON))
    session = manager.create_session("ada", session_id="n")
    session.add_message("assistant", None)
    session.add_message("assistant", 5)
    manager.save(session)

    assert list(manager.search("night")) == list(manager.search(".", mode="substring")) == []
