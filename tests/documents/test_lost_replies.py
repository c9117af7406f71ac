"""Additions to the state count once, also if the reply to a save is lost."""

import pytest

from pyai_sessions import KVSessionStore, SessionConflictError, SessionManager, StorageError
from pyai_sessions.testing import FaultyMapping
from tests.contract.stores import FullStore


class LosesReplies(FullStore):
    """A custom store whose save can fail after it stored the session."""

    failing = False

    def save(self, session):
        super().save(session)
        if self.failing:
            self.failing = False
            raise OSError("the reply was lost")


def lossy(kind):
    """Return a manager, another on its storage, and a function that loses the reply to the first one's next save."""
    if kind == "custom":
        store = LosesReplies()
        return SessionManager(store), SessionManager(store), lambda: setattr(store, "failing", True)
    mapping = FaultyMapping({})
    other = SessionManager(KVSessionStore(mapping.mapping, shared=True))
    return SessionManager(KVSessionStore(mapping, shared=True)), other, lambda: mapping.fail(OSError, applied=True)


@pytest.mark.parametrize("kind", ["mapping", "custom"])
@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("stale", [False, True])
def test_what_is_added_counts_once_where_a_reply_is_lost(kind, others, more, stale):
    """A save that is repeated after a lost reply adds once, since its message shows that it was stored."""
    manager, other, lose = lossy(kind)
    manager.create_session("ada", session_id="s", state={"n": 0})
    mine = manager.get_session("s")
    if stale:
        add_one(other)
    mine.increment_state("n")
    mine.extend_state("list", ["mine"])
    mine.add_message("user", "mine")
    lose()
    with pytest.raises((StorageError, OSError)):
        manager.save(mine)
    for _ in range(others):
        add_one(other)
    for _ in range(more):
        mine.increment_state("n")
        mine.add_message("user", "more")

    manager.save(mine)

    stored = other.get_session("s")
    assert stored.state["n"] == 1 + others + more + stale
    assert stored.state["list"] == ["mine"]
    assert [each.content for each in stored.messages].count("mine") == 1
    assert stored.message_count == 1 + others + more + stale
    assert manager.get_session("s").state == mine.state


def add_one(manager):
    """Load the session, add 1, and save."""
    session = manager.get_session("s")
    session.increment_state("n")
    session.add_message("user", "another")
    manager.save(session)


@pytest.mark.parametrize("kind", ["mapping", "custom"])
@pytest.mark.parametrize("applied", [True, False])
def test_an_addition_of_which_nothing_is_known_is_not_made_again(kind, applied):
    """Without a message, nothing shows whether an addition was stored. Then the repeated save raises."""
    manager, other, lose = lossy(kind)
    mine = manager.create_session("ada", session_id="s", state={"n": 0})
    mine.increment_state("n")
    if applied:
        lose()
        with pytest.raises((StorageError, OSError)):
            manager.save(mine)
    add_one(other)

    if applied:
        with pytest.raises(SessionConflictError, match="may have what you added"):
            manager.save(mine)
    else:
        manager.save(mine)

    assert other.get_session("s").state == {"n": 2}
