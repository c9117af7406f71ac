"""Tests of merging two changes of one JSON value."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions.values.joined import ABSENT, add, is_same, join

KEYS = st.sampled_from("abc")
LEAVES = st.sampled_from([None, True, False, 0, 1, 1.0, "", "x", [], [1], [True]])
OBJECTS = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=12).filter(
    lambda each: isinstance(each, dict)
)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)
CHANGES = st.dictionaries(PATHS, LEAVES | st.just(ABSENT), max_size=4)
"""Changes: values to set at paths, or to delete there."""


def changed(base, changes):
    """Return a copy with changes made as code would: ``state["a"]["b"] = 1``, ``del state["a"]``."""
    value = copy.deepcopy(base)
    for path, leaf in changes.items():
        at = value
        for key in path[:-1]:
            if type(at.get(key)) is not dict:
                if leaf is ABSENT:
                    break
                at[key] = {}
            at = at[key]
        else:
            if leaf is ABSENT:
                at.pop(path[-1], None)
            else:
                at[path[-1]] = copy.deepcopy(leaf)
    return value


def found(value, path):
    """Return the value at a path, or ABSENT."""
    for key in path:
        if type(value) is not dict or key not in value:
            return ABSENT
        value = value[key]
    return value


def paths_of(value, before=()):
    """Return the paths of all keys of a dict, at every depth."""
    for key, inner in value.items():
        yield (*before, key)
        if type(inner) is dict:
            yield from paths_of(inner, (*before, key))


def apart(path, others):
    """Return whether no other path equals this one or is its beginning or continuation."""
    return not any(path[: len(each)] == each[: len(path)] for each in others)


@given(OBJECTS, CHANGES, CHANGES)
@settings(max_examples=400)
def test_neither_side_loses_what_it_alone_changed(base, mine, theirs):
    """What only one side set or deleted is so in the result."""
    both = join(base, changed(base, mine), changed(base, theirs))

    for own, others in ((mine, theirs), (theirs, mine)):
        side = changed(base, own)
        for path in own:
            if all(apart(each, others) for each in own if path[: len(each)] == each):
                assert is_same(found(both, path), found(side, path)) or found(base, path[:-1]) is ABSENT
    for path in paths_of(base):
        if apart(path, [*mine, *theirs]):
            assert is_same(found(both, path), found(base, path))


@given(OBJECTS, CHANGES, CHANGES)
@settings(max_examples=400)
def test_it_does_not_matter_who_saves_first(base, one, other):
    """The result does not depend on the order, except where both set one value."""
    a, b = changed(base, one), changed(base, other)

    first, second = join(base, a, b), join(base, b, a)

    for path in {*paths_of(first), *paths_of(second)}:
        ours, theirs = found(a, path), found(b, path)
        if not is_same(found(first, path), found(second, path)) and type(found(first, path)) is not dict:
            clash = [found(side, path[:n]) for n in range(1, len(path) + 1) for side in (a, b)]
            assert ours is not ABSENT or theirs is not ABSENT
            assert any(type(each) is not dict for each in clash)
            assert any(
                found(a, path[:n]) is not ABSENT
                and found(b, path[:n]) is not ABSENT
                and not is_same(found(a, path[:n]), found(b, path[:n]))
                for n in range(1, len(path) + 1)
            )


@given(OBJECTS, CHANGES, CHANGES)
@settings(max_examples=200)
def test_a_repeated_merge_changes_nothing(base, mine, theirs):
    """Merging again with the own result changes nothing."""
    a = changed(base, mine)
    both = join(base, a, changed(base, theirs))

    assert is_same(join(base, a, both), both)
    assert is_same(join(a, a, both), both)
    assert is_same(join(base, a, a), a)


@given(st.integers() | st.just(ABSENT), st.lists(st.integers(), min_size=2, max_size=5))
def test_numbers_add_up_whatever_the_order(base, added):
    """Each side's addition counts once."""
    start = 0 if base is ABSENT else base
    for order in (added, added[::-1]):
        stored = base
        for each in order:
            stored = start + each if stored is ABSENT else add(base, start + each, stored)
        assert stored == start + sum(added)


@given(st.lists(LEAVES, max_size=3) | st.just(ABSENT), st.lists(st.lists(LEAVES, max_size=3), min_size=2, max_size=4))
def test_items_are_appended_whatever_the_order(base, added):
    """Each side's items follow what was stored, in their order."""
    start = [] if base is ABSENT else base
    stored = [*start, *added[0]]
    for each in added[1:]:
        stored = add(base, [*start, *each], stored)

    assert is_same(stored, [*start, *(item for each in added for item in each)])


def test_what_is_neither_number_nor_list_is_not_added():
    """Booleans are not added, and a list that lost its beginning is not appended to."""
    for base, mine, theirs in ((1, True, 1), (1, 2, "x"), ("a", "ab", "ac"), ([1], [2, 3], [1]), ([1], 2, [1])):
        assert add(base, mine, theirs) is ABSENT


def test_true_is_a_change_of_one():
    """True and 1 are different values."""
    assert join({"a": 1}, {"a": True}, {"a": 1, "b": 0}) == {"a": True, "b": 0}
    assert type(join({"a": 1}, {"a": True}, {"a": 1, "b": 0})["a"]) is bool


def test_a_dict_that_one_deleted_and_the_other_only_took_from_is_gone():
    """A dict that one side deleted is gone if the other only removed keys. New keys in it stay."""
    base = {"x": {"a": 1, "b": 2}, "y": 1}

    for theirs in ({}, {"a": 1}):
        assert join(base, {"y": 1}, {"x": theirs, "y": 1}) == {"y": 1}
        assert join(base, {"x": theirs, "y": 1}, {"y": 1}) == {"y": 1}
    assert join(base, {"y": 1}, {"x": {"a": 1, "c": 3}, "y": 1}) == {"x": {"c": 3}, "y": 1}
