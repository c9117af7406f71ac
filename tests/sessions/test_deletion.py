"""A deletion that the storage cut short is repeated, and then nothing of the session is left."""

import pytest

from pyai_sessions import SessionManager, StorageError
from pyai_sessions.testing import FaultyMapping

WORDS = "the night train"


def _session(manager, kind):
    session = manager.create_session("ada", session_id="s")
    for n in range(100):
        session.add_message("user", f"{WORDS} {n}")
    manager.save(session)
    if kind == "branched":
        session.rewind(40)
        manager.save(session)
    if kind == "forked":
        manager.fork("s", new_id="fork")
    return session


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("kind", ["long", "branched", "forked"])
def test_a_repeated_deletion_leaves_nothing_wherever_the_first_failed(kind, applied):
    """Each write and deletion of it fails in turn. The repeat says that there was a session."""
    for at in range(1, 1000):
        mapping = FaultyMapping({})
        manager = SessionManager(mapping)
        _session(manager, kind)
        mapping.fail(OSError("gone"), of=("write", "delete"), at=at, applied=applied)
        try:
            manager.delete("s")
        except StorageError:
            assert manager.delete("s"), at
        mapping.fail(OSError, of=("write", "delete"), at=10**9)  # no more
        if kind == "forked":
            assert manager.get_session("fork").message_count == 100, at
            assert manager.delete("fork")

        assert not manager.delete("s")
        assert [key for key in mapping.mapping if WORDS in mapping.mapping[key]] == [], at
        assert manager.verify().problems == []
        if not mapping.faults:
            break

    assert at > 1


def test_a_deletion_that_failed_is_not_repeated_for_another_user():
    """What it left belongs to the user whose session it was."""
    mapping = FaultyMapping({})
    manager = SessionManager(mapping)
    _session(manager, "long")
    mapping.fail(OSError("gone"), of="delete", at=2)
    with pytest.raises(StorageError):
        manager.delete("s", user_id="ada")

    assert not manager.delete("s", user_id="bob")
    assert manager.delete("s", user_id="ada")
    assert dict(mapping) == {}
