"""Tests of lists, pages and counts."""

from typing import Any

import pytest

from pyai_sessions import ANYONE
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.samples import all_pages, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Lists(StoreFixtures):
    def test_a_users_sessions_come_latest_activity_first(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """A save moves a session to the front of its user's list."""
        assert ids(other.get_sessions_for_user("ada")) == ten
        assert ids(other.list_sessions("ada")) == ten

        session = manager.get_session("s4")
        session.add_message("user", "still here")
        manager.save(session)

        expected = ["s4", *(each for each in ten if each != "s4")]
        assert ids(other.get_sessions_for_user("ada")) == expected
        assert ids(other.list_sessions("ada")) == expected

    def test_lists_hold_whole_sessions_or_summaries(self, manager: Any, other: Any, ten: Any) -> None:
        """`get_sessions_for_user` returns sessions. `list_sessions` returns summaries, without messages and state."""
        fill(session := manager.get_session("s9"), 50)
        manager.save(session)

        assert other.get_sessions_for_user("ada", limit=1) == [session]
        summary = other.list_sessions("ada", limit=1)[0]
        for name in ("session_id", "user_id", "metadata", "message_count", "status", "created_at", "updated_at"):
            assert getattr(summary, name) == getattr(session, name)

    def test_a_limit_cuts_a_list(self, manager: Any, ten: Any) -> None:
        """A limit returns the newest so many sessions: none for 0, all if there are fewer."""
        for limit in (0, 1, 3, 10, 99, None):
            assert ids(manager.get_sessions_for_user("ada", limit=limit)) == ten[:limit]
            assert ids(manager.list_sessions("ada", limit=limit)) == ten[:limit]

    def test_before_leaves_out_later_activity(self, manager: Any, ten: Any) -> None:
        """`before` keeps sessions whose last activity was before that time."""
        time = manager.get_session("s6").updated_at

        assert ids(manager.get_sessions_for_user("ada", before=time)) == ten[4:]
        assert ids(manager.get_sessions_for_user("ada", before=time, limit=2)) == ten[4:6]
        assert manager.get_sessions_for_user("ada", before=NOON) == []

    @of_all_users
    def test_a_user_sees_only_their_own(self, manager: Any, other: Any, ten: Any) -> None:
        """A user's list has only the user's sessions. Those without a user are in the list of all."""
        assert ids(other.get_sessions_for_user("bob")) == ids(other.list_sessions("bob")) == ["bob's"]
        assert other.get_sessions_for_user("carol") == other.list_sessions("carol") == []
        assert sorted(ids(other.list_sessions())) == sorted([*ten, "bob's", "nobody's"])
        assert [other.count(each) for each in ("ada", "bob", "carol", ANYONE)] == [10, 1, 0, 12]

    def test_the_oldest_can_come_first(self, manager: Any, ten: Any) -> None:
        """Oldest first is the same list reversed, by pages too."""
        assert ids(manager.list_sessions("ada", order="oldest")) == ten[::-1]
        assert all_pages(manager, "ada", order="oldest", limit=3) == ten[::-1]

    @of_all_users
    @pytest.mark.parametrize("limit", [1, 3, 10, 50])
    def test_pages_hold_each_session_once(self, manager: Any, other: Any, ten: Any, limit: Any) -> None:
        """A cursor goes on where the page ended. The last page has none."""
        for through in (manager, other):
            assert all_pages(through, "ada", limit=limit) == ten
            assert sorted(all_pages(through, limit=limit)) == sorted([*ten, "bob's", "nobody's"])

    @of_all_users
    def test_pages_hold_each_session_once_where_times_are_equal(self, manager: Any, other: Any) -> None:
        """Sessions with equal times have a fixed order, and come once each."""
        made = [manager.create_session("ada").session_id for _ in range(25)]

        for limit in (1, 4, 25):
            assert sorted(all_pages(manager, "ada", limit=limit)) == sorted(made)
        assert all_pages(other, limit=7) == all_pages(manager, limit=3)
        assert all_pages(other, limit=7, order="oldest") == all_pages(manager, limit=3)[::-1]

    @of_all_users
    def test_a_session_moves_to_another_users_list(self, manager: Any, other: Any, ten: Any) -> None:
        """A changed user_id takes effect with the save, in lists and counts."""
        session = manager.get_session("s3")
        session.user_id = "bob"
        manager.save(session)

        assert "s3" not in ids(other.get_sessions_for_user("ada"))
        assert sorted(ids(other.get_sessions_for_user("bob"))) == ["bob's", "s3"]
        assert [other.count(each) for each in ("ada", "bob", ANYONE)] == [9, 2, 12]

        session.user_id = None
        manager.save(session)

        assert [other.count(each) for each in ("ada", "bob", ANYONE)] == [9, 1, 12]
        assert self.sound(other)

    @of_all_users
    def test_a_list_of_more_than_a_batch_is_whole(self, manager: Any, other: Any) -> None:
        """A list of over a hundred sessions gives each once."""
        made = [manager.create_session("ada").session_id for _ in range(130)]

        assert sorted(ids(other.get_sessions_for_user("ada"))) == sorted(made)
        assert sorted(ids(other.list_sessions())) == sorted(made)
        assert other.count("ada") == 130

    def test_a_users_list_of_more_than_a_batch_is_whole(self, manager: Any, other: Any) -> None:
        """A user's list larger than one query gives each session once, with its own messages."""
        for n in range(130):
            manager.create_session(("ada", "bob")[n % 2], session_id=f"s{n}", metadata={"n": n})

        for user_id, first in (("ada", 0), ("bob", 1)):
            found = other.get_sessions_for_user(user_id)
            assert {each.session_id: each.metadata for each in found} == {
                f"s{n}": {"n": n} for n in range(first, 130, 2)
            }
            assert ids(other.list_sessions(user_id)) == ids(found)
            assert len(found) == other.count(user_id) == 65
            assert other.list_sessions(user_id).next_cursor is None

    def test_a_saved_user_id_moves_a_session(self, manager: Any, other: Any) -> None:
        """Saving a new user_id moves the session to that user's list."""
        session = manager.create_session("ada", session_id="s")
        session.user_id = "bob"
        manager.save(session)

        assert other.get_sessions_for_user("ada", include_archived=True) == []
        assert ids(other.get_sessions_for_user("bob")) == ["s"]
        assert [other.count(each) for each in ("ada", "bob")] == [0, 1]

    @of_all_users
    @pytest.mark.parametrize("order", ["newest", "oldest"])
    @pytest.mark.parametrize("limit", [1, 7, None])
    def test_the_list_of_all_users_is_in_order_of_activity(
        self, manager: Any, other: Any, clock: Any, order: Any, limit: Any
    ) -> None:
        """The list of all users is ordered by activity, at once or by pages. A save moves a session."""
        times = {}
        for n in range(40):
            clock.advance(seconds=n % 2)
            times[f"s{n}"] = manager.create_session(("ada", "bob", None)[n % 3], session_id=f"s{n}").updated_at
        clock.advance(seconds=1)
        for name in ("s3", "s38", "s0"):
            session = manager.get_session(name)
            session.add_message("user", "still here")
            manager.save(session)
            times[name] = session.updated_at

        found = all_pages(other, order=order, limit=limit)

        assert sorted(found) == sorted(times)
        assert [times[each] for each in found] == sorted(times.values(), reverse=order == "newest")
