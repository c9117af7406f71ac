"""Tests of differences between JSON values: applied to one value, they give the other."""

import json
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import Message
from pyai_sessions.integrations.differences import applied, difference, keep_difference, restored

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.sampled_from(["a", "b", "", "0", "a/b", "~1", "~"])
JSON = st.recursive(SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each), max_leaves=12)


def text_of(value):
    return json.dumps(value, sort_keys=True)


@given(JSON, JSON)
def test_a_difference_turns_one_value_into_the_other(one, other):
    """Applied to the first value, the difference gives the second, with the same types and signs of zero."""
    assert text_of(applied(deepcopy(one), *difference(one, other))) == text_of(other)


@given(JSON)
def test_equal_values_have_no_difference(value):
    """Equal values have no difference to store."""
    assert difference(value, deepcopy(value)) == ([], {})


def test_a_difference_holds_only_what_differs():
    """Text that both values have is not in their difference."""
    said = "a long text"

    found = difference([{"text": said, "n": 1}], [{"text": said, "n": 1.0, "m": []}, "more"])

    assert found == ([], {"/0/n": 1.0, "/0/m": [], "/1": "more"})


@given(JSON, JSON, JSON)
def test_a_difference_counts_only_for_the_fields_that_it_was_made_of(written, item, changed):
    """A difference gives the original item. If the message's fields changed since, only these count."""
    message = Message("user", "Hello!")

    keep_difference(message, "framework", written, item)
    message = Message.from_dict(message.to_dict())

    assert text_of(restored(message, "framework", deepcopy(written))) == text_of(item)
    if text_of(changed) != text_of(written):
        expected = item if "framework" not in message.metadata else changed
        assert expected is item or restored(message, "framework", deepcopy(changed)) == changed
