"""Fixtures of the tests of documents."""

import pytest

from tests.documents.copies import Two


@pytest.fixture
def two():
    """Return two copies of one stored session of three messages."""
    return Two()
