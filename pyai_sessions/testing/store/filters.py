"""Tests of lists and counts with `where=`, which compares metadata."""

from itertools import product
from typing import Any

import pytest

from pyai_sessions import ANYONE, InvalidValueError, Session, SessionStatus
from pyai_sessions.testing.clock import NOON
from pyai_sessions.testing.samples import HOSTILE_IDS, all_pages, ids
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.powers import need, of_all_users

UNEQUAL = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    2**70,
    "",
    "1",
    "true",
    "null",
    "web",
    "Web",
    "web ",
    [],
    {},
    [1],
    [True],
    ["1"],
    [1, 2],
    [2, 1],
    [[1]],
    {"a": 1},
    {"a": True},
    {"a": None},
    {"a": 1, "b": 2},
    {"a": {"b": [0]}},
    {"a": {"b": [False]}},
    {"a": {"b": [None]}},
    {"b": 1},
]
"""Values that are all different in JSON, though some are equal in Python."""


class Filters(StoreFixtures):
    @pytest.mark.parametrize("user_id", [ANYONE, "ada"])
    def test_where_keeps_the_sessions_whose_metadata_has_the_value(
        self, manager: Any, other: Any, user_id: Any
    ) -> None:
        """Values are compared as JSON at every depth: True is not 1, and [1] is not 1. Only lists have an order."""
        if user_id is ANYONE:
            need(manager, "list_by_activity", self.must_have)
        made = [Session(session_id=f"s{n}", user_id="ada", metadata={"v": each}) for n, each in enumerate(UNEQUAL)]
        manager.import_sessions([*made, Session(user_id="ada"), Session(user_id="ada", metadata={"w": 1})])

        for n, value in enumerate(UNEQUAL):
            assert ids(other.list_sessions(user_id, where={"v": value})) == [f"s{n}"]
            assert other.count(user_id, where={"v": value}) == 1
        assert ids(other.list_sessions(user_id, where={"v": {"b": 2, "a": 1}})) == [
            f"s{UNEQUAL.index({'a': 1, 'b': 2})}"
        ]
        assert other.count(user_id, where={"v": "nobody has it"}) == 0

    @of_all_users
    def test_hostile_text_in_a_filter_matches_itself_alone(self, manager: Any) -> None:
        """Wildcards, quotes, SQL, NUL, lone surrogates and look-alikes match only themselves."""
        hostile = [*HOSTILE_IDS, "' OR 1=1 --", "%%", "_", "$", "$.v", "v.a", "v[0]", '"v"', "*)", "(*"]
        manager.import_sessions(
            Session(session_id=f"s{n}", metadata={"v": each, each: "as a key"}) for n, each in enumerate(hostile)
        )

        for n, text in enumerate(hostile):
            assert ids(manager.list_sessions(where={"v": text})) == [f"s{n}"]
            assert ids(manager.list_sessions(where={text: "as a key"})) == [f"s{n}"]
        assert manager.list_sessions(where={"V": "a"}) == []

    @of_all_users
    def test_all_keys_of_a_filter_have_to_match(self, manager: Any) -> None:
        """Every key of a filter must be there and match. None is a value like any other."""
        for name, metadata in (
            ("both", {"a": 1, "b": None, "c": 3}),
            ("one", {"a": 1}),
            ("other", {"b": None}),
            ("wrong", {"a": 2, "b": None}),
            ("none", {}),
        ):
            manager.create_session("ada", session_id=name, metadata=metadata)

        assert ids(manager.list_sessions(where={"a": 1, "b": None})) == ["both"]
        assert sorted(ids(manager.list_sessions(where={"a": 1}))) == ["both", "one"]
        assert sorted(ids(manager.list_sessions(where={"b": None}))) == ["both", "other", "wrong"]
        assert manager.list_sessions(where={"d": None}) == []
        assert [manager.count(where=each) for each in ({"a": 1, "b": None}, {"a": 1}, {"d": None})] == [1, 2, 0]

    @of_all_users
    @pytest.mark.parametrize("where", [None, {}])
    def test_an_empty_filter_keeps_all(self, manager: Any, ten: Any, where: Any) -> None:
        """An empty filter keeps all sessions."""
        assert ids(manager.list_sessions("ada", where=where)) == ten
        assert [manager.count("ada", where=where), manager.count(where=where)] == [10, 12]

    @of_all_users
    def test_what_cannot_be_a_filter_is_refused(self, manager: Any, ten: Any) -> None:
        """A filter that is not a dict of JSON values raises."""
        no_dicts: list[Any] = [[], [("a", 1)], (), "", "a", 0, 7]
        for where in (*no_dicts, {1: 1}, {"a": {1}}, {"a": [b""]}, {"a": float("nan")}, {"a": NOON}):
            for act, user_id in product((manager.list_sessions, manager.count), (ANYONE, "ada", "nobody has sessions")):
                with pytest.raises(InvalidValueError) as caught:
                    act(user_id, where=where)
                assert caught.value.path.startswith("where"), where

    @of_all_users
    def test_what_cannot_be_an_order_is_refused(self, manager: Any, ten: Any) -> None:
        """An unknown order raises."""
        orders: list[Any] = ["", "new", "NEWEST", None, 1, True, []]
        for order in orders:
            with pytest.raises(InvalidValueError) as caught:
                manager.list_sessions(order=order)
            assert caught.value.path == "order", order

    @of_all_users
    def test_a_filter_goes_with_users_statuses_orders_and_pages(self, manager: Any, other: Any, clock: Any) -> None:
        """With any user, status and order, the pages give exactly the matching sessions, once, in order."""
        made = []
        for n in range(40):
            user_id, archived = ("ada", "bob", None)[n % 3], n % 5 == 0
            made.append((f"s{n}", user_id, SessionStatus.ARCHIVED if archived else SessionStatus.ACTIVE, n % 4))
            manager.create_session(user_id, session_id=f"s{n}", metadata={"n": n % 4, "other": n})
            if archived:
                manager.archive(f"s{n}")
            clock.advance(seconds=n % 2)  # two sessions at each time

        for sought, status, limit, order in product(
            (ANYONE, "ada"), (*SessionStatus, None), (1, 3, 50), ("newest", "oldest")
        ):
            expected = [
                name for name, owner, kept, n in made if n == 1 and sought in (ANYONE, owner) and status in (None, kept)
            ]
            found = all_pages(other, sought, where={"n": 1}, status=status, order=order, limit=limit)
            assert sorted(found) == sorted(expected)
            times = [manager.get_session(each).updated_at for each in found]
            assert times == sorted(times, reverse=order == "newest")
            assert other.count(sought, where={"n": 1}, status=status) == len(expected)

    def test_a_page_has_a_cursor_just_where_the_list_goes_on(self, manager: Any, ten: Any) -> None:
        """A page has a cursor only if another matching session follows."""
        assert manager.list_sessions("ada", where={"n": 9}, limit=1).next_cursor is None
        assert manager.list_sessions("ada", where={"n": 5}, limit=1).next_cursor is None
        assert manager.list_sessions("ada", where={"n": 0}, limit=1).next_cursor is None
        assert manager.list_sessions("ada", where={"n": 99}, limit=1).next_cursor is None
        for order, last in (("newest", "s0"), ("oldest", "s9")):
            page = manager.list_sessions("ada", order=order, limit=9)
            assert page.next_cursor is not None
            rest = manager.list_sessions("ada", order=order, limit=1, cursor=page.next_cursor)
            assert (ids(rest), rest.next_cursor) == ([last], None)
        for limit in (10, 11, None):
            assert manager.list_sessions("ada", limit=limit).next_cursor is None
        assert manager.list_sessions("ada", limit=0).next_cursor is None

    @of_all_users
    def test_a_rare_match_is_found_far_behind(self, manager: Any, other: Any, clock: Any) -> None:
        """A match behind many other sessions is found, in either order."""
        manager.create_session("ada", session_id="first", metadata={"rare": True})
        clock.advance(minutes=1)
        manager.import_sessions(
            Session(session_id=f"s{n}", user_id="ada", created_at=clock.now, updated_at=clock.now) for n in range(250)
        )
        clock.advance(minutes=1)
        manager.create_session("ada", session_id="last", metadata={"rare": True})

        for user_id in ("ada", ANYONE):
            for order, expected in (("newest", ["last", "first"]), ("oldest", ["first", "last"])):
                for limit in (1, 2, 50):
                    assert all_pages(other, user_id, where={"rare": True}, order=order, limit=limit) == expected
            assert other.count(user_id, where={"rare": True}) == 2

    @of_all_users
    def test_a_filter_follows_the_metadata(self, manager: Any, other: Any) -> None:
        """A save that changes metadata moves the session in or out of filtered lists."""
        session = manager.create_session("ada", session_id="s", metadata={"stage": "new"})
        session.metadata["stage"] = "done"
        manager.save(session)

        assert ids(other.list_sessions(where={"stage": "done"})) == ["s"]
        assert other.list_sessions(where={"stage": "new"}) == []
