"""Tests of repeated calls after a failed write to a mapping, when others wrote in between."""

import pytest

from pyai_sessions import KVSessionStore, Message, SessionDeletedError, SessionManager, StorageError
from pyai_sessions.testing import Recorder, check_events
from tests.faults.crashing import CrashingDict, Death

pytestmark = pytest.mark.wide


def fresh(items):
    """Return a manager as another process would have it."""
    return SessionManager(KVSessionStore(CrashingDict(items)))


def append_more(manager, other):
    manager.append("s0", {"role": "user", "content": "between"})


def append_pages(manager, other):
    manager.append("s0", *({"role": "user", "content": f"between {n}"} for n in range(70)))


def append_elsewhere(manager, other):
    other.append("s0", {"role": "user", "content": "theirs"})
    manager.append("s0", {"role": "user", "content": "ours"})


@pytest.mark.parametrize("between", [None, append_more, append_pages, append_elsewhere])
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize(("added", "at"), [(1, 1), (70, 1), (70, 2), (70, 3)])
def test_a_repeated_append_of_many_stores_each_message_once(at, applied, added, between):
    """A repeated append stores each message once, whatever others appended in between."""
    mapping, events = CrashingDict({}), []
    manager = Recorder(SessionManager(KVSessionStore(mapping)), events.append)
    other = Recorder(fresh(mapping.items_), events.append)
    manager.create_session("ada", session_id="s0")
    for n in range(3):
        manager.append("s0", {"role": "user", "content": f"first {n}"})
    messages = [Message("user", f"more {n}") for n in range(added)]

    mapping.crash(at, ConnectionResetError(), applied=applied, once=True)
    with pytest.raises(StorageError):
        manager.append("s0", *messages)
    mapping.recover()
    other.get_session("s0")
    if between:
        between(manager, other)
    manager.append("s0", *messages)
    manager.append("s0", {"role": "user", "content": "last"})

    check_events(other, events)
    assert SessionManager(fresh(mapping.items_)).verify(repair=True)


def test_a_copy_of_a_session_that_a_crashed_delete_removed_is_refused():
    """Saving a copy of a session that a crashed `delete` removed raises."""
    mapping = CrashingDict({})
    manager = SessionManager(KVSessionStore(mapping))
    copy = manager.create_session("ada", session_id="s0")
    copy.add_message("user", "late")
    mapping.crash(1, Death(), applied=True)
    with pytest.raises(Death):
        manager.delete("s0")

    with pytest.raises(SessionDeletedError):
        fresh(mapping.items_).save(copy)
    assert fresh(mapping.items_).get_session("s0") is None
