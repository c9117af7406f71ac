"""Fixtures of the fault tests."""

import secrets

import pytest

from tests.faults.storages import ON_SERVERS, Storage


@pytest.fixture
def storage(request, tmp_path):
    """An empty storage of the kind that the test is parametrised with."""
    kind = request.param
    if kind == "dict":
        return Storage(kind, {})
    if kind in ON_SERVERS:
        return Storage(kind, (request.getfixturevalue(f"{kind}_server").url, f"{secrets.token_hex(8)}:"))
    return Storage(kind, tmp_path)
