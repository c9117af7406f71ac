"""Workers of the fault tests, in threads and processes."""

import multiprocessing
import random
import secrets
from contextlib import ExitStack, suppress
from functools import partial

import diskcache  # noqa: F401  (in every worker from the start: one may lose the right to read it)
import redis  # noqa: F401
import sqlitedict  # noqa: F401

from pyai_sessions import (
    Message,
    SessionConflictError,
    StateConflictError,
    StorageLockedError,
    StorageUnreachableError,
)
from pyai_sessions.testing import Recorder, check_events, events_from, events_to

# A process of its own forks each worker: quick, and without the threads and connections of the tests.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "tests.faults.test_every_write"])
DEADLINE = 120.0  # seconds that a worker may take; a safety net
USERS = 5


def in_a_process(act, *args):
    """Start ``act(link, *args)`` in a new process. Return the process and our end of its link."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=act, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def receive(link):
    """Return what a worker sent."""
    if not link.poll(DEADLINE):
        msg = f"a worker sent nothing for {DEADLINE} s"
        raise AssertionError(msg)
    try:
        return link.recv()
    except EOFError:
        msg = "a worker ended before it sent anything: the captured output says why"
        raise AssertionError(msg) from None


def results(workers):
    """Return the last message of each worker, after all have ended."""
    found = []
    for process, link in workers:
        with link:
            found.append(receive(link))
        process.join(DEADLINE)
        assert process.exitcode == 0
    return found


# Many writers ---------------------------------------------------------------------------------------------------------


def session_ids(count):
    return [f"s{n}" for n in range(count)]


def user_of(session_id):
    return f"user{int(session_id[1:]) % USERS}"


def plan(writer, ids, turns):
    """Return a writer's turns: the session and the text of each."""
    choose = random.Random(writer)
    return [(choose.choice(ids), [f"{writer}/{n}/0", f"{writer}/{n}/1"]) for n in range(turns)]


def until_stored(act):
    """Repeat a call with the same objects until it succeeds. Return the number of failures."""
    failures = 0
    while True:
        try:
            act()
        except (StorageLockedError, StorageUnreachableError):  # noqa: PERF203
            failures += 1
        else:
            return failures


def read_some(manager, session_id, other_id, n):
    """Read a session in one of several ways."""
    if n % 3 == 0:
        manager.get_session(session_id)
    elif n % 3 == 1:
        manager.get_sessions([session_id, other_id])
    else:
        page = manager.get_messages(session_id, limit=5)
        if page:
            manager.get_messages(session_id, before=page[0], limit=5)
            manager.get_messages(session_id, after=page[len(page) // 2])
            manager.get_message(session_id, page[-1].message_id)


def write_turns(manager, turns, way):
    """Write turns through stale copies or appends, and read sometimes. Return the number of failed calls."""
    copies, failures, first = {}, 0, None

    def load(session_id):
        copies[session_id] = manager.get_session(session_id)

    for n, (session_id, texts) in enumerate(turns):
        first = first or session_id
        messages = [Message("user", text) for text in texts]
        if way == "append":
            act = partial(manager.append, session_id, *messages)
        elif way == "update":
            act = partial(manager.update, session_id, *messages, state={texts[0].partition("/")[0]: texts[1]})
        else:
            if session_id not in copies:
                failures += until_stored(partial(load, session_id))
            for text in texts:
                copies[session_id].add_message("user", text)
            act = partial(manager.save, copies[session_id])
        failures += until_stored(act)
        if n % 4 == 3:
            failures += until_stored(partial(read_some, manager, session_id, first, n // 4))
    return failures


def hammer(link, storage, written, timeout, path):
    """In a process: open the storage, wait for the start, write, and record the calls in a file."""
    (first, *others), way = written
    with ExitStack() as stack:
        opened = []
        until_stored(lambda: opened.append(stack.enter_context(storage.open(timeout=timeout))))
        manager = opened[0]
        until_stored(manager.count)
        link.send("ready")
        link.recv()
        recorder = Recorder(manager, events_to(path))
        write_turns(recorder, [first], way)
        link.send("at work")
        link.send(write_turns(recorder, others, way))


class Hammers:
    """Processes that write at the same time, each with a plan."""

    def __init__(self, storage, folder, plans, *, timeout=30):
        self.paths = [folder / f"calls {secrets.token_hex(8)}" for _ in plans]
        self.started = []
        for written, path in zip(plans, self.paths, strict=True):
            path.touch()
            self.started.append(in_a_process(hammer, storage, written, timeout, path))
        for _, link in self.started:
            assert receive(link) == "ready"
        for _, link in self.started:
            link.send("go")

    def kill(self):
        """Kill the first process during its calls."""
        process, link = self.started.pop(0)
        assert receive(link) == "at work"
        process.kill()
        process.join()
        link.close()

    def events(self):
        """Wait for the living processes, and return the events of all."""
        for _, link in self.started:
            assert receive(link) == "at work"
        results(self.started)
        return [event for path in self.paths for event in events_from(path)]


def check_turns(manager, ids, events):
    """Assert that a correct store could have answered like that, and that both indexes are right."""
    check_events(manager, events)
    check_indexes(manager, {each: user_of(each) for each in ids})
    assert not manager.verify().problems


def check_states(manager, plans):
    """Assert that each writer's key in each session's state has its last value."""
    for turns in plans:
        for session_id, (first, last) in dict(turns).items():
            assert manager.get_session(session_id).state[first.partition("/")[0]] == last


def check_indexes(manager, users, archived=()):
    """Assert that lists and counts hold exactly the sessions of *users*, latest activity first."""
    by_activity = sorted(users, key=lambda each: (manager.get_session(each).active_at, each), reverse=True)
    active = [each for each in by_activity if each not in archived]
    assert [each.session_id for each in manager.list_sessions(limit=None)] == active
    assert [each.session_id for each in manager.list_sessions(status=None, limit=None)] == by_activity
    assert manager.count() == len(active)
    for user in sorted(set(users.values())):
        theirs = [each for each in active if users[each] == user]
        assert [each.session_id for each in manager.get_sessions_for_user(user)] == theirs
        assert manager.count(user) == len(theirs)
        for summary in manager.list_sessions(user, limit=None):
            assert summary.message_count == len(manager.get_session(summary.session_id).messages)


def change_states(link, storage, writer, count):
    """Update a user's state: a key of this writer, and a counter that all writers share."""
    with storage.open() as manager:
        link.send("ready")
        link.recv()
        for n in range(count):
            manager.update_user_state("ada", {"writers": {f"{writer}": n}})
            while True:
                state = manager.user_state("ada")
                with suppress(StateConflictError):
                    manager.update_user_state("ada", {"n": state.get("n", 0) + 1}, if_revision=state.revision)
                    break
        link.send("done")


# One goes back and forth, others write --------------------------------------------------------------------------------


def write_on(link, storage, writer, count):
    """Append and save messages to s0 in turns. Send the ids of the stored ones."""
    with storage.open() as manager:
        link.send("ready")
        link.recv()
        for n in range(count):
            message = Message("user", f"{writer}/{n}", message_id=f"{writer}/{n}")
            if n % 2:
                until_stored(partial(manager.append, "s0", message))
            else:
                until_stored(partial(_add_and_save, manager, message))
        link.send([f"{writer}/{n}" for n in range(count)])


def _add_and_save(manager, message):
    while True:
        session = manager.get_session("s0", last=5)
        session.add_message(message.role, message.content, message_id=message.message_id)
        try:
            manager.save(session)
        except SessionConflictError:
            continue
        return


def travel(link, storage, count):
    """Rewind, edit and switch back. Send the number of conflicts."""
    choose, conflicts = random.Random(0), 0
    with storage.open() as manager:
        link.send("ready")
        link.recv()
        for n in range(count):
            session = manager.get_session("s0")
            try:
                if n % 3 == 2 and session.branches:
                    manager.switch("s0", choose.choice(session.branches))
                    continue
                if n % 3 or len(session.branches) > 20:  # 32 are remembered
                    session.replace_message(choose.choice(session.messages).message_id, content="edited")
                else:
                    session.rewind(min(3, session.message_count))
                    session.add_message("user", f"another way {n}")
                until_stored(partial(manager.save, session))
            except SessionConflictError:
                conflicts += 1
        link.send(conflicts)


def ids_of_all_branches(manager):
    """Return the message ids of s0, with those of its branches."""
    session = manager.get_session("s0")
    found = {each.message_id for each in session.messages}
    for branch in session.branches:
        found |= {each.message_id for each in manager.switch("s0", branch).messages}
    return found
