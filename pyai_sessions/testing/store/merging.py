"""Stale copies: what is merged, and what conflicts."""

from typing import Any

import pytest

from pyai_sessions import SessionConflictError
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import with_revisions


class Merging(StoreFixtures):
    @with_revisions
    @pytest.mark.parametrize("stored", [0, 3, 31, 70])
    @pytest.mark.parametrize("added", [1, 40])
    def test_both_writers_messages_are_kept(self, manager: Any, other: Any, stored: Any, added: Any) -> None:
        """Theirs first, then ours; and the object that was saved has both."""
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

    @with_revisions
    def test_three_stale_copies_are_merged_one_after_the_other(self, manager: Any) -> None:
        """However stale a copy is, its messages come after what is stored."""
        manager.create_session("ada", session_id="s")
        copies = [manager.get_session("s") for _ in range(3)]
        for name, copy in zip("abc", copies, strict=True):
            copy.add_message("user", name)
            manager.save(copy)

        assert contents(manager.get_session("s")) == ["a", "b", "c"]

    @with_revisions
    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_state_and_metadata_merge_key_by_key(self, manager: Any, other: Any, part: Any) -> None:
        """Each writer's changes count; of a key that both changed, the later save's."""
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

    @with_revisions
    def test_a_conflict_can_be_an_error(self, manager: Any, other: Any) -> None:
        """`on_conflict="error"` writes nothing over another writer's save, and says which revisions they are."""
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

    @with_revisions
    def test_a_fresh_copy_is_saved_in_every_mode(self, manager: Any) -> None:
        """Where there is no conflict, `on_conflict` changes nothing."""
        session = manager.create_session("ada", session_id="s")
        for mode in ("merge", "error", "overwrite"):
            session.add_message("user", mode)
            manager.save(session, on_conflict=mode)

        assert contents(manager.get_session("s")) == ["merge", "error", "overwrite"]

    @with_revisions
    def test_a_conflict_of_two_rewritten_histories_writes_nothing(self, manager: Any, other: Any) -> None:
        """Both sides stay as they are."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        manager.save(session)
        mine, theirs = manager.get_session("s"), other.get_session("s")
        theirs.replace_message("m39", content="theirs")
        other.save(theirs)
        mine.remove_message("m5")

        with pytest.raises(SessionConflictError):
            manager.save(mine)

        assert other.get_session("s") == theirs
        assert mine.message_count == 39
        assert self.sound(other)

    @with_revisions
    def test_messages_written_after_one_that_was_taken_back_conflict(self, manager: Any, other: Any) -> None:
        """An answer is not kept where its question was removed."""
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

    @with_revisions
    def test_an_edit_and_an_append_are_both_kept(self, manager: Any, other: Any) -> None:
        """Where the last message stands on both sides, an earlier one may change beside an append."""
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

    @with_revisions
    def test_an_overwriting_save_replaces_what_others_stored(self, manager: Any, other: Any) -> None:
        """`on_conflict="overwrite"` asks for it; no message and no state of theirs is left."""
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
