"""Tests of the documents that lists read, and of lists beside writers."""

import json
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError, Session, SessionStatus
from pyai_sessions.testing.documents.fixtures import DocumentFixtures
from pyai_sessions.testing.samples import all_pages, fill, ids


class ListsOfDocuments(DocumentFixtures):
    """Lists read only heads, and stay right while others write."""

    def test_pages_go_on_whatever_is_written_between_them(self, manager: Any, other: Any, clock: Any, ten: Any) -> None:
        """Sessions that nobody changes come once each, whatever is written between two pages."""
        first = manager.list_sessions("ada", limit=3)
        other.create_session("ada", session_id="new")
        other.append("s5", {"role": "user", "content": "moved to the front"})
        other.delete("s7")
        other.delete("s3")
        other.archive("s2")
        second = manager.list_sessions("ada", limit=3, cursor=first.next_cursor)
        third = manager.list_sessions("ada", limit=3, cursor=second.next_cursor)

        assert ids(first) == ["s9", "s8", "s7"]
        assert ids(second) == ["s6", "s4", "s1"]
        assert ids(third) == ["s0"]
        assert third.next_cursor is None

    def test_a_list_of_many_long_sessions_is_whole(self, manager: Any, other: Any, raw: Any, clock: Any) -> None:
        """Each of many long sessions has its own messages. One with a damaged page raises or is skipped."""
        made: list[Session] = []
        for n in range(25):
            clock.advance(minutes=1)
            made.insert(0, Session(session_id=f"s{n}", user_id="ada", created_at=clock.now))
            for m in range((70, 0, 33)[n % 3]):
                made[0].add_message("user", f"{n}/{m}", timestamp=clock.now)
            made[0].updated_at = clock.now
        manager.import_sessions(made)

        for limit in (1, 20, 21, 25, None):
            assert other.get_sessions_for_user("ada", limit=limit) == made[:limit]
        assert other.get_sessions_for_user("ada", before=made[2].updated_at, limit=21) == made[3:24]

        del raw[next(key for key in raw if key.startswith("messages/s3/"))]
        with pytest.raises(InvalidDocumentError) as caught:
            other.get_sessions_for_user("ada")
        assert caught.value.session_id == "s3"
        others = [each for each in made if each.session_id != "s3"]
        assert other.get_sessions_for_user("ada", skip_invalid=True) == others
        assert other.get_sessions_for_user("ada", limit=21) == made[:21]
        assert other.get_sessions_for_user("ada", limit=22, skip_invalid=True) == others[:22]

    @pytest.mark.parametrize("order", ["newest", "oldest"])
    @pytest.mark.parametrize("where", [None, {"kept": True}], ids=["all", "where"])
    def test_pages_of_a_list_go_on_beside_writers(
        self, manager: Any, other: Any, clock: Any, order: Any, where: Any
    ) -> None:
        """While others create, save, archive, delete and move sessions, the unchanged ones come once each."""
        for n in range(60):
            manager.create_session("ada", session_id=f"s{n}", metadata={"kept": n % 2 == 0})
            clock.advance(seconds=n % 2)
        before = all_pages(manager, "ada", where=where, order=order)
        assert len(before) == (30 if where else 60)

        found, cursor, touched = [], None, set()
        for turn in range(100):
            page = manager.list_sessions("ada", where=where, order=order, limit=3, cursor=cursor)
            found += ids(page)
            cursor = page.next_cursor
            if cursor is None:
                break
            if turn >= 15:
                continue  # oldest first, newly created sessions would be listed for ever
            other.create_session("ada", session_id=f"new{turn}", metadata={"kept": True})
            for at, act in (
                (8 * turn, lambda each: other.append(each, {"role": "user", "content": "here"})),
                (8 * turn + 10, other.archive),
                (58 - 8 * turn, other.delete),
            ):
                if f"s{at}" not in touched and 0 <= at < 60 and other.get_session(f"s{at}"):
                    touched.add(f"s{at}")
                    if other.get_session(f"s{at}").status is SessionStatus.ACTIVE:
                        act(f"s{at}")

        assert cursor is None
        untouched = [each for each in before if each not in touched]
        assert untouched
        assert [each for each in found if each in untouched] == untouched
        assert manager.verify()

    def test_a_list_reads_no_page_of_messages(self, manager: Any, raw: Any) -> None:
        """Summaries, filters and counts read only heads, so damaged pages do not matter."""
        for n in range(3):
            fill(session := manager.create_session("ada", session_id=f"s{n}", metadata={"n": n}), 100)
            manager.save(session)
        pages = [key for key in raw if key.startswith("messages/")]
        assert len(pages) >= 6
        for key in pages:
            raw[key] = "torn"

        assert [each.message_count for each in manager.list_sessions("ada")] == [100] * 3
        assert sorted(all_pages(manager, limit=1)) == ["s0", "s1", "s2"]
        assert ids(manager.list_sessions("ada", where={"n": 1})) == ["s1"]
        assert manager.count(where={"n": 2}) == 1

    @pytest.mark.parametrize(
        "damage",
        ['{"format":1,"user_id":"ada", torn', {"metadata": 12}, {"metadata": [["n", 5]]}, {"created_at": 5}],
        ids=["torn", "number", "array", "time"],
    )
    def test_an_unreadable_session_in_a_filtered_list_is_named_or_skipped(
        self, manager: Any, raw: Any, ten: Any, damage: Any
    ) -> None:
        """A filtered list raises at an unreadable session, or skips it, since its metadata are unknown."""
        text = damage if isinstance(damage, str) else json.dumps(json.loads(raw["session/s5"]) | damage)
        raw["session/s5"] = text

        for where in (None, {"n": 3}):
            with pytest.raises(InvalidDocumentError) as caught:
                manager.list_sessions("ada", where=where)
            assert caught.value.session_id == "s5"
        others = [each for each in ten if each != "s5"]
        assert ids(manager.list_sessions("ada", skip_invalid=True)) == others
        assert all_pages(manager, "ada", skip_invalid=True, limit=2) == others
        assert ids(manager.list_sessions("ada", where={"n": 3}, skip_invalid=True)) == ["s3"]
        assert manager.count("ada", where={"n": 3}) == 1
