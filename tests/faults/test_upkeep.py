"""Tests of `reindex` and `verify(repair=True)` beside writers: indexes are right at the end, and nothing is lost."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from pyai_sessions import Session
from tests.faults.storages import ALL
from tests.faults.workers import check_indexes

pytestmark = pytest.mark.wide

WRITERS = 4
ROUNDS = 12


def live(manager, writer):
    """Create, change, give away, archive and delete sessions. Return the users of what stays, and what is archived."""
    users, archived = {}, set()
    for n in range(ROUNDS):
        session_id, owner = f"w{writer}-{n}", f"user {n % 3}"
        session = manager.create_session("anyone", session_id=session_id)
        for _ in range(20):
            session.add_message("user", "words " * 80)
        session.user_id = owner
        manager.save(session)
        users[session_id] = owner
        if n % 4 == 1:
            manager.archive(session_id)
            archived.add(session_id)
        if n % 4 == 2:
            manager.delete(session_id)
            del users[session_id]
    return users, archived


@pytest.mark.parametrize("storage", ALL, indirect=True)
@pytest.mark.parametrize("upkeep", ["reindex", "repair"])
def test_upkeep_beside_writers_leaves_both_indexes_right(storage, upkeep):
    """While four threads write, another rebuilds or repairs again and again, beside unchanged sessions."""
    with storage.open() as manager:
        idle = {f"idle{n}": f"user {n % 3}" for n in range(250)}  # more than a batch
        manager.import_sessions(Session(session_id=name, user_id=user) for name, user in idle.items())
        done = Event()

        def mend():
            while not done.is_set():
                if upkeep == "reindex":
                    manager.reindex()
                else:
                    manager.verify(repair=True)

        with ThreadPoolExecutor(WRITERS + 1) as threads:
            mending = threads.submit(mend)
            try:
                lives = list(threads.map(lambda writer: live(manager, writer), range(WRITERS)))
            finally:
                done.set()
            mending.result()

        users = {session_id: user for each, _ in lives for session_id, user in each.items()}
        archived = {session_id for _, each in lives for session_id in each}
        check_indexes(manager, users | idle, archived)
        assert all(manager.get_session(each).message_count == 20 for each in users)
        assert manager.verify().problems == []
