"""The contract of stores, run in namespaces, and tests that namespaces do not touch each other."""

import dbm.dumb
import json
import secrets
import shelve
import sqlite3
from collections.abc import MutableMapping
from contextlib import closing

import diskcache
import pytest
import redis
import zict

from pyai_sessions import (
    ANYONE,
    Encrypted,
    EncryptionError,
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    RedisMapping,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageError,
    open_store,
)
from pyai_sessions.documents.keys import head_key, namespace_prefix, page_prefix
from pyai_sessions.sessions.backend import backend_of
from pyai_sessions.testing import FaultyMapping, StoppedClock
from pyai_sessions.testing.samples import HOSTILE_IDS, contents, fill, ids
from tests.contract.test_store import Minimal
from tests.contract.variants import Made, OfIndexes

KEYS = {"index": b"i" * 32, "old": b"o" * 32, "new": b"n" * 32}


class Under(MutableMapping):
    """The items of one namespace of a mapping, by their keys within it."""

    def __init__(self, mapping, namespace):
        self.mapping, self.start = mapping, namespace_prefix(namespace)

    def __getitem__(self, key):
        return self.mapping[self.start + key]

    def __setitem__(self, key, value):
        self.mapping[self.start + key] = value

    def __delitem__(self, key):
        del self.mapping[self.start + key]

    def __iter__(self):
        return iter([key[len(self.start) :] for key in self.mapping if key.startswith(self.start)])

    def __len__(self):
        return sum(1 for _ in self)


def move_in(manager):
    """Store sessions under the ids and users that the contract uses, some with pages."""
    for n, session_id in enumerate(["s", "s0", "s1", "parent"]):
        session = manager.create_session(("ada", "bob")[n % 2], session_id=session_id)
        fill(session, 40 if session_id in {"s", "parent"} else 1)
        manager.save(session)
    manager.fork("s", new_id="t")
    manager.archive("s1")


def holdings(manager):
    """Return everything that a store shows of its sessions."""
    listed = sorted(ids(manager.list_sessions(status=None, limit=None)))
    counts = [manager.count(user, status=None) for user in ("ada", "bob", ANYONE)]
    return listed, counts, [manager.get_session(each) for each in listed], manager.verify().problems


class InANamespace(Made):
    """`mapping` returns the mapping. Neighbours use it, too."""

    @pytest.fixture
    def make(self, mapping, request):
        def make(**options):
            store = KVSessionStore(mapping, namespace="ten/ant", **options)
            request.addfinalizer(store.close)
            return store

        return make

    @pytest.fixture
    def raw(self, mapping):
        return Under(mapping, "ten/ant")

    @pytest.fixture
    def another(self, make):
        return make

    @pytest.fixture(autouse=True)
    def _neighbours(self, mapping):
        """Fill other namespaces with the same ids and users, and check at the end that nothing has changed."""
        neighbours = [SessionManager(KVSessionStore(mapping, namespace=name)) for name in (None, "tenant")]
        for each in neighbours:
            move_in(each)
        before = [holdings(each) for each in neighbours]

        yield

        assert [holdings(each) for each in neighbours] == before
        assert [each[3] for each in before] == [[], []]


@pytest.mark.wide
class TestNamespaceOfADict(InANamespace, OfIndexes):
    @pytest.fixture
    def mapping(self):
        return {}


class TestNamespaceOfSQLite(InANamespace, OfIndexes):
    @pytest.fixture
    def mapping(self, tmp_path):
        with closing(SQLiteMapping(tmp_path / "chat.db", synchronous="NORMAL")) as mapping:
            yield mapping


@pytest.mark.long
class TestNamespaceOfAnEncryptedDict(InANamespace, OfIndexes):
    @pytest.fixture
    def mapping(self):
        return Encrypted({}, KEYS)


class TestNamespaceOnValkey(InANamespace, OfIndexes):
    @pytest.fixture
    def mapping(self, valkey_server):
        prefix = f"store:{secrets.token_hex(8)}:"
        with redis.Redis.from_url(valkey_server.url) as client:
            yield RedisMapping(client, prefix=prefix)
            for key in client.scan_iter(prefix + "*", count=1000):
                client.delete(key)


# On every family ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["dict", "SQLite", "diskcache", "Valkey", "cluster", "encrypted"])
def mapping(request, tmp_path):
    prefix = f"names:{secrets.token_hex(8)}:"
    if request.param == "dict":
        yield {}
    elif request.param == "encrypted":
        yield Encrypted({}, KEYS)
    elif request.param == "SQLite":
        with closing(SQLiteMapping(tmp_path / "chat.db", synchronous="NORMAL")) as mapping:
            yield mapping
    elif request.param == "diskcache":
        index = diskcache.Index(str(tmp_path / "chat"))
        yield index
        index.cache.close()
    else:
        server = request.getfixturevalue("valkey_cluster" if request.param == "cluster" else "valkey_server")
        with server.client() as client:
            yield RedisMapping(client, prefix=prefix)
            for key in client.scan_iter(prefix + "*", count=1000):
                client.delete(key)


NAMES = [None, "a", "A", "session", "messages", "unreadable", "namespace", "active", "user", "a/b", "\ud800", "é" * 512]


def test_namespaces_share_nothing_but_the_mapping(mapping):
    """With the same ids and users in each namespace, each sees, counts and clears only its own."""
    managers = {name: SessionManager(KVSessionStore(mapping, namespace=name)) for name in NAMES}
    for n, (name, manager) in enumerate(managers.items()):
        for session_id in ("s", "t"):
            manager.create_session("ada", session_id=session_id, state={"of": name})
        for _ in range(n):
            manager.append("s", {"role": "user", "content": "x"})

    for n, (name, manager) in enumerate(managers.items()):
        fresh = SessionManager(KVSessionStore(mapping, namespace=name))
        assert [len(contents(fresh.get_session(each))) for each in "st"] == [n, 0]
        assert fresh.get_session("s").state == {"of": name}
        assert ids(fresh.list_sessions()) == ids(fresh.list_sessions("ada")) == (["s", "t"] if n else ["t", "s"])
        assert (fresh.count(), fresh.count("ada"), fresh.reindex(), fresh.verify().problems) == (2, 2, 2, [])
        assert manager.archive_inactive(days=0) == 2
        assert manager.delete("t")
    for name, manager in managers.items():
        assert (manager.count(), manager.count(status=None)) == (0, 1)
        assert manager.clear_all() == 1
        assert [other.count(status=None) for other in managers.values()] == [
            int(NAMES.index(other) > NAMES.index(name)) for other in NAMES
        ]


@pytest.mark.parametrize("name", [None, "a"])
def test_what_mends_or_removes_stays_within_its_namespace(mapping, name):
    """Repairs and removals in one namespace change no byte of the others, with the same ids and damage in each."""
    stores = {each: KVSessionStore(mapping, namespace=each, timeout=0.2) for each in (None, "a", "b")}
    managers = {each: SessionManager(store) for each, store in stores.items()}
    documents = mapping.mapping if isinstance(mapping, Encrypted) else mapping
    for each, manager in managers.items():
        for session_id, user_id in (("s", "ada"), ("kept", "bob")):
            session = manager.create_session(user_id, session_id=session_id)
            fill(session, 40)
            manager.save(session)
        manager.fork("kept", new_id="fork")
        documents[f"{namespace_prefix(each)}session/torn"] = "torn"
        documents[f"{namespace_prefix(each)}messages/lost/g/0"] = "[]"

    def others():
        kinds = ("session/", "messages/", "forks/", "unreadable/") if name is None else "namespace/a/"
        return {key: documents[key] for key in documents if not key.startswith(kinds)}

    before = others()
    manager = managers.pop(name)

    assert manager.verify(repair=True).problems
    assert manager.verify().problems == []
    assert len(manager.delete_user("ada", scan=True)) == 1
    assert manager.archive_inactive(days=0) == 2
    assert (manager.reindex(), manager.clear_all()) == (2, 2)

    assert others() == before
    assert [each.count("ada") for each in managers.values()] == [1, 1]


def test_sessions_of_a_namespace_expire_by_themselves(mapping):
    """A purge removes only sessions of its own namespace."""
    clock = StoppedClock()
    stores = [KVSessionStore(mapping, namespace=name, ttl=60, clock=clock) for name in (None, "a", "b")]
    managers = [SessionManager(store) for store in stores]
    for manager in managers:
        for n in range(3):
            manager.create_session("ada", session_id=f"s{n}")
    clock.advance(seconds=60)

    assert managers[1].purge_expired() == 3

    assert [manager.purge_expired() for manager in managers] == [3, 0, 3]


def test_a_session_is_read_whole_from_its_own_namespace(mapping):
    """A session's pages are read only from its own namespace."""
    for name in (None, "a"):
        manager = SessionManager(KVSessionStore(mapping, namespace=name))
        session = manager.create_session(session_id="s")
        fill(session, 100)
        manager.save(session)

    with closing(backend_of(mapping, namespace="a").storage) as storage:
        pages = storage.read([head_key("s"), page_prefix("s")])

        keys = [key for key in storage.keys("") if key.startswith(page_prefix("s"))]
        assert pages.pop(head_key("s"))
        assert len(keys) > 1
        assert pages == (storage.read(list(pages)) if pages else {})
        assert sorted(pages) in ([], sorted(keys))


@pytest.mark.parametrize("kind", ["of one's own", "shelf", "files"])
def test_any_mapping_can_be_divided(kind, tmp_path):
    """A mapping of text, of bytes or of a file can have namespaces, and holds only documents."""
    with closing(shelve.Shelf(dbm.dumb.open(str(tmp_path / "shelf")))) as shelf:
        mapping = {"of one's own": Minimal(), "shelf": shelf, "files": zict.File(tmp_path / "files")}[kind]
        managers = {name: SessionManager(KVSessionStore(mapping, namespace=name)) for name in ("a", None)}
        for name, manager in managers.items():
            manager.create_session("ada", session_id="s", state={"of": name})

        assert {name: each.get_session("s").state["of"] for name, each in managers.items()} == {"a": "a", None: None}
        assert sorted(mapping) == ["namespace/a/session/s", "session/s"]
        assert [managers[None].clear_all(), *(each.count() for each in managers.values())] == [1, 1, 0]


def test_lists_of_a_namespace_are_true_after_a_write_that_failed():
    """After a failed write, lists are made from the documents again."""
    mapping = FaultyMapping({})
    manager = SessionManager(KVSessionStore(mapping, namespace="a"))
    manager.create_session("ada", session_id="first")
    assert manager.count() == 1  # this builds the index
    mapping.fail(OSError("a reply was lost"), applied=True)

    with pytest.raises(StorageError):
        manager.create_session("ada", session_id="second")

    assert sorted(ids(manager.list_sessions("ada"))) == ["first", "second"]


def test_any_text_names_a_namespace():
    """Names are percent-encoded, so no namespace lies in another or outside."""
    mapping = {}
    for name in HOSTILE_IDS:
        SessionManager(KVSessionStore(mapping, namespace=name)).create_session("ada", session_id=name)

    for name in HOSTILE_IDS:
        assert ids(SessionManager(KVSessionStore(mapping, namespace=name)).list_sessions()) == [name]
    assert SessionManager(mapping).count() == 0
    assert len(mapping) == len(HOSTILE_IDS)


@pytest.mark.parametrize("name", ["", 7, b"a", "x" * 1025], ids=ascii)
def test_what_can_be_no_namespace_is_refused(name, tmp_path):
    """An invalid name raises before a file is made."""
    for make in (
        lambda: KVSessionStore({}, namespace=name),
        lambda: SQLiteSessionStore(tmp_path / "c", namespace=name),
    ):
        with pytest.raises(InvalidValueError) as caught:
            make()
        assert caught.value.path == "namespace"
    assert list(tmp_path.iterdir()) == []


def test_a_url_names_a_namespace(tmp_path):
    """A URL of every family takes a percent-encoded `namespace`."""
    url = f"sqlite:///{tmp_path}/chat.db"
    with closing(open_store(f"{url}?namespace=a%2Fb")) as store:
        SessionManager(store).create_session(session_id="s")

        with closing(SQLiteSessionStore(tmp_path / "chat.db", namespace="a/b")) as same:
            assert ids(SessionManager(same).list_sessions()) == ["s"]
    for each in (url, "memory://", f"diskcache:///{tmp_path}/chat", "redis://localhost:1?socket_timeout=1"):
        option = f"{'&' if '?' in each else '?'}namespace=%23%ED%A0%80"
        with closing(open_store(each + option)) as store:  # a server is not contacted before the first call
            assert "namespace '#\\ud800' of a" in repr(store)


@pytest.mark.parametrize(
    "query", ["namespace=", "namespace", "namespace=a&namespace=b", "namespace=%FF", "namespace=a#b"]
)
@pytest.mark.parametrize("url", ["memory://", "redis://localhost:1"])
def test_a_url_that_does_not_tell_the_namespace_is_refused(url, query):
    """An empty or unencoded namespace in a URL raises, so that it cannot open others' sessions."""
    with pytest.raises(InvalidValueError, match=r"namespace (has no value|is given twice)|%23|UTF-8"):
        open_store(f"{url}?{query}")


def test_what_another_tool_put_into_a_namespace_is_found_by_a_rebuilt_index(mapping):
    """`reindex` finds what another tool wrote into the namespace, and changes no other."""
    managers = [SessionManager(KVSessionStore(mapping, namespace=name)) for name in ("a", "b", None)]
    for manager in managers:
        manager.create_session("ada", session_id="s")
    mapping["namespace/a/session/put"] = mapping["namespace/b/session/s"].replace(
        '"session_id":"s"', '"session_id":"put"'
    )

    assert [manager.reindex() for manager in managers] == [2, 1, 1]

    assert [sorted(ids(manager.list_sessions("ada"))) for manager in managers] == [["put", "s"], ["s"], ["s"]]
    assert [manager.count("ada") for manager in managers] == [2, 1, 1]


# With encryption ------------------------------------------------------------------------------------------------------


def test_a_ciphertext_opens_in_its_own_namespace_alone():
    """A ciphertext that was moved to the same id in another namespace cannot be read."""
    inner = {}
    for name in ("a", "b", None):
        SessionManager(KVSessionStore(Encrypted(inner, KEYS), namespace=name)).create_session("ada", session_id="s")
    moved = inner["namespace/a/session/s"]

    for key, name in (("namespace/b/session/s", "b"), ("session/s", None)):
        inner[key] = moved
        with pytest.raises(InvalidDocumentError):
            KVSessionStore(Encrypted(inner, KEYS), namespace=name).get("s")
    assert KVSessionStore(Encrypted(inner, KEYS), namespace="a").get("s").user_id == "ada"


@pytest.mark.parametrize("wrap", [dict, lambda inner: Encrypted(inner, KEYS)], ids=["plain", "another ring"])
def test_a_ring_that_does_not_fit_is_refused_with_the_place(wrap):
    """The error has the document's whole key with its namespace. Other namespaces may use another key ring."""
    inner = {}
    written = wrap(inner)
    SessionManager(KVSessionStore(written, namespace="a")).create_session("ada", session_id="s")
    mapping = Encrypted(written if isinstance(written, dict) else inner, {"index": b"x" * 32, "new": b"n" * 32})

    with pytest.raises(EncryptionError) as caught:
        SessionManager(KVSessionStore(mapping, namespace="a")).list_sessions("ada")

    assert (caught.value.key, caught.value.session_id) == ("namespace/a/session/s", "s")
    assert SessionManager(KVSessionStore(mapping, namespace="b")).list_sessions("ada") == []


def test_keys_are_rotated_in_all_namespaces(mapping):
    """Keys are rotated by the mapping for all namespaces, or by each store for its own."""
    if isinstance(mapping, Encrypted):
        mapping = mapping.mapping
    old = {name: key for name, key in KEYS.items() if name != "new"}
    for name in ("a", "b", None):
        move_in(SessionManager(KVSessionStore(Encrypted(mapping, old), namespace=name)))
    newest = {name: key for name, key in KEYS.items() if name != "old"}

    assert SessionManager(KVSessionStore(Encrypted(mapping, KEYS), namespace="a")).rotate_keys() > 7
    rotated = SessionManager(KVSessionStore(Encrypted(mapping, newest), namespace="a"))
    assert len(holdings(rotated)[0]) == 5
    with pytest.raises(EncryptionError):
        KVSessionStore(Encrypted(mapping, newest), namespace="b").get("s")
    assert Encrypted(mapping, KEYS).rotate() > 14

    for name in ("a", "b", None):
        assert holdings(SessionManager(KVSessionStore(Encrypted(mapping, newest), namespace=name)))[3] == []


# An index that was not there ------------------------------------------------------------------------------------------


def test_documents_of_a_namespace_are_found_without_an_index(tmp_path):
    """Documents are found even if their index entries are missing."""
    path = tmp_path / "chat.db"
    for name in (None, "a"):
        with closing(SQLiteSessionStore(path, namespace=name)) as store:
            SessionManager(store).create_session("ada", session_id=f"of {name}")
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE name LIKE '%/lists%' AND type = 'table'"
        for (table,) in connection.execute(query).fetchall():
            connection.execute(f'DROP TABLE "{table}"')
        connection.commit()

    for name in ("a", None):
        with closing(SQLiteSessionStore(path, namespace=name)) as store:
            manager = SessionManager(store)
            assert ids(manager.list_sessions("ada")) == ids(manager.list_sessions()) == [f"of {name}"]
            assert manager.count() == 1


def test_a_key_of_a_namespace_is_readable(mapping):
    """A key is ``namespace/<name>/`` and the usual key, in any mapping."""
    SessionManager(KVSessionStore(mapping, namespace="a/b")).create_session("ada", session_id="s")

    assert [key for key in mapping if key.startswith("namespace/")] == ["namespace/a%2Fb/session/s"]
    assert json.loads(mapping["namespace/a%2Fb/session/s"])["session_id"] == "s"
