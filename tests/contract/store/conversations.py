"""Conversations of any length, and their rewritten history."""

import pytest

from tests.contract.store.base import StoreFixtures, contents, fill


class Conversations(StoreFixtures):
    # Long conversations ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 500])
    def test_a_conversation_of_any_length_is_read_as_it_was_saved(self, manager, other, count):
        """One page, many pages, and the lengths at which a page is full."""
        session = manager.create_session("ada")
        fill(session, count)
        manager.save(session)

        stored = other.get_session(session.session_id)

        assert stored == session
        assert contents(stored) == [f"message {n}" for n in range(count)]
        assert manager.list_sessions()[0].message_count == count

    def test_a_conversation_saved_turn_by_turn_is_whole(self, manager, other, raw):
        """Each save adds its turn; no document grows with the conversation, and none is left over."""
        session = manager.create_session("ada")
        for n in range(0, 250, 2):
            fill(session, 2, n)
            manager.save(session)
            if n % 50 == 0:
                session = manager.get_session(session.session_id)

        assert contents(other.get_session(session.session_id)) == [f"message {n}" for n in range(250)]
        assert max(len(raw[key]) for key in self.ours(raw)) < 16_000
        assert other.verify()

    def test_big_messages_are_kept_whole(self, manager, other):
        """A message of a megabyte, among small ones."""
        session = manager.create_session("ada")
        fill(session, 3)
        session.add_message("tool", "h\u00e9llo \U0001f600 " * 100_000)
        fill(session, 3, 3)
        for _ in range(5):
            session.add_message("tool", "x" * 40_000)
        manager.save(session)

        assert other.get_session(session.session_id) == session

    @pytest.mark.parametrize("count", [0, 5, 33, 100])
    @pytest.mark.parametrize("last", [0, 1, 5, 33, 64, 1000])
    def test_last_loads_the_newest_messages_alone(self, manager, count, last):
        """`last` gives so many of the newest, or all there are; the count is that of the conversation."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, count)
        manager.save(session)

        part = manager.get_session("s", last=last)

        assert contents(part) == [f"message {n}" for n in range(max(0, count - last), count)]
        assert part.message_count == count
        assert part.state == {"n": 1}

    @pytest.mark.parametrize("last", [0, 3, 40])
    def test_a_part_that_was_loaded_can_be_continued(self, manager, other, last):
        """Saving it keeps the messages that were not loaded, and `load_history` loads them."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)

        part = manager.get_session("s", last=last)
        fill(part, 70, 100)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(170)]
        manager.load_history(part)
        assert contents(part) == [f"message {n}" for n in range(170)]
        assert part == other.get_session("s")

    def test_a_part_that_went_stale_is_merged(self, manager, other):
        """So is a part that another writer went on from meanwhile."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)
        part = manager.get_session("s", last=5)
        theirs = other.get_session("s")
        fill(theirs, 50, 100)
        other.save(theirs)

        fill(part, 50, 150)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(200)]

    # Rewritten history -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [3, 40, 100])
    @pytest.mark.parametrize("at", [0, 0.5, 1])
    @pytest.mark.parametrize("act", ["remove", "replace"])
    def test_a_rewritten_message_is_read_as_it_was_rewritten(self, manager, other, count, at, act):
        """In the first page, between, in the tail; and no page of the former history is left."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        n = round(at * (count - 1))
        if act == "remove":
            session.remove_message(f"m{n}")
        else:
            session.replace_message(f"m{n}", content="another", metadata={"edited": True})
        manager.save(session)

        stored = other.get_session("s")

        assert stored == session
        assert stored.message_count == count - (act == "remove")
        assert other.verify()

    @pytest.mark.parametrize("count", [1, 33, 100])
    @pytest.mark.parametrize("popped", [1, 20, 70])
    def test_popped_messages_are_gone(self, manager, other, count, popped):
        """`pop` takes back the newest, across pages, and the conversation goes on from there."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        left = max(0, count - popped)
        for n in range(count - 1, left - 1, -1):
            assert session.pop().content == f"message {n}"
        manager.save(session)
        assert contents(other.get_session("s")) == [f"message {n}" for n in range(left)]

        fill(session, 40, 1000)
        manager.save(session)

        assert contents(other.get_session("s")) == [f"message {n}" for n in [*range(left), *range(1000, 1040)]]
        assert other.verify()

    @pytest.mark.parametrize("at", [0, 10, 70])
    def test_rewinding_returns_to_the_checkpoint(self, manager, other, at):
        """Messages and state are what they were, after a save and a load in between."""
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
        assert other.verify()

    def test_a_cleared_conversation_is_empty_and_goes_on(self, manager, other, raw):
        """State and metadata stay, pages go."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, 100)
        manager.save(session)
        session.clear_messages()
        manager.save(session)
        assert contents(other.get_session("s")) == []
        assert self.ours(raw) == ["session/s"]

        fill(session, 40)
        manager.save(session)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(40)]
        assert other.get_session("s").state == {"n": 1}
