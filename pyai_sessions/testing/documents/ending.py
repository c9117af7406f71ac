"""Tests of the documents of deleted and archived sessions."""

from typing import Any

import pytest

from pyai_sessions import SessionDeletedError, SessionNotFoundError, SessionStatus, Storage
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import contents, fill, ids


class EndingOfDocuments(DocumentFixtures):
    """What deleting and archiving do to documents."""

    def test_deleting_leaves_nothing_of_a_session(self, manager: Any, other: Any, raw: Any) -> None:
        """Deleting removes head, pages and index entries, and leaves other sessions."""
        kept = manager.create_session("ada", session_id="kept")
        gone = manager.create_session("ada", session_id="gone")
        for each in (kept, gone):
            fill(each, 100)
            manager.save(each)

        assert manager.delete("gone") is True

        assert other.get_session("gone") is None
        assert ids(other.get_sessions_for_user("ada")) == ["kept"]
        assert other.count() == 1
        assert not [key for key in self.ours(raw) if "gone" in key]
        assert other.get_session("kept") == kept
        assert other.verify()

    @pytest.mark.parametrize("mode", ["merge", "error", "overwrite"])
    def test_a_deleted_session_stays_deleted(self, manager: Any, other: Any, raw: Any, mode: Any) -> None:
        """Saving a copy of a deleted session raises in every mode, and stores nothing."""
        session = manager.create_session("ada", session_id="s")
        other.delete("s")
        session.add_message("user", "too late")

        with pytest.raises(SessionDeletedError) as caught:
            manager.save(session, on_conflict=mode)

        assert caught.value.session_id == "s"
        assert manager.get_session("s") is None
        assert self.ours(raw) == []
        with pytest.raises(SessionNotFoundError):
            manager.append("s", {"role": "user", "content": "x"})

    def test_a_copy_of_a_deleted_session_is_not_merged_into_its_successor(self, manager: Any, other: Any) -> None:
        """A copy of a deleted session cannot be saved over a new session of the same id."""
        old = manager.create_session("ada", session_id="s")
        other.delete("s")
        new = other.create_session("bob", session_id="s")
        old.add_message("user", "of the old one")

        with pytest.raises(SessionDeletedError):
            manager.save(old)

        assert other.get_session("s") == new

    def test_clearing_all_leaves_what_is_not_ours(self, manager: Any, other: Any, raw: Any) -> None:
        """`clear_all` removes all sessions and left-over pages, and no key of another program."""
        foreign = {
            "other": "1",
            "session": "2",
            "session/": "3",
            "session/a/b": "4",
            "sessions/x": "5",
            "messages/x": "6",
            "messages/x/y/z": "7",
            "Session/x": "8",
        }
        if isinstance(manager.store.mapping, Storage):
            del foreign["session/"]  # a storage reads this key as "all below"
        for key, value in foreign.items():
            raw[key] = value
        raw["messages/gone/generation/0"] = "[]"
        for n in range(3):
            fill(session := manager.create_session("ada", session_id=f"s{n}"), 40)
            manager.save(session)
        manager.archive("s1")

        assert manager.clear_all() == 3

        assert {key: raw[key] for key in list(raw)} == foreign
        assert (other.count(status=None), other.list_sessions(status=None)) == (0, [])
        assert other.verify()
        assert manager.clear_all() == 0
        assert ids([manager.create_session("ada", session_id="s1")]) == ids(other.list_sessions())

    @pytest.mark.parametrize("count", [3, 100])
    def test_a_session_may_be_archived_and_restored_again_and_again(
        self, manager: Any, other: Any, raw: Any, count: Any
    ) -> None:
        """Archiving and restoring change neither messages, pages, state nor metadata."""
        session = manager.create_session("ada", session_id="s", metadata={"a": 1}, state={"n": 1})
        fill(session, count)
        manager.save(session)
        keys = self.ours(raw)
        for _ in range(5):
            manager.archive("s")
            other.restore("s")

        stored = other.get_session("s")

        assert contents(stored) == contents(session)
        assert (stored.metadata, stored.state, stored.created_at) == ({"a": 1}, {"n": 1}, session.created_at)
        assert self.ours(raw) == keys
        assert [other.count("ada", status=each) for each in (*SessionStatus, None)] == [1, 0, 1]
        assert other.verify().problems == []

    def test_a_session_that_becomes_active_meanwhile_stays_active(self, manager: Any, other: Any, idle: Any) -> None:
        """`archive_inactive` passes over sessions that others use while it runs. No message is lost."""
        touched: list[int] = []

        def progress(done: Any) -> None:
            if touched:
                return
            touched.append(done)
            assert other.get_session("s1").status is SessionStatus.ACTIVE  # this session is in a later batch
            other.append("s1", {"role": "user", "content": "back"})
            session = other.get_session("s3")
            session.add_message("user", "me too")
            other.save(session)
            other.delete("s5")
            other.restore("s249")
            other.create_session("ada", session_id="new")

        assert manager.archive_inactive(days=0.5, progress=progress) == 249 - 3

        assert touched == [100]
        assert sorted(ids(other.list_sessions())) == ["new", "s0", "s1", "s249", "s3"]
        assert contents(other.get_session("s1")) == [*range(100), "back"]
        assert contents(other.get_session("s3")) == ["me too"]
        assert other.verify().problems == []

    def test_archiving_that_was_cut_short_goes_on_when_it_is_repeated(
        self, manager: Any, other: Any, idle: Any
    ) -> None:
        """An interrupted `archive_inactive` keeps what it archived. A repetition counts the rest."""

        def stop(done: Any) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            manager.archive_inactive(days=0.5, progress=stop)
        done = other.count(status=SessionStatus.ARCHIVED)

        assert 0 < done < 249
        assert manager.archive_inactive(days=0.5) == 249 - done
        assert ids(other.list_sessions()) == ["s0"]
        assert other.verify().problems == []

    def test_many_unreadable_sessions_do_not_keep_others_from_being_archived(
        self, manager: Any, other: Any, raw: Any, idle: Any
    ) -> None:
        """Even a full batch of unreadable sessions does not stop `archive_inactive`. They stay as they are."""
        torn = [f"s{n}" for n in range(100, 250)]
        for each in torn:
            raw[f"session/{each}"] = "torn"
        raw["session/s50"] = raw["session/s50"].replace('"messages":[]', '"messages":12')

        assert manager.archive_inactive(days=0.5) == 249 - 150 - 1

        assert {raw[f"session/{each}"] for each in torn} == {"torn"}
        assert sorted(ids(other.list_sessions(skip_invalid=True))) == ["s0", "s50"]
