"""Tests of user and application state with concurrent writers, lost replies, encryption and expiry."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from functools import partial, reduce
from itertools import count

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pyai_sessions import (
    Encrypted,
    EncryptionError,
    InvalidDocumentError,
    KVSessionStore,
    RedisMapping,
    SessionManager,
    SQLiteMapping,
    StateConflictError,
    StorageError,
)
from pyai_sessions.documents.listed import listed
from pyai_sessions.storage.families import storage_of
from pyai_sessions.storage.wrappers import Wrapper
from pyai_sessions.testing import FaultyMapping, StoppedClock

KEYS = {"index": b"i" * 32, "old": b"o" * 32}
NEWER = {**KEYS, "new": b"n" * 32}

names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.just([{"a": 1}]),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(names, values, max_size=3)
which = st.integers(0, 1)
users = st.sampled_from(["ada", None])
paths = st.lists(names | st.lists(names, min_size=1, max_size=3), max_size=2)


def merged(state, changes):
    """Return a state merged as by RFC 7396, except that None is a value."""
    if not (isinstance(state, dict) and isinstance(changes, dict)):
        return changes
    return {**state, **{key: merged(state[key], each) if key in state else each for key, each in changes.items()}}


def removed(state, path):
    first, *rest = [path] if isinstance(path, str) else path
    if not isinstance(state, dict) or first not in state:
        return state
    kept = {key: each for key, each in state.items() if key != first}
    return kept if not rest else {**state, first: removed(state[first], rest)}


class StateMachine(RuleBasedStateMachine):
    """Two managers of one storage, one of which may be stale, and a plain dict."""

    revisions = Bundle("revisions")

    @initialize(kind=st.sampled_from(["dict", "sqlite", "encrypted", "migrating"]))
    def open(self, kind):
        mapping = SQLiteMapping(":memory:") if kind == "sqlite" else {}
        if kind == "migrating":
            self.models = {"ada": {"a": 1}, None: {"b": 2}}
            before = SessionManager(mapping)
            before.update_user_state("ada", {"a": 1})
            before.update_app_state({"b": 2})
        else:
            self.models = {"ada": {}, None: {}}
        if kind in ("encrypted", "migrating"):
            mapping = Encrypted(mapping, KEYS, migrate=kind == "migrating")
        self.kind, self.mapping = kind, mapping
        self.managers = [SessionManager(KVSessionStore(mapping)) for _ in range(2)]

    def read(self, manager, user):
        return manager.app_state() if user is None else manager.user_state(user)

    def update(self, manager, user, *given, **options):
        update = manager.update_app_state if user is None else partial(manager.update_user_state, user)
        return update(*given, **options)

    @rule(which=which, user=users, changes=objects, remove=paths, replace=st.booleans())
    def change(self, which, user, changes, remove, replace):
        found = self.update(self.managers[which], user, changes, remove=remove, replace=replace)

        base = {} if replace else reduce(removed, remove, self.models[user])
        self.models[user] = merged(base, changes)
        assert found == self.models[user]

    @rule(target=revisions, which=which, user=users)
    def note(self, which, user):
        return user, self.read(self.managers[which], user)

    @rule(which=which, noted=consumes(revisions), n=st.integers(0, 3))
    def compare_and_set(self, which, noted, n):
        user, state = noted
        manager = self.managers[which]
        now = self.read(manager, user).revision
        set_n = partial(self.update, manager, user, {"n": n}, if_revision=state.revision)
        if now == state.revision:
            self.models[user] = merged(self.models[user], {"n": n})
            assert set_n() == self.models[user]
        else:
            with pytest.raises(StateConflictError):
                set_n()

    @rule(which=which)
    def erase(self, which):
        self.managers[which].delete_user("ada", scan=True)
        self.models["ada"] = {}

    @rule(which=which)
    def tend(self, which):
        assert self.managers[which].verify(repair=True).problems == []
        self.managers[which].purge_expired()
        if self.kind in ("encrypted", "migrating"):
            self.managers[which].rotate_keys()

    @invariant()
    def both_read_what_is_stored(self):
        for manager in self.managers:
            for user, model in self.models.items():
                assert self.read(manager, user) == model
            assert manager.count() == 0


StateMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
TestAgainstADict = StateMachine.TestCase


@settings(deadline=None, max_examples=50)
@given(st.lists(objects, max_size=4))
def test_updates_are_merged_one_after_another(changes):
    """Updates by several managers give the same state as on a dict."""
    mapping = {}
    for each in changes:
        SessionManager(mapping).update_user_state("ada", each)

    assert SessionManager(mapping).user_state("ada") == reduce(merged, changes, {})


# Other writers --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["dict", "sqlite", "redis"])
def mapping(request, tmp_path):
    if request.param == "dict":
        yield {}
    elif request.param == "sqlite":
        with closing(SQLiteMapping(tmp_path / "state.db", timeout=60)) as mapping:
            yield mapping
    else:
        with closing(redis.Redis.from_url(request.getfixturevalue("redis_server").url)) as client:
            yield RedisMapping(client, prefix=f"{secrets.token_hex(8)}:")


def test_writers_of_different_keys_all_succeed(mapping):
    """Concurrent updates of different keys are all stored."""
    managers = [SessionManager(KVSessionStore(mapping, timeout=60)) for _ in range(4)]

    def write(n):
        for m in range(10):
            managers[n].update_app_state({"by": {str(n): {str(m): m}}})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))

    assert managers[0].app_state() == {"by": {str(n): {str(m): m for m in range(10)} for n in range(4)}}


def test_a_compared_counter_counts_each_time(mapping):
    """Of two writers that read the same revision, one writes, and the other reads again."""
    managers = [SessionManager(KVSessionStore(mapping, timeout=60)) for _ in range(3)]
    conflicts = []

    def count(manager):
        for _ in range(10):
            while True:
                state = manager.user_state("ada")
                try:
                    manager.update_user_state("ada", {"n": state.get("n", 0) + 1}, if_revision=state.revision)
                    break
                except StateConflictError as err:
                    conflicts.append(err)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(count, managers))

    assert managers[0].user_state("ada") == {"n": 30}


class Resending(Wrapper):
    """A storage whose client sends every write twice. *between* is called in between."""

    def __init__(self, inner, between):
        super().__init__(inner)
        self._between = between

    def exclusive(self):
        return nullcontext()  # as on a server

    def read(self, keys):
        return self._inner.read(keys)

    def write(self, changes):
        self._inner.write(changes)
        self._between()
        return self._inner.write(changes)

    def keys(self, prefix=""):
        return self._inner.keys(prefix)

    def scan(self, name, after=None, limit=100, *, newest_first=False):
        return self._inner.scan(name, after, limit, newest_first=newest_first)

    def count(self, name):
        return self._inner.count(name)

    def listings(self, of=None, *, prefix=""):
        return self._inner.listings(of, prefix=prefix)


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize("compared", [False, True])
def test_a_write_that_is_sent_twice_is_one(others, compared):
    """A write that is sent twice is applied once, keeps what others wrote between, and raises no conflict."""
    inner = storage_of({}, listed)
    other = SessionManager(KVSessionStore(inner))
    between = []

    def overtake():
        for _ in range(others):
            between.append(other.update_user_state("ada", {"n": "theirs", "more": len(between)}))

    manager = SessionManager(KVSessionStore(Resending(inner, overtake)))

    state = manager.update_user_state("ada", {"n": "mine"}, if_revision="" if compared else None)

    assert state == other.user_state("ada")
    assert state["n"] == ("theirs" if others else "mine")


# Encrypted ------------------------------------------------------------------------------------------------------------


def test_an_encrypted_state_shows_neither_user_nor_text():
    """The key has the user's hash. An update takes no more round trips than a plain one."""
    inner = {}
    manager = SessionManager(KVSessionStore(Encrypted(inner, KEYS)))

    manager.update_user_state("ada.lovelace", {"secret": "hunter2!"})
    manager.update_app_state({"secret": "hunter2!"})

    assert "ada.lovelace" not in str(inner)
    assert "hunter2!" not in str(inner)
    assert manager.user_state("ada.lovelace") == manager.app_state() == {"secret": "hunter2!"}


def test_an_encrypted_state_is_bound_to_its_key():
    """A state that was moved to another user cannot be read."""
    inner = {}
    manager = SessionManager(KVSessionStore(Encrypted(inner, KEYS)))
    manager.update_user_state("ada", {"n": 1})
    [adas] = [key for key in inner if key.startswith("state/")]
    manager.update_user_state("bob", {"n": 2})
    [bobs] = [key for key in inner if key.startswith("state/") and key != adas]
    inner[bobs] = inner[adas]

    with pytest.raises(InvalidDocumentError):
        manager.user_state("bob")


def test_state_is_rotated(tmp_path):
    """Rotation encrypts a state with the newest key, and keeps its revision."""
    with closing(SQLiteMapping(tmp_path / "state.db")) as inner:
        before = SessionManager(KVSessionStore(Encrypted(inner, KEYS))).update_user_state("ada", {"n": 1})
        manager = SessionManager(KVSessionStore(Encrypted(inner, NEWER)))

        assert [manager.rotate_keys(), manager.rotate_keys()] == [1, 0]

        ring = {name: NEWER[name] for name in ("index", "new")}
        after = SessionManager(KVSessionStore(Encrypted(inner, ring))).user_state("ada")
        assert (after, after.revision) == (before, before.revision)
        with pytest.raises(EncryptionError):
            SessionManager(KVSessionStore(Encrypted(inner, KEYS))).user_state("ada")


USERS = ADA, BOB, CAROL, DAN = "ada.", "bob.", "carol.", "dan."
"""No encrypted text contains one of these by chance."""


@pytest.mark.parametrize("namespace", [None, "tenant"])
def test_plain_state_is_encrypted(namespace):
    """During a migration a plain state is read, changed and erased. Rotation moves it to the hashed key."""
    inner, clock = {}, StoppedClock()
    plain = SessionManager(KVSessionStore(inner, namespace=namespace), clock=clock)
    for user in USERS:
        plain.update_user_state(user, {"n": user}, ttl=60 if user == DAN else None)
    plain.update_app_state({"n": 1})
    manager = SessionManager(KVSessionStore(Encrypted(inner, KEYS, migrate=True), namespace=namespace), clock=clock)

    assert manager.user_state(ADA) == {"n": ADA}
    assert manager.update_user_state(ADA, {"m": 2}) == {"n": ADA, "m": 2}
    assert ADA not in str(inner)
    assert manager.delete_user(BOB).states == 1
    assert manager.rotate_keys() == 3
    assert manager.rotate_keys() == 0

    assert [name for name in USERS if name in str(inner)] == []
    done = SessionManager(KVSessionStore(Encrypted(inner, KEYS), namespace=namespace), clock=clock)
    assert [done.user_state(user) for user in (ADA, BOB, CAROL)] == [{"n": ADA, "m": 2}, {}, {"n": CAROL}]
    assert done.app_state() == {"n": 1}
    assert done.user_state(DAN).expires_at is not None
    assert done.verify().problems == []


def test_a_ring_that_does_not_fit_is_told():
    """With another index key, reading a state raises. It does not return an empty one."""
    inner = {}
    manager = SessionManager(KVSessionStore(Encrypted(inner, KEYS)))
    manager.create_session(ADA)
    manager.update_user_state(ADA, {"n": 1})

    with pytest.raises(EncryptionError):
        SessionManager(KVSessionStore(Encrypted(inner, {**KEYS, "index": b"x" * 32}))).user_state(ADA)


# On a server ----------------------------------------------------------------------------------------------------------


def test_a_server_forgets_state_that_expires(redis_server):
    """A state's hash expires with the state, independently of a session of the same id."""
    prefix = f"{secrets.token_hex(8)}:"
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        mapping = RedisMapping(client, prefix=prefix)
        manager = SessionManager(KVSessionStore(mapping, ttl=3600))
        manager.create_session("ada", session_id="ada")
        manager.update_user_state("ada", {"n": 1}, ttl=60)
        manager.update_app_state({"n": 1})

        left = {key.decode(): client.ttl(key) for key in client.keys(f"{prefix}*") if client.type(key) == b"hash"}

        [ada] = [end for key, end in left.items() if "user" in key]
        [app] = [end for key, end in left.items() if "app" in key]
        assert 0 < ada <= 60
        assert app == -1
        assert 3500 < left[f"{prefix}ada"] <= 3700
        manager.update_user_state("ada", {}, ttl=None)
        assert {client.ttl(key) for key in client.keys(f"{prefix}/other/user*") if client.type(key) == b"hash"} == {-1}


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("call", ["rotate", "update", "erase"])
def test_a_move_that_is_cut_short_loses_nothing(call, applied):
    """If a write fails while a plain state is encrypted, nothing is lost, and a repetition completes it."""
    before, after = {"n": 1}, {"rotate": {"n": 1}, "update": {"n": 1, "m": 2}, "erase": {}}[call]
    for at in count(1):
        items = {}
        SessionManager(items).update_user_state(ADA, before)
        faulty = FaultyMapping(items)
        manager = SessionManager(KVSessionStore(Encrypted(faulty, KEYS, migrate=True)))
        other = SessionManager(KVSessionStore(Encrypted(items, KEYS, migrate=True)))
        act = {
            "rotate": manager.rotate_keys,
            "update": partial(manager.update_user_state, ADA, {"m": 2}),
            "erase": partial(manager.delete_user, ADA),
        }[call]
        assert manager.user_state(ADA) == before
        faulty.fail(OSError("broken"), of=("write", "delete"), at=at, applied=applied)

        with suppress(StorageError):
            act()

        faulty.mend()
        assert other.user_state(ADA) in (before, after)
        act()
        assert other.user_state(ADA) == manager.user_state(ADA) == after
        other.rotate_keys()
        assert other.user_state(ADA) == after
        assert ADA not in str(items)
        if not faulty.faults:
            break
    assert at > 1
