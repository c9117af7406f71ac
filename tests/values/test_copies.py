"""Tests of copies and pickles of sessions."""

import copy
import dataclasses
import gc
import pickle
import weakref
from datetime import datetime, timezone
from functools import partial

import pytest

from pyai_sessions import ImmutableError, InvalidValueError, Message, Session, SessionManager
from tests.values.conftest import filled

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),  # noqa: S301
    **{f"pickle {n}": partial(lambda n, s: pickle.loads(pickle.dumps(s, n)), n) for n in range(6)},  # noqa: S301
    "pickle of a list": lambda s: pickle.loads(pickle.dumps([s, s]))[1],  # noqa: S301
    "replace": dataclasses.replace,
    "from_dict": lambda s: Session.from_dict(s.to_dict()),
}


@pytest.mark.parametrize("duplicate", COPIES)
def test_a_copy_is_equal_and_independent(session, duplicate):
    """A copy is equal, and changes independently at any depth."""
    copied = COPIES[duplicate](session)

    assert copied == session
    assert type(copied) is Session
    before = session.to_dict()
    copied.add_message("user", "only here")
    copied.state["cart"][0]["id"] = 2
    copied.metadata["title"] = "other"
    copied.checkpoint("other")
    copied.pop()
    copied.pop()
    copied.user_id = "bob"
    with pytest.raises(ImmutableError):
        copied.messages.append(Message("user", "past the session"))
    assert session.to_dict() == before
    assert copied.messages != session.messages


@pytest.mark.parametrize("duplicate", ["copy", "deepcopy", "pickle"])
def test_a_copy_and_its_original_can_both_be_saved(manager, session, duplicate):
    """A copy and its original are two copies of one session, and merge."""
    copied = COPIES[duplicate](session)
    copied.add_message("user", "in the copy", message_id="copy")
    copied.state["copy"] = True
    session.add_message("user", "in the original", message_id="original")
    session.state["original"] = True

    manager.save(session)
    manager.save(copied)

    stored = manager.get_session("s")
    assert [each.message_id for each in stored.messages] == ["m0", "m1", "original", "copy"]
    assert stored.state == {"cart": [{"id": 1}], "copy": True, "original": True}
    assert stored.unknown_fields == {"x-label": {"deep": [1]}} or not session.unknown_fields


def test_a_replaced_session_goes_on_from_the_stored_one(manager):
    """`dataclasses.replace` keeps a session's tie to the store. Under another id it is new."""
    manager.save(filled(manager.create_session("ada", session_id="s")))
    session = manager.get_session("s")

    moved = dataclasses.replace(session, user_id="bob")
    moved.add_message("user", "on")
    manager.save(moved)
    other = dataclasses.replace(session, session_id="t")
    manager.save(other)

    assert manager.get_session("s").user_id == "bob"
    assert manager.get_session("s").message_count == 3
    assert manager.get_session("t").message_count == 2
    assert manager.get_session("s").unknown_fields == {"x-label": {"deep": [1]}}


@pytest.mark.parametrize("duplicate", ["copy", "deepcopy", "pickle", "replace"])
def test_a_copy_of_a_part_is_such_a_part(manager, duplicate):
    """A copy of a partly loaded session is partly loaded, can be saved, and never counts as the whole."""
    long = manager.create_session("ada", session_id="s")
    for n in range(100):
        long.add_message("user", f"text {n}")
    manager.save(long)

    copied = COPIES[duplicate](manager.get_session("s", last=5))
    assert [each.content for each in copied.messages] == [f"text {n}" for n in range(95, 100)]
    copied.add_message("user", "on")
    manager.save(copied)
    manager.load_history(copied)

    assert copied.message_count == len(copied.messages) == 101
    with pytest.raises(InvalidValueError, match="is loaded only in part"):
        dataclasses.replace(manager.get_session("s", last=5), session_id="t")


def test_a_session_of_a_lambda_s_clock_can_be_pickled(manager):
    """A pickle leaves out the clock and the default."""
    session = SessionManager(clock=lambda: NOON, default=lambda value: None).create_session(session_id="s")

    assert pickle.loads(pickle.dumps(session)) == session  # noqa: S301


def test_messages_are_a_list_that_follows_the_session():
    """One list object shows what is added, removed and loaded."""
    manager = SessionManager()
    long = manager.create_session("ada", session_id="s")
    view = long.messages
    for n in range(100):
        long.add_message("user", f"text {n}", message_id=f"m{n}")
    assert isinstance(view, list)
    assert view == long.messages
    assert len(view) == 100
    long.remove_message("m0")
    long.insert_message("m1", "user", "new")
    long.replace_message("m2", content="edited")
    long.pop()
    assert [each.content for each in view[:3]] == ["new", "text 1", "edited"]
    assert len(view) == 99
    manager.save(long)
    part = manager.get_session("s", last=5)
    view = part.messages
    part.add_message("user", "on")
    assert [each.content for each in view] == [*(f"text {n}" for n in range(94, 99)), "on"]
    manager.load_history(part)
    assert len(view) == 100
    part.clear_messages()
    assert view == []
    assert type(copy.copy(part.messages)) is type(copy.deepcopy(part.messages)) is list


def test_a_session_is_freed_when_it_is_no_longer_used(manager):
    """A session has no reference cycle that keeps it in memory."""
    manager.save(filled(manager.create_session("ada", session_id="s")))
    gc.disable()
    try:
        session = manager.get_session("s")
        history = weakref.ref(session._history)
        assert history().count == 2
        del session
        assert history() is None
    finally:
        gc.enable()
