"""Tests of Encrypted: tampering, what is in the clear, compression bombs, and what lies on disk."""

import json
import os
import secrets
import tracemalloc
from contextlib import closing

import pytest
import zict
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import (
    Encrypted,
    EncryptionError,
    InvalidDocumentError,
    InvalidValueError,
    KVSessionStore,
    OversizedDocumentError,
    RedisMapping,
    Session,
    SessionManager,
    SQLiteMapping,
    StorageError,
    UnsuitableMappingError,
)
from pyai_sessions.testing import FaultyMapping
from pyai_sessions.testing.samples import contents, fill, ids
from tests.documents.encrypted import BOTH, FIRST, INDEX, LAST, NEW, OLD, manage, opened, write_some

# Opening --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
@settings(max_examples=300)
@given(key=st.text(), text=st.text(st.characters(exclude_categories=())) | st.text("ab\ud800", min_size=300))
def test_what_goes_in_comes_out(compress, key, text):
    """Any text under any key is read as it was written."""
    mapping = Encrypted({}, FIRST, compress=compress)

    mapping[key] = text

    assert mapping[key] == text
    assert mapping.mapping[key].isascii()
    assert json.loads(mapping.mapping[key])["format"] == 1


def test_the_same_text_is_never_the_same_ciphertext():
    """Each write uses a new nonce."""
    mapping = Encrypted({}, FIRST)
    seen = set()

    for _ in range(100):
        mapping["k"] = "text"
        seen.add(mapping.mapping["k"])

    assert len(seen) == 100


def test_a_changed_document_does_not_open():
    """Changing any byte of a head or page makes it unreadable. It stays as it is."""
    inner = {}
    manager = manage(inner)
    manager.create_session("ada", session_id="s")
    Encrypted(inner, FIRST)["messages/s/g/0"] = '[{"secret":1}]'

    for key in ("session/s", "messages/s/g/0"):
        value = inner[key]
        for n, character in enumerate(value):
            for other in {"A", "}", chr(ord(character) ^ 1), " ", ""} - {character}:
                inner[key] = value[:n] + other + value[n + 1 :]
                with pytest.raises(InvalidDocumentError) as caught:
                    Encrypted(inner, BOTH)[key]
                assert (caught.value.key, caught.value.session_id) == (key, "s")
                assert "secret" not in str(caught.value)
        inner[key] = value
    assert manager.get_session("s").user_id == "ada"


def test_a_moved_document_does_not_open():
    """A document cannot be read under another session's key, as another page, or in place of a later head."""
    inner = {}
    manager = manage(inner)
    for session_id in ("a", "b"):
        fill(session := manager.create_session("ada", session_id=session_id), 100)
        manager.save(session)
    pages = sorted(key for key in inner if key.startswith("messages/a/"))
    kept, head = inner[pages[1]], inner["session/a"]

    inner["session/b"] = head
    with pytest.raises(InvalidDocumentError, match="was moved from another key"):
        manager.get_session("b")
    inner[pages[1]] = inner[pages[0]]
    with pytest.raises(InvalidDocumentError, match="was moved from another key"):
        manager.get_session("a")
    inner[pages[1]] = kept
    manager.append("a", {"role": "user", "content": "one more"})
    later = inner["session/a"]
    inner["session/a"] = later[: later.index('"encrypted"')] + head[head.index('"encrypted"') :]
    with pytest.raises(InvalidDocumentError, match="was moved from another key"):
        manager.get_session("a")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"index": INDEX, "other": NEW}, "which is not in the ring"),
        ({"index": INDEX, "old": NEW}, "which has other bytes in the ring"),
        ({"index": NEW, "old": OLD}, "hashed with another key than this ring's"),
        ({"old": OLD}, "hashed with another key than this ring's"),
    ],
)
def test_a_wrong_or_missing_key_is_never_not_found(keys, problem):
    """A wrong or missing key raises its own error, which names the key. Nothing changes, in a repair too."""
    inner = {}
    session = write_some(manage(inner))
    before = dict(inner)
    manager = manage(inner, keys)
    session.add_message("user", "a secret")

    for act in (
        lambda: manager.get_session("s"),
        lambda: manager.get_or_create_session("s"),
        lambda: manager.append("s", {"role": "user", "content": "a secret"}),
        lambda: manager.archive("s"),
        lambda: manager.get_sessions_for_user("ada"),
        lambda: manager.get_sessions_for_user("ada", skip_invalid=True),
        lambda: manager.list_sessions(skip_invalid=True),
        manager.rotate_keys,
    ):
        with pytest.raises(EncryptionError, match=problem) as caught:
            act()
        assert caught.value.key_id == "old"
        assert "secret" not in str(caught.value)
        assert str(OLD) not in str(caught.value)

    report = manager.verify(repair=True)
    assert not report
    assert {each.kind for each in report.problems} >= {"encryption"}
    assert not [each for each in report.problems if each.repaired and each.kind != "index"]
    assert inner == before


def test_a_session_whose_key_is_lost_can_be_deleted():
    """A session whose key is lost can be deleted."""
    inner = {}
    write_some(manage(inner))
    manager = manage(inner, LAST)

    assert manager.delete("s")

    assert not [key for key in inner if "/s" in key]
    assert len(manager.delete_user("bob")) == 1
    assert manager.clear_all() == 1
    assert inner == {}


def test_a_plain_store_says_that_a_session_is_encrypted():
    """A plain store raises at an encrypted session. It does not call it damaged or set it aside."""
    inner = {}
    write_some(manage(inner))
    before = dict(inner)
    manager = SessionManager(inner)

    said = {"role": "user", "content": "Hello!"}
    for act in (lambda: manager.get_session("s"), manager.list_sessions, lambda: manager.append("s", said)):
        with pytest.raises(EncryptionError, match="it is encrypted with key 'old': open the store as KV") as caught:
            act()
        assert caught.value.key_id == "old"
    assert not manager.verify(repair=True)

    assert inner == before


def test_a_damaged_document_is_set_aside_and_the_rest_goes_on():
    """With the right keys, a damaged document is repaired as in any store, and stays encrypted aside."""
    inner = {}
    manager = manage(inner)
    fill(session := manager.create_session("ada", session_id="s"), 100)
    manager.save(session)
    page = min(key for key in inner if key.startswith("messages/s/"))
    inner[page] = inner[page][:-40] + 'AAAA"}'
    Encrypted(inner, FIRST)["session/t"] = "half a docum"

    report = manager.verify(repair=True)

    assert sorted(each.kind for each in report.problems if each.kind != "index") == [
        "unreadable head",
        "unreadable page",
    ]
    assert report
    assert manager.get_session("s").message_count < 100
    aside = sorted(key for key in inner if key.startswith("unreadable/"))
    assert len(aside) == 2
    assert manage(inner, BOTH).rotate_keys() == len(inner) - 1
    assert Encrypted(inner, LAST)[aside[1]] == "half a docum"


# What is in the clear -------------------------------------------------------------------------------------------------


def test_user_ids_are_hashed_in_documents_and_indexes(tmp_path):
    """User ids are hashed with a key, differently in each store."""
    names = []
    for keys in (FIRST, {"index": NEW, "old": OLD}):
        mapping = SQLiteMapping(tmp_path / f"{len(names)}.db")
        with closing(mapping):
            manager = manage(mapping, keys)
            manager.create_session("ada lovelace", session_id="s")
            assert ids(manager.list_sessions("ada lovelace")) == ["s"]
            with mapping.connections.reading() as connection:
                rows = connection.execute('SELECT list FROM "sessions/lists" ORDER BY list').fetchall()
            name = json.loads(mapping["session/s"])["user_id"]
            assert rows == [("active",), (f"user/={name}/active",)]
            assert len(name) == 24
            names.append(name)

    assert names[0] != names[1]


def test_secrets_show_nowhere():
    """Keys do not appear in reprs of mapping, store and manager, nor in errors."""
    mapping = Encrypted({}, {"a": b"secret" * 5 + b"!!"})

    for each in (mapping, KVSessionStore(mapping), SessionManager(KVSessionStore(mapping)), mapping.sealer):
        assert "secret" not in repr(each)
    assert repr(mapping) == "<Encrypted dict with the keys a>"
    for ring in ({"a": b"secret"}, {b"secret" * 6: "a"}, {"secret!": OLD}, "secret", {"a": "secret" * 8}):
        with pytest.raises(InvalidValueError) as caught:
            Encrypted({}, ring)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "ring", [{}, {"index": INDEX}, None, [OLD], {"": OLD}, {"a.b": OLD}, {"k" * 33: OLD}, {1: OLD}]
)
def test_what_is_no_ring_is_refused(ring):
    """A key ring needs ids of plain characters, and a key besides the index key."""
    with pytest.raises(InvalidValueError) as caught:
        Encrypted({}, ring)
    assert caught.value.path == "keys"


def test_a_mapping_is_encrypted_once():
    """Encrypting an encrypted mapping raises."""
    with pytest.raises(UnsuitableMappingError, match="Encrypted already"):
        Encrypted(Encrypted({}, FIRST), LAST)


def test_what_cannot_keep_sessions_is_refused_within():
    """An evicting mapping is refused inside Encrypted, too."""
    with pytest.raises(UnsuitableMappingError, match="drops items"):
        KVSessionStore(Encrypted(zict.LRU(10, {}), FIRST))


def test_what_was_given_stays_open(tmp_path):
    """Closing the store closes nothing that the caller passed."""
    with closing(SQLiteMapping(tmp_path / "chat.db")) as mapping:
        store = KVSessionStore(Encrypted(mapping, FIRST))
        store.save(Session("s"))
        store.close()

        assert "session/s" in mapping


def test_a_head_that_was_written_by_hand_can_be_saved():
    """A head that is formatted differently is compared as a whole, and can be saved."""
    mapping = Encrypted({}, FIRST)
    manager = SessionManager(KVSessionStore(mapping))
    manager.create_session("ada", session_id="s")
    mapping["session/s"] = json.dumps(json.loads(mapping["session/s"]) | {"state": {"by": "hand"}}, indent=1)
    stale = manager.get_session("s")
    manager.append("s", {"role": "user", "content": "one"})
    stale.set_state("more", 1)

    manager.save(stale)

    assert manager.get_session("s").state == {"by": "hand", "more": 1}
    assert contents(manager.get_session("s")) == ["one"]
    assert ids(SessionManager(KVSessionStore(Encrypted(dict(mapping.mapping), FIRST))).list_sessions("ada")) == ["s"]
    mapping["session/s"] = json.dumps(json.loads(mapping["session/s"]), indent=1)
    assert manager.delete("s")


# Compression ----------------------------------------------------------------------------------------------------------


def test_compression_comes_before_encryption():
    """Repetitive text takes less space. Other text is not compressed. The same keys open both."""
    sizes = {}
    for compress in (False, True):
        mapping = Encrypted({}, FIRST, compress=compress)
        for name, text in (("words", "all the words " * 500), ("noise", secrets.token_hex(8))):
            mapping[name] = text
            sizes[compress, name] = len(mapping.mapping[name])
            assert Encrypted(mapping.mapping, FIRST)[name] == text

    assert sizes[True, "words"] < sizes[False, "words"] / 20
    assert sizes[True, "noise"] == sizes[False, "noise"]


def planted(frame):
    """Return an encrypted mapping whose value is this zstandard frame."""
    mapping = Encrypted({}, FIRST)
    mapping.mapping["messages/s/g/0"] = mapping.sealer.seal("messages/s/g/0", frame).decode()
    return mapping.mapping


@pytest.mark.parametrize(
    ("limits", "size"),
    [({}, 200 * 1024 * 1024), ({"max_size": 100_000}, 100_001), ({"max_ratio": 10}, 10_000)],
)
def test_a_bomb_is_refused_unopened(limits, size):
    """A value that would expand beyond the size or ratio raises without using memory."""
    compressor = zstandard.ZstdCompressor(level=19)
    bomb = planted(compressor.compress(bytes(size)) if size > 1e6 else compressor.compress(b"a" * size))
    mapping = Encrypted(bomb, FIRST, **limits)
    tracemalloc.start()

    with pytest.raises(OversizedDocumentError, match=f"to {size} bytes; at most") as caught:
        mapping["messages/s/g/0"]

    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert (caught.value.size, caught.value.session_id) == (size, "s")


def test_a_bomb_that_lies_is_refused():
    """A frame with a false, missing or cut-off size raises."""
    frame = zstandard.ZstdCompressor().compress(b"a" * 1_000_000)
    for lie in (
        frame[:5] + (1000).to_bytes(4, "little") + frame[9:],
        zstandard.ZstdCompressor(write_content_size=False).compress(b"a" * 1_000_000),
        frame[:-3],
        frame[:5],
    ):
        with pytest.raises(InvalidDocumentError, match="compressed text"):
            Encrypted(planted(lie), FIRST, max_ratio=10**6)["messages/s/g/0"]


def test_what_is_written_can_be_read():
    """Text that compression limits would refuse is stored uncompressed."""
    mapping = Encrypted({}, FIRST, compress=True, max_size=10_000, max_ratio=50)

    for text in ("ab " * 3000, "ab " * 4000, "a" * 9000):
        mapping["k"] = text
        assert mapping["k"] == text


@pytest.mark.parametrize("limits", [{"max_size": 0}, {"max_ratio": 1.5}, {"max_size": True}])
def test_limits_are_whole_numbers(limits):
    """An invalid limit raises an error that names it."""
    with pytest.raises(InvalidValueError) as caught:
        Encrypted({}, FIRST, **limits)
    assert caught.value.path in limits


def test_a_failing_mapping_is_named():
    """Errors of the mapping inside are passed on."""
    mapping = FaultyMapping({})
    manager = manage(mapping)
    session = manager.create_session("ada")
    session.add_message("user", "kept")
    mapping.fail(OSError("disk full"))

    with pytest.raises(StorageError):
        manager.save(session)

    manager.save(session)
    assert contents(manager.get_session(session.session_id)) == ["kept"]


# What lies on disk ----------------------------------------------------------------------------------------------------

SECRETS = {
    "message": "the night train to Lisbon",
    "title": "a journey in spring",
    "state": "seat forty-two",
    "user": "ada.lovelace@example.org",
    "branch": "what was taken back",
    "tool": "a forecast for Friday",
    "checkpoint": "before the storm",
    "summary": "they spoke of the weather",
}


def tell(manager):
    """Store secrets in every place where a session has text, some in pages."""
    session = manager.create_session(SECRETS["user"], session_id="s", metadata={"title": SECRETS["title"]})
    session.set_state("seat", SECRETS["state"])
    for n in range(80):
        session.add_message("user", f"{SECRETS['message']} {n}", metadata={"tool": SECRETS["tool"]})
    session.checkpoint(SECRETS["checkpoint"])
    session.add_message("user", SECRETS["branch"])
    manager.save(session)
    session.rewind(SECRETS["checkpoint"])
    session.compact(SECRETS["summary"], keep_last=2)
    manager.save(session)
    assert ids(manager.list_sessions(SECRETS["user"])) == ["s"]


def found_in(folder):
    """Return which secrets are in a folder's files, and the number of bytes."""
    data = b"".join(each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file() and each.name != "log")
    return {name for name, text in SECRETS.items() if text.encode() in data}, len(data)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", ["sqlite", "sqlitedict", "diskcache"])
def test_no_file_holds_what_was_said_or_who_said_it(kind, compress, tmp_path):
    """An encrypted SQLite file and its log contain no text and no user. A plain one contains all."""
    for name, wanted in (("plain", set(SECRETS)), ("encrypted", set())):
        folder = tmp_path / name
        folder.mkdir()
        with closing(opened(kind, None, folder)) as mapping:
            kept = mapping if name == "plain" else Encrypted(mapping, FIRST, compress=compress)
            with closing(KVSessionStore(kept)) as store:
                tell(SessionManager(store))
                found, size = found_in(folder)
                assert found == wanted
                assert size > 10_000
                assert kind == "sqlitedict" or any(each.name.endswith("-wal") for each in folder.rglob("*"))
        assert found_in(folder)[0] == wanted


def test_no_dump_holds_what_was_said_or_who_said_it(start_server):
    """Redis's snapshot, append-only file and DUMP contain no text and no user."""
    server = start_server("redis", "--appendonly", "yes", "--rdbcompression", "no")
    with closing(server.client()) as client:
        for prefix, keys, wanted in (("encrypted:", FIRST, set()), ("plain:", None, set(SECRETS))):
            mapping = RedisMapping(client, prefix=prefix)
            tell(SessionManager(KVSessionStore(Encrypted(mapping, keys) if keys else mapping)))
            client.save()
            dumps = b"".join(client.dump(each) for each in client.keys(f"{prefix}*"))
            assert {name for name, text in SECRETS.items() if text.encode() in dumps} <= wanted
            found, size = found_in(server.folder)
            assert found == wanted
            assert size > 10_000


def test_keys_come_from_the_system():
    """The key ring of the README is valid."""
    assert Encrypted({}, {"2026-01": os.urandom(32)}).sealer.key_ids == ["2026-01"]
