"""What a store can do beyond the four methods: found out, asked for by tests, and reported where it is missing."""

import warnings
from typing import Any, NoReturn

import pytest

from pyai_sessions import KVSessionStore, SessionManager, UnsupportedOperationError


class MissingPowerWarning(UserWarning):
    """The store under test lacks an optional power, so the tests that need it did not run.

    pytest lists it at the end of every run. A store that is meant to have the power names it in `must_have`.
    """


MEANING = {
    "list_by_activity": "lists and counts of all users, archive_inactive and clear_all are refused",
    "revisions": "of two writers of one session the later replaces the earlier",
    "append": "messages that two writers append at the same moment may be lost",
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
    if power == "revisions":
        return isinstance(manager.store, KVSessionStore) or _counts_revisions(manager)
    return callable(getattr(manager.store, power, None)) or (power == "append" and has(manager, "revisions"))


def _counts_revisions(manager: SessionManager) -> bool:
    """Return whether a session that was just created has a revision."""
    made = manager.create_session("nobody else")
    stored = manager.get_session(made.session_id)
    manager.delete(made.session_id)
    return stored is not None and stored.revision is not None


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
"""Marks a test of what a revision is compared for."""
with_safe_appends = pytest.mark.usefixtures("_with_safe_appends")
"""Marks a test in which several writers append at the same time."""
