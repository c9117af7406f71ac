"""Tests that any value given to any call raises there, or is saved, listed, exported and given to a model as it is."""

import json
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import Message, Session, SessionError, SessionManager, jsonable

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Text(str):
    """A framework's subclass of str."""

    __slots__ = ()


class Whole(int):
    """A framework's subclass of int."""


class Real(float):
    """A subclass of float, as numpy's scalars are."""


class Word(str, Enum):
    YES = "yes"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    A = "a"


TEXTS = st.sampled_from(["", "a", "user", Text("b"), Word.YES, "\ud83d\ude00", "\ud800", "\0", "x" * 2000, "é"])
SCALARS = st.one_of(
    TEXTS,
    st.sampled_from([None, True, 0, -1, 2**53 + 1, 2**70, Whole(5), Level.HIGH, 0.1, -0.0, Real(2.5), 1e308]),
)
FOREIGN = st.sampled_from(
    [
        NOON,
        NOON.date(),
        UUID(int=1),
        Decimal("1.5"),
        Plain.A,
        b"x",
        {1},
        deque([1]),
        object(),
        float("nan"),
        2**14_001,
        1j,
    ]
)
MAPPINGS = [dict, OrderedDict, UserDict, ChainMap, MappingProxyType, lambda d: defaultdict(list, d)]


def nested(children):
    """Return a strategy for lists, tuples and mappings of all kinds."""
    mapping = st.tuples(st.sampled_from(MAPPINGS), st.dictionaries(TEXTS, children, max_size=2))
    return st.one_of(
        st.lists(children, max_size=2),
        st.tuples(children, children),
        mapping.map(lambda made: made[0](made[1])),
        st.dictionaries(st.sampled_from([1, None, Level.HIGH, (1,)]), children, max_size=1),
        st.lists(children, max_size=1).map(UserList),
    )


VALUES = st.recursive(st.one_of(SCALARS, SCALARS, SCALARS, FOREIGN), nested, max_leaves=6)


def loaded(manager, session_id="s"):
    return manager.get_session(session_id)


def save(manager, session):
    manager.save(session)
    return session


def with_message(manager, add):
    session = manager.create_session("ada", session_id="s")
    add(session)
    return save(manager, session)


def assigned(manager, name, value):
    session = manager.create_session("ada", session_id="s")
    setattr(session, name, value)
    return save(manager, session)


def appended(manager, message):
    manager.create_session("ada", session_id="s")
    manager.append("s", message)
    return loaded(manager)


def imported(manager, session):
    manager.import_sessions([session])
    return loaded(manager)


def as_text(value):
    return json.dumps(value, default=str, skipkeys=True)


DOORS = {
    "Session(metadata)": lambda m, v: save(m, Session("s", "ada", metadata={"x": v})),
    "Session(state)": lambda m, v: save(m, Session("s", "ada", state={"x": v})),
    "Session(user_id)": lambda m, v: save(m, Session("s", v)),
    "Session(created_at)": lambda m, v: save(m, Session("s", created_at=v)),
    "Session(status)": lambda m, v: save(m, Session("s", status=v)),
    "create_session(metadata)": lambda m, v: m.create_session("ada", session_id="s", metadata={"x": v}),
    "create_session(state)": lambda m, v: m.create_session("ada", session_id="s", state=v),
    "create_session(user_id)": lambda m, v: m.create_session(v, session_id="s"),
    "metadata =": lambda m, v: assigned(m, "metadata", v),
    "state =": lambda m, v: assigned(m, "state", v),
    "user_id =": lambda m, v: assigned(m, "user_id", v),
    "updated_at =": lambda m, v: assigned(m, "updated_at", v),
    "checkpoints =": lambda m, v: assigned(m, "checkpoints", v),
    "another attribute": lambda m, v: assigned(m, "x", v),
    "set_state": lambda m, v: with_message(m, lambda s: s.set_state("x", v)),
    "content": lambda m, v: with_message(m, lambda s: s.add_message("user", v)),
    "role": lambda m, v: with_message(m, lambda s: s.add_message(v, "text")),
    "name": lambda m, v: with_message(m, lambda s: s.add_message("user", "text", name=v)),
    "message_id": lambda m, v: with_message(m, lambda s: s.add_message("user", "text", message_id=v)),
    "message metadata": lambda m, v: with_message(m, lambda s: s.add_message("user", "text", metadata=v)),
    "tool_calls": lambda m, v: with_message(m, lambda s: s.add_message("assistant", "text", tool_calls=v)),
    "tool_call_id": lambda m, v: with_message(m, lambda s: s.add_message("tool", "text", tool_call_id=v)),
    "timestamp": lambda m, v: with_message(m, lambda s: s.add_message("user", "text", timestamp=v)),
    "add_messages": lambda m, v: with_message(m, lambda s: s.add_messages([{"role": "user", "content": v}])),
    "add_messages item": lambda m, v: with_message(m, lambda s: s.add_messages([v])),
    "append": lambda m, v: appended(m, {"role": "user", "content": v}),
    "append Message": lambda m, v: appended(m, Message("user", v)),
    "replace_message": lambda m, v: with_message(m, lambda s: s.replace_message(s.add_message("user", ""), content=v)),
    "insert_message": lambda m, v: with_message(m, lambda s: s.insert_message(s.add_message("user", ""), "user", v)),
    "compact": lambda m, v: with_message(m, lambda s: s.add_message("user", "text") and s.compact(v)),
    "checkpoint": lambda m, v: with_message(m, lambda s: s.checkpoint(v)),
    "import": lambda m, v: imported(m, {"session_id": "s", "user_id": "ada", "state": {"x": v}}),
    "import of a message": lambda m, v: imported(m, {"session_id": "s", "messages": [{"role": "user", "content": v}]}),
    "import of an unknown field": lambda m, v: imported(m, {"session_id": "s", "x": v}),
    "from_dict": lambda m, v: save(m, Session.from_dict({"session_id": "s", "metadata": {"x": v}})),
    "from_json": lambda m, v: save(
        m, Session.from_json(json.dumps({"session_id": "s", "state": v}, default=str, skipkeys=True))
    ),
}


def check_kept(manager, session):
    """Assert that a saved session is the same loaded, listed, exported and imported, and can be given to a model."""
    stored = loaded(manager)
    assert stored == session
    text = stored.to_json()
    assert json.loads(text) == json.loads(session.to_json())
    assert Session.from_json(text) == stored
    other = SessionManager()
    other.import_sessions([json.loads(text)])
    assert other.get_session("s") == stored
    summary = next(iter(manager.list_sessions()))
    assert summary.metadata == stored.metadata
    assert summary.user_id == stored.user_id
    for item in stored.metadata.items():
        assert manager.count(where=dict([item])) == 1
    roles = {each.role for each in stored.messages} - {"user", "assistant", "system", "developer", "tool"}
    for name in (None, "openai", "anthropic", "gemini"):
        try:
            prompt = stored.history(format=name, speakers=dict.fromkeys(roles, "user"))
        except SessionError:  # content that no API takes: a tool's result without its call
            continue
        json.dumps(prompt).encode()
    assert manager.verify().problems == []


@pytest.mark.parametrize("door", DOORS)
@settings(max_examples=60)
@given(value=VALUES)
def test_what_a_door_accepts_is_kept_everywhere(door, value):
    """A value raises our own error where it is given, or can be saved and exported later."""
    manager = SessionManager()

    try:
        session = DOORS[door](manager, value)
    except SessionError:
        stored = loaded(manager)
        assert stored is None or stored.message_count == 0
        return

    check_kept(manager, session)


@pytest.mark.parametrize("door", DOORS)
@settings(max_examples=40)
@given(value=VALUES)
def test_with_a_default_what_a_door_accepts_is_kept_everywhere(door, value):
    """The same holds if `default=` converts values that JSON cannot hold."""
    manager = SessionManager(default=jsonable)

    try:
        session = DOORS[door](manager, value)
    except SessionError:
        return

    check_kept(manager, session)
