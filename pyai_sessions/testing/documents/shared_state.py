"""Tests of the state of users and of the application, which all their sessions share."""

import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pyai_sessions import (
    InvalidDocumentError,
    InvalidValueError,
    Limits,
    Message,
    SessionArchivedError,
    SessionConflictError,
    SessionManager,
    SessionNotFoundError,
    StateConflictError,
)
from pyai_sessions.testing.clock import NOON, StoppedClock
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import exported

PREFIX = "state/"


def state_keys(raw: Any) -> list[str]:
    """Return the keys of all state documents."""
    return sorted(key for key in raw if key.startswith(PREFIX))


class SharingState(DocumentFixtures):
    """Reading, merging, comparing and expiring state."""

    def test_state_is_read_as_it_was_written(self, manager: Any, other: Any) -> None:
        """State is JSON, and the same for all managers. Each user has one, and the application has one."""
        value = {"theme": {"dark": True}, "tags": ["a", None], "n": 1.5, "caf\u00e9 \U0001f600": "\u00fc", "none": None}

        written = manager.update_user_state("ada", value)
        manager.update_app_state({"model": "small"})

        assert other.user_state("ada") == written == value
        assert other.user_state("ada").revision == written.revision != ""
        assert other.user_state("bob") == {}
        assert other.user_state("bob").revision == ""
        assert manager.app_state() == other.app_state() == {"model": "small"}
        assert copy.deepcopy(written).revision == written.revision

    def test_an_update_changes_a_session_and_the_states_it_shares(self, manager: Any, other: Any) -> None:
        """`update` can change a session with its user's and the application's state. A repetition changes nothing."""
        manager.update_user_state("ada", {"seen": {"a": 1}, "old": 1})
        call = {"user_state": {"seen": {"b": 2}}, "remove_user_state": ["old", "seen"], "app_state": {"n": 1}}

        for each in (manager, other):
            message = Message("user", "Hello!", message_id="m")
            each.update("s", message, state={"own": 1}, create=True, user_id="ada", **call)

        assert (other.user_state("ada"), other.app_state()) == ({"seen": {"b": 2}}, {"n": 1})
        assert (other.get_session("s").message_count, other.get_session("s").state) == (1, {"own": 1})

    def test_an_update_that_is_refused_changes_neither_session_nor_states(self, manager: Any, other: Any) -> None:
        """If the session, a state or an argument is refused, neither the session nor a state changes."""
        manager.create_session("ada", session_id="archived")
        manager.archive("archived")
        manager.create_session("ada", session_id="s")
        deep: Any = 1
        for _ in range(Limits().depth + 1):
            deep = [deep]

        for session_id, changes, error in (
            ("archived", {"user_id": "ada"}, SessionArchivedError),
            ("s", {"user_id": "bob"}, SessionNotFoundError),
            ("s", {"user_id": "ada", "if_revision": "another"}, SessionConflictError),
            ("s", {"user_id": "ada", "app_state": {"deep": deep}}, InvalidValueError),
            ("s", {}, InvalidValueError),
        ):
            with pytest.raises(error):
                manager.update(session_id, state={"n": 1}, user_state={"n": 1}, **changes)

        assert [other.get_session(each).state for each in ("archived", "s")] == [{}, {}]
        assert [other.user_state(each) for each in ("ada", "bob")] == [{}, {}]
        assert other.app_state() == {}

    def test_changes_are_merged_by_key_at_every_depth(self, manager: Any) -> None:
        """Dicts are merged at every depth. All other values, None and lists too, are replaced. Removals come first."""
        manager.update_user_state("ada", {"a": {"b": {"c": 1, "d": 2}, "e": [1, 2]}, "f": 3, "g": {"h": 4}})

        assert manager.update_user_state("ada", {"a": {"b": {"d": None}, "e": [3]}}) == {
            "a": {"b": {"c": 1, "d": None}, "e": [3]}, "f": 3, "g": {"h": 4},
        }  # fmt: skip
        gone = [["a", "b", "c"], "gone", ["f", "y"]]
        assert manager.update_user_state("ada", {"f": {"x": 1}, "g": 5}, remove=gone) == {
            "a": {"b": {"d": None}, "e": [3]}, "f": {"x": 1}, "g": 5,
        }  # fmt: skip
        assert manager.update_user_state("ada", {"a": {"new": 1}}, remove=["a", "f"]) == {"a": {"new": 1}, "g": 5}
        assert manager.update_user_state("ada", {"only": 1}, replace=True) == {"only": 1}
        assert manager.update_user_state("ada", {}, replace=True) == manager.user_state("ada") == {}

    def test_hostile_users_have_a_state_each(self, manager: Any, other: Any) -> None:
        """Any user id has its own state, and reaches no other state and no session."""
        users = [*self.hostile_ids, "app", "app:", "user:ada", "=", "state"]
        manager.create_session("ada", session_id="ada")
        manager.update_app_state({"whose": "the application's"})
        for n, user_id in enumerate(users):
            manager.update_user_state(user_id, {"n": n})

        assert [other.user_state(user_id) for user_id in users] == [{"n": n} for n in range(len(users))]
        assert other.app_state() == {"whose": "the application's"}
        assert other.get_session("ada") is not None

    def test_state_is_in_no_list_and_no_count(self, manager: Any, raw: Any, clock: StoppedClock) -> None:
        """State does not appear in lists, counts, archiving, deletions or indexes of sessions."""
        manager.create_session("ada", session_id="ada")
        manager.update_user_state("ada", {"n": 1})
        manager.update_user_state("bob", {"n": 2}, ttl=60)
        manager.update_app_state({"n": 3})
        clock.advance(days=40)

        assert [each.session_id for each in manager.list_sessions()] == ["ada"]
        assert (manager.count(), manager.count("ada"), manager.count("bob")) == (1, 1, 0)
        assert manager.reindex() == 1
        assert manager.archive_inactive(days=30) == 1
        assert manager.delete("ada") is True
        assert manager.user_state("ada") == {"n": 1}
        assert manager.app_state() == {"n": 3}

    def test_another_revision_is_a_conflict(self, manager: Any, other: Any) -> None:
        """An update at another revision raises, and writes nothing. The revision "" expects that there is no state."""
        for read, update in (
            (manager.app_state, manager.update_app_state),
            (
                lambda: manager.user_state("ada"),
                lambda *given, **options: manager.update_user_state("ada", *given, **options),
            ),
        ):
            first = update({"n": 1}, if_revision="")
            with pytest.raises(StateConflictError) as caught:
                update({"n": 2}, if_revision="")
            assert (caught.value.base_revision, caught.value.stored_revision) == ("", first.revision)
            second = update({"n": 2}, if_revision=first.revision)
            with pytest.raises(StateConflictError) as caught:
                update({"n": 3}, if_revision=first.revision)

            assert read() == {"n": 2}
            assert read().revision == second.revision == caught.value.stored_revision
        assert caught.value.user_id == "ada"
        assert other.user_state("ada") == {"n": 2}

    def test_what_changes_nothing_is_not_written(self, manager: Any, raw: Any) -> None:
        """An update that changes nothing keeps the revision. An empty state is not created."""
        state = manager.update_user_state("ada", {"a": {"b": 1}})
        before = {key: raw[key] for key in state_keys(raw)}

        assert manager.update_user_state("ada", {"a": {"b": 1}}, remove=["c"]).revision == state.revision
        assert manager.update_user_state("bob", {}, remove=["c"]).revision == ""

        assert {key: raw[key] for key in state_keys(raw)} == before
        assert manager.update_user_state("ada", {"a": {"b": True}}) == {"a": {"b": True}}
        assert manager.user_state("ada")["a"]["b"] is True

    def test_state_expires_where_it_is_told_to(
        self, manager: Any, other: Any, another: Any, clock: StoppedClock
    ) -> None:
        """A ttl counts from the update that gives it. Other updates keep the end. A store's ttl does not apply."""
        mortal = SessionManager(another(ttl=60), clock=clock)
        mortal.update_app_state({"kept": True})
        first = manager.update_user_state("ada", {"n": 1}, ttl=60)
        clock.advance(seconds=30)
        second = mortal.update_user_state("ada", {"m": 2})
        assert first.expires_at == second.expires_at == other.user_state("ada").expires_at
        clock.advance(seconds=29)
        assert other.user_state("ada") == {"n": 1, "m": 2}
        manager.update_user_state("bob", {"n": 1}, ttl=60)
        manager.update_user_state("bob", {}, ttl=None)
        clock.advance(seconds=1)

        assert (manager.user_state("ada"), manager.user_state("ada").revision) == ({}, "")
        with pytest.raises(StateConflictError):
            manager.update_user_state("ada", {}, if_revision=second.revision)
        assert manager.update_user_state("ada", {"new": 1}, if_revision="") == {"new": 1}
        assert other.user_state("ada").expires_at is None
        clock.advance(days=1)
        assert other.user_state("ada") == {"new": 1}
        assert other.user_state("bob") == {"n": 1}
        assert mortal.app_state() == {"kept": True}

    REFUSED: tuple[tuple[str, Callable[[Any], object]], ...] = (
        ("user_id", lambda m: m.user_state(None)),
        ("user_id", lambda m: m.user_state("")),
        ("user_id", lambda m: m.update_user_state("u" * 1025, {})),
        ("changes", lambda m: m.update_app_state(None)),
        ("changes", lambda m: m.update_app_state([("a", 1)])),
        ("changes['a']['b']", lambda m: m.update_app_state({"a": {"b": {1}}})),
        ("changes['a']", lambda m: m.update_app_state({"a": float("nan")})),
        ("changes", lambda m: m.update_app_state({1: 2})),
        ("remove", lambda m: m.update_app_state({}, remove="a")),
        ("remove[0]", lambda m: m.update_app_state({}, remove=[1])),
        ("remove[0]", lambda m: m.update_app_state({}, remove=[[]])),
        ("remove[1][0]", lambda m: m.update_app_state({}, remove=["a", [0]])),
        ("replace", lambda m: m.update_app_state({}, replace=1)),
        ("if_revision", lambda m: m.update_app_state({}, if_revision=1)),
        ("ttl", lambda m: m.update_app_state({}, ttl=0)),
        ("ttl", lambda m: m.update_app_state({}, ttl=True)),
        ("ttl", lambda m: m.update_app_state({}, ttl=1.5)),
    )

    def test_what_cannot_be_kept_is_refused_by_name(self, manager: Any, raw: Any, another: Any) -> None:
        """An invalid or too large state raises, and writes nothing. A state that is too large already may shrink."""
        manager.update_app_state({"n": 1})
        manager.update_user_state("ada", {"long": "x" * 1000})
        narrow = SessionManager(another(limits=Limits(state_bytes=100, id_bytes=10, depth=2)))
        before = {key: raw[key] for key in state_keys(raw)}

        for path, act in self.REFUSED:
            with pytest.raises(InvalidValueError) as caught:
                act(manager)
            assert caught.value.path == path
        for path, act in (
            ("state", lambda m: m.update_user_state("ada", {"longer": 1})),
            ("user_id", lambda m: m.update_user_state("u" * 11, {})),
            ("changes", lambda m: m.update_app_state({"a": {"b": {}}})),
        ):
            with pytest.raises(InvalidValueError, match="Limits") as caught:
                act(narrow)
            assert caught.value.path == path

        assert {key: raw[key] for key in state_keys(raw)} == before
        assert narrow.update_user_state("ada", {"long": "x" * 900}) == {"long": "x" * 900}

    TORN = ("", "torn", "[]", "{}", '{"format":2,"revision":"r","state":{}}', '{"format":1,"revision":"r","state":[]}')

    def test_an_unreadable_state_raises_and_is_left_as_it_is(self, manager: Any, raw: Any) -> None:
        """Reading or changing a damaged state raises and names the document. Other states can be read."""
        manager.update_user_state("bob", {"n": 1})
        [bobs] = state_keys(raw)
        manager.update_user_state("ada", {"n": 2})
        [key] = set(state_keys(raw)) - {bobs}
        for text in (*self.TORN, raw[bobs]):
            raw[key] = text

            for act in (
                lambda: manager.user_state("ada"),
                lambda: manager.update_user_state("ada", {"n": 3}),
                lambda: manager.update_user_state("ada", {}, replace=True),
            ):
                with pytest.raises(InvalidDocumentError) as caught:
                    act()
                assert caught.value.key == key
                assert caught.value.document == text or text in str(caught.value.document)

            assert raw[key] == text
            assert manager.user_state("bob") == {"n": 1}

    def test_fields_of_a_later_release_survive_an_update(self, manager: Any, raw: Any) -> None:
        """An update keeps unknown fields of the document."""
        manager.update_user_state("ada", {"n": 1})
        [key] = state_keys(raw)
        if not raw[key].endswith("}"):
            return
        raw[key] = raw[key][:-1] + ',"later":{"x":1}}'

        manager.update_user_state("ada", {"m": 2})

        assert '"later":{"x":1}' in raw[key]
        assert manager.user_state("ada") == {"n": 1, "m": 2}


class UpkeepOfState(DocumentFixtures):
    """Export, erasure, verification, copies and imports of state."""

    @pytest.fixture
    def states(self, manager: Any) -> None:
        """Store the state of user "ada", of user "bob" and of the application."""
        manager.update_user_state("ada", {"n": 1})
        manager.update_user_state("bob", {"n": 2})
        manager.update_app_state({"n": 3})

    def torn(self, manager: Any, raw: Any, user_id: str = "ada") -> str:
        """Store an unreadable state, and return its key."""
        before = set(state_keys(raw))
        manager.update_user_state(user_id, {"secret": "hunter2"})
        [key] = set(state_keys(raw)) - before
        raw[key] = raw[key].rstrip()[:-5]
        return key

    def test_all_that_is_held_of_a_user_is_exported(self, manager: Any, states: None) -> None:
        """A user's export has one line for the user's own state, and none for other states."""
        manager.create_session("ada", session_id="s")
        manager.update_user_state("ada", {"caf\u00e9": None}, ttl=60)

        for scan in (False, True):
            lines = exported(manager, "ada", scan=scan)
            [state] = [each for each in lines if "shared_state" in each]
            assert (state["user_id"], state["shared_state"]) == ("ada", {"n": 1, "caf\u00e9": None})
            assert datetime.fromisoformat(state["expires_at"].replace("Z", "+00:00")) == NOON + timedelta(seconds=60)
            assert [each["session_id"] for each in lines if each != state] == ["s"]
        assert exported(manager, "carol") == []

    def test_an_unreadable_state_is_exported_as_it_is(self, manager: Any, raw: Any) -> None:
        """A user's export has the text of a damaged state, also when it was set aside."""
        key = self.torn(manager, raw)

        [line] = exported(manager, "ada")
        assert line == {"key": key, "document": raw[key]}
        manager.verify(repair=True)
        [aside] = exported(manager, "ada")
        assert aside["document"] == line["document"]
        assert aside["key"].startswith("unreadable/")

    @pytest.mark.parametrize("scan", [False, True])
    def test_nothing_of_a_users_state_is_left(
        self, manager: Any, other: Any, raw: Any, states: None, scan: Any
    ) -> None:
        """Erasing a user removes the user's state, with what was set aside of it, and no other state."""
        others = state_keys(raw)
        [key] = [each for each in others if "n" in raw[each] and '"n":1' in raw[each]]
        raw[key] = "torn"
        manager.verify(repair=True)
        manager.update_user_state("ada", {"n": 4})

        erased = manager.delete_user("ada", scan=scan)

        assert (erased.states, len(erased), erased.unlisted) == (2, 0, [])
        assert state_keys(raw) == [each for each in others if each != key]
        assert [each for each in raw if each.startswith("unreadable/")] == []
        assert other.user_state("ada") == {}
        assert (other.user_state("bob"), other.app_state()) == ({"n": 2}, {"n": 3})
        assert manager.delete_user("ada", scan=scan).states == 0

    def test_an_unreadable_state_is_told_and_set_aside(self, manager: Any, other: Any, raw: Any, states: None) -> None:
        """`verify` reports a damaged state. A repair sets its text aside, and the user starts with an empty one."""
        assert manager.verify().problems == []
        key = self.torn(manager, raw, "carol")
        text = raw[key]

        [problem] = other.verify().problems
        assert (problem.kind, problem.session_id, problem.repaired) == ("unreadable state", "", False)
        assert problem.detail.endswith(key)
        assert raw[key] == text
        [problem] = manager.verify(repair=True).problems

        assert problem.repaired is True
        assert other.verify().problems == []
        assert [raw[each] for each in raw if each.startswith("unreadable/")] == [text]
        assert other.user_state("carol") == {}
        assert (other.user_state("ada"), other.app_state()) == ({"n": 1}, {"n": 3})
        assert manager.update_user_state("carol", {"n": 5}) == other.user_state("carol") == {"n": 5}

    def test_the_state_of_another_is_unreadable(self, manager: Any, raw: Any, states: None) -> None:
        """`verify` reports a state document that was copied to another user's key."""
        keys = state_keys(raw)
        raw[keys[1]] = raw[keys[2]]

        [problem] = manager.verify().problems
        assert problem.kind == "unreadable state"

    def test_expired_state_is_removed(self, manager: Any, raw: Any, clock: Any, states: None) -> None:
        """`purge_expired` removes expired state, but counts only sessions."""
        before = state_keys(raw)
        manager.update_user_state("carol", {"n": 4}, ttl=60)
        manager.update_user_state("dan", {"n": 5}, ttl=120)
        clock.advance(seconds=60)

        assert manager.purge_expired() == 0

        left = [json.loads(raw[each])["user_id"] for each in state_keys(raw) if each not in before]
        assert left == ["dan"]
        assert manager.user_state("dan") == {"n": 5}
        assert manager.verify().problems == []

    def test_all_state_is_cleared(self, manager: Any, other: Any, raw: Any, states: None) -> None:
        """`clear_all` removes all state, with what was set aside, but counts only sessions."""
        manager.create_session("ada")
        self.torn(manager, raw, "carol")
        manager.verify(repair=True)

        assert manager.clear_all() == 1

        assert [each for each in raw if each.startswith(("state/", "unreadable/"))] == []
        assert (other.user_state("ada"), other.app_state()) == ({}, {})

    def test_an_exported_state_is_imported(self, manager: Any, states: None, clock: Any) -> None:
        """An import restores state with its end. A stored state stays, and is reported if it differs."""
        manager.create_session("ada", session_id="s")
        manager.update_user_state("ada", {}, ttl=60)
        lines = exported(manager, "ada")
        new = SessionManager({}, clock=clock)

        for _ in range(2):
            done = new.import_sessions(lines)
            assert (done.inserted + done.identical, done.states, done.different_states) == (1, 1, [])
        assert new.user_state("ada") == {"n": 1}
        assert new.user_state("ada").expires_at == NOON + timedelta(seconds=60)
        clock.advance(seconds=1)
        new.update_user_state("ada", {"n": 2})
        for on_conflict in ("skip", "newer"):
            done = new.import_sessions(lines, on_conflict=on_conflict)
            assert (done.states, done.different_states) == (0, ["ada"])
            assert new.user_state("ada") == {"n": 2}
        with pytest.raises(StateConflictError):
            new.import_sessions(lines, on_conflict="error")
        done = new.import_sessions(lines, on_conflict="overwrite")
        assert (done.states, done.different_states) == (1, [])
        assert new.user_state("ada") == {"n": 1}
        for line, path in (
            ({"user_id": 7, "shared_state": {}}, "sessions[0].user_id"),
            ({"user_id": "bob", "shared_state": []}, "sessions[0].shared_state"),
            ({"user_id": "bob", "shared_state": {}, "expires_at": "soon"}, "sessions[0].expires_at"),
            ({"user_id": "bob", "shared_state": {}, "more": 1}, "sessions[0].more"),
        ):
            with pytest.raises(InvalidValueError) as caught:
                new.import_sessions([line])
            assert caught.value.path == path

    def test_states_are_copied_with_the_sessions(self, manager: Any, states: None, clock: Any) -> None:
        """A repeated copy carries over newer state, and keeps state that changed later in the target."""
        manager.create_session("ada", session_id="s")
        manager.update_user_state("carol", {"n": 4}, ttl=60)
        new = SessionManager({}, clock=clock)

        for _ in range(2):
            report = manager.copy_sessions(new)
            assert (report.inserted + report.identical, report.states, report.different_states) == (1, 4, [])
        assert (new.user_state("ada"), new.user_state("bob"), new.app_state()) == ({"n": 1}, {"n": 2}, {"n": 3})
        assert new.user_state("carol").expires_at == NOON + timedelta(seconds=60)

        clock.advance(seconds=60)
        manager.update_user_state("ada", {"n": 5})
        new.update_user_state("bob", {"n": 6})
        report = manager.copy_sessions(new)
        assert (report.states, report.different_states) == (2, ["bob"])
        assert (new.user_state("ada"), new.user_state("bob")) == ({"n": 5}, {"n": 6})
        assert (new.user_state("carol"), manager.user_state("bob")) == ({}, {"n": 2})

    def test_an_unreadable_state_is_not_copied(self, manager: Any, raw: Any, states: None, clock: Any) -> None:
        """A copy raises at a damaged state after all sessions are copied. `skip_invalid` reports it instead."""
        manager.create_session("ada", session_id="s")
        key = self.torn(manager, raw, "carol")
        new = SessionManager({}, clock=clock)

        with pytest.raises(InvalidDocumentError) as caught:
            manager.copy_sessions(new)
        assert caught.value.key == key
        assert new.count() == 1
        report = manager.copy_sessions(new, skip_invalid=True)
        assert (report.states, report.invalid) == (3, 1)
        assert key in report.problems[0]
