"""Tests of key rotation beside writers, and of encrypting plain documents."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import EncryptionError, KVSessionStore, OversizedDocumentError, SessionManager, StorageLockedError
from pyai_sessions.documents.envelopes import read_envelope, text_of
from pyai_sessions.documents.listed import listed
from pyai_sessions.encryption import rotation
from pyai_sessions.encryption.rotation import rotate
from pyai_sessions.storage.mapping import MappingStorage
from pyai_sessions.storage.names import place_of
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.testing import StoppedClock
from pyai_sessions.testing.samples import fill
from tests.storage.encrypted import BOTH, FIRST, LAST, NEW, OLD, encrypted, put, sealer
from tests.storage.plain import PlainStorage

UNDERS = ["", "namespace/a/", "namespace/b/"]


def documents():
    """Return the documents of two sessions with pages, a branch and a fork, as a plain store has them."""
    mapping = {}
    manager = SessionManager(KVSessionStore(mapping, clock=StoppedClock(), ttl=3600))
    session = manager.create_session("ada", session_id="s")
    fill(session, 100)
    manager.save(session)
    session.rewind("m50")
    manager.save(session)
    manager.fork("s", new_id="t")
    manager.archive(manager.create_session("bob", session_id="archived").session_id)
    manager.create_session(session_id="nobody's")
    return {key: text.encode() for key, text in mapping.items()}


DOCUMENTS = documents()


def write_some(storage, under=""):
    """Write documents with their list entries."""
    for key, text in DOCUMENTS.items():
        put(storage, under + key, text, listings(under + key, text))


def listings(key, text, old=None):
    """Return the changes of lists for a document."""
    return [Listing(name, member, old, score) for name, member, score in listed(key, lambda: text)]


def key_ids(storage):
    """Return the key ids of documents, and None for plain ones."""
    found = [read_envelope(value) for value in storage.read(list(storage.keys())).values()]
    return {each and each.key_id for each in found}


def texts(storage, keys=DOCUMENTS, under=""):
    found = storage.read([under + key for key in keys])
    return {key[len(under) :]: text_of(value) or value for key, value in found.items()}


class Watched(PlainStorage):
    """A storage that records its writes, and can call something before one."""

    def __init__(self):
        super().__init__()
        self.written = []
        self.before_write = lambda _: None

    def write(self, changes):
        self.before_write(changes)
        self.written.append(changes)
        return super().write(changes)


def test_all_is_encrypted_with_the_newest_key():
    """Every document is encrypted with the newest key. Lists stay, and a repetition finds nothing to do."""
    inner, told = PlainStorage(), []
    storage = encrypted(inner)
    write_some(storage)
    put(storage, "a foreign key", b"by hand")
    put(storage, "unreadable/s/t/session", b"half a docum")
    lists = sorted(inner.listings())

    assert rotate(inner, sealer(BOTH), progress=told.append) == len(DOCUMENTS) + 2
    assert rotate(inner, sealer(BOTH)) == 0

    assert told == [len(DOCUMENTS) + 2]
    assert key_ids(inner) == {"new"}
    assert texts(encrypted(inner, LAST)) == DOCUMENTS
    assert sorted(inner.listings()) == lists
    found = encrypted(inner, LAST).read(["a foreign key", "unreadable/s/t/session"])
    assert list(found.values()) == [b"by hand", b"half a docum"]


def test_a_rotation_writes_each_place_once(monkeypatch):
    """A rotation writes in batches, reports each, and does not extend a session's life."""
    monkeypatch.setattr(rotation, "TOGETHER", 4)
    inner, told = Watched(), []
    write_some(encrypted(inner))
    inner.written.clear()

    rotate(inner, sealer(BOTH), progress=told.append)

    assert told == [*range(4, len(DOCUMENTS), 4), len(DOCUMENTS)]
    assert len(inner.written) == len(told)
    for changes in inner.written:
        places = [{place_of(key) for key, _ in [*each.expect, *each.put]} for each in changes]
        assert [len(each) for each in places] == [1] * len(changes)
        assert len(set.union(*places)) == len(changes)
        assert [(each.lives, each.lists, each.drop) for each in changes] == [(0, [], ())] * len(changes)


def test_keys_are_rotated_in_all_namespaces_or_in_one():
    """Without a namespace a rotation covers all of them; with one, only its documents."""
    inner = PlainStorage()
    for under in UNDERS:
        write_some(encrypted(inner), under)

    assert rotate(inner, sealer(BOTH), "namespace/a/") == len(DOCUMENTS)
    assert texts(encrypted(inner, LAST), under="namespace/a/") == DOCUMENTS
    assert {type(each) for each in texts(encrypted(inner, LAST), under="namespace/b/").values()} == {EncryptionError}
    assert rotate(inner, sealer(BOTH)) == 2 * len(DOCUMENTS)

    assert key_ids(inner) == {"new"}
    assert [texts(encrypted(inner, LAST), under=under) for under in UNDERS] == [DOCUMENTS] * 3


def test_a_missing_key_is_named_when_all_else_is_done():
    """A missing key is reported after all other documents are rotated."""
    inner = PlainStorage()
    put(encrypted(inner, {"index": FIRST["index"], "lost": b"l" * 32}), "messages/s/lost/0", b"[]")
    write_some(encrypted(inner))

    with pytest.raises(EncryptionError, match="'lost', which is not in the ring"):
        rotate(inner, sealer(BOTH))

    assert key_ids(inner) == {"lost", "new"}


def test_what_would_expand_too_far_is_named_when_all_else_is_done():
    """A document that would expand too far is reported last."""
    inner = PlainStorage()
    put(encrypted(inner, compress=True), "messages/s/long/0", b" ".join(b"%d" % n for n in range(50_000)))
    write_some(encrypted(inner))

    with pytest.raises(OversizedDocumentError):
        rotate(inner, sealer(BOTH, max_size=100_000))

    assert key_ids(inner) == {"old", "new"}
    assert rotate(inner, sealer(BOTH)) == 1


@pytest.mark.parametrize(
    ("keys", "problem"),
    [({"index": NEW, "old": OLD}, "hashed with another key"), (None, "it is not encrypted, as all")],
)
def test_a_ring_that_does_not_fit_rotates_nothing(keys, problem):
    """A key ring that does not fit raises before anything is written."""
    inner = PlainStorage()
    write_some(inner if keys is None else encrypted(inner))
    before = dict(inner.data.texts)

    with pytest.raises(EncryptionError, match=problem):
        rotate(inner, sealer(keys or FIRST))

    assert inner.data.texts == before


@pytest.mark.parametrize("migrate", [False, True])
def test_damaged_documents_are_left(migrate):
    """Damaged documents stay as they are."""
    inner = PlainStorage()
    write_some(encrypted(inner))
    head = inner.data.texts["session/s"]
    inner.data.texts["session/s"] = damaged = head[:-40] + 'AAAA"}'
    torn = {"session/u": b"\xff", "messages/u/g/0": 5}
    inner.data.texts |= torn

    assert rotate(inner, sealer(BOTH, migrate=migrate)) == len(DOCUMENTS) - 1

    assert inner.data.texts["session/s"] == damaged
    assert {key: inner.data.texts[key] for key in torn} == torn


# Other writers --------------------------------------------------------------------------------------------------------


def test_a_rotation_never_overwrites_a_writer():
    """What others write meanwhile stays, and is encrypted."""
    inner, tries = Watched(), []
    write_some(encrypted(inner))
    writer = encrypted(inner, BOTH)

    def meanwhile(changes):
        if len(tries) < 3 and any(key == "session/s" for each in changes for key, _ in each.put):
            tries.append(0)
            PlainStorage.write(inner, [writer._encrypted(Change(put=[("session/s", b"try %d" % len(tries))]))])

    inner.before_write = meanwhile
    inner.written.clear()
    rotate(inner, sealer({**LAST, **FIRST, "newest": b"x" * 32, "new": NEW, "z": b"z" * 32}))

    assert len(tries) == 3
    assert key_ids(inner) == {"z"}
    found = texts(encrypted(inner, {"index": FIRST["index"], "z": b"z" * 32}))
    assert found == {**DOCUMENTS, "session/s": b"try 3"}


def test_a_document_that_never_rests_is_given_up():
    """A document that changes all the time raises an error that names it. A deleted one is ignored."""
    inner = Watched()
    write_some(encrypted(inner))
    stale = encrypted(PlainStorage(inner.data))

    inner.before_write = lambda changes: [
        put(stale, "session/s", b"again") for each in changes for key, _ in each.put if key == "session/s"
    ]
    with pytest.raises(StorageLockedError, match=r"session/s: other writers changed it at 100 tries"):
        rotate(inner, sealer(BOTH))

    inner.before_write = lambda _: inner.data.texts.pop("session/s", None)
    rotate(inner, sealer(BOTH))
    assert key_ids(inner) == {"new"}
    assert "session/s" not in inner.data.texts


class _Cut(Exception):  # noqa: N818 (as an interrupt)
    pass


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(0, 8), max_size=4), migrate=st.booleans(), derived=st.booleans(), data=st.data())
def test_a_rotation_that_is_cut_short_is_repeated(cuts, migrate, derived, data):
    """After an interruption anywhere everything is readable, and a repetition completes the rotation."""
    mapping, left = {}, []

    class Cutting(MappingStorage if derived else PlainStorage):
        def write(self, changes):
            if left:
                if not left[0]:
                    raise _Cut
                left[0] -= 1
            return super().write(changes)

    inner = Cutting(mapping, derive=listed) if derived else Cutting()
    old = inner if migrate else encrypted(inner)
    keys, options = (FIRST, {"migrate": True}) if migrate else (BOTH, {})
    write_some(old)
    storage = encrypted(inner, keys, **options)
    lists = ["active", "archived", "user/ada/active", "user/bob/archived"]
    before = [(storage.scan(each), storage.count(each)) for each in lists]
    expiring = [score for score, _ in storage.scan("expiry")]

    for cut in cuts:
        left[:] = [cut]
        with suppress(_Cut), pytest.MonkeyPatch.context() as patch:
            patch.setattr(rotation, "TOGETHER", 3)
            rotate(inner, sealer(keys, **options))
        left.clear()
        assert texts(storage) == DOCUMENTS
        assert [(storage.scan(each), storage.count(each)) for each in lists] == before
        if data.draw(st.booleans()):  # a save meanwhile
            key = data.draw(st.sampled_from(sorted(DOCUMENTS)))
            put(storage, key, DOCUMENTS[key], listings(key, DOCUMENTS[key]))
    rotate(inner, sealer(keys, **options))

    assert rotate(inner, sealer(keys, **options)) == 0
    last = encrypted(inner, FIRST if migrate else LAST)
    assert texts(last) == DOCUMENTS
    assert [(last.scan(each), last.count(each)) for each in lists] == before
    assert [score for score, _ in last.scan("expiry")] == expiring
    told = str(list(inner.listings()))
    assert "ada" not in told
    assert "bob" not in told


# Stores that were not encrypted ---------------------------------------------------------------------------------------


def test_plain_documents_are_encrypted_while_a_storage_is_migrated():
    """During a migration our plain documents are encrypted. Foreign ones, and other namespaces', stay."""
    inner = Watched()
    for under in UNDERS:
        write_some(inner, under)
    put(inner, "foreign/x", b"by hand")
    inner.written.clear()

    assert rotate(inner, sealer(migrate=True)) == len(DOCUMENTS)
    relisted = [each for changes in inner.written for change in changes for each in change.lists]
    assert {each.list.partition("/")[0] for each in relisted} == {"user", "expiry"}  # no list that names nobody
    assert len(relisted) == 2 * len({each[:2] for each in relisted if each.new is None})
    assert rotate(inner, sealer(migrate=True)) == 0

    assert texts(encrypted(inner)) == DOCUMENTS
    assert inner.data.texts["foreign/x"] == "by hand"
    assert [texts(inner, under=under) for under in UNDERS[1:]] == [DOCUMENTS] * 2
    assert rotate(inner, sealer(migrate=True), "namespace/a/") == len(DOCUMENTS)
    storage = encrypted(inner)
    assert storage.scan("namespace/a/user/ada/active") == storage.scan("user/ada/active") != []
    assert inner.scan("namespace/a/user/ada/active") == []
    assert inner.scan("namespace/b/user/ada/active") == storage.scan("user/ada/active")


def test_plain_documents_are_refused_where_all_should_be_encrypted():
    """Without a migration, plain documents are reported after the rest is rotated."""
    inner = PlainStorage()
    write_some(encrypted(inner))
    inner.data.texts["messages/s/plain/0"] = "[]"

    with pytest.raises(EncryptionError, match="it is not encrypted, as all") as caught:
        rotate(inner, sealer(BOTH))

    assert caught.value.key == "messages/s/plain/0"
    assert key_ids(inner) == {None, "new"}
