"""Tests of a store's terms: limits of size, and times to live."""

import copy
import json
from contextlib import closing

import pytest

from pyai_sessions import (
    InvalidValueError,
    KVSessionStore,
    Limits,
    MemorySessionStore,
    Message,
    OversizedDocumentError,
    SessionManager,
    SQLiteSessionStore,
    open_store,
)
from pyai_sessions.testing import NOON, StoppedClock

# How large ------------------------------------------------------------------------------------------------------------


def limited(mapping=None, **limits):
    store = KVSessionStore({} if mapping is None else mapping, limits=Limits(**limits))
    return SessionManager(store, clock=StoppedClock())


def nested(depth):
    value = ["deep"]
    for _ in range(depth - 1):
        value = [value]
    return value


MESSAGE = Message("user", "é" * 100, timestamp=NOON, message_id="m")
SIZE = len(json.dumps(MESSAGE.to_dict(), separators=(",", ":"), ensure_ascii=False).encode())


def add(session, content, message_id="m"):
    session.add_message("user", content, timestamp=NOON, message_id=message_id)


def add_many(session):
    for n in range(80):
        add(session, "é" * (100 if n == 40 else 10), "m" if n == 40 else f"other {n}")


TOO_LARGE = {
    # The change, the limit, its least value that allows the change, one that does not, the name in the error.
    "message": (lambda each: add(each, "é" * 100), "message_bytes", SIZE, SIZE - 1, "message 'm'"),
    "one of many": (add_many, "message_bytes", SIZE, SIZE - 1, "message 'm'"),
    "state": (lambda each: each.state.update(k="vvvv"), "state_bytes", 12, 11, "state"),
    "metadata": (lambda each: each.metadata.update(k="vvvv"), "state_bytes", 12, 11, "metadata"),
    "document": (lambda each: add(each, "x" * 5000), "document_bytes", 10_000, 4000, "session"),
    "nesting of state": (lambda each: each.state.update(k=nested(3)), "depth", 4, 3, "state"),
    "nesting of a message": (lambda each: add(each, nested(3)), "depth", 3, 2, "message 'm'"),
    "message id": (lambda each: add(each, "x", "é" * 16), "id_bytes", 32, 31, "message_id"),
    "user id": (lambda each: setattr(each, "user_id", "é" * 16), "id_bytes", 32, 31, "user_id"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_before_anything_is_written(name):
    """The error names the value, the limit and how to set it. A value at the limit is stored."""
    change, limit, enough, too_few, path = TOO_LARGE[name]
    mapping = {}
    SessionManager(KVSessionStore(mapping)).create_session("ada", session_id="s")
    before = copy.deepcopy(mapping)
    manager = limited(mapping, **{limit: too_few})
    session = manager.get_session("s")
    change(session)

    with pytest.raises(InvalidValueError) as caught:
        manager.save(session)

    assert caught.value.path == path
    assert f"Limits({limit}=...)" in str(caught.value)
    assert str(too_few) in str(caught.value)
    assert "é" * 20 not in str(caught.value)
    assert mapping == before
    limited(mapping, **{limit: enough}).save(session)
    assert KVSessionStore(mapping).get("s") == session


@pytest.mark.parametrize("how", ["append", "append unseen", "create", "import", "fork"])
def test_every_way_in_is_limited(how):
    """Every call that stores a message or session applies the limits, and writes nothing."""
    mapping = {}
    manager = limited(mapping, message_bytes=200, id_bytes=32, state_bytes=20)
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "short"})
    if how == "append":
        manager = limited(mapping, message_bytes=200)
    before = copy.deepcopy(mapping)
    ways = {
        "append": lambda: manager.append("s", {"role": "user", "content": "x" * 300}),
        "append unseen": lambda: manager.append("s", {"role": "user", "content": "x" * 300}),
        "create": lambda: manager.create_session("ada", session_id="t", state={"k": "v" * 20}),
        "import": lambda: manager.import_sessions([{"session_id": "t" * 33}]),
        "fork": lambda: manager.fork("s", new_id="t" * 33),
    }

    with pytest.raises(InvalidValueError):
        ways[how]()

    assert mapping == before


def test_what_is_stored_already_can_be_gone_on_with():
    """A session from before a limit was set can be read, appended to, saved and archived."""
    mapping = {}
    old = SessionManager(KVSessionStore(mapping)).create_session("a" * 50, session_id="s" * 50)
    add(old, [nested(50), "x" * 500], "m" * 50)
    old.state["large"] = old.metadata["large"] = [nested(50), "x" * 500]
    SessionManager(KVSessionStore(mapping)).save(old)
    manager = limited(mapping, message_bytes=200, id_bytes=40, state_bytes=20, depth=5)

    session = manager.get_session(old.session_id)
    session.add_message("user", "short")
    manager.save(session)
    manager.append(old.session_id, {"role": "user", "content": "short, too"})
    manager.archive(old.session_id)

    assert manager.get_session(old.session_id).message_count == 3


def test_no_more_pages_are_loaded_at_once_than_the_limit_says():
    """A load or list beyond the limit of pages raises. The newest messages can still be read and saved."""
    mapping = {}
    whole = SessionManager(KVSessionStore(mapping)).create_session("ada", session_id="s")
    for n in range(32 * 6):
        whole.add_message("user", f"message {n}")
    SessionManager(KVSessionStore(mapping)).save(whole)
    manager = limited(mapping, pages=4)

    for read in (lambda: manager.get_session("s"), lambda: manager.get_sessions_for_user("ada")):
        with pytest.raises(OversizedDocumentError) as caught:
            read()
        assert caught.value.session_id == "s"
        assert "last=" in str(caught.value)
        assert "Limits(pages=...)" in str(caught.value)
    assert manager.get_sessions_for_user("ada", skip_invalid=True) == []
    part = manager.get_session("s", last=100)
    part.add_message("user", "one more")
    manager.save(part)
    manager.append("s", {"role": "user", "content": "and one"})

    assert manager.verify()
    assert limited(mapping, pages=6).get_session("s").message_count == 32 * 6 + 2


@pytest.mark.parametrize(
    "limits",
    [
        *({name: value} for name in Limits.__dataclass_fields__ for value in (0, -1, 1.5, "7", True, None)),
        {"id_bytes": 1025},
        {"depth": 101},
    ],
    ids=str,
)
def test_what_can_be_no_limit_is_refused(limits):
    """An invalid limit raises an error that names it."""
    with pytest.raises(InvalidValueError) as caught:
        Limits(**limits)

    assert caught.value.path == f"limits.{next(iter(limits))}"


# For how long ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "60", True, 10**12], ids=str)
def test_what_can_be_no_time_to_live_is_refused(ttl, tmp_path):
    """A ttl is in seconds, at most a hundred years. An invalid one raises before anything is made."""
    with pytest.raises(InvalidValueError) as caught:
        SQLiteSessionStore(tmp_path / "chat.db", ttl=ttl)

    assert caught.value.path == "ttl"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("sliding", 1), ("limits", {"depth": 3})])
def test_other_terms_are_refused_by_name(option, value, tmp_path):
    """An unknown option raises an error that names it."""
    with pytest.raises(InvalidValueError) as caught:
        SQLiteSessionStore(tmp_path / "chat.db", **{option: value})

    assert caught.value.path == option
    assert list(tmp_path.iterdir()) == []


def test_every_store_of_a_url_takes_a_time_to_live(tmp_path):
    """Every URL takes `ttl` and `sliding`."""
    for url in ("memory://", f"sqlite:///{tmp_path}/chat.db", f"diskcache:///{tmp_path}/chat"):
        clock = StoppedClock()
        with closing(open_store(f"{url}?ttl=60&sliding=false")) as store:
            manager = SessionManager(store, clock=clock)
            session = manager.create_session()
            clock.advance(seconds=30)
            session.add_message("user", "x")
            manager.save(session)

            assert session.expires_at == NOON.replace(minute=1)


@pytest.mark.parametrize("query", ["ttl=soon", "ttl=0", "sliding=1", "ttl=-1"])
def test_wrong_terms_in_a_url_are_refused(query):
    """An invalid value in a URL raises an error that names the option."""
    with pytest.raises(InvalidValueError) as caught:
        open_store(f"memory://?{query}")

    assert caught.value.path == query.partition("=")[0]


def test_a_store_of_sessions_that_expire_is_one_line():
    """Sessions of a store with a ttl are gone when their time is over."""
    clock = StoppedClock()
    manager = SessionManager(MemorySessionStore(ttl=60, clock=clock))
    manager.create_session("ada")
    clock.advance(seconds=60)

    assert manager.count("ada") == 0
    assert manager.purge_expired() == 1
