"""Tests of JSON values: what is accepted, what is refused, and immutable containers."""

import copy
import json
import pickle
import sys
from collections import OrderedDict
from decimal import Decimal
from enum import Enum, IntEnum

import pytest

from pyai_sessions import Session
from pyai_sessions.errors import InvalidValueError, SessionError
from pyai_sessions.values.checks import counted, kind_of
from pyai_sessions.values.json import MAX_DEPTH, FrozenDict, FrozenList, frozen, plain, read, write


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def nested(depth):
    value = "core"
    for _ in range(depth):
        value = [value]
    return value


JSON_VALUES = [
    None,
    True,
    0,
    -1,
    2**63,
    -(2**200),
    0.1,
    -0.0,
    1e308,
    "",
    "\x00",
    "\ud800",
    "\U0001f600 \u2028",
    [],
    {},
    {"": {"a/b": [1, [2, {"c": None}]]}},
]


@pytest.mark.parametrize("value", JSON_VALUES, ids=repr)
def test_a_json_value_is_copied_as_it_is(value):
    """A JSON value is copied equal and of the same type."""
    copied = plain(value, "content")

    assert copied == value
    assert type(copied) is type(value)


@pytest.mark.parametrize("value", JSON_VALUES, ids=repr)
def test_a_json_value_is_read_back_from_its_text(value):
    """Our text and the standard library's are read alike."""
    text = write(value)

    assert read(text) == value
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ({Colour.RED: [Level.HIGH]}, {"red": [3]}),
    ],
)
def test_a_relative_of_a_json_type_becomes_that_type(given, kept):
    """Tuples become lists, and subclasses their base type, at once."""
    copied = plain(given, "content")

    assert copied == kept
    assert json.dumps(copied) == json.dumps(kept)
    assert type(copied) is type(kept)


def test_a_dict_keeps_its_order():
    """Keys keep their order."""
    assert list(plain({"z": 1, "a": 2, "m": 3}, "state")) == ["z", "a", "m"]


def test_a_copy_shares_nothing_with_the_given_value():
    """Changing the given value does not change the copy."""
    given = {"a": [1, {"b": 2}]}

    copied = plain(given, "state")
    given["a"][1]["b"] = 3
    given["a"].append(4)

    assert copied == {"a": [1, {"b": 2}]}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"cursor": {1, 2}}, "state['cursor'] is a set, which JSON cannot hold"),
        ({"a": [0, {"b": float("nan")}]}, "state['a'][1]['b'] is nan, which JSON cannot hold"),
        ({"a": float("inf")}, "state['a'] is inf, which JSON cannot hold"),
        ({"a": float("-inf")}, "state['a'] is -inf, which JSON cannot hold"),
        ({"a": b"bytes"}, "state['a'] is bytes, which JSON cannot hold"),
        ({"a": Decimal(1)}, "state['a'] is a decimal.Decimal, which JSON cannot hold"),
        ({"a": 1j}, "state['a'] is a complex, which JSON cannot hold"),
        ({"a": object()}, "state['a'] is an object, which JSON cannot hold"),
        ({"a": range(3)}, "state['a'] is a range, which JSON cannot hold"),
        ({"a": {7: "seven"}}, "state['a'] has the key 7, an int; JSON keys are text"),
        ({None: 1}, "state has None for a key; JSON keys are text"),
        ({"it's": [set()]}, """state["it's"][0] is a set"""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("make", [plain, frozen])
def test_what_json_cannot_hold_is_refused_by_its_path(make, value, problem):
    """The error is our ValueError, and names the part as the caller would write it."""
    with pytest.raises(InvalidValueError) as caught:
        make(value, "state")

    assert str(caught.value).startswith(problem)
    assert problem.startswith(caught.value.path)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, SessionError)


@pytest.mark.parametrize("make", [plain, frozen])
def test_the_error_of_a_type_names_the_accepted_ones(make):
    """The error names the accepted types."""
    with pytest.raises(InvalidValueError, match="it is None, a bool, a number, text, a list, or a dict"):
        make({1}, "content")


def test_nesting_is_accepted_up_to_the_limit_and_refused_beyond():
    """A hundred levels are accepted, and one more is refused."""
    deepest = nested(MAX_DEPTH)

    assert read(write(plain(deepest, "content"))) == deepest
    with pytest.raises(InvalidValueError, match=f"is nested deeper than {MAX_DEPTH} levels") as caught:
        plain([deepest], "content")
    assert caught.value.path == "content" + "[0]" * MAX_DEPTH


def test_a_value_that_contains_itself_is_refused():
    """A value that contains itself raises."""
    circle = {}
    circle["again"] = circle

    with pytest.raises(InvalidValueError, match="is nested deeper than"):
        plain(circle, "state")


@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_is_held_up_to_what_python_itself_converts(sign):
    """Integers of up to 14,000 bits are accepted. Larger ones raise our own error."""
    huge = sign * (2**14_000 - 1)

    assert len(str(abs(huge))) < sys.int_info.default_max_str_digits
    assert read(write(plain(huge, "state"))) == huge
    with pytest.raises(InvalidValueError, match="is an integer of 14001 bits; at most 14000"):
        plain(sign * 2**14_000, "state")


def test_the_error_of_a_value_does_not_quote_text():
    """The error does not quote text."""
    with pytest.raises(InvalidValueError) as caught:
        plain(["a secret", {"secret words"}], "content")

    assert "secret" not in str(caught.value)


MUTATIONS = {
    FrozenDict: [
        lambda it: it.__setitem__("a", 1),
        lambda it: it.__delitem__("a"),
        lambda it: it.__ior__({"a": 1}),
        lambda it: it.clear(),
        lambda it: it.pop("a"),
        lambda it: it.popitem(),
        lambda it: it.setdefault("b", 1),
        lambda it: it.update(b=1),
    ],
    FrozenList: [
        lambda it: it.__setitem__(0, 1),
        lambda it: it.__delitem__(0),
        lambda it: it.__iadd__([1]),
        lambda it: it.__imul__(2),
        lambda it: it.append(1),
        lambda it: it.clear(),
        lambda it: it.extend([1]),
        lambda it: it.insert(0, 1),
        lambda it: it.pop(),
        lambda it: it.remove(1),
        lambda it: it.reverse(),
        lambda it: it.sort(),
    ],
}


@pytest.mark.parametrize(
    ("kind", "mutate"), [(kind, mutate) for kind, mutations in MUTATIONS.items() for mutate in mutations]
)
def test_a_frozen_container_refuses_every_change(kind, mutate):
    """Every change raises an error that names the remedy."""
    container = frozen({"a": 1}, "metadata") if kind is FrozenDict else frozen([1, 2], "content")
    before = copy.copy(container)

    with pytest.raises(TypeError, match=r"a message cannot change; use session\.replace_message"):
        mutate(container)

    assert container == before


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_mutating_method_of_a_container_is_covered(kind):
    """Every method of dict and list that changes is overridden."""
    reading = {
        dict: {"copy", "fromkeys", "get", "items", "keys", "values"},
        list: {"copy", "count", "index"},
    }
    base = dict if issubclass(kind, dict) else list
    inherited = {name for name in dir(base) if not name.startswith("_") and getattr(kind, name) == getattr(base, name)}

    assert inherited - {"fromkeys"} == reading[base] - {"fromkeys"}


def test_a_frozen_value_is_frozen_all_the_way_down():
    """Containers are frozen at every depth."""
    value = frozen({"a": [{"b": []}]}, "content")

    assert type(value) is FrozenDict
    assert type(value["a"]) is FrozenList
    assert type(value["a"][0]) is FrozenDict
    assert type(value["a"][0]["b"]) is FrozenList


def test_a_frozen_value_equals_and_encodes_as_a_plain_one():
    """A frozen value equals the plain one, and has the same JSON."""
    given = {"a": [1, {"b": 2}]}
    value = frozen(given, "content")

    assert value == given
    assert json.dumps(value) == json.dumps(given)
    assert write(value) == write(given)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])  # noqa: S301
def test_a_copy_of_a_frozen_value_can_change(duplicate):
    """A copy of a frozen value is plain and can be changed."""
    value = frozen({"a": [1]}, "content")

    copied = duplicate(value)
    copied["b"] = 2

    assert value == {"a": [1]}
    assert type(copied) is dict


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,]", "NaN", "[Infinity]", "[-Infinity]", '"\ud800'])
def test_text_that_is_not_json_is_a_value_error(text):
    """Any invalid text, NaN included, raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  (of any reader)
        read(text)


def test_text_nested_beyond_any_stack_is_a_value_error():
    """Very deep text raises ValueError rather than RecursionError."""
    with pytest.raises(ValueError, match="nested too deeply"):
        read("[" * 200_000)


def test_lone_surrogates_are_written_as_escapes():
    """Lone surrogates are written as escapes in ASCII, and read back."""
    text = write({"a\udc80": ["\ud83d", 2**70]})

    assert text == rb'{"a\udc80":["\ud83d",1180591620717411303424]}'
    assert read(text) == {"a\udc80": ["\ud83d", 2**70]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"),
        (5, "an int"),
        (True, "a bool"),
        (b"", "bytes"),
        (bytearray(), "a bytearray"),
        (object(), "an object"),
        (Decimal(1), "a decimal.Decimal"),
        (int, "the class int"),
        (Decimal, "the class decimal.Decimal"),
        (frozen({}, "x"), "a dict"),
        (frozen([], "x"), "a list"),
        (Session(state={"a": []}).state, "a dict"),
        (Session(state={"a": []}).state["a"], "a list"),
        (FrozenDict, "the class FrozenDict"),
        (Colour.RED, "a tests.values.test_values.Colour"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_says_what_was_given_with_its_article(value, said):
    """Errors use the right article: "an int", "bytes"."""
    found = kind_of(value).replace(f"{__name__}.", "tests.values.test_values.")

    assert found == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages")])
def test_one_thing_is_said_in_the_singular(count, said):
    """Errors use the singular for one."""
    assert counted(count, "message") == said
