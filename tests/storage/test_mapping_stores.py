"""Tests of stores in any mapping: what is refused, what stores share, and failures."""

import shelve
import types
import weakref
from urllib.parse import quote, unquote

import pytest
import zict

from pyai_sessions import (
    KVSessionStore,
    Session,
    SessionManager,
    StorageError,
    UnsuitableMappingError,
)
from tests.processes import run_python


def talk(store, session_id="s", user_id="ada", count=1):
    session = Session(session_id=session_id, user_id=user_id)
    for n in range(count):
        session.add_message("user", f"message {n}")
    store.save(session)
    return session


class Folder:
    """A mapping with a file per item, for any number of processes."""

    def __init__(self, path):
        self.path = path
        path.mkdir(exist_ok=True)

    def __getitem__(self, key):
        try:
            return (self.path / quote(key, safe="")).read_text("utf-8")
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key, value):
        new = self.path / "new"
        new.write_text(value, "utf-8")
        new.replace(self.path / quote(key, safe=""))

    def __delitem__(self, key):
        try:
            (self.path / quote(key, safe="")).unlink()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self):
        return iter([unquote(each.name) for each in self.path.iterdir() if each.name != "new"])


ANOTHER_PROCESS = """
    import pathlib, sys
    from pyai_sessions import KVSessionStore
    from tests.storage.test_mapping_stores import Folder, talk
    talk(KVSessionStore(Folder(pathlib.Path(sys.argv[1]))), sys.argv[2])
"""


# What is refused ------------------------------------------------------------------------------------------------------


class _Cache(dict):
    """Resembles cachetools' caches: a class Cache of that package, from which others derive."""


_Cache.__name__ = "Cache"
_Cache.__module__ = "cachetools"
_LRUCache = type("LRUCache", (_Cache,), {"__module__": "cachetools"})


@pytest.mark.parametrize(
    "mapping",
    [
        zict.LRU(10, {}),
        zict.WeakValueMapping(),
        _Cache(),
        _LRUCache(),
        weakref.WeakValueDictionary(),
        weakref.WeakKeyDictionary(),
    ],
    ids=["zict.LRU", "zict.WeakValueMapping", "Cache", "LRUCache", "WeakValueDictionary", "WeakKeyDictionary"],
)
def test_a_mapping_that_drops_items_is_refused(mapping):
    """A mapping that drops items raises an error that says in one line what to use."""
    with pytest.raises(UnsuitableMappingError) as caught:
        KVSessionStore(mapping)

    assert "drops items" in str(caught.value)
    assert "; use " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "thing",
    [
        None,
        5,
        [],
        (),
        set(),
        object(),
        dict,
        print,
        iter(()),
        types.MappingProxyType({}),
        frozenset(),
        b"",
        "memory://",
    ],
    ids=lambda thing: getattr(thing, "__name__", type(thing).__name__),
)
def test_what_is_no_mutable_mapping_is_refused(thing):
    """The error says in one line what is accepted. For text it names what opens a url."""
    with pytest.raises(UnsuitableMappingError) as caught:
        KVSessionStore(thing)

    assert ("open_store(url)" if isinstance(thing, str) else "pass a dict, ") in str(caught.value)
    assert "\n" not in str(caught.value)


# What stores over one mapping share -----------------------------------------------------------------------------------


def test_a_mapping_that_holds_sessions_is_indexed_when_it_is_first_asked():
    """A mapping that already has sessions is indexed at the first list."""
    mapping = {}
    for n in range(5):
        talk(KVSessionStore(mapping), f"s{n}", count=40)

    copied = SessionManager(dict(mapping))

    assert sorted(each.session_id for each in copied.get_sessions_for_user("ada")) == [f"s{n}" for n in range(5)]
    assert copied.verify()


def test_a_shared_mapping_lists_what_another_process_wrote(tmp_path):
    """With `shared=True` each list scans the mapping."""
    store = KVSessionStore(Folder(tmp_path / "chat"), shared=True)
    manager = SessionManager(store)
    talk(store, "ours")
    assert manager.count("ada") == 1

    run_python(ANOTHER_PROCESS, tmp_path / "chat", "theirs")

    assert store.get("theirs") is not None
    assert manager.count("ada") == 2
    assert sorted(each.session_id for each in store.list_for_user("ada")) == ["ours", "theirs"]
    del store.mapping["session/theirs"]
    assert [each.session_id for each in manager.list_sessions()] == ["ours"]


def test_a_mapping_that_is_not_shared_lists_what_another_process_wrote_after_reindex(tmp_path):
    """Without `shared=True`, another process's session can be read, and is listed after `reindex`."""
    store = KVSessionStore(Folder(tmp_path / "chat"))
    manager = SessionManager(store)
    talk(store, "ours")
    assert manager.count("ada") == 1

    run_python(ANOTHER_PROCESS, tmp_path / "chat", "theirs")

    assert store.get("theirs") is not None
    assert manager.reindex() == 2
    assert manager.count("ada") == 2


def test_a_shelf_is_read_by_a_later_process(tmp_path):
    """A shelf's file has the documents as text."""
    path = str(tmp_path / "chat")
    with shelve.open(path) as shelf:  # noqa: S301 (nothing in it is unpickled)
        session = talk(KVSessionStore(shelf), count=100)

    printed = run_python(
        """
        import shelve, sys
        from pyai_sessions import KVSessionStore, SessionManager
        with shelve.open(sys.argv[1]) as shelf:
            manager = SessionManager(KVSessionStore(shelf, shared=True))
            print(manager.get_session("s").to_json(), manager.count("ada"), sep="\\n")
        """,
        path,
    )

    text, count = printed.splitlines()
    assert Session.from_json(text) == session
    assert count == "1"


# What its failures mean -----------------------------------------------------------------------------------------------


def test_a_key_that_the_mapping_cannot_hold_is_an_error(tmp_path):
    """A key that is too long for a file name raises, stores nothing, and does not disturb lists."""
    store = KVSessionStore(zict.File(tmp_path / "chat"))
    talk(store)

    with pytest.raises(StorageError):
        talk(store, "k" * 1000)

    assert store.get("s") is not None
    assert SessionManager(store).count("ada") == 1
