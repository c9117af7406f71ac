"""Tests of a session as documents: one head, and pages that never change."""

import json
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError, InvalidValueError, Session
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import all_pages, contents, fill, ids


class SessionsOfDocuments(DocumentFixtures):
    """A session as documents: one head, and pages that never change."""

    def test_a_new_store_is_empty(self, manager: Any, raw: Any) -> None:
        """The fixture returns an empty store. Otherwise the other tests would prove nothing."""
        assert manager.count(status=None) == 0
        assert manager.list_sessions(status=None) == []
        assert self.ours(raw) == []

    def test_reading_does_not_write(self, manager: Any, raw: Any) -> None:
        """Reading, listing and counting change no document."""
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

    def test_every_document_is_json_text_that_names_its_format(self, manager: Any, raw: Any) -> None:
        """Each head is JSON with a format number. A short conversation is in the head alone."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 3)
        manager.save(session)

        head = json.loads(raw["session/s"])

        assert self.ours(raw) == ["session/s"]
        assert head["format"] == 1
        assert [each["content"] for each in head["messages"]] == ["message 0", "message 1", "message 2"]
        assert Session.from_json(raw["session/s"]) == session

    NOT_JSON: tuple[tuple[Any, str], ...] = (
        ({1, 2}, "cursor"),
        ({"deep": [0, {"er": object()}]}, "er"),
        (b"bytes", "cursor"),
        (float("nan"), "cursor"),
        ([float("inf")], "0"),
        ({1: "a number as a key"}, "cursor"),
        (NOON, "cursor"),
    )

    @pytest.mark.parametrize("part", ["state", "metadata"])
    def test_what_json_cannot_hold_is_refused_before_anything_is_written(
        self, manager: Any, raw: Any, part: Any
    ) -> None:
        """The error gives the path to the value. Nothing is written, and without the value the save works."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 40)
        before = {key: raw[key] for key in self.ours(raw)}

        for value, named in self.NOT_JSON:
            vars(session)[part] = {"cursor": value}  # bypasses the check of assignments
            with pytest.raises(InvalidValueError) as caught:
                manager.save(session)
            assert caught.value.path.startswith(f"{part}[")
            assert named in caught.value.path
            assert {key: raw[key] for key in self.ours(raw)} == before

        del getattr(session, part)["cursor"]
        manager.save(session)
        assert manager.get_session("s").message_count == 40

    def test_any_text_is_a_session_id(self, manager: Any, other: Any, raw: Any) -> None:
        """Sessions of any ids are stored, listed, changed and deleted, and touch no other key."""
        hostile = self.hostile_ids
        for session_id in hostile:
            session = manager.create_session("ada", session_id=session_id, state={"id": session_id})
            fill(session, 33)
            manager.save(session)

        assert sorted(ids(other.get_sessions_for_user("ada"))) == sorted(hostile)
        assert sorted(all_pages(manager, limit=7)) == sorted(hostile)
        assert sorted(raw) == self.ours(raw)
        assert len(raw_heads := [key for key in raw if key.startswith("session/")]) == len(hostile)
        assert all("/" not in key.removeprefix("session/") for key in raw_heads)
        for n, session_id in enumerate(hostile, 1):
            session = manager.get_session(session_id)
            assert (session.session_id, session.state) == (session_id, {"id": session_id})
            assert session.message_count == 33
            assert manager.delete(session_id)
            assert manager.count("ada") == len(hostile) - n
        assert self.ours(raw) == []

    def test_appended_messages_keep_unknown_fields_beside_them(self, manager: Any, raw: Any, known: Any) -> None:
        """Appends keep unknown fields in the head and in messages."""
        head = json.loads(raw["session/s"])
        head["mood"] = {"today": "good"}
        head["messages"][0]["stars"] = 5
        raw["session/s"] = json.dumps(head)

        for n in range(3):
            manager.append("s", {"role": "user", "content": f"new {n}"})

        head = json.loads(raw["session/s"])
        assert head["mood"] == {"today": "good"}
        assert head["messages"][0]["stars"] == 5
        assert contents(manager.get_session("s")) == [*known, "new 0", "new 1", "new 2"]

    def test_a_damaged_session_takes_no_append(self, manager: Any, raw: Any, known: Any) -> None:
        """An append to a damaged session raises, even if the store remembers the session from before."""
        raw["session/s"] = "torn"

        for _ in range(2):
            with pytest.raises(InvalidDocumentError):
                manager.append("s", {"role": "user", "content": "new"})

        assert raw["session/s"] == "torn"

    @pytest.mark.parametrize("count", [0, 5, 33, 100])
    def test_last_loads_the_newest_messages_alone(self, manager: Any, count: Any) -> None:
        """`last=n` loads the newest *n* messages. `message_count` is still that of the whole conversation."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, count)
        manager.save(session)

        for last in (0, 1, 5, 33, 64, 1000):
            part = manager.get_session("s", last=last)

            assert contents(part) == [f"message {n}" for n in range(max(0, count - last), count)], last
            assert part.message_count == count
            assert part.state == {"n": 1}

    @pytest.mark.parametrize("last", [0, 3, 40])
    def test_a_part_that_was_loaded_can_be_continued(self, manager: Any, other: Any, last: Any) -> None:
        """Saving a partly loaded session keeps the messages that were not loaded. `load_history` loads them."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)

        part = manager.get_session("s", last=last)
        fill(part, 70, 100)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(170)]
        manager.load_history(part)
        assert contents(part) == [f"message {n}" for n in range(170)]
        assert part == other.get_session("s")

    def test_a_part_that_went_stale_is_merged(self, manager: Any, other: Any) -> None:
        """A stale copy of a partly loaded session is merged like a whole one."""
        session = manager.create_session("ada", session_id="s")
        fill(session, 100)
        manager.save(session)
        part = manager.get_session("s", last=5)
        theirs = other.get_session("s")
        fill(theirs, 50, 100)
        other.save(theirs)

        fill(part, 50, 150)
        manager.save(part)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(200)]

    def test_a_cleared_conversation_is_empty_and_goes_on(self, manager: Any, other: Any, raw: Any) -> None:
        """Clearing the messages removes all pages, and keeps state and metadata."""
        session = manager.create_session("ada", session_id="s", state={"n": 1})
        fill(session, 100)
        manager.save(session)
        session.clear_messages()
        manager.save(session)
        assert contents(other.get_session("s")) == []
        assert self.ours(raw) == ["session/s"]

        fill(session, 40)
        manager.save(session)

        assert contents(other.get_session("s")) == [f"message {n}" for n in range(40)]
        assert other.get_session("s").state == {"n": 1}

    def test_a_conversation_saved_turn_by_turn_is_whole(self, manager: Any, other: Any, raw: Any) -> None:
        """Each save adds one turn. No document grows with the conversation, and none is left over."""
        session = manager.create_session("ada")
        for n in range(0, 250, 2):
            fill(session, 2, n)
            manager.save(session)
            if n % 50 == 0:
                session = manager.get_session(session.session_id)

        assert contents(other.get_session(session.session_id)) == [f"message {n}" for n in range(250)]
        assert max(len(raw[key]) for key in self.ours(raw)) < 16_000
        assert other.verify()

    def test_a_conflict_can_be_overwritten(self, manager: Any, other: Any, raw: Any) -> None:
        """`on_conflict="overwrite"` replaces what others stored, and removes their pages."""
        mine = manager.create_session("ada", session_id="s")
        fill(mine, 50)
        manager.save(mine)
        theirs = other.get_session("s")
        fill(theirs, 100, 50)
        theirs.set_state("theirs", 1)
        other.save(theirs)

        mine.add_message("user", "mine")
        manager.save(mine, on_conflict="overwrite")

        assert contents(other.get_session("s")) == [*(f"message {n}" for n in range(50)), "mine"]
        assert other.get_session("s").state == {}
        assert manager.get_session("s") == mine
        assert other.verify()
        assert len(self.ours(raw)) <= 3
