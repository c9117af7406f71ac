"""Tests that a save removes pages which an interrupted save of the session left."""

import pytest

from pyai_sessions import KVSessionStore, Session, SessionManager
from pyai_sessions.documents.writing import PAGE_MESSAGES
from tests.faults.crashing import CrashingDict, Death


def fill(session, count):
    """Add *count* messages."""
    for n in range(count):
        session.add_message("user", f"message {n}")


def seal_first(session):
    """Fill the first page."""
    fill(session, PAGE_MESSAGES + 1)


def seal_more(session):
    """Fill several further pages at once."""
    fill(session, 3 * PAGE_MESSAGES)


def rewrite_the_middle(session):
    """Remove a message from a page in the middle: the pages after it go."""
    session.remove_message(session.messages[PAGE_MESSAGES + 3].message_id)


def clear(session):
    """Remove all pages."""
    session.clear_messages()


@pytest.mark.parametrize("change", [seal_first, seal_more, rewrite_the_middle, clear])
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
def test_the_next_save_removes_what_a_save_that_was_cut_short_left(change, applied):
    """Whichever write was the last of a dying process, the next save of the session leaves no page over."""
    for write in range(1, 100):
        mapping = CrashingDict({})
        session = Session(session_id="s")
        if change is not seal_first:
            fill(session, 4 * PAGE_MESSAGES)
        KVSessionStore(mapping).save(session)
        change(session)
        mapping.crash(write, Death(), applied=applied)
        try:
            KVSessionStore(mapping).save(session)
        except Death:
            pass
        else:
            assert write > 2  # the change took at least a page and the head
            return
        mapping.recover()
        another = KVSessionStore(CrashingDict(mapping.items_))
        loaded = another.get("s")
        loaded.set_state("seen", value=True)

        another.save(loaded)

        assert SessionManager(another).verify().problems == [], write
        assert another.get("s") == loaded
    pytest.fail("a save took a hundred writes")
