"""Tests that metadata and state hold only JSON: each value is checked at once, at every depth, and copied."""

import copy
import json
import pickle
from datetime import datetime, timezone
from enum import IntEnum
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import Checkpoint, InvalidValueError, Message, Session, SessionManager, jsonable
from pyai_sessions.values.containers import JSONDict, JSONList, guarded

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)

DOORS = {
    "set_state": lambda s, v: s.set_state("x", v),
    "state[k] =": lambda s, v: s.state.__setitem__("x", v),
    "metadata[k] =": lambda s, v: s.metadata.__setitem__("x", v),
    "update": lambda s, v: s.state.update({"y": 1, "x": v}),
    "update of pairs": lambda s, v: s.state.update([("y", 1), ("x", v)]),
    "update by name": lambda s, v: s.state.update(y=1, x=v),
    "|=": lambda s, v: s.state.__ior__({"x": v}),
    "setdefault": lambda s, v: s.state.setdefault("x", v),
    "deep": lambda s, v: s.state["deep"]["er"][0].__setitem__("x", v),
    "list.append": lambda s, v: s.state["deep"]["er"].append(v),
    "list.extend": lambda s, v: s.state["deep"]["er"].extend([1, v]),
    "list +=": lambda s, v: s.state["deep"]["er"].__iadd__([v]),
    "list.insert": lambda s, v: s.state["deep"]["er"].insert(0, v),
    "list[n] =": lambda s, v: s.state["deep"]["er"].__setitem__(0, v),
    "list[n:m] =": lambda s, v: s.state["deep"]["er"].__setitem__(slice(0, 1), [v]),
    "what was put in": lambda s, v: s.state.setdefault("new", {"er": []})["er"].append(v),
    "state =": lambda s, v: setattr(s, "state", {"x": v}),
    "metadata =": lambda s, v: setattr(s, "metadata", {"x": v}),
}


@pytest.fixture(params=["made", "created", "loaded"])
def session(request):
    """Return a session with some state, made by hand, created, or loaded."""
    state = {"deep": {"er": [{"a": 1}]}}
    if request.param == "made":
        return Session(session_id="s", state=state)
    manager = SessionManager()
    created = manager.create_session("ada", session_id="s", state=state)
    return created if request.param == "created" else manager.get_session("s")


@pytest.mark.parametrize("door", DOORS)
def test_what_json_cannot_hold_is_refused_where_it_is_put(session, door):
    """The statement that puts an invalid value raises, names the place and the remedy, and changes nothing."""
    before = session.to_dict()

    with pytest.raises(InvalidValueError, match=r"is a datetime\.datetime.* default=jsonable") as caught:
        DOORS[door](session, NOON)

    assert caught.value.path.startswith(("state[", "metadata["))
    after = session.to_dict()
    if door == "what was put in":
        assert after["state"].pop("new") == {"er": []}
    assert after == before


@pytest.mark.parametrize("door", DOORS)
def test_what_is_put_in_is_stored(session, door):
    """An accepted value is saved and loaded as it was."""
    manager = SessionManager()
    DOORS[door](session, {"a": [1, ("b", None)], "\ud83d\ude00": True})
    fresh = Session.from_dict({**session.to_dict(), "session_id": "t"})

    manager.import_sessions([fresh])

    assert manager.get_session("t").state == session.state
    assert manager.get_session("t").metadata == session.metadata


@pytest.mark.parametrize("door", DOORS)
def test_a_default_converts_what_is_put_in(door):
    """A value that JSON cannot hold is converted at once, so that it reads the same before and after a save."""
    manager = SessionManager(default=jsonable)
    manager.create_session("ada", session_id="s", state={"deep": {"er": [{"a": 1}]}})
    session = manager.get_session("s")

    DOORS[door](session, {"when": NOON})
    manager.save(session)

    assert '"2026-01-31T12:00:00Z"' in json.dumps([session.state, session.metadata])
    assert manager.get_session("s") == session


@pytest.mark.parametrize("bad", [5, None, ("a", 1), b"a"], ids=repr)
def test_a_key_is_text(session, bad):
    """A key that is not text raises, since 5 would be read as "5"."""
    for act in (
        lambda: session.state.__setitem__(bad, 1),
        lambda: session.state.update({bad: 1}),
        lambda: session.state["deep"].setdefault(bad, 1),
    ):
        with pytest.raises(InvalidValueError, match="JSON keys are text"):
            act()


class Number(IntEnum):
    ONE = 1


def test_a_key_and_a_value_are_what_comes_back(session):
    """Halves of a character are joined, and numbers of other classes become plain, at once."""
    session.state["\ud83d\ude00"] = "\ud83d\ude00"
    session.state["number"] = Number.ONE

    assert list(session.state.items())[1:] == [("\U0001f600", "\U0001f600"), ("number", 1)]
    assert type(session.state["number"]) is int


def test_a_default_converts_a_key():
    """`default=` converts keys as it converts values."""
    session = SessionManager(default=jsonable).create_session()

    session.state[UUID(int=1)] = 1

    assert session.state == {"00000000-0000-0000-0000-000000000001": 1}


def test_what_is_stored_deeper_than_is_accepted_can_be_read():
    """A document that is nested deeper than accepted can be read without exhausting the stack."""
    value = {}
    for _ in range(10_000):
        value = {"a": value}

    state = guarded(value, "state")

    for _ in range(100):
        assert isinstance(state, JSONDict)
        state = state["a"]
    assert type(state["a"]) is dict


def test_nesting_is_counted_from_the_root():
    """Nesting is counted from the root, so that a value which a save would refuse is refused at once."""
    session = Session()
    inner = session.state
    for _ in range(99):
        inner = inner.setdefault("a", {})

    with pytest.raises(InvalidValueError, match="nested deeper than 100 levels"):
        inner["a"] = {}

    SessionManager().save(session)


def test_it_is_a_dict_to_everyone():
    """Equality, json, isinstance, copies and pickles are those of a dict. A copy is a plain dict."""
    state = Session(state={"a": [1, {"b": 2}]}).state

    assert state == {"a": [1, {"b": 2}]}
    assert Session().metadata == {}
    assert isinstance(state, dict)
    assert isinstance(state["a"], list)
    assert json.dumps(state) == '{"a": [1, {"b": 2}]}'
    for copied in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state)), {**state}, state | {}):  # noqa: S301
        assert copied == state
        assert type(copied) is dict
    assert type(copy.deepcopy(state)["a"]) is list


READING = {
    dict: {"clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "values"},
    list: {"clear", "copy", "count", "index", "pop", "remove", "reverse", "sort"},
}


@pytest.mark.parametrize("kind", [JSONDict, JSONList])
def test_every_method_that_puts_something_in_is_checked(kind):
    """Every method of dict and list that adds values is checked, in any release of Python."""
    base = dict if issubclass(kind, dict) else list
    inherited = {name for name in dir(base) if not name.startswith("_") and getattr(kind, name) == getattr(base, name)}

    assert inherited | {"fromkeys"} == READING[base] | {"fromkeys"}
    assert {"__setitem__", "__ior__" if base is dict else "__iadd__"} <= vars(kind).keys()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=8,
)
ANY = st.recursive(
    JSON
    | st.sampled_from([NOON, {1}, b"x", object(), float("nan"), float("inf"), 2**14_001, 1j, range(3), NOON.date()]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children, children)
        | st.dictionaries(st.text(max_size=3) | st.integers(), children, max_size=3)
    ),
    max_leaves=8,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "append", "update", "setdefault", "pop", "insert", "extend", "slice"]),
        st.integers(0, 5),
        ANY,
    ),
    max_size=8,
)


def containers_in(value):
    """Return a value and all containers in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(each for item in inner if isinstance(item, (dict, list)) for each in containers_in(item))]


def step(state, act, place, value):
    """Change a container somewhere in the state. Return whether it was refused."""
    found = containers_in(state)
    at = found[place % len(found)]
    try:
        if isinstance(at, dict):
            {
                "append": lambda: at.__setitem__("a", value),
                "set": lambda: at.__setitem__("b", value),
                "update": lambda: at.update({"c": 1, "d": value}),
                "setdefault": lambda: at.setdefault("e", value),
                "pop": lambda: at.pop("a", None),
                "insert": lambda: at.__ior__({"f": value}),
                "extend": lambda: at.update([("g", value)]),
                "slice": at.clear,
            }[act]()
        else:
            {
                "append": lambda: at.append(value),
                "set": lambda: at.__setitem__(0, value) if at else None,
                "update": lambda: at.__iadd__([value]),
                "setdefault": lambda: at.sort(key=repr),
                "pop": lambda: at.pop() if at else None,
                "insert": lambda: at.insert(1, value),
                "extend": lambda: at.extend([value, 1]),
                "slice": lambda: at.__setitem__(slice(0, 1), [value]),
            }[act]()
    except InvalidValueError:
        return True
    return False


@settings(max_examples=150)
@given(state=st.dictionaries(st.text(max_size=3), JSON, max_size=3), steps=STEPS)
def test_any_changes_are_refused_or_saved(state, steps):
    """After any step a state can be saved and loaded. A refused step changes nothing."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s", state=state)
    for act, place, value in steps:
        before = copy.deepcopy(session.state)
        refused = step(session.state, act, place, value)
        if refused:
            assert session.state == before
        manager.save(session)
        loaded = manager.get_session("s")
        assert json.dumps(loaded.state) == json.dumps(session.state)
        session = loaded


# Other fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("user_id", 5, "user_id is an int; it is text: str(user_id)"),
        ("session_id", None, "session_id is None; it is text"),
        ("status", "gone", "status is 'gone'; it is 'active' or 'archived'"),
        ("created_at", "noon", "created_at is text that names no time"),
        ("updated_at", datetime(2026, 1, 31), "updated_at has no time zone"),  # noqa: DTZ001
        ("metadata", [1], "metadata is a list; it is a dict with text keys"),
        ("state", None, "state is None; it is a dict with text keys"),
        ("checkpoints", ["c"], "checkpoints[0] is a str; it is a Checkpoint"),
        ("checkpoints", None, "checkpoints is None; it is a list of Checkpoint"),
        ("parent", "s", "parent is a str; it is a Parent, or None"),
        ("summary", "text", "summary is a str; it is a Summary, or None"),
        (
            "messages",
            [],
            "messages was assigned to; change it by session.add_message, pop, replace_message or remove_message",
        ),
        ("message_count", 5, "message_count cannot be assigned to"),
        ("expires_at", NOON, "expires_at cannot be assigned to"),
        ("userid", "ada", "session.userid is no field of a session; keep it in session.metadata or session.state"),
    ],
)
def test_an_assignment_is_checked_there_and_then(session, name, value, problem):
    """An invalid assignment raises at once, and changes nothing."""
    before = session.to_dict()

    with pytest.raises(InvalidValueError) as caught:
        setattr(session, name, value)

    assert str(caught.value).startswith(problem)
    assert session.to_dict() == before


def test_a_field_cannot_be_deleted(session):
    """Deleting a field of a session raises."""
    with pytest.raises(InvalidValueError, match="user_id cannot be deleted; assign another value"):
        del session.user_id


def test_checkpoints_take_checkpoints_alone(session):
    """The list of checkpoints takes only checkpoints. They can be removed."""
    session.checkpoint("a")
    for act in (
        lambda: session.checkpoints.append("b"),
        lambda: session.checkpoints.extend(["b"]),
        lambda: session.checkpoints.insert(0, "b"),
        lambda: session.checkpoints.__iadd__(["b"]),
        lambda: session.checkpoints.__setitem__(0, "b"),
        lambda: session.checkpoints.__setitem__(slice(0, 1), ["b"]),
    ):
        with pytest.raises(InvalidValueError, match=r"^checkpoints\[0\] is a str; it is a Checkpoint"):
            act()

    session.checkpoints.append(Checkpoint("b", 0))
    del session.checkpoints[0]

    assert [each.name for each in session.checkpoints] == ["b"]


# Classes of the user's own --------------------------------------------------------------------------------------------


class Chat(Session):
    agent = None

    @property
    def title(self):
        return self.metadata.get("title")

    @title.setter
    def title(self, title):
        self.metadata["title"] = title


def test_a_field_of_a_subclass_is_not_lost_in_silence():
    """A subclass's extra field raises when the session is saved or imported."""
    manager = SessionManager()
    chat = Chat(session_id="s")
    chat.title = "T"
    chat._cache = object()
    manager.save(chat)
    assert manager.get_session("s").metadata == {"title": "T"}

    chat.agent = "support"

    for act in (lambda: manager.save(chat), lambda: manager.import_sessions([chat])):
        with pytest.raises(
            InvalidValueError, match=r"agent is a field that .*Chat adds, and would not be stored; put it"
        ):
            act()


def test_a_field_of_a_subclass_of_message_is_refused_when_it_is_added():
    """A Message subclass's extra field raises when the message is added."""

    class Rated(Message):
        pass

    rated = Rated("user", "x")
    vars(rated)["stars"] = 5
    manager = SessionManager()
    manager.create_session(session_id="s")

    for act in (lambda: Session(messages=[rated]), lambda: manager.append("s", rated)):
        with pytest.raises(InvalidValueError, match=r"^messages\[0\]\.stars is a field of .*Rated that a store"):
            act()
