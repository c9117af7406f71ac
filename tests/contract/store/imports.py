"""Importing sessions of other stores."""

import json
from datetime import datetime, timezone

import pytest

from pyai_sessions import InvalidValueError, Message, Session, SessionManager, SessionStatus
from tests.clock import NOON, StoppedClock
from tests.contract.store.base import HOSTILE_IDS, RICH, StoreFixtures, all_pages, contents, fill, ids


def hand_made(session_id, **fields):
    return Session(session_id=session_id, user_id="ada", created_at=NOON, updated_at=NOON, **fields)


def with_a_set_in_its_state():
    session = hand_made("bad")
    session.state["deep"] = {"er": [{1, 2}]}
    return session


def with_an_unknown_status():
    session = hand_made("bad")
    session.status = "gone"
    return session


def without_messages_of_its_own():
    session = hand_made("bad")
    session.messages = [Message("user", "assigned")]
    return session


NO_SESSIONS = {
    "set in state": with_a_set_in_its_state(),
    "status": with_an_unknown_status(),
    "assigned messages": without_messages_of_its_own(),
    "none": None,
    "number": 7,
    "text": '{"session_id":"bad"}',
    "list": [("session_id", "bad")],
    "message": Message("user", "no session"),
    "no id": {"user_id": "ada", "messages": []},
    "empty": {},
    "long id": {"session_id": "x" * 1025},
    "newer format": {"session_id": "bad", "format": 2},
    "head of pages": {"session_id": "bad", "sealed": [{"owner": "b", "generation": "g", "pages": 1, "messages": 32}]},
    "bytes as a key": {"session_id": "bad", b"user_id": "ada"},
    "messages of text": {"session_id": "bad", "messages": "Hello!"},
    "number of messages": {"session_id": "bad", "messages": 7},
    "message without a role": {"session_id": "bad", "messages": [{"content": "Hello!"}]},
    "message id twice": {"session_id": "bad", "messages": [{"role": "a", "content": "", "message_id": "m"}] * 2},
    "set in a message": {"session_id": "bad", "messages": [{"role": "user", "content": {1}}]},
    "metadata": {"session_id": "bad", "metadata": []},
    "status text": {"session_id": "bad", "status": "gone"},
    "time of day": {"session_id": "bad", "updated_at": "yesterday"},
    "time as a number": {"session_id": "bad", "updated_at": 1769860800.0},
    "time without a zone": {"session_id": "bad", "updated_at": "2026-01-31T12:00:00"},
    "time before the year 1": {"session_id": "bad", "created_at": "0001-01-01T00:00:00+05:00"},
    "checkpoint": {"session_id": "bad", "checkpoints": [{}]},
}


class Imports(StoreFixtures):
    @pytest.fixture
    def source(self):
        """A manager of another store, with sessions of every kind; its clock is a day behind."""
        clock = StoppedClock()
        clock.pass_(days=-1)
        source = SessionManager({}, clock=clock)
        source.create_session("ada", session_id="empty")
        for name, count in (("short", 3), ("long", 150), ("archived", 40)):
            clock.pass_(minutes=1)
            session = source.create_session("ada", session_id=name, metadata={"title": name, "n": [1, {"a": None}]})
            session.set_state("cursor", {"page": 2, "\ud800": "\ud800"})
            fill(session, count // 2)
            session.checkpoint("half")
            fill(session, count - count // 2, count // 2)
            source.save(session)
        source.archive("archived")
        clock.pass_(minutes=1)
        rich = source.create_session("ada", session_id="rich \ud800")
        for fields in RICH:
            rich.add_message(**fields)
        rich.remove_message(rich.messages[1].message_id)
        source.save(rich)
        later = source.create_session("ada", session_id="later").to_dict()
        source.delete("later")
        later |= {"mood": {"today": "good"}, "messages": [{"role": "user", "content": "", "stars": 5}]}
        source.save(Session.from_dict(later))
        return source

    @staticmethod
    def all_of(source):
        return source.get_sessions_for_user("ada", include_archived=True)

    @pytest.mark.parametrize("form", ["sessions", "dicts", "JSON", "generator"])
    def test_imported_sessions_are_what_they_were(self, manager, other, source, form):
        """Users, times, status, messages, checkpoints, unknown fields: from sessions, or from what to_dict returned."""
        old = self.all_of(source)
        given = {
            "sessions": lambda: old,
            "dicts": lambda: [each.to_dict() for each in old],
            "JSON": lambda: [json.loads(each.to_json()) for each in old],
            "generator": lambda: (each for each in old),
        }[form]()

        assert manager.import_sessions(given) == len(old) == 6

        for each in old:
            new = other.get_session(each.session_id)
            assert new == each
            assert new.to_dict() == each.to_dict()
            assert new.revision is not None
        assert ids(other.get_sessions_for_user("ada", include_archived=True)) == ids(old)
        assert ids(other.list_sessions("ada")) == [each for each in ids(old) if each != "archived"]
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["archived"]
        assert [other.count("ada", status=each) for each in (*SessionStatus, None)] == [5, 1, 6]
        assert ids(other.list_sessions(where={"title": "long"})) == ["long"]
        assert other.verify().problems == []

    def test_imported_sessions_go_on(self, manager, other, source):
        """As any other: they are saved, appended to, loaded in part, rewound, archived and deleted."""
        manager.import_sessions(self.all_of(source))

        manager.append("long", {"role": "user", "content": "appended"})
        part = other.get_session("long", last=2)
        assert contents(part) == ["message 149", "appended"]
        fill(part, 40, 1000)
        other.save(part)
        assert manager.get_session("long").message_count == 191
        whole = manager.get_session("long")
        whole.rewind("half")
        manager.save(whole)
        assert contents(other.get_session("long")) == [f"message {n}" for n in range(75)]
        manager.restore("archived")
        manager.archive("short")
        assert ids(other.list_sessions(status=SessionStatus.ARCHIVED)) == ["short"]
        assert manager.delete("long")
        assert other.verify().problems == []

    def test_imported_sessions_stay_their_own_stores(self, manager, source):
        """An import changes no object that it was given, and ties none to the new store."""
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
        assert source.verify().problems == []

    def test_a_session_and_its_import_share_nothing(self, manager):
        """What is changed afterwards in a given session or dict does not reach the store."""
        session = hand_made("s", metadata={"tags": ["a"]}, state={"n": [1]})
        given = hand_made("d", metadata={"tags": ["a"]}).to_dict()
        manager.import_sessions([session, given])

        session.metadata["tags"].append("b")
        session.state["n"].append(2)
        given["metadata"]["tags"].append("b")

        assert (manager.get_session("s").metadata, manager.get_session("s").state) == ({"tags": ["a"]}, {"n": [1]})
        assert manager.get_session("d").metadata == {"tags": ["a"]}

    def test_a_taken_id_is_left_alone_and_not_counted(self, manager, other, source):
        """What is stored stays, archived or changed as it is; the others come in beside it."""
        mine = manager.create_session("bob", session_id="long", state={"mine": 1})
        fill(mine, 50)
        manager.save(mine)
        manager.create_session("bob", session_id="short")
        manager.archive("short")

        assert manager.import_sessions(self.all_of(source)) == 4

        assert other.get_session("long") == mine
        assert other.get_session("short").user_id == "bob"
        assert [other.count(each, status=None) for each in ("ada", "bob", None)] == [4, 2, 6]
        assert other.verify().problems == []

    def test_an_import_may_be_repeated(self, manager, other, raw, source):
        """The second time nothing is stored, also where the first import's sessions have changed since."""
        old = self.all_of(source)
        manager.import_sessions(old)
        manager.append("short", {"role": "user", "content": "since"})
        before = {key: raw[key] for key in raw}

        assert manager.import_sessions(old) == 0
        assert other.import_sessions(each.to_dict() for each in old) == 0

        assert {key: raw[key] for key in raw} == before
        assert other.verify().problems == []

    def test_of_sessions_of_one_id_the_first_is_stored(self, manager, other):
        """Within one import too, long ones and their pages included."""
        first, second = hand_made("s"), hand_made("s")
        fill(first, 100)
        second.user_id = "bob"
        fill(second, 200, 1000)

        assert manager.import_sessions([first, second, first, second.to_dict(), hand_made("t")]) == 2

        assert other.get_session("s") == first
        assert [other.count(each) for each in ("ada", "bob")] == [2, 0]
        assert other.verify().problems == []

    def test_any_text_is_an_imported_id(self, manager, other):
        """Of sessions, users and messages."""
        hostile = [each for each in HOSTILE_IDS if len(each) <= self.longest_id]
        made = [Session(session_id=each, user_id=each) for each in hostile]
        for each in hostile:
            made[0].add_message("user", "", message_id=each)

        assert manager.import_sessions(made) == len(hostile)

        for each in made:
            assert other.get_session(each.session_id) == each
            assert ids(other.list_sessions(each.user_id)) == [each.session_id]
        assert other.verify().problems == []

    def test_times_far_away_are_kept(self, manager, other):
        """What other stores have for an unknown time, the first and the last day of all: lists and upkeep are right."""
        days = [datetime(year, 1, 1, 0, 0, 0, 1, timezone.utc) for year in (1, 1600, 1969, 1970, 2026, 2300, 9999)]
        made = [Session(session_id=f"s{n}", user_id="ada", created_at=t, updated_at=t) for n, t in enumerate(days)]

        assert manager.import_sessions(made) == 7

        assert other.get_sessions_for_user("ada") == made[::-1]
        for limit in (1, 2, 7):
            assert all_pages(other, "ada", limit=limit) == ids(made[::-1])
            assert all_pages(other, limit=limit, order="oldest") == ids(made)
        assert ids(other.get_sessions_for_user("ada", before=days[3])) == ["s2", "s1", "s0"]
        assert other.verify().problems == []
        assert manager.archive_inactive(days=31) == 4
        assert ids(other.list_sessions("ada")) == ["s6", "s5", "s4"]
        assert other.verify().problems == []

    def test_a_session_at_the_end_of_time_goes_on(self, manager, other):
        """No later time can be written: its time stays, and its changes are stored all the same."""
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

    def test_nothing_is_imported_from_nothing(self, manager):
        """An empty import is no error."""
        told = []

        assert manager.import_sessions([], progress=told.append) == 0
        assert manager.import_sessions(iter(())) == 0

        assert told == []
        assert manager.count(status=None) == 0

    def test_an_import_reads_a_generator_as_it_goes(self, manager, other):
        """Of many sessions at most 500 or so are taken before they are stored; progress tells how many are done."""
        taken, told = 0, []
        manager.create_session("bob", session_id="s7")

        def sessions():
            nonlocal taken
            for n in range(1100):
                taken += 1
                yield hand_made(f"s{n}")

        def progress(done):
            told.append(done)
            assert taken - done <= 1
            assert other.count(status=None) == done

        assert manager.import_sessions(sessions(), progress=progress) == 1099

        steps = [done - before for before, done in zip([0, *told], told, strict=False)]
        assert told[-1] == 1100
        assert all(0 < each <= 500 for each in steps)
        assert len(all_pages(other, "ada", limit=300)) == len(set(all_pages(other, limit=700))) - 1 == 1099

    @pytest.mark.parametrize("kind", NO_SESSIONS)
    def test_what_is_no_session_is_named_and_nothing_is_imported(self, manager, raw, kind):
        """The error says which of the sessions it was; those before it in its batch are not stored either."""
        told = []

        with pytest.raises(InvalidValueError) as caught:
            manager.import_sessions(
                [hand_made("a"), hand_made("b"), NO_SESSIONS[kind], hand_made("c")], progress=told.append
            )

        assert caught.value.path == "sessions[2]"
        assert str(caught.value).startswith("sessions[2] cannot be stored: ")
        assert self.ours(raw) == []
        assert manager.count(status=None) == 0
        assert told == []

    def test_an_error_late_in_an_import_leaves_what_was_stored(self, manager, other):
        """Batches that were stored before stay, and the import goes on from there when it is repeated."""
        given = [hand_made(f"s{n}") for n in range(700)]
        told = []

        with pytest.raises(InvalidValueError) as caught:
            manager.import_sessions([*given, with_a_set_in_its_state()], progress=told.append)

        assert caught.value.path == "sessions[700]"
        assert told == [other.count()]
        assert 200 <= told[0] < 700
        assert manager.import_sessions(given) == 700 - told[0]
        assert other.count() == 700
        assert other.verify().problems == []

    @pytest.mark.parametrize("last", [0, 1, 40])
    def test_a_session_that_was_loaded_in_part_is_not_imported_as_the_whole(self, manager, source, last):
        """Its older messages would be lost without a word."""
        with pytest.raises(InvalidValueError) as caught:
            manager.import_sessions([source.get_session("long", last=last)])

        assert caught.value.path == "sessions[0]"
        assert "load_history" in str(caught.value)
        assert manager.get_session("long") is None

        part = source.get_session("long", last=last)
        source.load_history(part)
        assert manager.import_sessions([part]) == 1
        assert manager.get_session("long").message_count == 150

    @pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, ConnectionError])
    def test_an_error_of_the_generator_comes_as_it_is(self, manager, error):
        """It is the caller's own, whatever its kind, and what was not stored yet is not."""

        def sessions():
            yield hand_made("a")
            raise error("the old database is down")

        with pytest.raises(error, match="the old database is down") as caught:
            manager.import_sessions(sessions())

        assert type(caught.value) is error
        assert manager.count() == 0
        assert manager.import_sessions([hand_made("a")]) == 1

    def test_an_import_may_read_the_store_that_it_writes(self, manager):
        """A generator may ask the same manager, and may write to it."""

        def sessions():
            for n in range(3):
                manager.create_session("bob", session_id=f"bob{n}")
                assert manager.get_session(f"bob{n}")
                yield hand_made(f"s{n}")

        assert manager.import_sessions(sessions()) == 3
        assert manager.count() == 6
