"""Tests of Encrypted: rotation of keys, and stores that were not encrypted before."""

import secrets
import shelve
from contextlib import closing

import pytest
import redis
import zict

from pyai_sessions import (
    Encrypted,
    EncryptionError,
    KVSessionStore,
    RedisMapping,
    SessionManager,
    SQLiteMapping,
    UnsupportedOperationError,
)
from pyai_sessions.testing import StoppedClock
from pyai_sessions.testing.samples import contents, fill, ids
from tests.contract.decoded import Decoded
from tests.documents.encrypted import BOTH, FIRST, LAST, NEW, OLD, key_ids, manage, opened, write_some

# Keys that come and go ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["dict", "sqlite", "sqlitedict", "diskcache", "valkey", "cluster", "shelf", "zict"])
def inner(request, tmp_path):
    """Return an empty mapping of each kind, and a view of it as text."""
    if request.param in ("dict", "zict"):
        yield {} if request.param == "dict" else zict.File(tmp_path / "chat")
    else:
        with closing(opened(request.param, request, tmp_path)) as mapping:
            yield mapping


def view(inner):
    """Return a mapping as a mapping of text, also for a shelf."""
    return Decoded(inner.dict, str.encode) if isinstance(inner, shelve.Shelf) else inner


def test_rotation_rewrites_all_with_the_newest_key(inner):
    """Rotation rewrites heads, pages, branches and set-aside documents in every kind of mapping. Revisions stay."""
    write_some(manage(inner))
    if isinstance(inner, dict):
        Encrypted(inner, FIRST)["a foreign item"] = "by hand"
    manager, told = manage(inner, BOTH), []
    before = manager.get_session("s")
    documents = len(list(view(inner)))
    assert documents >= 7

    assert manager.rotate_keys(progress=told.append) == documents
    assert manager.rotate_keys() == 0

    assert told[-1] == documents
    manager = manage(inner, LAST)
    assert manager.get_session("s") == before
    assert manager.get_session("s").revision == before.revision
    before.add_message("user", "after")
    manager.save(before)
    branch = before.branches[0]
    assert manager.switch("s", branch).message_count == 100
    assert ids(manager.list_sessions("ada")) == ["s"]
    assert ids(manager.list_sessions("bob", status="archived")) == ["archived"]
    assert manager.count(status=None) == 3
    assert manager.verify().problems == []
    if isinstance(inner, dict):
        assert Encrypted(inner, LAST)["a foreign item"] == "by hand"
        assert key_ids(inner) == {"new"}


def test_rotation_leaves_the_time_that_a_session_has_left(valkey_server):
    """Rotation does not extend a session's life."""
    prefix = f"rotate:{secrets.token_hex(8)}:"
    with closing(redis.Redis.from_url(valkey_server.url)) as client:
        mapping = RedisMapping(client, prefix=prefix, ttl=3600)
        manage(mapping).create_session("ada", session_id="s")
        client.expire(f"{prefix}s", 1800)

        assert manage(mapping, BOTH).rotate_keys() == 1

        assert 1700 < client.ttl(f"{prefix}s") <= 1800


def test_the_first_key_hashes_users_where_none_is_named_for_it():
    """Without a key "index" the first key hashes user ids. A ring that lacks it raises."""
    inner = {}
    manage(inner, {"a": OLD}).create_session("ada", session_id="s")
    assert manage(inner, {"a": OLD, "b": NEW}).rotate_keys() == 1

    assert ids(manage(inner, {"index": OLD, "b": NEW}).list_sessions("ada")) == ["s"]
    for act in (
        lambda: manage(inner, {"b": NEW}).list_sessions("ada"),
        lambda: manage(inner, {"b": NEW}).count("ada"),
        lambda: manage(inner, {"b": NEW}).create_session("ada"),
        lambda: manage(inner, {"b": NEW, "a": OLD}).create_session("ada"),
    ):
        with pytest.raises(EncryptionError, match="under the id 'index'"):
            act()
    assert len(inner) == 1


def test_only_what_is_encrypted_has_keys_to_rotate():
    """Rotating a plain or custom store raises."""
    for manager in (SessionManager({}), SessionManager(Foreign())):
        with pytest.raises(UnsupportedOperationError, match="keys to rotate"):
            manager.rotate_keys()


class Foreign:
    def save(self, session): ...
    def get(self, session_id): ...
    def delete(self, session_id): ...
    def list_for_user(self, user_id): ...


# Stores that were not encrypted ---------------------------------------------------------------------------------------


def test_plain_documents_are_refused():
    """In an encrypted store, a plain document raises, and is neither overwritten nor set aside."""
    inner = {}
    session = write_some(SessionManager(inner))
    before = dict(inner)
    manager = manage(inner)
    session.add_message("user", "x")

    for act in (
        lambda: manager.get_session("s"),
        lambda: manager.append("s", {"role": "user", "content": "x"}),
        lambda: manager.save(session),
        lambda: manager.list_sessions("ada"),
        lambda: manager.create_session("ada"),
        manager.rotate_keys,
    ):
        with pytest.raises(EncryptionError, match="it is not encrypted, as all") as caught:
            act()
        assert caught.value.key_id is None
    assert {each.kind for each in manager.verify(repair=True).problems} == {"encryption"}

    assert inner == before


def test_a_plain_page_in_an_encrypted_session_is_refused():
    """A plain page in an encrypted session raises, so that nobody without a key can add messages."""
    inner = {}
    manager = manage(inner)
    fill(session := manager.create_session("ada", session_id="s"), 100)
    manager.save(session)
    page = min(key for key in inner if key.startswith("messages/"))
    inner[page] = Encrypted(inner, FIRST)[page]

    with pytest.raises(EncryptionError, match="it is not encrypted") as caught:
        manager.get_session("s")

    assert caught.value.key == page
    assert not manager.verify(repair=True)
    assert page in inner


def test_a_store_is_migrated_beside_its_use(inner):
    """During a migration plain and encrypted sessions are listed together. Saves and `rotate` encrypt."""
    plain = SessionManager(KVSessionStore(inner, clock=StoppedClock()))
    write_some(plain)
    for n in range(5):
        plain.create_session("ada", session_id=f"s{n}")
    manager = manage(inner, FIRST, migrate=True)
    copy = plain.get_session("s1")
    manager.append("s0", {"role": "user", "content": "now encrypted"})
    manager.create_session("ada", session_id="new")
    manager.delete("s4")
    wanted = ["new", "s", "s0", "s1", "s2", "s3"]

    assert sorted(ids(manager.list_sessions("ada"))) == wanted
    assert manager.count("ada") == 6
    assert ids(manager.list_sessions("ada", limit=2)) == ids(manager.list_sessions("ada"))[:2]
    with pytest.raises(EncryptionError):
        manage(inner).get_session("s1")
    assert manager.rotate_keys() > 6
    assert manager.rotate_keys() == 0

    manager = manage(inner)
    assert sorted(ids(manager.list_sessions("ada"))) == wanted
    assert manager.count("ada") == 6
    assert manager.get_session("s").message_count == 52
    copy.add_message("user", "late")
    manager.save(copy)
    assert contents(manager.get_session("s1")) == ["late"]
    assert manager.verify().problems == []


def test_a_migration_that_was_cut_short_is_repeated(tmp_path):
    """A migration that stops at any document leaves lists complete, and can be repeated."""
    with closing(SQLiteMapping(tmp_path / "chat.db")) as mapping:
        SessionManager(KVSessionStore(mapping)).create_session("ada", session_id="s")
        store = KVSessionStore(Encrypted(mapping, FIRST, migrate=True))
        manager = SessionManager(store)
        inner = store._engine.backend._whole
        write, inner.write = inner.write, lambda _: 1 / 0
        with pytest.raises(ZeroDivisionError):
            manager.rotate_keys()
        assert ids(manager.list_sessions("ada")) == ["s"]
        inner.write = write

        assert manager.rotate_keys() == 1

        store = KVSessionStore(Encrypted(mapping, FIRST))
        manager = SessionManager(store)
        assert ids(manager.list_sessions("ada")) == ["s"]
        assert manager.verify().problems == []
