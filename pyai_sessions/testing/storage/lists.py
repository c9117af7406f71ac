"""Tests of lists: the order of members, how a change moves them, and the listings of all lists.

Every list entry here follows from the document that is put with it, as `derive` says. So a storage that derives its
lists from documents passes, too.
"""

import pytest

from pyai_sessions.storage.protocol import Change, Listing, Position, Storage
from pyai_sessions.testing.storage.fixtures import (
    StorageFixtures,
    all_listed,
    all_positions,
    apply,
    change,
    document,
    start,
)

SCORES = [0, 1, -1, 2**53, 2**53 - 1, -(2**53), 1 - 2**53, 1_764_288_000_000_000, 1_764_288_000_000_001, 10, 9, -10, -9]
MEMBERS = ["a", "A", "0", "-1", "a/b", "a/b/", "a%2Fb", "a.b", "a0", "~", "%ED%A0%80", "a/active/ada", "x" * 6000]


class Lists(StorageFixtures):
    def test_a_list_that_nobody_wrote_is_empty(self, storage: Storage) -> None:
        """An unknown list has no members, and reading it raises nothing."""
        apply(storage, change("a", "r1", listed={"active": 1}))

        assert storage.scan("archived") == []
        assert storage.scan("archived", (1, "a"), newest_first=True) == []
        assert storage.count("archived") == 0
        assert list(storage.listings([("archived", "a"), ("active", "b")])) == []

    def test_members_stand_in_the_order_of_their_scores(self, storage: Storage) -> None:
        """Scores from -2**53 to 2**53 are ordered exactly. Newest first is the same list reversed."""
        apply(storage, *[change(f"m{n}", "r1", listed={"active": score}) for n, score in enumerate(SCORES)])
        expected = sorted((score, f"m{n}") for n, score in enumerate(SCORES))

        assert storage.scan("active") == expected
        assert storage.scan("active", newest_first=True) == expected[::-1]
        assert all(type(score) is int for score, _ in storage.scan("active"))

    def test_members_of_one_score_stand_in_their_own_order(self, storage: Storage) -> None:
        """Members of one score are ordered by their characters, both ways round, even if a page ends among them."""
        members = ["b", "a", "B", "aa", "a.", "a0", "a-", "a~", "a%", "_", "10", "9"]
        apply(
            storage,
            *[change(each, "r1", listed={"active": 5}) for each in members],
            change("z", "r1", listed={"active": 4}),
        )
        expected = [(4, "z"), *((5, each) for each in sorted(members))]

        assert all_positions(storage, "active") == expected
        assert all_positions(storage, "active", newest_first=True) == expected[::-1]

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_a_scan_begins_after_a_position(self, storage: Storage, *, newest_first: bool) -> None:
        """A scan returns at most *limit* positions after the given one, which need not exist."""
        found = [(score, f"m{score}") for score in range(0, 40, 2)]
        apply(storage, *[change(member, "r1", listed={"active": score}) for score, member in found])
        backwards = found[::-1] if newest_first else found

        def after(position: Position) -> list[Position]:
            return [each for each in backwards if (each < position if newest_first else each > position)]

        for position in [(8, "m8"), (8, ""), (8, "m80"), (7, "m7"), (-5, "x"), (99, "x"), (0, "m0"), (38, "m38")]:
            for limit in (1, 3, 100):
                expected = after(position)[:limit]
                assert storage.scan("active", position, limit, newest_first=newest_first) == expected, position
        assert storage.scan("active", limit=0, newest_first=newest_first) == []
        assert storage.scan("active", limit=5, newest_first=newest_first) == backwards[:5]

    def test_a_scan_returns_a_hundred_positions_if_not_told_otherwise(self, storage: Storage) -> None:
        """A scan returns 100 positions by default. Going on from the last one gives each member once."""
        apply(storage, *[change(f"m{n:04}", "r1", listed={"active": n // 7}) for n in range(250)])
        expected = [(n // 7, f"m{n:04}") for n in range(250)]

        assert storage.scan("active") == expected[:100]
        assert storage.scan("active", expected[99]) == expected[100:200]
        assert all_positions(storage, "active", 60) == expected
        assert storage.count("active") == 250
        assert sorted(storage.listings()) == sorted(("active", member, score) for score, member in expected)

    @pytest.mark.parametrize("hint", ["right", "none", "wrong"])
    def test_a_member_stands_at_its_latest_score(self, storage: Storage, hint: str) -> None:
        """A member is in a list once, at its latest score, whatever old score the change named."""
        apply(storage, change("other", "r1", listed={"active": 15, "user/ada/active": 15}))
        hints = {"right": lambda old: old, "none": lambda _: None, "wrong": lambda old: old + 7}
        hint = "right" if storage.apart else hint
        old: int | None = None
        for n, new in enumerate([10, 20, 10, 10, -3, 20]):
            was = None if old is None else hints[hint](old)
            saved = change("a", f"r{n + 1}", f"r{n}" if n else None, listed={"active": new, "user/ada/active": new})
            apply(storage, saved._replace(lists=[each._replace(old=was) for each in saved.lists]))
            old = new

            expected = sorted([(15, "other"), (new, "a")])
            assert storage.scan("active") == storage.scan("user/ada/active") == expected
            assert storage.scan("active", newest_first=True) == expected[::-1]
            assert storage.count("active") == 2
            assert sorted(storage.listings([("active", "a")])) == [("active", "a", new)]

    @pytest.mark.parametrize("old", [10, None, 99])
    def test_a_member_is_taken_out_of_a_list(self, storage: Storage, old: int | None) -> None:
        """A change removes a member from a list or moves it to another, whatever old score the change named."""
        old = 10 if storage.apart else old
        apply(storage, *[change(place, "r1", listed={"active": 10}) for place in "abc"])
        apply(
            storage,
            Change(expect=[("doc/a", start("r1"))], drop=["doc/a"], lists=[Listing("active", "a", old, None)]),
            Change(
                put=[("doc/b", document("r2", ("archived", "b", 10)))],
                lists=[Listing("active", "b", old, None), Listing("archived", "b", None, 10)],
            ),
        )

        assert (storage.scan("active"), storage.count("active")) == ([(10, "c")], 1)
        assert (storage.scan("archived"), storage.count("archived")) == ([(10, "b")], 1)
        assert all_listed(storage) == [("active", "c", 10), ("archived", "b", 10)]

    def test_a_list_changes_without_a_document(self, storage: Storage) -> None:
        """A change may move a member and put no document. Repairs of lists use this."""
        apply(storage, change("a", "r1", listed={"active": 1}))
        assert storage.count("active") == 1  # a storage that derives its lists from documents has done so now
        unlisted = Change(expect=[("doc/gone", None)], lists=[Listing("active", "gone", None, 7)])

        apply(storage, unlisted)
        assert storage.scan("active") == [(1, "a"), (7, "gone")]

        apply(storage, unlisted._replace(lists=[Listing("active", "gone", 7, None)]))
        assert storage.scan("active") == [(1, "a")]

    def test_what_is_not_listed_can_be_taken_out(self, storage: Storage) -> None:
        """Removing an absent member is no error."""
        apply(storage, change("a", "r1", listed={"active": 1}))
        apply(storage, change("a", "r2", "r1", listed={"active": 2}, was={"active": 1, "archived": 5, "other": 6}))

        assert all_listed(storage) == [("active", "a", 2)]
        assert storage.count("archived") == storage.count("other") == 0

    def test_no_member_and_no_list_is_taken_for_another(self, storage: Storage) -> None:
        """Names of lists and members that look alike, or begin alike, are different."""
        names = [
            "active",
            "Active",
            "active/",
            "active/x",
            "user/a/active",
            "user/a%2Factive",
            "%",
            "_ctive",
            "*",
            "x" * 3100,
        ]
        names = [each for each in names if self.takes_key(each)]
        members = [each for each in MEMBERS if self.takes_key(each)]
        apply(
            storage,
            *[
                Change(
                    put=[(f"doc/p{n}", document("r1", *[(name, member, n * m) for m, name in enumerate(names)]))],
                    lists=[Listing(name, member, None, n * m) for m, name in enumerate(names)],
                )
                for n, member in enumerate(members)
            ],
        )

        for m, name in enumerate(names):
            assert storage.scan(name) == sorted((n * m, member) for n, member in enumerate(members))
            assert storage.count(name) == len(members)
        pairs = [(name, member) for name in names for member in members]
        expected = sorted((name, member, n * m) for m, name in enumerate(names) for n, member in enumerate(members))
        assert sorted(storage.listings(pairs)) == expected
        assert sorted(storage.listings()) == expected

    def test_lists_are_told_of_given_members_alone(self, storage: Storage) -> None:
        """`listings(of=…)` returns the entries of exactly these pairs of list and member."""
        apply(storage, *[change(place, "r1", listed={"active": 1, f"user/{place}": 2}) for place in "abc"])
        pairs = [("active", "a"), ("user/b", "b"), ("user/a", "b"), ("active", "none"), ("none", "a")]

        assert sorted(storage.listings(pairs)) == [("active", "a", 1), ("user/b", "b", 2)]
        assert sorted(set(storage.listings([*pairs, *pairs]))) == [("active", "a", 1), ("user/b", "b", 2)]
        many = [("active", f"none{n}") for n in range(3000)]
        assert list(storage.listings([*many, ("active", "c")])) == [("active", "c", 1)]

    def test_lists_are_told_by_what_their_names_begin_with(self, storage: Storage) -> None:
        """`listings(prefix=…)` compares the prefix exactly: case counts, and nothing in it is a wildcard."""
        names = ["active", "active/x", "Active", "a", "user/ada", "%", "_"]
        spaces = {"namespace/n/": ["active", "user/ada"], "namespace/n0/": ["active"]}
        saved = [(under, name) for under, these in {"": names, **spaces}.items() for name in these]
        apply(storage, *[change(f"p{n}", "r1", listed={name: n}, under=under) for n, (under, name) in enumerate(saved)])
        listed = sorted((under + name, f"p{n}", n) for n, (under, name) in enumerate(saved))

        for prefix in [
            "",
            "a",
            "active",
            "active/",
            "active/x/",
            "A",
            "%",
            "_",
            "*",
            "none",
            *spaces,
            "namespace/n",
            "name",
        ]:
            expected = [each for each in listed if each[0].startswith(prefix)]
            assert sorted(set(storage.listings(prefix=prefix))) == expected, prefix

    def test_lists_of_a_namespace_are_others(self, storage: Storage) -> None:
        """A list whose name begins with a namespace is another list."""
        apply(
            storage,
            change("a", "r1", listed={"active": 1}),
            change("a", "r1", listed={"active": 2}, under="namespace/n/"),
        )

        assert storage.scan("active") == [(1, "a")]
        assert storage.scan("namespace/n/active") == [(2, "a")]
        assert all_listed(storage) == [("active", "a", 1), ("namespace/n/active", "a", 2)]
