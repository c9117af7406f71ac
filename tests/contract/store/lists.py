"""Lists, pages and counts."""

import pytest

from pyai_sessions import InvalidDocumentError, Session
from tests.clock import NOON
from tests.contract.store.base import StoreFixtures, all_pages, fill, ids


class Lists(StoreFixtures):
    def test_a_users_sessions_come_latest_activity_first(self, manager, other, clock, ten):
        """A save moves a session to the front of its user's list."""
        assert ids(other.get_sessions_for_user("ada")) == ten
        assert ids(other.list_sessions("ada")) == ten

        session = manager.get_session("s4")
        session.add_message("user", "still here")
        manager.save(session)

        expected = ["s4", *(each for each in ten if each != "s4")]
        assert ids(other.get_sessions_for_user("ada")) == expected
        assert ids(other.list_sessions("ada")) == expected

    def test_lists_hold_whole_sessions_or_summaries(self, manager, other, ten):
        """`get_sessions_for_user` gives the sessions; `list_sessions` all but messages and state."""
        fill(session := manager.get_session("s9"), 50)
        manager.save(session)

        assert other.get_sessions_for_user("ada", limit=1) == [session]
        summary = other.list_sessions("ada", limit=1)[0]
        for name in ("session_id", "user_id", "metadata", "message_count", "status", "created_at", "updated_at"):
            assert getattr(summary, name) == getattr(session, name)

    def test_a_limit_cuts_a_list(self, manager, ten):
        """The newest so many; none, for 0; all, for more than there are."""
        for limit in (0, 1, 3, 10, 99, None):
            assert ids(manager.get_sessions_for_user("ada", limit=limit)) == ten[:limit]
            assert ids(manager.list_sessions("ada", limit=limit)) == ten[:limit]

    def test_before_leaves_out_later_activity(self, manager, ten):
        """Sessions last active before that time, that time left out."""
        time = manager.get_session("s6").updated_at

        assert ids(manager.get_sessions_for_user("ada", before=time)) == ten[4:]
        assert ids(manager.get_sessions_for_user("ada", before=time, limit=2)) == ten[4:6]
        assert manager.get_sessions_for_user("ada", before=NOON) == []

    def test_a_user_sees_only_their_own(self, manager, other, ten):
        """Those of no user are in the list of all."""
        assert ids(other.get_sessions_for_user("bob")) == ids(other.list_sessions("bob")) == ["bob's"]
        assert other.get_sessions_for_user("carol") == other.list_sessions("carol") == []
        assert sorted(ids(other.list_sessions())) == sorted([*ten, "bob's", "nobody's"])
        assert [other.count(each) for each in ("ada", "bob", "carol", None)] == [10, 1, 0, 12]

    def test_the_oldest_can_come_first(self, manager, ten):
        """The same list the other way round, by pages too."""
        assert ids(manager.list_sessions("ada", order="oldest")) == ten[::-1]
        assert all_pages(manager, "ada", order="oldest", limit=3) == ten[::-1]

    @pytest.mark.parametrize("limit", [1, 3, 10, 50])
    def test_pages_hold_each_session_once(self, manager, other, ten, limit):
        """A cursor goes on where the page before ended; the last page has none."""
        for through in (manager, other):
            assert all_pages(through, "ada", limit=limit) == ten
            assert sorted(all_pages(through, limit=limit)) == sorted([*ten, "bob's", "nobody's"])

    def test_pages_hold_each_session_once_where_times_are_equal(self, manager, other):
        """Sessions of one and the same microsecond have an order too."""
        made = [manager.create_session("ada").session_id for _ in range(25)]

        for limit in (1, 4, 25):
            assert sorted(all_pages(manager, "ada", limit=limit)) == sorted(made)
        assert all_pages(other, limit=7) == all_pages(manager, limit=3)
        assert all_pages(other, limit=7, order="oldest") == all_pages(manager, limit=3)[::-1]

    def test_pages_go_on_whatever_is_written_between_them(self, manager, other, clock, ten):
        """Sessions that nobody touched come once each; what became active after the first page is not waited for."""
        first = manager.list_sessions("ada", limit=3)
        other.create_session("ada", session_id="new")
        other.append("s5", {"role": "user", "content": "moved to the front"})
        other.delete("s7")
        other.delete("s3")
        other.archive("s2")
        second = manager.list_sessions("ada", limit=3, cursor=first.next_cursor)
        third = manager.list_sessions("ada", limit=3, cursor=second.next_cursor)

        assert ids(first) == ["s9", "s8", "s7"]
        assert ids(second) == ["s6", "s4", "s1"]
        assert ids(third) == ["s0"]
        assert third.next_cursor is None

    def test_a_session_moves_to_another_users_list(self, manager, other, ten):
        """A changed user_id takes effect with the save, in lists and counts."""
        session = manager.get_session("s3")
        session.user_id = "bob"
        manager.save(session)

        assert "s3" not in ids(other.get_sessions_for_user("ada"))
        assert sorted(ids(other.get_sessions_for_user("bob"))) == ["bob's", "s3"]
        assert [other.count(each) for each in ("ada", "bob", None)] == [9, 2, 12]

        session.user_id = None
        manager.save(session)

        assert [other.count(each) for each in ("ada", "bob", None)] == [9, 1, 12]
        assert other.verify()

    def test_a_list_of_more_than_a_batch_is_whole(self, manager, other):
        """A hundred and more sessions, each once."""
        made = [manager.create_session("ada").session_id for _ in range(130)]

        assert sorted(ids(other.get_sessions_for_user("ada"))) == sorted(made)
        assert sorted(ids(other.list_sessions(limit=None))) == sorted(made)
        assert other.count("ada") == 130

    def test_a_list_of_many_long_sessions_is_whole(self, manager, other, raw, clock):
        """Each with its own messages, however many are read together; one with a damaged page is named or skipped."""
        made = []
        for n in range(25):
            clock.pass_(minutes=1)
            made.insert(0, Session(session_id=f"s{n}", user_id="ada", created_at=clock.now))
            for m in range((70, 0, 33)[n % 3]):
                made[0].add_message("user", f"{n}/{m}", timestamp=clock.now)
            made[0].updated_at = clock.now
        manager.import_sessions(made)

        for limit in (1, 20, 21, 25, None):
            assert other.get_sessions_for_user("ada", limit=limit) == made[:limit]
        assert other.get_sessions_for_user("ada", before=made[2].updated_at, limit=21) == made[3:24]

        del raw[next(key for key in raw if key.startswith("messages/s3/"))]
        with pytest.raises(InvalidDocumentError) as caught:
            other.get_sessions_for_user("ada")
        assert caught.value.session_id == "s3"
        others = [each for each in made if each.session_id != "s3"]
        assert other.get_sessions_for_user("ada", skip_invalid=True) == others
        assert other.get_sessions_for_user("ada", limit=21) == made[:21]
        assert other.get_sessions_for_user("ada", limit=22, skip_invalid=True) == others[:22]
