"""Fixtures of tests of sessions and histories."""

import pytest

from pyai_sessions.testing import StoppedClock
from tests.samples import three_messages


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def session(clock):
    """A session with three messages, m0 to m2, on a stopped clock."""
    return three_messages(clock)
