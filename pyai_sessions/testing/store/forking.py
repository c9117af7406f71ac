"""Tests of forks: new sessions that go on from a point of another."""

from typing import Any

import pytest

from pyai_sessions import (
    InvalidValueError,
    Parent,
    Session,
    SessionExistsError,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
)
from pyai_sessions.testing.samples import contents, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures


def told(count: int) -> list[str]:
    """Return the contents of a filled session's first messages."""
    return [f"message {n}" for n in range(count)]


def talk(manager: Any) -> Session:
    """Store a session of 100 messages with a checkpoint at 70, and return it."""
    session: Session = manager.create_session("ada", session_id="parent", metadata={"channel": "web"})
    fill(session, 70)
    session.set_state("step", 1)
    session.checkpoint("booked")
    fill(session, 30, 70)
    session.set_state("step", 2)
    manager.save(session)
    return session


class Forking(StoreFixtures):
    def test_a_fork_goes_on_from_the_end(self, manager: Any, other: Any, clock: Any) -> None:
        """By default, a fork has all stored messages. It names its parent, and its activity is now."""
        parent = talk(manager)
        clock.advance(minutes=1)

        fork = manager.fork("parent", new_id="fork")

        stored = other.get_session("fork")
        assert (fork.session_id, fork.message_count, fork.parent) == ("fork", 100, Parent("parent", 100, "m99"))
        assert contents(stored) == told(100)
        assert (stored.parent, stored.user_id, stored.metadata, stored.state) == (
            fork.parent,
            "ada",
            parent.metadata,
            parent.state,
        )
        assert (stored.created_at, stored.updated_at, stored.checkpoints) == (clock.now, clock.now, parent.checkpoints)
        assert other.get_session("parent") == parent
        assert parent.parent is None
        assert ids(other.get_sessions_for_user("ada")) == ["fork", "parent"]
        assert manager.fork("parent").session_id not in ("fork", "parent")

    def test_a_fork_goes_on_from_any_point(self, manager: Any, other: Any) -> None:
        """A fork may start at a number of messages, a message id, or a checkpoint, with its state."""
        talk(manager)
        points = {0: 0, 1: 1, 32: 32, 33: 33, 64: 64, 99: 99, 100: 100, "m0": 1, "m40": 41, "m99": 100, "booked": 70}
        for at, count in points.items():
            fork = manager.fork("parent", at, last=None)

            stored = other.get_session(fork.session_id)
            assert stored == fork
            assert contents(stored) == told(count)
            assert stored.parent == Parent("parent", count, f"m{count - 1}" if count else None)
            assert stored.state == {"step": 1 if at == "booked" else 2}
            assert [each.name for each in stored.checkpoints] == ["booked"] * (count >= 70)
        assert self.sound(manager)

    def test_neither_hears_of_what_is_said_in_the_other(self, manager: Any, other: Any) -> None:
        """Later messages and changes of a parent and its fork do not affect each other."""
        talk(manager)
        fork = manager.fork("parent", 80, new_id="fork", last=None)
        manager.append("parent", *({"role": "user", "content": f"more {n}"} for n in range(70)))
        fill(fork, 70, 80)
        manager.save(fork)
        assert contents(other.get_session("fork")) == told(150)
        assert contents(other.get_session("parent")) == told(100) + [f"more {n}" for n in range(70)]

        fork.replace_message("m20", content="edited")
        manager.save(fork)
        session = other.get_session("parent")
        session.rewind("booked")
        other.save(session)

        assert contents(other.get_session("parent")) == told(70)
        assert contents(other.get_session("fork")) == [*told(20), "edited", *told(150)[21:]]
        other.append("fork", {"role": "user", "content": "and on"})
        session.clear_messages()
        other.save(session)
        assert contents(manager.get_session("fork")) == [*told(20), "edited", *told(150)[21:], "and on"]
        assert contents(manager.get_session("parent")) == []
        assert self.sound(manager)

    @pytest.mark.parametrize("order", ["abcd", "dcba", "bdac", "cabd"])
    def test_each_of_a_family_outlives_the_others(self, manager: Any, other: Any, order: Any) -> None:
        """Of a session, its fork and the fork's fork, any may be deleted first. The others stay whole."""
        talk(manager)
        names = {"a": "parent", "b": "child", "c": "grandchild", "d": "last"}
        manager.fork("parent", 90, new_id="child")
        manager.append("child", *({"role": "user", "content": f"message {n}"} for n in range(90, 170)))
        manager.fork("child", 160, new_id="grandchild")
        manager.append("grandchild", *({"role": "user", "content": f"message {n}"} for n in range(160, 250)))
        manager.fork("grandchild", new_id="last")
        counts = {"a": 100, "b": 170, "c": 250, "d": 250}
        for n, letter in enumerate(order, start=1):
            assert manager.delete(names[letter])

            assert self.sound(manager)
            for each in order[n:]:
                assert contents(other.get_session(names[each])) == told(counts[each])
        assert self.listed(other, "ada") == []

    def test_an_archived_session_can_be_forked(self, manager: Any, other: Any) -> None:
        """An archived session can be forked, for another user too. The fork is active."""
        talk(manager)
        manager.archive("parent")

        fork = manager.fork("parent", "booked", user_id="bob")

        assert fork.status is SessionStatus.ACTIVE
        assert ids(other.get_sessions_for_user("bob")) == [fork.session_id]
        assert other.get_sessions_for_user("ada") == []
        assert other.get_session("parent").status is SessionStatus.ARCHIVED
        assert contents(other.get_session(fork.session_id)) == told(70)

    def test_what_is_no_point_of_a_session_is_refused(self, manager: Any, other: Any) -> None:
        """A point that the session does not have raises, and nothing is stored."""
        talk(manager)
        for at in (-1, 101, "nothing", 1.5, True, b"m1"):
            with pytest.raises(InvalidValueError, match=r"^at "):
                manager.fork("parent", at)
        with pytest.raises(SessionNotFoundError):
            manager.fork("nobody")
        with pytest.raises(SessionExistsError):
            manager.fork("parent", new_id="parent")
        session = other.get_session("parent")
        session.remove_message("m3")
        other.save(session)
        with pytest.raises(SessionStateError, match="no longer has the history of checkpoint 'booked'"):
            manager.fork("parent", "booked")

        assert other.get_session("parent") == session
        assert ids(other.get_sessions_for_user("ada")) == ["parent"]
        assert self.sound(manager)
