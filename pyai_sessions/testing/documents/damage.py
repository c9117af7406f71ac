"""Documents that cannot be read."""

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
        """Unreadable is not absent: no read, save, append or creation passes over it or overwrites it."""
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
            with pytest.raises((InvalidDocumentError, SessionExistsError)):  # its id is taken, if that can be read
                manager.create_session("ada", session_id="s5")

            assert raw["session/s5"] == text

    def test_a_torn_session_raises_and_is_left_as_it_is(self, manager: Any, raw: Any, ten: Any) -> None:
        """A document of which the end is missing, as a full disk or a careless copy leaves it."""
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
        """For a rescue by hand, in an attribute."""
        raw["session/s5"] = "half a docum"

        with pytest.raises(InvalidDocumentError) as caught:
            manager.get_session("s5")

        document: Any = caught.value.document
        assert (document if isinstance(document, str) else bytes(document).decode()) == "half a docum"

    def test_an_unreadable_session_in_the_middle_of_a_list_is_named(self, manager: Any, raw: Any, ten: Any) -> None:
        """The list raises; `skip_invalid` leaves it out, and the others stay within reach."""
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
        """A page that is missing or damaged is named; the newest messages can still be read."""
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
        """With its pages; by itself, with its user, or with all."""
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
        """One damaged document does not keep the others from being archived, and stays as it is."""
        raw["session/s5"] = "torn"
        clock.pass_(days=60)

        assert manager.archive_inactive(days=30) == 11

        assert raw["session/s5"] == "torn"

    def test_fields_of_a_later_release_survive_a_save(self, manager: Any, raw: Any) -> None:
        """In a head and in a message: read, kept, and written again."""
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
        """To switch to it raises and leaves it; the conversation goes on, and verify sets the branch aside."""
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
