"""What a save of a stale copy keeps: messages, metadata, state, user, status and checkpoints of both writers."""

import pytest

from pyai_sessions import SessionArchivedError
from tests.documents.copies import Two, add

# Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [None, 1, 0])
@pytest.mark.parametrize("count", [0, 3, 31, 40, 100])
def test_messages_appended_on_both_sides_are_kept_theirs_first(count, last):
    """Messages of both sides are stored once each, in the order of the commits, on any page."""
    two = Two(count, last)
    add(two.mine, "m1", "m2")
    add(two.theirs, "t1", "t2")

    two.save_both()

    assert two.ids == [*(f"b{n}" for n in range(count)), "t1", "t2", "m1", "m2"]
    assert two.mine.message_count == count + 4
    assert two.my_manager.verify()


def test_a_saved_copy_is_what_is_stored(two):
    """After a merge, the saved object has both sides, and can be saved again."""
    add(two.mine, "m")
    add(two.theirs, "t")

    two.save_both()

    assert two.mine == two.stored
    add(two.mine, "m2")
    two.my_manager.save(two.mine)
    assert two.ids == ["b0", "b1", "b2", "t", "m", "m2"]


def test_many_turns_in_turns(two):
    """Two stale copies that save in turns lose nothing, over many pages."""
    for n in range(60):
        add(two.mine, f"m{n}")
        two.my_manager.save(two.mine)
        add(two.theirs, f"t{n}")
        two.their_manager.save(two.theirs)

    assert two.ids == ["b0", "b1", "b2", *(f"{side}{n}" for n in range(60) for side in "mt")]


def test_a_message_that_both_have_is_kept_once(two):
    """If both sides add a message of the same id, it is stored once."""
    add(two.mine, "same", "m")
    add(two.theirs, "same", "t")

    two.save_both()

    assert two.ids == ["b0", "b1", "b2", "same", "t", "m"]


def test_a_stale_copy_that_changed_nothing_takes_their_changes(two):
    """Saving an unchanged stale copy writes nothing, and takes over their changes."""
    add(two.theirs, "t")
    two.theirs.set_state("a", 1)

    two.save_both()

    assert two.ids == ["b0", "b1", "b2", "t"]
    assert two.stored.state == {"a": 1, "b": 0}


def test_an_append_is_merged_as_well(two):
    """An append, which loads no history, makes a copy stale as a save does."""
    two.their_manager.append("s", {"role": "user", "content": "", "message_id": "t"})
    add(two.mine, "m")

    two.my_manager.save(two.mine)

    assert two.ids == ["b0", "b1", "b2", "t", "m"]


# Metadata, state, user, status, checkpoints -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "metadata"])
def test_metadata_and_state_are_merged_by_key(two, name):
    """Keys that either side set, changed or deleted are kept. A change wins over a deletion, mine over theirs."""
    base = {"kept": 0, "mine": 0, "theirs": 0, "both": 0, "I delete": 0, "they delete": 0, "I change": 0}
    getattr(two.mine, name).clear()
    getattr(two.mine, name).update(base)
    two.my_manager.save(two.mine)
    mine, theirs = two.my_manager.get_session("s"), two.their_manager.get_session("s")
    two.mine, two.theirs = mine, theirs
    mine, theirs = getattr(mine, name), getattr(theirs, name)
    mine.update({"mine": 1, "both": 1, "new": 1, "mine new": 1, "I change": 1})
    theirs.update({"theirs": 2, "both": 2, "new": 2, "theirs new": 2, "I delete": 2})
    del mine["I delete"], theirs["they delete"], theirs["I change"]

    two.save_both()

    assert getattr(two.stored, name) == {
        "kept": 0,
        "mine": 1,
        "theirs": 2,
        "I delete": 2,
        "both": 1,
        "I change": 1,
        "new": 1,
        "mine new": 1,
        "theirs new": 2,
    }


def test_a_dict_is_merged_by_key_and_all_else_whole(two):
    """Dicts are merged by key. Other values, lists too, are taken whole from one side."""
    two.mine.set_state("a", {"x": 1, "list": [1], "both": {"m": 1}})
    two.theirs.set_state("a", {"y": 2, "list": [2], "both": {"t": 2}})

    two.save_both()

    assert two.stored.state["a"] == {"x": 1, "y": 2, "list": [1], "both": {"m": 1, "t": 2}}


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [("ada", "bob", "bob"), ("eve", "ada", "eve"), ("eve", "bob", "eve"), (None, "bob", None)],
)
def test_a_changed_user_is_kept_mine_first(two, mine, theirs, kept):
    """A changed user is kept; if both changed it, mine. The session is only in that user's list."""
    two.mine.user_id, two.theirs.user_id = mine, theirs

    two.save_both()

    assert two.stored.user_id == kept
    for user_id in ("ada", "bob", "eve"):
        assert len(two.my_manager.get_sessions_for_user(user_id)) == (user_id == kept)


def test_my_archiving_is_kept_with_their_messages(two):
    """If I archive while they append, the session is archived with their messages."""
    add(two.theirs, "t")
    two.mine.archive()

    two.save_both()

    assert two.stored.status == "archived"
    assert two.ids == ["b0", "b1", "b2", "t"]


def test_an_archived_session_refuses_my_messages(two):
    """If they archived the session, my save raises and writes nothing, and my copy stays as it is."""
    two.theirs.archive()
    add(two.mine, "m")

    with pytest.raises(SessionArchivedError):
        two.save_both()

    assert two.ids == ["b0", "b1", "b2"]
    assert [each.message_id for each in two.mine.messages] == ["b0", "b1", "b2", "m"]


def test_a_session_archived_and_restored_meanwhile_takes_my_messages(two):
    """Only the present status counts: a session that was restored again takes messages."""
    two.their_manager.archive("s")
    two.their_manager.restore("s")
    add(two.mine, "m")

    two.my_manager.save(two.mine)

    assert two.ids == ["b0", "b1", "b2", "m"]
    assert two.stored.status == "active"


def test_checkpoints_of_both_sides_are_kept(two):
    """Checkpoints of both sides are kept, theirs first. Of one name, mine is kept."""
    two.theirs.checkpoint("theirs")
    two.theirs.checkpoint("both")
    add(two.mine, "m")
    two.mine.checkpoint("mine")
    two.mine.checkpoint("both")

    two.save_both()

    assert sorted(each.name for each in two.stored.checkpoints) == ["both", "mine", "theirs"]
    assert next(each for each in two.stored.checkpoints if each.name == "both").last_message_id == "m"


def test_a_checkpoint_that_i_removed_stays_removed(two):
    """A checkpoint that I removed stays removed after a merge."""
    two.mine.checkpoint("a")
    two.mine.checkpoint("b")
    two.my_manager.save(two.mine)
    two.theirs = two.their_manager.get_session("s")
    del two.mine.checkpoints[0]
    add(two.theirs, "t")

    two.save_both()

    assert [each.name for each in two.stored.checkpoints] == ["b"]


def test_updated_at_is_the_later_of_both(two):
    """A merge keeps the later time of both sides."""
    two.their_manager.store.clock.advance(hours=2)
    add(two.theirs, "t")
    add(two.mine, "m")

    two.save_both()

    assert two.stored.updated_at == two.their_manager.store.clock.now
