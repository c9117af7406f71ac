"""Tests of namespaces and encryption around each kind of storage."""

import secrets
from contextlib import closing

import diskcache
import pytest

from pyai_sessions import RedisMapping, SQLiteMapping
from pyai_sessions.documents.envelopes import read_envelope, text_of
from pyai_sessions.documents.keys import namespace_prefix
from pyai_sessions.documents.listed import listed
from pyai_sessions.encryption.rotation import rotate
from pyai_sessions.storage import families
from pyai_sessions.storage.mapping import MappingStorage
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.storage.redis import cluster as clusters
from pyai_sessions.storage.redis.storage import RedisStorage
from pyai_sessions.storage.sqlite import diskcache as caches
from pyai_sessions.storage.wrappers import Namespaced
from tests.storage.encrypted import BOTH, FIRST, LAST, encrypted, sealer
from tests.storage.test_rotation import DOCUMENTS, listings, texts, write_some

LISTS = ["active", "archived", "user/ada/active", "user/bob/archived"]
UNDERS = ["", namespace_prefix("a/b"), namespace_prefix("c")]


@pytest.fixture(params=["dict", "SQLite", "diskcache", "Valkey", "cluster"])
def inner(request, tmp_path):
    """An empty storage of each kind."""
    if request.param == "dict":
        yield MappingStorage({}, derive=listed)
    elif request.param == "SQLite":
        with closing(SQLiteMapping(tmp_path / "chat.db", synchronous="OFF")) as mapping:
            yield families.storage_of(mapping, listed)
    elif request.param == "diskcache":
        with closing(diskcache.Cache(str(tmp_path / "chat"), eviction_policy="none")) as cache:
            yield caches.storage_of(cache, listed)
    else:
        server = request.getfixturevalue("valkey_cluster" if request.param == "cluster" else "valkey_server")
        with server.client() as client:
            mapping = RedisMapping(client, f"wrapped:{secrets.token_hex(8)}:")
            if request.param == "cluster":
                yield clusters.ClusterStorage(mapping, timeout=30, derive=listed)
            else:
                yield RedisStorage(mapping, timeout=30)


def held(storage):
    """Return a storage's documents of ours, with their list entries."""
    lists = [
        (storage.scan(each), storage.scan(each, limit=1, newest_first=True), storage.count(each)) for each in LISTS
    ]
    return texts(storage), lists, [score for score, _ in storage.scan("expiry")], len(set(storage.listings()))


@pytest.mark.parametrize("wrap", [lambda inner: inner, encrypted], ids=["plain", "encrypted"])
def test_parts_of_a_storage_are_as_storages_of_their_own(inner, wrap):
    """The same documents in several namespaces can be written, compared and dropped separately."""
    parts = [Namespaced(wrap(inner), under) for under in UNDERS]
    expected = None
    for part in parts:
        write_some(part)
        expected = expected or held(part)
    assert expected[0] == DOCUMENTS
    assert [held(each) for each in parts] == [expected] * 3
    assert [sorted(set(each.keys())) for each in parts] == [sorted(DOCUMENTS)] * 3

    for n, part in enumerate(parts):
        for key in {key.split("/")[1]: key for key in DOCUMENTS if key.startswith("session/")}.values():
            text = DOCUMENTS[key]
            gone = [each._replace(old=each.new, new=None) for each in listings(key, text)]
            place = key.removeprefix("session/")
            drop = [key, f"messages/{place}/", f"forks/{place}/"]
            wrong = Change(expect=[(key, '{"format":1,"revision":"another"')], drop=drop, lists=gone)
            right = Change(expect=[(key, text.decode()[:45])], drop=drop, lists=gone)
            assert [part.write([wrong]), part.write([right])] == [[False], [True]]
        assert (list(part.keys()), held(part)[2:]) == ([], ([], 0))
        assert [held(each) for each in parts[n + 1 :]] == [expected] * (2 - n)
    assert list(inner.keys()) == list(inner.listings()) == []


@pytest.mark.parametrize("under", UNDERS[:2])
def test_keys_are_rotated_and_lists_stay(inner, under):
    """A rotation leaves nothing under the old key, and keeps the lists."""
    part = Namespaced(encrypted(inner), under)
    write_some(part)
    before = held(part)

    assert rotate(inner, sealer(BOTH), under) == len(DOCUMENTS)
    assert rotate(inner, sealer(BOTH), under) == 0

    assert held(Namespaced(encrypted(inner, LAST), under)) == before
    assert before[0] == DOCUMENTS
    assert {read_envelope(value).key_id for value in inner.read(list(inner.keys())).values()} == {"new"}


@pytest.mark.parametrize("under", UNDERS[:2])
def test_a_plain_storage_is_migrated_beside_its_use(inner, under):
    """During a migration plain and encrypted documents are listed together. At the end no user id is readable."""
    write_some(Namespaced(inner, under))
    part = Namespaced(encrypted(inner, migrate=True), under)
    before = held(part)
    key = "session/s"
    saved = Change(
        expect=[(key, DOCUMENTS[key].decode()[:45])],
        put=[(key, DOCUMENTS[key])],
        lists=[each._replace(old=each.new) for each in listings(key, DOCUMENTS[key])],
    )

    assert part.write([saved]) == [True]
    assert held(part) == before
    assert rotate(inner, sealer(FIRST, migrate=True), under) == len(DOCUMENTS) - 1

    assert held(part) == before
    assert held(Namespaced(encrypted(inner), under)) == before
    assert all(read_envelope(value) for value in inner.read(list(inner.keys())).values())
    assert not [each for each in inner.listings() if "ada" in str(each) or "bob" in str(each)]


@pytest.mark.parametrize("under", UNDERS[:2])
def test_damaged_documents_are_set_aside_as_they_are(inner, under):
    """A document that cannot be decrypted is set aside unchanged."""
    part = Namespaced(encrypted(inner), under)
    write_some(part)
    assert inner.write([Change(put=[(f"{under}session/s", b"half a docum")])]) == [True]
    value = part.read(["session/s"])["session/s"]

    change = Change(expect=[("session/s", "half a docum")], put=[("unreadable/s/t/session", value)], drop=["session/s"])
    assert [part.write([change]), part.write([change])] == [[True], [False]]

    assert text_of(inner.read([f"{under}unreadable/s/t/session"])[f"{under}unreadable/s/t/session"]) == b"half a docum"
    assert str(part.read(["unreadable/s/t/session"])["unreadable/s/t/session"]).startswith("the document under")


def test_lists_are_written_and_read_by_any_name_of_a_user(inner):
    """Lists accept plain and hashed names of users."""
    storage = encrypted(inner)
    write_some(storage)
    names = {name for name, _, _ in storage.listings() if name.startswith("user/")}
    assert all("/=" in each for each in names)

    for name, member, score in [each for each in storage.listings() if each[0] in names]:
        mended = Change(expect=[(f"session/{member}", "")], lists=[Listing(name, member, score, score)])
        assert storage.write([mended]) == [True]
    assert {name for name, _, _ in storage.listings() if name.startswith("user/")} == names
    pairs = [("user/ada/active", member) for _, member in storage.scan("user/ada/active")]
    assert sorted((name, member) for name, member, _ in storage.listings(pairs)) == sorted(pairs) != []
