"""Tests of importing sessions from other stores."""

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from pyai_sessions import ANYONE, InvalidValueError, Session, SessionStatus
from pyai_sessions.testing.samples import HOSTILE_IDS, all_pages, contents, fill, hand_made, ids, without_revision
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import has, of_all_users


class Imports(StoreFixtures):
    @staticmethod
    def all_of(source: Any) -> Any:
        """Return all sessions of a manager."""
        return source.get_sessions_for_user("ada", include_archived=True)

    @of_all_users
    @pytest.mark.parametrize("form", ["sessions", "dicts", "JSON", "generator"])
    def test_imported_sessions_are_what_they_were(self, manager: Any, other: Any, source: Any, form: Any) -> None:
        """An import keeps every field of sessions, whether they come as sessions or as `to_dict()`."""
        old = self.all_of(source)
        given = {
            "sessions": lambda: old,
            "dicts": lambda: [each.to_dict() for each in old],
            "JSON": lambda: [json.loads(each.to_json()) for each in old],
            "generator": lambda: (each for each in old),
        }[form]()

        assert manager.import_sessions(given).inserted == len(old) == 6

        for each in old:
            new = other.get_session(each.session_id)
            assert new == each
            assert without_revision(new) == without_revision(each)
            assert new.revision is not None or not has(other, "revisions")
        assert ids(other.get_sessions_for_user("ada", include_archived=True)) == ids(old)
        assert ids(other.list_sessions("ada")) == [each for each in ids(old) if each != "archived"]
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["archived"]
        assert [other.count("ada", status=each) for each in (*SessionStatus, None)] == [5, 1, 6]
        assert ids(other.list_sessions(where={"title": "long"})) == ["long"]
        assert self.sound(other)

    def test_imported_sessions_stay_their_own_stores(self, manager: Any, source: Any) -> None:
        """An import does not change the given objects, which still belong to their own store."""
        old = self.all_of(source)
        before = [(each.revision, each.to_dict()) for each in old]

        manager.import_sessions(old)

        assert [(each.revision, each.to_dict()) for each in old] == before
        for each in old:
            if each.status is SessionStatus.ACTIVE:
                each.add_message("user", "to the old store")
                source.save(each)
                assert contents(source.get_session(each.session_id))[-1] == "to the old store"
                assert "to the old store" not in contents(manager.get_session(each.session_id))
        assert self.sound(source)

    def test_a_session_and_its_import_share_nothing(self, manager: Any) -> None:
        """Changing a given session or dict after the import does not change what is stored."""
        session = hand_made("s", metadata={"tags": ["a"]}, state={"n": [1]})
        given = hand_made("d", metadata={"tags": ["a"]}).to_dict()
        manager.import_sessions([session, given])

        session.metadata["tags"].append("b")
        session.state["n"].append(2)
        given["metadata"]["tags"].append("b")

        assert (manager.get_session("s").metadata, manager.get_session("s").state) == ({"tags": ["a"]}, {"n": [1]})
        assert manager.get_session("d").metadata == {"tags": ["a"]}

    @of_all_users
    def test_a_taken_id_is_left_alone_and_not_counted(self, manager: Any, other: Any, source: Any) -> None:
        """A stored session stays as it is. Others of the same import are stored."""
        mine = manager.create_session("bob", session_id="long", state={"mine": 1})
        fill(mine, 50)
        manager.save(mine)
        manager.create_session("bob", session_id="short")
        manager.archive("short")

        report = manager.import_sessions(self.all_of(source))

        assert (report.inserted, report.identical, report.different) == (4, 0, 2)
        assert sorted(report.different_ids) == ["long", "short"]
        assert other.get_session("long") == mine
        assert other.get_session("short").user_id == "bob"
        assert [other.count(each, status=None) for each in ("ada", "bob", ANYONE)] == [4, 2, 6]
        assert self.sound(other)

    def test_what_was_imported_is_identical_till_something_of_it_changes(
        self, manager: Any, other: Any, source: Any
    ) -> None:
        """An imported session counts as identical until any field or value of it changes."""
        source.create_session("ada", session_id="by hand")
        lines = [each.to_dict() for each in self.all_of(source)]
        by_hand: Any = {"session_id": "by hand", "user_id": "ada", "messages": [{"role": "user", "content": 1}]}
        lines[next(n for n, each in enumerate(lines) if each["session_id"] == "by hand")] = by_hand
        manager.import_sessions(lines)

        report = other.import_sessions(lines)
        assert (report.inserted, report.identical, report.different, report.different_ids) == (0, len(lines), 0, [])

        changes: list[Any] = [
            lambda each: {"user_id": "bob"},
            lambda each: {"metadata": {**each.get("metadata", {}), "more": None}},
            lambda each: {"status": "active" if each.get("status") == "archived" else "archived"},
            lambda each: {"messages": [*each["messages"], {"role": "user", "content": ""}]},
            lambda each: {"unknown field": 1},
        ]
        for change in changes:
            report = other.import_sessions(each | change(each) for each in lines)
            assert (report.inserted, report.identical, report.different) == (0, 0, len(lines))
            assert sorted(report.different_ids) == sorted(each["session_id"] for each in lines)
        for content in (True, 1.0, "1"):
            report = other.import_sessions([by_hand | {"messages": [{"role": "user", "content": content}]}])
            assert report.different_ids == ["by hand"]
        assert other.import_sessions(lines).identical == len(lines)

    def test_a_message_id_that_stands_twice_does_not_hinder_an_import(self, manager: Any, other: Any) -> None:
        """The second message of a repeated id gets a new one, the same at each import, and references follow it."""
        message = {"role": "user", "content": "", "timestamp": "2026-01-31T12:00:00Z", "message_id": "m"}
        point = {"message_count": 3, "last_message_id": "m", "created_at": "2026-01-31T12:00:00Z"}
        line: Any = {
            **hand_made("s").to_dict(),
            "messages": [message, message | {"message_id": "m~2"}, message, message | {"message_id": "other"}],
            "checkpoints": [point | {"name": "here", "state": {}}],
            "left": [
                point
                | {"branch_id": "b", "message_count": 4, "state": {}, "checkpoints": [], "summary": None}
                | {"after": 3, "messages": [message]}
            ],
        }

        report = manager.import_sessions([line])

        assert (report.inserted, report.renamed) == (1, 2)
        session = other.get_session("s")
        assert [each.message_id for each in session.messages] == ["m", "m~2", "m~3", "other"]
        session.rewind("here")
        assert [each.message_id for each in session.messages] == ["m", "m~2", "m~3"]
        assert [each.message_id for each in other.switch("s", "b").messages] == ["m", "m~2", "m~3", "m~4"]
        assert manager.import_sessions([{**line, "session_id": "t"}, {**line, "session_id": "t"}]).identical == 1
        assert self.sound(other)

    def test_of_sessions_of_one_id_the_first_is_stored(self, manager: Any, other: Any) -> None:
        """Of several sessions with one id in an import, the first is stored, with its pages."""
        first, second = hand_made("s"), hand_made("s")
        fill(first, 100)
        second.user_id = "bob"
        fill(second, 200, 1000)

        assert manager.import_sessions([first, second, first, second.to_dict(), hand_made("t")]).inserted == 2

        assert other.get_session("s") == first
        assert [other.count(each) for each in ("ada", "bob")] == [2, 0]
        assert self.sound(other)

    def test_any_text_is_an_imported_id(self, manager: Any, other: Any) -> None:
        """Imported ids of sessions, users and messages may be any text."""
        hostile = [each for each in HOSTILE_IDS if self.takes_id(each)]
        made = [Session(session_id=each, user_id=each) for each in hostile]
        for each in hostile:
            made[0].add_message("user", "", message_id=each)

        assert manager.import_sessions(made).inserted == len(hostile)

        for session in made:
            assert other.get_session(session.session_id) == session
            assert ids(other.list_sessions(session.user_id)) == [session.session_id]
        assert self.sound(other)

    @of_all_users
    def test_times_far_away_are_kept(self, manager: Any, other: Any) -> None:
        """The earliest and latest possible times are kept. Lists and upkeep handle them."""
        days = [datetime(year, 1, 1, 0, 0, 0, 1, timezone.utc) for year in (1, 1600, 1969, 1970, 2026, 2300, 9999)]
        made = [Session(session_id=f"s{n}", user_id="ada", created_at=t, updated_at=t) for n, t in enumerate(days)]

        assert manager.import_sessions(made).inserted == 7

        assert other.get_sessions_for_user("ada") == made[::-1]
        for limit in (1, 2, 7):
            assert all_pages(other, "ada", limit=limit) == ids(made[::-1])
            assert all_pages(other, limit=limit, order="oldest") == ids(made)
        assert ids(other.get_sessions_for_user("ada", before=days[3])) == ["s2", "s1", "s0"]
        assert self.sound(other)
        assert manager.archive_inactive(days=31) == 4
        assert ids(other.list_sessions("ada")) == ["s6", "s5", "s4"]
        assert self.sound(other)

    def test_a_session_at_the_end_of_time_goes_on(self, manager: Any, other: Any) -> None:
        """A session at the latest possible time keeps that time, and its changes are stored."""
        end = datetime.max.replace(tzinfo=timezone.utc)
        manager.import_sessions([Session(session_id="s", user_id="ada", created_at=end, updated_at=end)])

        manager.append("s", {"role": "user", "content": "one"})
        session = other.get_session("s")
        session.add_message("user", "two")
        other.save(session)
        manager.archive("s")
        manager.restore("s")

        assert contents(other.get_session("s")) == ["one", "two"]
        assert other.get_session("s").updated_at == end
        assert ids(other.list_sessions("ada")) == ["s"]

    @of_all_users
    def test_nothing_is_imported_from_nothing(self, manager: Any) -> None:
        """An empty import is no error."""
        told: list[int] = []

        assert manager.import_sessions([], progress=told.append).inserted == 0
        assert manager.import_sessions(iter(())).inserted == 0

        assert told == []
        assert manager.count(status=None) == 0

    @pytest.mark.parametrize("last", [0, 1, 40])
    def test_a_session_that_was_loaded_in_part_is_not_imported_as_the_whole(
        self, manager: Any, source: Any, last: Any
    ) -> None:
        """A partly loaded session raises, since its older messages would be lost."""
        with pytest.raises(InvalidValueError) as caught:
            manager.import_sessions([source.get_session("long", last=last)])

        assert caught.value.path.partition(".")[0] == "sessions[0]"
        assert "load_history" in str(caught.value)
        assert manager.get_session("long") is None

        part = source.get_session("long", last=last)
        source.load_history(part)
        assert manager.import_sessions([part]).inserted == 1
        assert manager.get_session("long").message_count == 150

    @of_all_users
    def test_an_import_may_read_the_store_that_it_writes(self, manager: Any) -> Any:
        """The caller's generator may read and write through the importing manager."""

        def sessions() -> Any:
            for n in range(3):
                manager.create_session("bob", session_id=f"bob{n}")
                assert manager.get_session(f"bob{n}")
                yield hand_made(f"s{n}")

        assert manager.import_sessions(sessions()).inserted == 3
        assert manager.count() == 6
