"""Fixtures of all store tests: the store under test, managers of it, and sessions."""

from collections.abc import Callable
from typing import Any

import pytest

from pyai_sessions import KVSessionStore, SessionManager
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.rules import Contract
from pyai_sessions.testing.samples import HOSTILE_IDS, RICH, fill
from pyai_sessions.testing.store.powers import has, need
from pyai_sessions.values.checks import MAX_ID_BYTES


class StoreFixtures(Contract):
    """The store under test, a second one on the same storage, and what the store accepts."""

    # These warnings are reports: they are shown, not raised, even if warnings are errors.
    pytestmark = pytest.mark.filterwarnings("always::pyai_sessions.testing.MissingPowerWarning")

    manager_class: type[SessionManager] = SessionManager
    """The class of the managers in the tests. Set it to test your own subclass."""

    longest_id = MAX_ID_BYTES
    """Bytes of the longest id. Less, if the storage limits its keys, as file systems limit names."""

    must_have: tuple[str, ...] = ()
    """Powers that the store must have: some of "list_by_activity" and "revisions"."""

    def takes_id(self, text: str) -> bool:
        """Return whether the storage accepts this text as an id. By default, every text."""
        return True

    @pytest.fixture
    def store(self) -> Any:
        """Return the store under test, empty: anything that SessionManager takes."""
        msg = "a subclass of SessionStoreContract has a fixture `store` that gives an empty store"
        raise NotImplementedError(msg)

    @pytest.fixture
    def index(self) -> Any:
        """Return the `index=` of the managers, or None."""
        return None

    @pytest.fixture
    def clock(self) -> StoppedClock:
        """Return the clock that all managers use."""
        return StoppedClock()

    @pytest.fixture
    def manager(self, store: Any, clock: StoppedClock, index: Any) -> SessionManager:
        """Return a manager of the store under test."""
        return self._manager(store, clock, index)

    @pytest.fixture
    def reopen(self, manager: SessionManager, store: Any) -> Callable[[], Any]:
        """Return a function that opens a second store on the same storage. By default, it returns the same store."""
        return lambda: KVSessionStore(manager.store.mapping) if isinstance(manager.store, KVSessionStore) else store

    @pytest.fixture
    def other(self, reopen: Callable[[], Any], clock: StoppedClock, index: Any) -> SessionManager:
        """Return a second manager on the same storage."""
        return self._manager(reopen(), clock, index)

    @pytest.fixture
    def source(self) -> Any:
        """Return a manager of another store with sessions of every kind. Its clock is a day behind."""
        clock = StoppedClock()
        clock.advance(days=-1)
        source = SessionManager({}, clock=clock)
        source.create_session("ada", session_id="empty")
        for name, count in (("short", 3), ("long", 150), ("archived", 40)):
            clock.advance(minutes=1)
            session = source.create_session("ada", session_id=name, metadata={"title": name, "n": [1, {"a": None}]})
            session.set_state("cursor", {"page": 2, "\ud800": "\ud800"})
            fill(session, count // 2)
            session.checkpoint("half")
            fill(session, count - count // 2, count // 2)
            source.save(session)
        source.archive("archived")
        clock.advance(minutes=1)
        rich = source.create_session("ada", session_id="rich \ud800")
        for fields in RICH:
            rich.add_message(**fields)
        rich.remove_message(rich.messages[1].message_id)
        source.save(rich)
        later = source.create_session("ada", session_id="later").to_dict()
        source.delete("later")
        later |= {"mood": {"today": "good"}, "messages": [{"role": "user", "content": "", "stars": 5}]}
        source.import_sessions([later])
        return source

    @pytest.fixture
    def damage(self) -> Callable[[str], object] | None:
        """Return a function that damages a stored session directly, or None."""
        return None

    @pytest.fixture
    def _of_all_users(self, manager: SessionManager) -> None:
        need(manager, "list_by_activity", self.must_have)

    @pytest.fixture
    def _with_revisions(self, manager: SessionManager) -> None:
        need(manager, "revisions", self.must_have)

    def _manager(self, store: Any, clock: StoppedClock, index: Any) -> SessionManager:
        options = {} if index is None else {"index": index}
        return self.manager_class(store, clock=clock, **options)

    @property
    def hostile_ids(self) -> list[str]:
        """Return ids that look alike, or have a meaning in some storage, as far as the storage accepts them."""
        longest = ["k" * self.longest_id, "k" * (self.longest_id - 1) + "j"]
        if self.longest_id == MAX_ID_BYTES:  # less means file names, in which one character may take twelve bytes
            longest += ["\u00e9" * (MAX_ID_BYTES // 2), "\U0001f600" * (MAX_ID_BYTES // 4)]
        return [each for each in [*HOSTILE_IDS, *longest] if self.takes_id(each)]

    def sound(self, manager: SessionManager) -> bool:
        """Return whether `verify` finds no problem. True if the store cannot verify."""
        return not isinstance(manager.store, KVSessionStore) or manager.verify().problems == []

    def listed(self, manager: SessionManager, *user_ids: str) -> list[Any]:
        """Return summaries of all users' active sessions. If the store cannot list all, only those of *user_ids*."""
        if has(manager, "list_by_activity"):
            return list(manager.list_sessions(limit=None))
        return [each for user_id in user_ids for each in manager.list_sessions(user_id, limit=None)]

    @pytest.fixture
    def ten(self, manager: SessionManager, clock: StoppedClock) -> list[str]:
        """Store ten sessions of user "ada", a minute apart, s0 the oldest, and one each of "bob" and of no user."""
        for n in range(10):
            manager.create_session("ada", session_id=f"s{n}", metadata={"n": n})
            clock.advance(minutes=1)
            if n == 5:
                manager.create_session("bob", session_id="bob's")
                manager.create_session(session_id="nobody's")
        return [f"s{n}" for n in range(9, -1, -1)]
