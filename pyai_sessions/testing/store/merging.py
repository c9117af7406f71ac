"""Tests of saving stale copies: what is merged, and what conflicts."""

from typing import Any

import pytest

from pyai_sessions import InvalidValueError, SessionConflictError
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures


class Merging(StoreFixtures):
    @pytest.mark.parametrize("stored", [0, 3, 31, 70])
    @pytest.mark.parametrize("added", [1, 40])
    def test_both_writers_messages_are_kept(self, manager: Any, other: Any, stored: Any, added: Any) -> None:
        """A merge keeps both writers' messages, the stored ones first. The saved object then has all."""
        session = manager.create_session("ada", session_id="s")
        fill(session, stored)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        fill(theirs, added, stored)
        other.save(theirs)

        fill(mine, added, stored + added)
        manager.save(mine)

        assert contents(mine) == [f"message {n}" for n in range(stored + 2 * added)]
        assert manager.get_session("s") == mine
        assert self.sound(other)

    def test_three_stale_copies_are_merged_one_after_the_other(self, manager: Any) -> None:
        """Messages of a stale copy follow what is stored, however old the copy is."""
        manager.create_session("ada", session_id="s")
        copies = [manager.get_session("s") for _ in range(3)]
        for name, copy in zip("abc", copies, strict=True):
            copy.add_message("user", name)
            manager.save(copy)

        assert contents(manager.get_session("s")) == ["a", "b", "c"]

    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_state_and_metadata_merge_key_by_key(self, manager: Any, other: Any, part: Any) -> None:
        """State and metadata merge by key. If both writers changed a key, the later save counts."""
        session = manager.create_session("ada", session_id="s")
        getattr(session, part).update(same=0, mine=0, theirs=0, both=0, i_drop=0, they_drop=0)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        getattr(theirs, part).update(theirs=2, both=2, they_add=2)
        del getattr(theirs, part)["they_drop"]
        other.save(theirs)

        getattr(mine, part).update(mine=1, both=1, i_add=1)
        del getattr(mine, part)["i_drop"]
        manager.save(mine)

        merged = {"same": 0, "mine": 1, "theirs": 2, "both": 1, "i_add": 1, "they_add": 2}
        assert getattr(mine, part) == merged
        assert getattr(other.get_session("s"), part) == merged

    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_dicts_merge_by_key_at_every_depth(self, manager: Any, other: Any, part: Any) -> None:
        """Two writers' changes of different keys of an inner dict are both kept, in either order."""
        for n, order in enumerate(((0, 1), (1, 0))):
            session = manager.create_session("ada", session_id=f"s{n}")
            before = {"old": 0, "deep": {"same": 1, "gone": 1, "both": 1}}
            getattr(session, part).update(prefs=before, dropped={"a": 1, "b": 1})
            manager.save(session)
            copies = manager.get_session(f"s{n}"), other.get_session(f"s{n}")
            mine, theirs = (getattr(each, part) for each in copies)
            mine["prefs"]["deep"]["mine"] = {"x": 1}
            del mine["prefs"]["deep"]["gone"]
            mine["prefs"]["new"] = {"mine": 1}
            del mine["dropped"]
            theirs["prefs"]["deep"]["theirs"] = True
            theirs["prefs"]["new"] = {"theirs": 2}
            theirs["dropped"]["b"] = 2
            del theirs["prefs"]["old"]

            for turn in order:
                (manager, other)[turn].save(copies[turn])

            assert getattr(manager.get_session(f"s{n}"), part) == {
                "prefs": {
                    "deep": {"same": 1, "both": 1, "mine": {"x": 1}, "theirs": True},
                    "new": {"mine": 1, "theirs": 2},
                },
                "dropped": {"b": 2},
            }
            assert getattr(copies[order[1]], part) == getattr(manager.get_session(f"s{n}"), part)

    def test_what_writers_count_and_collect_adds_up(self, manager: Any, other: Any) -> None:
        """Additions to numbers and lists count once each, in any order of saves."""
        session = manager.create_session("ada", session_id="s", state={"turns": 10, "cart": ["tea"]})
        copies = [session, other.get_session("s"), manager.get_session("s")]
        for turn in (0, 1, 2, 1, 1, 0, 2):
            copy = copies[turn]
            assert copy.increment_state("turns") == copy.state["turns"]
            copy.increment_state("tokens", by=2.5)
            assert copy.extend_state("cart", [turn])[-1] == turn
            copy.extend_state("seen", [turn])
            copy.add_message("user", f"by {turn}")
            (manager, other, manager)[turn].save(copy)

        stored = other.get_session("s")
        assert (stored.state["turns"], stored.state["tokens"]) == (17, 17.5)
        assert stored.state["cart"] == ["tea", *stored.state["seen"]]
        assert stored.state["seen"] == [0, 1, 2, 1, 1, 0, 2]

    def test_a_value_that_is_set_is_no_addition(self, manager: Any, other: Any) -> None:
        """`set_state` and `delete_state` replace the value, and later additions build on it."""
        session = manager.create_session("ada", session_id="s", state={"a": 1, "b": 1, "c": 1})
        mine, theirs = manager.get_session("s"), other.get_session("s")
        for key in "abc":
            theirs.increment_state(key, 5)
        other.save(theirs)
        mine.increment_state("a")
        mine.set_state("a", 0)
        mine.increment_state("b")
        mine.delete_state("b")
        mine.delete_state("c")
        mine.increment_state("c", 2)
        manager.save(mine)

        assert manager.get_session("s").state == {"a": 0, "b": 6, "c": 7}
        session = other.get_session("s")
        for act in (
            lambda: session.increment_state("a", by="1"),
            lambda: session.increment_state("a", by=True),
            lambda: session.increment_state("a", by=float("nan")),
            lambda: session.extend_state("a", [1]),
            lambda: session.extend_state("new", "text"),
            lambda: session.extend_state("new", [{1}]),
            lambda: session.set_state("text", "x") or session.increment_state("text"),
        ):
            with pytest.raises(InvalidValueError):
                act()
        assert session.state == {"a": 0, "b": 6, "c": 7, "text": "x"}

    def test_a_conflict_can_be_an_error(self, manager: Any, other: Any) -> None:
        """With `on_conflict="error"` a stale save raises, names both revisions, and writes nothing."""
        mine = manager.create_session("ada", session_id="s")
        theirs = other.get_session("s")
        theirs.add_message("user", "theirs")
        other.save(theirs)
        mine.add_message("user", "mine")

        with pytest.raises(SessionConflictError) as caught:
            manager.save(mine, on_conflict="error")

        assert (caught.value.session_id, caught.value.stored_revision) == ("s", theirs.revision)
        assert caught.value.base_revision == mine.revision
        assert contents(mine) == ["mine"]
        assert other.get_session("s") == theirs

    def test_a_fresh_copy_is_saved_in_every_mode(self, manager: Any) -> None:
        """Without a conflict, `on_conflict` has no effect."""
        session = manager.create_session("ada", session_id="s")
        for mode in ("merge", "error", "overwrite"):
            session.add_message("user", mode)
            manager.save(session, on_conflict=mode)

        assert contents(manager.get_session("s")) == ["merge", "error", "overwrite"]

    def test_a_conflict_of_two_rewritten_histories_writes_nothing(self, manager: Any, other: Any) -> None:
        """If both writers rewrote the history, the save raises, and both sides stay as they are."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.replace_message("m39", content="theirs")
        other.save(theirs)
        mine.insert_message("m5", "user", "inserted")

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs
        assert mine.message_count == 41
        assert self.sound(other)

    def test_changes_of_different_messages_are_both_kept(self, manager: Any, other: Any) -> None:
        """Two writers' changes of different messages are both kept, on any page, beside appends."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s", last=40)
        theirs.replace_message("m99", metadata={"rating": 5})
        theirs.remove_message("m70")
        theirs.add_message("user", "theirs")
        other.save(theirs)
        mine.replace_message("m3", metadata={"rating": 1})
        mine.remove_message("m98")
        mine.remove_message("m50")
        mine.add_message("user", "mine")
        manager.save(mine)

        stored = other.get_session("s")
        gone = {"message 98", "message 70", "message 50"}
        assert contents(stored) == [
            *(f"message {n}" for n in range(100) if f"message {n}" not in gone),
            "theirs",
            "mine",
        ]
        rated = {each.message_id: each.metadata["rating"] for each in stored.messages if each.metadata}
        assert rated == {"m3": 1, "m99": 5}
        assert mine == stored
        assert self.sound(other)

    def test_changes_of_one_message_conflict(self, manager: Any, other: Any) -> None:
        """Two different changes of one message raise, and write nothing. Equal changes do not conflict."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.replace_message("m5", content="theirs")
        theirs.remove_message("m6")
        other.save(theirs)
        mine.replace_message("m5", content="mine")
        mine.remove_message("m6")

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs
        assert contents(mine)[5] == "mine"
        mine.replace_message("m5", content="theirs")
        manager.save(mine)
        assert contents(other.get_session("s")) == contents(theirs)

    def test_messages_written_after_one_that_was_taken_back_conflict(self, manager: Any, other: Any) -> None:
        """A message written after one that the other side removed raises, since it may answer that one."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.add_message("assistant", "an answer to message 2")
        other.save(theirs)
        mine.pop()

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs

    def test_an_edit_and_an_append_are_both_kept(self, manager: Any, other: Any) -> None:
        """An edit of an earlier message merges with an append, if both sides have the last message."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.add_message("assistant", "appended")
        other.save(theirs)

        mine.replace_message("m2", content="edited")
        manager.save(mine)

        expected = [f"message {n}" for n in range(40)] + ["appended"]
        expected[2] = "edited"
        assert contents(other.get_session("s")) == expected
        assert self.sound(other)

    def test_an_overwriting_save_replaces_what_others_stored(self, manager: Any, other: Any) -> None:
        """With `on_conflict="overwrite"` no message and no state of the other writer is left."""
        mine = manager.create_session("ada", session_id="s")
        theirs = other.get_session("s")
        fill(theirs, 3)
        theirs.set_state("theirs", 1)
        other.save(theirs)

        mine.add_message("user", "mine")
        manager.save(mine, on_conflict="overwrite")

        assert contents(other.get_session("s")) == ["mine"]
        assert other.get_session("s").state == {}
        assert manager.get_session("s") == mine
