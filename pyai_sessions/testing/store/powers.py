"""Optional powers of a store: how tests find them out, ask for them, and report missing ones."""

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
"""Each optional power, with what happens without it."""


def has(manager: SessionManager, power: str) -> bool:
    """Return whether a manager's store has a power, or something that replaces it."""
    if power == "list_by_activity":
        try:
            manager.list_sessions(limit=1)
        except UnsupportedOperationError:
            return False
        return True
    return isinstance(manager.store, KVSessionStore) or _counts_revisions(manager.store)


def _counts_revisions(store: Any) -> bool:
    """Return whether the store sets a revision on a saved session."""
    made = Session()
    outcome(store.save(made))
    outcome(store.delete(made.session_id))
    return made.revision is not None


def need(manager: SessionManager, power: str, must_have: Any = ()) -> None:
    """Skip the test with a warning if the store lacks a power. Fail it if `must_have` names the power."""
    if has(manager, power):
        return
    text = f"{type(manager.store).__name__} has no {power}: {MEANING[power]}"
    if power in must_have:
        pytest.fail(text)
    report(f"{text}. The tests of it did not run")


def report(text: str) -> NoReturn:
    """Skip the test with a warning."""
    warnings.warn(text, MissingPowerWarning, stacklevel=3)
    pytest.skip(text)


of_all_users = pytest.mark.usefixtures("_of_all_users")
"""Marks a test that needs lists or counts of all users' sessions."""
with_revisions = pytest.mark.usefixtures("_with_revisions")
"""Marks a test in which several writers write at the same moment."""
