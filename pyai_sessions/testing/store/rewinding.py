"""Tests of rewinding, switching between branches, inserting messages, and summaries."""

from typing import Any

import pytest

from pyai_sessions import SessionArchivedError, SessionConflictError, SessionNotFoundError, SessionStateError
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures


def _texts(*counts: range) -> list[str]:
    return [f"message {n}" for count in counts for n in count]


class Rewinding(StoreFixtures):
    # Branches --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [4, 40, 100])
    @pytest.mark.parametrize("kept", [0, 0.3, 0.95])
    def test_what_a_rewind_leaves_is_reached_again(self, manager: Any, other: Any, count: Any, kept: Any) -> None:
        """After a rewind, both branches keep their messages and state, however often you switch."""
        session = manager.create_session("ada", session_id="s", state={"way": "first"})
        at = int(kept * count) // 2 * 2
        fill(session, at)
        session.checkpoint("here")
        fill(session, count - at, at)
        session.set_state("way", "changed")
        manager.save(session)

        loaded = other.get_session("s")
        left = loaded.rewind("here")
        loaded.set_state("way", "second")
        fill(loaded, 50, 1000)
        other.save(loaded)
        assert contents(manager.get_session("s")) == _texts(range(at), range(1000, 1050))
        assert (left.message_count, left.last_message_id) == (count, f"m{count - 1}")
        assert manager.get_session("s").branches == loaded.branches == [left]

        first = manager.switch("s", left)
        assert contents(first) == _texts(range(count))
        assert (first.state, [each.name for each in first.checkpoints]) == ({"way": "changed"}, ["here"])
        fill(first, 40, count)
        manager.save(first)
        [second] = other.get_session("s").branches
        assert second.message_count == at + 50

        again = other.switch("s", second.branch_id)

        assert contents(again) == _texts(range(at), range(1000, 1050))
        assert again.state == {"way": "second"}
        assert contents(manager.switch("s", again.branches[0])) == _texts(range(count + 40))
        assert self.sound(other)

    def test_a_session_that_was_never_saved_keeps_what_was_left(self, manager: Any, other: Any) -> None:
        """Two rewinds before the first save make two branches."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 6)
        session.rewind(1)
        fill(session, 2, 10)
        session.rewind("m1")
        manager.save(session)

        one, two = other.get_session("s").branches

        assert contents(other.switch("s", one)) == _texts(range(6))
        assert contents(other.switch("s", two)) == _texts(range(4), range(10, 12))
        assert self.sound(other)

    @pytest.mark.parametrize("count", [10, 100])
    def test_a_rewind_by_turns_works_on_a_part(self, manager: Any, other: Any, count: Any) -> None:
        """A partly loaded session can be rewound by a number of turns."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)

        part = other.get_session("s", last=4)
        part.rewind(1)
        part.add_message("user", "another question")
        other.save(part)

        stored = manager.get_session("s")
        assert contents(stored) == [*_texts(range(count - 2)), "another question"]
        assert contents(manager.switch("s", stored.branches[0])) == _texts(range(count))
        assert self.sound(other)

    def test_a_pruned_branch_is_gone(self, manager: Any, other: Any) -> None:
        """`prune` removes one branch or all of them, and keeps the conversation."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 70)
        for _ in range(3):
            session.rewind(10)
            fill(session, 20, 1000 + session.message_count)
            manager.save(session)
        first, second, third = session.branches
        before = contents(session)

        session.prune(second)
        manager.save(session)
        assert other.get_session("s").branches == [first, third]
        session.prune()
        manager.save(session)

        stored = other.get_session("s")
        assert (stored.branches, contents(stored)) == ([], before)
        for each in (first, second, third):
            with pytest.raises(SessionStateError, match="has no branch"):
                other.switch("s", each)
        assert self.sound(other)

    def test_the_newest_branches_are_remembered(self, manager: Any, other: Any) -> None:
        """A session keeps its newest 32 branches, so that heads stay small."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 2)
        for n in range(40):
            session.add_message("user", f"try {n}")
            session.rewind(1)
        manager.save(session)

        stored = other.get_session("s")

        assert len(stored.branches) == 32
        assert contents(other.switch("s", stored.branches[0])) == [*_texts(range(2)), "try 8"]
        assert self.sound(other)

    @pytest.mark.parametrize("count", [4, 100])
    def test_a_branch_is_read_without_switching_to_it(self, manager: Any, other: Any, count: Any) -> None:
        """The messages of a branch are those that a switch gives. Nothing changes, in an archived session either."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        branch = session.rewind(1)
        session.add_message("user", "another way")
        manager.save(session)
        manager.archive("s")
        stored = other.get_session("s")

        read = other.get_branch("s", branch)

        assert [each.content for each in read] == _texts(range(count))
        assert other.get_session("s") == stored
        with pytest.raises(SessionStateError, match="has no branch 'no such'"):
            other.get_branch("s", "no such")
        manager.restore("s")
        assert other.switch("s", branch.branch_id).messages == read

    def test_to_switch_needs_an_active_session_with_that_branch(self, manager: Any) -> None:
        """Switching in an absent or archived session, or to an unknown branch, raises an error of its own."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 2)
        branch = session.rewind(1)
        manager.save(session)

        with pytest.raises(SessionNotFoundError):
            manager.switch("t", branch)
        with pytest.raises(SessionStateError, match="'s' has no branch 'no such'"):
            manager.switch("s", "no such")
        manager.archive("s")
        with pytest.raises(SessionArchivedError):
            manager.switch("s", branch)

    @pytest.mark.parametrize("count", [4, 100])
    def test_of_two_writers_one_rewinds(self, manager: Any, other: Any, count: Any) -> None:
        """If one writer rewinds and the other appends, the message is kept, or the save raises and both sides stay."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.add_message("user", "theirs")
        other.save(theirs)
        mine.rewind(1)

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs
        assert contents(mine) == _texts(range(count - 2))
        manager.save(mine, on_conflict="overwrite")
        assert contents(other.switch("s", mine.branches[0])) == _texts(range(count))
        assert self.sound(other)

    def test_of_two_writers_one_switches(self, manager: Any, other: Any) -> None:
        """A copy from before a switch cannot be saved over it. Nothing is lost."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 4)
        branch = session.rewind(1)
        fill(session, 2, 10)
        manager.save(session)
        stale = other.get_session("s")
        stale.add_message("user", "on the branch that was left")
        manager.switch("s", branch)

        with pytest.raises(SessionConflictError):
            other.save(stale)

        assert contents(manager.get_session("s")) == _texts(range(4))
        assert stale.messages[-1].content == "on the branch that was left"

    def test_branches_of_two_writers_are_kept(self, manager: Any, other: Any) -> None:
        """Pruning by one writer and setting state by another are both kept."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        first, second = session.rewind(1), session.rewind(1)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.prune(first)
        other.save(theirs)

        mine.set_state("k", 1)
        manager.save(mine)

        stored = other.get_session("s")
        assert (stored.branches, stored.state) == ([second], {"k": 1})
        assert self.sound(other)

    # Edits and summaries ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("count", [3, 100])
    @pytest.mark.parametrize("at", [0, 0.5, 1])
    def test_a_message_is_inserted(self, manager: Any, other: Any, count: Any, at: Any) -> None:
        """A message can be inserted before the first, between others, and before the last."""
        session = manager.create_session("ada", session_id="s")
        fill(session, count)
        manager.save(session)
        n = round(at * (count - 1))

        session.insert_message(f"m{n}", "user", "between")
        manager.save(session)

        stored = other.get_session("s")
        assert stored == session
        assert contents(stored) == [*_texts(range(n)), "between", *_texts(range(n, count))]
        assert self.sound(other)

    def test_a_summary_stands_for_what_came_before(self, manager: Any, other: Any) -> None:
        """A model gets the system message, the summary and the newest messages. All messages stay stored."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("system", "Be brief.")
        fill(session, 100)
        session.compact("They counted to 90.", keep_last=9)
        manager.save(session)

        for loaded in (other.get_session("s"), other.get_session("s", last=20)):
            given = loaded.history()
            assert loaded.summary == session.summary
            assert [each["content"] for each in given[:2]] == ["Be brief.", "They counted to 90."]
            assert [each["content"] for each in given[2:]] == _texts(range(90, 100))
        assert other.get_session("s").message_count == 101

        session.rewind(20)
        manager.save(session)
        assert other.get_session("s").summary is None
        assert other.switch("s", session.branches[-1]).summary == manager.get_session("s").summary is not None

    @pytest.mark.parametrize("count", [10, 100])
    def test_instructions_stay_with_a_session_that_is_loaded_in_part(
        self, manager: Any, other: Any, count: Any
    ) -> None:
        """A partly loaded session knows its system message, which `messages` does not add to what was asked for."""
        session = manager.create_session("ada", session_id="s")
        manager.append("s", {"role": "system", "content": "Be brief."})
        manager.append("s", {"role": "developer", "content": "Be kind."})
        session = manager.get_session("s")
        fill(session, count)
        manager.save(session)
        part = other.get_session("s", last=4)
        part.rewind(1)
        other.save(part)

        loaded = manager.get_session("s", last=4)

        expected = ["Be brief.", "Be kind.", *_texts(range(count - 6, count - 2))]
        assert [each["content"] for each in loaded.history(last=4)] == expected
        assert [each["content"] for each in manager.switch("s", part.branches[0], last=2).history(last=2)] == [
            "Be brief.",
            "Be kind.",
            *_texts(range(count - 2, count)),
        ]
