"""Tests of forks beside other writers: no page is lost, and none is left when all sessions are deleted."""

import random
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import pytest

from pyai_sessions import (
    RedisSessionStore,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SessionStateError,
)
from tests.faults.storages import ALL, SHARED
from tests.faults.workers import in_a_process, receive, results

pytestmark = pytest.mark.wide

REFUSALS = (SessionConflictError, SessionDeletedError, SessionExistsError, SessionNotFoundError)


class Interrupted:
    """A client that runs other code before one of its round trips."""

    def __init__(self, client, at, act):
        self._client, self._at, self._act = client, at, act
        self.trips = 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def execute_command(self, *args, **options):
        self._trip()
        return self._client.execute_command(*args, **options)

    def pipeline(self, **options):
        pipeline = self._client.pipeline(**options)

        def execute(*args, **more):
            self._trip()
            return type(pipeline).execute(pipeline, *args, **more)

        pipeline.execute = execute
        return pipeline

    def _trip(self):
        self.trips += 1
        if self.trips == self._at:
            self._act()


def say(session, how_many):
    for _ in range(how_many):
        session.add_message("user", f"{session.message_count} " + "x" * 500)


def check(manager):
    """Assert that every session can be read whole, with each message in its place."""
    for summary in manager.list_sessions(limit=None):
        session = manager.get_session(summary.session_id)
        assert session.message_count == summary.message_count
        assert [each.content.partition(" ")[0] for each in session.messages if each.content[0].isdecimal()] == [
            str(n) for n, each in enumerate(session.messages) if each.content[0].isdecimal()
        ]


def prepare(manager):
    """Store a session, a fork of it and a fork of that, each with pages of its own, and a fork of a deleted one."""
    parent = manager.create_session("ada", session_id="parent")
    say(parent, 40)
    manager.save(parent)
    for before, name in (("parent", "child"), ("child", "grandchild"), ("parent", "orphan")):
        fork = manager.fork(before, new_id=name, last=None)
        say(fork, 20)
        manager.save(fork)
        if before == "child":
            manager.delete("child")
            manager.fork("grandchild", 50, new_id="child")
            fork.rewind(fork.messages[70].message_id)
            manager.save(fork)


def edit(name, at):
    def act(manager):
        session = manager.get_session(name)
        if session is not None:
            session.replace_message(session.messages[at].message_id, content="edited")
            manager.save(session)

    return act


def leave_a_branch(name, at):
    def act(manager):
        session = manager.get_session(name)
        if session is not None:
            session.prune()  # what `prepare` left
            session.rewind(session.messages[at].message_id)
            manager.save(session)

    return act


def switch(name):
    def act(manager):
        session = manager.get_session(name)
        if session is not None and session.branches:
            with suppress(SessionStateError):  # another has left it, or pruned it
                manager.switch(name, session.branches[0])

    return act


ACTS = {
    "fork": lambda manager: manager.fork("parent", new_id=secrets.token_hex(4)),
    "fork at a page": lambda manager: manager.fork("parent", 20, new_id=secrets.token_hex(4)),
    "fork a fork": lambda manager: manager.fork("grandchild", new_id=secrets.token_hex(4)),
    "delete": lambda manager: manager.delete("parent"),
    "delete a fork": lambda manager: manager.delete("grandchild"),
    "delete another": lambda manager: manager.delete("child"),
    "edit": edit("parent", 2),
    "edit a fork": edit("grandchild", 2),
    "leave a branch": leave_a_branch("grandchild", 45),
    "switch": switch("grandchild"),
}


@pytest.fixture
def client(valkey_server):
    with valkey_server.client() as client:
        yield client


def opened(client, prefix):
    return SessionManager(RedisSessionStore(client=client, prefix=prefix, timeout=2))


def check_nothing_is_left(manager, client, prefix):
    for each in manager.list_sessions(limit=None):
        manager.delete(each.session_id)
    assert list(client.scan_iter(prefix + "*", count=10_000)) == []


def pairs():
    """Return each act beside each other one; half of them, in which each has its turn, are tried in the short form."""
    return [
        pytest.param(ACTS[act], ACTS[other], id=f"{act}-{other}", marks=pytest.mark.long if (n + m) % 2 else ())
        for n, act in enumerate(ACTS)
        for m, other in enumerate(ACTS)
    ]


@pytest.mark.parametrize(("act", "other"), pairs())
def test_between_any_two_steps_another_may_do_anything(client, act, other):
    """On a server, a fork, a deletion or a rewrite takes several steps. Others may act between any two."""
    for at in count(1):
        prefix = f"forks:{secrets.token_hex(8)}:"
        manager = opened(client, prefix)
        prepare(manager)

        def meanwhile(manager=manager):
            with suppress(*REFUSALS):
                other(manager)

        interrupted = Interrupted(client, at, meanwhile)
        with suppress(*REFUSALS):
            act(opened(interrupted, prefix))

        check(manager)
        assert manager.verify().problems == []
        check_nothing_is_left(manager, client, prefix)
        if interrupted.trips < at:
            break


# Many at once ---------------------------------------------------------------------------------------------------------


def live(manager, seed, rounds=15):
    """Fork, talk, rewrite and delete at random, among sessions that others do the same with."""
    choose = random.Random(seed)
    names = [f"s{n}" for n in range(4)]
    for _ in range(rounds):
        name, other = choose.choice(names), choose.choice(names)
        with suppress(*REFUSALS):
            act = choose.randrange(6)
            if act < 2:
                manager.fork(name, new_id=other)
            elif act == 2:
                manager.delete(name)
            elif act == 3:
                session = manager.create_session("ada", session_id=name)
                say(session, 40)
                manager.save(session, on_conflict="error")
            elif (session := manager.get_session(name)) is not None:
                if act == 4 or session.message_count < 3:
                    say(session, 15)
                else:
                    session.replace_message(session.messages[choose.randrange(3)].message_id, content="edited")
                manager.save(session, on_conflict="error")


def live_in_a_process(link, storage, seed):
    with storage.open() as manager:
        link.send("ready")
        link.recv()
        live(manager, seed)
        link.send("done")


def check_all(storage):
    with storage.open() as manager:
        check(manager)
        assert manager.verify().problems == []
        for each in manager.list_sessions(limit=None):
            manager.delete(each.session_id)
        left = [key for key in manager.store.mapping if key.startswith(("session/", "messages/", "forks/"))]
        assert left == []


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_threads_that_fork_and_delete_leave_no_page(storage):
    """Threads that fork and delete the same few ids lose and leave no page."""
    with storage.open() as manager, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda seed: live(manager, seed), range(4)))

    check_all(storage)


@pytest.mark.parametrize("storage", SHARED, indirect=True)
def test_processes_that_fork_and_delete_leave_no_page(storage):
    """Processes that fork and delete the same few ids lose and leave no page."""
    workers = [in_a_process(live_in_a_process, storage, seed) for seed in range(3)]
    for _, link in workers:
        assert receive(link) == "ready"
    for _, link in workers:
        link.send("go")
    assert results(workers) == ["done"] * 3

    check_all(storage)
