"""Tests that what a manager returns can be copied, pickled and written as JSON without loss."""

import copy
import dataclasses
import json
import pickle
from decimal import Decimal

import pytest

from pyai_sessions import Session, SessionManager, jsonable

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),  # noqa: S301 (our own)
    "replace": dataclasses.replace,
}
RETURNED = {
    "Session": lambda m: m.get_session("s"),
    "a part of a Session": lambda m: m.get_session("s", last=2),
    "Message": lambda m: m.get_message("s", "m1"),
    "SessionSummary": lambda m: m.list_sessions("ada")[0],
    "SummaryPage": lambda m: m.list_sessions("ada", limit=1),
    "MessagePage": lambda m: m.get_messages("s", before="m3", limit=2),
    "SharedState": lambda m: m.user_state("ada"),
    "Imported": lambda m: m.import_sessions([Session(session_id="s", user_id="bob")]),
    "Verification": lambda m: m.verify(),
}
FIELDS = {
    "Session": ("session_id", "user_id", "metadata", "state", "revision", "message_count", "messages", "title"),
    "Message": ("message_id", "content", "metadata", "tool_calls", "timestamp"),
    "SessionSummary": ("session_id", "metadata", "message_count", "updated_at", "title"),
    "SummaryPage": ("next_cursor",),
    "MessagePage": ("has_older", "has_newer", "messages"),
    "SharedState": ("revision", "expires_at"),
}


@pytest.fixture
def manager():
    manager = SessionManager({}, default=jsonable)
    for session_id in ("r", "s"):
        session = manager.create_session("ada", session_id=session_id, metadata={"price": Decimal("1.5")}, title="Tea")
        for n in range(5):
            session.add_message("assistant", [n], message_id=f"m{n}", metadata={"n": n}, tool_calls=[{"id": f"{n}"}])
        session.set_state("step", {"n": 1})
        manager.save(session)
    manager.update_user_state("ada", {"a": {"b": Decimal(1)}})
    return manager


def shown(value):
    """Return everything that can be read of a value, in the order of its fields."""
    kind = type(value).__name__
    return kind, value, [getattr(value, name) for name in FIELDS.get(kind, ())]


@pytest.mark.parametrize(
    ("duplicate", "name"),
    [(way, name) for way in COPIES for name in RETURNED if way != "replace" or name != "SharedState"],
)
def test_a_copy_of_what_is_returned_has_all_of_it(manager, duplicate, name):
    """A copy has the same class, is equal, and keeps revision, cursor, and whether more lies beyond."""
    given = RETURNED[name](manager)

    assert shown(COPIES[duplicate](given)) == shown(given)


@pytest.mark.parametrize("name", RETURNED)
def test_what_is_returned_is_json_with_jsonable(manager, name):
    """`json.dumps(value, default=jsonable)` writes everything, also inside a dict or list. A part raises."""
    given = RETURNED[name](manager)
    if name == "a part of a Session":
        given = given.messages

    written = json.dumps({"given": [given]}, default=jsonable)

    assert json.loads(written) == {"given": [json.loads(json.dumps(jsonable(given)))]}
    assert written != json.dumps({"given": [{}]})


@pytest.mark.parametrize("name", [name for name in RETURNED if name not in ("a part of a Session", "SharedState")])
def test_what_has_a_to_dict_is_json_without_a_default(manager, name):
    """`json.dumps(value.to_dict())` needs no default."""
    given = RETURNED[name](manager)
    taken = given.to_dict() if hasattr(given, "to_dict") else dataclasses.asdict(given)

    assert json.loads(json.dumps(taken)) == taken


@pytest.mark.parametrize("name", [name for name in RETURNED if name != "SharedState"])
def test_asdict_has_every_field(manager, name):
    """`dataclasses.asdict` has every field, and is JSON with `default=jsonable`."""
    given = RETURNED[name](manager)

    taken = dataclasses.asdict(given)

    assert taken.keys() == {each.name for each in dataclasses.fields(given)}
    assert json.loads(json.dumps(taken, default=jsonable)).keys() == taken.keys()


def test_the_state_of_a_user_is_a_mapping(manager):
    """`json.dumps` and `dict` take a user's state."""
    state = manager.user_state("ada")

    assert json.loads(json.dumps(state)) == dict(state) == {"a": {"b": "1"}}


@pytest.mark.parametrize("of", ["from JSON", "before its first save"])
@pytest.mark.parametrize("name", COPIES)
def test_a_session_that_was_never_loaded_is_handed_on_with_what_only_its_copy_knows(name, of):
    """A copy keeps revision, branches and last activity. Under another id it is a new session."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "one")
    session.add_message("user", "two")
    if of == "from JSON":
        manager.save(session)
        session = Session.from_json(session.to_json())
    session.rewind(1)

    copied = COPIES[name](session)

    assert (copied.revision, copied.branches) == (session.revision, session.branches)
    assert (copied.active_at, copied.to_dict()) == (session.active_at, session.to_dict())
    assert len(copied.branches) == 1
    other = dataclasses.replace(session, session_id="t")
    assert (other.revision, other.branches) == (None, [])
    manager.save(copied)  # it is the one that is stored
    assert [manager.get_session("s").branches, manager.get_session("s").message_count] == [session.branches, 1]
