"""Tests of reading: documents by key, all documents below a key, and the keys themselves."""

import json
import threading
from typing import Any

from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.testing.samples import VALUES
from pyai_sessions.testing.storage.fixtures import (
    PATIENCE,
    StorageFixtures,
    all_texts,
    apply,
    change,
    put,
    read,
)


class Reading(StorageFixtures):
    def test_a_new_storage_is_empty(self, storage: Storage) -> None:
        """The fixture returns an empty storage. Otherwise the other tests would prove nothing."""
        assert list(storage.keys()) == []
        assert list(storage.listings()) == []

    def test_a_document_is_read_by_its_key(self, storage: Storage) -> None:
        """A read returns one document per key, and leaves out keys without a document."""
        apply(storage, put("doc/a", "the text"))

        assert read(storage, "doc/a") == {"doc/a": "the text"}
        assert storage.read(["doc/b"]) == {}
        assert storage.read(["doc", "doc/a/", "doc/a/1", "page/a", "oc/a"]) == {}

    def test_many_documents_of_many_places_are_read_at_once(self, storage: Storage) -> None:
        """One read takes many keys of many places, in any order. A key may be given twice or have no document."""
        expected = {f"page/{place}/{n}": f"page {n} of {place}" for place in ("a", "b", "c") for n in range(200)}
        for place in ("a", "b", "c"):
            of_place = {key: text for key, text in expected.items() if key.startswith(f"page/{place}/")}
            apply(storage, Change(put=[(key, text.encode()) for key, text in of_place.items()]))

        keys = [key for n in range(201) for key in (f"page/c/{n}", f"page/a/{n}", f"page/b/{n}", f"page/d/{n}")]

        assert read(storage, *keys, "page/a/7") == expected

    def test_nothing_is_asked_and_nothing_changed(self, storage: Storage) -> None:
        """Empty arguments are accepted, and have no effect."""
        apply(storage, change("a", "r1", listed={"active": 1}))

        assert storage.read([]) == {}
        assert storage.write([]) == []
        assert list(storage.listings([])) == []

    def test_a_document_is_kept_as_it_is(self, storage: Storage) -> None:
        """Any text is read as it was written, with numbers, NULs and line ends."""
        lone = json.dumps({"content": "a lone \ud83d, escaped"})
        for name, text in {**VALUES, "lone surrogate": lone, "half a number": "1e3", "spaces only": "   "}.items():
            apply(storage, put("doc/a", text))

            assert read(storage, "doc/a") == {"doc/a": text}, name

    def test_a_big_document_is_kept_whole(self, storage: Storage) -> None:
        """A document may have a megabyte, and a short one may replace it."""
        big = "h\u00e9llo \U0001f600 " * 70_000
        apply(storage, put("doc/a", big))

        assert read(storage, "doc/a") == {"doc/a": big}

        apply(storage, put("doc/a", "small"))

        assert read(storage, "doc/a") == {"doc/a": "small"}

    def test_a_slash_reads_all_below_where_the_storage_is_ordered(self, storage: Storage) -> None:
        """``kind/place/`` returns the documents below, and no neighbour; none if the storage is not `ordered`."""
        below = {"page/a/1/0": "1", "page/a/1/1": "2", "page/a/10/0": "3", "page/a/2": "4"}
        neighbours = ["page/a", "page/a0", "page/a0/1", "page/a.", "page/b/1/0", "doc/a", "PAGE/a/1", "page/A/1"]
        for key, text in {**below, **dict.fromkeys(neighbours, "neighbour")}.items():
            apply(storage, put(key, text))

        ordered = storage.ordered

        assert read(storage, "page/a/") == (below if ordered else {})
        assert read(storage, "page/a/1/") == (
            {key: below[key] for key in ("page/a/1/0", "page/a/1/1")} if ordered else {}
        )
        assert read(storage, "doc/a", "page/a/", "page/b/") == {
            "doc/a": "neighbour",
            **({**below, "page/b/1/0": "neighbour"} if ordered else {}),
        }
        assert storage.read(["page/none/"]) == {}

    def test_documents_of_a_place_are_read_at_one_moment(self, storage: Storage, other: Storage) -> None:
        """A read never returns one document from before a change and another of the same place from after it."""
        apply(storage, change("a", "r0", pages={"1": "r0"}))
        seen: list[tuple[str, str]] = []
        ended = threading.Event()
        errors: list[BaseException] = []

        def read_on() -> None:
            try:
                while not ended.is_set() or not seen:
                    found = read(other, "page/a/1", "doc/a")
                    seen.append((json.loads(found["doc/a"])["revision"], found["page/a/1"]))
            except BaseException as err:  # noqa: BLE001 (shown by the test's own thread)
                errors.append(err)

        reader = threading.Thread(target=read_on)
        reader.start()
        try:
            for n in range(50):
                apply(storage, change("a", f"r{n + 1}", f"r{n}", pages={"1": f"r{n + 1}"}))
        finally:
            ended.set()
            reader.join(PATIENCE)

        assert errors == []
        assert [each for each in seen if each[0] != each[1]] == []


class Keys(StorageFixtures):
    def test_all_keys_are_listed(self, storage: Storage) -> None:
        """`keys` gives every key at least once, also of more documents than any storage reads at once."""
        keys = [f"page/p{n % 7}/{n}" for n in range(1100)]
        storage.write([Change(put=[(key, b"text") for key in keys if key.startswith(f"page/p{m}/")]) for m in range(7)])

        assert sorted(set(storage.keys())) == sorted(keys)

    def test_keys_are_listed_by_what_they_begin_with(self, storage: Storage) -> None:
        """`keys(prefix)` compares the prefix exactly: case counts, and nothing in it is a wildcard."""
        keys = [
            "doc/a",
            "doc/a0",
            "doc/ab",
            "doc/b",
            "page/a/1",
            "page/a/10",
            "page/a0/1",
            "page/%25/1",
            "Doc/a",
            "d/o",
        ]
        for key in keys:
            apply(storage, put(key))

        prefixes = [
            "",
            "d",
            "doc/",
            "doc/a",
            "page/a/",
            "page/a/1",
            "page/%",
            "page/_",
            "*",
            "doc/?",
            "none/",
            "doc/a/",
        ]

        for prefix in prefixes:
            assert sorted(set(storage.keys(prefix))) == sorted(key for key in keys if key.startswith(prefix)), prefix

    def test_foreign_keys_are_kept_and_listed(self, storage: Storage) -> None:
        """Documents of other programs, under keys of any text, are listed with the rest and can be read."""
        apply(storage, change("a", "r1"))
        for key in self.foreign_keys:
            apply(storage, put(key, f"of {key}"))

        texts = all_texts(storage)
        texts.pop("doc/a")

        assert texts == {key: f"of {key}" for key in self.foreign_keys}

    def test_no_key_is_taken_for_another(self, storage: Storage) -> None:
        """Places that look alike are different when they are read, compared or dropped."""
        places = self.hostile_places
        storage.write([change(place, place, listed={"active": n}) for n, place in enumerate(places)])

        assert sorted(set(storage.keys())) == sorted(f"doc/{place}" for place in places)
        assert all(json.loads(text)["revision"] == key[4:] for key, text in all_texts(storage).items())
        assert sorted(storage.listings()) == sorted(("active", place, n) for n, place in enumerate(places))

        gone = [Change(drop=[f"doc/{place}"]) for place in places[::2]]

        assert storage.write(gone) == [True] * len(gone)
        assert sorted(set(storage.keys())) == sorted(f"doc/{place}" for place in places[1::2])

    def test_no_key_is_missed_while_others_write(self, storage: Storage, other: Storage) -> None:
        """An iteration over keys gives each key that stays, whatever others put and drop meanwhile."""
        staying = [f"page/p{n:04}/1" for n in range(0, 1200, 2)]
        going = [f"page/p{n:04}/1" for n in range(1, 1200, 2)]
        storage.write([put(key) for key in staying + going])

        seen: set[str] = set()
        for n, key in enumerate(storage.keys("page/")):
            seen.add(key)
            if n % 5 == 0 and len(going) > 1:  # from both ends: in any order, later keys move up
                apply(other, *[Change(drop=[going.pop(end)]) for end in (0, -1)], put(f"page/new{n}/1"))

        assert sorted(seen & set(staying)) == staying

    def test_namespaces_lie_beside_plain_keys(self, storage: Storage) -> None:
        """Keys below ``namespace/<name>/`` name other documents and lists than the same keys without it."""
        unders = ["", "namespace/n/", "namespace/N/", "namespace/n0/", "namespace/a%2Fb/"]
        apply(storage, *[change("a", f"of {under}", listed={"active": 1}, under=under) for under in unders])
        apply(storage, *[change("b", f"of {under}", pages={"1": under}, under=under) for under in unders])

        for under in unders:
            keys = [f"{under}doc/a", f"{under}doc/b", f"{under}page/b/1"]
            found: dict[str, Any] = read(storage, *keys)
            assert list(found) == keys or sorted(found) == sorted(keys)
            assert json.loads(found[keys[0]])["revision"] == f"of {under}"
            assert sorted(set(storage.keys(f"{under}doc/"))) == keys[:2]
            assert storage.scan(f"{under}active") == [(1, "a")]
        apply(storage, Change(drop=["namespace/n/doc/b", "namespace/n/page/b/"]))
        assert sorted(set(storage.keys("namespace/n/"))) == ["namespace/n/doc/a"]
        assert len(set(storage.keys())) == 3 * len(unders) - 2
