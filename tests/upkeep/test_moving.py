"""Tests that any storage imports what another exports, and holds the same."""

import io
import json
import tempfile
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    DiskCacheSessionStore,
    Encrypted,
    Imported,
    KVSessionStore,
    SessionManager,
    SessionStateError,
    SQLiteMapping,
    SQLiteSessionStore,
    UnsupportedOperationError,
)
from pyai_sessions.testing import StoppedClock
from pyai_sessions.testing.samples import RICH
from tests.contract.stores import FullStore, SyncStore

pytestmark = pytest.mark.wide

KEYS = {"index": b"i" * 32, "a": b"a" * 32}
STORAGES = {
    "dict": lambda path: KVSessionStore({}),
    "expiring": lambda path: KVSessionStore({}, ttl=3600),
    "sqlite": lambda path: SQLiteSessionStore(path / "chat.db", synchronous="OFF"),
    "diskcache": lambda path: DiskCacheSessionStore(path / "chat"),
    "encrypted": lambda path: KVSessionStore(Encrypted(SQLiteMapping(path / "secret.db", synchronous="OFF"), KEYS)),
    "custom": lambda path: FullStore(),
}
TEXT = st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def say(session, value):
    session.add_message("user", value, metadata={"about": value})


def fill(session, count):
    for n in range(count):
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n}")


def rich(session, _):
    for fields in RICH:
        session.add_message(**fields)


def with_a_message(act):
    """Return an act on the message at a part of the conversation's length, if there is one."""

    def acts(session, part):
        if session.messages:
            act(session, session.messages[int(part * (len(session.messages) - 1))].message_id)

    return acts


PART = st.floats(0, 1)
IN_HAND = {
    "say": (JSON, say),
    "fill": (st.integers(1, 70), fill),
    "rich": (st.none(), rich),
    "state": (st.dictionaries(TEXT, JSON, max_size=2), lambda session, value: session.set_state("x", value)),
    "metadata": (st.dictionaries(TEXT, JSON, max_size=2), lambda session, value: session.metadata.update(value)),
    "checkpoint": (st.sampled_from("xy"), lambda session, name: session.checkpoint(name)),
    "compact": (st.integers(0, 5), lambda session, count: session.compact("what was said", keep_last=count)),
    "rewind": (PART, with_a_message(lambda session, message_id: session.rewind(message_id))),
    "remove": (PART, with_a_message(lambda session, message_id: session.remove_message(message_id))),
    "prune": (st.none(), lambda session, _: session.prune()),
}
"""What is done to a session in hand, which is then saved: with which values, and how."""


def fork(manager, session, part):
    return manager.fork(session.session_id, int(part * session.message_count), new_id=f"{session.session_id}'")


def switch(manager, session, part):
    if not session.branches:
        return session
    return manager.switch(session.session_id, session.branches[int(part * (len(session.branches) - 1))])


def unknown(manager, session, value):
    """Store the session with fields of a later release."""
    line = {**session.to_dict(), "session_id": f"{session.session_id}?", "of a later release": value}
    manager.import_sessions([line | {"messages": [each | {"too": value} for each in line["messages"]]}])
    return manager.get_session(f"{session.session_id}?")


STORED = {"fork": (PART, fork), "switch": (PART, switch), "unknown": (JSON, unknown)}
"""What is done to a stored session, with which values, and how: what returns the session to go on with."""

STEPS = st.lists(
    st.one_of([st.tuples(st.just(name), values) for name, (values, _) in (IN_HAND | STORED).items()]),
    min_size=3,
    max_size=12,
)


def everything(manager):
    """Return all lines of an export, by session id."""
    file = io.StringIO()
    manager.export_sessions(file)
    return sorted(map(json.loads, file.getvalue().splitlines()), key=lambda each: each["session_id"])


def take(manager, session, step, value):
    """Make one change of a session, and return the session to go on with."""
    if step in STORED:
        return STORED[step][1](manager, session, value)
    with suppress(SessionStateError):  # it has nothing to sum up
        IN_HAND[step][1](session, value)
    manager.save(session)
    return session


@pytest.mark.parametrize("source", STORAGES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(target=st.sampled_from(sorted(STORAGES)), steps=STEPS, archived=st.booleans())
def test_what_was_exported_is_imported_anywhere_and_is_the_same_there(source, target, steps, archived):
    """Every part of a session is the same after export and import. A second import finds all identical."""
    clock = StoppedClock()
    with tempfile.TemporaryDirectory() as path, ExitStack() as stack:
        old, new = (
            stack.enter_context(closing(SessionManager(STORAGES[name](Path(path, side)), clock=clock)))
            for side, name in (("old", source), ("new", target))
        )
        for manager in (old, new):
            if isinstance(manager.store, KVSessionStore):
                stack.callback(manager.store.close)
        session = old.create_session("ada", session_id="s")
        for step, value in steps:
            clock.advance(seconds=1)
            session = take(old, old.get_session(session.session_id), step, value)
        if archived:
            old.archive("s")

        lines = everything(old)
        file = io.StringIO()
        old.export_sessions(file)
        file.seek(0)

        assert new.import_sessions(file) == Imported(inserted=len(lines))
        assert everything(new) == lines
        assert new.copy_sessions(old) == old.copy_sessions(new) == Imported(identical=len(lines))
        assert new.import_sessions(lines) == old.import_sessions(lines) == Imported(identical=len(lines))
        if isinstance(new.store, KVSessionStore):
            assert new.verify().problems == []


@pytest.mark.parametrize("store", [FullStore, SyncStore])
def test_a_store_that_keeps_no_state_says_so(store):
    """A copy into a store without state copies the sessions, then raises. `skip_invalid` reports it instead."""
    old, new = SessionManager(), SessionManager(store())
    old.create_session("ada", session_id="s")
    old.update_user_state("ada", {"n": 1})
    old.update_app_state({"n": 2})

    with pytest.raises(UnsupportedOperationError, match="keeps sessions alone"):
        old.copy_sessions(new)

    assert new.get_session("s") is not None
    report = old.copy_sessions(new, skip_invalid=True)
    assert (report.identical, report.states, report.invalid) == (1, 0, 2)
    assert "keeps sessions alone" in report.problems[0]
