"""Tests of conversations of any length, and of rewriting their history."""

from typing import Any

import pytest

from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures


class Conversations(StoreFixtures):
    # Long conversations ----------------------------------------------------------------------------------------------

    def test_a_conversation_of_any_length_is_read_as_it_was_saved(self, manager: Any, other: Any) -> None:
        """Conversations around each page limit, and of many pages, are read as saved."""
        counts = {f"s{count}": count for count in (1, 31, 32, 33, 64, 65, 500)}
        for session_id, count in counts.items():
            session = manager.create_session("ada", session_id=session_id)
            fill(session, count)
            manager.save(session)

            stored = other.get_session(session_id)

            assert stored == session
            assert contents(stored) == [f"message {n}" for n in range(count)]
        assert {each.session_id: each.message_count for each in self.listed(manager, "ada")} == counts

    def test_big_messages_are_kept_whole(self, manager: Any, other: Any) -> None:
        """Messages of a megabyte among small ones are read as saved."""
        session = manager.create_session("ada")
        fill(session, 3)
        session.add_message("tool", "h\u00e9llo \U0001f600 " * 100_000)
        fill(session, 3, 3)
        for _ in range(5):
            session.add_message("tool", "x" * 40_000)
        manager.save(session)

        assert other.get_session(session.session_id) == session

    # Rewritten history -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [3, 40, 100])
    @pytest.mark.parametrize("act", ["remove", "replace"])
    def test_a_rewritten_message_is_read_as_it_was_rewritten(
        self, manager: Any, other: Any, count: Any, act: Any
    ) -> None:
        """A message can be replaced on any page. No page of the old history is left."""
        for n in (0, count // 2, count - 1):
            session = manager.create_session("ada", session_id=f"s{n}")
            fill(session, count)
            manager.save(session)
            if act == "remove":
                session.remove_message(f"m{n}")
            else:
                session.replace_message(f"m{n}", content="another", metadata={"edited": True})
            manager.save(session)

            stored = other.get_session(f"s{n}")

            assert stored == session
            assert stored.message_count == count - (act == "remove")
        assert self.sound(other)

    @pytest.mark.parametrize("count", [1, 33, 100])
    def test_popped_messages_are_gone(self, manager: Any, other: Any, count: Any) -> None:
        """`pop` removes the newest messages, across pages. The conversation goes on from there."""
        for popped in (1, 20, 70):
            session = manager.create_session("ada", session_id=f"s{popped}")
            fill(session, count)
            manager.save(session)
            left = max(0, count - popped)
            for n in range(count - 1, left - 1, -1):
                assert session.pop().content == f"message {n}"
            manager.save(session)
            assert contents(other.get_session(f"s{popped}")) == [f"message {n}" for n in range(left)]

            fill(session, 40, 1000)
            manager.save(session)

            found = contents(other.get_session(f"s{popped}"))
            assert found == [f"message {n}" for n in [*range(left), *range(1000, 1040)]]
        assert self.sound(other)

    @pytest.mark.parametrize("at", [0, 10, 70])
    def test_rewinding_returns_to_the_checkpoint(self, manager: Any, other: Any, at: Any) -> None:
        """Rewinding to a checkpoint brings its messages and state back, also after a save and a load."""
        session = manager.create_session("ada", session_id="s", state={"step": 1})
        fill(session, at)
        session.checkpoint("before")
        manager.save(session)
        session.set_state("step", 2)
        fill(session, 60, at)
        manager.save(session)

        loaded = other.get_session("s")
        loaded.rewind("before")
        other.save(loaded)

        stored = manager.get_session("s")
        assert stored == loaded
        assert contents(stored) == [f"message {n}" for n in range(at)]
        assert stored.state == {"step": 1}
        assert self.sound(other)

    def test_a_conversation_goes_on_turn_by_turn(self, manager: Any, other: Any) -> None:
        """Each save adds a turn, whether the session was kept in memory or loaded again."""
        session = manager.create_session("ada", session_id="s")
        for n in range(0, 40, 2):
            fill(session, 2, n)
            manager.save(session)
            if n % 10 == 0:
                session = other.get_session("s")

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(40)]

    def test_a_cleared_conversation_goes_on(self, manager: Any, other: Any) -> None:
        """Clearing the messages keeps state and metadata."""
        session = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"n": 1})
        fill(session, 40)
        manager.save(session)
        session.clear_messages()
        manager.save(session)
        assert contents(other.get_session("s")) == []

        fill(session, 3)
        manager.save(session)

        stored = other.get_session("s")
        assert contents(stored) == ["message 0", "message 1", "message 2"]
        assert (stored.metadata, stored.state) == ({"a": 1}, {"n": 1})

    @pytest.mark.parametrize("last", [0, 5, 1000])
    def test_last_loads_the_newest_messages_at_least(self, manager: Any, last: Any) -> None:
        """`last=n` loads at least the newest *n* messages. A store that cannot load a part returns all."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)

        part = manager.get_session("s", last=last)

        assert [f"message {n}" for n in range(40)][40 - min(last, 40) :] == contents(part)[
            max(0, len(part.messages) - last) :
        ]
        assert part.message_count == 40
        manager.load_history(part)
        assert part == session
