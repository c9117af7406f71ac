"""Tests of lists of users, sessions without a user, other orders, and inactive sessions."""

from itertools import product
from typing import Any

import pytest

from pyai_sessions import NOBODY, InvalidValueError, SessionDeletedError, SessionStatus
from pyai_sessions.testing.samples import all_pages, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Users(StoreFixtures):
    """Calls on the sessions of all users."""

    @of_all_users
    def test_users_are_listed_with_their_counts(self, manager: Any, other: Any, ten: Any) -> None:
        """`users` gives each user's number of sessions with the status, by user id. None comes last."""
        manager.archive("s0")
        manager.archive("bob's")

        assert list(other.users().items()) == [("ada", 9), (None, 1)]
        assert other.users(status=SessionStatus.ARCHIVED) == {"ada": 1, "bob": 1}
        assert other.users(status=None) == {"ada": 10, "bob": 1, None: 1}
        assert sum(other.users().values()) == other.count()

    @of_all_users
    def test_the_sessions_of_no_user_are_listed_and_counted(self, manager: Any, other: Any, clock: Any) -> None:
        """NOBODY lists and counts sessions without a user. None as a user still raises."""
        for n in range(12):
            manager.create_session("ada" if n % 3 else None, session_id=f"s{n}", metadata={"n": n % 2})
            clock.advance(minutes=1)

        expected = ["s9", "s6", "s3", "s0"]
        assert ids(other.list_sessions(NOBODY)) == expected
        assert [all_pages(other, NOBODY, limit=limit) for limit in (1, 3, 50)] == [expected] * 3
        assert ids(other.list_sessions(NOBODY, order="created")) == expected[::-1]
        assert ids(other.list_sessions(NOBODY, where={"n": 0})) == ["s6", "s0"]
        assert (other.count(NOBODY), other.count(NOBODY, where={"n": 0})) == (4, 2)
        for act in (other.list_sessions, other.count):
            with pytest.raises(InvalidValueError):
                act(None)

    def test_nobody_is_a_user_of_lists_alone(self, manager: Any) -> None:
        """A call for one session raises if it is given NOBODY."""
        manager.create_session(session_id="s")

        with pytest.raises(InvalidValueError, match="NOBODY"):
            manager.get_session("s", user_id=NOBODY)

    @pytest.mark.parametrize("limit", [None, 1, 4, 50])
    def test_a_list_is_sorted_by_creation_or_title(self, manager: Any, other: Any, clock: Any, limit: Any) -> None:
        """A list can be ordered by creation or title, both ways, by pages. Without a title comes last going up."""
        titles = ["b", None, "A", "ä", "B", None, "a", "c"]
        for n, title in enumerate(titles):
            manager.create_session("ada", session_id=f"s{n}", title=title)
            manager.create_session("bob", session_id=f"bob's {n}", title=title)
            clock.advance(minutes=n % 2)
        manager.append("s0", {"role": "user", "content": "Moved in lists by activity."})
        by_title = ["s2", "s6", "s4", "s0", "s7", "s3", "s1", "s5"]

        for order, expected in (
            ("created", sorted(f"s{n}" for n in range(8))),
            ("title", by_title),
        ):
            assert all_pages(other, "ada", order=order, limit=limit) == expected
            assert all_pages(other, "ada", order=f"-{order}", limit=limit) == expected[::-1]

    def test_a_cursor_of_another_order_is_refused(self, manager: Any, ten: Any) -> None:
        """A cursor of one order raises in another."""
        cursors = {
            order: manager.list_sessions("ada", order=order, limit=2).next_cursor
            for order in ("newest", "created", "-created", "title")
        }
        for order in cursors:
            for made, cursor in cursors.items():
                if made == order:
                    assert manager.list_sessions("ada", order=order, limit=2, cursor=cursor)
                else:
                    with pytest.raises(InvalidValueError) as caught:
                        manager.list_sessions("ada", order=order, limit=2, cursor=cursor)
                    assert caught.value.path == "cursor"
            for bad in ("", "x", "[]", "W10=", 7):
                with pytest.raises(InvalidValueError):
                    manager.list_sessions("ada", order=order, cursor=bad)

    @of_all_users
    def test_what_is_idle_for_long_is_told_and_deleted(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """Inactivity counts from the last message, archived or not. A dry run reports sessions, and deletes none."""
        manager.archive("s1")
        session = manager.get_session("s2")
        session.title = "Changed, but idle"
        manager.save(session)
        manager.append("s0", {"role": "user", "content": "Not idle."})
        clock.advance(days=1)
        manager.append("s4", {"role": "user", "content": "Just now."})
        held = manager.get_session("s3")

        told = manager.delete_inactive(days=1 + 5.5 / 1440, dry_run=True)
        assert ids(told) == ["s1", "s2", "s3"]
        assert ids(manager.archive_inactive(days=1 + 5.5 / 1440, dry_run=True)) == ["s2", "s3"]
        assert other.count("ada", status=None) == 10
        done: list[int] = []
        assert manager.delete_inactive(days=1 + 5.5 / 1440, progress=done.append) == 3
        assert done[-1:] == [3]
        assert manager.delete_inactive(days=1 + 5.5 / 1440) == 0
        assert ids(other.list_sessions("ada", status=None)) == ["s4", "s0", *ten[:4], "s5"]
        with pytest.raises(SessionDeletedError):
            manager.save(held)
        assert self.sound(other)

    def test_what_is_no_number_of_days_is_refused(self, manager: Any, ten: Any) -> None:
        """An invalid number of days raises, and nothing is deleted or archived."""
        for days in (-1, float("nan"), float("inf"), "30", None, True):
            for act, dry_run in product((manager.delete_inactive, manager.archive_inactive), (False, True)):
                with pytest.raises(InvalidValueError) as caught:
                    act(days, dry_run=dry_run)
                assert caught.value.path == "days", days
        assert manager.count("ada") == 10
