"""Tests of reading messages without loading their session."""

from random import Random
from typing import Any

import pytest

from pyai_sessions import Message, Session, SessionNotFoundError, SessionStateError
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.samples import RICH
from pyai_sessions.testing.store.fixtures import StoreFixtures


def stored(manager: Any, count: int, *, own_ids: bool = False) -> Session:
    """Store a session of *count* messages, in steps."""
    session: Session = manager.create_session("ada", session_id="s")
    for n in range(count):
        given = {"message_id": f"m{n}"} if own_ids or n % 7 == 3 else {}
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n} " * (n % 9), **given)
        if n % 50 == 0:
            manager.save(session)
    manager.save(session)
    return session


class Scrolling(StoreFixtures):
    def test_a_page_of_messages_is_that_part_of_the_session(self, manager: Any, other: Any) -> None:
        """A page before, after or between messages, or at the end, is in order, and says whether more lie beyond."""
        session = stored(manager, 230)
        every, random = session.messages, Random(7)  # noqa: S311 (it draws places, not secrets)
        for n in range(150):
            through = (manager, other)[n % 2]
            before, after = (random.choice([None, *range(230)]) for _ in range(2))
            limit = random.choice([None, 0, 1, 2, 31, 32, 33, 50, 1000])
            first, last = 0 if after is None else after + 1, 230 if before is None else before
            expected = every[first : max(first, last)]
            if limit is not None:
                expected = expected[:limit] if after is not None else expected[max(0, len(expected) - limit) :]

            page = through.get_messages(
                "s",
                before=None if before is None else every[before].message_id,
                after=None if after is None else every[after],
                limit=limit,
            )

            assert list(page) == expected, (before, after, limit)
            if page:
                assert page.has_older == (page[0] != every[0])
                assert page.has_newer == (page[-1] != every[-1])

    def test_a_session_is_scrolled_through_in_both_directions(self, manager: Any, other: Any) -> None:
        """Pages from the end to the beginning and back give every message."""
        every = stored(manager, 150, own_ids=True).messages
        page = manager.get_messages("s", limit=40)
        up = list(page)
        while page.has_older:
            page = manager.get_messages("s", before=page[0], limit=40)
            up[:0] = page
        down = list(page)
        while page.has_newer:
            page = other.get_messages("s", after=page[-1].message_id, limit=40)
            down += page

        assert up == down == every

    def test_a_page_stays_the_same_while_others_append(self, manager: Any, other: Any) -> None:
        """A page is found by a message id, so appends do not shift it."""
        every = stored(manager, 100).messages
        before = manager.get_messages("s", limit=20)
        other.append("s", *[{"role": "user", "content": f"later {n}"} for n in range(60)])

        assert list(manager.get_messages("s", before=before[0], limit=20)) == every[60:80]
        assert contents_of(manager.get_messages("s", limit=2)) == ["later 58", "later 59"]

    def test_one_message_is_found_by_its_id(self, manager: Any, other: Any) -> None:
        """`get_message` returns the message as stored, or None."""
        session = stored(manager, 80)
        session.add_messages([dict(each) for each in RICH[:3]])
        manager.save(session)

        for each in (session.messages[0], session.messages[3], session.messages[60], *session.messages[-3:]):
            assert other.get_message("s", each.message_id) == each
        assert other.get_message("s", "nobody's") is None
        assert manager.get_message("s", Message("user", "never stored").message_id) is None

    def test_messages_that_were_removed_are_in_no_page(self, manager: Any, other: Any) -> None:
        """Removed messages are in no page, even if the store remembers the old one."""
        session = stored(manager, 100)
        page = other.get_messages("s", limit=60)
        session.remove_message(page[0])
        manager.save(session)

        assert other.get_message("s", page[0].message_id) is None
        assert list(other.get_messages("s", before=page[1], limit=10)) == session.messages[30:40]
        with pytest.raises(SessionStateError, match="has no message"):
            other.get_messages("s", before=page[0])

    def test_a_session_that_is_not_there_has_no_messages(self, manager: Any) -> None:
        """An absent session and another user's raise the same error. An archived one can be read."""
        stored(manager, 3)

        for session_id, options in (("t", {}), ("s", {"user_id": "bob"})):
            with pytest.raises(SessionNotFoundError):
                manager.get_messages(session_id, **options)
            with pytest.raises(SessionNotFoundError):
                manager.get_message(session_id, "m0", **options)
        manager.archive("s")
        assert len(manager.get_messages("s", user_id="ada")) == 3

    def test_a_session_without_messages_has_an_empty_page(self, manager: Any) -> None:
        """An empty session has an empty page, with nothing before or after it."""
        manager.save(Session(session_id="s", created_at=NOON, updated_at=NOON))

        page = manager.get_messages("s")

        assert (list(page), page.has_older, page.has_newer) == ([], False, False)


def contents_of(messages: list[Message]) -> list[Any]:
    """Return the contents of messages."""
    return [each.content for each in messages]
