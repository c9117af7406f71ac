"""A crash between any two writes to a plain mapping: the session is before or after, and verify mends the rest."""

import errno
from contextlib import suppress
from itertools import count

import pytest

from pyai_sessions import (
    KVSessionStore,
    Message,
    Session,
    SessionDeletedError,
    SessionError,
    SessionExistsError,
    SessionManager,
    StorageError,
    StorageFullError,
)
from pyai_sessions.testing import Recorder, StoppedClock, check_events
from tests.faults.crashing import Crashing, CrashingDict, Death
from tests.faults.workers import check_indexes

pytestmark = pytest.mark.wide

MORE = [Message("user", f"more {n}", message_id=f"more{n}") for n in range(70)]
USERS = {"s0": "ada", "s1": "ada", "new": "bob"}


def fresh(items, clock=None):
    """Return a manager as another process would have it."""
    return SessionManager(KVSessionStore(Crashing(items)), clock=clock)


def fill(session, how_many, word="message"):
    for n in range(how_many):
        session.add_message("user", f"{word} {n}", message_id=f"{word}{n}")


# Each change: loads what it needs, and returns the function that is to crash and to be repeated.


def create(manager):
    session = Session(session_id="new", user_id="bob")
    fill(session, 100)
    return lambda: manager.save(session)


def add(manager):
    session = manager.get_session("s0")
    fill(session, 3, "more")
    return lambda: manager.save(session)


def add_pages(manager):
    session = manager.get_session("s0")
    fill(session, 70, "more")
    return lambda: manager.save(session)


def append(manager):
    return lambda: manager.append("s0", *MORE)


def append_again(manager):
    manager.append("s0", {"role": "user", "content": "first", "message_id": "first"})
    return lambda: manager.append("s0", *MORE[:3])


def rewrite(manager):
    session = manager.get_session("s0")
    session.replace_message("message10", content="edited")
    return lambda: manager.save(session)


def shorten(manager):
    session = manager.get_session("s0")
    while session.message_count > 5:
        session.pop()
    return lambda: manager.save(session)


def rewind(manager):
    session = manager.get_session("s0")
    session.rewind("message40")
    fill(session, 3, "more")
    return lambda: manager.save(session)


def switch(manager):
    session = manager.get_session("s0")
    branch = session.rewind("message40")
    fill(session, 40, "more")
    manager.save(session)
    return lambda: manager.switch("s0", branch)


def prune(manager):
    session = manager.get_session("s0")
    session.rewind("message40")
    manager.save(session)
    session.prune()
    return lambda: manager.save(session)


def save_stale(manager):
    session = manager.get_session("s0")
    manager.append("s0", *MORE)
    fill(session, 40, "mine")
    session.set_state("key", "value")
    return lambda: manager.save(session)


def rewrite_stale(manager):
    session = manager.get_session("s0")
    manager.append("s0", *MORE)
    session.remove_message("message3")
    return lambda: manager.save(session)


def give_away(manager):
    session = manager.get_session("s0")
    session.user_id = "bob"
    return lambda: manager.save(session)


def archive(manager):
    return lambda: manager.archive("s0")


def restore(manager):
    manager.archive("s0")
    return lambda: manager.restore("s0")


def archive_inactive(manager):
    return lambda: manager.archive_inactive(days=2.5 / 24 / 60)  # s0 alone is idle for so long


def import_one(manager):
    session = Session(session_id="new", user_id="bob")
    fill(session, 100)
    return lambda: manager.import_sessions([session])


def delete(manager):
    return lambda: manager.delete("s0")


def fork(manager, session_id="s0", at=80):
    def act():
        with suppress(SessionExistsError):  # it was stored, though the call failed
            manager.fork(session_id, at, new_id="new", user_id="bob")

    return act


def fork_a_fork(manager):
    manager.fork("s0", new_id="s1 forked", user_id="eve")
    manager.delete("s1")
    manager.append("s1 forked", *MORE)
    manager.fork("s1 forked", new_id="s1", user_id="ada")
    manager.delete("s1 forked")
    return fork(manager, "s1", None)


def delete_a_parent(manager):
    manager.fork("s0", 80, new_id="new", user_id="bob")
    return delete(manager)


def delete_a_fork(manager):
    manager.fork("s0", 80, new_id="new", user_id="bob")
    return lambda: manager.delete("new")


def delete_the_last(manager):
    manager.fork("s0", 80, new_id="new", user_id="bob")
    manager.delete("s0")
    return lambda: manager.delete("new")


def rewrite_a_parent(manager):
    manager.fork("s0", 80, new_id="new", user_id="bob")
    return rewrite(manager)


def rewrite_a_fork(manager):
    session = manager.fork("s0", 80, new_id="new", user_id="bob", last=None)
    manager.delete("s0")
    session.replace_message("message3", content="edited")
    return lambda: manager.save(session)


def expire(manager):
    """Store a session that will have expired when the change is made."""
    mortal = SessionManager(KVSessionStore(manager.store.mapping, ttl=30), clock=manager.store.clock)
    session = mortal.create_session("bob", session_id="new")
    fill(session, 100, "former")
    mortal.save(session)
    mortal.fork("s1", 80, new_id="also expired")
    return manager


def purge(manager):
    return expire(manager).purge_expired


def create_anew(manager):
    return create(expire(manager))


def renew(manager):
    sliding = SessionManager(KVSessionStore(manager.store.mapping, ttl=10**9), clock=manager.store.clock)
    sliding.append("s0", *MORE)
    return lambda: sliding.get_session("s0", last=0, renew=True)


CHANGES = [
    create,
    add,
    add_pages,
    append,
    append_again,
    rewrite,
    shorten,
    rewind,
    switch,
    prune,
    save_stale,
    rewrite_stale,
    give_away,
    archive,
    restore,
    archive_inactive,
    import_one,
    delete,
    fork,
    fork_a_fork,
    delete_a_parent,
    delete_a_fork,
    delete_the_last,
    rewrite_a_parent,
    rewrite_a_fork,
    purge,
    create_anew,
    renew,
]
DELETIONS = [delete, delete_a_parent, delete_a_fork, delete_the_last, purge]


def stored_before():
    """Return a mapping with two sessions of pages, and the clock."""
    items, clock = {}, StoppedClock()
    manager = SessionManager(KVSessionStore(items), clock=clock)
    for session_id in ("s0", "s1"):
        session = manager.create_session("ada", session_id=session_id)
        fill(session, 100)
        manager.save(session)
        clock.pass_(minutes=1)
    return items, clock


def content_of(manager, session_id):
    session = manager.get_session(session_id)
    if session is None:
        return None
    texts = [(each.message_id, each.content) for each in session.messages]
    return session.user_id, session.status.value, dict(session.state), texts


def contents(manager):
    return {each: content_of(manager, each) for each in USERS}


def check_lists(manager):
    """Assert that the lists show what the documents say."""
    there = {key: each for key, each in contents(manager).items() if each}
    archived = [key for key, (_, status, *_) in there.items() if status == "archived"]
    check_indexes(manager, {key: each[0] for key, each in there.items()}, archived)


def crashes(change, error, **how):
    """Crash a change at its first write, then at its second …: give each time what there was before and is now."""
    for at in count(1):
        items, clock = stored_before()
        mapping = Crashing(items)
        manager = SessionManager(KVSessionStore(mapping), clock=clock)
        manager.count()  # its index in memory is built
        act = change(manager)
        clock.pass_(minutes=1)
        before = contents(manager)
        mapping.crash(at, error, **how)
        caught = None
        try:
            act()
        except (Death, SessionError) as err:
            caught = err
        mapping.recover()
        if not mapping.crashed:
            assert caught is None
            assert at > 1
            return
        yield manager, items, act, before, caught


def outcome(change):
    """Return the contents after a change that nothing disturbs."""
    items, clock = stored_before()
    manager = fresh(items, clock)
    act = change(manager)
    clock.pass_(minutes=1)
    act()
    return contents(fresh(items))


@pytest.mark.parametrize("applied", [False, True], ids=["before a write", "after a write"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_reader_after_a_crash_sees_the_session_before_or_after(change, applied):
    """The head is the one commit point; what a crash leaves beside it is at most a page that no head names."""
    after = outcome(change)

    for _, items, _, before, caught in crashes(change, Death(), applied=applied):
        assert isinstance(caught, Death)
        reader = fresh(items)
        found = contents(reader)

        assert found in (before, after)
        check_lists(reader)
        assert {each.kind for each in reader.verify().problems} <= {"orphan page", "orphan reference"}
        assert reader.verify(repair=True)
        assert not reader.verify().problems
        assert contents(fresh(items)) == found
        for session_id in USERS:
            reader.delete(session_id)
        reader.purge_expired()
        assert not items.keys() - {"pyai_sessions/probe"}  # a crash may leave that


@pytest.mark.parametrize("error", [ConnectionResetError(), OSError(errno.EIO, "broken")], ids=["reset", "broken"])
@pytest.mark.parametrize("mend", [False, True], ids=["left alone", "mended between"])
@pytest.mark.parametrize("applied", [False, True], ids=["before a write", "after a write"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_call_that_failed_may_be_repeated(change, applied, mend, error):
    """A write that failed for a moment: the same call, repeated, stores all of it, and nothing twice."""
    after = outcome(change)

    for manager, items, act, _, caught in crashes(change, error, applied=applied, once=True):
        assert isinstance(caught, StorageError)
        if mend:
            fresh(items).verify(repair=True)
        act()

        assert contents(manager) == after
        assert contents(fresh(items)) == after
        check_lists(manager)
        manager.verify(repair=True)
        assert not fresh(items).verify().problems


@pytest.mark.parametrize("applied", [False, True], ids=["before a write", "after a write"])
@pytest.mark.parametrize("change", CHANGES)
def test_lists_are_right_after_a_call_that_failed(change, applied):
    """The manager whose call failed lists what is stored, whether or not the change is."""
    after = outcome(change)

    for manager, _, _, before, _ in crashes(change, OSError(errno.EIO, "broken"), applied=applied, once=True):
        assert contents(manager) in (before, after)
        check_lists(manager)


def append_more(manager, other):
    manager.append("s0", {"role": "user", "content": "between"})


def append_pages(manager, other):
    manager.append("s0", *({"role": "user", "content": f"between {n}"} for n in range(70)))


def append_elsewhere(manager, other):
    other.append("s0", {"role": "user", "content": "theirs"})
    manager.append("s0", {"role": "user", "content": "ours"})


@pytest.mark.parametrize("between", [None, append_more, append_pages, append_elsewhere])
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize(("added", "at"), [(1, 1), (70, 1), (70, 2), (70, 3)])
def test_a_repeated_append_of_many_stores_each_message_once(at, applied, added, between):
    """Also of a store that remembers its last append: whatever was appended between the failure and the repetition."""
    mapping, events = CrashingDict({}), []
    manager = Recorder(SessionManager(KVSessionStore(mapping)), events.append)
    other = Recorder(fresh(mapping.items_), events.append)
    manager.create_session("ada", session_id="s0")
    for n in range(3):
        manager.append("s0", {"role": "user", "content": f"first {n}"})
    messages = [Message("user", f"more {n}") for n in range(added)]

    mapping.crash(at, ConnectionResetError(), applied=applied, once=True)
    with pytest.raises(StorageError):
        manager.append("s0", *messages)
    mapping.recover()
    other.get_session("s0")
    if between:
        between(manager, other)
    manager.append("s0", *messages)
    manager.append("s0", {"role": "user", "content": "last"})

    check_events(other, events)
    assert fresh(mapping.items_).verify(repair=True)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize("error", [Death, OSError])
def test_an_import_that_crashed_may_be_repeated(applied, error):
    """At each of its writes: every session is there whole or not at all, and the repetition stores the others."""
    sessions = []
    for n in range(3):
        sessions.append(Session(session_id=f"s{n}", user_id="ada"))
        fill(sessions[-1], 70)
    for at in count(1):
        mapping = CrashingDict({})
        manager = SessionManager(KVSessionStore(mapping))
        mapping.crash(at, error(), applied=applied, once=error is not Death)
        try:
            manager.import_sessions(sessions)
        except (Death, StorageError):
            assert mapping.crashed
        mapping.recover()
        if not mapping.crashed:
            assert at > 9  # two pages and a head each
            return
        if error is Death:
            manager = fresh(mapping.items_)
        there = [each.session_id for each in fresh(mapping.items_).list_sessions(limit=None)]
        assert all(fresh(mapping.items_).get_session(each) in sessions for each in there)
        assert manager.count() == len(there)

        assert manager.import_sessions(sessions).inserted == 3 - len(there)

        assert [fresh(mapping.items_).get_session(each.session_id) for each in sessions] == sessions
        assert manager.count("ada") == 3
        manager.verify(repair=True)
        assert fresh(mapping.items_).verify().problems == []


@pytest.mark.parametrize("change", [each for each in CHANGES if each not in DELETIONS])
def test_a_full_mapping_is_called_full(change):
    """No space for a write: StorageFullError, and the old sessions stay."""
    for manager, items, act, before, caught in crashes(change, OSError(errno.ENOSPC, "full")):
        assert type(caught) is StorageFullError
        found = contents(fresh(items))
        act()

        assert found in (before, outcome(change))
        assert contents(manager) == outcome(change)


@pytest.mark.parametrize("applied", [False, True])
def test_a_repair_that_crashed_may_be_repeated(applied):
    """verify(repair=True) moves and removes: a crash at any of its writes loses nothing that was readable."""
    for at in count(1):
        items, _ = stored_before()
        pages = [key for key in items if key.startswith("messages/s0/")]
        items[pages[1]] = damaged = items[pages[1]][:-9]
        items["messages/s1/lost/0"] = "[]"
        items["session/bad"] = bad = '{"format":1,'
        mapping = Crashing(items)
        mapping.crash(at, Death(), applied=applied)
        try:
            SessionManager(KVSessionStore(mapping)).verify(repair=True)
        except Death:
            pass
        finally:
            manager = fresh(items)
            manager.verify(repair=True)

        assert not manager.verify().problems
        assert manager.get_session("s0").message_count == 100 - 32
        assert manager.get_session("s1").message_count == 100
        assert manager.get_session("bad") is None
        assert {damaged, bad} <= {value for key, value in items.items() if key.startswith("unreadable/")}
        if not mapping.crashed:
            assert at > 5
            return


def test_a_clear_that_crashed_may_be_repeated():
    """clear_all, cut short, leaves whole sessions; repeated, it leaves nothing of ours."""
    for at in count(1):
        items, _ = stored_before()
        items["theirs"] = "kept"
        mapping = Crashing(items)
        mapping.crash(at, Death())
        try:
            SessionManager(KVSessionStore(mapping)).clear_all()
        except Death:
            assert all(each is None or len(each[3]) == 100 for each in contents(fresh(items)).values())
            fresh(items).clear_all()

        assert items == {"theirs": "kept"}
        if not mapping.crashed:
            assert at > 2
            return


def test_a_copy_of_a_session_that_a_crashed_delete_removed_is_refused():
    """The copy was loaded before; the session is gone; saving it raises and does not bring it back."""
    items, clock = stored_before()
    mapping = Crashing(items)
    manager = SessionManager(KVSessionStore(mapping), clock=clock)
    copy = manager.get_session("s0")
    fill(copy, 1, "late")
    mapping.crash(1, Death(), applied=True)
    with pytest.raises(Death):
        manager.delete("s0")

    with pytest.raises(SessionDeletedError):
        fresh(items, clock).save(copy)
    assert fresh(items).get_session("s0") is None
