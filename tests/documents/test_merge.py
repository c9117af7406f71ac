"""Two writers of one session: what each rule of a merge keeps, and a machine that plays them against a plain model."""

import copy
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pyai_sessions import (
    KVSessionStore,
    Session,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SessionStateError,
    SQLiteMapping,
    StorageError,
)
from pyai_sessions.testing import FaultyMapping, StoppedClock
from tests.contract.stores import FullStore


class Two:
    """Two copies of one stored session, *mine* and *theirs*, each with a manager of its own over one dict."""

    def __init__(self, messages=3, last=None):
        self.mapping = {}
        self.my_manager, self.their_manager = (SessionManager(self.mapping, clock=StoppedClock()) for _ in range(2))
        session = self.my_manager.create_session("ada", session_id="s", metadata={"t": 0}, state={"a": 0, "b": 0})
        for n in range(messages):
            session.add_message("user", f"base {n}", message_id=f"b{n}")
        self.my_manager.save(session)
        self.mine = self.my_manager.get_session("s", last=last)
        self.theirs = self.their_manager.get_session("s", last=last)

    def save_both(self, **options):
        """Let them save first; then save mine, which went stale."""
        self.their_manager.save(self.theirs)
        self.my_manager.save(self.mine, **options)

    @property
    def stored(self):
        return SessionManager(self.mapping).get_session("s")

    @property
    def ids(self):
        return [each.message_id for each in self.stored.messages]


@pytest.fixture
def two():
    return Two()


def add(session, *ids):
    for message_id in ids:
        session.add_message("user", f"text {message_id}", message_id=message_id)


# Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [None, 1, 0])
@pytest.mark.parametrize("count", [0, 3, 31, 40, 100])
def test_messages_appended_on_both_sides_are_kept_theirs_first(count, last):
    """The order is that of the commits; each message is there once, in whatever page they began."""
    two = Two(count, last)
    add(two.mine, "m1", "m2")
    add(two.theirs, "t1", "t2")

    two.save_both()

    assert two.ids == [*(f"b{n}" for n in range(count)), "t1", "t2", "m1", "m2"]
    assert two.mine.message_count == count + 4
    assert two.my_manager.verify()


def test_a_saved_copy_is_what_is_stored(two):
    """After a merge the session in hand holds both sides, and can be saved again."""
    add(two.mine, "m")
    add(two.theirs, "t")

    two.save_both()

    assert two.mine == two.stored
    add(two.mine, "m2")
    two.my_manager.save(two.mine)
    assert two.ids == ["b0", "b1", "b2", "t", "m", "m2"]


def test_many_turns_in_turns(two):
    """Two copies that save by turns, always stale, lose nothing, over many pages."""
    for n in range(60):
        add(two.mine, f"m{n}")
        two.my_manager.save(two.mine)
        add(two.theirs, f"t{n}")
        two.their_manager.save(two.theirs)

    assert two.ids == ["b0", "b1", "b2", *(f"{side}{n}" for n in range(60) for side in "mt")]


def test_a_message_that_both_have_is_kept_once(two):
    """The same message id is the same message: a turn that was handed to two workers is stored once."""
    add(two.mine, "same", "m")
    add(two.theirs, "same", "t")

    two.save_both()

    assert two.ids == ["b0", "b1", "b2", "same", "t", "m"]


def test_a_stale_copy_that_changed_nothing_takes_their_changes(two):
    """Saving it writes nothing of its own over theirs."""
    add(two.theirs, "t")
    two.theirs.set_state("a", 1)

    two.save_both()

    assert two.ids == ["b0", "b1", "b2", "t"]
    assert two.stored.state == {"a": 1, "b": 0}


def test_an_append_is_merged_as_well(two):
    """manager.append, which loads no history, makes a copy stale as a save does."""
    two.their_manager.append("s", {"role": "user", "content": "", "message_id": "t"})
    add(two.mine, "m")

    two.my_manager.save(two.mine)

    assert two.ids == ["b0", "b1", "b2", "t", "m"]


# Metadata, state, user, status, checkpoints -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "metadata"])
def test_metadata_and_state_are_merged_by_key(two, name):
    """Set, changed and deleted keys of both sides are kept, a change before a deletion; what both set is mine."""
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
    """Half of each of two lists, or texts, would be neither."""
    two.mine.set_state("a", {"x": 1, "list": [1], "both": {"m": 1}})
    two.theirs.set_state("a", {"y": 2, "list": [2], "both": {"t": 2}})

    two.save_both()

    assert two.stored.state["a"] == {"x": 1, "y": 2, "list": [1], "both": {"m": 1, "t": 2}}


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [("ada", "bob", "bob"), ("eve", "ada", "eve"), ("eve", "bob", "eve"), (None, "bob", None)],
)
def test_a_changed_user_is_kept_mine_first(two, mine, theirs, kept):
    """Whoever changed it wins; if both did, I do; and the session is in that user's list alone."""
    two.mine.user_id, two.theirs.user_id = mine, theirs

    two.save_both()

    assert two.stored.user_id == kept
    for user_id in ("ada", "bob", "eve"):
        assert len(two.my_manager.get_sessions_for_user(user_id)) == (user_id == kept)


def test_my_archiving_is_kept_with_their_messages(two):
    """The session ends after what they said."""
    add(two.theirs, "t")
    two.mine.archive()

    two.save_both()

    assert two.stored.status == "archived"
    assert two.ids == ["b0", "b1", "b2", "t"]


def test_an_archived_session_refuses_my_messages(two):
    """What they ended I cannot go on with; nothing is written, my copy is intact."""
    two.theirs.archive()
    add(two.mine, "m")

    with pytest.raises(SessionArchivedError):
        two.save_both()

    assert two.ids == ["b0", "b1", "b2"]
    assert [each.message_id for each in two.mine.messages] == ["b0", "b1", "b2", "m"]


def test_a_session_archived_and_restored_meanwhile_takes_my_messages(two):
    """Only what it is now counts."""
    two.their_manager.archive("s")
    two.their_manager.restore("s")
    add(two.mine, "m")

    two.my_manager.save(two.mine)

    assert two.ids == ["b0", "b1", "b2", "m"]
    assert two.stored.status == "active"


def test_checkpoints_of_both_sides_are_kept(two):
    """Theirs, then mine; of one name, mine."""
    two.theirs.checkpoint("theirs")
    two.theirs.checkpoint("both")
    add(two.mine, "m")
    two.mine.checkpoint("mine")
    two.mine.checkpoint("both")

    two.save_both()

    assert sorted(each.name for each in two.stored.checkpoints) == ["both", "mine", "theirs"]
    assert next(each for each in two.stored.checkpoints if each.name == "both").last_message_id == "m"


def test_a_checkpoint_that_i_removed_stays_removed(two):
    """Of the old ones, those that I kept."""
    two.mine.checkpoint("a")
    two.mine.checkpoint("b")
    two.my_manager.save(two.mine)
    two.theirs = two.their_manager.get_session("s")
    del two.mine.checkpoints[0]
    add(two.theirs, "t")

    two.save_both()

    assert [each.name for each in two.stored.checkpoints] == ["b"]


def test_updated_at_is_the_later_of_both(two):
    """A merge never sets a session's time back."""
    two.their_manager.store.clock.pass_(hours=2)
    add(two.theirs, "t")
    add(two.mine, "m")

    two.save_both()

    assert two.stored.updated_at == two.their_manager.store.clock.now


# Rewritten history ------------------------------------------------------------------------------------------------

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
    """Where the message that theirs follow still stands, there is one way to keep both."""
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
    """Likewise, the other way round."""
    REWRITES[rewrite](two.theirs)
    add(two.theirs, "t")
    add(two.mine, "m")
    expected = [*((each.message_id, each.content) for each in two.theirs.messages), ("m", "text m")]

    two.save_both()

    assert [(each.message_id, each.content) for each in two.stored.messages] == expected
    assert two.mine == two.stored


@pytest.mark.parametrize("rewrite", REWRITES | REWRITES_OF_THE_LAST)
def test_a_rewrite_merges_with_a_change_of_state_alone(two, rewrite):
    """Who appended nothing has nothing that could be out of place."""
    (REWRITES | REWRITES_OF_THE_LAST)[rewrite](two.theirs)
    two.mine.set_state("a", 1)

    two.save_both()

    assert two.stored.messages == two.theirs.messages
    assert two.stored.state["a"] == 1


@pytest.mark.parametrize("rewrite", REWRITES_OF_THE_LAST)
@pytest.mark.parametrize("mine_rewrites", [True, False])
def test_messages_after_one_that_was_rewritten_are_a_conflict(two, rewrite, mine_rewrites):
    """An answer to what was taken back: only the caller can tell. Nothing is written, both sides are intact."""
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
    """Nobody can tell where the change belongs: nothing is written."""
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
    """Those of the same message are a conflict, unless they are the same change."""
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
    """What was never stored can be taken back without a conflict."""
    add(two.mine, "m")
    two.mine.pop()
    two.theirs.pop()

    two.save_both()

    assert two.ids == ["b0", "b1"]


def test_a_conflict_is_solved_by_loading_again(two):
    """As the error says."""
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
    """The pages that it never loaded changed under it: what it appended is kept, what they rewrote as well."""
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
    """load_history gives what precedes the loaded messages, though others saved meanwhile; saving then merges."""
    two = Two(100)
    two.mine = two.my_manager.get_session("s", last=last)
    add(two.mine, "m")
    add(two.theirs, "t")
    two.their_manager.save(two.theirs)

    two.my_manager.load_history(two.mine)

    assert [each.message_id for each in two.mine.messages] == [*(f"b{n}" for n in range(100)), "m"]
    two.my_manager.save(two.mine)
    assert two.ids == [*(f"b{n}" for n in range(100)), "t", "m"]


# Deleted, created anew, on_conflict -------------------------------------------------------------------------------


@pytest.mark.parametrize("on_conflict", ["merge", "error", "overwrite"])
@pytest.mark.parametrize("anew", [False, True])
def test_a_deleted_session_stays_deleted(two, on_conflict, anew):
    """A stale copy does not bring it back, nor does it touch another session of the same id."""
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
    """A session made by hand under a taken id is refused, unless it is to overwrite."""
    before = dict(two.mapping)

    with pytest.raises(SessionExistsError):
        two.my_manager.save(Session(session_id="s"), on_conflict=on_conflict)

    assert two.mapping == before


def test_the_content_of_a_deleted_session_can_be_saved_as_a_new_one(two):
    """As the error says."""
    two.their_manager.delete("s")

    two.my_manager.save(type(two.mine).from_dict(two.mine.to_dict()))

    assert two.ids == ["b0", "b1", "b2"]


def test_on_conflict_error_raises_for_any_stale_copy(two):
    """Though a merge would do; nothing is written."""
    add(two.theirs, "t")
    two.mine.set_state("k", 1)

    with pytest.raises(SessionConflictError, match="was saved by another writer; load it again"):
        two.save_both(on_conflict="error")

    assert two.ids == ["b0", "b1", "b2", "t"]
    assert "k" not in two.stored.state


def test_on_conflict_error_saves_a_fresh_copy(two):
    """There is no conflict, so there is no error."""
    add(two.mine, "m")

    two.my_manager.save(two.mine, on_conflict="error")

    assert two.ids == ["b0", "b1", "b2", "m"]


@pytest.mark.parametrize("count", [3, 100])
def test_on_conflict_overwrite_replaces_what_they_stored(count):
    """What is stored is my copy, and no page of theirs is left."""
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
    """What is not loaded cannot be written."""
    two = Two(100, last=1)
    add(two.mine, "m")
    add(two.theirs, "t")

    with pytest.raises(SessionStateError, match="is loaded only in part"):
        two.save_both(on_conflict="overwrite")

    assert two.ids[-2:] == ["b99", "t"]


# The machine ------------------------------------------------------------------------------------------------------

IDS = st.sampled_from(["s0", "s1"])
USERS = ["ada", "bob", None]
WRITER = st.integers(0, 1)


@pytest.mark.parametrize("change", ["edit", "remove", "rewrite"])
def test_changes_of_messages_are_kept_where_the_storage_went_back(change):
    """Single ones are made anew on what is left; where that cannot be told, nothing is written."""
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
    """A replica took over, or a backup was put back: no message is lost that the storage or a copy in hand has."""
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
    """The head that an append remembers is not that of the backup."""
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


@dataclass
class Content:
    """A session in the plain model: messages are pairs of id and text."""

    user: object
    now: object
    edition: int
    life: int
    messages: list = field(default_factory=list)
    state: dict = field(default_factory=dict)
    status: str = "active"
    revision: int = 0
    active: object = None

    def __post_init__(self):
        self.active = self.active or self.now

    def copy(self):
        return copy.deepcopy(self)


@dataclass
class Copy:
    """A session in someone's hand: the object, the model of it, and what it was loaded as."""

    session: object
    mine: Content
    base: Content
    part: bool = False
    rewritten: bool = False


def by_key(base, mine, theirs):
    merged = dict(theirs)
    for key in base.keys() | mine.keys():
        if mine.get(key) != base.get(key):
            if key in mine:
                merged[key] = mine[key]
            elif theirs.get(key) == base.get(key):  # deleted by me, and not changed by them
                merged.pop(key, None)
    return merged


def expected_messages(mine, base, theirs):
    """Return the merged messages, or None for a conflict."""
    was, now, there = dict(base.messages), dict(mine.messages), dict(theirs.messages)
    added = [each for each in mine.messages if each[0] not in was]
    last = base.messages[-1][0] if base.messages else None
    if last is not None:
        if added and last not in there:
            return None
        if last not in now and last in there and theirs.messages[-1][0] != last:
            return None
    merged = dict(there)
    for message_id, text in was.items():
        if now.get(message_id) in (text, there.get(message_id)):
            continue
        if there.get(message_id) != text:
            return None
        merged[message_id] = now.get(message_id)
    return [each for each in merged.items() if each[1] is not None] + [each for each in added if each[0] not in there]


class TwoWriters(RuleBasedStateMachine):
    """Two managers and any number of copies in hand, fresh and stale, against a model in plain Python."""

    copies = Bundle("copies")

    def open(self):
        return {}

    def __init__(self):
        super().__init__()
        self.mapping = self.open()
        self.clock = StoppedClock()
        self.managers = [SessionManager(KVSessionStore(self.mapping, clock=self.clock)) for _ in range(2)]
        self.stored = {}
        self.counter = 0

    def next(self):
        self.counter += 1
        return self.counter

    def attempt(self, expected, act):
        """Do something that must raise *expected*, or nothing."""
        self.clock.pass_(seconds=1)
        if expected is None:
            return act()
        with pytest.raises(expected) as caught:
            act()
        assert type(caught.value) is expected
        return None

    def commit(self, session_id, content):
        content.revision = self.next()
        self.stored[session_id] = content.copy()

    def in_hand(self, session, content, *, part=False):
        return Copy(session, content.copy(), content.copy(), part)

    @initialize(target=copies, count=st.sampled_from([0, 1, 3, 40]))
    def begin(self, count):
        """Give each run a session in several hands, or most runs would meet none."""
        first = self.create("s0", "ada", 0)
        self.set_or_delete_state(first, "a", 1)
        self.save(first, 0)
        if count:
            self.append("s0", 0, count)
        return multiple(*(self.load("s0", n % 2, last) for n, last in enumerate([None, None, None, 1])))

    @rule(target=copies, session_id=IDS, user=st.sampled_from(USERS), writer=WRITER)
    def create(self, session_id, user, writer):
        taken = session_id in self.stored
        session = self.attempt(
            SessionExistsError if taken else None,
            lambda: self.managers[writer].create_session(user, session_id=session_id),
        )
        if taken:
            return multiple()
        content = Content(user, self.clock.now, self.next(), self.next())
        self.commit(session_id, content)
        return self.in_hand(session, self.stored[session_id])

    @rule(target=copies, session_id=IDS, writer=WRITER, last=st.sampled_from([None, None, 0, 1, 40]))
    def load(self, session_id, writer, last):
        session = self.managers[writer].get_session(session_id, last=last)
        if session_id not in self.stored:
            assert session is None
            return multiple()
        return self.in_hand(session, self.stored[session_id], part=last is not None)

    @rule(session_id=IDS, writer=WRITER, count=st.sampled_from([1, 2, 40]))
    def append(self, session_id, writer, count):
        stored = self.stored.get(session_id)
        added = [(f"m{self.next()}", f"text {n}") for n in range(count)]
        archived = stored is not None and stored.status == "archived"
        error = SessionNotFoundError if stored is None else SessionArchivedError if archived else None
        self.attempt(
            error,
            lambda: self.managers[writer].append(
                session_id, *({"role": "user", "content": text, "message_id": each} for each, text in added)
            ),
        )
        if error is None:
            stored.messages += added
            stored.now = stored.active = self.clock.now
            self.commit(session_id, stored)

    @rule(session_id=IDS, writer=WRITER, status=st.sampled_from(["active", "archived"]))
    def archive_or_restore(self, session_id, writer, status):
        stored, manager = self.stored.get(session_id), self.managers[writer]
        change = manager.archive if status == "archived" else manager.restore
        self.attempt(SessionNotFoundError if stored is None else None, lambda: change(session_id))
        if stored is not None and stored.status != status:
            stored.status = status
            if status == "active":
                stored.now = stored.active = self.clock.now
            self.commit(session_id, stored)

    @rule(session_id=IDS, writer=WRITER)
    def delete(self, session_id, writer):
        assert self.managers[writer].delete(session_id) == (self.stored.pop(session_id, None) is not None)

    @rule(writer=WRITER)
    def reindex(self, writer):
        assert self.managers[writer].reindex() == len(self.stored)

    @rule(hand=copies, count=st.sampled_from([1, 3]))
    def add(self, hand, count):
        self.clock.pass_(seconds=1)
        for n in range(count):
            message_id = f"m{self.next()}"
            hand.session.add_message("user", f"text {n}", message_id=message_id)
            hand.mine.messages.append((message_id, f"text {n}"))
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, key=st.sampled_from(["a", "b"]), value=st.integers(1, 3) | st.none())
    def set_or_delete_state(self, hand, key, value):
        self.clock.pass_(seconds=1)
        if value is not None:
            hand.session.set_state(key, value)
            hand.mine.state[key] = value
        else:
            hand.session.delete_state(key)
            hand.mine.state.pop(key, None)
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, user=st.sampled_from(USERS))
    def change_user(self, hand, user):
        hand.session.user_id = hand.mine.user = user

    @rule(hand=copies)
    def archive_copy(self, hand):
        hand.session.archive()
        hand.mine.status = "archived"

    @rule(hand=copies, how=st.sampled_from(["pop", "remove", "edit"]), where=st.integers(0, 99))
    def rewrite(self, hand, how, where):
        if hand.part or not hand.mine.messages:
            return
        self.clock.pass_(seconds=1)
        at = len(hand.mine.messages) - 1 if how == "pop" else where % len(hand.mine.messages)
        message_id, _ = hand.mine.messages[at]
        if how == "edit":
            text = f"edited {self.next()}"
            hand.session.replace_message(message_id, content=text)
            hand.mine.messages[at] = (message_id, text)
        else:
            hand.session.pop() if how == "pop" else hand.session.remove_message(message_id)
            del hand.mine.messages[at]
        hand.rewritten |= at < len(hand.base.messages)
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, writer=WRITER)
    def save(self, hand, writer):
        session_id, mine, base = hand.session.session_id, hand.mine, hand.base
        stored = self.stored.get(session_id)
        error, merged = self.expected(hand, stored)
        self.attempt(error, lambda: self.managers[writer].save(hand.session))
        if error is not None:
            mine.now = hand.session.updated_at
            return
        merged.edition = self.next() if hand.rewritten else stored.edition
        merged.now, merged.active = hand.session.updated_at, hand.session.active_at
        assert merged.active >= stored.active
        assert merged.active == stored.active or mine.messages != base.messages  # a list is in the order of messages
        assert merged.now >= max(mine.now, stored.now)
        assert merged.now > base.now or (mine.state, mine.user) == (base.state, base.user)
        self.commit(session_id, merged)
        hand.mine, hand.base, hand.rewritten = merged.copy(), self.stored[session_id].copy(), False

    @rule(hand=copies, writer=WRITER, where=st.integers(0, 99), how=st.sampled_from(["pop", "remove", "edit"]))
    def rewrite_and_save(self, hand, writer, where, how):
        self.rewrite(hand, how, where)
        self.save(hand, writer)

    @rule(one=copies, other=copies, count=st.sampled_from([1, 3]))
    def speak_at_the_same_time(self, one, other, count):
        self.add(one, count)
        self.add(other, count)
        self.save(one, 0)
        if other is not one:
            self.save(other, 1)

    @rule(one=copies, other=copies, where=st.integers(0, 99), how=st.sampled_from(["pop", "remove", "edit"]))
    def rewrite_while_another_speaks(self, one, other, where, how):
        self.rewrite(one, how, where)
        self.add(other, 1)
        self.save(other, 0)
        self.save(one, 1)

    @rule(one=copies, other=copies, key=st.sampled_from(["a", "b"]), value=st.integers(1, 3) | st.none())
    def change_state_while_another_speaks(self, one, other, key, value):
        self.set_or_delete_state(one, key, value)
        self.add(other, 1)
        self.save(other, 0)
        self.save(one, 1)

    @rule(hand=consumes(copies))
    def forget(self, hand):
        """Let a copy go, so that fresh ones are in hand as often as stale ones."""

    def expected(self, hand, stored):
        """Return the error that a save must raise, or None and the content that it must store."""
        mine, base = hand.mine, hand.base
        if stored is None or stored.life != base.life:
            gone_while_archived = stored is not None and base.status == stored.status == "archived"
            return (SessionArchivedError if gone_while_archived else SessionDeletedError), None
        if stored.status == "archived" and (base.status == "archived" or mine.status == "active"):
            return SessionArchivedError, None
        if stored.revision == base.revision:
            return None, mine.copy()
        messages = expected_messages(mine, base, stored)
        if messages is None:
            return SessionConflictError, None
        merged = stored.copy()
        merged.messages = messages
        merged.user = stored.user if mine.user == base.user else mine.user
        merged.status = stored.status if mine.status == base.status else mine.status
        merged.state = by_key(base.state, mine.state, stored.state)
        return None, merged

    @invariant()
    def both_managers_see_what_the_model_holds(self):
        for manager in self.managers:
            for session_id in ("s0", "s1"):
                session, stored = manager.get_session(session_id), self.stored.get(session_id)
                assert (session is None) == (stored is None)
                if stored:
                    assert [(each.message_id, each.content) for each in session.messages] == stored.messages
                    assert session.message_count == len(stored.messages)
                    assert (session.user_id, session.state, session.status, session.updated_at) == (
                        stored.user,
                        stored.state,
                        stored.status,
                        stored.now,
                    )

    @invariant()
    def lists_and_counts_are_those_of_the_model(self):
        newest_first = sorted(self.stored, key=lambda each: (self.stored[each].active, each), reverse=True)
        active = [each for each in newest_first if self.stored[each].status == "active"]
        for manager in self.managers:
            assert [each.session_id for each in manager.list_sessions(limit=None)] == active
            assert [each.session_id for each in manager.list_sessions(status=None, limit=None)] == newest_first
            assert manager.count() == len(active)
            assert manager.count(status=None) == len(newest_first)
            for user in ("ada", "bob"):
                theirs = [each for each in active if self.stored[each].user == user]
                assert [each.session_id for each in manager.get_sessions_for_user(user)] == theirs
                assert [each.message_count for each in manager.list_sessions(user, limit=None)] == [
                    len(self.stored[each].messages) for each in theirs
                ]
                assert manager.count(user) == len(theirs)

    def teardown(self):
        verified = self.managers[0].verify()
        assert verified.sessions == len(self.stored)
        assert not verified.problems
        assert self.managers[0].clear_all() == len(self.stored)
        assert not list(self.mapping)


class TwoWritersOfSQLite(TwoWriters):
    """The same on an SQLite database in memory."""

    def open(self):
        return SQLiteMapping(":memory:")

    def teardown(self):
        super().teardown()
        self.mapping.close()


steps = settings(max_examples=80, stateful_step_count=30)
TestTwoWriters = TwoWriters.TestCase
TestTwoWritersOfSQLite = pytest.mark.wide(TwoWritersOfSQLite.TestCase)
TestTwoWriters.settings = TestTwoWritersOfSQLite.settings = steps


# Additions to the state, where replies are lost ---------------------------------------------------------------------


class LosesReplies(FullStore):
    """A store of one's own that fails after a save, when it is told to."""

    failing = False

    def save(self, session):
        super().save(session)
        if self.failing:
            self.failing = False
            raise OSError("the reply was lost")


def lossy(kind):
    """Return a manager of a storage, another manager of it, and a function that lets the next save's reply be lost."""
    if kind == "custom":
        store = LosesReplies()
        return SessionManager(store), SessionManager(store), lambda: setattr(store, "failing", True)
    mapping = FaultyMapping({})
    other = SessionManager(KVSessionStore(mapping.mapping, shared=True))
    return SessionManager(KVSessionStore(mapping, shared=True)), other, lambda: mapping.fail(OSError, applied=True)


@pytest.mark.parametrize("kind", ["mapping", "custom"])
@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("stale", [False, True])
def test_what_is_added_counts_once_where_a_reply_is_lost(kind, others, more, stale):
    """The save is repeated after others saved, and after more was added: a message of it tells that it was stored."""
    manager, other, lose = lossy(kind)
    manager.create_session("ada", session_id="s", state={"n": 0})
    mine = manager.get_session("s")
    if stale:
        add_one(other)
    mine.increment_state("n")
    mine.extend_state("list", ["mine"])
    mine.add_message("user", "mine")
    lose()
    with pytest.raises((StorageError, OSError)):
        manager.save(mine)
    for _ in range(others):
        add_one(other)
    for _ in range(more):
        mine.increment_state("n")
        mine.add_message("user", "more")

    manager.save(mine)

    stored = other.get_session("s")
    assert stored.state["n"] == 1 + others + more + stale
    assert stored.state["list"] == ["mine"]
    assert [each.content for each in stored.messages].count("mine") == 1
    assert stored.message_count == 1 + others + more + stale
    assert manager.get_session("s").state == mine.state


def add_one(manager):
    """Load, add to the number, and save."""
    session = manager.get_session("s")
    session.increment_state("n")
    session.add_message("user", "another")
    manager.save(session)


@pytest.mark.parametrize("kind", ["mapping", "custom"])
@pytest.mark.parametrize("applied", [True, False])
def test_an_addition_of_which_nothing_is_known_is_not_made_again(kind, applied):
    """Without a message nothing tells whether a save was stored that others have saved upon: the caller is told."""
    manager, other, lose = lossy(kind)
    mine = manager.create_session("ada", session_id="s", state={"n": 0})
    mine.increment_state("n")
    if applied:
        lose()
        with pytest.raises((StorageError, OSError)):
            manager.save(mine)
    add_one(other)

    if applied:
        with pytest.raises(SessionConflictError, match="may have what you added"):
            manager.save(mine)
    else:
        manager.save(mine)

    assert other.get_session("s").state == {"n": 2}
