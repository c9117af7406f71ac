"""Tests of lists beside writers: one call gives each session once, and misses none that stays."""

import random
import secrets
import threading
from contextlib import closing
from datetime import timedelta

import pytest

from pyai_sessions import KVSessionStore, RedisSessionStore, Session, SessionManager, SQLiteSessionStore
from pyai_sessions.testing import NOON
from pyai_sessions.testing.samples import ids

COUNT = 350


@pytest.fixture(params=["dict", "sqlite", "valkey"])
def manager(request, tmp_path):
    made = {
        "dict": lambda: KVSessionStore({}, timeout=60),
        "sqlite": lambda: SQLiteSessionStore(tmp_path / "chat.db", synchronous="OFF", timeout=60),
        "valkey": lambda: RedisSessionStore(
            request.getfixturevalue("valkey_server").url, f"{secrets.token_hex(8)}:", 60, timeout=60
        ),
    }[request.param]()
    with closing(made):
        manager = SessionManager(made)
        for days in (0, 400):  # some of them are of the future, as clocks go wrong
            manager.import_sessions(
                Session(f"s{days + n}", "ada", updated_at=NOON + timedelta(days=20 * days, minutes=n))
                for n in range(days, days + COUNT // 2)
            )
        yield manager


@pytest.fixture
def writers(manager):
    """Threads that make sessions active at random."""
    ended = threading.Event()
    names = ids(manager.list_sessions(limit=None))

    def write(seed):
        random_ = random.Random(seed)
        while not ended.is_set():
            manager.append(random_.choice(names), {"role": "user", "content": "words"})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for each in threads:
        each.start()
    yield names
    ended.set()
    for each in threads:
        each.join()


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("user", [{}, {"user_id": "ada"}])
def test_a_whole_list_has_each_session_once(manager, writers, order, user):
    """A whole list gives each session once, in order, while sessions become active."""
    for _ in range(15):
        page = manager.list_sessions(order=order, limit=None, **user)

        assert sorted(ids(page)) == sorted(writers)
        times = [each.updated_at for each in page]
        assert times == sorted(times, reverse=order == "newest")
        assert page.next_cursor is None


@pytest.mark.parametrize("limit", [120, 300])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_no_page_has_a_session_twice(manager, writers, order, limit):
    """No page gives a session twice, also if it needs more than one read."""
    for _ in range(15):
        page = manager.list_sessions(order=order, limit=limit)

        assert len(page) == len(set(ids(page)))
        assert set(ids(page)) <= set(writers)


def test_a_users_sessions_are_listed_once_each(manager, writers):
    """A user's list gives each session once, with its messages."""
    for _ in range(5):
        sessions = manager.get_sessions_for_user("ada")

        assert sorted(ids(sessions)) == sorted(writers)
