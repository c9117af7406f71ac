"""Tests of damaged documents: what is raised, what is kept, and what still works."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError, SessionExistsError
from pyai_sessions.testing.samples import contents, fill, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures


class Damage(StoreFixtures):
    CORRUPT: tuple[Any, ...] = (
        "",
        "not JSON, and nobody else's business",
        "{}",
        "[]",
        "null",
        "12",
        '{"format":1',
        '{"format":1,"revision":"r","session_id":"another"}',
        '{"format":2,"revision":"r","session_id":"s5","secret":"nobody else\'s business"}',
        {"messages": [{"content": "nobody else's business"}]},
        {"messages": 12},
        {"sealed": [{"owner": "s5", "generation": "g", "pages": 1, "messages": 32}]},
        {"message_count": 7},
        {"status": "gone"},
        {"updated_at": "yesterday"},
        {"state": []},
    )

    def test_an_unreadable_session_raises_and_is_left_as_it_is(self, manager: Any, raw: Any, ten: Any) -> None:
        """Reading, saving, appending to or creating an unreadable session raises, and leaves its document."""
        copy = manager.get_session("s5")
        copy.add_message("user", "x")
        whole = raw["session/s5"]
        acts: tuple[Callable[[], object], ...] = (
            lambda: manager.get_session("s5"),
            lambda: manager.get_or_create_session("s5"),
            lambda: manager.append("s5", {"role": "user", "content": "x"}),
            lambda: manager.archive("s5"),
            lambda: manager.save(copy),
        )
        for damage in self.CORRUPT:
            text = json.dumps(json.loads(whole) | damage) if isinstance(damage, dict) else damage
            raw["session/s5"] = text

            for act in acts:
                with pytest.raises(InvalidDocumentError) as caught:
                    act()
                assert caught.value.session_id == "s5"
                assert caught.value.key in ("session/s5", "messages/s5/g/0")
                assert "nobody else's business" not in str(caught.value)
            with pytest.raises((InvalidDocumentError, SessionExistsError)):  # a readable head takes the id
                manager.create_session("ada", session_id="s5")

            assert raw["session/s5"] == text

    def test_a_torn_session_raises_and_is_left_as_it_is(self, manager: Any, raw: Any, ten: Any) -> None:
        """A document that lacks its end, as after a full disk, raises InvalidDocumentError and stays unchanged."""
        fill(session := manager.get_session("s5"), 3)
        manager.save(session)
        torn = raw["session/s5"][:-30]
        raw["session/s5"] = torn

        for act in (
            lambda: manager.get_session("s5"),
            lambda: manager.append("s5", {"role": "user", "content": "x"}),
            lambda: manager.archive("s5"),
            lambda: manager.list_sessions("ada"),
        ):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert caught.value.session_id == "s5"
            assert "message 2" not in str(caught.value)

        assert raw["session/s5"] == torn

    def test_an_unreadable_session_carries_its_text(self, manager: Any, raw: Any, ten: Any) -> None:
        """The error has the damaged document in its attribute `document`, for a rescue by hand."""
        raw["session/s5"] = "half a docum"

        with pytest.raises(InvalidDocumentError) as caught:
            manager.get_session("s5")

        document: Any = caught.value.document
        assert (document if isinstance(document, str) else bytes(document).decode()) == "half a docum"

    def test_an_unreadable_session_in_the_middle_of_a_list_is_named(self, manager: Any, raw: Any, ten: Any) -> None:
        """A list that meets an unreadable session raises and names it. With `skip_invalid` it lists the others."""
        raw["session/s5"] = '{"format":1,"user_id":"ada", torn'

        for act in (
            lambda: manager.get_sessions_for_user("ada"),
            lambda: manager.list_sessions("ada"),
            manager.list_sessions,
        ):
            with pytest.raises(InvalidDocumentError) as caught:
                act()
            assert caught.value.session_id == "s5"

        others = [each for each in ten if each != "s5"]
        assert ids(manager.get_sessions_for_user("ada", skip_invalid=True)) == others
        assert ids(manager.list_sessions("ada", skip_invalid=True)) == others
        assert ids(manager.get_sessions_for_user("ada", limit=6, skip_invalid=True)) == others[:6]
        assert all(manager.get_session(each) for each in others)
        assert ids(manager.get_sessions_for_user("ada", limit=3)) == ten[:3]

    def test_an_unreadable_page_raises_and_is_left_as_it_is(self, manager: Any, raw: Any) -> None:
        """A missing or damaged page raises and is named. The newest messages can still be read."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        page = min(key for key in raw if key.startswith("messages/s/"))
        for text in ("", "not JSON", "{}", '[{"content":"no role"}]', "[12]", None):
            if text is None:
                del raw[page]
            else:
                raw[page] = text

            for act in (lambda: manager.get_session("s"), lambda: manager.get_sessions_for_user("ada")):
                with pytest.raises(InvalidDocumentError) as caught:
                    act()
                assert (caught.value.key, caught.value.session_id) == (page, "s"), text

            assert contents(manager.get_session("s", last=2)) == ["message 98", "message 99"]
            assert manager.get_sessions_for_user("ada", skip_invalid=True) == []
            assert raw.get(page) == text if hasattr(raw, "get") else True

    def test_an_unreadable_session_can_be_deleted(self, manager: Any, other: Any, raw: Any, ten: Any) -> None:
        """`delete`, `delete_user` and `clear_all` remove an unreadable session with its pages."""
        for n, act in enumerate((lambda: manager.delete("s5"), lambda: manager.delete_user("ada"), manager.clear_all)):
            fill(session := manager.get_or_create_session("s5", "ada"), 50)
            manager.save(session)
            raw["session/s5"] = "torn"
            assert act(), n

            assert manager.get_session("s5") is None
            assert not [key for key in raw if key.startswith(("session/s5", "messages/s5"))]
            assert other.get_sessions_for_user("ada", include_archived=True) is not None
        assert other.count(status=None) == 0

    def test_archiving_inactive_sessions_passes_over_unreadable_ones(
        self, manager: Any, raw: Any, clock: Any, ten: Any
    ) -> None:
        """`archive_inactive` leaves a damaged session as it is, and archives the others."""
        raw["session/s5"] = "torn"
        clock.advance(days=60)

        assert manager.archive_inactive(days=30) == 11

        assert raw["session/s5"] == "torn"

    def test_fields_of_a_later_release_survive_a_save(self, manager: Any, raw: Any) -> None:
        """A load and a save keep unknown fields in heads and messages."""
        session = manager.create_session("ada", session_id="s")
        session.add_message("user", "one")
        manager.save(session)
        head = json.loads(raw["session/s"])
        head["mood"] = {"today": "good"}
        head["messages"][0]["stars"] = 5
        raw["session/s"] = json.dumps(head)

        loaded = manager.get_session("s")
        loaded.add_message("assistant", "two")
        manager.save(loaded)

        head = json.loads(raw["session/s"])
        assert head["mood"] == {"today": "good"}
        assert head["messages"][0]["stars"] == 5
        assert contents(manager.get_session("s")) == ["one", "two"]

    @pytest.mark.parametrize("text", [None, "", "not JSON", "{}", "[]", '{"format":2}'])
    def test_an_unreadable_branch_harms_nothing_else(self, manager: Any, raw: Any, text: Any) -> None:
        """Switching to a damaged branch raises. The conversation goes on, and a repair sets the branch aside."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        branch, other = session.rewind("m60"), session.rewind("m20")
        manager.save(session)
        key = f"messages/s/{branch.branch_id}/0"
        if text is None:
            del raw[key]
        else:
            raw[key] = text

        with pytest.raises(InvalidDocumentError) as caught:
            manager.switch("s", branch)
        assert (caught.value.session_id, caught.value.key) == ("s", key)
        assert {each: raw[each] for each in raw}.get(key) == text
        manager.append("s", {"role": "user", "content": "goes on"})
        assert not manager.verify()
        assert manager.verify(repair=True)

        assert manager.verify().problems == []
        stored = manager.get_session("s")
        assert contents(stored) == [*(f"message {n}" for n in range(21)), "goes on"]
        assert stored.branches == [other]
        assert manager.switch("s", other).message_count == 61
