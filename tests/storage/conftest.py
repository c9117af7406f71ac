"""Fixtures of tests of storages."""

import secrets

import pytest


@pytest.fixture
def prefix():
    """A prefix that no other test has."""
    return f"test:{secrets.token_hex(8)}:"


@pytest.fixture
def client(any_server):
    """A client of the Valkey server, then of the Redis server."""
    with any_server.client() as client:
        yield client
