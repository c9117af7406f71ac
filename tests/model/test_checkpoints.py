"""Tests of checkpoints, and of rewinding to them."""

from dataclasses import FrozenInstanceError

import pytest

from pyai_sessions import (
    Checkpoint,
    InvalidValueError,
    Session,
    SessionStateError,
)
from pyai_sessions.testing import NOON
from tests.samples import contents


def test_a_checkpoint_holds_the_point_and_the_state(session):
    """A checkpoint has a name, the length and end of the history, the state, and a time."""
    session.set_state("k", [1])

    made = session.checkpoint("before")

    assert made == Checkpoint("before", 3, "m2", {"k": [1]}, NOON)
    assert session.checkpoints == [made]


def test_a_checkpoint_cannot_change(session):
    """A checkpoint cannot be assigned to, and does not follow the session's state."""
    session.set_state("k", [1])
    made = session.checkpoint("c")

    session.state["k"].append(2)

    with pytest.raises(FrozenInstanceError):
        made.name = "x"
    with pytest.raises(TypeError):
        made.state["k"].append(2)
    assert made.state == {"k": [1]}


def test_rewind_returns_to_a_checkpoint(session):
    """`rewind` removes later messages and checkpoints, restores the state, and keeps the checkpoint."""
    session.set_state("k", 1)
    session.checkpoint("c")
    session.add_message("user", "later")
    session.set_state("k", 2)
    session.checkpoint("d")

    session.rewind("c")

    assert contents(session) == ["text 0", "text 1", "text 2"]
    assert session.state == {"k": 1}
    assert [each.name for each in session.checkpoints] == ["c"]


def test_rewind_takes_the_checkpoint_itself(session):
    """`rewind` takes a checkpoint or its name."""
    made = session.checkpoint("c")
    session.add_message("user", "later")

    session.rewind(made)

    assert session.message_count == 3


def test_a_rewound_state_can_change_and_be_rewound_again(session):
    """`rewind` copies the checkpoint's state."""
    session.set_state("k", [1])
    session.checkpoint("c")

    session.rewind("c")
    session.state["k"].append(2)
    session.rewind("c")

    assert session.state == {"k": [1]}


def test_rewind_to_the_empty_beginning():
    """A checkpoint before the first message leads to an empty history."""
    session = Session()
    session.checkpoint("start")
    session.add_message("user", "x")

    session.rewind("start")

    assert session.message_count == 0


def test_a_checkpoint_of_a_taken_name_replaces_the_other(session):
    """A new checkpoint replaces one of the same name, and is last."""
    session.checkpoint("a")
    session.checkpoint("b")
    session.add_message("user", "x")

    session.checkpoint("a")

    assert [(each.name, each.message_count) for each in session.checkpoints] == [("b", 3), ("a", 4)]


def test_rewind_to_an_unknown_checkpoint_names_the_known_ones(session):
    """The error lists the known checkpoints."""
    with pytest.raises(InvalidValueError, match="to is 'x', no id of a message; the session's checkpoints are: none"):
        session.rewind("x")
    session.checkpoint("a")
    session.checkpoint("b")
    with pytest.raises(
        InvalidValueError, match="to is 'x', no id of a message; the session's checkpoints are: 'a', 'b'"
    ):
        session.rewind("x")


@pytest.mark.parametrize("change", [lambda s: s.pop(), lambda s: s.remove_message("m1")])
def test_rewind_to_a_history_that_is_gone_is_refused(session, change):
    """A checkpoint whose messages were removed raises, and nothing changes."""
    session.checkpoint("c")
    change(session)
    before = session.to_json()

    with pytest.raises(SessionStateError, match="no longer has the history of checkpoint 'c'"):
        session.rewind("c")

    assert session.to_json() == before
