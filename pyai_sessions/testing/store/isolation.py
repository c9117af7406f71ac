"""Tests of `user_id=`: a call for one user's session does not reach another's."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from pyai_sessions import (
    ANYONE,
    InvalidValueError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    SessionStatus,
)
from pyai_sessions.testing.samples import contents, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures

_MESSAGE = {"role": "user", "content": "from whoever asks"}

CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "get_session": lambda m, user: m.get_session("s", user_id=user),
    "get_session of a part": lambda m, user: m.get_session("s", last=1, user_id=user),
    "append": lambda m, user: m.append("s", _MESSAGE, user_id=user),
    "get_branch": lambda m, user: m.get_branch("s", "no such branch", user_id=user),
    "switch": lambda m, user: m.switch("s", "no such branch", user_id=user),
    "fork": lambda m, user: m.fork("s", new_id="fork", owned_by=user),
    "fork for another": lambda m, user: m.fork("s", user_id="carol", new_id="fork", owned_by=user),
    "archive": lambda m, user: m.archive("s", user_id=user),
    "restore": lambda m, user: m.restore("s", user_id=user),
    "delete": lambda m, user: m.delete("s", user_id=user),
}
"""Calls for the session "s" with a `user_id`."""

LISTS: dict[str, Callable[[Any, Any], Any]] = {
    "get_or_create_session": lambda m, user: m.get_or_create_session("s", user),
    "get_sessions_for_user": lambda m, user: m.get_sessions_for_user(user),
    "list_sessions": lambda m, user: m.list_sessions(user),
    "list_sessions where": lambda m, user: m.list_sessions(user, where={"a": 1}),
    "count": lambda m, user: m.count(user),
    "count where": lambda m, user: m.count(user, where={"a": 1}),
    "delete_user": lambda m, user: m.delete_user(user),
    "export_sessions": lambda m, user: m.export_sessions(io.StringIO(), user_id=user),
}
"""Other calls with a user."""

ABSENT = [None, "", "x" * 1025, "x" * 5000, "\u00e9" * 513, "\ud800" * 342]
"""Values from a cookie or a URL that cannot be a session id."""


def outcome(call: str, manager: Any, user_id: Any) -> Any:
    """Return the result of a call, or the type and text of its exception."""
    try:
        return CALLS[call](manager, user_id)
    except SessionError as err:
        return type(err), str(err)


class Isolation(StoreFixtures):
    """A call with a `user_id` finds only that user's sessions. A call without one finds all."""

    @pytest.mark.parametrize("status", SessionStatus)
    @pytest.mark.parametrize("owner", ["ada", None])
    def test_a_strangers_session_is_as_absent(self, manager: Any, other: Any, status: Any, owner: Any) -> None:
        """Another user's session gives the same result or error as an absent one. Nothing is written."""
        absent = {call: outcome(call, manager, "bob") for call in CALLS}
        fill(session := manager.create_session(owner, session_id="s"), 3)
        manager.save(session)
        if status is SessionStatus.ARCHIVED:
            manager.archive("s")
        before = other.get_session("s")

        assert {call: outcome(call, manager, "bob") for call in CALLS} == absent

        after = other.get_session("s")
        assert (after, after.revision) == (before, before.revision)
        assert other.get_session("fork") is None
        assert {each: absent[each] for each in ("get_session", "delete")} == {"get_session": None, "delete": False}
        assert absent["append"][0] is SessionNotFoundError
        assert self.sound(other)

    def test_who_asks_in_the_users_own_name_is_served(self, manager: Any, other: Any) -> None:
        """With the owner's `user_id`, each method works as without it."""
        fill(session := manager.create_session("ada", session_id="s"), 3)
        branch = session.rewind("m1")
        manager.save(session)

        manager.append("s", _MESSAGE, user_id="ada")
        assert contents(other.get_session("s", user_id="ada"))[-1] == "from whoever asks"
        assert other.switch("s", branch, user_id="ada").message_count == 3
        assert manager.get_session("s", last=1, user_id="ada").message_count == 3
        fork = manager.fork("s", user_id="bob", new_id="fork", owned_by="ada")
        assert (fork.user_id, fork.message_count) == ("bob", 3)
        assert manager.fork("s", new_id="own", owned_by="ada").user_id == "ada"
        manager.archive("s", user_id="ada")
        assert sorted(ids(other.list_sessions("ada"))) == ["own"]
        manager.restore("s", user_id="ada")
        assert sorted(ids(other.list_sessions("ada"))) == ["own", "s"]
        assert manager.delete("s", user_id="ada") is True
        assert other.get_session("s") is None

    @pytest.mark.parametrize("left_out", [{}, {"user_id": ANYONE}], ids=["left out", "ANYONE"])
    def test_who_asks_for_no_user_is_served(self, manager: Any, left_out: Any) -> None:
        """Without a `user_id`, each method finds any user's session."""
        manager.create_session("ada", session_id="s")
        manager.append("s", _MESSAGE, **left_out)
        manager.archive("s", **left_out)

        assert manager.get_session("s", **left_out).message_count == 1
        assert manager.get_or_create_session("s", **left_out).user_id == "ada"
        assert manager.fork("s", new_id="fork").user_id == "ada"
        assert manager.delete("s", **left_out) is True

    def test_none_is_refused_as_a_user(self, manager: Any) -> None:
        """None as a user raises: after a failed login, no call opens, lists, changes or erases sessions."""
        for owner in ("ada", None):
            session = manager.create_session(owner, session_id="s")
            for call, act in {**CALLS, **LISTS}.items():
                with pytest.raises(InvalidValueError) as caught:
                    act(manager, None)
                assert caught.value.path == ("owned_by" if "fork" in call else "user_id")
            assert manager.get_session("s") == session
            assert manager.get_session("fork") is None
            manager.delete("s")

    @pytest.mark.parametrize("owner", [{}, {"user_id": "ada"}], ids=["anyone's", "ada's"])
    def test_an_id_that_no_session_can_have_is_not_found(self, manager: Any, owner: Any) -> None:
        """None, "" and texts that are too long are not found. Other types raise."""
        manager.create_session("ada", session_id="s")

        for absent in ABSENT:
            assert manager.get_session(absent, **owner) is None
            assert manager.get_session(absent, last=1, **owner) is None
            assert manager.delete(absent, **owner) is False
            for act in (
                lambda: manager.append(absent, _MESSAGE, **owner),  # noqa: B023
                lambda: manager.archive(absent, **owner),  # noqa: B023
                lambda: manager.restore(absent, **owner),  # noqa: B023
                lambda: manager.switch(absent, "a branch", **owner),  # noqa: B023
                lambda: manager.fork(absent),  # noqa: B023
            ):
                with pytest.raises(SessionNotFoundError) as caught:
                    act()
                assert len(str(caught.value)) < 400
        for act in (lambda: manager.get_session(7), lambda: manager.delete(b"s"), lambda: manager.append(7, _MESSAGE)):
            with pytest.raises(InvalidValueError):
                act()

    def test_users_are_told_apart_to_the_last_character(self, manager: Any) -> None:
        """User ids that differ in case, accents, or after a NUL are different users."""
        hostile = self.hostile_ids
        for n, user_id in enumerate(hostile):
            manager.create_session(user_id, session_id=f"s{n}")

        found = [manager.get_session(f"s{n}", user_id=user_id) for n, user_id in enumerate(hostile)]
        assert [each.user_id for each in found] == hostile
        assert [manager.get_session(f"s{n}", user_id=hostile[n - 1]) for n in range(len(hostile))] == [None] * len(
            hostile
        )
        for user_id, like in (("a", "A"), ("a", "a\0"), ("h\u00e9llo", "he\u0301llo"), ("a\ud83d", "a"), ("a", " a ")):
            session = manager.get_session(f"s{hostile.index(user_id)}", user_id=like) if user_id in hostile else None
            assert session is None

    @pytest.mark.parametrize("bad", ["", "x" * 1025, 7, b"ada"])
    def test_what_cannot_be_a_user_is_refused(self, manager: Any, bad: Any) -> None:
        """An invalid user id raises, and nothing is done."""
        session = manager.create_session("ada", session_id="s")

        for call, act in CALLS.items():
            with pytest.raises(InvalidValueError) as caught:
                act(manager, bad)
            assert caught.value.path == ("owned_by" if "fork" in call else "user_id")

        assert manager.get_session("s") == session

    def test_a_session_of_another_user_is_not_handed_out_by_creating_it(self, manager: Any, other: Any) -> None:
        """What would create another user's session raises, and names no remedy that hands it out or destroys it."""
        fill(session := manager.create_session("ada", session_id="s"), 1)
        manager.save(session)
        manager.create_session(session_id="nobody's")
        before = manager.get_session("s")

        for session_id in ("s", "nobody's"):
            with pytest.raises(SessionExistsError) as caught:
                manager.get_or_create_session(session_id, "bob", metadata={"bob": True})
            with pytest.raises(SessionExistsError) as created:
                manager.create_session("bob", session_id=session_id)
            with pytest.raises(SessionExistsError) as updated:
                manager.update(session_id, _MESSAGE, create=True, user_id="bob")
            assert str(caught.value) == str(created.value) == str(updated.value)
            assert "choose another id; get_session(session_id, user_id=...) loads it if" in str(caught.value)
            assert "overwrite" not in str(caught.value)
            assert manager.get_session(session_id, user_id="bob") is None  # as the error advises

        assert other.get_session("s") == before
        assert manager.get_or_create_session("s", "ada") == before
        assert manager.get_or_create_session("s") == before
        assert manager.get_or_create_session("new", "bob").user_id == "bob"

    def test_who_appended_last_does_not_open_a_session_to_others(self, manager: Any, other: Any) -> None:
        """What a store remembers of its last append is checked for the user, too."""
        manager.create_session("ada", session_id="s")
        for n in range(2):
            manager.append("s", _MESSAGE | {"message_id": f"m{n}"}, user_id="ada")

        with pytest.raises(SessionNotFoundError):
            manager.append("s", _MESSAGE, user_id="bob")
        manager.append("s", _MESSAGE | {"message_id": "m2"}, user_id="ada")

        assert [each.message_id for each in other.get_session("s").messages] == ["m0", "m1", "m2"]

    def test_a_session_that_went_to_another_user_is_that_users(self, manager: Any, other: Any) -> None:
        """When a session changes its user, the old one loses it at that commit, in every store."""
        manager.create_session("ada", session_id="s")
        manager.append("s", _MESSAGE | {"message_id": "m0"}, user_id="ada")
        session = other.get_session("s")
        session.user_id = "bob"
        other.save(session)

        with pytest.raises(SessionNotFoundError):
            manager.append("s", _MESSAGE, user_id="ada")
        manager.append("s", _MESSAGE | {"message_id": "m1"}, user_id="bob")

        assert manager.get_session("s", user_id="ada") is None
        assert manager.get_session("s", user_id="bob").message_count == 2
