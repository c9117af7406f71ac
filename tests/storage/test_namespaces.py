"""Tests that each namespace of a storage behaves like a separate storage."""

from collections import UserDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import SessionManager
from pyai_sessions.documents.keys import namespace_prefix
from pyai_sessions.storage.names import place_of, split_namespace
from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.storage.wrappers import Counted, Namespaced, Wrapper
from pyai_sessions.testing.storage import StorageContract
from tests.storage.plain import Data, PlainStorage

UNDERS = ["", namespace_prefix("a"), namespace_prefix("a/b")]

KEYS = ["doc/a", "doc/b", "page/a/1", "page/a/1/0", "page/a/2", "a"]
LISTS = ["active", "user/ada/active", "a"]
ODD = ["namespace", "namespace/", "namespace/a", "namespace//doc/a", "namespace/a b/doc/a", "namespace/%61/doc/a"]
"""Keys that look like those of a namespace, but belong to the part without one."""

keys = st.sampled_from(KEYS)
starts = st.none() | st.sampled_from(["", "0", "1"])
listings = st.builds(Listing, st.sampled_from(LISTS), st.sampled_from("ab"), st.none(), st.none() | st.integers(0, 3))
changes = st.builds(
    Change,
    expect=st.lists(st.tuples(keys, starts), max_size=2),
    done=st.none(),
    lives=st.just(0),
    put=st.lists(st.tuples(keys, st.sampled_from([b"0", b"1"])), max_size=3),
    drop=st.lists(keys | st.sampled_from(["page/a/", "page/a/1/", "doc/"]), max_size=2),
    lists=st.lists(listings, max_size=3),
)


def state(storage):
    """Return everything that a storage shows."""
    return {
        "documents": storage.read(sorted(set(storage.keys()))),
        "keys": [sorted(storage.keys(prefix)) for prefix in ("", "doc/", "page/a/", "n", "namespace/")],
        "below": storage.read(["doc/a", "page/a/", "page/a/1/"]),
        "lists": [[storage.scan(each), storage.scan(each, (1, "a")), storage.count(each)] for each in LISTS],
        "newest": [storage.scan(each, (2, "b"), 2, newest_first=True) for each in LISTS],
        "listings": [sorted(storage.listings(prefix=each)) for each in ("", "a", "user/", "namespace/")],
        "of": sorted(storage.listings([("active", "a"), ("user/ada/active", "b"), ("none", "a")])),
    }


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2), changes), max_size=12))
def test_parts_of_one_storage_are_as_storages_of_their_own(steps):
    """A namespace answers any writes like a separate storage, and others do not change."""
    inner = PlainStorage()
    parts = [Namespaced(inner, under) for under in UNDERS]
    models = [PlainStorage() for _ in UNDERS]

    for n, change in steps:
        assert parts[n].write([change]) == models[n].write([change])

    assert [state(each) for each in parts] == [state(each) for each in models]


def test_what_only_looks_like_a_namespace_is_of_the_part_without_one():
    """A key whose namespace is not encoded belongs to the part without one."""
    inner = PlainStorage()
    for key in ODD:
        assert inner.write([Change(put=[(key, b"foreign")], lists=[Listing(key, "m", None, 1)])]) == [True]
    plain, *others = [Namespaced(inner, under) for under in UNDERS]

    assert sorted(plain.keys()) == sorted(ODD)
    assert sorted(plain.listings()) == sorted((each, "m", 1) for each in ODD)
    assert [list(each.keys()) for each in others] == [[], []]
    assert [split_namespace(each) for each in ODD] == [("", each) for each in ODD]


def test_a_repeated_change_counts_as_applied_in_a_namespace():
    """`done` and `lives` are passed to the storage."""
    seen = []

    class Watched(PlainStorage):
        def write(self, changes):
            seen.extend(changes)
            return super().write(changes)

    part = Namespaced(Watched(), UNDERS[1])
    change = Change(expect=[("doc/a", None)], done="1", put=[("doc/a", b"1")], lives=None)

    assert [part.write([change]), part.write([change])] == [[True], [True]]
    assert [each.lives for each in seen] == [None, None]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("session/s", "s"),
        ("messages/s/g/0", "s"),
        ("namespace/a/messages/s/g/0", "namespace/a/s"),
        ("namespace/a", "a"),
        ("foreign", ""),
        ("namespace/a/foreign", "namespace/a/"),
    ],
)
def test_a_place_is_the_second_part_of_a_key(key, place):
    """A place is the second part of a key, after the namespace. Keys without a slash share one."""
    assert place_of(key) == place


class TestANamespace(StorageContract):
    @pytest.fixture
    def data(self):
        return Data()

    @pytest.fixture
    def reopen(self, data):
        return lambda **options: Namespaced(PlainStorage(data, **options), UNDERS[2])

    @pytest.fixture
    def storage(self, reopen):
        return reopen()

    @pytest.fixture
    def impatient(self, reopen):
        return lambda: reopen(timeout=0.1)


class TestOneThatCounts(TestANamespace):
    """A storage that counts calls is otherwise like the one inside."""

    @pytest.fixture
    def reopen(self, data):
        return lambda **options: Counted(PlainStorage(data, **options))


# What wrappers leave to the storage within ----------------------------------------------------------------------------

SAID = [name for name, value in vars(Storage).items() if not name.startswith("_") and not callable(value)]
DONE = [name for name, value in vars(Storage).items() if not name.startswith("_") and callable(value)]


@pytest.mark.parametrize("name", SAID)
def test_a_wrapped_storage_is_what_the_one_within_says_of_itself(name):
    """A wrapper has the attributes of the storage inside."""
    inner, said = PlainStorage(), object()
    setattr(inner, name, said)

    assert getattr(Namespaced(inner, ""), name) is said


@pytest.mark.parametrize("kind", [Namespaced, Counted])
def test_a_wrapped_storage_does_all_by_the_one_within(kind):
    """A wrapper overrides every method of the protocol."""
    assert [name for name in DONE if name not in {**vars(Wrapper), **vars(kind)}] == []


def test_a_wrapper_holds_and_closes_the_storage_within():
    """Closing a wrapper closes the storage inside."""
    calls = []

    class Watched(PlainStorage):
        def mend(self):
            calls.append("mend")

        def close(self):
            calls.append("close")

        def exclusive(self):
            calls.append("exclusive")
            return super().exclusive()

    part = Namespaced(Watched(), UNDERS[1])

    with part.exclusive():
        part.mend()
    part.close()

    assert calls == ["exclusive", "mend", "close"]


class Walked(UserDict):
    """A mapping that counts the walks through its keys."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def test_a_new_tenant_costs_no_walk_through_the_keys_of_all_others():
    """A mapping that has no lists of its own is walked once for all namespaces that come after."""
    mapping = Walked()
    manager = SessionManager(mapping)
    for n in range(50):
        tenant = manager.namespace(f"tenant {n}")
        tenant.create_session("ada")
        tenant.create_session("ada")
        assert (tenant.count("ada"), len(tenant.list_sessions("ada"))) == (2, 2)
        assert manager.namespace(f"nobody {n}").count() == 0

    assert mapping.walks < 10
    assert [SessionManager(dict(mapping)).namespace(f"tenant {n}").count() for n in (0, 7, 49)] == [2, 2, 2]
    assert manager.verify().problems == []
