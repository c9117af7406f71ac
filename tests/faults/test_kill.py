"""Tests of killed writers: each save that returned is stored, and every session is whole."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from pyai_sessions import SessionStatus
from tests.faults.storages import EXAMPLE, SHARED
from tests.faults.workers import check_indexes, in_a_process, receive, session_ids, user_of

IDS = session_ids(4)


def label(text):
    return text.partition(" ")[0]


def content_of(session):
    """Return a session's status, its last turn according to its state, and its messages."""
    if session is None:
        return None
    return session.status.value, session.get_state("turn"), [label(each.content) for each in session.messages]


def one_change(manager, session_id, choose, name):
    """Choose a change of a session. Return the expected content and the function that makes the change."""
    session = manager.get_session(session_id)
    if session is None:
        return ("active", None, []), lambda: manager.create_session(user_of(session_id), session_id=session_id)
    status, turn, labels = content_of(session)
    if status == "archived":
        return ("active", turn, labels), lambda: manager.restore(session_id)
    change = choose.choice(["add"] * 6 + ["append"] * 3 + ["edit"] * 3 + ["pop", "clear", "delete", "archive"])
    if change == "delete":
        return None, lambda: manager.delete(session_id)
    if change == "archive":
        return ("archived", turn, labels), lambda: manager.archive(session_id)
    text = f"{name} " + "x" * choose.randrange(100, 8_000)  # a page is full after a few
    if change == "append":
        added = [{"role": "user", "content": text}] * 2
        return (status, turn, [*labels, name, name]), lambda: manager.append(session_id, *added)
    if change == "edit" and labels:
        at = choose.randrange(len(labels))
        session.replace_message(session.messages[at].message_id, content=text)
        labels[at] = name
    elif change == "pop" and labels:
        session.pop()
        labels.pop()
    elif change == "clear" or len(labels) > 60:
        session.clear_messages()
        labels.clear()
    else:
        session.add_message("user", text)
        session.add_message("assistant", text)
        labels += [name, name]
    session.set_state("turn", name)
    return (status, name, labels), lambda: manager.save(session)


def live(link, storage, life):
    """In a process: report what is stored, then change it until the process is killed, and report each change."""
    choose = random.Random(life)
    with storage.open() as manager:
        sessions = {each: manager.get_session(each) for each in IDS}
        archived = [key for key, each in sessions.items() if each and each.status is SessionStatus.ARCHIVED]
        check_indexes(manager, {key: user_of(key) for key, each in sessions.items() if each}, archived)
        kinds = [each.kind for each in manager.verify().problems]
        if kinds:
            assert manager.verify(repair=True)
            assert not manager.verify().problems
            assert {each: manager.get_session(each) for each in IDS} == sessions, "a repair changed a session"
        link.send(({key: content_of(each) for key, each in sessions.items()}, kinds))
        while True:
            session_id = choose.choice(IDS)
            after, act = one_change(manager, session_id, choose, f"{life}.{choose.getrandbits(32)}")
            link.send(("begun", session_id, after))
            act()
            link.send(("done", session_id, after))


def reports(link):
    """Iterate over what a killed writer had sent."""
    with suppress(EOFError, OSError):
        while True:
            yield link.recv()


@pytest.mark.parametrize("storage", ["folder", *SHARED, EXAMPLE], indirect=True)
def test_a_killed_writer_leaves_every_session_before_or_after_a_save(storage, long_form):
    """After SIGKILL at a random instant, a new process finds what each returned save stored, and no half."""
    kills, moment = (200 if long_form else 8), random.Random(2026)
    stored, begun = dict.fromkeys(IDS), None
    saves = 0

    for life in range(kills + 1):
        process, link = in_a_process(live, storage, life)
        with link:
            found, kinds = receive(link)
            if begun:
                session_id, after = begun
                assert found[session_id] in (stored[session_id], after)
                stored[session_id] = found[session_id]
            assert found == stored
            assert storage.kind == "folder" or not kinds, "an atomic commit leaves nothing to mend"
            assert set(kinds) <= {"orphan page"}

            first = [receive(link) for _ in range(moment.randint(3, 12))]
            time.sleep(moment.uniform(0, 0.01))  # the instant
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            for word, session_id, after in [*first, *reports(link)]:
                saves += word == "done"
                begun = (session_id, after) if word == "begun" else None
                if word == "done":
                    stored[session_id] = after

    assert saves >= kills
