"""Tests of `update`, which changes a session without loading it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pyai_sessions import (
    InvalidValueError,
    Message,
    SessionArchivedError,
    SessionConflictError,
    SessionExistsError,
    SessionNotFoundError,
)
from pyai_sessions.testing.recording import Event, Recorder, check_events
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import with_revisions

HELLO = {"role": "user", "content": "Hello!"}


class Updating(StoreFixtures):
    def test_an_update_changes_all_that_it_names_at_once(self, manager: Any, other: Any, clock: Any) -> None:
        """One update changes messages, metadata and state in one commit, and returns its revision."""
        made = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"deep": {"x": 1, "y": [1]}})
        clock.advance(minutes=1)

        revision = manager.update("s", HELLO, metadata={"b": 2}, state={"deep": {"x": {"z": None}}, "n": 1})

        stored = other.get_session("s")
        assert contents(stored) == ["Hello!"]
        assert stored.metadata == {"a": 1, "b": 2}
        assert stored.state == {"deep": {"x": {"z": None}, "y": [1]}, "n": 1}
        assert (stored.user_id, stored.created_at, stored.revision) == ("ada", made.created_at, revision)
        assert stored.updated_at >= clock.now
        assert self.sound(other)

    def test_what_an_update_removes_is_gone(self, manager: Any, other: Any) -> None:
        """Keys, and paths to inner values, are removed before others are set. Absent ones are ignored."""
        manager.create_session(
            "ada", session_id="s", metadata={"a": 1}, state={"deep": {"x": 1, "y": 2}, "n": {"m": 1}}
        )

        manager.update(
            "s",
            remove_metadata=["a", "none"],
            state={"n": {"k": 2}},
            remove_state=[["deep", "x"], ["deep", "no", "x"], "n"],
        )

        stored = other.get_session("s")
        assert (stored.metadata, stored.state) == ({}, {"deep": {"y": 2}, "n": {"k": 2}})

    def test_an_update_gives_a_title_and_takes_it_away(self, manager: Any, other: Any, clock: Any) -> None:
        """An update sets or removes a title in the same commit. Without messages it is no activity."""
        manager.update("s", HELLO, title="Greetings", create=True, user_id="ada")
        assert other.get_session("s").title == "Greetings"
        active_at = other.get_session("s").active_at
        clock.advance(minutes=1)

        revision = manager.update("s", title="Hi", metadata={"a": 1})

        assert manager.update("s", title="Hi") == revision
        stored = other.get_session("s")
        assert (stored.title, stored.metadata, stored.active_at) == ("Hi", {"a": 1}, active_at)
        assert [each.title for each in other.list_sessions("ada")] == ["Hi"]
        manager.update("s", title=None)
        assert other.get_session("s").title is None
        assert [each.title for each in other.list_sessions("ada")] == ["Hello!"]
        with pytest.raises(InvalidValueError):
            manager.update("s", title="  ")
        assert self.sound(other)

    def test_updates_of_two_writers_both_stay(self, manager: Any, other: Any) -> None:
        """Two writers' updates of different keys and messages are both kept."""
        manager.create_session("ada", session_id="s")
        for n in range(40):
            (manager, other)[n % 2].update("s", {"role": "user", "content": f"message {n}"}, state={f"key {n}": n})

        stored = other.get_session("s")
        assert contents(stored) == [f"message {n}" for n in range(40)]
        assert stored.state == {f"key {n}": n for n in range(40)}
        assert self.sound(manager)

    def test_an_update_and_a_copy_in_hand_merge(self, manager: Any, other: Any) -> None:
        """A loaded copy merges with an update as with another save."""
        session = manager.create_session("ada", session_id="s", state={"a": 1})
        other.update("s", HELLO, state={"b": 2})
        session.add_message("assistant", "Hi!")
        session.set_state("c", 3)
        manager.save(session)

        assert contents(session) == ["Hello!", "Hi!"]
        assert other.get_session("s").state == {"a": 1, "b": 2, "c": 3}

    def test_an_update_that_changes_nothing_is_not_written(self, manager: Any, other: Any) -> None:
        """An update that changes nothing keeps the revision."""
        manager.create_session("ada", session_id="s")
        message = Message("user", "Hello!")
        revision = manager.update("s", message, state={"a": {"b": 1}}, metadata={"c": 1})

        assert manager.update("s", message, state={"a": {"b": 1}}, remove_metadata=["d"]) == revision
        assert other.update("s", message, metadata={"c": 1}) == revision
        assert manager.update("s") == revision
        assert other.get_session("s").revision == revision

    def test_an_update_creates_a_session_where_it_may(self, manager: Any, other: Any) -> None:
        """An update may create the session, of the given user, with all that it sets."""
        for n in range(2):
            through = (manager, other)[n]
            through.update("s", {"role": "user", "content": f"{n}"}, state={f"{n}": n}, create=True, user_id="ada")

        stored = manager.get_session("s", user_id="ada")
        assert (contents(stored), stored.state) == (["0", "1"], {"0": 0, "1": 1})
        with pytest.raises(SessionNotFoundError):
            manager.update("t", HELLO)
        with pytest.raises(SessionNotFoundError):
            manager.update("s", HELLO, user_id="bob")
        with pytest.raises(SessionExistsError):
            manager.update("s", HELLO, user_id="bob", create=True)
        with pytest.raises(SessionExistsError):
            manager.update("s", HELLO, create=True, if_revision="")
        assert manager.update("t", create=True, if_revision="") == other.get_session("t").revision
        assert contents(other.get_session("s")) == ["0", "1"]

    def test_an_update_of_another_revision_is_refused(self, manager: Any, other: Any) -> None:
        """An update at another revision raises, and writes nothing."""
        manager.create_session("ada", session_id="s")
        first = manager.update("s", HELLO)
        second = other.update("s", HELLO, if_revision=first)

        for through in (manager, other):
            with pytest.raises(SessionConflictError) as caught:
                through.update("s", HELLO, state={"a": 1}, if_revision=first)
            assert (caught.value.base_revision, caught.value.stored_revision) == (first, second)
        with pytest.raises(SessionConflictError):
            manager.delete("s", if_revision=first)
        stored = manager.get_session("s")
        assert (contents(stored), stored.state, stored.revision) == (["Hello!", "Hello!"], {}, second)
        assert other.delete("s", if_revision=second)
        assert not manager.delete("s", if_revision=second)

    def test_an_update_is_refused_as_an_append_is(self, manager: Any, other: Any) -> None:
        """An archived session, invalid values and a used message id raise, and nothing is written."""
        manager.create_session("ada", session_id="s")
        revision = manager.update("s", {**HELLO, "message_id": "m"})

        wrong: list[dict[str, Any]] = [{"state": {"a": {1, 2}}}, {"metadata": {1: 2}}, {"remove_state": [[]]}]
        for options in (*wrong, {"create": "yes"}, {"if_revision": 7}):
            with pytest.raises(InvalidValueError):
                manager.update("s", HELLO, **options)
        with pytest.raises(InvalidValueError):
            manager.update("s", {"role": "user", "content": "other", "message_id": "m"}, state={"a": 1})
        assert other.get_session("s").revision == revision
        other.archive("s")
        for through in (manager, other):
            with pytest.raises(SessionArchivedError):
                through.update("s", state={"a": 1})

    @with_revisions
    def test_updates_of_threads_all_survive(self, manager: Any, other: Any) -> None:
        """Concurrent updates are all kept, in every later read. One of them creates the session."""
        events: list[Event] = []

        def work(name: int) -> None:
            through = Recorder((manager, other)[name % 2], events.append)
            for n in range(10):
                message = {"role": "user", "content": f"{name}: {n}"}
                through.update("s", message, state={f"{name}": n, f"{name}: {n}": True}, create=True)
                if n % 3 == 0:
                    through.get_session("s")

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))

        check_events(manager, events)
        state = manager.get_session("s").state
        assert state == {f"{name}": 9 for name in range(4)} | {f"{m}: {n}": True for m in range(4) for n in range(10)}

    def test_a_fork_has_the_values_that_it_is_given(self, manager: Any, other: Any) -> None:
        """A fork merges given values into its parent's. The parent stays as it is."""
        manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"deep": {"x": 1}})
        fill_and_save(manager, "s", 40)

        fork = manager.fork("s", 35, new_id="t", metadata={"b": 2}, state={"deep": {"y": 2}})

        assert (fork.metadata, fork.state) == ({"a": 1, "b": 2}, {"deep": {"x": 1, "y": 2}})
        assert other.get_session("t").state == fork.state
        assert other.get_session("s").state == {"deep": {"x": 1}}
        assert other.get_session("s").metadata == {"a": 1}

    def test_several_sessions_are_got_by_their_ids(self, manager: Any, other: Any) -> None:
        """`get_sessions` returns each session once, in the order of ids. It leaves out absent and other users' ones."""
        for n in range(5):
            manager.create_session("ada" if n else "bob", session_id=f"s{n}")
            fill_and_save(manager, f"s{n}", 30 * n)

        found = other.get_sessions(["s4", "none", "s1", "s4", "s0"])

        assert list(found) == ["s4", "s1", "s0"]
        assert found == {each: manager.get_session(each) for each in found}
        assert list(other.get_sessions(iter(["s0", "s2"]), user_id="ada")) == ["s2"]
        last = other.get_sessions(["s4", "s2"], last=3)
        assert {key: contents(each) for key, each in last.items()} == {
            "s4": ["message 117", "message 118", "message 119"],
            "s2": ["message 57", "message 58", "message 59"],
        }
        last["s4"].add_message("user", "more")
        other.save(last["s4"])
        assert manager.get_session("s4").message_count == 121


def fill_and_save(manager: Any, session_id: str, count: int) -> None:
    """Add messages to a stored session, and save it."""
    session = manager.get_session(session_id)
    fill(session, count)
    manager.save(session)
