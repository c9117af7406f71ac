"""Tests that writers of one session on a server take turns, so that none starves."""

import secrets
from contextlib import closing

import pytest

from pyai_sessions import (
    KVSessionStore,
    RedisMapping,
    RedisSessionStore,
    SessionConflictError,
    SessionManager,
    StorageLockedError,
)
from pyai_sessions.sessions.backend import backend_of
from tests.faults.workers import in_a_process, receive, results

PROCESSES, SAVES = 8, 25


@pytest.fixture
def prefix():
    return f"turns:{secrets.token_hex(8)}:"


@pytest.fixture(params=["server", "cluster"])
def client(request):
    server = request.getfixturevalue("valkey_server" if request.param == "server" else "valkey_cluster")
    with server.client(socket_timeout=30) as client:
        yield client


def save_again_and_again(link, url, prefix):
    """Save one session repeatedly. Send how many messages others stored at most while one save waited."""
    with closing(RedisSessionStore(url, prefix, timeout=60)) as store:
        manager = SessionManager(store)
        session = manager.get_session("s", last=10)
        link.send("ready")
        link.recv()
        passed, done = 0, 0
        while not link.poll():
            session.add_message("user", f"{done}")
            before = session.message_count
            manager.save(session)
            passed = max(passed, session.message_count - before)
            done += 1
            if done == SAVES:
                link.send("done")
        link.send(passed)


def test_no_process_starves(valkey_server, prefix):
    """While one save waits, each other process saves only a few times."""
    with closing(RedisSessionStore(valkey_server.url, prefix)) as store:
        manager = SessionManager(store)
        SessionManager(store).create_session("ada", session_id="s")
        workers = [in_a_process(save_again_and_again, valkey_server.url, prefix) for _ in range(PROCESSES)]
        for _, link in workers:
            assert receive(link) == "ready"
        for _, link in workers:
            link.send("go")
        for _, link in workers:
            assert receive(link) == "done"
        for _, link in workers:
            link.send("enough")
        passed = results(workers)

        assert manager.count() == 1
        assert not manager.verify().problems
    assert max(passed) <= PROCESSES * 60, passed


def opened(client, prefix, timeout=30):
    mapping = RedisMapping(client, prefix)
    return SessionManager(KVSessionStore(mapping, timeout=timeout)), backend_of(mapping, timeout=timeout)


def fields(client, prefix):
    return {each.partition(b"/")[0] for each in client.hkeys(f"{prefix}s")}


def test_who_has_the_turn_is_alone(client, prefix, monkeypatch):
    """Other commits wait until the turn ends, with or without a commit. Each save is stored."""
    monkeypatch.setattr("pyai_sessions.sessions.writers._LEASE", 600)
    manager, _ = opened(client, prefix, timeout=0.1)
    _, another = opened(client, prefix, timeout=2400)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "mine")

    with another.turn("s"):
        for on_conflict in ("merge", "error", "overwrite"):
            with pytest.raises(StorageLockedError):
                manager.save(session, on_conflict=on_conflict)
        with pytest.raises(StorageLockedError):
            manager.append("s", {"role": "user", "content": "x"})
        assert fields(client, prefix) == {b"session", b"turn"}
        assert manager.get_session("s").message_count == 0  # reads do not wait

    assert fields(client, prefix) == {b"session"}
    manager.save(session, on_conflict="error")
    assert manager.get_session("s").message_count == 1
    assert manager.verify().problems == []
    assert manager.delete("s")


def test_a_conflict_is_one_also_in_turn(client, prefix):
    """Taking turns does not hide a conflict."""
    manager, _ = opened(client, prefix)
    session = manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "theirs"})
    session.add_message("user", "mine")

    with pytest.raises(SessionConflictError):
        manager.save(session, on_conflict="error")
    assert manager.delete("s")


def test_a_turn_that_is_not_ended_is_over_after_a_while(client, prefix):
    """If the process that has the turn died, the next writer waits for a part of its timeout."""
    manager, backend = opened(client, prefix)
    session = manager.create_session("ada", session_id="s")
    turns = [backend.turn("s"), backend.turn("s")]
    turns[0].__enter__()

    session.add_message("user", "mine")
    manager.save(session)

    assert fields(client, prefix) == {b"session"}
    with backend.turn("gone"):
        assert not client.exists(f"{prefix}gone")
    turns[1].__enter__()
    assert manager.delete("s")
    assert not client.exists(f"{prefix}s")
    for each in turns:
        each.__exit__(None, None, None)
