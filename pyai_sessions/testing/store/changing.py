"""Tests of replacing, removing and popping messages of a session without loading it."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from pyai_sessions import (
    InvalidValueError,
    Message,
    SessionArchivedError,
    SessionConflictError,
    SessionNotFoundError,
    SessionStateError,
)
from pyai_sessions.testing.recording import Event, Recorder, check_events
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import with_revisions


def _texts(*gone: int, count: int = 100) -> list[str]:
    return [f"message {n}" for n in range(count) if n not in gone]


def _stored(manager: Any, count: int = 100) -> Any:
    session = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"b": 2}, title="Trains")
    fill(session, count)
    manager.save(session)
    return session


class Changing(StoreFixtures):
    @pytest.mark.parametrize("at", [0, 1, 40, 95, 99])
    def test_one_message_is_replaced_and_all_else_stays(self, manager: Any, other: Any, at: int) -> None:
        """Replacing fields of one message keeps all others. The call returns what is stored."""
        session = _stored(manager)
        old = session.messages[at]

        made = other.replace_message("s", old.message_id, content=["another"], metadata={"rating": 5})

        assert (made.content, made.metadata) == (["another"], {"rating": 5})
        assert (made.role, made.timestamp, made.message_id) == (old.role, old.timestamp, old.message_id)
        found = manager.get_session("s")
        assert found.messages[at] == made == manager.get_message("s", old.message_id)
        assert [e for e in found.messages if e != made] == [e for e in session.messages if e != old]
        assert (found.metadata, found.state, found.title) == ({"a": 1}, {"b": 2}, "Trains")
        assert self.sound(other)

    def test_a_whole_message_takes_the_place_of_the_one_with_its_id(self, manager: Any, other: Any) -> None:
        """A `Message` replaces the stored one of the same id, with all fields."""
        old = _stored(manager, 3).messages[1]
        new = Message("assistant", {"x": 1}, message_id=old.message_id, name="Eliza", timestamp=old.timestamp)

        assert other.replace_message("s", new) == new == manager.get_message("s", old.message_id)

    def test_a_rating_is_no_activity(self, manager: Any, other: Any, clock: Any) -> None:
        """A rating moves no session in lists. Changed content and removed messages do."""
        old = _stored(manager).messages
        clock.advance(minutes=1)
        manager.create_session("ada", session_id="t")

        def first() -> str:
            return str(other.list_sessions("ada", limit=2)[0].session_id)

        for each in (old[0], old[50], old[99]):
            clock.advance(minutes=1)
            manager.replace_message("s", each, metadata={"rating": 1})
            assert first() == "t"
        session = manager.get_session("s", last=10)
        session.replace_message(old[98], metadata={"rating": 2})
        manager.save(session)
        assert first() == "t"
        manager.replace_message("s", old[50], content="another")
        assert first() == "s"
        clock.advance(minutes=1)
        manager.append("t", {"role": "user", "content": "x"})
        clock.advance(minutes=1)
        manager.remove_message("s", old[50])
        assert first() == "s"

    def test_messages_are_removed_one_by_one(self, manager: Any, other: Any) -> None:
        """Messages can be removed from anywhere until none is left. Each call returns the removed one."""
        session, random = _stored(manager, 70), Random(7)  # noqa: S311 (it draws places, not secrets)
        left = list(session.messages)
        while left:
            each = left.pop(random.randrange(len(left)))
            assert (manager, other)[len(left) % 2].remove_message("s", each.message_id) == each
            if len(left) % 10 == 0:
                assert manager.get_session("s").messages == left
                assert manager.get_session("s", last=3).message_count == len(left)
        assert self.sound(other)

    def test_the_last_message_is_popped(self, manager: Any, other: Any) -> None:
        """`pop_message` removes and returns the newest stored message, whoever added it. An empty session raises."""
        _stored(manager, 40)
        other.append("s", {"role": "user", "content": "message 40"})

        popped = [(manager, other)[n % 2].pop_message("s").content for n in range(41)]

        assert popped == _texts(count=41)[::-1]
        with pytest.raises(SessionStateError, match="has no message"):
            manager.pop_message("s")

    def test_all_messages_are_cleared(self, manager: Any, other: Any) -> None:
        """Clearing the messages keeps metadata, state and title."""
        _stored(manager)

        other.clear_messages("s")

        found = manager.get_session("s")
        assert (found.messages, found.metadata, found.state, found.title) == ([], {"a": 1}, {"b": 2}, "Trains")
        manager.append("s", {"role": "user", "content": "a new beginning"})
        assert contents(other.get_session("s")) == ["a new beginning"]
        assert self.sound(other)

    @pytest.mark.parametrize("to", ["m95", "m40", "m0", "here", 1, 3])
    def test_a_session_that_is_not_in_hand_is_rewound(self, manager: Any, other: Any, to: Any) -> None:
        """Rewinding by id gives the same messages, state and branch as rewinding a loaded session."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, 60)
        session.checkpoint("here")
        session.set_state("n", 2)
        fill(session, 40, 60)
        manager.save(session)
        expected = manager.get_session("s")
        expected.rewind(to)

        left = other.rewind("s", to)

        found = manager.get_session("s")
        assert (found.messages, found.state) == (expected.messages, expected.state)
        assert found.branches == [left]
        assert contents(other.switch("s", left)) == _texts()
        assert other.rewind("s", "m99") is None
        assert self.sound(other)

    def test_forks_and_branches_keep_the_message_as_it_was(self, manager: Any, other: Any) -> None:
        """Forks and branches keep the old message, even if the changed session is deleted."""
        session = _stored(manager)
        session.rewind("m70")
        manager.save(session)
        [branch] = session.branches
        manager.fork("s", "m60", new_id="f")
        for at in (3, 40, 50):
            other.replace_message("s", f"m{at}", content="another")
            other.remove_message("s", f"m{at + 1}")
        assert contents(manager.get_session("f")) == _texts(count=61)
        assert contents(manager.switch("s", branch)) == _texts()
        assert other.get_message("s", "m3").content == "message 3"
        assert self.sound(manager)

        other.replace_message("f", "m5", content="the fork's own")
        assert other.get_message("s", "m5").content == "message 5"
        manager.delete("s")
        assert other.get_session("f").messages[4:7][1].content == "the fork's own"
        assert self.sound(manager)

    def test_changes_and_a_copy_in_hand_merge(self, manager: Any, other: Any) -> None:
        """Changes merge with a loaded copy that changed other messages, and with appends of both."""
        _stored(manager)
        whole, part = manager.get_session("s"), manager.get_session("s", last=10)
        other.replace_message("s", "m3", metadata={"rating": 5})
        other.remove_message("s", "m95")
        other.append("s", {"role": "user", "content": "theirs"})
        whole.replace_message("m50", content="mine")
        whole.add_message("user", "more")
        manager.save(whole)
        part.remove_message("m97")
        part.add_message("user", "and more")
        manager.save(part)

        expected = [*_texts(95, 97), "theirs", "more", "and more"]
        expected[50] = "mine"
        assert contents(other.get_session("s")) == expected
        assert other.get_message("s", "m3").metadata == {"rating": 5}
        assert self.sound(other)

    @with_revisions
    def test_a_copy_in_hand_that_changed_the_same_message_is_refused(self, manager: Any, other: Any) -> None:
        """If both changed the same message, saving the copy raises, and writes nothing."""
        _stored(manager)
        session = manager.get_session("s")
        other.replace_message("s", "m3", content="theirs")
        before = other.get_session("s")
        session.replace_message("m3", content="mine")
        session.add_message("user", "more")

        with pytest.raises(SessionConflictError, match="'m3' changed by two writers"):
            manager.save(session)

        assert other.get_session("s") == before

    def test_what_stays_the_same_is_not_written(self, manager: Any, other: Any) -> None:
        """A change to the same values is not written, so that no copy becomes stale."""
        session = _stored(manager, 40)
        before = other.get_session("s")

        assert manager.replace_message("s", "m3", content="message 3") == session.messages[3]

        assert other.get_session("s").updated_at == before.updated_at
        assert other.get_session("s").revision == before.revision

    def test_what_cannot_be_changed_is_refused(self, manager: Any, other: Any) -> None:
        """Absent sessions and messages, another user's, archived ones and invalid fields raise."""
        _stored(manager, 40)
        calls = [
            lambda id_, **of: manager.replace_message(id_, "m1", content="x", **of),
            lambda id_, **of: manager.remove_message(id_, "m1", **of),
            manager.pop_message,
            manager.clear_messages,
            lambda id_, **of: manager.rewind(id_, "m1", **of),
        ]
        before = other.get_session("s")
        for call in calls:
            with pytest.raises(SessionNotFoundError):
                call("t")
            with pytest.raises(SessionNotFoundError):
                call("s", user_id="bob")
        with pytest.raises(SessionStateError, match="has no message 'm40'"):
            manager.replace_message("s", "m40", content="x")
        with pytest.raises(SessionStateError, match="has no message 'm40'"):
            manager.remove_message("s", "m40")
        with pytest.raises(InvalidValueError, match="m40"):
            manager.rewind("s", "m40")
        for changes in ({"content": {1}}, {"message_id": "x"}, {}):
            with pytest.raises(InvalidValueError):
                manager.replace_message("s", "m1", **changes)
        assert other.get_session("s") == before
        manager.archive("s")
        for call in calls:
            with pytest.raises(SessionArchivedError):
                call("s", user_id="ada")

    @with_revisions
    def test_many_writers_change_different_messages_while_others_append(self, manager: Any, other: Any) -> None:
        """Concurrent changes and appends are all stored once, in an order that all readers agree on."""
        manager.create_session("ada", session_id="s")
        events: list[Event] = []
        recorders = [Recorder(each, events.append) for each in (manager, other)]
        recorders[0].append("s", *[Message("user", f"message {n}", message_id=f"m{n}") for n in range(80)])

        def write(n: int) -> None:
            by = (manager, other)[n % 2]
            for m in range(5):
                by.replace_message("s", f"m{n * 10 + m}", metadata={"rating": n})
                recorders[n % 2].append("s", {"role": "user", "content": f"by {n}, {m}"})

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(6)))

        check_events(other, events)
        found = {each.message_id: dict(each.metadata) for each in other.get_session("s").messages}
        rated = {f"m{n * 10 + m}": {"rating": n} for n in range(6) for m in range(5)}
        assert {key: value for key, value in found.items() if value} == rated
        assert len(found) == 110
        assert self.sound(other)

    @with_revisions
    def test_of_many_that_pop_each_takes_another_message(self, manager: Any, other: Any) -> None:
        """Concurrent `pop` calls return each message to one caller only."""
        _stored(manager, 60)

        def pop(n: int) -> list[str]:
            return [(manager, other)[n % 2].pop_message("s").message_id for _ in range(6)]

        with ThreadPoolExecutor(6) as pool:
            popped = [each for some in pool.map(pop, range(6)) for each in some]

        assert sorted(popped) == sorted(f"m{n}" for n in range(24, 60))
        assert contents(other.get_session("s")) == _texts(count=24)
        assert self.sound(other)

    @with_revisions
    def test_of_two_that_remove_one_message_one_is_told_that_it_is_gone(self, manager: Any, other: Any) -> None:
        """Of two concurrent removals of one message, one succeeds, and the other raises."""
        _stored(manager, 40)

        def remove(n: int) -> int:
            done = 0
            for m in range(40):
                try:
                    (manager, other)[n % 2].remove_message("s", f"m{m}")
                    done += 1
                except SessionStateError:  # noqa: PERF203 (each is counted)
                    pass
            return done

        with ThreadPoolExecutor(3) as pool:
            assert sum(pool.map(remove, range(3))) == 40
        assert other.get_session("s").messages == []
