"""Tests of verify, repair and reindex."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pyai_sessions import ANYONE, InvalidDocumentError, Message, Session, SessionStatus
from pyai_sessions.testing.samples import contents, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures


class Upkeep(StoreFixtures):
    def test_verify_is_true_where_all_is_well(self, manager: Any, other: Any, ten: Any) -> None:
        """`verify` counts the sessions that it read, and is true if it finds no problem."""
        fill(session := manager.get_session("s2"), 100)
        manager.save(session)
        manager.archive("s3")

        for through in (manager, other):
            report = through.verify()
            assert report
            assert (report.sessions, report.problems) == (12, [])

    def test_verify_finds_and_removes_orphan_pages(self, manager: Any, raw: Any) -> None:
        """`verify` reports pages that no head names, of present and absent sessions. A repair removes only these."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        orphans = ["messages/gone/generation/0", "messages/s/generation/7"]
        for key in orphans:
            raw[key] = "[]"

        report = manager.verify()

        assert not report
        assert sorted((each.kind, each.session_id) for each in report.problems) == [
            ("orphan page", "gone"),
            ("orphan page", "s"),
        ]
        assert set(orphans) <= set(raw)

        assert manager.verify(repair=True)

        assert not set(orphans) & set(raw)
        assert manager.verify().problems == []
        assert manager.get_session("s") == session

    def test_verify_finds_and_mends_wrong_index_entries(self, manager: Any, other: Any, raw: Any, ten: Any) -> None:
        """If another tool changed, added or removed documents, a repair makes the index follow the documents."""
        assert manager.count() == 12
        head = json.loads(raw["session/s4"])
        raw["session/s4"] = json.dumps({**head, "user_id": "bob"})
        raw["session/added"] = json.dumps({**head, "session_id": "added", "user_id": "carol"})
        del raw["session/s6"]

        report = manager.verify()

        assert not report
        assert sorted(each.session_id for each in report.problems if each.kind == "index") == ["added", "s4", "s6"]
        assert ids(manager.get_sessions_for_user("ada")) == [each for each in ten if each not in ("s4", "s6")]

        assert manager.verify(repair=True)

        assert manager.verify().problems == []
        for through in (manager, other):
            assert sorted(ids(through.get_sessions_for_user("bob"))) == ["bob's", "s4"]
            assert ids(through.get_sessions_for_user("carol")) == ["added"]
            assert [through.count(each) for each in ("ada", "bob", "carol", ANYONE)] == [8, 2, 1, 12]

    def test_reindex_lists_what_another_tool_wrote(self, manager: Any, other: Any, raw: Any, ten: Any) -> None:
        """`reindex` makes both indexes follow the documents, and returns the number of sessions."""
        manager.count()
        head = json.loads(raw["session/s4"])
        raw["session/s4"] = json.dumps({**head, "user_id": "bob"})
        raw["session/added"] = json.dumps({**head, "session_id": "added", "user_id": "carol"})
        del raw["session/s6"]

        assert manager.reindex() == 12

        for through in (manager, other):
            assert sorted(ids(through.get_sessions_for_user("bob"))) == ["bob's", "s4"]
            assert ids(through.list_sessions("carol")) == ["added"]
            assert [through.count(each) for each in ("ada", "bob", "carol", ANYONE)] == [8, 2, 1, 12]
        assert manager.verify()

    def test_verify_names_what_cannot_be_read(self, manager: Any, raw: Any, ten: Any) -> None:
        """`verify` reports damaged heads and damaged or missing pages by session, and changes nothing."""
        for name in ("s1", "s2", "s3"):
            fill(session := manager.get_session(name), 50)
            manager.save(session)
        raw["session/s1"] = "torn"
        raw[next(key for key in raw if key.startswith("messages/s2/"))] = "torn"
        del raw[next(key for key in raw if key.startswith("messages/s3/"))]
        before = {key: raw[key] for key in list(raw)}

        report = manager.verify()

        assert not report
        assert sorted((each.session_id, each.kind) for each in report.problems) == [
            ("s1", "unreadable head"),
            ("s2", "unreadable page"),
            ("s3", "missing page"),
        ]
        assert {key: raw[key] for key in list(raw)} == before

    def test_repair_sets_an_unreadable_document_aside(self, manager: Any, other: Any, raw: Any, ten: Any) -> None:
        """A repair keeps the document's text under another key. Lists work again, and the id is free."""
        raw["session/s5"] = "torn, but kept"

        manager.verify(repair=True)

        aside = [key for key in raw if key.startswith("unreadable/")]
        assert [raw[key] for key in aside] == ["torn, but kept"]
        assert manager.get_session("s5") is None
        for through in (manager, other):
            assert ids(through.get_sessions_for_user("ada")) == [each for each in ten if each != "s5"]
            assert through.count("ada") == 9
        assert manager.verify().problems == []
        manager.create_session("ada", session_id="s5")
        assert [raw[key] for key in aside] == ["torn, but kept"]

    def test_purging_finds_nothing_where_nothing_expires(self, manager: Any, ten: Any) -> None:
        """`purge_expired` removes nothing if no session has an end."""
        assert manager.purge_expired() == 0
        assert manager.count() == 12

    # Many of them ----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def many(self, manager: Any, clock: Any) -> Any:
        """Store 250 sessions of user "ada", a minute apart, s0 the latest. s0 has pages, every tenth is archived."""
        made = []
        for n in range(250):
            time = clock.now - timedelta(minutes=n)
            made.append(Session(session_id=f"s{n}", user_id="ada", created_at=time, updated_at=time))
            if n % 10 == 9:
                made[-1].archive()
        made[0] = Session(session_id="s0", user_id="ada", messages=[Message("user", n) for n in range(100)])
        made[0].updated_at = clock.now
        manager.import_sessions(made)
        manager.count()  # by now an index in memory is built
        return [each.session_id for each in made]

    @pytest.fixture
    def changed(self, many: Any, raw: Any) -> Any:
        """Change every third document without its index entry, as another tool would. Return the right list."""
        right = {name: json.loads(raw[f"session/{name}"]) for name in many}
        changes = (
            lambda head: {"user_id": "bob"},
            lambda head: {"user_id": None},
            lambda head: {"status": "active" if head["status"] == "archived" else "archived"},
            lambda head: {"updated_at": "2025-01-01T00:00:00Z"},
            lambda head: {"user_id": "bob", "status": "archived", "updated_at": "2027-01-01T00:00:00Z"},
        )
        for n in range(1, 250, 3):
            name = f"s{n}"
            if n % 18 == 1:
                del raw[f"session/{name}"], right[name]
            else:
                right[name] |= changes[n % len(changes)](right[name])
                raw[f"session/{name}"] = json.dumps(right[name])
        for n in range(120):
            head = {**right["s2"], "session_id": f"new{n}", "user_id": ("ada", "carol")[n % 2]}
            raw[f"session/new{n}"] = json.dumps(head)
            right[f"new{n}"] = head
        return right

    # One bad message ----------------------------------------------------------------------------------------------

    BAD_MESSAGES: tuple[Any, ...] = (
        7,
        None,
        "text",
        [],
        {"role": "user"},
        {"role": 5, "message_id": "x", "timestamp": "2026-01-31T12:00:00Z"},
        {"role": "user", "message_id": "x", "timestamp": "yesterday"},
    )

    @pytest.mark.parametrize("count", [5, 100])
    def test_one_bad_message_costs_no_other(self, manager: Any, other: Any, raw: Any, count: Any) -> None:
        """A session with a bad message stays in lists. A repair sets the bad one aside, and keeps all others."""
        for bad in self.BAD_MESSAGES:
            self.check_one_bad_message(manager, other, raw, count, bad)

    @staticmethod
    def check_one_bad_message(manager: Any, other: Any, raw: Any, count: int, bad: Any) -> None:
        """Put a bad message into a stored session, repair it, and erase its user."""
        fill(session := manager.create_session("ada", session_id="s", metadata={"title": "Tea"}), count)
        session.checkpoint("here")
        manager.save(session)
        manager.create_session("ada", session_id="another")
        head = json.loads(raw["session/s"])
        head["messages"].insert(1, bad)
        head["message_count"] += 1
        raw["session/s"] = json.dumps(head)
        other.reindex()

        assert [each.metadata for each in other.list_sessions("ada") if each.session_id == "s"] == [{"title": "Tea"}]
        assert ids(other.get_sessions_for_user("ada", skip_invalid=True)) == ["another"]
        with pytest.raises(InvalidDocumentError, match="verify"):
            other.get_session("s")
        assert [(each.kind, each.session_id) for each in other.verify().problems] == [("unreadable message", "s")]
        report = other.verify(repair=True)

        assert bool(report)
        stored = other.get_session("s")
        assert contents(stored) == [f"message {n}" for n in range(count)]
        assert (stored.metadata, [each.name for each in stored.checkpoints]) == ({"title": "Tea"}, ["here"])
        assert other.verify().problems == []
        aside = [json.loads(raw[key]) for key in raw if key.startswith("unreadable/s/")]
        assert aside == [[bad]]
        assert len(other.delete_user("ada", scan=True)) == 2
        assert [key for key in raw if key.startswith("unreadable/")] == []

    def test_a_bad_page_costs_its_bad_messages_alone(self, manager: Any, other: Any, raw: Any) -> None:
        """A repair sets a bad page aside unchanged. The readable messages on it stay in the session."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        key = min(key for key in raw if key.startswith("messages/s/"))
        page = json.loads(raw[key])
        page[2] = {"role": "user"}
        raw[key] = json.dumps(page)

        assert [each.kind for each in other.verify(repair=True).problems] == ["unreadable page"]

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(100) if n != 2]
        assert [json.loads(raw[each]) for each in raw if each.startswith("unreadable/s/")] == [page]
        assert other.verify().problems == []

    @pytest.mark.parametrize("count", [5, 100])
    def test_a_repeated_message_id_is_reported_and_mended(self, manager: Any, other: Any, raw: Any, count: Any) -> None:
        """A repair gives the later message of a repeated id a new one, so that exports can be imported."""
        fill(session := manager.create_session("ada", session_id="s"), count)
        session.checkpoint("here")
        manager.save(session)
        head = json.loads(raw["session/s"])
        head["messages"][-1]["message_id"] = "m0"
        raw["session/s"] = json.dumps(head)
        assert Session.from_json(other.get_session("s").to_json()).message_count == count

        assert [each.kind for each in other.verify().problems] == ["repeated message"]
        assert bool(other.verify(repair=True))

        stored = other.get_session("s")
        assert [each.message_id for each in stored.messages] == [*(f"m{n}" for n in range(count - 1)), "m0~2"]
        assert contents(stored) == [f"message {n}" for n in range(count)]
        assert other.verify().problems == []

    @staticmethod
    def assert_indexed(manager: Any, right: Any) -> None:
        """Assert that lists and counts agree with the documents."""
        for user_id in (ANYONE, "ada", "bob", "carol"):
            for status in SessionStatus:
                expected = [
                    (head["updated_at"], name)
                    for name, head in right.items()
                    if head["status"] == status and user_id in (ANYONE, head["user_id"])
                ]
                found = manager.list_sessions(user_id, status=status, limit=None)
                assert sorted(ids(found)) == sorted(name for _, name in expected)
                times = [each.updated_at for each in found]
                assert times == sorted(times, reverse=True)
                assert manager.count(user_id, status=status) == len(expected)

    def test_reindex_rights_any_number_of_wrong_entries(self, manager: Any, other: Any, changed: Any) -> None:
        """`reindex` corrects entries, adds missing ones, removes those of absent sessions, and reports progress."""
        told: list[int] = []

        assert manager.reindex(progress=told.append) == len(changed)

        assert told == sorted(set(told))
        assert len(told) > 2
        assert told[-1] == len(changed)
        for through in (manager, other):
            self.assert_indexed(through, changed)
        assert manager.verify().problems == []
        assert manager.reindex() == len(changed)

    def test_repair_rights_any_number_of_wrong_entries(self, manager: Any, other: Any, changed: Any) -> None:
        """`verify` names each wrong session once and changes nothing. A repair corrects all of them."""
        told: list[int] = []

        report = manager.verify(progress=told.append)

        assert not report
        assert report.sessions == told[-1] == len(changed)
        assert told == sorted(told)
        assert {each.kind for each in report.problems} == {"index"}
        named = [each.session_id for each in report.problems]
        assert len(set(named)) == len(named)
        assert (
            {f"new{n}" for n in range(120)}
            <= set(named)
            <= {f"new{n}" for n in range(120)} | {f"s{n}" for n in range(1, 250, 3)}
        )

        assert sorted(each.session_id for each in manager.verify(repair=True).problems) == sorted(named)
        for through in (manager, other):
            self.assert_indexed(through, changed)
        assert manager.verify().problems == []

    def test_upkeep_of_what_is_right_changes_nothing(self, manager: Any, other: Any, raw: Any, many: Any) -> None:
        """On a sound store `verify` and `reindex` count all sessions, and change no document and no list."""
        assert [manager.count("ada", status=each) for each in SessionStatus] == [225, 25]
        before = {key: raw[key] for key in raw}
        lists = [ids(manager.list_sessions(status=each, limit=None)) for each in (*SessionStatus, None)]
        told: list[int] = []

        assert manager.reindex(progress=told.append) == 250
        assert manager.verify(progress=told.append).sessions == 250
        assert manager.verify(repair=True).problems == []

        assert {key: raw[key] for key in raw} == before
        assert [ids(other.list_sessions(status=each, limit=None)) for each in (*SessionStatus, None)] == lists
        assert told[-1] == 250

    def test_upkeep_of_nothing_is_no_error(self, manager: Any) -> None:
        """`verify` and `reindex` accept an empty store."""
        assert manager.reindex(progress=lambda done: None) == 0
        assert manager.verify(progress=lambda done: None).sessions == 0

    @pytest.mark.parametrize("act", ["reindex", "verify", "repair"])
    def test_upkeep_goes_on_beside_writers(self, manager: Any, other: Any, changed: Any, act: Any) -> None:
        """Sessions that others create, change or delete between two batches are listed right at the end."""
        turn = 0

        def progress(_: Any) -> None:
            nonlocal turn
            if turn >= 40:
                return
            live, name = other.create_session("dan", session_id=f"live{turn}"), f"s{turn * 6 + 2}"
            if turn % 4 == 1:
                other.delete(live.session_id)
            if turn % 4 == 2:
                other.archive(live.session_id)
            if other.get_session(name).status is SessionStatus.ACTIVE:
                other.append(name, {"role": "user", "content": "beside"})
            turn += 1

        if act == "reindex":
            manager.reindex(progress=progress)
        else:
            manager.verify(repair=act == "repair", progress=progress)

        assert turn
        if act == "verify":
            manager.reindex()
        assert other.verify().problems == []
        assert other.count("dan", status=None) == sum(n % 4 != 1 for n in range(turn))
        appended = [n * 6 + 2 for n in range(turn) if (n * 6 + 2) % 10 != 9]
        assert all(contents(other.get_session(f"s{n}"))[-1:] == ["beside"] for n in appended)
