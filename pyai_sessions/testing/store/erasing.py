"""Tests of erasing and exporting everything of one user."""

import io
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, SessionManager
from pyai_sessions.testing.samples import RICH, contents, exported, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


class Erasing(StoreFixtures):
    def test_a_user_is_erased_and_the_record_says_what_that_was(self, manager: Any, other: Any) -> None:
        """`delete_user` removes all sessions of a user, and reports them sorted. A repetition finds none."""
        for name in ("s2", "s1", "s0"):
            fill(session := manager.create_session("ada", session_id=name), 40)
            manager.save(session)
        manager.archive("s1")
        kept = [manager.create_session(each, session_id=f"{each}'s") for each in ("bob", "Ada", "adam")]
        kept.append(manager.create_session(session_id="nobody's"))

        erased = manager.delete_user("ada")

        assert erased.session_ids == ["s0", "s1", "s2"]
        assert (len(erased), bool(erased)) == (3, True)
        assert (erased.shared, erased.unlisted, erased.unknown, erased.set_aside) == ([], [], [], 0)
        assert [other.get_session(each) for each in erased.session_ids] == [None] * 3
        assert other.get_sessions_for_user("ada", include_archived=True) == []
        assert [other.get_session(each.session_id) for each in kept] == kept
        again = manager.delete_user("ada")
        assert (again.session_ids, again.pages, bool(again)) == ([], 0, False)
        assert self.sound(manager)

    @of_all_users
    def test_a_scan_finds_nothing_where_the_indexes_know_all(self, manager: Any, other: Any) -> None:
        """If the indexes are right, a scan erases nothing more. The report names other users' forks."""
        for name in ("s0", "s1"):
            fill(session := manager.create_session("ada", session_id=name), 40)
            manager.save(session)
        manager.fork("s0", 2, user_id="bob", new_id="copy")
        manager.fork("copy", user_id="carol", new_id="copy of the copy")
        manager.fork("s0", new_id="own")
        manager.create_session("bob", session_id="bob's")

        erased = manager.delete_user("ada", scan=True)

        assert erased.session_ids == ["own", "s0", "s1"]
        assert erased.shared == ["copy", "copy of the copy"]
        assert (erased.unlisted, erased.unknown) == ([], [])
        assert sorted(ids(other.list_sessions(status=None))) == ["bob's", "copy", "copy of the copy"]
        assert contents(other.get_session("copy")) == ["message 0", "message 1"]
        assert self.sound(manager)

    def test_what_is_exported_can_be_imported(self, manager: Any, clock: Any) -> None:
        """An exported user can be imported: all sessions with messages, state, checkpoints and branches."""
        session = manager.create_session("ada", session_id="s0", metadata={"t": "\ud83d"}, state={"n": 2**70})
        for fields in RICH:
            session.add_message(**fields)
        fill(session, 80)
        session.checkpoint("here")
        manager.save(session)
        for back in ("m70", "m5"):
            session.rewind(back)
            session.add_message("user", f"instead of what followed {back}")
            manager.save(session)
        manager.create_session("ada", session_id="s1")
        manager.archive("s1")
        manager.create_session("bob", session_id="bob's")
        clock.advance(days=1)

        lines = exported(manager, "ada")

        new: Any = SessionManager()
        assert sorted(each["session_id"] for each in lines) == ["s0", "s1"]
        assert new.import_sessions(lines).inserted == 2
        for name in ("s0", "s1"):
            assert new.get_session(name) == manager.get_session(name)
        branches = manager.get_session("s0").branches
        assert new.get_session("s0").branches == branches
        for each in branches:
            assert contents(new.switch("s0", each)) == contents(manager.switch("s0", each))
        assert exported(manager, "carol") == []

    def test_a_file_that_takes_no_text_is_refused(self, manager: Any) -> None:
        """Exporting to a binary file raises an error that says how to open it. Nothing is written."""
        manager.create_session("ada", session_id="s")

        for file in (io.BytesIO(), None, "export.jsonl"):
            with pytest.raises(InvalidValueError) as caught:
                manager.export_sessions(file, user_id="ada")
            assert caught.value.path == "file"

    def test_nobody_is_no_user_to_erase_or_export(self, manager: Any) -> None:
        """Erasing or exporting None raises. Sessions without a user stay."""
        session = manager.create_session(session_id="nobody's")

        for act in (lambda: manager.delete_user(None), lambda: manager.export_sessions(io.StringIO(), user_id=None)):
            with pytest.raises(InvalidValueError):
                act()

        assert manager.get_session("nobody's") == session
