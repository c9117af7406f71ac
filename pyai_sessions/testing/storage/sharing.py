"""Tests of sharing: two storages on the same data, concurrent writers, exclusive use, and closing."""

import json
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest

from pyai_sessions.errors import StorageClosedError, StorageLockedError
from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.testing.storage.fixtures import (
    PATIENCE,
    StorageFixtures,
    all_listed,
    all_texts,
    apply,
    change,
    document,
    put,
    read,
    start,
)


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """Run each function in a thread, all at the same time. Return their results, or raise the first error."""
    results: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(n: int) -> None:
        try:
            results[n] = works[n]()
        except BaseException as err:  # noqa: BLE001 (raised in the thread of the test)
            errors.append(err)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
        assert not each.is_alive()
    if errors:
        raise errors[0]
    return results


def need_exclusive(storage: Storage) -> None:
    """Skip the test if the storage, or the storage inside it, does not override `exclusive`."""
    if isinstance(storage.exclusive(), nullcontext):
        pytest.skip(f"{type(storage).__name__} has no way to keep other writers out")


class TwoStorages(StorageFixtures):
    def test_two_storages_see_each_others_writes_at_once(self, storage: Storage, other: Storage) -> None:
        """One storage sees at once what another put, changed and dropped, even if it had read before."""
        both = (storage, other)
        for each in both:
            assert (list(each.keys()), each.count("active"), list(each.keys("page/a/"))) == ([], 0, [])

        for n, writer in enumerate((storage, other, storage, other)):
            before = f"r{n}" if n else None
            apply(writer, change("a", f"r{n + 1}", before, listed={"active": n}, pages={f"{n}": "page"}))
            for each in both:
                assert json.loads(read(each, "doc/a")["doc/a"])["revision"] == f"r{n + 1}"
                assert each.scan("active") == [(n, "a")]
                assert each.count("active") == 1
                assert sorted(set(each.keys("page/a/"))) == [f"page/a/{m}" for m in range(n + 1)]

        apply(other, Change(drop=["doc/a", "page/a/"], lists=[Listing("active", "a", 3, None)]))
        for each in both:
            assert (all_texts(each), all_listed(each), list(each.keys("page/a/"))) == ({}, [], [])

    def test_what_was_written_is_there_when_it_is_opened_again(
        self, storage: Storage, reopen: Callable[[], Storage]
    ) -> None:
        """A storage that is opened later has all documents and lists."""
        apply(
            storage, *[change(place, "r1", listed={"active": n}, pages={"1": place}) for n, place in enumerate("abc")]
        )
        apply(storage, change("b", "r2", "r1", listed={"archived": 7}, was={"active": 1}))

        later = reopen()
        try:
            assert all_texts(later) == all_texts(storage)
            assert later.scan("active") == [(0, "a"), (2, "c")]
            assert later.scan("archived") == [(7, "b")]
            assert all_listed(later) == [("active", "a", 0), ("active", "c", 2), ("archived", "b", 7)]
        finally:
            later.close()

    def test_of_two_writers_of_one_place_one_is_first(self, storage: Storage, other: Storage) -> None:
        """Of two concurrent changes that expect the same document, one is applied and the other is refused."""
        apply(storage, change("a", "0", listed={"active": 0}))
        rounds, barrier = 30, threading.Barrier(2, timeout=PATIENCE)

        def writer(name: str, mine: Storage) -> list[bool]:
            applied: list[bool] = []
            for n in range(rounds):
                before = json.loads(read(mine, "doc/a")["doc/a"])["revision"]
                barrier.wait()
                (done,) = mine.write([change("a", f"{n + 1} {name}", before, listed={"active": n + 1})])
                applied.append(done)
                barrier.wait()
            return applied

        one, two = in_threads(lambda: writer("one", storage), lambda: writer("two", other))

        assert [a != b for a, b in zip(one, two, strict=True)] == [True] * rounds
        last = "one" if one[-1] else "two"
        assert json.loads(read(storage, "doc/a")["doc/a"])["revision"] == f"{rounds} {last}"
        assert all_listed(other) == [("active", "a", rounds)]

    def test_no_change_of_many_writers_is_lost(self, storage: Storage, other: Storage) -> None:
        """Many writers that retry refused changes count together without losing one."""
        names, rounds, barrier = "abcd", 8, threading.Barrier(4, timeout=PATIENCE)

        def writer(name: str, mine: Storage) -> None:
            for n in range(rounds):
                own: list[Change] = [change(name, f"{n + 1}", f"{n}" if n else None, listed={"active": n})]
                found = read(mine, "doc/all").get("doc/all")
                barrier.wait()  # all writers have read the same document, so all but one are refused
                while True:
                    number = json.loads(found)["revision"] if found else "0"
                    common = change("all", f"{int(number) + 1}", number if found else None, pages={f"{name}.{n}": name})
                    applied, *_ = mine.write([common._replace(done=None), *own])
                    if applied:
                        break
                    own = []
                    found = read(mine, "doc/all").get("doc/all")
                barrier.wait()

        storages = (storage, other, storage, other)
        in_threads(*[partial(writer, name, mine) for name, mine in zip(names, storages, strict=True)])

        assert json.loads(read(storage, "doc/all")["doc/all"])["revision"] == str(len(names) * rounds)
        pages = sorted(f"page/all/{name}.{n}" for name in names for n in range(rounds))
        assert sorted(set(other.keys("page/all/"))) == pages
        assert storage.scan("active") == [(rounds - 1, name) for name in names]


class Exclusive(StorageFixtures):
    def test_no_other_writes_in_exclusive_use(self, storage: Storage, other: Storage) -> None:
        """Another writer's change comes before or after everything that is written inside."""
        need_exclusive(storage)
        apply(storage, change("a", "r0"))
        ended = threading.Event()

        def write() -> None:
            apply(other, put("doc/a", document("theirs")))
            ended.set()

        thread = threading.Thread(target=write)
        with storage.exclusive():
            before = read(storage, "doc/a")
            thread.start()
            assert not ended.wait(0.1)
            assert read(storage, "doc/a") == before
            apply(storage, change("a", "r1", "r0", listed={"active": 1}))
            apply(storage, change("b", "r1", listed={"active": 2}))
        thread.join(PATIENCE)

        assert ended.is_set()
        assert json.loads(read(storage, "doc/a")["doc/a"])["revision"] == "theirs"
        assert "doc/b" in read(other, "doc/b")

    def test_what_is_written_in_exclusive_use_is_one_step(self, storage: Storage, other: Storage) -> None:
        """Other readers see all of what is written inside, or nothing. Inside, it can be read at once."""
        need_exclusive(storage)
        seen: list[dict[str, str]] = []
        reading = threading.Event()

        def look() -> None:
            reading.set()
            seen.append(read(other, "doc/a", "doc/b"))

        thread = threading.Thread(target=look)
        with storage.exclusive():
            apply(storage, change("a", "r1", listed={"active": 1}))
            thread.start()
            assert reading.wait(PATIENCE)
            thread.join(0.1)  # long enough for a reader that could see half of it
            apply(storage, change("b", "r1", listed={"active": 2}))
            assert sorted(read(storage, "doc/a", "doc/b")) == ["doc/a", "doc/b"]
            assert storage.scan("active") == [(1, "a"), (2, "b")]
            assert storage.write([change("a", "r2", "r0")]) == [False]
        thread.join(PATIENCE)

        assert [sorted(each) for each in seen] in ([[]], [["doc/a", "doc/b"]])
        assert sorted(read(other, "doc/a", "doc/b")) == ["doc/a", "doc/b"]
        assert other.scan("active") == [(1, "a"), (2, "b")]

    def test_exclusive_use_ends_with_an_error(self, storage: Storage, other: Storage) -> None:
        """An error inside is raised, and others can write again. What was refused inside stays refused."""
        need_exclusive(storage)

        def fail() -> None:
            with storage.exclusive():
                apply(storage, change("a", "r1"))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()

        apply(other, put("doc/b"))
        apply(storage, put("doc/c"))
        with storage.exclusive():
            apply(storage, put("doc/d"))

        assert {"doc/b", "doc/c", "doc/d"} <= set(storage.keys())

    def test_a_wait_for_others_has_a_deadline(self, storage: Storage, impatient: Any) -> None:
        """A writer that waits longer than its timeout raises StorageLockedError, and writes nothing."""
        if impatient is None:
            pytest.skip(f"{type(storage).__name__} has no fixture `impatient`")
        hasty = impatient()
        try:
            apply(hasty, put("doc/b", "before"))
            with storage.exclusive():
                apply(storage, change("a", "r1"))

                def write() -> None:
                    with pytest.raises(StorageLockedError):
                        hasty.write([put("doc/b", "theirs")])

                in_threads(write)
            assert read(storage, "doc/b") == {"doc/b": "before"}
            apply(hasty, put("doc/b", "after"))
            assert read(storage, "doc/b") == {"doc/b": "after"}
        finally:
            hasty.close()


class Closing(StorageFixtures):
    def test_a_closed_storage_says_so(self, storage: Storage) -> None:
        """After `close` every call raises StorageClosedError, except `close` and `mend`."""
        apply(storage, change("a", "r1", listed={"active": 1}))
        storage.close()

        for act in (
            lambda: storage.read(["doc/a"]),
            lambda: storage.write([put("doc/a")]),
            lambda: list(storage.keys()),
            lambda: list(storage.keys("doc/")),
            lambda: storage.scan("active"),
            lambda: storage.count("active"),
            lambda: list(storage.listings()),
            lambda: list(storage.listings([("active", "a")])),
        ):
            with pytest.raises(StorageClosedError):
                act()
        storage.mend()
        storage.close()

    def test_a_closed_storage_closes_no_other(self, storage: Storage, other: Storage) -> None:
        """A second storage on the same data keeps working."""
        apply(storage, change("a", "r1", listed={"active": 1}))
        storage.close()

        apply(other, change("a", "r2", "r1", listed={"active": 2}, was={"active": 1}))

        assert other.scan("active") == [(2, "a")]

    def test_mending_what_is_whole_changes_nothing(self, storage: Storage) -> None:
        """`mend` may be called at any time. It raises nothing, and changes nothing that is sound."""
        storage.mend()
        apply(storage, change("a", "r1", listed={"active": 1}))
        storage.mend()

        assert storage.write([change("a", "r2", "r1", listed={"active": 2})]) == [True]
        assert storage.write([Change(expect=[("doc/a", start("r1"))], drop=["doc/a"])]) == [False]
        storage.mend()
        assert all_listed(storage) == [("active", "a", 2)]
