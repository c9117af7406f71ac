"""Hypothesis machines, which make any sequence of calls on a mapping or a store, and compare it with a dict."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pyai_sessions import (
    Imported,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SessionStatus,
)
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.samples import KEYS, contents, exported, ids

NO_CHECKS: Any = list(HealthCheck)
"""Checks of hypothesis that are off: a slow storage is not a fault of the test."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
"""Text that UTF-8 can encode. Storages see no other: documents escape lone surrogates, keys percent-encode ids."""
SOME_KEYS = TEXT | st.sampled_from(sorted(KEYS.values()))


class MappingMachine(RuleBasedStateMachine):
    """After any sequence of writes, deletions and reads, a mapping holds the same items as a dict.

    `MappingContract` makes a short run. For a longer one, return an empty mapping from `open`::

        class MyMachine(MappingMachine):
            def open(self):
                return MyMapping(tempfile.mkdtemp())

        TestMyMachine = MyMachine.TestCase
        TestMyMachine.settings = settings(max_examples=500, stateful_step_count=50)
    """

    def __init__(self) -> None:
        super().__init__()
        self.mapping = self.open()
        self.model: dict[str, str] = {}

    def takes_key(self, text: str) -> bool:
        """Return whether the storage accepts this text as a key. By default, every text."""
        return True

    def open(self) -> Any:
        """Return an empty mapping."""
        msg = "a subclass of MappingMachine has a method `open` that returns an empty mapping"
        raise NotImplementedError(msg)

    @rule(key=SOME_KEYS, value=TEXT)
    def write(self, key: str, value: str) -> None:
        """Write a value under any key."""
        if self.takes_key(key):
            self.mapping[key] = self.model[key] = value

    @rule(data=st.data(), value=TEXT)
    def write_again(self, data: Any, value: str) -> None:
        """Replace a value."""
        if self.model:
            key = data.draw(st.sampled_from(sorted(self.model)))
            self.mapping[key] = self.model[key] = value

    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        """Delete an item."""
        if self.model:
            key = data.draw(st.sampled_from(sorted(self.model)))
            del self.mapping[key], self.model[key]

    @rule(key=SOME_KEYS)
    def read(self, key: str) -> None:
        """Read any key, present or absent."""
        if not self.takes_key(key):
            return
        if key in self.model:
            assert self.mapping[key] == self.model[key]
        else:
            with pytest.raises(KeyError):
                self.mapping[key]

    @invariant()
    def same(self) -> None:
        """Compare the items of the mapping and the dict."""
        assert sorted(self.mapping) == sorted(self.model)
        assert {key: self.mapping[key] for key in self.mapping} == self.model


class Row(NamedTuple):
    """What the model remembers of a session."""

    user_id: str
    status: SessionStatus
    active_at: datetime
    state: dict[str, Any]
    messages: list[Any]
    branches: Sequence[list[Any]] = ()


SESSION_IDS = ["s", "S", "t", "a/b", " ", "\U0001f600"]
USER_IDS = ["ada", "Ada", "bob", "%"]
IDS, USERS = st.sampled_from(SESSION_IDS), st.sampled_from(USER_IDS)
SAID = st.sampled_from(["A night train", "NIGHT, and day", "東京へ"])
CONTENT = TEXT | SAID | st.lists(st.none() | st.booleans() | st.integers() | TEXT, max_size=3)


class SessionStoreMachine(RuleBasedStateMachine):
    """After any sequence of calls, a store returns the same sessions as a plain dict, one by one and in lists.

    Two managers take turns. Each loads what is stored before it changes it: there are no stale copies, because not
    every store has revisions. `SessionStoreContract` makes a short run. For a longer one, return an empty store from
    `open`::

        class MyMachine(SessionStoreMachine):
            def open(self):
                return MyStore(":memory:")

        TestMyMachine = MyMachine.TestCase
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = StoppedClock()
        self.managers = self.open_managers()
        self.model: dict[str, Row] = {}
        self._turn = 0

    def open(self) -> Any:
        """Return an empty store: anything that SessionManager takes."""
        msg = "a subclass of SessionStoreMachine has a method `open` that returns an empty store"
        raise NotImplementedError(msg)

    def open_managers(self) -> tuple[SessionManager, SessionManager]:
        """Return two managers of one empty storage."""
        store = self.open()
        return SessionManager(store, clock=self.clock), SessionManager(store, clock=self.clock)

    @property
    def manager(self) -> SessionManager:
        """Return one of the two managers, and the other at the next call."""
        self._turn += 1
        self.clock.advance(seconds=1)
        return self.managers[self._turn % 2]

    @rule(session_id=IDS, user_id=USERS)
    def create(self, session_id: str, user_id: str) -> None:
        """Create a session, if the id is free."""
        if session_id in self.model:
            with pytest.raises(SessionExistsError):
                self.manager.create_session(user_id, session_id=session_id)
            return
        made = self.manager.create_session(user_id, session_id=session_id)
        self.model[session_id] = Row(user_id, SessionStatus.ACTIVE, made.active_at, {}, [])

    @rule(session_id=IDS, content=CONTENT, count=st.sampled_from([1, 2, 33]))
    def append(self, session_id: str, content: Any, count: int) -> None:
        """Append messages, if there is an active session."""
        given = [{"role": "user", "content": content}] * count
        row, manager = self.model.get(session_id), self.manager
        if row is None or row.status is SessionStatus.ARCHIVED:
            with pytest.raises(SessionNotFoundError if row is None else SessionArchivedError):
                manager.append(session_id, *given)
            return
        manager.append(session_id, *given)
        self._now(session_id, row._replace(messages=row.messages + [content] * count))

    @rule(session_id=IDS, key=TEXT, value=CONTENT, user_id=USERS, pop=st.booleans())
    def save(self, session_id: str, key: str, value: Any, user_id: str, pop: bool) -> None:  # noqa: FBT001 (drawn)
        """Load a session, change it and save it, if it is active."""
        row, manager = self.model.get(session_id), self.manager
        if row is None:
            return
        session = manager.get_session(session_id)
        assert session is not None
        session.set_state(key, value)
        session.user_id = user_id
        messages = row.messages
        if pop and messages:
            session.pop()
            messages = messages[:-1]
        else:
            session.add_message("assistant", value)
            messages = [*messages, value]
        if row.status is SessionStatus.ARCHIVED:
            with pytest.raises(SessionArchivedError):
                manager.save(session)
            return
        manager.save(session)
        self._now(session_id, row._replace(user_id=user_id, state=row.state | {key: value}, messages=messages))

    @rule(session_id=IDS, data=st.data())
    def rewind(self, session_id: str, data: Any) -> None:
        """Go back to a message that others follow."""
        row, manager = self.model.get(session_id), self.manager
        if row is None or row.status is SessionStatus.ARCHIVED or len(row.messages) < 2:
            return
        kept = data.draw(st.integers(1, len(row.messages) - 1))
        session = manager.get_session(session_id)
        assert session is not None
        session.rewind(session.messages[kept - 1].message_id)
        manager.save(session)
        self._now(session_id, row._replace(messages=row.messages[:kept], branches=[*row.branches, row.messages]))

    @rule(session_id=IDS, data=st.data())
    def switch(self, session_id: str, data: Any) -> None:
        """Go on from a branch, if there is one."""
        row, manager = self.model.get(session_id), self.manager
        if row is None or row.status is SessionStatus.ARCHIVED or not row.branches:
            return
        n = data.draw(st.integers(0, len(row.branches) - 1))
        session = manager.get_session(session_id)
        assert session is not None
        state = manager.switch(session_id, session.branches[n]).state
        left = [*row.branches[:n], *row.branches[n + 1 :], *([row.messages] if row.messages else [])]
        self._now(session_id, row._replace(state=state, messages=row.branches[n], branches=left))

    @rule(session_id=IDS, status=st.sampled_from(SessionStatus))
    def set_status(self, session_id: str, status: SessionStatus) -> None:
        """Archive or restore a session, if there is one."""
        row, manager = self.model.get(session_id), self.manager
        act = manager.archive if status is SessionStatus.ARCHIVED else manager.restore
        if row is None:
            with pytest.raises(SessionNotFoundError):
                act(session_id)
            return
        act(session_id)
        self._now(session_id, row._replace(status=status))

    @rule(session_id=IDS, new_id=IDS, keep=st.none() | st.integers(0, 70), user_id=st.none() | USERS)
    def fork(self, session_id: str, new_id: str, keep: int | None, user_id: str | None) -> None:
        """Fork a session at its end or earlier, if the id is free. It may be the id of a deleted session."""
        row, manager = self.model.get(session_id), self.manager
        if row is None or new_id in self.model:
            with pytest.raises(SessionNotFoundError if row is None else SessionExistsError):
                manager.fork(session_id, new_id=new_id)
            return
        at = None if keep is None else min(keep, len(row.messages))
        fork = manager.fork(session_id, at, new_id=new_id, user_id=user_id)
        owner = row.user_id if user_id is None else user_id
        self.model[new_id] = Row(owner, SessionStatus.ACTIVE, fork.active_at, row.state, row.messages[:at])

    @rule(session_id=IDS)
    def delete(self, session_id: str) -> None:
        """Delete a session. The call returns whether there was one."""
        there = self.model.pop(session_id, None) is not None
        assert self.manager.delete(session_id) is there

    @rule(user_id=USERS)
    def delete_user(self, user_id: str) -> None:
        """Delete all sessions of a user. The call returns how many there were."""
        gone = [name for name, row in self.model.items() if row.user_id == user_id]
        for each in gone:
            del self.model[each]
        assert self.manager.delete_user(user_id).session_ids == sorted(gone)

    @rule(user_id=USERS, word=st.sampled_from(["night", "東京"]))
    def search(self, user_id: str, word: str) -> None:
        """Search for a word. The hits are the messages that have it: in the order of the list, the last one first."""
        rows = [(row.active_at, name) for name, row in self.model.items() if row.user_id == user_id]
        expected = [
            (name, n)
            for _, name in sorted(rows, reverse=True)
            for n, content in reversed([*enumerate(self.model[name].messages)])
            if isinstance(content, str) and word in content.lower()
        ]
        hits = self.manager.search(word, user_id, status=None, limit=None)
        assert [(each.session_id, each.position) for each in hits] == expected

    @rule(user_id=USERS)
    def move(self, user_id: str) -> None:
        """Export a user and import the file elsewhere: it exports the same, and a second import adds nothing."""
        lines = exported(self.manager, user_id)
        elsewhere = SessionManager({}, clock=self.clock)
        names = [name for name, row in self.model.items() if row.user_id == user_id]
        assert sorted(each["session_id"] for each in lines) == sorted(names)
        assert elsewhere.import_sessions(lines) == Imported(inserted=len(names))
        assert exported(elsewhere, user_id) == lines
        for manager in (self.manager, elsewhere):
            assert manager.import_sessions(lines) == Imported(identical=len(names))

    @invariant()
    def same(self) -> None:
        """Each session is read as it was written, and stands in its user's list alone, in order."""
        for each in SESSION_IDS:
            session, row = self.managers[0].get_session(each), self.model.get(each)
            if row is None:
                assert session is None
                continue
            assert session is not None
            found = Row(session.user_id or "", session.status, session.active_at, dict(session.state), [])
            assert found == row._replace(messages=[], branches=())
            assert contents(session) == row.messages
            assert [each.message_count for each in session.branches] == [len(each) for each in row.branches]
        for user_id in USER_IDS:
            rows = [(row.active_at, name) for name, row in self.model.items() if row.user_id == user_id]
            expected = [name for _, name in sorted(rows, reverse=True)]
            assert ids(self.managers[1].get_sessions_for_user(user_id, include_archived=True)) == expected
            active = [each for each in expected if self.model[each].status is SessionStatus.ACTIVE]
            assert ids(self.managers[1].list_sessions(user_id)) == active

    def _now(self, session_id: str, row: Row) -> None:
        """Record a session's new fields. The time of its last activity never goes back."""
        session = self.managers[self._turn % 2].get_session(session_id)
        assert session is not None
        assert session.active_at >= row.active_at
        self.model[session_id] = row._replace(active_at=session.active_at)


def run_short(machine: type[RuleBasedStateMachine]) -> None:
    """Run a machine as a test, for about a second."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=NO_CHECKS,
        ),
    )
