"""Tests of invalid values, and of ids."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.machines import NO_CHECKS
from pyai_sessions.testing.samples import contents, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Values(StoreFixtures):
    # What cannot be stored -------------------------------------------------------------------------------------------

    def test_what_cannot_be_an_id_is_refused(self, manager: Any) -> None:
        """Ids of new sessions and of users are text of 1 to 1,024 bytes."""
        calls: tuple[Callable[[Any], object], ...] = (
            manager.get_or_create_session,
            manager.get_sessions_for_user,
            manager.list_sessions,
            manager.count,
            manager.delete_user,
            lambda bad: bad is None or manager.create_session(session_id=bad),
            manager.create_session,
        )
        for bad in ("", "x" * 1025, "\u00e9" * 513, 7, b"s", None):
            for call in calls if bad is not None else calls[:-2]:
                with pytest.raises(InvalidValueError):
                    call(bad)

        assert self.listed(manager, "ada") == []

    @of_all_users
    def test_options_out_of_range_are_refused(self, manager: Any) -> None:
        """An option that is out of range raises an error that names it."""
        session = manager.create_session("ada", session_id="s")

        for name, act in (
            ("last", lambda: manager.get_session("s", last=-1)),
            ("limit", lambda: manager.get_sessions_for_user("ada", limit=-1)),
            ("limit", lambda: manager.list_sessions(limit=1.5)),
            ("before", lambda: manager.get_sessions_for_user("ada", before=NOON.replace(tzinfo=None))),
            ("cursor", lambda: manager.list_sessions(cursor="nonsense")),
            ("status", lambda: manager.list_sessions(status="gone")),
            ("days", lambda: manager.archive_inactive(days=-1)),
            ("on_conflict", lambda: manager.save(session, on_conflict="ignore")),
            ("session", lambda: manager.save({"session_id": "s"})),
            ("messages", lambda: manager.append("s", "Hello!")),
            ("messages", lambda: manager.append("s", {"content": "no role"})),
            ("messages", lambda: manager.append("s", {"role": "user", "text": "unknown field"})),
        ):
            with pytest.raises(InvalidValueError) as caught:
                act()

            assert caught.value.path.startswith(name)

        assert manager.get_session("s") == session

    # Ids -------------------------------------------------------------------------------------------------------------

    @of_all_users
    def test_any_text_is_a_user_id(self, manager: Any, other: Any) -> None:
        """Users of any ids have only their own sessions."""
        hostile = self.hostile_ids
        for n, user_id in enumerate(hostile):
            manager.create_session(user_id, session_id=f"s{n}")

        for n, user_id in enumerate(hostile):
            assert [(each.session_id, each.user_id) for each in other.get_sessions_for_user(user_id)] == [
                (f"s{n}", user_id)
            ]
            assert manager.count(user_id) == 1
        assert len(manager.delete_user("*")) == 1
        assert manager.count() == len(hostile) - 1
        assert self.sound(manager)

    def test_no_two_ids_are_one_session(self, manager: Any) -> None:
        """Different ids of any Unicode name different sessions."""

        @settings(max_examples=15, deadline=None, database=None, suppress_health_check=NO_CHECKS)
        @given(st.sets(st.text(st.characters(), min_size=1, max_size=12), min_size=2, max_size=4))
        def check(chosen: Any) -> None:
            chosen = {each for each in chosen if self.takes_id(each)}
            for each in chosen:
                manager.create_session(each, session_id=each, state={"id": each})

            assert {each: manager.get_session(each).state for each in chosen} == {each: {"id": each} for each in chosen}
            assert {each: ids(manager.list_sessions(each)) for each in chosen} == {each: [each] for each in chosen}
            assert [manager.delete(each) for each in chosen] == [True] * len(chosen)

        check()

    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_what_json_cannot_hold_is_refused_and_nothing_is_stored(self, manager: Any, part: Any) -> None:
        """The error gives the path to the value. Nothing is stored, and without the value the save works."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "kept for the next save")
        vars(session)[part] = {"cursor": {1, 2}}  # bypasses the check of assignments

        with pytest.raises(InvalidValueError) as caught:
            manager.save(session)

        assert caught.value.path.startswith(f"{part}[")
        assert contents(manager.get_session("s")) == []

        del getattr(session, part)["cursor"]
        manager.save(session)
        assert contents(manager.get_session("s")) == ["kept for the next save"]
