"""Tests of `default=`, which converts values that JSON cannot hold, in every call."""

import dataclasses
import json
from array import array
from collections import OrderedDict, UserDict, UserList, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import PurePosixPath
from typing import NamedTuple
from uuid import UUID

import anyio
import attrs
import msgspec
import pydantic
import pytest

from pyai_sessions import AsyncSessionManager, InvalidValueError, Message, Session, SessionManager, jsonable

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Pairs:
    """Pairs of keys and values, of which `dict` makes a dict."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        return iter(self.pairs)


class Plain(Enum):
    A = "a"
    B = (1, 2)


class Number(IntEnum):
    ONE = 1


class Model(pydantic.BaseModel):
    when: datetime
    tags: set[str] = set()


@dataclasses.dataclass
class Point:
    x: int
    when: date


class Struct(msgspec.Struct):
    a: Decimal


@attrs.define
class Attrs:
    when: date


@dataclasses.dataclass
class Named:
    """Has fields with the names of methods."""

    to_dict: int
    tolist: int


class Scalar:
    """Resembles a scalar or an array of numpy."""

    def __init__(self, value):
        self.value = value

    def tolist(self):
        return self.value


class Pair(NamedTuple):
    a: int
    b: date


MESSAGE = Message("user", "x", message_id="m", timestamp=NOON)

VALUES = {
    "datetime": (NOON, "2026-01-31T12:00:00Z"),
    "datetime of a zone": (NOON.astimezone(timezone(timedelta(hours=1))), "2026-01-31T13:00:00+01:00"),
    "naive datetime": (NOON.replace(tzinfo=None), "2026-01-31T12:00:00"),
    "date": (NOON.date(), "2026-01-31"),
    "time": (time(12, 30), "12:30:00"),
    "time of a zone": (time(12, 30, tzinfo=timezone.utc), "12:30:00+00:00"),
    "timedelta": (timedelta(minutes=1.5), 90.0),
    "UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "Decimal": (Decimal("1.10"), "1.10"),
    "Enum": (Plain.A, "a"),
    "Enum of a tuple": (Plain.B, [1, 2]),
    "IntEnum": (Number.ONE, 1),
    "dataclass": (Point(1, NOON.date()), {"x": 1, "when": "2026-01-31"}),
    "attrs": (Attrs(NOON.date()), {"when": "2026-01-31"}),
    "fields of a method's name": (Named(1, 2), {"to_dict": 1, "tolist": 2}),
    "pydantic": (Model(when=NOON, tags={"b"}), {"when": "2026-01-31T12:00:00Z", "tags": ["b"]}),
    "Struct": (Struct(Decimal(1)), {"a": "1"}),
    "bytes": (b"\xff\x00", "/wA="),
    "bytearray": (bytearray(b"\xff\x00"), "/wA="),
    "memoryview": (memoryview(b"\xff\x00"), "/wA="),
    "set": ({"b", "a", 1}, ["a", "b", 1]),
    "frozenset": (frozenset([NOON]), ["2026-01-31T12:00:00Z"]),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "scalar": (Scalar(1.5), 1.5),
    "array": (Scalar([[1], [2]]), [[1], [2]]),
    "array of Python": (array("i", [1, 2]), [1, 2]),
    "deque": (deque([1, NOON]), [1, "2026-01-31T12:00:00Z"]),
    "range": (range(2), [0, 1]),
    "UserList": (UserList([{1}]), [[1]]),
    "UserDict": (UserDict(a={1}), {"a": [1]}),
    "OrderedDict": (OrderedDict(a=NOON.date()), {"a": "2026-01-31"}),
    "namedtuple": (Pair(1, NOON.date()), [1, "2026-01-31"]),
    "message": (
        Message("user", "x", message_id="m", timestamp=NOON),
        Message("user", "x", message_id="m", timestamp=NOON).to_dict(),
    ),
    "key": ({UUID(int=1): 1, Plain.A: 2}, {"00000000-0000-0000-0000-000000000001": 1, "a": 2}),
    "deep": ({"a": [({"b": {NOON}},)]}, {"a": [[{"b": ["2026-01-31T12:00:00Z"]}]]}),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_a_known_type_is_converted(kind):
    """`jsonable` converts known types, alone and as `default=` of json.dumps and of a manager."""
    value, expected = VALUES[kind]

    assert jsonable(value) == expected
    assert json.loads(json.dumps(jsonable({"x": [value]}))) == {"x": [expected]}
    assert SessionManager(default=jsonable).create_session(state={"x": value}).state == {"x": expected}


@pytest.mark.parametrize("kind", VALUES)
def test_a_converted_value_comes_back_as_the_json_that_it_became(kind):
    """A converted value reads the same before and after a save, in every call."""
    value, expected = VALUES[kind]
    manager = SessionManager(default=jsonable)
    session = manager.create_session("ada", session_id="s", metadata={"x": value}, state={"x": value})
    session = manager.get_session("s")
    session.set_state("y", value)
    session.metadata["y"] = value
    session.add_message("user", [value], metadata={"x": value}, tool_calls=[value])
    message = session.add_message("user", "")
    session.replace_message(message, content=value)
    session.insert_message(message, "user", "", metadata={"x": value})
    manager.save(session)
    manager.append("s", {"role": "user", "content": [value]})
    fork = manager.fork("s", new_id="t")
    fork.state["z"] = value
    manager.save(fork)
    manager.import_sessions([{"session_id": "i", "state": {"x": value}, "created_at": NOON}])

    loaded = manager.get_session("s")
    assert loaded.metadata == loaded.state == {"x": expected, "y": expected}
    assert [each.content for each in loaded.messages] == [[expected], "", expected, [expected]]
    assert loaded.messages[0].metadata == loaded.messages[1].metadata == {"x": expected}
    assert loaded.messages[0].tool_calls == [expected]
    assert loaded.messages[:3] == session.messages
    assert manager.get_session("t").state["z"] == expected
    assert manager.get_session("i").state == {"x": expected}
    if type(value) is not dict:  # which a filter compares as JSON as well
        assert len(manager.list_sessions("ada", where={"x": value})) == 2
        assert manager.count("ada", where={"x": value}) == 2


def test_sessions_of_a_list_convert_what_they_are_given():
    """Every session that a manager returns converts, also after a merge."""
    manager = SessionManager(default=jsonable)
    manager.create_session("ada", session_id="s")
    mine, theirs = manager.get_sessions_for_user("ada")[0], manager.get_or_create_session("s")
    theirs.state["a"] = NOON
    manager.save(theirs)
    mine.state["b"] = NOON
    manager.save(mine)
    mine.state["c"] = NOON
    manager.save(mine)

    assert set(manager.get_session("s").state) == {"a", "b", "c"}


def test_an_async_manager_converts_as_well():
    """AsyncSessionManager takes the same `default=`."""

    async def use():
        async with AsyncSessionManager(default=jsonable) as manager:
            session = await manager.create_session("ada", session_id="s", state={"x": NOON})
            session.metadata["x"] = NOON
            await manager.save(session)
            await manager.append("s", {"role": "user", "content": [NOON]})
            session = await manager.get_session("s")
            session.add_message("user", [NOON])
            await manager.save(session)
            [listed] = await manager.get_sessions_for_user("ada")
            listed.set_state("y", NOON)
            await manager.import_sessions([{"session_id": "i", "state": {"x": NOON}}])
            return listed, await manager.get_session("i"), len(await manager.list_sessions("ada", where={"x": NOON}))

    session, imported, count = anyio.run(use)

    assert session.state == {"x": "2026-01-31T12:00:00Z", "y": "2026-01-31T12:00:00Z"}
    assert session.metadata == imported.state == {"x": "2026-01-31T12:00:00Z"}
    assert [each.content for each in session.messages] == [["2026-01-31T12:00:00Z"]] * 2
    assert count == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda value: SessionManager().create_session(state=value).state,
        lambda value: Message("user", value).content,
        lambda value: Session(state=value).state,
    ],
    ids=["create_session", "Message", "Session"],
)
def test_without_a_default_the_refusal_names_what_converts(make):
    """Without `default=` the error says how such a value can be accepted, also where there is no manager."""
    with pytest.raises(InvalidValueError, match=r"; convert it: jsonable\(value\); SessionManager\(\.\.\., default="):
        make({"x": NOON})

    assert make({"x": jsonable(NOON)}) == {"x": "2026-01-31T12:00:00Z"}  # as it advises


@pytest.mark.parametrize(
    "value",
    [
        *(object(), 1j, print, iter(()), (x for x in ()), float("nan"), {1: 2}, {None: 1}),
        *(int, Plain, Point, Struct, Attrs, Model, Scalar),
    ],
)
def test_what_jsonable_cannot_convert_is_refused_by_place(value):
    """A function, a class, a generator or NaN raises an error that names the place."""
    with pytest.raises(InvalidValueError, match=r"^value\['a'\]\[0\]"):
        jsonable({"a": [value]})
    with pytest.raises(InvalidValueError, match=r"^state\['a'\]\[0\]"):
        SessionManager(default=jsonable).create_session(state={"a": [value]})


def test_a_default_of_ones_own_is_that_of_json_dumps():
    """A function of yours gets values that JSON cannot hold, and raises TypeError for unknown ones."""

    def default(value):
        if isinstance(value, complex):
            return [value.real, {value.imag}]
        if isinstance(value, set):
            return sorted(value)
        raise TypeError

    manager = SessionManager(default=default)

    assert manager.create_session(state={"x": 1 + 2j}).state == {"x": [1.0, [2.0]]}
    with pytest.raises(InvalidValueError, match=r"^state\['x'\]\[0\] is an object.* default= does not convert it"):
        manager.create_session(state={"x": [object()]})


@pytest.mark.parametrize(
    "default", [lambda value: value, lambda _: object(), lambda value: [value], lambda value: {"a": object()}]
)
def test_a_default_that_converts_nothing_ends(default):
    """A function that returns its argument, or something like it, raises instead of looping."""
    with pytest.raises(InvalidValueError, match=r"^state\['x'\]"):
        SessionManager(default=default).create_session(state={"x": object()})


@pytest.mark.parametrize(
    ("default", "value", "kept"),
    [(str, NOON, "2026-01-31 12:00:00+00:00"), (list, {"a"}, ["a"]), (dict, Pairs([("a", 1)]), {"a": 1})],
)
def test_a_class_is_a_default(default, value, kept):
    """What can be called can be a default: `str`, as given to `json.dumps`, or any other class."""
    manager = SessionManager(default=default)

    assert manager.create_session(state={"x": value}).state == {"x": kept}


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_a_key_that_a_default_cannot_convert_is_refused_by_name(error):
    """A default may raise for a key what it may raise for a value."""

    def default(_):
        raise error

    with pytest.raises(InvalidValueError, match=r"^state has a datetime\.datetime for a key"):
        SessionManager(default=default).create_session(state={NOON: 1})


@pytest.mark.parametrize("default", [5, "jsonable", {}])
def test_what_is_no_default_is_refused(default):
    """A `default=` that is not a function raises."""
    for manager in (SessionManager, AsyncSessionManager):
        with pytest.raises(InvalidValueError, match=r"^default is .*; it is a function, such as jsonable"):
            manager(default=default)
