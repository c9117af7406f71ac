"""Tests of repeating a deletion that the storage interrupted, and of what deletes the inactive."""

import json
import os

import pytest

from pyai_sessions import Encrypted, EncryptionError, SessionManager, StorageError
from pyai_sessions.testing import FaultyMapping, StoppedClock


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


@pytest.mark.parametrize("method", ["delete_inactive", "archive_inactive"])
@pytest.mark.parametrize("broken", [None, [1], {"a": 1}, 7, "?", "2026-13-01T00:00:00Z"], ids=repr)
def test_inactive_sessions_are_changed_exactly_as_a_dry_run_told(method, broken):
    """Whatever part of a document is damaged, a session is deleted or archived if the dry run told so."""
    told, changed = {}, {}
    for part in ("title", "metadata", "state", "status", "message_count", "updated_at", "created_at", "messages"):
        mapping, clock = {}, StoppedClock()
        manager = SessionManager(mapping, clock=clock)
        manager.create_session("ada", session_id="s", title="t")
        manager.append("s", {"role": "user", "content": "hello"})
        clock.advance(days=2)
        document = json.loads(mapping["session/s"])
        assert part in document
        mapping["session/s"] = json.dumps(document | {part: broken}, separators=(",", ":"))

        told[part] = len(getattr(manager, method)(days=1, dry_run=True))
        before = mapping["session/s"]
        changed[part] = getattr(manager, method)(days=1)
        assert (mapping.get("session/s") == before) == (not changed[part])
    assert told == changed
    assert 0 in told.values()


@pytest.mark.parametrize("method", ["delete_inactive", "archive_inactive"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_missing_key_is_told_before_inactive_sessions_are_counted_as_none(method, dry_run):
    """Sessions that cannot be decrypted are not left out as damaged ones are: the call raises."""
    mapping, clock, index = {}, StoppedClock(), os.urandom(32)
    SessionManager(Encrypted(mapping, {"index": index, "old": os.urandom(32)}), clock=clock).create_session("ada")
    clock.advance(days=2)
    manager = SessionManager(Encrypted(mapping, {"index": index, "new": os.urandom(32)}), clock=clock)
    before = dict(mapping)

    with pytest.raises(EncryptionError):
        getattr(manager, method)(days=1, dry_run=dry_run)
    assert mapping == before
