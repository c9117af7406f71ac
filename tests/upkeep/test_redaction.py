"""Tests of redaction: interrupted anywhere, beside forks and writers, and in files."""

import threading
from contextlib import closing, suppress

import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    Message,
    SessionManager,
    SessionStateError,
    SQLiteSessionStore,
    StorageError,
)
from pyai_sessions.testing import FaultyMapping
from pyai_sessions.testing.samples import fill
from pyai_sessions.testing.store.redacting import SECRET, WORD, with_a_secret
from tests.contract.stores import FullStore
from tests.upkeep.test_erasure import checkpoint, in_files


def family(manager):
    """Store a session with a secret, forks by the same user and by another, and what a crash left."""
    with_a_secret(manager)
    manager.fork("s", new_id="own")
    manager.fork("own", user_id="bob", new_id="bob's")
    session = manager.get_session("own")
    session.set_state("own", SECRET)
    fill(session, 50, 5000)
    manager.save(session)
    manager.store.mapping["messages/s/left/0"] = "[" + manager.get_session("s").messages[40].to_json() + "]"


def own_documents(mapping):
    return {key: text for key, text in mapping.items() if "bob" not in key and WORD in text}


@pytest.mark.parametrize("of", ["write", "delete", "read"])
@pytest.mark.parametrize("applied", [False, True])
def test_a_redaction_that_was_cut_short_anywhere_is_repeated(of, applied, long_form):
    """After a failure at any operation, a repetition finds the text in what is left, and removes all of it.

    Reads are many, and change nothing: each fourth of them fails, in the long form each.
    """
    for at in range(1, 1000, 4 if of == "read" and not long_form else 1):
        items = {}
        mapping = FaultyMapping(items)
        manager = SessionManager(mapping)
        family(manager)
        theirs = manager.get_session("bob's")
        mapping.fail(OSError("down"), of=of, at=at, applied=applied)

        with suppress(StorageError):
            manager.redact("s", "pw")
        if not mapping.faults:
            break
        report = SessionManager(items).redact("s", "pw", scan=True)

        assert own_documents(items) == {}, at
        assert report.shared == ["bob's"]
        manager = SessionManager(items)
        assert manager.get_session("bob's") == theirs
        assert {each.kind for each in manager.verify().problems} <= {"orphan page", "orphan reference"}
    assert at > (1 if of == "delete" else 5)


def test_a_redaction_counts_what_it_changed_and_names_what_it_cannot_read():
    """The report counts changed documents, also pages that no session names, and names damaged ones."""
    items = {}
    manager = SessionManager(items)
    session = manager.create_session("ada", session_id="s", state={"said": SECRET})
    fill(session, 40)
    manager.save(session)
    manager.fork("s", new_id="own")
    items["session/own"] = "{"
    items["messages/s/left/0"] = "[" + Message("user", SECRET, message_id="pw").to_json() + "]"
    items["messages/s/left/1"] = 5

    report = manager.redact("s", "pw", scan=True)

    assert (report.session_ids, report.documents, report.copies) == (["s"], 2, 1)
    assert {"messages/s/left/1", "session/own"} <= set(report.unread)
    assert WORD not in str(items)


def test_other_words_of_the_message_in_a_fork_go_as_well():
    """A message that was replaced in a fork is redacted there, too."""
    items = {}
    manager = SessionManager(items)
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", SECRET, message_id="pw")
    manager.save(session)
    fork = manager.fork("s", new_id="own")
    fork.replace_message("pw", content="quite other words")
    fork.set_state("said", "quite other words")
    manager.save(fork)

    manager.redact("s", "pw")

    assert "other words" not in str(items)


@pytest.mark.parametrize("at", range(1, 8))
def test_a_redaction_in_a_custom_store_is_repeated(at):
    """In a custom store the session itself is saved last, so a repetition works."""

    class Failing(FullStore):
        saves = 0

        def save(self, session):
            self.saves -= 1
            if self.saves == 0:
                msg = "down"
                raise ConnectionError(msg)
            super().save(session)

    store = Failing()
    manager = SessionManager(store)
    with_a_secret(manager)
    manager.fork("s", new_id="own")
    session = manager.get_session("own")
    session.replace_message("pw", content="other words")
    manager.save(session)
    manager.fork("s", new_id="second")
    store.saves = at

    with suppress(ConnectionError):
        manager.redact("s", "pw")
    store.saves = 0
    manager.redact("s", "pw")

    assert [each for each, row in store.rows.items() if WORD in row[1]] == []


@pytest.mark.parametrize("open_store", [SQLiteSessionStore, DiskCacheSessionStore])
def test_redacted_words_stand_in_no_file_after_a_checkpoint(tmp_path, open_store):
    """After a checkpoint, redacted text is neither in free parts of the file nor in the log."""
    with closing(SessionManager(open_store(tmp_path / "chat.db"), close_store=True)) as manager:
        family(manager)
        manager.delete("bob's")
        checkpoint(tmp_path)
        assert in_files(tmp_path, WORD)

        manager.redact("s", "pw")

        checkpoint(tmp_path)
        assert in_files(tmp_path, WORD) == []


class Meddling(dict):
    """A mapping in which other threads act when certain keys are read."""

    def __init__(self):
        super().__init__()
        self.acts = []
        self.threads = []

    def __getitem__(self, key):
        if self.acts and key.startswith("messages/") and (act := self.acts.pop(0)):
            self.threads.append(threading.Thread(target=act))
            self.threads[-1].start()
        return super().__getitem__(key)


@pytest.mark.parametrize("skip", range(0, 24, 3))
@pytest.mark.parametrize("act", ["append", "rewind", "fork", "save", "delete"])
def test_writers_at_the_same_time_do_not_keep_the_words(act, skip):
    """What others store meanwhile is redacted or refused, and so is a fork."""
    mapping = Meddling()
    manager, other = SessionManager(mapping), SessionManager(KVSessionStore(mapping))
    family(manager)
    stale = other.get_session("s")
    stale.set_state("stale", 1)

    def rewind():
        session = other.get_session("s")
        session.rewind("m10")
        other.save(session)

    acts = {
        "append": lambda: other.append("s", {"role": "user", "content": "more"}),
        "rewind": rewind,
        "fork": lambda: other.fork("s", new_id="late"),
        "save": lambda: other.save(stale),
        "delete": lambda: other.delete("own"),
    }

    def try_it():
        with suppress(SessionStateError):
            acts[act]()

    mapping.acts = [None] * skip + [try_it]

    manager.redact("s", "pw")

    assert len(mapping.threads) == 1
    mapping.threads[0].join()
    assert own_documents(mapping) == {}
    assert {each.kind for each in manager.verify().problems} <= {"orphan page"}
    with suppress(SessionStateError):
        other.save(stale)
    assert own_documents(mapping) == {}
