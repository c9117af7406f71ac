"""What a store can do beyond the four methods: found out, asked for by tests, and reported where it is missing."""

import warnings
from typing import Any, NoReturn

import pytest

from pyai_sessions import KVSessionStore, Session, SessionManager, UnsupportedOperationError
from pyai_sessions.concurrency.calls import outcome


class MissingPowerWarning(UserWarning):
    """The store under test lacks an optional power, so the tests that need it did not run.

    pytest lists it at the end of every run. A store that is meant to have the power names it in `must_have`.
    """


MEANING = {
    "list_by_activity": "lists and counts of all users, archive_inactive and clear_all are refused",
    "revisions": "of two writers at the same moment, in two processes, the later replaces the earlier",
}
"""The powers that tests ask for, with what their absence means."""


def has(manager: SessionManager, power: str) -> bool:
    """Return whether a manager's store has a power, or what serves as well."""
    if power == "list_by_activity":
        try:
            manager.list_sessions(limit=1)
        except UnsupportedOperationError:
            return False
        return True
    return isinstance(manager.store, KVSessionStore) or _counts_revisions(manager.store)


def _counts_revisions(store: Any) -> bool:
    """Return whether a store gives a session that it saves a revision."""
    made = Session()
    outcome(store.save(made))
    outcome(store.delete(made.session_id))
    return made.revision is not None


def need(manager: SessionManager, power: str, must_have: Any = ()) -> None:
    """Skip the test, and say so in a warning, where the store lacks a power; fail it where it must have it."""
    if has(manager, power):
        return
    text = f"{type(manager.store).__name__} has no {power}: {MEANING[power]}"
    if power in must_have:
        pytest.fail(text)
    report(f"{text}. The tests of it did not run")


def report(text: str) -> NoReturn:
    """Skip the test, and say so in a warning."""
    warnings.warn(text, MissingPowerWarning, stacklevel=3)
    pytest.skip(text)


of_all_users = pytest.mark.usefixtures("_of_all_users")
"""Marks a test that lists or counts the sessions of all users."""
with_revisions = pytest.mark.usefixtures("_with_revisions")
"""Marks a test in which several writers write at the same moment."""
