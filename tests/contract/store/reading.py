"""Creating and reading."""

import json
from datetime import timedelta

import pytest

from pyai_sessions import Message, Session, SessionExistsError, SessionStatus
from tests.clock import NOON
from tests.contract.store.base import RICH, StoreFixtures, contents, fill, ids


class Reading(StoreFixtures):
    def test_a_new_store_is_empty(self, manager, raw):
        """The fixture gives an empty store, or the other tests would prove nothing."""
        assert manager.count(status=None) == 0
        assert manager.list_sessions(status=None) == []
        assert self.ours(raw) == []

    def test_a_created_session_is_stored_at_once(self, manager, clock):
        """`create_session` needs no save."""
        session = manager.create_session("ada", session_id="s", metadata={"channel": "web"}, state={"n": 1})

        stored = manager.get_session("s")

        assert stored == session
        assert (stored.user_id, stored.metadata, stored.state) == ("ada", {"channel": "web"}, {"n": 1})
        assert stored.created_at == stored.updated_at == clock.now
        assert stored.status is SessionStatus.ACTIVE
        assert stored.message_count == 0

    def test_sessions_without_an_id_get_different_ones(self, manager):
        """An id is made up where none is given."""
        made = {manager.create_session().session_id for _ in range(10)}

        assert len(made) == 10

    def test_a_taken_id_is_refused_and_what_is_stored_stays(self, manager):
        """Creating never replaces."""
        first = manager.create_session("ada", session_id="s", state={"n": 1})

        with pytest.raises(SessionExistsError) as caught:
            manager.create_session("bob", session_id="s")

        assert caught.value.session_id == "s"
        assert manager.get_session("s") == first

    def test_a_session_made_by_hand_is_stored_by_save(self, manager):
        """`Session(...)` and `save` do what `create_session` does, the id's check included."""
        manager.save(Session(session_id="s", user_id="ada", messages=[Message("user", "Hello!")]))

        with pytest.raises(SessionExistsError):
            manager.save(Session(session_id="s", user_id="ada"))

        assert contents(manager.get_session("s")) == ["Hello!"]

    def test_an_absent_session_is_none(self, manager):
        """Reading what is not there gives None, beside others too."""
        manager.create_session(session_id="s")

        assert manager.get_session("other") is None
        assert manager.get_session("S") is None
        assert manager.get_session("s/") is None

    def test_get_or_create_creates_once(self, manager):
        """The second call gets what the first made, whatever else it says."""
        made = manager.get_or_create_session("s", "ada", metadata={"a": 1}, state={"b": 2})
        got = manager.get_or_create_session("s", "bob", metadata={"a": 9})

        assert got == made
        assert (got.user_id, got.metadata, got.state) == ("ada", {"a": 1}, {"b": 2})

    def test_all_fields_are_read_as_they_were_saved(self, manager, other, clock):
        """Messages, state and metadata come back equal: tool calls, any Unicode, and times to the microsecond."""
        clock.pass_(microseconds=1)
        session = manager.create_session("ada", metadata={"title": "\U0001f600", "n": [1, {"a": None}]})
        for fields in RICH:
            clock.pass_(microseconds=7)
            session.add_message(**fields)
        session.set_state("nested", {"a": [1, 2.5, "x", None, True, {"\ud800": "\ud800"}], "": {}})
        session.set_state("big", 2**70)
        session.checkpoint("here")
        manager.save(session)

        stored = other.get_session(session.session_id)

        assert stored == session
        assert stored.to_dict() == session.to_dict()
        assert [each.timestamp for each in stored.messages] == [
            NOON + timedelta(microseconds=1 + 7 * n) for n in range(1, len(RICH) + 1)
        ]

    def test_a_second_save_replaces_the_first(self, manager):
        """What is read is what was saved last, each message once."""
        session = manager.create_session("ada", state={"keep": 1, "drop": 2})
        session.add_message("user", "one")
        manager.save(session)
        session.add_message("assistant", "two")
        session.set_state("keep", 3)
        session.delete_state("drop")
        session.metadata["title"] = "Counting"
        manager.save(session)
        manager.save(session)

        stored = manager.get_session(session.session_id)

        assert contents(stored) == ["one", "two"]
        assert (stored.state, stored.metadata) == ({"keep": 3}, {"title": "Counting"})

    def test_a_save_gives_a_new_revision(self, manager):
        """The object that was saved knows its revision, and it is the stored one."""
        session = manager.create_session("ada")
        first = session.revision
        session.add_message("user", "one")
        manager.save(session)

        assert first is not None
        assert session.revision not in (None, first)
        assert manager.get_session(session.session_id).revision == session.revision

    def test_reading_does_not_write(self, manager, raw):
        """No read, list or count changes a document."""
        session = manager.create_session("ada")
        fill(session, 100)
        manager.save(session)
        before = {key: raw[key] for key in self.ours(raw)}

        manager.get_session(session.session_id)
        manager.get_session(session.session_id, last=5)
        manager.get_sessions_for_user("ada")
        manager.list_sessions()
        manager.verify()

        assert {key: raw[key] for key in self.ours(raw)} == before

    def test_every_document_is_json_text_that_names_its_format(self, manager, raw):
        """A head is JSON that `json.loads` reads; of a short conversation it is the whole session."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)

        head = json.loads(raw["session/s"])

        assert self.ours(raw) == ["session/s"]
        assert head["format"] == 1
        assert [each["content"] for each in head["messages"]] == ["message 0", "message 1", "message 2"]
        assert Session.from_json(raw["session/s"]) == session

    def test_a_second_store_sees_each_change_at_once(self, manager, other):
        """Two stores over one storage are one store."""
        assert other.list_sessions() == []
        session = manager.create_session("ada", session_id="s")
        assert (other.count(), ids(other.list_sessions("ada")), ids(other.get_sessions_for_user("ada"))) == (
            1,
            ["s"],
            ["s"],
        )

        session.add_message("user", "one")
        manager.save(session)
        assert contents(other.get_session("s")) == ["one"]

        other.append("s", {"role": "assistant", "content": "two"})
        assert contents(manager.get_session("s")) == ["one", "two"]
        assert manager.list_sessions("ada")[0].message_count == 2

        other.archive("s")
        assert (manager.count("ada"), manager.count("ada", status=SessionStatus.ARCHIVED)) == (0, 1)

        other.restore("s")
        assert ids(manager.list_sessions()) == ["s"]

        manager.delete("s")
        assert other.get_session("s") is None
        assert (other.count(status=None), other.get_sessions_for_user("ada", include_archived=True)) == (0, [])
