"""Tests of `verify` beside writers: it reports no false problem, and finds all damage."""

import itertools
import json
import random
import secrets
import threading
from contextlib import closing, suppress

import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    Encrypted,
    InvalidDocumentError,
    KVSessionStore,
    RedisSessionStore,
    SessionManager,
    SessionStateError,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageError,
)
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.testing import FaultyMapping
from pyai_sessions.testing.samples import fill
from tests.faults.workers import in_a_process

KEYS = {"index": b"i" * 32, "a": b"a" * 32}


def sqlite(path):
    return SQLiteSessionStore(path / "chat.db", synchronous="OFF", timeout=60)


@pytest.fixture(params=["dict", "sqlite", "diskcache", "valkey", "encrypted"])
def store(request, tmp_path):
    made = {
        "dict": lambda: KVSessionStore({}, timeout=60),
        "sqlite": lambda: sqlite(tmp_path),
        "diskcache": lambda: DiskCacheSessionStore(tmp_path / "chat", timeout=60),
        "valkey": lambda: RedisSessionStore(
            request.getfixturevalue("valkey_server").url, f"{secrets.token_hex(8)}:", 60, timeout=0.2
        ),
        "encrypted": lambda: KVSessionStore(Encrypted(SQLiteMapping(tmp_path / "chat.db"), KEYS), timeout=60),
    }[request.param]()
    with closing(made):
        yield made


def change(manager, random_):
    """Make one change of one of a few sessions."""
    name = f"s{random_.randrange(4)}"
    act = random_.choice(["append", "append", "save", "rewind", "fork", "delete", "archive", "restore", "give away"])
    with suppress(SessionStateError):
        if act == "append":
            manager.append(name, {"role": "user", "content": "words " * 40})
        elif act in ("archive", "restore", "delete"):
            getattr(manager, act)(name)
        elif act == "fork":
            manager.fork(name, new_id=f"s{random_.randrange(4)}")
        else:
            session = manager.get_or_create_session(name)
            if act == "rewind" and session.message_count > 10:
                session.rewind(session.messages[5].message_id)
            elif act == "give away":
                session.user_id = random_.choice(["ada", "bob", None])
            else:
                fill(session, 20, session.message_count + 1000)
            manager.save(session)


def keep_writing(manager, ended, seed):
    random_ = random.Random(seed)
    while not ended.is_set():
        with suppress(SessionStateError, ValueError):
            change(manager, random_)


@pytest.fixture
def writers(store):
    """Threads that change a few sessions as fast as they can."""
    ended = threading.Event()
    manager = SessionManager(store)
    threads = [threading.Thread(target=keep_writing, args=(manager, ended, n)) for n in range(3)]
    for each in threads:
        each.start()
    yield manager
    ended.set()
    for each in threads:
        each.join()


def test_a_sound_store_is_found_sound_beside_writers(writers):
    """`verify` beside writers finds no problem in a sound store."""
    for _ in range(15):
        assert writers.verify().problems == []


def write_in_a_process(link, path):
    with closing(sqlite(path)) as store:
        link.send("begun")
        random_ = random.Random(1)
        manager = SessionManager(store)
        while not link.poll():
            with suppress(SessionStateError, ValueError):
                change(manager, random_)


def test_a_sound_file_is_found_sound_beside_a_process_that_writes(tmp_path):
    """The same holds if another process commits between any two reads."""
    process, link = in_a_process(write_in_a_process, tmp_path)
    assert link.recv() == "begun"
    with closing(sqlite(tmp_path)) as store:
        for _ in range(30):
            assert SessionManager(store).verify().problems == []
    link.send("end")
    process.join()


def test_damage_is_found_beside_writers(store, writers):
    """Unlisted sessions, wrong entries, torn heads, missing pages and orphan pages are found beside writers."""
    raw = store.mapping
    for name in ("torn", "paged", "moved"):
        session = writers.create_session("carol", session_id=name)
        fill(session, 80)
        writers.save(session)
    head = json.loads(raw["session/moved"])
    raw["session/moved"] = json.dumps(head | {"user_id": "dan"})
    raw["session/torn"] = raw["session/torn"].rstrip()[:-30]
    del raw[next(key for key in raw if key.startswith("messages/paged/"))]
    raw["messages/none/g/0"] = "[]"
    raw["forks/gone/never/i"] = '{"format":1,"pages":{"g":1}}'

    found = {(each.kind, each.session_id) for each in writers.verify().problems}

    assert found >= {
        ("unreadable head", "torn"),
        ("missing page", "paged"),
        ("orphan page", "none"),
        ("orphan reference", "never"),
    }
    if not isinstance(raw, dict):  # an index in memory is made of the documents
        assert ("index", "moved") in found
    assert {each for _, each in found} == {"torn", "paged", "none", "never", "moved"} - (
        {"moved"} if ("index", "moved") not in found else set()
    )


class Restless(dict):
    """A dict in which another program changes one document after each of so many reads."""

    changing, changes = None, 0

    def __getitem__(self, key):
        value = super().__getitem__(key)
        if key == self.changing and self.changes:
            self.changes -= 1
            self[key] = f"damaged {self.changes}"
        return value


@pytest.mark.parametrize("kind", ["session", "messages"])
def test_what_changes_while_it_is_set_aside_is_set_aside_as_it_is_then(kind):
    """A repair sets aside a document only as it read it, and repeats until nothing unreadable is left."""
    mapping = Restless()
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s")
    fill(session, 80)
    manager.save(session)
    key = next(each for each in mapping if each.startswith(f"{kind}/s"))
    mapping[key], mapping.changing, mapping.changes = "damaged", key, 20

    assert manager.verify(repair=True)

    aside = [value for each, value in mapping.items() if each.startswith("unreadable/")]
    assert [each for each in aside if each.startswith("damaged")] == ["damaged 0"]
    assert key not in mapping
    assert manager.verify().problems == []


def test_a_wrong_place_in_the_list_of_what_expires_is_found_and_mended(store):
    """Wrong entries in the list of expiring sessions are found and corrected."""
    manager, storage = SessionManager(store), store._engine.backend.storage
    manager.create_session("ada", session_id="s")
    right = storage.scan("expiry")
    wrong = Listing("expiry", "s/active/ada", None, 1)
    assert storage.write([Change([("session/s", "")], lists=[wrong])]) == [True]

    assert [(each.kind, each.session_id) for each in manager.verify().problems] == [("index", "s")]
    assert manager.verify(repair=True)

    assert storage.scan("expiry") == right
    assert manager.count("ada") == 1


@pytest.mark.parametrize("damage", ["head", "page", "message"])
def test_a_repair_that_was_cut_short_sets_nothing_aside_twice(damage):
    """A repair that is repeated after a failure sets each document aside once."""
    for of, at in itertools.product(["write", "delete"], range(1, 12)):
        manager = SessionManager({})
        mapping = manager.store.mapping
        session = manager.create_session("ada", session_id="s")
        for n in range(70):
            session.add_message("user", f"message {n}")
        manager.save(session)
        key = next(each for each in mapping if each.startswith("messages/" if damage == "page" else "session/s"))
        torn = mapping[key].replace('"role":"user","content":"message 69"', '"role":7,"content":"message 69"')
        assert torn != mapping[key] or damage == "page"
        mapping[key] = torn if damage == "message" else torn[:-30]
        faulty = FaultyMapping(mapping)
        faulty.fail(OSError(5, "cut short"), of=of, at=at)
        with suppress(StorageError):
            SessionManager(KVSessionStore(faulty)).verify(repair=True)

        assert SessionManager(mapping).verify(repair=True)

        aside = [value for each, value in mapping.items() if each.startswith("unreadable/")]
        assert aside
        assert len(aside) == len(set(aside)), (of, at)


def test_the_remedy_of_one_bad_message_says_that_the_others_stay():
    """The error of a head with one bad message names a repair that keeps the rest, and `verify` counts what is bad."""
    mapping = {}
    manager = SessionManager(mapping)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "kept")
    session.add_message("user", "torn")
    manager.save(session)
    mapping["session/s"] = mapping["session/s"].replace('"role":"user","content":"torn"', '"role":7,"content":"torn"')

    with pytest.raises(InvalidDocumentError, match="sets aside what cannot be read, and keeps the rest"):
        manager.get_session("s")
    [problem] = manager.verify(repair=True).problems

    assert problem.detail == "1 of its newest messages cannot be read: session/s"
    assert [each.content for each in manager.get_session("s").messages] == ["kept"]
