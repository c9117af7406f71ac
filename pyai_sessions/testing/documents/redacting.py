"""Tests that redaction removes a message's text from every document."""

from typing import Any

import pytest

from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import contents, fill
from pyai_sessions.testing.store.redacting import SECRET, WORD, with_a_secret


def holders(raw: Any, word: str = WORD) -> list[str]:
    """Return the keys of the documents that contain a word."""
    return sorted(key for key in raw if word in raw[key])


class RedactingOfDocuments(DocumentFixtures):
    """What redaction does to heads, pages, branches, and documents that no head names."""

    @pytest.mark.parametrize("before", [0, 40, 90])
    def test_no_document_has_the_words_of_a_redacted_message(self, manager: Any, raw: Any, before: Any) -> None:
        """Redaction removes the text from heads, pages, branches, and pages that a crash left. All else stays."""
        with_a_secret(manager, before)
        page = next(key for key in sorted(raw) if key.startswith("messages/") and WORD in raw[key])
        raw["messages/s/left/0"] = raw[page]
        kept = {key: raw[key] for key in raw if WORD not in raw[key]}
        assert len(holders(raw)) > 3

        report = manager.redact("s", "pw")

        assert holders(raw) == []
        assert {key: raw[key] for key in kept if not key.startswith("session/")} == {
            key: text for key, text in kept.items() if not key.startswith("session/")
        }
        assert report.documents > 3
        assert [each.kind for each in manager.verify().problems] == ["orphan page"]

    def test_words_in_what_was_set_aside_go(self, manager: Any, raw: Any) -> None:
        """Redaction also changes documents that were set aside, and reports those that it cannot read."""
        session = with_a_secret(manager)
        page = next(key for key in sorted(raw) if key.startswith("messages/s/") and '"message_id":"pw"' in raw[key])
        raw["unreadable/s/token/messages/g/0"] = raw[page]
        raw["unreadable/s/token/messages/g/1"] = raw[page][:-3]
        raw["unreadable/s/token/session"] = "torn " + raw["session/s"][:-3]
        fill(session, 3, 5000)
        manager.save(session)

        report = manager.redact("s", "pw")

        assert holders(raw) == []
        assert report.unread == ["unreadable/s/token/messages/g/1"]

    @pytest.mark.parametrize("owner", ["alive", "gone"])
    def test_what_another_user_shares_stays_as_it_is(self, manager: Any, other: Any, raw: Any, owner: Any) -> None:
        """Another user's fork keeps the original message, on pages of its own from then on."""
        with_a_secret(manager)
        manager.fork("s", user_id="bob", new_id="bob's")
        left = contents(other.get_session("bob's"))
        if owner == "gone":
            manager.fork("s", new_id="own")
            manager.delete("s")

        session = other.get_session("bob's")
        branch = session.rewind("m5")
        other.save(session)
        bobs = other.get_session("bob's")

        report = manager.redact("s" if owner == "alive" else "own", "pw")

        assert report.shared == ["bob's"]
        assert other.get_session("bob's") == bobs
        assert {key.split("/")[1] for key in holders(raw)} == {"bob%27s"}
        assert manager.verify().problems == []
        session = other.get_session("bob's")
        fill(session, 90, 7000)
        other.save(session)
        assert contents(other.switch("bob's", branch)) == left
        assert manager.verify().problems == []
        assert other.redact("bob's", "pw").session_ids == ["bob's"]
        assert holders(raw) == []
        assert manager.verify().problems == []

    def test_a_fork_of_another_users_session_is_redacted_by_itself(self, manager: Any, other: Any, raw: Any) -> None:
        """Redacting a fork of another user's session leaves that user's pages."""
        with_a_secret(manager)
        manager.fork("s", user_id="bob", new_id="fork")
        adas = other.get_session("s")

        report = manager.redact("fork", "pw")

        assert (report.session_ids, report.shared) == (["fork"], ["s"])
        assert other.get_session("s").messages == adas.messages
        assert WORD not in other.get_session("fork").to_json()
        assert {key.split("/")[1] for key in holders(raw)} == {"s"}
        assert manager.verify().problems == []

    def test_unknown_fields_lose_the_words_too(self, manager: Any, raw: Any) -> None:
        """Redaction removes the text from unknown fields of heads and messages, too."""
        line: Any = {**with_a_secret(manager).to_dict(), "session_id": "t", "mood": [SECRET, "good"]}
        line["messages"] = [each | {"stars": 5, "heard": each["content"]} for each in line["messages"]]
        manager.import_sessions([line])

        manager.redact("t", "pw")

        found = manager.get_session("t").to_dict()
        assert found["mood"] == ["[removed]", "good"]
        assert found["messages"][0]["stars"] == 5
        assert {key.split("/")[1] for key in holders(raw)} == {"s"}
