"""Tests of imports, `archive_inactive` and lists beside writers, and after a kill."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from threading import Event

import pytest

from pyai_sessions import Session, SessionArchivedError, SessionExistsError, SessionStatus
from pyai_sessions.testing import NOON
from tests.faults.storages import ALL, SHARED
from tests.faults.workers import DEADLINE, check_indexes, in_a_process, receive

pytestmark = pytest.mark.wide

# Killed in the middle -------------------------------------------------------------------------------------------------

ALIKE = [pytest.param(each, marks=pytest.mark.long) for each in ("sqlitedict", "redis")]
KILLED = ["folder", *(each for each in SHARED if each not in ("sqlitedict", "redis")), *ALIKE]
COUNT = 700  # a few batches
USERS = ["ada", "bob"]


def old_session(n, idle=0):
    """Return session *n* of an import: every seventh has pages, every fifth is archived."""
    at = NOON - timedelta(minutes=n, days=idle)
    session = Session(session_id=f"s{n}", user_id=USERS[n % 2], metadata={"n": n}, created_at=at)
    for m in range(70 if n % 7 == 0 else n % 3):
        session.add_message("user", f"{n}/{m}", message_id=f"m{m}", timestamp=at)
    session.updated_at = at
    if n % 5 == 4:
        session.archive()
    return session


def import_all(link, storage):
    """In a process: import all sessions, telling of each batch."""
    with storage.open() as manager:
        link.send("begun")
        stored = manager.import_sessions(map(old_session, range(COUNT)), progress=link.send)
        link.send(("stored", stored.inserted))


def archive_all(link, storage):
    """In a process: archive all that were idle for a month, telling of each batch."""
    with storage.open() as manager:
        link.send("begun")
        link.send(("stored", manager.archive_inactive(days=30, progress=link.send)))


def kill_and_repeat(storage, act, kills, moment):
    """Kill a process at work *kills* times at random instants, unless it was done before, and look at what it left."""
    for _ in range(kills):
        process, link = in_a_process(act, storage)
        with link:
            receive(link)
            time.sleep(moment.uniform(0, 0.15))  # the instant
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.join()
        with storage.open() as manager:
            yield manager


def finish(storage, act):
    """Let a process do it to the end; return how many sessions it counted."""
    process, link = in_a_process(act, storage)
    with link:
        told = receive(link)
        while not isinstance(told, tuple):
            told = receive(link)
    process.join(DEADLINE)
    assert process.exitcode == 0
    return told[1]


@pytest.mark.parametrize("storage", KILLED, indirect=True)
def test_an_import_that_was_killed_is_repeated_and_complete(storage, long_form):
    """After SIGKILL at random instants, each session is stored whole or not at all. A repetition stores the rest."""
    wanted = {f"s{n}": old_session(n) for n in range(COUNT)}
    there = 0

    for manager in kill_and_repeat(storage, import_all, 30 if long_form else 2, random.Random(2026)):
        before, there = there, manager.count(status=None)
        assert before <= there <= COUNT
        for summary in manager.list_sessions(status=None, limit=None):
            assert manager.get_session(summary.session_id) == wanted[summary.session_id]
        kinds = {each.kind for each in manager.verify().problems}
        assert kinds <= ({"orphan page"} if storage.kind == "folder" else set())

    assert finish(storage, import_all) == COUNT - there
    assert finish(storage, import_all) == 0
    with storage.open() as manager:
        assert manager.verify(repair=True)
        assert manager.verify().problems == []
        check_indexes(
            manager,
            {name: each.user_id for name, each in wanted.items()},
            {name for name, each in wanted.items() if each.status is SessionStatus.ARCHIVED},
        )
        assert {name: manager.get_session(name) for name in wanted} == wanted


@pytest.mark.parametrize("storage", KILLED, indirect=True)
def test_archiving_that_was_killed_is_repeated_and_complete(storage, long_form):
    """After SIGKILL, only statuses have changed. A repetition archives the rest, and no active session."""
    wanted = {f"s{n}": old_session(n, idle=10_000) for n in range(COUNT)}
    users = {name: each.user_id for name, each in wanted.items()}
    already = {name for name, each in wanted.items() if each.status is SessionStatus.ARCHIVED}
    with storage.open() as manager:
        manager.import_sessions(wanted.values())
        for n in range(3):
            manager.create_session("ada", session_id=f"recent{n}")
            users[f"recent{n}"] = "ada"
    there = len(already)

    for manager in kill_and_repeat(storage, archive_all, 30 if long_form else 2, random.Random(2026)):
        before, there = there, manager.count(status=SessionStatus.ARCHIVED)
        assert before <= there <= COUNT
        assert manager.count(status=None) == COUNT + 3
        assert manager.verify().problems == []

    assert finish(storage, archive_all) == COUNT - there
    assert finish(storage, archive_all) == 0
    with storage.open() as manager:
        check_indexes(manager, users, set(wanted))
        for name, session in wanted.items():
            session.archive()
            assert manager.get_session(name) == session


# Beside writers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_an_import_beside_writers_loses_nothing_of_either(storage):
    """If an import and threads create the same ids, the first counts, and each session is stored once."""
    with storage.open() as manager:

        def live(writer):
            taken = 0
            for n in range(60):
                own = manager.create_session("live", session_id=f"w{writer}-{n}")
                own.add_message("user", "x" * 500)
                manager.save(own)
                with suppress(SessionExistsError):  # it is another user's already
                    shared = manager.get_or_create_session(f"s{n * 9 + writer}", "live")
                    manager.append(shared.session_id, {"role": "user", "content": "live"})
                    taken += 1
            return taken

        with ThreadPoolExecutor(4) as threads:
            importing = threads.submit(lambda: manager.import_sessions(map(old_session, range(600))))
            taken = sum(threads.map(live, range(3)))

        assert importing.result().inserted == 600 - taken
        assert manager.count("live") == 180 + taken
        assert manager.count(status=None) == 180 + 600
        for n in range(600):
            session = manager.get_session(f"s{n}")
            if session.user_id == "live":
                assert [each.content for each in session.messages] == ["live"]
            else:
                assert session == old_session(n)
        assert manager.verify().problems == []


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_archiving_beside_writers_archives_no_active_session(storage):
    """A session that became active before its turn stays active. A later writer gets an error. No message is lost."""
    with storage.open() as manager:
        manager.import_sessions(old_session(n, idle=10_000) for n in range(0, 2000, 5))
        names = [f"s{n}" for n in range(0, 2000, 5)]

        def speak(writer):
            spoken = {}
            for name in names[writer::6]:
                text = f"of {writer}"
                with suppress(SessionArchivedError):
                    if writer:
                        manager.append(name, {"role": "user", "content": text})
                    else:
                        session = manager.get_session(name)
                        session.add_message("user", text)
                        manager.save(session)
                    spoken[name] = text
            return spoken

        with ThreadPoolExecutor(4) as threads:
            archiving = threads.submit(manager.archive_inactive)
            spoken = {name: text for each in threads.map(speak, range(3)) for name, text in each.items()}

        assert archiving.result() == len(names) - len(spoken)
        for n, name in zip(range(0, 2000, 5), names, strict=True):
            session, old = manager.get_session(name), old_session(n, idle=10_000)
            assert session.status == ("active" if name in spoken else "archived")
            expected = [each.content for each in old.messages] + ([spoken[name]] if name in spoken else [])
            assert [each.content for each in session.messages] == expected
        check_indexes(manager, {f"s{n}": USERS[n % 2] for n in range(0, 2000, 5)}, set(names) - set(spoken))
        assert manager.verify().problems == []


@pytest.mark.parametrize("storage", ALL, indirect=True)
def test_a_list_of_long_sessions_is_right_beside_a_rewriting_writer(storage):
    """A list returns each session as it was before or after a change, never a mix."""
    with ExitStack() as stack:
        reader = stack.enter_context(storage.open())
        writer = reader if storage.kind == "folder" else stack.enter_context(storage.open())
        for n in range(6):
            writer.create_session("ada", session_id=f"s{n}")
        done = Event()

        def rewrite():
            choose = random.Random(2026)
            try:
                for turn in range(60):
                    session = writer.get_session(f"s{choose.randrange(6)}")
                    session.clear_messages()
                    for n in range(choose.choice([10, 70, 130])):
                        session.add_message("user", [turn, n])
                    session.set_state("turn", [turn, session.message_count])
                    writer.save(session)
            finally:
                done.set()

        with ThreadPoolExecutor(1) as threads:
            rewriting = threads.submit(rewrite)
            lists, last = 0, False
            while not last:
                last = done.is_set()  # once more when it is done
                found = reader.get_sessions_for_user("ada")
                lists += 1
                assert sorted(each.session_id for each in found) == [f"s{n}" for n in range(6)]
                for session in found:
                    turn, count = session.get_state("turn", [None, 0])
                    assert [each.content for each in session.messages] == [[turn, n] for n in range(count)]
            rewriting.result()

        assert lists > 1
        assert reader.verify().problems == []
