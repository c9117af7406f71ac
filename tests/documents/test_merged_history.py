"""What a merge keeps if a writer rewrote the history, or if the storage went back to an older state."""

import copy

import pytest

from pyai_sessions import SessionConflictError, SessionManager
from tests.documents.copies import Two, add

REWRITES = {
    "edit the first": lambda s: s.replace_message("b0", content="edited"),
    "remove the first": lambda s: s.remove_message("b0"),
    "remove the middle": lambda s: s.remove_message("b1"),
    "edit the last": lambda s: s.replace_message("b2", content="edited"),
}
REWRITES_OF_THE_LAST = {
    "pop": lambda s: s.pop(),
    "clear": lambda s: s.clear_messages(),
}


@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_history_that_i_rewrote_takes_their_messages(two, rewrite):
    """My rewritten history merges with their appends, if the message before these still exists."""
    REWRITES[rewrite](two.mine)
    add(two.mine, "m")
    add(two.theirs, "t")
    expected = [(each.message_id, each.content) for each in two.mine.messages]
    expected[-1:-1] = [("t", "text t")]

    two.save_both()

    assert [(each.message_id, each.content) for each in two.stored.messages] == expected
    assert two.mine == two.stored


@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_history_that_they_rewrote_takes_my_messages(two, rewrite):
    """Their rewritten history merges with my appends, if the message before these still exists."""
    REWRITES[rewrite](two.theirs)
    add(two.theirs, "t")
    add(two.mine, "m")
    expected = [*((each.message_id, each.content) for each in two.theirs.messages), ("m", "text m")]

    two.save_both()

    assert [(each.message_id, each.content) for each in two.stored.messages] == expected
    assert two.mine == two.stored


@pytest.mark.parametrize("rewrite", REWRITES | REWRITES_OF_THE_LAST)
def test_a_rewrite_merges_with_a_change_of_state_alone(two, rewrite):
    """A rewritten history merges with a change of the state."""
    (REWRITES | REWRITES_OF_THE_LAST)[rewrite](two.theirs)
    two.mine.set_state("a", 1)

    two.save_both()

    assert two.stored.messages == two.theirs.messages
    assert two.stored.state["a"] == 1


@pytest.mark.parametrize("rewrite", REWRITES_OF_THE_LAST)
@pytest.mark.parametrize("mine_rewrites", [True, False])
def test_messages_after_one_that_was_rewritten_are_a_conflict(two, rewrite, mine_rewrites):
    """An append after a message that the other side changed or removed raises. Both sides stay as they are."""
    rewriter, other = (two.mine, two.theirs) if mine_rewrites else (two.theirs, two.mine)
    REWRITES_OF_THE_LAST[rewrite](rewriter)
    add(other, "n")
    two.their_manager.save(two.theirs)
    mapping, mine = dict(two.mapping), copy.deepcopy(two.mine)

    with pytest.raises(SessionConflictError) as caught:
        two.my_manager.save(two.mine)

    assert two.mapping == mapping
    assert two.mine == mine
    assert caught.value.session_id == "s"
    assert caught.value.base_revision == mine.revision
    assert caught.value.stored_revision == two.theirs.revision


@pytest.mark.parametrize("one", REWRITES | REWRITES_OF_THE_LAST)
@pytest.mark.parametrize("other", ["clear", "insert"])
def test_a_history_rewritten_as_a_whole_beside_a_change_is_a_conflict(two, one, other):
    """If one side replaces the whole history and the other changes a message, the save raises."""
    whole = {"clear": lambda s: s.clear_messages(), "insert": lambda s: s.insert_message("b1", "user", "between")}
    whole[other](two.mine)
    (REWRITES | REWRITES_OF_THE_LAST)[one](two.theirs)
    two.their_manager.save(two.theirs)
    before = dict(two.mapping)

    with pytest.raises(SessionConflictError, match="rewritten by two writers; load it again"):
        two.my_manager.save(two.mine)

    assert two.mapping == before


@pytest.mark.parametrize("mine", REWRITES)
@pytest.mark.parametrize("theirs", REWRITES)
def test_changes_of_different_messages_merge(two, mine, theirs):
    """Changes of different messages merge. Different changes of the same message raise."""
    REWRITES[mine](two.mine)
    REWRITES[theirs](two.theirs)
    two.their_manager.save(two.theirs)
    first, changes = {mine, theirs}, [each for each in ("edit the first", "remove the first") if each in (mine, theirs)]
    if first == set(changes) and len(changes) == 2:
        with pytest.raises(SessionConflictError, match="changed by two writers"):
            two.my_manager.save(two.mine)
        assert two.stored == two.theirs
        return
    expected = Two().mine
    for each in first:
        REWRITES[each](expected)

    two.my_manager.save(two.mine)

    assert [(each.message_id, each.content) for each in two.stored.messages] == [
        (each.message_id, each.content) for each in expected.messages
    ]
    assert two.mine == two.stored


def test_a_message_that_was_added_and_removed_again_is_no_rewriting(two):
    """A message that was never stored can be removed without a conflict."""
    add(two.mine, "m")
    two.mine.pop()
    two.theirs.pop()

    two.save_both()

    assert two.ids == ["b0", "b1"]


def test_a_conflict_is_solved_by_loading_again(two):
    """The error says to load again, and that works."""
    two.theirs.pop()
    add(two.mine, "m")
    with pytest.raises(SessionConflictError):
        two.save_both()

    again = two.my_manager.get_session("s")
    add(again, "m")
    two.my_manager.save(again)

    assert two.ids == ["b0", "b1", "m"]


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("last", [1, 5])
def test_a_copy_that_was_loaded_in_part_merges_with_a_rewritten_history(rewrite, last):
    """A partly loaded copy keeps its appends, and takes over a history that was rewritten before its part."""
    two = Two(100)
    two.mine = two.my_manager.get_session("s", last=last)
    REWRITES[rewrite](two.theirs)
    add(two.mine, "m")
    expected = [*((each.message_id, each.content) for each in two.theirs.messages), ("m", "text m")]

    two.save_both()

    assert [(each.message_id, each.content) for each in two.stored.messages] == expected
    assert two.my_manager.verify()


@pytest.mark.parametrize("last", [1, 5, 40])
def test_the_rest_of_a_stale_part_can_be_loaded(last):
    """`load_history` works on a stale copy, which can then be saved and is merged."""
    two = Two(100)
    two.mine = two.my_manager.get_session("s", last=last)
    add(two.mine, "m")
    add(two.theirs, "t")
    two.their_manager.save(two.theirs)

    two.my_manager.load_history(two.mine)

    assert [each.message_id for each in two.mine.messages] == [*(f"b{n}" for n in range(100)), "m"]
    two.my_manager.save(two.mine)
    assert two.ids == [*(f"b{n}" for n in range(100)), "t", "m"]


@pytest.mark.parametrize("change", ["edit", "remove", "rewrite"])
def test_changes_of_messages_are_kept_where_the_storage_went_back(change):
    """Single changes are applied again to an older state of the storage. If that is unclear, the save raises."""
    two = Two(3)
    before = dict(two.mapping)
    add(two.mine, "lost")
    two.my_manager.save(two.mine)
    two.mapping.clear()
    two.mapping.update(before)
    two.their_manager.append("s", {"role": "user", "content": "theirs", "message_id": "t"})
    if change == "rewrite":
        two.mine.insert_message("b1", "user", "between")
        with pytest.raises(SessionConflictError):
            two.my_manager.save(two.mine)
        return
    (REWRITES["edit the first"] if change == "edit" else REWRITES["remove the first"])(two.mine)
    two.mine.replace_message("lost", content="edited, too")

    two.my_manager.save(two.mine)

    first = ["edited"] if change == "edit" else []
    assert [each.content for each in two.stored.messages] == [*first, "base 1", "base 2", "theirs", "edited, too"]


@pytest.mark.parametrize("last", [None, 5])
@pytest.mark.parametrize(
    ("kept", "lost", "new"), [(3, 1, 0), (3, 1, 1), (3, 1, 5), (30, 40, 0), (30, 40, 50), (100, 3, 3)]
)
def test_a_storage_that_went_back_gets_what_it_lost_from_a_copy(kept, lost, new, last):
    """If the storage lost commits, a save restores from its copy the messages that are missing."""
    mapping = {}
    manager, other = SessionManager(mapping), SessionManager(mapping)
    manager.create_session("ada", session_id="s")
    manager.append("s", *({"role": "user", "content": f"kept {n}"} for n in range(kept)))
    backup = dict(mapping)
    manager.append("s", *({"role": "user", "content": f"lost {n}"} for n in range(lost)))
    mine = manager.get_session("s", last=last)
    in_hand = [each.content for each in mine.messages]
    mapping.clear()
    mapping.update(backup)
    if new:
        other.append("s", *({"role": "user", "content": f"new {n}"} for n in range(new)))

    mine.add_message("user", "mine")
    manager.save(mine)

    stored = [each.content for each in other.get_session("s").messages]
    assert stored[: kept + new] == [*(f"kept {n}" for n in range(kept)), *(f"new {n}" for n in range(new))]
    healed = [each for each in in_hand if each.startswith("lost")]  # and what was loaded with them
    assert stored[-len(healed) - 1 :] == [*healed, "mine"]
    assert stored[kept + new : -1] == [f"lost {n}" for n in range(lost)][kept + new + 1 - len(stored) :]
    manager.load_history(mine)
    assert [each.content for each in mine.messages] == stored
    assert manager.verify()
    manager.save(mine)
    mine.pop()
    manager.save(mine)
    assert [each.content for each in other.get_session("s").messages] == stored[:-1]
    assert manager.verify()


def test_an_append_after_the_storage_went_back_is_kept():
    """If the storage lost commits, an append through a store that remembers a later head is kept."""
    mapping = {}
    manager = SessionManager(mapping)
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "kept"})
    backup = dict(mapping)
    manager.append("s", {"role": "user", "content": "lost"})
    mapping.clear()
    mapping.update(backup)

    manager.append("s", {"role": "user", "content": "new"})

    assert [each.content for each in manager.get_session("s").messages] == ["kept", "new"]
    assert manager.verify()
