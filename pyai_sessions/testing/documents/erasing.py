"""Tests of erasing and exporting a user whose documents are damaged, set aside or unlisted."""

import json
from typing import Any

import pytest

from pyai_sessions import InvalidValueError, SessionManager
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import contents, exported, fill, ids


def everything_of_ada(manager: Any, raw: Any) -> None:
    """Store every kind of document of user "ada": long, archived, forked, damaged, set aside, left by a crash."""
    for name in ("long", "archived", "torn", "torn before", "page"):
        fill(session := manager.create_session("ada", session_id=name), 100)
        manager.save(session)
        if name == "long":
            session.rewind("m60")
            session.rewind("m20")
            session.add_message("user", "goes on")
            manager.save(session)
    manager.fork("archived", new_id="own fork")
    manager.archive("archived")
    fill(session := manager.create_session("bob", session_id="bob's"), 100)
    manager.save(session)
    manager.fork("bob's", user_id="ada", new_id="fork of bob's")
    page = max(key for key in raw if key.startswith("messages/page/"))
    raw[page] = "torn"
    raw["session/torn%20before"] = torn(raw["session/torn%20before"])
    manager.verify(repair=True)
    raw["session/torn"] = torn(raw["session/torn"])
    raw["messages/archived/crashed/0"] = raw["messages/torn/" + min(raw_pages(raw, "torn"))]


def torn(text: str) -> str:
    """Return a head without its end. A head may be padded with spaces."""
    return text.rstrip()[:-30]


def raw_pages(raw: Any, session_id: str) -> list[str]:
    """Return the last parts of the keys of a session's pages."""
    prefix = f"messages/{session_id}/"
    return [key.removeprefix(prefix) for key in raw if key.startswith(prefix)]


def ours(raw: Any) -> set[str]:
    """Return the keys of all documents, with those that were set aside."""
    return {key for key in raw if key.startswith(("session/", "messages/", "forks/", "unreadable/"))}


class ErasingOfDocuments(DocumentFixtures):
    def test_nothing_of_a_user_is_left(self, manager: Any, other: Any, raw: Any) -> None:
        """`delete_user` removes every document of a user, damaged and set aside ones too, and counts them."""
        everything_of_ada(manager, raw)
        before = ours(raw)
        others = {key for key in before if key.startswith(("session/bob", "messages/bob"))}
        aside = {key for key in before if key.startswith("unreadable/torn%20before/")}

        erased = manager.delete_user("ada")

        assert erased.session_ids == ["archived", "fork of bob's", "long", "own fork", "page", "torn"]
        assert ours(raw) == others | aside
        gone = before - ours(raw)
        counted = (erased.pages, erased.references, erased.set_aside)
        assert counted == tuple(
            sum(key.startswith(kind) for key in gone) for kind in ("messages", "forks", "unreadable")
        )
        assert (erased.references, erased.set_aside) == (2, 1)
        assert (erased.shared, erased.unlisted, erased.unknown) == ([], [], [])

        scanned = manager.delete_user("ada", scan=True)

        assert ours(raw) == others
        assert (scanned.session_ids, scanned.set_aside) == ([], len(aside))
        assert scanned.unlisted == sorted(aside)
        assert other.get_session("bob's").message_count == 100
        assert other.verify().problems == []

    def test_what_other_users_forks_share_stays_and_is_told(self, manager: Any, other: Any, raw: Any) -> None:
        """Pages that other users' forks share stay until these are deleted. The report names such forks."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        manager.fork("s", user_id="ada", new_id="own")
        manager.fork("own", user_id="bob", new_id="sharing")
        manager.fork("s", at=3, user_id="bob", new_id="copy")
        before = ours(raw)

        erased = manager.delete_user("ada", scan=True)

        assert erased.session_ids == ["own", "s"]
        assert erased.shared == ["copy", "sharing"]
        assert erased.unlisted == []
        gone = before - ours(raw)
        assert (erased.pages, erased.references) == tuple(
            sum(key.startswith(kind) for key in gone) for kind in ("messages", "forks")
        )
        assert other.get_session("sharing").message_count == 100
        assert other.verify().problems == []
        for each in erased.shared:
            assert manager.delete(each)
        assert ours(raw) == set()

    @pytest.mark.parametrize("damaged", [False, True])
    def test_a_scan_erases_what_no_index_lists(self, manager: Any, other: Any, raw: Any, damaged: Any) -> None:
        """With a scan, `delete_user` also finds heads that no index lists, if they name the user."""
        manager.create_session("bob", session_id="bob's")
        manager.create_session("ada", session_id="listed")
        text = json.dumps(json.loads(raw["session/listed"]) | {"session_id": "planted"})
        assert manager.count("ada") == 1
        raw["session/planted"] = torn(text) if damaged else text

        assert manager.delete_user("ada").session_ids == ["listed"]
        assert "session/planted" in ours(raw)
        assert len(exported(manager, "ada")) == 0
        assert len(exported(manager, "ada", scan=True)) == 1
        erased = manager.delete_user("ada", scan=True)

        assert (erased.session_ids, erased.unlisted) == (["planted"], ["session/planted"])
        assert ours(raw) == {"session/bob%27s"}
        assert other.verify().problems == []

    def test_damaged_documents_of_others_stay(self, manager: Any, raw: Any) -> None:
        """Damaged documents that name another user stay. Those that name nobody stay too, and are reported."""
        for user_id in ("ada", "bob"):
            fill(session := manager.create_session(user_id, session_id=f"{user_id}s"), 40)
            manager.save(session)
        manager.create_session("bob", session_id="set")
        raw["session/set"] = torn(raw["session/set"])
        manager.verify(repair=True)
        raw["session/bobs"] = torn(raw["session/bobs"])
        raw["session/nobodys"] = "torn"
        raw["unreadable/x/t/messages/g/0"] = "torn"
        stays = {key for key in ours(raw) if "adas" not in key}

        erased = manager.delete_user("ada", scan=True)

        assert ours(raw) == stays
        assert erased.session_ids == ["adas"]
        assert erased.unknown == ["session/nobodys", "unreadable/x/t/messages/g/0"]
        assert erased.unlisted == []

    def test_what_an_earlier_session_of_another_user_left_stays(self, manager: Any, raw: Any) -> None:
        """What was set aside under a reused id belongs to the user whom its head names, not to the present one."""
        for first, second in (("bob", "ada"), ("ada", "bob")):
            manager.create_session(first, session_id=first)
            raw[f"session/{first}"] = torn(raw[f"session/{first}"])
            manager.verify(repair=True)
            manager.create_session(second, session_id=first)

        erased = manager.delete_user("ada", scan=True)

        assert erased.session_ids == ["bob"]
        assert [key.split("/")[:2] for key in sorted(ours(raw))] == [["session", "ada"], ["unreadable", "bob"]]
        assert (erased.set_aside, erased.unknown) == (1, [])

    def test_damaged_documents_are_exported_as_they_are(self, manager: Any, raw: Any) -> None:
        """An export has a line for each document of a damaged session, and for each one set aside."""
        everything_of_ada(manager, raw)
        lines = exported(manager, "ada", scan=True)

        documents = {each["key"]: each["document"] for each in lines if "session_id" not in each}
        sessions = [each for each in lines if "session_id" in each]
        assert sorted(each["session_id"] for each in sessions) == sorted(
            ["archived", "fork of bob's", "long", "own fork", "page"]
        )
        assert documents["session/torn"] == raw["session/torn"]
        aside = {key for key in raw if key.startswith("unreadable/")}
        torn_pages = {f"messages/torn/{each}" for each in raw_pages(raw, "torn")}
        assert documents.keys() == aside | torn_pages | {"session/torn"}
        assert {key for key in aside if documents[key] == "torn"} == {key for key in aside if "/page/" in key}
        new = SessionManager()
        with pytest.raises(InvalidValueError, match="session_id is missing"):
            new.import_sessions(lines)
        assert new.import_sessions(sessions).inserted == 5
        assert contents(new.get_session("fork of bob's")) == contents(manager.get_session("fork of bob's"))
        assert ids(new.list_sessions("bob")) == []

    @pytest.mark.parametrize("text", [None, "torn"])
    def test_a_session_with_a_damaged_page_is_exported_by_its_documents(
        self, manager: Any, raw: Any, text: Any
    ) -> None:
        """An export has every document of a session with a damaged page, sound ones too, and names a missing page."""
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        page = max(f"messages/s/{each}" for each in raw_pages(raw, "s"))
        pages = {f"messages/s/{each}": None for each in raw_pages(raw, "s")}
        if text is None:
            del raw[page]
        else:
            raw[page] = text

        documents = {each["key"]: each["document"] for each in exported(manager, "ada")}

        assert documents.keys() == pages.keys() | {"session/s"}
        assert documents[page] == text
        assert {key: raw[key] for key in pages if key != page} == {key: documents[key] for key in pages if key != page}
