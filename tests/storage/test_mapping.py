"""Tests of MappingStorage: the contract on all kinds of mappings, and what it does not cover."""

import dbm.dumb
import errno
import shelve

import pytest

from pyai_sessions.errors import (
    StorageFullError,
    UnsuitableMappingError,
)
from pyai_sessions.storage.derived import Lists
from pyai_sessions.storage.mapping import MappingStorage
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.testing.storage import StorageContract, change, derive
from pyai_sessions.testing.storage.fixtures import all_listed, apply, put, start
from tests.storage.mappings import BytesAlone, Folder, Watched, open_storage


class OfMapping(StorageContract):
    shared = False

    @pytest.fixture
    def reopen(self, mapping):
        return lambda: MappingStorage(mapping, derive=derive, timeout=30.0, shared=self.shared)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()

    @pytest.fixture
    def impatient(self, mapping):
        return lambda: MappingStorage(mapping, derive=derive, timeout=0.1, shared=self.shared)


class TestDict(OfMapping):
    @pytest.fixture
    def mapping(self):
        return {}


class TestBytesAlone(OfMapping):
    @pytest.fixture
    def mapping(self):
        return BytesAlone()


@pytest.mark.long
class TestShelf(OfMapping):
    """The dbm file of a shelf, without the shelf's pickles."""

    @pytest.fixture
    def mapping(self, tmp_path):
        with shelve.Shelf(dbm.dumb.open(str(tmp_path / "chat"))) as shelf:
            yield shelf.dict


class TestFolder(OfMapping):
    def takes_key(self, key):
        return 0 < len(key.encode("utf-8", "surrogatepass")) * 3 < 250 and key not in (".", "..")

    @pytest.fixture
    def mapping(self, tmp_path):
        return Folder(tmp_path / "chat")


@pytest.mark.long
class TestSharedFolder(TestFolder):
    """A folder that other processes write, so lists are derived each time."""

    shared = True

    @pytest.mark.xfail(reason="lists are what the documents say, at each scan")
    def test_a_list_changes_without_a_document(self, storage):
        super().test_a_list_changes_without_a_document(storage)


# What the mapping is asked --------------------------------------------------------------------------------------------


def test_a_change_puts_in_order_then_drops_in_order_then_asks_the_mapping_to_keep_it():
    """A change puts, drops, then flushes, so that an interruption leaves the old or the new document."""
    mapping = Watched()
    storage = open_storage(mapping)
    apply(storage, Change(put=[("page/a/1/0", b"old"), ("page/a/0", b"old"), ("doc/a", b"old")]))
    mapping.take_log()

    change = Change(
        expect=[("doc/a", "old")],
        put=[("page/a/3", b"new"), ("page/a/2", b"new"), ("doc/a", b"new")],
        drop=["page/a/1/0", "page/a/0"],
    )
    apply(storage, change)

    assert mapping.take_log() == [
        ("get", "doc/a"),
        ("put", "page/a/3"),
        ("put", "page/a/2"),
        ("put", "doc/a"),
        ("drop", "page/a/1/0"),
        ("drop", "page/a/0"),
        ("sync",),
    ]


@pytest.mark.parametrize("name", ["sync", "commit"])
def test_a_mapping_is_asked_once_a_write_to_keep_what_was_written(name):
    """Each write that applied a change calls `sync` or `commit` once. Reads and refused writes do not."""
    calls = []
    mapping = type("Buffered", (dict,), {name: lambda self: calls.append(len(self))})()
    storage = open_storage(mapping)

    apply(storage, *[change(place, "r1") for place in "abc"])
    storage.write([change("a", "r3", "r2")])
    storage.read(["doc/a"])
    storage.write([change("a", "r3", "r2"), Change(drop=["doc/b"])])

    assert calls == [3, 2]


def test_a_change_is_kept_by_its_repetition_when_the_mapping_failed_to_keep_it():
    """A repeated change flushes again, even if it was applied before."""
    mapping = Watched()
    storage = open_storage(mapping)
    saved = change("a", "r1", listed={"active": 1})
    mapping.fail(OSError(errno.ENOSPC, "No space left on device"), nth=3)

    with pytest.raises(StorageFullError):
        storage.write([saved])
    assert mapping.take_log()[-1] == ("sync",)
    assert storage.write([saved]) == [True]

    assert mapping.take_log() == [("get", "doc/a"), ("sync",)]
    assert storage.scan("active") == [(1, "a")]


def test_bytes_or_text_is_found_out_once_and_leaves_nothing():
    """A trial finds out whether a mapping takes bytes or text, and leaves nothing behind."""
    mapping = BytesAlone()
    storage = open_storage(mapping)

    apply(storage, put("doc/a", "h\u00e9llo"))
    apply(storage, put("doc/b", "b"))

    assert mapping.items_ == {b"doc/a": "h\u00e9llo".encode(), b"doc/b": b"b"}
    assert mapping.refused == 1


@pytest.mark.parametrize(
    "changed",
    [str.upper, lambda value: value[:10], lambda value: None, lambda value: {"a": value}],
    ids=["shouts", "cuts", "forgets", "wraps"],
)
def test_a_mapping_that_gives_back_something_else_is_refused_at_the_first_write(tmp_path, changed):
    """A mapping that changes values raises at the first write, and nothing is left in it."""
    items = {}

    class Changing(Folder):
        def __getitem__(self, key):
            return items[key]

        def __setitem__(self, key, value):
            items[key] = changed(value if isinstance(value, str) else value.decode())

        def __delitem__(self, key):
            del items[key]

        def __iter__(self):
            return iter(list(items))

    with pytest.raises(UnsuitableMappingError, match="a mapping that keeps text is needed"):
        open_storage(Changing(tmp_path / "chat")).write([put("doc/a")])

    assert items == {}


def test_a_mapping_that_cuts_bytes_is_refused_at_the_first_write():
    """A mapping that shortens bytes raises at the first write."""

    class Cutting(BytesAlone):
        def __setitem__(self, key, value):
            super().__setitem__(key, value[:10])

    mapping = Cutting()

    with pytest.raises(UnsuitableMappingError):
        open_storage(mapping).write([put("doc/a")])

    assert mapping.items_ == {}


@pytest.mark.parametrize("value", [b"\xff\xfe", bytearray(b"a"), 12, 1.5, {"a": 1}, ["text"]], ids=repr)
def test_what_is_no_document_is_read_compared_and_put_back_as_it_is(value):
    """Another program's value can be moved as it is, and replaced by a change that expects any document."""
    mapping = {"doc/a": value}
    storage = open_storage(mapping)
    found = storage.read(["doc/a"])["doc/a"]

    assert storage.write([Change(expect=[("doc/a", None)], put=[("doc/a", b"new")])]) == [False]
    assert storage.write([Change(expect=[("doc/a", '{"revision"')], put=[("doc/a", b"new")])]) == [False]
    apply(storage, Change(expect=[("doc/a", "")], put=[("aside/a/t/doc", found)], drop=["doc/a"]))
    assert mapping == {"aside/a/t/doc": value}
    assert type(mapping["aside/a/t/doc"]) is type(value)
    assert all_listed(storage) == []


def test_none_is_no_document():
    """None counts as an absent document."""
    storage = open_storage({"doc/a": None})

    assert storage.read(["doc/a"]) == {}
    assert storage.write([Change(expect=[("doc/a", "")], put=[("doc/a", b"new")])]) == [False]
    assert storage.write([Change(expect=[("doc/a", None)], put=[("doc/a", b"new")])]) == [True]


def test_a_foreign_key_that_ends_with_a_slash_is_not_read():
    """A key that ends with a slash means all below, and is not read itself."""
    assert open_storage({"page/a/": "foreign", "page/a/1": "text"}).read(["page/a/", "page/a/1"]) == {
        "page/a/1": "text"
    }


def test_keys_that_are_no_text_are_left_alone():
    """Keys in bytes are listed as text. Other keys are ignored."""
    mapping = {1: "a", ("doc", "a"): "b", None: "c", b"raw/b/1": "d", b"\xff/b": "e", "doc/a": "f"}
    storage = open_storage(mapping)

    assert sorted(storage.keys()) == ["doc/a", "raw/b/1", "\ufffd/b"]
    assert sorted(storage.keys("raw/b/")) == ["raw/b/1"]
    assert all_listed(storage) == []
    apply(storage, Change(drop=["doc/a", "doc/a/"]))
    assert len(mapping) == 5


# What is known without a walk -----------------------------------------------------------------------------------------


def test_lists_are_made_of_the_documents_at_the_first_scan():
    """The first scan reads each head once. Later changes update the lists."""
    first = open_storage({})
    apply(first, *[change(place, "r1", listed={"active": n}, pages={"1": "p"}) for n, place in enumerate("abc")])
    mapping = Watched(first._mapping)
    storage = open_storage(mapping)

    assert storage.scan("active") == [(0, "a"), (1, "b"), (2, "c")]
    assert mapping.take_log() == [("walk",), ("get", "doc/a"), ("get", "doc/b"), ("get", "doc/c")]
    apply(storage, change("a", "r2", "r1", listed={"archived": 9}, was={"active": 0}))
    apply(storage, Change(drop=["doc/b"], lists=[Listing("active", "b", 1, None)]))
    mapping.take_log()

    assert (storage.scan("active"), storage.scan("archived")) == ([(2, "c")], [(9, "a")])
    assert (storage.count("active"), storage.count("none")) == (1, 0)
    assert all_listed(open_storage(mapping)) == [("active", "c", 2), ("archived", "a", 9)]
    assert [each for each in mapping.take_log() if each[0] == "get"] == []


def test_the_lists_of_one_namespace_are_made_of_its_documents_alone():
    """The first scan of a namespace reads only its own documents. All namespaces together take one walk."""
    first = open_storage({})
    unders = ["", "namespace/n/", "namespace/m/"]
    apply(first, *[change("a", "r1", listed={"active": n}, under=under) for n, under in enumerate(unders)])
    mapping = Watched(first._mapping)
    storage = open_storage(mapping)

    for n, under in enumerate(unders):
        mapping.take_log()
        assert storage.scan(f"{under}active") == [(n, "a")]
        assert list(storage.listings(prefix=f"{under}active")) == [(f"{under}active", "a", n)]
        assert mapping.take_log() == [("walk",)] * (n == 0) + [("get", f"{under}doc/a")]


def test_the_lists_of_a_namespace_have_what_was_written_before_their_first_scan():
    """Lists of a namespace that are first asked for late hold all its writes. What was dropped is not read."""
    under, new = "namespace/n/", "namespace/new/"
    first = open_storage({})
    apply(first, *[change(place, "r1", listed={"active": n}, under=under) for n, place in enumerate("ab")])
    mapping = Watched(first._mapping)
    storage = open_storage(mapping)
    assert storage.count("active") == 0

    apply(storage, change("c", "r1", listed={"active": 2}, under=under))
    apply(storage, Change(drop=[f"{under}doc/a"], lists=[Listing(f"{under}active", "a", 0, None)]))
    apply(storage, change("b", "r2", "r1", listed={"active": 5}, was={"active": 1}, under=under))
    apply(storage, change("a", "r1", listed={"active": 7}, under=new))
    mapping.take_log()

    assert storage.scan(f"{under}active") == [(2, "c"), (5, "b")]
    assert storage.scan(f"{new}active") == [(7, "a")]
    assert sorted(mapping.take_log()) == [("get", f"{under}doc/b"), ("get", f"{under}doc/c"), ("get", f"{new}doc/a")]


@pytest.mark.parametrize(
    "prefix", ["", "n", "namespace/", "namespace/n", "namespace/n/", "namespace/n/a", "a", "namespace/m"]
)
def test_lists_of_namespaces_are_told_at_once_whatever_begins_their_names(prefix):
    """`listings` of a namespace are right at the first call, also without documents."""
    unders = ["", "namespace/n/", "namespace/n0/"]
    first = open_storage({})
    apply(first, *[change("a", "r1", listed={"active": n}, under=under) for n, under in enumerate(unders)])
    storage = open_storage(dict(first._mapping))
    listed = [(f"{under}active", "a", n) for n, under in enumerate(unders)]

    assert sorted(storage.listings(prefix=prefix)) == [each for each in listed if each[0].startswith(prefix)]

    assert storage.count("namespace/m/active") == 0
    apply(storage, Change(expect=[("namespace/m/doc/a", None)], lists=[Listing("namespace/m/active", "a", None, 5)]))
    listed = sorted([*listed, ("namespace/m/active", "a", 5)])
    assert sorted(storage.listings(prefix=prefix)) == [each for each in listed if each[0].startswith(prefix)]


def test_what_lies_below_a_place_is_found_without_a_walk_after_the_first_one():
    """After the first iteration, keys below a place are known, and changes keep them up to date."""
    mapping = Watched(
        {f"ref/p{n}/{m}": "text" for n in range(50) for m in range(3)} | {"ref/p1": "no", "ref/p10/0": "x"}
    )
    storage = open_storage(mapping)
    assert sorted(storage.keys("ref/p1/")) == ["ref/p1/0", "ref/p1/1", "ref/p1/2"]
    assert ("walk",) in mapping.take_log()

    apply(storage, Change(put=[("ref/p1/3", b"new"), ("ref/new/0", b"new")], drop=["ref/p1/0"]))
    assert sorted(storage.keys("ref/p1/")) == ["ref/p1/1", "ref/p1/2", "ref/p1/3"]
    assert list(storage.keys("ref/new/")) == ["ref/new/0"]
    apply(storage, Change(drop=["ref/p1/", "ref/p2/1", "ref/none/"]))
    assert list(storage.keys("ref/p1/")) == []
    assert sorted(storage.keys("ref/p2/")) == ["ref/p2/0", "ref/p2/2"]
    assert sorted(storage.keys("ref/p3/1")) == ["ref/p3/1"]

    assert ("walk",) not in mapping.take_log()
    assert "ref/p1" in mapping


def test_a_walk_through_all_keys_renews_what_is_known_of_them():
    """An iteration over all keys finds what others wrote."""
    mapping = {"ref/a/1": "text"}
    storage = open_storage(mapping)
    assert list(storage.keys("ref/a/")) == ["ref/a/1"]
    del mapping["ref/a/1"]
    mapping["ref/a/2"] = "text"

    assert list(storage.keys()) == ["ref/a/2"]
    assert list(storage.keys("ref/a/")) == ["ref/a/2"]


def test_storages_over_one_mapping_share_what_they_know():
    """Storages on one mapping share their lists. Equal mappings do not."""
    mapping = {}
    one, two, another = open_storage(mapping), open_storage(mapping), open_storage({})
    assert (one.count("active"), two.count("active"), list(two.keys("page/a/"))) == (0, 0, [])

    apply(one, change("a", "r1", listed={"active": 1}, pages={"1": "p"}))
    apply(two, change("b", "r1", listed={"active": 2}))

    assert one.scan("active") == two.scan("active") == [(1, "a"), (2, "b")]
    assert list(two.keys("page/a/")) == ["page/a/1"]
    assert another.count("active") == 0


def test_what_is_known_does_not_outlive_its_mapping():
    """A new dict at the same address in memory starts without lists."""
    for _ in range(50):
        storage = open_storage({})
        assert storage.count("active") == 0
        apply(storage, change("a", "r1", listed={"active": 1}))
        assert storage.count("active") == 1


def test_a_shared_mapping_lists_what_other_processes_wrote(tmp_path):
    """With `shared=True` each scan and look-up reads the mapping."""
    folder = Folder(tmp_path / "chat")
    ours, plain = open_storage(folder, shared=True), open_storage(Folder(tmp_path / "chat"))
    theirs = open_storage(Folder(tmp_path / "chat"))  # as in another process: another object
    for each in (ours, plain):
        assert (each.count("active"), list(each.keys("page/a/"))) == (0, [])

    apply(theirs, change("a", "r1", listed={"active": 1}, pages={"1": "p"}))

    assert ours.scan("active") == list(zip([1], ["a"], strict=True))
    assert list(ours.listings(prefix="act")) == [("active", "a", 1)]
    assert list(ours.keys("page/a/")) == ["page/a/1"]
    apply(ours, Change(expect=[("doc/a", start("r1"))], drop=["page/a/"]))
    assert list(theirs.keys()) == ["doc/a"]
    assert plain.scan("active") == []
    assert (ours.settle, plain.settle) == (10.0, 0.0)


def test_lists_do_not_grow_with_moves():
    """A list's memory stays below twice its entries, however often members move."""
    lists = Lists()
    for n in range(5000):
        lists.move("active", f"m{n % 10}", n)
        lists.move("active", f"gone{n}", n)
        lists.move("active", f"gone{n}", None)

    order = lists._orders["active"]
    assert len(order.scores) == 10
    assert len(order._positions) <= 2 * 10 + 16
    assert lists.scan("active", None, 100, newest_first=False) == [(n, f"m{n % 10}") for n in range(4990, 5000)]


def test_removed_members_are_not_passed_over_for_ever():
    """A list that is emptied from its start stays cheap to scan."""
    lists = Lists()
    for n in range(2000):
        lists.move("active", f"m{n}", n)
    for n in range(1990):
        lists.move("active", f"m{n}", None)

    assert len(lists._orders["active"]._positions) <= 2 * 10 + 16
    for n in range(1990, 2000):
        lists.move("active", f"m{n}", None)
    assert lists._orders == {}
