"""An exception from outside, at any point of any call: what follows is as right as if it had not been there."""

import pytest

from tests.faults.interrupts import CALLS, attack, attacked


def check(tally):
    """Assert that nothing was hung, locked, lost or doubled after any interruption."""
    assert tally.points
    assert not tally.wrong, f"{tally}\n" + "\n".join(tally.examples)


@pytest.mark.parametrize("name", ["read"])
@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_after_an_interruption_all_goes_on(storage, name, long_form):
    """Whatever point of a call is interrupted, its repeat and all other calls are right, from everywhere."""
    assert name in CALLS
    with attacked(storage) as managers:
        check(attack(managers, name, every=1 if long_form else 7))
