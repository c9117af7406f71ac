"""Fails each write of every operation, and kills its process there. The stored state must be before or after it.

The n-th write fails, for each n until the operation has no n-th. Then another store looks at the same data, and the
operation is repeated, by the same caller, or by another who does not know how far the dead one came.
"""

import signal
from contextlib import ExitStack
from itertools import count
from typing import Any, NamedTuple

import pytest

from pyai_sessions import Session, StorageError, StorageLockedError
from tests.faults.operations import OPERATIONS
from tests.faults.operations.worlds import IDS, contents, states, store_world
from tests.faults.places import Death
from tests.faults.workers import DEADLINE, check_indexes, in_a_process

LEFTOVERS = {"orphan page", "orphan reference"}
"""Problems that an interrupted operation of several steps may leave. `verify` removes them."""


# What holds -----------------------------------------------------------------------------------------------------------


class Expected(NamedTuple):
    """The results of an undisturbed operation."""

    before: dict[str, Any]
    after: dict[str, Any]
    returned: Any
    states: tuple[dict[str, Any], dict[str, Any]]


def told(result):
    """Return a call's result in a form that can be compared."""
    return result.session_id if isinstance(result, Session) else result


def prepare(place, operation):
    """Store the initial state, and return what the operation makes of a copy of it."""
    with place.open(operation.rings[0]) as manager:
        store_world(manager)
        operation.arrange(manager)
    trial = place.copy()
    with trial.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        with trial.open(operation.rings[1]) as other:
            before, states_before = contents(other, branches=not operation.mends), states(other)
        returned = told(act())
        after, states_after = contents(manager, branches=not operation.mends), states(manager)
        expected = Expected(before, after, returned, (states_before, states_after))
        check_end(trial, operation, expected, manager)
    return expected


def check_lists(manager, found):
    users = {key: each[0] for key, each in found.items() if each}
    check_indexes(manager, users, [key for key in users if found[key][1] == "archived"])


def is_between(found, before, after):
    """Return whether each text is the old or the new one."""
    if isinstance(found, (list, tuple)) and type(found) is type(before) is type(after):
        return len(found) == len(before) == len(after) and all(map(is_between, found, before, after))
    if isinstance(found, dict):
        return found.keys() == before.keys() == after.keys() and all(
            is_between(found[k], before[k], after[k]) for k in found
        )
    return found in (before, after)


def is_grown(found, whole):
    """Return whether each text is the beginning of what it becomes."""
    if isinstance(found, (list, tuple)) and type(found) is type(whole):
        return len(found) == len(whole) and all(map(is_grown, found, whole))
    return found == whole or (isinstance(found, str) and found != "" and whole.startswith(found))


def mend_all(manager):
    """Repair, and assert that no problem is left."""
    report = manager.verify(repair=True)
    assert report
    assert not report.problems or not manager.verify().problems


def check_between(place, operation, expected, *, mend):
    """Assert that another store sees each session before or after, and right lists."""
    with place.open(operation.rings[1]) as other:
        found = contents(other, branches=not operation.mends)
        for each in IDS:
            ends = expected.before[each], expected.after[each]
            assert (
                found[each] in ends
                or (operation.stepwise and is_between(found[each], *ends))
                or (operation.grows and is_grown(found[each], ends[1]))
            )
        assert states(other) in expected.states
        if operation.together and place.TRANSACTIONS:
            assert (found == expected.after) == (states(other) == expected.states[1])
        if not operation.mends:
            check_lists(other, found)
            assert {each.kind for each in other.verify().problems} <= LEFTOVERS
        if mend:
            mend_all(other)
            assert operation.mends or contents(other) == found


def check_end(place, operation, expected, manager):
    """Assert that the operation is done once, as seen by its manager, by others, and in the stored documents."""
    with place.open(operation.rings[1]) as other:
        for each in (manager, other):
            assert contents(each, branches=not operation.mends) == expected.after
            check_lists(each, expected.after)
            assert states(each) == expected.states[1]
        mend_all(other)
        for each in IDS:
            other.delete(each)
        for each in expected.states[1]:
            other.delete_user(each)
        other.purge_expired()
        assert not other.count(status=None)
        with ExitStack() as stack:
            mapping = place.mapping(stack)
            kept = [value for key in mapping if key != "pyai_sessions/probe" and (value := text_of(mapping[key]))]
        assert set(kept) == set(operation.kept)


def text_of(value):
    return value if isinstance(value, str) else bytes(value).decode()


def attack(base, operation, expected, way, at, *, mend):
    """Fail the n-th write and check, then repeat the operation and check. Return whether there was an n-th write."""
    place = base.copy()
    with place.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        place.fail(at, way)
        caught = returned = None
        try:
            returned = told(act())
        except (StorageError, Death) as err:
            caught = err
        failed = place.mend()
        if way in place.HIDDEN:  # where the short timeout was over before the second try, the call may still say so
            assert caught is None or isinstance(caught, StorageLockedError)
        assert caught is not None or returned == expected.returned
        if not failed:
            assert caught is None
            check_end(place, operation, expected, manager)
            return False
        check_between(place, operation, expected, mend=mend)
        if isinstance(caught, Death):
            repeat(place, operation, expected)
        else:
            if not operation.mends:
                check_lists(manager, contents(manager))
            returned = told(act())
            assert caught is None or not operation.returns or returned == expected.returned
            check_end(place, operation, expected, manager)
    return True


def repeat(place, operation, expected):
    """Run the operation again in another process, which does not know how far the dead one came."""
    with place.open(operation.rings[1]) as manager:
        operation.load(manager)()
        check_end(place, operation, expected, manager)


@pytest.mark.parametrize("place", ["dict", "sqlite", pytest.param("valkey", marks=pytest.mark.long)], indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("proxy")
def test_a_write_that_fails(place, name, long_form, tell):
    """After a failed write each session is before or after, and lists agree. The repeated call does the rest."""
    operation = OPERATIONS[name]
    expected = prepare(place, operation)
    for at in count(1):
        ways = [(way, (n + at + at // len(place.WAYS)) % 2 == 0) for n, way in enumerate(place.WAYS)]
        tried = ways if long_form else [ways[at % len(ways)]]
        failed = [attack(place, operation, expected, way, at, mend=mend) for way, mend in tried]
        if not any(failed):
            break
    tell(at - 1)


def act_until_killed(link, place, name, at, applied):
    """In a process: run the operation, and be killed at the n-th write."""
    operation = OPERATIONS[name]
    with place.open(operation.rings[1]) as manager:
        act = operation.load(manager)
        place.kill(at, applied=applied)
        act()
        link.send("done")


@pytest.mark.long
@pytest.mark.parametrize("place", ["folder", "sqlite", "valkey"], indirect=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_process_that_is_killed(place, name, tell):
    """After SIGKILL at a write each session is before or after, and another process can do the rest."""
    operation = OPERATIONS[name]
    expected = prepare(place, operation)
    for applied in (False, True):
        for at in count(1):
            copy = place.copy()
            process, link = in_a_process(act_until_killed, copy, name, at, applied)
            process.join(DEADLINE)
            with link:
                if process.exitcode == 0:
                    assert link.recv() == "done"
                    break
            assert process.exitcode == -signal.SIGKILL
            check_between(copy, operation, expected, mend=at % 2 == 0)
            repeat(copy, operation, expected)
    tell(at - 1)
