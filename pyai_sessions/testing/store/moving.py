"""Tests of moving sessions: export to a file, import of the file, and copies to another store."""

import io
import json
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, SessionExistsError, SessionManager, SessionNotFoundError
from pyai_sessions.testing.clock import StoppedClock
from pyai_sessions.testing.samples import contents, fill, hand_made
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users


def lines_of(manager: Any, **options: Any) -> list[Any]:
    """Return the lines of an export, in the order of session ids."""
    file = io.StringIO()
    count = manager.export_sessions(file, **options)
    lines = file.getvalue().splitlines(keepends=True)
    assert len(lines) == count
    return sorted(map(json.loads, lines), key=lambda each: each["session_id"])


def old_store() -> SessionManager:
    """Return a manager of two users' sessions: a long one with a branch, its fork, an archived one, an empty one."""
    manager = SessionManager({}, clock=StoppedClock())
    session = manager.create_session("ada", session_id="long", metadata={"title": "talk"}, state={"n": 1})
    fill(session, 70)
    session.checkpoint("here")
    manager.save(session)
    manager.fork("long", 50, "bob", new_id="fork")
    manager.load_history(session)
    session.rewind("here")
    session.rewind(session.messages[39])
    session.add_message("user", "another way")
    manager.save(session)
    manager.create_session("ada", session_id="archived")
    manager.append("archived", {"role": "user", "content": "old"})
    manager.archive("archived")
    manager.create_session(session_id="nobody's")
    return manager


class Moving(StoreFixtures):
    """Export, import and copy."""

    @pytest.fixture
    def old(self) -> SessionManager:
        """Return a manager of another store with several kinds of sessions."""
        return old_store()

    @of_all_users
    def test_all_that_is_exported_is_imported_and_exported_the_same(self, manager: Any, other: Any, old: Any) -> None:
        """An imported export exports the same again. A second import finds every session identical."""
        lines = lines_of(old)
        file = io.StringIO("\n".join(map(json.dumps, lines)) + "\n\n")

        assert manager.import_sessions(file).inserted == 4

        assert lines_of(other) == lines
        elsewhere = SessionManager({})
        assert elsewhere.import_sessions(map(json.dumps, lines_of(other))).inserted == 4
        assert lines_of(elsewhere) == lines
        file.seek(0)
        assert other.import_sessions(file).identical == 4
        assert self.sound(other)

    def test_one_session_is_exported(self, manager: Any, other: Any, old: Any) -> None:
        """One session is exported by its id. An absent one, or another user's, is not found."""
        manager.import_sessions(map(json.dumps, lines_of(old)))

        assert [each["session_id"] for each in lines_of(other, session_id="long")] == ["long"]
        assert lines_of(other, session_id="fork", user_id="bob") == lines_of(old, session_id="fork")
        assert [each["session_id"] for each in lines_of(other, user_id="ada")] == ["archived", "long"]

        file = io.StringIO()
        options: dict[str, Any]
        for options in ({"session_id": "no"}, {"session_id": "long", "user_id": "bob"}, {"session_id": ""}):
            with pytest.raises(SessionNotFoundError):
                other.export_sessions(file, **options)
        with pytest.raises(InvalidValueError, match="scan"):
            other.export_sessions(file, session_id="long", scan=True)
        assert file.getvalue() == ""

    @pytest.mark.parametrize("on_conflict", ["skip", "error", "overwrite", "newer"])
    def test_what_is_stored_with_other_content_is_treated_as_asked(
        self, manager: Any, other: Any, old: Any, on_conflict: Any
    ) -> None:
        """A stored session with other content is kept, raises, or is replaced, always or if it is older, as you ask."""
        manager.import_sessions(map(json.dumps, lines_of(old)))
        before = {each: lines_of(other, session_id=each) for each in ("long", "fork")}
        old.append("long", {"role": "user", "content": "later"})
        edited = lines_of(old, session_id="long")[0]
        fork = {**before["fork"][0], "state": {"edited": True}, "updated_at": "2001-01-01T00:00:00Z"}
        given = [json.dumps(edited), json.dumps(fork), hand_made("new")]

        if on_conflict == "error":
            with pytest.raises(SessionExistsError):
                manager.import_sessions(given, on_conflict=on_conflict)
        else:
            report = manager.import_sessions(given, on_conflict=on_conflict)
            kept = {"skip": ["long", "fork"], "overwrite": [], "newer": ["fork"]}[on_conflict]
            assert (report.different_ids, report.overwritten) == (kept, 2 - len(kept))
        replaced = on_conflict in ("overwrite", "newer")
        assert lines_of(other, session_id="long") == ([edited] if replaced else before["long"])
        assert lines_of(other, session_id="fork") == ([fork] if on_conflict == "overwrite" else before["fork"])
        assert self.sound(other)

    def test_a_session_that_was_overwritten_goes_on(self, manager: Any, other: Any, old: Any) -> None:
        """A session that an import overwrote can be used as any other. Forks of the old one keep their messages."""
        long = lines_of(old, session_id="long")
        manager.import_sessions(map(json.dumps, lines_of(old)))
        manager.fork("long", new_id="child")
        child = manager.get_session("child")
        short = {**long[0], "messages": long[0]["messages"][:3], "checkpoints": [], "left": [], "state": {}}
        del short["message_count"]
        stale = other.get_session("long")

        assert manager.import_sessions([short], on_conflict="overwrite").overwritten == 1
        assert other.get_session("long").message_count == 3
        session = manager.get_session("long")
        fill(session, 80, 100)
        manager.save(session)
        assert other.import_sessions(long, on_conflict="overwrite").overwritten == 1

        assert lines_of(other, session_id="long") == long
        stale.add_message("user", "from a copy")
        other.save(stale)
        assert contents(manager.get_session("long"))[-1] == "from a copy"
        branch = manager.get_session("long").branches[0]
        assert "message 69" in contents(manager.switch("long", branch))
        assert manager.get_session("child").messages == child.messages
        assert self.sound(other)

    @of_all_users
    def test_a_copy_that_is_repeated_writes_what_changed(self, manager: Any, other: Any, old: Any) -> None:
        """A repeated copy writes what changed, reports it, and keeps what changed later in the target."""
        told: list[int] = []

        assert old.copy_sessions(manager.store, progress=told.append).inserted == 4
        assert lines_of(other) == lines_of(old)
        assert told == [4]

        old.append("long", {"role": "user", "content": "since"})
        other.append("fork", {"role": "user", "content": "in the target"})
        report = old.copy_sessions(other.store)

        counted = (report.inserted, report.identical, report.overwritten, report.different_ids)
        assert counted == (0, 2, 1, ["fork"])
        assert contents(manager.get_session("long"))[-1] == "since"
        assert contents(manager.get_session("fork"))[-1] == "in the target"
        back = SessionManager({})
        assert other.copy_sessions(back).inserted == 4
        assert lines_of(back) == lines_of(other)
        assert self.sound(other)
