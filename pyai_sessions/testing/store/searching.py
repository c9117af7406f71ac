"""Tests of searching messages."""

from typing import Any

import pytest

from pyai_sessions import Message
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import of_all_users

SAID = [
    "Is there a night train to Vienna?",
    "Yes, at nine.",
    "東京へ行く夜行列車",
    "And a NIGHT bus?",
    "กลางคืน",
    "Café, zurück",
]


def said(manager: Any, user_id: str, session_id: str) -> None:
    """Store a session with a text among many messages without it."""
    session = manager.create_session(user_id, session_id=session_id)
    for n in range(50):
        session.add_message("assistant", f"filler {n}")
        if n % 10 == 5:
            session.add_message("user", SAID[n // 10])
    session.add_message("user", SAID[5])
    manager.save(session)


def found(manager: Any, query: str, user_id: str = "ada", **options: Any) -> list[tuple[str, int]]:
    """Return the sessions and positions of a search's hits."""
    return [(each.session_id, each.position) for each in manager.search(query, user_id, limit=100, **options)]


class Searching(StoreFixtures):
    @pytest.mark.parametrize(
        ("query", "positions"),
        [
            ("night", [39, 6]),
            ('"night train"', [6]),
            ("night -train", [39]),
            ("vien* OR nine", [17, 6]),
            ("夜行", [28]),
            ("คืน", [50]),
            ("CAFE zuruck", [55]),
            ("filler 49", [54]),
            ("absent", []),
        ],
    )
    def test_a_search_finds_messages_by_their_words(self, manager: Any, other: Any, query: str, positions: Any) -> None:
        """A search finds words in any script and case, on any page, the latest first, and only the user's."""
        said(manager, "ada", "s")
        said(manager, "bob", "b")

        assert found(other, query) == [("s", n) for n in positions]

    def test_a_search_in_another_mode_takes_signs(self, manager: Any, other: Any) -> None:
        """The modes for substrings and regular expressions take spaces and signs as they are."""
        said(manager, "ada", "s")

        assert found(other, "bus?", mode="substring") == [("s", 39)]
        assert found(other, r"N[A-Z]+ b", mode="regex") == [("s", 39)]

    @of_all_users
    def test_pages_of_hits_hold_each_hit_once(self, manager: Any, other: Any) -> None:
        """Pages of hits are the same hits in the same order as one long page, in either order."""
        for user_id, session_id in (("ada", "s"), ("bob", "b"), ("ada", "t")):
            said(manager, user_id, session_id)

        for order in ("newest", "best"):
            whole = list(other.search("night OR filler", limit=None, order=order))
            pages, cursor = list[Any](), None
            while pages == [] or cursor is not None:
                page = other.search("night OR filler", limit=40, order=order, cursor=cursor)
                pages += page
                cursor = page.next_cursor
            assert pages == whole
            assert len(whole) == 3 * 52

    def test_a_hit_is_of_what_is_stored(self, manager: Any, other: Any) -> None:
        """Changed messages, and those of deleted or archived sessions, are not found."""
        said(manager, "ada", "s")
        session = other.get_session("s")
        session.replace_message(session.messages[6], content="Never mind.")
        other.save(session)

        assert found(manager, "night") == [("s", 39)]
        other.append("s", Message("user", "The night again"))
        assert found(manager, "night") == [("s", 56), ("s", 39)]
        other.archive("s")
        assert found(manager, "night") == []
        assert found(manager, "night", status=None) == [("s", 56), ("s", 39)]
        other.delete("s")
        assert found(manager, "night", status=None) == []

    @of_all_users
    def test_a_search_finds_the_same_with_an_index(self, manager: Any, other: Any) -> None:
        """With a search index, a search finds the same, also messages that are stored later."""
        said(manager, "ada", "s")
        manager.build_search_index()
        other.append("s", Message("user", "The night again"))

        assert found(manager, "night") == [("s", 56), ("s", 39), ("s", 6)]
        assert found(other, "night") == [("s", 56), ("s", 39), ("s", 6)]
        manager.drop_search_index()
        assert found(manager, "night") == [("s", 56), ("s", 39), ("s", 6)]

    def test_a_hit_comes_with_its_context(self, manager: Any, other: Any) -> None:
        """A hit has the messages around it, and the matching part of its own."""
        said(manager, "ada", "s")

        (hit,) = other.search('"night train"', "ada", context=1)

        assert hit.marked() == "Is there a [night train] to Vienna?"
        assert [each.content for each in hit.context] == ["filler 5", SAID[0], "filler 6"]
        assert (hit.role, hit.message_id) == ("user", manager.get_session("s").messages[6].message_id)
