"""Tests of what a store remembers of recent sessions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidDocumentError, KVSessionStore, Message, SessionManager, SessionNotFoundError
from pyai_sessions.values.recent import Recent

CALLS = st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 30), st.integers(0, 4000))


@given(st.lists(CALLS, max_size=200))
@settings(max_examples=200)
def test_what_is_remembered_is_the_last_that_was_put_and_is_bounded(calls):
    """A remembered value is the last one put. Older ones are forgotten beyond the limit."""
    recent, model = Recent(20_000), {}
    for n, (act, key, size) in enumerate(calls):
        if act == "put":
            recent.put(key, n, size)
            model[key] = n
            assert recent.get(key) == n
        elif act == "pop":
            assert recent.pop(key) in (None, model.pop(key, None))
            assert recent.get(key) is None
        else:
            assert recent.get(key) in (None, model.get(key))
        held = [*recent._young.values(), *recent._old.values()]
        assert sum(size for _, size in held) <= 20_000
        assert recent._size == sum(size for _, size in recent._young.values())
        assert not recent._young.keys() & recent._old.keys()


def test_what_is_larger_than_half_is_not_kept():
    """A value larger than half of the limit is not kept."""
    recent = Recent(10_000)
    recent.put("small", 1, 100)
    recent.put("large", 2, 9_000)

    assert (recent.get("small"), recent.get("large")) == (1, None)


def test_what_is_used_is_remembered_while_others_come_and_go():
    """A found value counts as used, and each entry counts toward the limit."""
    recent = Recent(20_000)
    recent.put("used", "value", 100)

    for n in range(1000):
        recent.put(n, n, 0)
        assert recent.get("used") == "value"

    assert recent.get(0) is None
    assert len(recent._young) + len(recent._old) < 100


def held(store):
    """Return the keys of what a store remembers."""
    return {*store._engine._recent._young, *store._engine._recent._old}


def test_nothing_is_remembered_of_a_deleted_session():
    """Nothing is remembered of a deleted session, whichever call deleted it."""
    store = KVSessionStore({})
    manager = SessionManager(store)
    for name, user in (("a", "ada"), ("b", "bob"), ("c", "carol")):
        manager.create_session(user, session_id=name)
        manager.append(name, *(Message("user", str(n)) for n in range(70)))
        manager.append(name, {"role": "user", "content": "", "message_id": "chosen"})
    assert {name for _, name in held(store)} == {"a", "b", "c"}

    manager.delete("a")
    assert {name for _, name in held(store)} == {"b", "c"}
    manager.delete_user("bob")
    assert {name for _, name in held(store)} == {"c"}
    manager.clear_all()
    assert held(store) == set()


class Counting(dict):
    """Counts the pages that are read."""

    reads = 0

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.reads += key.startswith("messages/")
        return value


def test_the_pages_of_a_session_are_read_once_for_chosen_ids():
    """The first append with a chosen id reads all pages, later ones only new pages. Made-up ids read none."""
    mapping = Counting()
    manager = SessionManager(KVSessionStore(mapping))
    manager.create_session("ada", session_id="s")
    for _ in range(10):
        manager.append("s", *({"role": "user", "content": str(n)} for n in range(32)))
    manager.append("s", Message("user", "new"))
    mapping.reads = 0
    manager.append("s", {"role": "user", "content": "drawn"}, Message("user", "drawn, too"))
    manager.append("s", {"role": "user", "content": "drawn"}, Message("user", "drawn, too"))
    assert mapping.reads == 0
    session = manager.get_session("s", last=1)
    mapping.reads = 0
    for n in range(5):
        session.add_message("user", str(n))
        manager.save(session)
    assert mapping.reads == 0

    manager.append("s", {"role": "user", "content": "", "message_id": "first"})
    assert mapping.reads == 10
    for n in range(70):
        manager.append("s", {"role": "user", "content": "", "message_id": f"next {n}"})
    assert mapping.reads == 12
    session = manager.get_session("s", last=1)
    mapping.reads = 0
    for n in range(5):
        session.add_message("user", "", message_id=f"saved {n}")
        manager.save(session)
    assert mapping.reads == 0


def ten_pages(mapping):
    """Store a session with ten pages, of which the last five came after a fork."""
    manager = SessionManager(KVSessionStore(mapping))
    for session_id in ("s", "fork"):
        manager.fork("s", new_id="fork") if session_id == "fork" else manager.create_session("ada", session_id="s")
        for n in range(5):
            manager.append(session_id, *(Message("user", "", message_id=f"{session_id} {n} {m}") for m in range(32)))
    manager.append("fork", Message("user", "new"))
    return SessionManager(KVSessionStore(mapping))


def test_a_message_that_is_stored_costs_its_page():
    """Besides the ids of unloaded pages, which are read once, a stored message costs the page that holds it."""
    mapping = Counting()
    manager = ten_pages(mapping)
    mapping.reads = 0
    manager.append("fork", {"role": "user", "content": "", "message_id": "fork 4 0"})
    assert mapping.reads == 10 + 1
    manager.append("fork", {"role": "user", "content": "", "message_id": "fork 3 0"})
    assert mapping.reads == 10 + 1 + 1

    for last, loaded in ((40, 2), (200, 7)):
        manager = SessionManager(KVSessionStore(mapping))
        session = manager.get_session("fork", last=last)
        mapping.reads = 0
        session.add_message("user", "", message_id=f"of {last}")
        manager.save(session)
        assert mapping.reads == 10 - loaded
    session = manager.get_session("fork", last=40)
    mapping.reads = 0
    session.add_message("user", "", message_id="s 0 0")
    manager.save(session)
    assert mapping.reads == 5 + 1


class Deleting(dict):
    """Deletes everything, like another process, when a page is read."""

    def __getitem__(self, key):
        if key.startswith("messages/"):
            self.clear()
        return super().__getitem__(key)


def test_a_session_that_is_deleted_while_its_messages_are_sought_is_not_found():
    """If a session is deleted during the look-up, it is not found, rather than damaged."""
    mapping = {}
    ten_pages(mapping)

    with pytest.raises(SessionNotFoundError):
        SessionManager(Deleting(mapping)).append("s", Message("user", "", message_id="m"))


def test_a_page_that_cannot_be_read_is_named_when_a_message_is_sought():
    """An append with a chosen id raises at an unreadable page, and stores nothing."""
    mapping = {}
    manager = ten_pages(mapping)
    key = next(each for each in mapping if each.startswith("messages/"))
    mapping[key] = mapping[key][:-1]

    with pytest.raises(InvalidDocumentError, match=key):
        manager.append("s", {"role": "user", "content": "", "message_id": "m"})
