"""Tests of writing: what a change expects, what it puts and drops, its repetition, and its atomicity."""

import pytest

from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.testing.storage.fixtures import (
    StorageFixtures,
    all_listed,
    all_texts,
    apply,
    change,
    document,
    put,
    read,
    start,
    text_of,
)


class Comparing(StorageFixtures):
    @pytest.mark.parametrize(
        ("expected", "applied"),
        [
            ("the text", True),
            ("the t", True),
            ("", True),
            (None, False),
            ("the text and more", False),
            ("The text", False),
            ("text", False),
            ("%", False),
            ("the _ext", False),
            ("*", False),
        ],
    )
    def test_a_change_is_applied_where_the_document_begins_as_expected(
        self, storage: Storage, expected: str | None, *, applied: bool
    ) -> None:
        """The beginning is compared exactly. "" expects any document, None expects none."""
        apply(storage, put("doc/a", "the text"))

        assert storage.write([Change(expect=[("doc/a", expected)], put=[("doc/a", b"new")])]) == [applied]
        assert read(storage, "doc/a") == {"doc/a": "new" if applied else "the text"}

    @pytest.mark.parametrize(("expected", "applied"), [(None, True), ("", False), ("the", False)])
    def test_a_change_may_expect_that_there_is_no_document(
        self, storage: Storage, expected: str | None, *, applied: bool
    ) -> None:
        """None expects no document, and a dropped one counts as none. Any text expects a document."""
        for key in ("doc/a", "doc/b"):
            apply(storage, put("doc/b"), put("page/a/1"))
            apply(storage, Change(drop=["doc/b"]))

            assert storage.write([Change(expect=[(key, expected)], put=[(key, b"new")])]) == [applied]
            assert read(storage, key) == ({key: "new"} if applied else {})

    def test_an_empty_document_is_a_document(self, storage: Storage) -> None:
        """An empty document can be read. Only "" expects it."""
        apply(storage, put("doc/a", ""))

        assert read(storage, "doc/a") == {"doc/a": ""}
        assert storage.write([Change(expect=[("doc/a", None)], put=[("doc/a", b"new")])]) == [False]
        assert storage.write([Change(expect=[("doc/a", "")], put=[("doc/a", b"new")])]) == [True]

    @pytest.mark.parametrize("text", ["h\u00e9llo \U0001f600!", "1", "1e3", "'\"\\", "a\0b", "\n", "[b]{a}%2F_*?"])
    def test_any_text_may_be_expected(self, storage: Storage, text: str) -> None:
        """Every character of an expected beginning is compared as itself."""
        apply(storage, put("doc/a", text + "rest"))

        assert storage.write([Change(expect=[("doc/a", text + "x")], put=[("doc/a", b"new")])]) == [False]
        assert storage.write([Change(expect=[("doc/a", text)], put=[("doc/a", b"new")])]) == [True]

    def test_all_expectations_must_hold(self, storage: Storage) -> None:
        """A change that expects several documents is refused if one expectation fails."""
        apply(storage, Change(put=[("doc/a", b"head"), ("page/a/1", b"page")]))
        holding = [("doc/a", "head"), ("page/a/1", "pa"), ("page/a/2", None)]
        failing = [("doc/a", None), ("doc/a", "x"), ("page/a/1", None), ("page/a/1", "x"), ("page/a/2", "")]

        for each in failing:
            for expect in ([*holding, each], [each, *holding], [holding[0], each]):
                assert storage.write([Change(expect=expect, put=[("doc/a", b"new")])]) == [False], expect
        assert read(storage, "doc/a") == {"doc/a": "head"}
        assert storage.write([Change(expect=holding, put=[("doc/a", b"new")])]) == [True]
        assert read(storage, "doc/a") == {"doc/a": "new"}

    def test_a_refused_change_leaves_all_as_it_was(self, storage: Storage) -> None:
        """A refused change puts, drops and lists nothing."""
        apply(storage, change("a", "r1", listed={"active": 1}, pages={"1": "one", "2/0": "two"}))
        texts, listed = all_texts(storage), all_listed(storage)
        stale = change(
            "a",
            "r3",
            "r2",
            listed={"archived": 3},
            was={"active": 1},
            pages={"3": "three"},
            drop=["page/a/1", "page/a/2/"],
        )

        assert storage.write([stale]) == [False]
        assert all_texts(storage) == texts
        assert all_listed(storage) == listed

    def test_of_changes_that_expect_the_same_the_first_is_applied(self, storage: Storage) -> None:
        """Of several changes in one write that expect the same document, only the first is applied."""
        apply(storage, change("a", "r1", listed={"active": 1}))
        changes = [
            change("a", "ours", "r1", listed={"active": 2}, was={"active": 1}),
            change("b", "ours", listed={"active": 3}),
            change("a", "theirs", "r1", listed={"active": 4}, was={"active": 1}),
            change("b", "theirs", listed={"active": 5}),
        ]

        assert storage.write(changes) == [True, True, False, False]
        assert all_texts(storage) == {
            "doc/a": document("ours", ("active", "a", 2)).decode(),
            "doc/b": document("ours", ("active", "b", 3)).decode(),
        }
        assert all_listed(storage) == [("active", "a", 2), ("active", "b", 3)]

    def test_of_several_changes_a_refused_one_refuses_no_other(self, storage: Storage) -> None:
        """The changes of one write are applied or refused one by one, in order."""
        apply(storage, *[change(place, "r1", listed={"active": n}) for n, place in enumerate("abcd")])

        changes = [
            change("a", "r2", "r1", listed={"active": 10}, was={"active": 0}),
            change("b", "r2", "r0", listed={"active": 11}, was={"active": 1}),
            Change(expect=[("doc/c", start("r1"))], drop=["doc/c"], lists=[Listing("active", "c", 2, None)]),
            change("d", "r2", listed={"archived": 13}, was={"active": 3}),
            change("e", "r1", listed={"active": 4}),
        ]

        assert storage.write(changes) == [True, False, True, False, True]
        assert all_texts(storage) == {
            "doc/a": document("r2", ("active", "a", 10)).decode(),
            "doc/b": document("r1", ("active", "b", 1)).decode(),
            "doc/d": document("r1", ("active", "d", 3)).decode(),
            "doc/e": document("r1", ("active", "e", 4)).decode(),
        }
        assert storage.scan("active") == [(1, "b"), (3, "d"), (4, "e"), (10, "a")]
        assert storage.scan("archived") == []


class Repeating(StorageFixtures):
    def test_a_change_that_is_written_again_counts_as_applied(self, storage: Storage) -> None:
        """If the document begins with `done`, the change counts as applied, whatever it expects."""
        first = change("a", "r1", listed={"active": 1})
        second = change("a", "r2", "r1", listed={"active": 2}, was={"active": 1})

        assert [storage.write([each]) for each in (first, first, second, second)] == [[True]] * 4
        assert storage.write([first]) == [False]
        assert read(storage, "doc/a") == {"doc/a": document("r2", ("active", "a", 2)).decode()}
        assert all_listed(storage) == [("active", "a", 2)]

    def test_a_change_that_is_written_again_changes_nothing(self, storage: Storage) -> None:
        """A repeated change leaves what was written to its place since."""
        first = change("a", "r1", pages={"1": "one"}, drop=["page/a/2", "page/a/3/"])
        apply(storage, first)
        apply(storage, Change(expect=[("doc/a", start("r1"))], put=[("page/a/2", b"two"), ("page/a/3/0", b"three")]))
        apply(storage, put("page/a/1", "another"))

        assert storage.write([first]) == [True]
        assert read(storage, "page/a/1", "page/a/2", "page/a/3/0") == {
            "page/a/1": "another",
            "page/a/2": "two",
            "page/a/3/0": "three",
        }

    def test_done_is_sought_in_the_first_expected_document_alone(self, storage: Storage) -> None:
        """`done` is compared with the first expected document, and with no other."""
        apply(storage, Change(put=[("doc/a", b"old"), ("page/a/1", b"done")]))
        both = [("doc/a", "old"), ("page/a/1", "done")]

        assert storage.write([Change(expect=both, done="done", put=[("page/a/2", b"new")])]) == [True]
        assert storage.write([Change(expect=[("doc/a", "x"), both[1]], done="done", put=[("doc/a", b"new")])]) == [
            False
        ]
        assert read(storage, "doc/a", "page/a/2") == {"doc/a": "old", "page/a/2": "new"}

    def test_a_deletion_that_is_written_again_is_refused(self, storage: Storage) -> None:
        """A repeated deletion is refused, and leaves a document that was created since."""
        apply(storage, change("a", "r1", listed={"active": 1}, pages={"1": "one"}))
        deletion = Change(
            expect=[("doc/a", start("r1"))], drop=["doc/a", "page/a/"], lists=[Listing("active", "a", 1, None)]
        )

        assert [storage.write([deletion]), storage.write([deletion])] == [[True], [False]]
        apply(storage, change("a", "r2", listed={"active": 2}))
        assert storage.write([deletion]) == [False]
        assert list(all_texts(storage)) == ["doc/a"]
        assert all_listed(storage) == [("active", "a", 2)]


class Dropping(StorageFixtures):
    def test_put_and_drop_are_done_in_order(self, storage: Storage) -> None:
        """Of two puts under one key the later counts. A drop comes after all puts."""
        apply(
            storage,
            Change(
                put=[("doc/a", b"first"), ("page/a/1", b"one"), ("page/a/2/0", b"two"), ("doc/a", b"second")],
                drop=["page/a/1", "page/a/2/"],
            ),
        )

        assert all_texts(storage) == {"doc/a": "second"}

    def test_a_key_that_is_not_there_can_be_dropped(self, storage: Storage) -> None:
        """Dropping an absent key is no error."""
        apply(storage, change("a", "r1", drop=["page/a/1", "page/a/2/", "page/a/"]))
        apply(storage, Change(drop=["doc/none", "page/none/"]))

        assert list(storage.keys()) == ["doc/a"]

    @pytest.mark.parametrize("dropped", ["page/a/1/", "page/a/", "page/a/10/", "page/a/1/0", "doc/a"])
    def test_a_slash_drops_all_below_and_no_neighbour(self, storage: Storage, dropped: str) -> None:
        """``page/a/1/`` drops all keys that begin so, not ``page/a/10/…``. Without the slash it is one key."""
        keys = ["doc/a", "doc/a0", "page/a", "page/a/1", *(f"page/a/{n}/{m}" for n in ("1", "10", "2") for m in (0, 1))]
        keys += [
            "page/a/1./0",
            "page/a/10",
            "page/a0",
            "page/a0/1/0",
            "page/ab/1/0",
            "PAGE/a/1/0",
            "page/A/1/0",
            "page/%25/1/0",
        ]
        keys += [f"namespace/n/{key}" for key in keys]
        for key in keys:
            apply(storage, put(key))

        apply(storage, Change(expect=[(dropped.rstrip("/") if dropped == "doc/a" else "page/a", "")], drop=[dropped]))

        gone = {key for key in keys if key == dropped or (dropped.endswith("/") and key.startswith(dropped))}
        assert sorted(set(storage.keys())) == sorted(set(keys) - gone)

    def test_all_below_is_dropped_however_much_it_is(self, storage: Storage) -> None:
        """A key that ends with a slash drops all documents below, even more than one command of a storage can drop."""
        apply(storage, Change(put=[(f"page/a/1/{n}", b"text") for n in range(1100)]), put("page/b/1/0"))

        apply(storage, Change(drop=["page/a/"]))

        assert list(storage.keys()) == ["page/b/1/0"]

    def test_what_was_read_can_be_put_as_it_is(self, storage: Storage) -> None:
        """A change may put a document just as `read` returned it. Documents are set aside like that."""
        for text in ('{"a":1}', "h\u00e9llo \U0001f600", "", "12"):
            apply(storage, put("doc/a", text))
            value = storage.read(["doc/a"])["doc/a"]

            moved = Change(expect=[("doc/a", "")], put=[("aside/a/t/doc", value)], drop=["doc/a"])
            assert storage.write([moved]) == [True]

            found = storage.read(["doc/a", "aside/a/t/doc"])
            assert {key: text_of(each) for key, each in found.items()} == {"aside/a/t/doc": text}
            assert found["aside/a/t/doc"] == value

    @pytest.mark.parametrize("lives", [0, None, 3_600_000])
    def test_a_place_lives_on_whatever_is_asked_of_it(self, storage: Storage, lives: int | None) -> None:
        """`lives` is the least time for which a place is kept. Until then it can be read as any other."""
        apply(storage, change("a", "r1", listed={"active": 1})._replace(lives=lives))
        apply(storage, Change(put=[("page/a/1", b"one")], lives=lives))

        assert sorted(all_texts(storage)) == ["doc/a", "page/a/1"]
        assert all_listed(storage) == [("active", "a", 1)]
