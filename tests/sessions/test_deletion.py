"""Tests of repeating a deletion that the storage interrupted."""

import pytest

from pyai_sessions import SessionManager, StorageError
from pyai_sessions.testing import FaultyMapping


def test_a_deletion_that_failed_is_not_repeated_for_another_user():
    """Another user's deletion does not remove what a failed deletion left."""
    mapping = FaultyMapping({})
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s")
    for n in range(100):
        session.add_message("user", f"message {n}")
    manager.save(session)
    mapping.fail(OSError("gone"), of="delete", at=2)
    with pytest.raises(StorageError):
        manager.delete("s", user_id="ada")

    assert not manager.delete("s", user_id="bob")
    assert manager.delete("s", user_id="ada")
    assert dict(mapping) == {}
