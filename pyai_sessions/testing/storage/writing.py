"""Rules of writing: what a change compares, how it is repeated, what it drops, and that it is all or nothing."""

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
        """A beginning is compared as it is; "" expects any document, None expects that there is none."""
        apply(storage, put("doc/a", "the text"))

        assert storage.write([Change(expect=[("doc/a", expected)], put=[("doc/a", b"new")])]) == [applied]
        assert read(storage, "doc/a") == {"doc/a": "new" if applied else "the text"}

    @pytest.mark.parametrize(("expected", "applied"), [(None, True), ("", False), ("the", False)])
    def test_a_change_may_expect_that_there_is_no_document(
        self, storage: Storage, expected: str | None, *, applied: bool
    ) -> None:
        """None holds where nothing lies, also where something lay; every text expects a document."""
        for key in ("doc/a", "doc/b"):
            apply(storage, put("doc/b"), put("page/a/1"))
            apply(storage, Change(drop=["doc/b"]))

            assert storage.write([Change(expect=[(key, expected)], put=[(key, b"new")])]) == [applied]
            assert read(storage, key) == ({key: "new"} if applied else {})

    def test_an_empty_document_is_a_document(self, storage: Storage) -> None:
        """It is read, and expected by "" alone."""
        apply(storage, put("doc/a", ""))

        assert read(storage, "doc/a") == {"doc/a": ""}
        assert storage.write([Change(expect=[("doc/a", None)], put=[("doc/a", b"new")])]) == [False]
        assert storage.write([Change(expect=[("doc/a", "")], put=[("doc/a", b"new")])]) == [True]

    @pytest.mark.parametrize("text", ["h\u00e9llo \U0001f600!", "1", "1e3", "'\"\\", "a\0b", "\n", "[b]{a}%2F_*?"])
    def test_any_text_may_be_expected(self, storage: Storage, text: str) -> None:
        """Whatever the text means elsewhere, it is compared as text."""
        apply(storage, put("doc/a", text + "rest"))

        assert storage.write([Change(expect=[("doc/a", text + "x")], put=[("doc/a", b"new")])]) == [False]
        assert storage.write([Change(expect=[("doc/a", text)], put=[("doc/a", b"new")])]) == [True]

    def test_all_expectations_must_hold(self, storage: Storage) -> None:
        """Of several expected keys of a place, one that does not hold refuses the change."""
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
        """It puts nothing, drops nothing and lists nothing."""
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
        """Writers of one place may come in one write: a later one does not replace what an earlier one put."""
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
        """Changes of several places are answered in their order, each for itself."""
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
        """Where the document begins with `done`, the expectation is not looked at."""
        first = change("a", "r1", listed={"active": 1})
        second = change("a", "r2", "r1", listed={"active": 2}, was={"active": 1})

        assert [storage.write([each]) for each in (first, first, second, second)] == [[True]] * 4
        assert storage.write([first]) == [False]
        assert read(storage, "doc/a") == {"doc/a": document("r2", ("active", "a", 2)).decode()}
        assert all_listed(storage) == [("active", "a", 2)]

    def test_a_change_that_is_written_again_changes_nothing(self, storage: Storage) -> None:
        """What followed it in the same place stays: documents that it put or dropped."""
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
        """Another document of the place that begins so says nothing."""
        apply(storage, Change(put=[("doc/a", b"old"), ("page/a/1", b"done")]))
        both = [("doc/a", "old"), ("page/a/1", "done")]

        assert storage.write([Change(expect=both, done="done", put=[("page/a/2", b"new")])]) == [True]
        assert storage.write([Change(expect=[("doc/a", "x"), both[1]], done="done", put=[("doc/a", b"new")])]) == [
            False
        ]
        assert read(storage, "doc/a", "page/a/2") == {"doc/a": "old", "page/a/2": "new"}

    def test_a_deletion_that_is_written_again_is_refused(self, storage: Storage) -> None:
        """It finds no document; what was created meanwhile stays, since it begins otherwise."""
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
        """A key that is put twice has the later document; a key that is put and dropped is gone."""
        apply(
            storage,
            Change(
                put=[("doc/a", b"first"), ("page/a/1", b"one"), ("page/a/2/0", b"two"), ("doc/a", b"second")],
                drop=["page/a/1", "page/a/2/"],
            ),
        )

        assert all_texts(storage) == {"doc/a": "second"}

    def test_a_key_that_is_not_there_can_be_dropped(self, storage: Storage) -> None:
        """Dropping leaves nothing there, so nothing there is no error."""
        apply(storage, change("a", "r1", drop=["page/a/1", "page/a/2/", "page/a/"]))
        apply(storage, Change(drop=["doc/none", "page/none/"]))

        assert list(storage.keys()) == ["doc/a"]

    @pytest.mark.parametrize("dropped", ["page/a/1/", "page/a/", "page/a/10/", "page/a/1/0", "doc/a"])
    def test_a_slash_drops_all_below_and_no_neighbour(self, storage: Storage, dropped: str) -> None:
        """``page/a/1/`` drops what begins so, and not ``page/a/10/…``; without a slash it drops one document."""
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
        """More documents than any storage drops at once; put in one change, too."""
        apply(storage, Change(put=[(f"page/a/1/{n}", b"text") for n in range(1100)]), put("page/b/1/0"))

        apply(storage, Change(drop=["page/a/"]))

        assert list(storage.keys()) == ["page/b/1/0"]

    def test_what_was_read_can_be_put_as_it_is(self, storage: Storage) -> None:
        """So a document is moved within its place, without a look at what it says."""
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
        """`lives` says how long a place is kept at the least; what is put with it is there."""
        apply(storage, change("a", "r1", listed={"active": 1})._replace(lives=lives))
        apply(storage, Change(put=[("page/a/1", b"one")], lives=lives))

        assert sorted(all_texts(storage)) == ["doc/a", "page/a/1"]
        assert all_listed(storage) == [("active", "a", 1)]
