"""Copies of deleted sessions, and the modes of `on_conflict`."""

import pytest

from pyai_sessions import Session, SessionConflictError, SessionDeletedError, SessionExistsError, SessionStateError
from tests.documents.copies import Two, add


@pytest.mark.parametrize("on_conflict", ["merge", "error", "overwrite"])
@pytest.mark.parametrize("anew", [False, True])
def test_a_deleted_session_stays_deleted(two, on_conflict, anew):
    """A stale copy neither restores a deleted session, nor touches a new one of the same id."""
    two.their_manager.delete("s")
    if anew:
        two.their_manager.create_session("bob", session_id="s")
    before = dict(two.mapping)
    add(two.mine, "m")

    with pytest.raises(SessionDeletedError):
        two.my_manager.save(two.mine, on_conflict=on_conflict)

    assert two.mapping == before


@pytest.mark.parametrize("on_conflict", ["merge", "error"])
def test_a_new_session_does_not_take_the_place_of_another(two, on_conflict):
    """A session made by hand under a used id raises, unless `on_conflict="overwrite"` is given."""
    before = dict(two.mapping)

    with pytest.raises(SessionExistsError):
        two.my_manager.save(Session(session_id="s"), on_conflict=on_conflict)

    assert two.mapping == before


def test_the_content_of_a_deleted_session_can_be_saved_as_a_new_one(two):
    """The error says how to store the content as a new session, and that works."""
    two.their_manager.delete("s")

    with pytest.raises(SessionDeletedError, match="import_sessions"):
        two.my_manager.save(two.mine)
    two.my_manager.import_sessions([two.mine])

    assert two.ids == ["b0", "b1", "b2"]


def test_on_conflict_error_raises_for_any_stale_copy(two):
    """`on_conflict="error"` raises for a stale copy even if it could be merged, and writes nothing."""
    add(two.theirs, "t")
    two.mine.set_state("k", 1)

    with pytest.raises(SessionConflictError, match="was saved by another writer; load it again"):
        two.save_both(on_conflict="error")

    assert two.ids == ["b0", "b1", "b2", "t"]
    assert "k" not in two.stored.state


def test_on_conflict_error_saves_a_fresh_copy(two):
    """`on_conflict="error"` saves a copy that is not stale."""
    add(two.mine, "m")

    two.my_manager.save(two.mine, on_conflict="error")

    assert two.ids == ["b0", "b1", "b2", "m"]


@pytest.mark.parametrize("count", [3, 100])
def test_on_conflict_overwrite_replaces_what_they_stored(count):
    """`on_conflict="overwrite"` stores my copy, and removes all of their pages."""
    two = Two(count)
    two.theirs.replace_message("b0", content="edited")
    add(two.theirs, *(f"t{n}" for n in range(40)))
    two.theirs.set_state("t", 1)
    add(two.mine, "m")

    two.save_both(on_conflict="overwrite")

    assert two.stored == two.mine
    assert two.ids == [*(f"b{n}" for n in range(count)), "m"]
    assert two.stored.messages[0].content == "base 0"
    assert two.stored.state == {"a": 0, "b": 0}
    assert not two.my_manager.verify().problems


def test_on_conflict_overwrite_refuses_a_part():
    """`on_conflict="overwrite"` raises for a partly loaded copy."""
    two = Two(100, last=1)
    add(two.mine, "m")
    add(two.theirs, "t")

    with pytest.raises(SessionStateError, match="is loaded only in part"):
        two.save_both(on_conflict="overwrite")

    assert two.ids[-2:] == ["b99", "t"]
