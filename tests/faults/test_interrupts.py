"""An exception from outside, at any point of any call: what follows is as right as if it had not been there."""

import sys

import pytest

from tests.faults.interrupts import CALLS, attack, attack_with_handler, attacked
from tests.faults.storages import IN_FILES

KINDS = ["dict", "folder", *IN_FILES]


@pytest.fixture
def check(request, long_form, capsys):
    """Assert that nothing was hung, locked, lost or doubled; print the counts in the long form."""

    def check(tally):
        if long_form:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.callspec.id:40} {tally}")
        assert tally.points
        assert not tally.wrong, "\n".join(tally.examples)

    return check


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_after_an_interruption_all_goes_on(storage, name, long_form, check):
    """Whatever point of a call is interrupted, its repeat and all other calls are right, from everywhere."""
    options = {"shared": True} if storage.kind == "folder" else {}
    with attacked(storage, **options) as managers:
        tally = attack(managers, name, lines=long_form, every=1 if long_form else 29, first=1 if long_form else 11)

    check(tally)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("storage", ["dict", "sqlite", "sqlitedict"], indirect=True)
def test_a_handler_that_saves_does_so_or_is_told_at_once_that_it_cannot(storage, name, long_form, check):
    """In the middle of any call: also the very session that the call is saving. The call itself goes on."""
    every, first = (1, 1) if long_form else (41, 7)
    with attacked(storage) as managers:
        tally = attack_with_handler(managers, name, lines=long_form, every=every, first=first)

    check(tally)
