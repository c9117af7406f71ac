"""Tests that methods for all sessions hold only a batch of them in memory."""

import tracemalloc
from contextlib import closing

import pytest

from pyai_sessions import Session, SessionManager, SQLiteSessionStore
from pyai_sessions.documents.keys import encode_id
from pyai_sessions.testing import NOON

pytestmark = pytest.mark.long

REMEMBERED = 256 * 1024
"""Bytes: the dict of the ids that are remembered, which Python makes anew at times."""


def idle_sessions(count):
    """Yield sessions of five users. Every hundredth has pages."""
    for n in range(count):
        session = Session(session_id=f"s{n}", user_id=f"user {n % 5}", created_at=NOON, updated_at=NOON)
        for _ in range(40 if n % 100 == 0 else 1):
            session.add_message("user", "words " * 10)
        session.updated_at = NOON  # a list that finds what moves meanwhile remembers those active in the last minute
        yield session


def read_all_pages(manager, **options):
    cursor, found = None, 0
    while True:
        page = manager.list_sessions(cursor=cursor, **options)
        found += len(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


def peaks(path, count):
    """Return the peak memory of each method in bytes, beyond what was used before."""
    found = {}
    with closing(SQLiteSessionStore(path, synchronous="OFF")) as store:
        manager = SessionManager(store)
        for name, expected, act in (
            ("import_sessions", count, lambda: manager.import_sessions(idle_sessions(count)).inserted),
            ("import_sessions again", 0, lambda: manager.import_sessions(idle_sessions(count)).inserted),
            ("list_sessions", count, lambda: read_all_pages(manager, limit=100)),
            ("list_sessions where", 0, lambda: read_all_pages(manager, where={"rare": True}, limit=1)),
            ("list_sessions where, whole", 0, lambda: len(manager.list_sessions(where={"rare": True}))),
            ("count where", 0, lambda: manager.count(where={"rare": True})),
            ("reindex", count, manager.reindex),
            ("verify", count, lambda: manager.verify().sessions),
            ("archive_inactive", count, lambda: manager.archive_inactive(days=0)),
        ):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert act() == expected
            _, peak = tracemalloc.get_traced_memory()
            found[name] = peak - before
    return found


@pytest.fixture
def traced():
    tracemalloc.start()
    for n in range(encode_id.cache_info().maxsize):  # begin with what is remembered of ids at its bound
        encode_id(f"before {n}")
    yield
    tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path, traced, long_form):
    """With ten times as many sessions, import, lists, upkeep and archiving need no more memory."""
    count = 2000 if long_form else 500
    few, many = peaks(tmp_path / "few.db", count), peaks(tmp_path / "many.db", 10 * count)

    assert {name: (few[name], many[name]) for name in few if many[name] > 2 * few[name] + REMEMBERED} == {}
