"""Tests of deleting, archiving and restoring sessions."""

from datetime import timedelta
from typing import Any

import pytest

from pyai_sessions import (
    Message,
    Session,
    SessionArchivedError,
    SessionDeletedError,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
)
from pyai_sessions.testing.samples import all_pages, contents, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Ending(StoreFixtures):
    # Deleting --------------------------------------------------------------------------------------------------------

    def test_deleting_an_absent_session_returns_false(self, manager: Any) -> None:
        """Deleting an absent session returns False."""
        manager.create_session(session_id="s")
        manager.delete("s")

        assert manager.delete("s") is False

    @of_all_users
    def test_deleting_a_user_leaves_the_others(self, manager: Any, other: Any) -> None:
        """`delete_user` removes the user's sessions, archived ones too, and no other user's."""
        for n in range(3):
            manager.create_session("ada", session_id=f"ada{n}")
        manager.archive("ada1")
        manager.create_session("bob", session_id="bob")
        manager.create_session(session_id="nobody")

        assert manager.delete_user("ada").session_ids == ["ada0", "ada1", "ada2"]

        assert sorted(ids(other.list_sessions(status=None))) == ["bob", "nobody"]
        assert other.get_session("ada1") is None
        assert not manager.delete_user("ada")
        assert self.sound(other)

    # Archiving -------------------------------------------------------------------------------------------------------

    @of_all_users
    def test_an_archived_session_is_left_out_of_lists_and_can_be_read(self, manager: Any, other: Any) -> None:
        """Lists leave archived sessions out by default. They can still be read."""
        manager.create_session("ada", session_id="kept")
        manager.create_session("ada", session_id="s")
        manager.archive("s")
        manager.archive("s")

        assert ids(other.get_sessions_for_user("ada")) == ["kept"]
        assert ids(other.list_sessions()) == ids(other.list_sessions("ada")) == ["kept"]
        assert sorted(ids(other.get_sessions_for_user("ada", include_archived=True))) == ["kept", "s"]
        assert sorted(ids(other.list_sessions("ada", status=None))) == ["kept", "s"]
        assert ids(other.list_sessions("ada", status=SessionStatus.ARCHIVED)) == ["s"]
        assert other.get_session("s").status is SessionStatus.ARCHIVED
        assert [other.count("ada", status=status) for status in (*SessionStatus, None)] == [1, 1, 2]

    def test_archiving_an_object_and_saving_it_archives(self, manager: Any, other: Any) -> None:
        """`session.archive()` takes effect at the save, together with added messages."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "good-bye")
        session.archive()
        manager.save(session)

        assert other.count("ada") == 0
        assert contents(other.get_session("s")) == ["good-bye"]
        with pytest.raises(SessionArchivedError):
            manager.save(session)

    def test_an_archived_session_refuses_changes(self, manager: Any, other: Any) -> None:
        """Saving any copy of an archived session and appending to it raise, and write nothing."""
        before = manager.create_session("ada", session_id="s")
        other.archive("s")
        after = manager.get_session("s")
        for copy in (before, after):
            copy.add_message("user", "too late")
            for mode in ("merge", "overwrite"):
                with pytest.raises(SessionArchivedError) as caught:
                    manager.save(copy, on_conflict=mode)
                assert caught.value.session_id == "s"
        with pytest.raises(SessionArchivedError):
            manager.append("s", {"role": "user", "content": "too late"})

        assert other.get_session("s").message_count == 0

    def test_a_restored_session_goes_on(self, manager: Any, other: Any) -> None:
        """A restored session is listed and takes messages. A copy loaded while it was archived can be saved."""
        manager.create_session("ada", session_id="s")
        manager.archive("s")
        copy = manager.get_session("s")
        other.restore("s")
        other.restore("s")
        assert ids(manager.get_sessions_for_user("ada")) == ["s"]

        copy.add_message("user", "again")
        manager.save(copy)
        manager.append("s", {"role": "assistant", "content": "welcome back"})

        stored = other.get_session("s")
        assert contents(stored) == ["again", "welcome back"]
        assert stored.status is SessionStatus.ACTIVE
        assert [other.count("ada", status=status) for status in (*SessionStatus, None)] == [1, 0, 1]

    def test_archiving_or_restoring_an_absent_session_raises(self, manager: Any) -> None:
        """Archiving or restoring an absent session raises SessionNotFoundError."""
        for act in (manager.archive, manager.restore):
            with pytest.raises(SessionNotFoundError):
                act("s")

    @of_all_users
    def test_inactive_sessions_are_archived(self, manager: Any, other: Any, clock: Any) -> None:
        """`archive_inactive` archives sessions without activity for so many days. Their creation does not count."""
        for name in ("oldest", "older", "revived", "recent"):
            manager.create_session("ada", session_id=name)
            clock.advance(days=10)
        manager.append("revived", {"role": "user", "content": "back"})
        manager.create_session("ada", session_id="archived")
        manager.archive("archived")
        clock.advance(days=15)

        assert manager.archive_inactive(days=30) == 2

        assert sorted(ids(other.list_sessions())) == ["recent", "revived"]
        assert sorted(ids(other.list_sessions(status=SessionStatus.ARCHIVED))) == ["archived", "older", "oldest"]
        assert manager.archive_inactive(days=30) == 0
        assert manager.archive_inactive(days=0.5) == 2
        assert other.count() == 0
        assert self.sound(other)

    # Restoring -------------------------------------------------------------------------------------------------------

    @of_all_users
    def test_a_restored_session_is_active_now(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """Restoring counts as activity, so the session comes first in lists."""
        for name in ("s2", "s7", "bob's"):
            manager.archive(name)
        clock.advance(days=40)
        other.restore("s2")
        clock.advance(days=40)
        manager.restore("s7")

        assert manager.get_session("s7").updated_at == clock.now
        expected = ["s7", "s2", *(each for each in ten if each not in ("s2", "s7"))]
        assert ids(other.list_sessions("ada")) == ids(manager.get_sessions_for_user("ada")) == expected
        assert ids(other.list_sessions("ada", order="oldest", limit=2)) == ["s0", "s1"]
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["bob's"]
        assert manager.archive_inactive(days=60) == 9
        assert ids(other.list_sessions()) == ["s7", "s2"]
        assert self.sound(other)

    @of_all_users
    def test_archiving_is_no_activity(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """Archiving keeps a session's time, and so its place among archived ones."""
        clock.advance(days=1)
        for name in ("s3", "s9", "s0"):
            manager.archive(name)

        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["s9", "s3", "s0"]
        assert ids(other.list_sessions("ada", status=None)) == ten

    def test_restoring_what_is_active_is_no_activity(self, manager: Any, clock: Any, ten: Any) -> None:
        """Restoring an active session writes nothing."""
        before = manager.get_session("s3")
        clock.advance(days=1)

        manager.restore("s3")

        assert manager.get_session("s3").revision == before.revision
        assert ids(manager.list_sessions("ada")) == ten

    def test_a_restored_session_goes_forward_in_time(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """Restoring never moves a session's time back, even if the clock was."""
        before = manager.get_session("s3").updated_at
        manager.archive("s3")
        clock.advance(days=-30)
        manager.restore("s3")

        assert before < manager.get_session("s3").updated_at
        assert sorted(all_pages(other, "ada", limit=3)) == sorted(ten)

    # Many inactive ones ----------------------------------------------------------------------------------------------

    @pytest.fixture
    def idle(self, manager: Any, clock: Any) -> Any:
        """Store 250 sessions of two users, a day apart, s0 the latest and of *clock*'s time. s1 is long."""
        made = []
        for n in range(250):
            time = clock.now - timedelta(days=n)
            user_id = ("ada", "bob")[n % 2]
            made.append(Session(session_id=f"s{n}", user_id=user_id, created_at=time, updated_at=time))
        made[1] = Session(session_id="s1", user_id="bob", messages=[Message("user", n) for n in range(100)])
        made[1].updated_at = clock.now - timedelta(days=1)
        manager.import_sessions(made)
        return [each.session_id for each in made]

    @of_all_users
    @pytest.mark.parametrize(("days", "due"), [(0, 249), (100, 149)])
    def test_all_that_were_idle_for_so_long_are_archived_and_no_other(
        self, manager: Any, other: Any, idle: Any, days: Any, due: Any
    ) -> None:
        """Any number of sessions is archived. One that was inactive for exactly that time is not."""
        told: list[int] = []
        assert manager.archive_inactive(days=1e6) == 0

        assert manager.archive_inactive(days=days, progress=told.append) == due

        left = idle[: 250 - due]
        assert ids(other.list_sessions(limit=None)) == left
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED, limit=None)) == idle[250 - due :]
        assert [other.count(each) for each in ("ada", "bob")] == [len(left[::2]), len(left[1::2])]
        assert told == sorted(set(told))
        assert told[-1:] == [due]
        assert (other.get_session("s1").message_count, other.get_session("s1").updated_at) == (
            100,
            other.get_session("s0").updated_at - timedelta(days=1),
        )
        assert self.sound(other)
        assert manager.archive_inactive(days=days) == 0

    def test_a_deleted_session_is_gone_and_the_others_stay(self, manager: Any, other: Any) -> None:
        """A deleted session is in no read, list or count. Others are."""
        kept = manager.create_session("ada", session_id="kept")
        gone = manager.create_session("ada", session_id="gone")
        for each in (kept, gone):
            fill(each, 40)
            manager.save(each)

        assert manager.delete("gone") is True

        assert other.get_session("gone") is None
        assert other.get_session("kept") == kept
        assert ids(other.get_sessions_for_user("ada")) == ids(other.list_sessions("ada")) == ["kept"]
        assert other.count("ada") == 1

    def test_a_session_created_anew_has_nothing_of_its_predecessor(self, manager: Any, other: Any) -> None:
        """The id of a deleted session is free, for another user too. The new session has nothing of the old."""
        fill(session := manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"n": 1}), 40)
        manager.save(session)
        manager.delete("s")

        new = manager.create_session("bob", session_id="s")

        assert other.get_session("s") == new
        assert (new.message_count, new.metadata, new.state) == (0, {}, {})
        assert manager.get_sessions_for_user("ada", include_archived=True) == []
        assert ids(manager.get_sessions_for_user("bob")) == ["s"]

    @pytest.mark.parametrize("mode", ["merge", "error", "overwrite"])
    def test_a_copy_does_not_bring_a_deleted_session_back(self, manager: Any, other: Any, mode: Any) -> None:
        """Saving a copy of a deleted session raises in every mode."""
        session = manager.create_session("ada", session_id="s")
        other.delete("s")
        session.add_message("user", "too late")

        with pytest.raises(SessionDeletedError):
            manager.save(session, on_conflict=mode)

        assert manager.get_session("s") is None

    def test_a_copy_of_a_deleted_session_leaves_its_successor_alone(self, manager: Any, other: Any, clock: Any) -> None:
        """Saving a copy of a deleted session raises, and leaves a new session of the same id."""
        old = manager.create_session("ada", session_id="s")
        other.delete("s")
        clock.advance(microseconds=1)
        new = other.create_session("bob", session_id="s")
        old.add_message("user", "of the old one")

        with pytest.raises(SessionStateError):
            manager.save(old)

        assert other.get_session("s") == new

    @of_all_users
    def test_clearing_all_deletes_all(self, manager: Any, other: Any) -> None:
        """`clear_all` deletes all sessions, archived ones and those without a user too, and returns their number."""
        for n in range(3):
            manager.create_session("ada", session_id=f"s{n}")
        manager.create_session(session_id="nobody's")
        manager.archive("s1")

        assert manager.clear_all() == 4

        assert (other.count(status=None), other.list_sessions(status=None)) == (0, [])
        assert other.get_session("s1") is None
        assert manager.clear_all() == 0

    @pytest.mark.parametrize("count", [3, 100])
    def test_archiving_and_restoring_keep_a_session_whole(self, manager: Any, other: Any, count: Any) -> None:
        """Archiving and restoring change neither messages, state, metadata nor the time of creation."""
        session = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"n": 1})
        fill(session, count)
        manager.save(session)
        for _ in range(3):
            manager.archive("s")
            other.restore("s")

        stored = other.get_session("s")

        assert contents(stored) == contents(session)
        assert (stored.metadata, stored.state, stored.created_at) == ({"a": 1}, {"n": 1}, session.created_at)
        assert [other.count("ada", status=each) for each in (*SessionStatus, None)] == [1, 0, 1]
