"""Tests of encrypted storages: stored values, comparison, and users in lists."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import EncryptionError, InvalidDocumentError, KVSessionStore, SessionManager
from pyai_sessions.documents.envelopes import read_envelope
from pyai_sessions.documents.listed import listed
from pyai_sessions.encryption.storage import EncryptedStorage
from pyai_sessions.storage.mapping import MappingStorage
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.storage.wrappers import Namespaced, Wrapper
from pyai_sessions.testing import StoppedClock
from pyai_sessions.testing.storage import StorageContract
from tests.storage.encrypted import BOTH, FIRST, LAST, NEW, OLD, Told, encrypted, put, sealer
from tests.storage.plain import Data, PlainStorage
from tests.storage.test_namespaces import DONE, SAID


class Contract(StorageContract):
    def wrapped(self, inner, names):
        return Told(inner, sealer(), names)

    @pytest.fixture
    def reopen(self):
        data, names = Data(), {}
        return lambda **options: self.wrapped(PlainStorage(data, **options), names)

    @pytest.fixture
    def storage(self, reopen):
        return reopen()

    @pytest.fixture
    def impatient(self, reopen):
        return lambda: reopen(timeout=0.1)


class TestAnEncryptedStorage(Contract):
    pass


@pytest.mark.long
class TestACompressedStorageThatIsMigrated(Contract):
    def wrapped(self, inner, names):
        return Told(inner, sealer(compress=True, migrate=True), names)


class TestANamespaceOfAnEncryptedStorage(Contract):
    def wrapped(self, inner, names):
        return Namespaced(super().wrapped(inner, names), "namespace/a%2Fb/")


def heads(**users):
    """Return heads of sessions by id, with these users, as a plain store has them."""
    mapping = {}
    manager = SessionManager(KVSessionStore(mapping, clock=StoppedClock()))
    for session_id, user_id in users.items():
        manager.create_session(user_id, session_id=session_id)
    return {key: value.encode() for key, value in mapping.items()}


def save(storage, key, text, *, old=None, under=""):
    """Write a head with its list entries."""
    lists = [Listing(name, member, old, score) for name, member, score in listed(under + key, lambda: text)]
    assert storage.write([Change(put=[(under + key, text)], lists=lists)]) == [True]


# Documents ------------------------------------------------------------------------------------------------------------


def test_a_document_lies_encrypted_and_bound_to_its_whole_key():
    """A document cannot be read under another key, or under the same key of another namespace."""
    data = Data()
    storage = encrypted(PlainStorage(data))
    save(storage, "session/s", heads(s="ada lovelace")["session/s"])
    put(Namespaced(storage, "namespace/a/"), "messages/s/g/0", b'["what was said"]')
    at = "namespace/a/messages/s/g/0"

    assert set(data.texts) == {"session/s", at}
    assert all(read_envelope(value) for value in data.texts.values())
    assert not [each for each in ("ada", "said") if each in str(data.texts) + str(data.lists)]
    for key in ("messages/s/g/0", "namespace/b/messages/s/g/0", "namespace/a/messages/s/g/1"):
        data.texts[key] = data.texts[at]
        assert isinstance(storage.read([key])[key], InvalidDocumentError)
    assert storage.read([at])[at] == b'["what was said"]'


def test_what_cannot_be_opened_is_an_error_in_the_place_of_the_document():
    """A missing key, plain text and damage are returned as different errors. Other values come as they are."""
    data = Data()
    put(encrypted(PlainStorage(data)), "messages/s/g/0", b"[]")
    data.texts |= {"messages/s/g/1": "[]", "messages/s/g/2": "half a docum", "messages/s/g/3": 5}

    found = encrypted(PlainStorage(data), LAST).read(sorted(data.texts))

    kinds = [type(found[f"messages/s/g/{n}"]) for n in range(4)]
    assert kinds == [EncryptionError, EncryptionError, InvalidDocumentError, int]
    assert [found[f"messages/s/g/{n}"].document for n in range(3)] == list(data.texts.values())[:3]


@pytest.mark.parametrize("keys", [FIRST, LAST], ids=["damaged", "key missing"])
def test_what_cannot_be_opened_can_be_set_aside(keys):
    """An unreadable value is set aside as stored. With the right keys it can be read there."""
    data = Data()
    first = encrypted(PlainStorage(data))
    save(first, "session/s", heads(s="ada")["session/s"])
    put(first, "messages/s/g/0", b"[]")
    if keys is FIRST:
        data.texts = {key: value[:-40] + 'AAAA"}' for key, value in data.texts.items()}
    data.texts["messages/s/g/1"] = "half a docum"
    before = list(data.texts.values())
    aside = ["unreadable/s/t/session", "unreadable/s/t/messages/g/0", "unreadable/s/t/messages/g/1"]
    storage = encrypted(PlainStorage(data), {**keys, "index": FIRST["index"]})
    values = [storage.read([key])[key] for key in ("session/s", "messages/s/g/0", "messages/s/g/1")]

    change = Change(put=list(zip(aside, values, strict=True)), drop=["session/s", "messages/s/"])
    if keys is LAST:  # a ring that does not open the head still fits: its users are hashed with the same key
        assert isinstance(values[0], EncryptionError)
    assert storage.write([change]) == [True]

    assert list(data.texts) == aside
    assert list(data.texts.values()) == before
    if keys is LAST:
        assert json.loads(encrypted(PlainStorage(data), BOTH).read(aside)[aside[0]])["user_id"] == "ada"
        assert first.read(aside)[aside[1]] == b"[]"


# Comparing ------------------------------------------------------------------------------------------------------------

STAMP = '{"format":1,"revision":"r1"'
TEXTS = [
    STAMP,
    STAMP + ',"session_id":"s"}',
    '{"format":1,"revision":"r10"}',
    '{ "format": 1, "revision": "by hand" }',
    '{"format":1,"pages":{}}',
    "[]",
    "",
    "caf\u00e9",
    "5",
]
KEYS = ["session/s", "messages/s/g/0", "forks/s/t/i", "doc/s", "unreadable/s/t/session", "session/a b"]


@settings(max_examples=200)
@given(data=st.data(), migrate=st.booleans())
def test_a_change_is_applied_where_the_text_begins_as_expected(data, migrate):
    """The plain text is compared, by its beginning or whole. A change that was applied counts as applied."""
    model, storage = PlainStorage(), encrypted(PlainStorage(), migrate=migrate)
    stored = data.draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS)))
    for key, text in stored.items():
        put(storage, key, text.encode())
        put(model, key, text.encode())
    ours = [f"{each[:n]}" for each in storage._inner.data.texts.values() for n in (5, 12, 24, 40, 400)]
    theirs = [each[:n] for each in TEXTS for n in (0, 1, 12, 14, 100)]
    starts = st.sampled_from(TEXTS + theirs + ours)
    expect = data.draw(st.lists(st.tuples(st.sampled_from(KEYS), st.none() | starts), max_size=3))
    done = data.draw(st.none() | starts) if expect else None

    change = Change(expect=expect, done=done, put=[("doc/s", b"written")], drop=["session/s"])

    assert storage.write([change]) == model.write([change])
    found = storage.read(sorted(set(storage.keys())))
    assert {key: value.decode() for key, value in found.items()} == model.data.texts


@settings(max_examples=100)
@given(start=st.sampled_from([STAMP, "{", '{"format":1,"enc', "half a", "half a docum", "", "x", "\ufffd"]))
def test_what_cannot_be_opened_is_compared_as_it_is_stored(start):
    """An unreadable value is compared by its stamp, or as stored."""
    for value in ("half a docum", STAMP + ',"encrypted":"lost.AAAAAAAA:AAAA"}'):
        data = Data()
        data.texts["session/s"] = value
        change = Change(expect=[("session/s", start)], drop=["session/s"])

        assert encrypted(PlainStorage(data)).write([change]) == [value.startswith(start)]


def test_a_head_of_ours_is_compared_without_a_look():
    """A save is one write to the storage inside, without a read."""
    calls = []

    class Watched(PlainStorage):
        def read(self, keys):
            calls.append(keys)
            return super().read(keys)

    storage = encrypted(Watched())
    save(storage, "session/s", heads(s="ada")["session/s"])
    save(storage, "session/s", heads(s="ada")["session/s"])
    calls.clear()
    stamp = json.loads(storage.read(["session/s"])["session/s"])["revision"]
    text = heads(s="ada")["session/s"]
    change = Change(
        expect=[("session/s", f'{{"format":1,"revision":"{stamp}"')], done=text.decode()[:40], put=[("session/s", text)]
    )
    calls.clear()

    assert storage.write([change._replace(done='{"format":1,"revision":"another"')]) == [True]
    assert calls == []


# Lists ----------------------------------------------------------------------------------------------------------------

USER = "user/ada/active"


def test_users_are_hashed_once():
    """Users in names of lists and members are hashed. Hashed names are accepted as they are."""
    data = Data()
    storage = encrypted(PlainStorage(data))
    lists = [Listing(USER, "s", None, 1), Listing("expiry", "s/active/ada", None, 2), Listing("active", "s", None, 1)]
    lists += [Listing("expiry", "t/active/", None, 3), Listing("namespace/a/user/ada/active", "s", None, 4)]
    put(storage, "doc/s", b"", lists=lists)

    told = list(storage.listings())
    assert len(told) == 5
    assert not [each for each in told if "ada" in str(each)]
    name = next(name for name, _, _ in told if name.startswith("user/"))
    member = storage.scan("expiry")[0][1]
    assert (name, member) == (f"user/={sealer().user('ada')}/active", f"s/active/={sealer().user('ada')}")
    assert storage.scan(name) == storage.scan(USER) == [(1, "s")]
    assert storage.count(name) == storage.count(USER) == 1
    assert sorted(storage.listings([(USER, "s"), (name, "s")])) == sorted([(USER, "s", 1), (name, "s", 1)])
    assert list(storage.listings([("expiry", "s/active/ada"), ("expiry", "none")])) == [("expiry", "s/active/ada", 2)]
    assert list(storage.listings(prefix="user/ada/")) == list(storage.listings(prefix="user/")) == [(name, "s", 1)]

    put(storage, "doc/s", b"", lists=[Listing(name, "s", 1, 7), Listing("expiry", member, 2, 8)])
    assert storage.scan(USER) == [(7, "s")]
    put(storage, "doc/s", b"", lists=[Listing(each, m, score, None) for each, m, score in storage.listings()])
    assert not any(data.lists.values())


def test_a_user_whose_id_looks_hashed_is_hashed():
    """A user id that begins with "=" is percent-encoded, and cannot equal a hash."""
    storage = encrypted(PlainStorage())
    hashed = f"={sealer().user('ada')}"
    put(storage, "doc/s", b"", lists=[Listing(f"user/{hashed.replace('=', '%3D')}/active", "s", None, 1)])

    assert storage.count(USER) == storage.count(f"user/{hashed}/active") == 0
    assert storage.count(f"user/%3D{hashed[1:]}/active") == 1


@pytest.mark.parametrize("migrate", [False, True])
def test_a_member_that_is_taken_out_by_one_name_and_put_in_by_another_is_in(migrate):
    """A change that removes a member by the hashed name and adds it by the plain one leaves it listed."""
    written = []

    class Watched(PlainStorage):
        def write(self, changes):
            written.extend(changes)
            return super().write(changes)

    storage = encrypted(Watched(), migrate=migrate)
    hashed = f"user/={sealer().user('ada')}/active"
    lists = [Listing(hashed, "s", 5, None), Listing(USER, "s", None, 7)]

    for each in (lists, lists[::-1]):
        put(storage, "doc/s", b"", lists=each)

        assert storage.scan(USER) == [(7, "s")]
    for change in written:
        assert len({each[:2] for each in change.lists}) == len(change.lists) == 1 + migrate
        assert change.lists[0] == Listing(hashed, "s", 5, 7)


@pytest.mark.parametrize("under", ["", "namespace/a%2Fb/"])
@pytest.mark.parametrize("ttl", [None, 60])
def test_lists_that_are_made_of_documents_are_those_that_were_written(under, ttl):
    """Encrypted heads show their list entries, so any storage can derive lists from them."""
    written = {}
    clock = StoppedClock()
    manager = SessionManager(KVSessionStore(written, ttl=ttl, clock=clock))
    for n, user_id in enumerate(["ada", None, "b/c", "=d"]):
        manager.create_session(user_id, session_id=f"s{n}/")
        clock.advance(seconds=1)
    manager.archive("s2/")
    mapping, kept = {}, PlainStorage()
    for key, text in written.items():
        for inner in (MappingStorage(mapping, derive=listed), kept):
            save(encrypted(inner), key, text.encode(), under=under)

    made = MappingStorage(dict(mapping), derive=listed)

    assert sorted(made.listings()) == sorted(kept.listings()) != []
    part = Namespaced(encrypted(made), under)
    assert [part.count(f"user/{each}/active") for each in ("ada", "b%2Fc", "%3Dd")] == [1, 0, 1]
    assert (part.count("active"), part.count("user/b%2Fc/archived")) == (3, 1)
    assert part.count("expiry") == (4 if ttl else 0)


# Stores that were not encrypted ---------------------------------------------------------------------------------------


def test_plain_and_encrypted_documents_stand_in_one_list_while_migrating():
    """During a migration a list has plain and encrypted entries, each once, in order. A write moves an entry."""
    inner = PlainStorage()
    documents = heads(a="ada", b="ada", c="ada", d="bob")
    for n, (key, text) in enumerate(documents.items()):
        save(encrypted(inner, migrate=True) if n == 1 else inner, key, text)
    storage = encrypted(inner, migrate=True)
    plain = inner.scan(USER)
    assert [member for _, member in plain] == ["a", "c"]

    found = storage.scan(USER)
    assert [member for _, member in found] == ["a", "b", "c"]
    assert storage.scan(USER, newest_first=True) == found[::-1]
    assert [storage.scan(USER, found[n], 1) for n in range(3)] == [found[1:2], found[2:3], []]
    assert (storage.count(USER), storage.count("active")) == (3, 4)
    assert sorted(storage.listings([(USER, each) for each in "abcd"])) == [(USER, m, score) for score, m in found]
    assert len(list(storage.listings(prefix="user/ada/"))) == 3

    save(storage, "session/a", documents["session/a"], old=found[0][0])
    assert inner.scan(USER) == plain[1:]
    assert storage.scan(USER) == found
    gone = [Listing("active", "c", found[2][0], None), Listing(USER, "c", found[2][0], None)]
    assert storage.write([Change(drop=["session/c"], lists=gone)]) == [True]
    assert inner.scan(USER) == []
    assert storage.scan(USER) == found[:2]


def test_a_plain_member_of_what_expires_moves_while_migrating():
    """An entry of the list of expiring sessions moves, too."""
    inner = PlainStorage()
    put(inner, "doc/s", b"{}", lists=[Listing("expiry", "s/active/ada", None, 5)])
    storage = encrypted(inner, migrate=True)
    [(score, member)] = storage.scan("expiry")

    put(storage, "doc/s", b"{}", lists=[Listing("expiry", member, score, 6)])
    assert storage.scan("expiry") == inner.scan("expiry") == [(6, f"s/active/={sealer().user('ada')}")]

    put(inner, "doc/s", b"{}", lists=[Listing("expiry", "s/active/ada", None, 5)])
    put(storage, "doc/s", b"{}", lists=[Listing("expiry", "s/active/ada", score, None)])
    assert storage.scan("expiry") == []


# The ring -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("under", ["", "namespace/a/"])
@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"index": NEW, "old": OLD}, "hashed with another key"),
        ({"old": OLD}, "hashed with another key"),
        (None, "it is not encrypted, as all"),
    ],
)
def test_a_ring_that_does_not_fit_is_refused(under, keys, problem):
    """A key ring that does not fit raises before a write, and before a list seems empty."""
    inner = PlainStorage()
    save(inner if keys is None else encrypted(inner), "session/s", heads(s="ada")["session/s"], under=under)
    storage = encrypted(inner, keys or FIRST)
    before = dict(inner.data.texts)

    for act in (
        lambda: storage.scan(f"{under}{USER}"),
        lambda: storage.count(f"{under}{USER}"),
        lambda: list(storage.listings([(f"{under}{USER}", "s")])),
        lambda: put(storage, f"{under}messages/s/g/0", b"[]"),
        lambda: storage.write([Change(drop=[f"{under}messages/s/"])]),
    ):
        with pytest.raises(EncryptionError, match=problem) as caught:
            act()
        assert (caught.value.key, caught.value.session_id) == (f"{under}session/s", "s")
    assert inner.data.texts == before
    put(storage, "namespace/other/messages/s/g/0", b"[]")
    assert storage.count(f"namespace/other/{USER}") == 0


def test_a_page_that_begins_as_a_head_is_compared_by_its_text():
    """A page is compared by its plain text, since only encrypted heads show their beginning."""
    storage = encrypted(PlainStorage())
    put(storage, "messages/s/g/0", STAMP.encode() + b"}")

    assert storage.write([Change(expect=[("messages/s/g/0", STAMP)], drop=["messages/s/"])]) == [True]


def test_a_ring_fits_what_it_wrote():
    """A key ring is checked once. Later lists take one call."""
    calls = []

    class Watched(PlainStorage):
        def scan(self, name, after=None, limit=100, *, newest_first=False):
            calls.append(name)
            return super().scan(name, after, limit, newest_first=newest_first)

    storage = encrypted(Watched())
    save(storage, "session/s", heads(s="ada")["session/s"])
    storage.scan(USER)
    calls.clear()

    assert [storage.scan(USER)[0][1], len(calls)] == ["s", 1]


# What lies within -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAID)
def test_an_encrypted_storage_is_what_the_one_within_says_of_itself(name):
    """An encrypted storage has the attributes of the storage inside."""
    inner, said = PlainStorage(), object()
    setattr(inner, name, said)

    assert getattr(encrypted(inner), name) is said


def test_an_encrypted_storage_does_all_by_the_one_within():
    """An encrypted storage overrides every method of the protocol."""
    assert [name for name in DONE if name not in {**vars(Wrapper), **vars(EncryptedStorage)}] == []
