"""Fixtures of the fault tests."""

import secrets
import sys

import pytest

from tests.faults.storages import EXAMPLE, ON_SERVERS, Storage


@pytest.fixture
def storage(request, tmp_path):
    """An empty storage of the kind that the test is parametrised with."""
    kind = request.param
    if kind == "dict":
        return Storage(kind, {})
    if kind in ON_SERVERS:
        return Storage(kind, (request.getfixturevalue(f"{kind}_server").url, f"{secrets.token_hex(8)}:"))
    if kind == EXAMPLE:
        return Storage(kind, request.getfixturevalue("postgres_url"))
    return Storage(kind, tmp_path)


@pytest.fixture
def check(request, long_form, capsys):
    """Assert that nothing was hung, locked, lost or doubled; print the counts in the long form."""

    def check(tally):
        if long_form:
            with capsys.disabled():
                sys.stdout.write(f"\n{request.node.callspec.id:40} {tally}")
                sys.stdout.flush()
        assert tally.points
        assert not tally.wrong, "\n".join(tally.examples)

    return check
