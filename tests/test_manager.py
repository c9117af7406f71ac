"""Tests of SessionManager: what it accepts as a store, what it closes, and what it refuses."""

import sqlite3
import threading
from collections import UserDict
from datetime import timedelta

import diskcache
import pytest
from sqlitedict import SqliteDict

from pyai_sessions import (
    DiskCacheSessionStore,
    Encrypted,
    InvalidValueError,
    KVSessionStore,
    MemorySessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionError,
    SessionExistsError,
    SessionManager,
    SessionStore,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageClosedError,
    UnsuitableMappingError,
)
from pyai_sessions.testing import NOON, StoppedClock
from pyai_sessions.testing.storage.example import ExampleStorage


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def manager(clock):
    return SessionManager({}, clock=clock)


# What it takes for a store ----------------------------------------------------------------------------------------


def test_without_a_store_sessions_are_in_memory():
    """A manager without a store has its own sessions in memory."""
    manager = SessionManager()
    manager.create_session("ada")

    assert isinstance(manager.store, MemorySessionStore)
    assert manager.count() == 1
    assert SessionManager().count() == 0


@pytest.mark.parametrize(
    "make", [MemorySessionStore, lambda: KVSessionStore({}), lambda: SQLiteSessionStore(":memory:")]
)
def test_a_store_is_used_as_it_is(make):
    """Two managers of one store see the same sessions."""
    store = make()
    session = SessionManager(store).create_session("ada")

    assert SessionManager(store=store).store is store
    assert SessionManager(store).get_session(session.session_id) == session
    store.close()


@pytest.mark.parametrize("make", [dict, UserDict, lambda: SQLiteMapping(":memory:")])
def test_a_bare_mapping_is_wrapped(make):
    """`SessionManager({})` is `SessionManager(KVSessionStore({}))`."""
    mapping = make()
    session = SessionManager(mapping).create_session("ada")

    assert list(mapping) == [f"session/{session.session_id}"]
    assert isinstance(SessionManager(mapping).store, KVSessionStore)
    assert SessionManager(mapping).store.mapping is mapping
    assert SessionManager(KVSessionStore(mapping)).get_session(session.session_id) == session


def test_an_empty_mapping_is_a_mapping():
    """An empty mapping, which is false, is used."""
    mapping = {}

    assert SessionManager(mapping).store.mapping is mapping


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemorySessionStore),
        ("sqlite:///{}/chat.db", SQLiteSessionStore),
        ("sqlite:///:memory:", SQLiteSessionStore),
        ("diskcache:///{}/cache", DiskCacheSessionStore),
        ("redis://localhost:1/0", RedisSessionStore),
    ],
)
def test_a_url_names_a_store(url, kind, tmp_path):
    """A URL opens the same store as `open_store`."""
    with SessionManager(url.format(str(tmp_path).lstrip("/") if "diskcache" in url else tmp_path)) as manager:
        assert type(manager.store) is kind


class Four:
    """Four methods on a class that is not a SessionStore."""

    def __init__(self):
        self.sessions = {}

    def save(self, session):
        self.sessions[session.session_id] = session.to_json()

    def get(self, session_id):
        text = self.sessions.get(session_id)
        return text and Session.from_json(text)

    def delete(self, session_id):
        self.sessions.pop(session_id, None)

    def list_for_user(self, user_id):
        return [each for each in map(Session.from_json, self.sessions.values()) if each.user_id == user_id]


def test_four_methods_make_a_store():
    """An object with save, get, delete and list_for_user is a store."""
    store = Four()
    session = SessionManager(store).create_session("ada")

    assert SessionManager(store).store is store
    assert SessionManager(store).get_session(session.session_id) == session


@pytest.mark.parametrize(
    "given",
    [7, object(), [], set(), frozenset({1}), b"memory://", dict, MemorySessionStore, iter([])],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_store_is_refused(given):
    """Anything else raises a TypeError of ours that says what was given and what is accepted."""
    with pytest.raises(UnsuitableMappingError) as caught:
        SessionManager(given)

    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, SessionError)
    assert "pass a dict, SqliteDict, diskcache.Index, RedisMapping" in str(caught.value)


@pytest.mark.parametrize("url", ["", "chat.db", "mysql://ada:secret@host/db", "sqlite://", "redis://h/0?ttl=secret"])
def test_a_url_that_names_no_store_is_refused(url):
    """The error says what is accepted, without credentials."""
    with pytest.raises(InvalidValueError) as caught:
        SessionManager(url)

    assert "://" in str(caught.value) or "ttl" in str(caught.value)
    assert "ada:secret" not in str(caught.value)


def test_a_store_that_lacks_a_method_cannot_be_made():
    """A SessionStore without one of the methods cannot be made."""

    class Three(SessionStore):
        save = get = delete = None

    with pytest.raises(TypeError, match="list_for_user"):
        Three()


def test_the_manager_sets_the_clock_of_its_store(clock):
    """The manager's clock gives all times."""
    manager = SessionManager({}, clock=clock)

    session = manager.create_session("ada")
    clock.advance(days=1)
    session.add_message("user", "x")

    assert (session.created_at, session.updated_at) == (NOON, NOON + timedelta(days=1))
    assert session.messages[0].timestamp == NOON + timedelta(days=1)
    manager.append(session.session_id, {"role": "user", "content": "y"})
    assert manager.store.clock is clock


def test_a_repr_names_the_store_and_no_secret():
    """A repr names the store, and shows no secret."""
    store = RedisSessionStore("redis://ada:secret@localhost:1/0")

    assert repr(SessionManager({})) == "<SessionManager of <KVSessionStore on a dict>>"
    assert "secret" not in repr(SessionManager(store))
    store.close()


# Who closes what --------------------------------------------------------------------------------------------------


def still_open(manager):
    try:
        manager.count()
    except StorageClosedError:
        return False
    return True


@pytest.mark.parametrize(
    "url", [None, "memory://", "sqlite:///:memory:", "sqlite:///{}/chat.db", "diskcache://{}/cache"]
)
def test_a_store_made_by_the_manager_is_closed_by_it(url, tmp_path):
    """After `close` every call raises. A second `close` does nothing."""
    manager = SessionManager(url and url.format(tmp_path))
    session = manager.create_session("ada")

    manager.close()
    manager.close()

    for use in (manager.count, lambda: manager.get_session("s"), lambda: manager.save(session), manager.clear_all):
        with pytest.raises(StorageClosedError):
            use()


@pytest.mark.parametrize("wrap", [lambda mapping: mapping, lambda mapping: Encrypted(mapping, {"a": bytes(32)})])
def test_a_given_mapping_is_closed_by_a_manager_that_is_told_to(wrap):
    """`close_store=True` closes a given mapping. Otherwise it stays open."""
    mapping = SQLiteMapping(":memory:")
    for close_store in (False, True):
        assert dict(mapping) is not None
        with SessionManager(wrap(mapping), close_store=close_store) as manager:
            manager.create_session("ada")
    with pytest.raises(StorageClosedError):
        dict(mapping)


def test_a_given_storage_is_closed_by_a_manager_that_is_told_to():
    """`close_store=True` closes a given storage. Otherwise it stays open."""
    storage = ExampleStorage(":memory:")
    for close_store in (False, True):
        assert storage.count("active") is not None
        with SessionManager(storage, close_store=close_store) as manager:
            manager.create_session("ada")

    with pytest.raises((StorageClosedError, sqlite3.ProgrammingError), match="closed"):
        storage.count("active")


@pytest.mark.parametrize(
    "make", [MemorySessionStore, lambda: SQLiteSessionStore(":memory:"), lambda: KVSessionStore({})]
)
def test_a_given_store_stays_open(make):
    """Closing a manager does not close the given store."""
    store = make()

    SessionManager(store).close()

    assert still_open(SessionManager(store))
    store.close()
    assert not still_open(SessionManager(store))


def test_a_given_mapping_stays_open(tmp_path):
    """Closing a manager does not close the given mapping, of any kind."""
    mappings = [
        SQLiteMapping(tmp_path / "a.db"),
        SqliteDict(str(tmp_path / "b.db"), autocommit=True, encode=str, decode=str),
        diskcache.Index(str(tmp_path / "c")),
        UserDict(),
    ]
    for mapping in mappings:
        with SessionManager(mapping) as manager:
            manager.create_session("ada", session_id="s")

        assert "session/s" in mapping
        mapping["other"] = "thing"
        assert SessionManager(mapping).get_session("s").user_id == "ada"
    mappings[0].close()
    mappings[1].close()
    mappings[2].cache.close()


def test_a_given_client_stays_open(any_server):
    """Closing a store or manager does not close the given Redis client."""
    with any_server.client() as client:
        RedisSessionStore(client=client, prefix="a:").close()
        with SessionManager(RedisMapping(client, prefix="b:")):
            pass

        assert client.ping()


def test_a_with_statement_closes_and_lets_errors_pass():
    """A `with` statement closes the manager, and passes exceptions on."""
    with pytest.raises(ZeroDivisionError), SessionManager() as manager:
        1 / 0  # noqa: B018

    assert not still_open(manager)


def test_a_closed_file_is_free(tmp_path):
    """After `close` there is one file, which another program can lock."""
    with SessionManager(f"sqlite:///{tmp_path}/chat.db") as manager:
        manager.create_session("ada")

    assert [each.name for each in tmp_path.iterdir()] == ["chat.db"]
    connection = sqlite3.connect(tmp_path / "chat.db", timeout=0)
    connection.execute("BEGIN EXCLUSIVE")
    connection.close()


# What it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "x" * 1025}, "session_id"),
        ({"metadata": {"a": {1}}}, "metadata['a']"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": "text"}, "metadata"),
        ({"state": {1: 2}}, "state"),
        ({"state": 7}, "state"),
    ],
    ids=repr,
)
def test_a_session_that_cannot_be_stored_is_not_created(manager, arguments, path):
    """The error names the argument. Nothing is written."""
    with pytest.raises(InvalidValueError) as caught:
        manager.create_session(**arguments)

    assert caught.value.path == path
    assert manager.store.mapping == {}


def test_a_session_of_a_taken_id_is_not_created(manager):
    """Creating a session under a used id raises, and leaves the stored one."""
    first = manager.create_session("ada", session_id="s")

    with pytest.raises(SessionExistsError, match="session 's' exists already; choose another id; get_session"):
        manager.create_session("bob", session_id="s")

    assert manager.get_session("s") == first


def test_get_or_create_returns_the_one_that_is_there(manager):
    """An existing session is returned, and other arguments are ignored."""
    made = manager.get_or_create_session("s", "ada", metadata={"a": 1}, state={"b": 2})

    assert (made.user_id, made.metadata, made.state) == ("ada", {"a": 1}, {"b": 2})
    assert manager.get_or_create_session("s", "ada", metadata={"a": 9}) == made


def test_get_or_create_at_the_same_time_creates_one(manager):
    """Concurrent calls all get the same session."""
    barrier = threading.Barrier(8)
    got = []

    def run():
        barrier.wait(10)
        got.append(manager.get_or_create_session("s", "ada"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)

    assert len(got) == 8
    assert len({each.revision for each in got}) == 1
    assert manager.count() == 1


@pytest.mark.parametrize("call", ["get_session", "get_or_create_session", "append", "archive", "restore", "delete"])
@pytest.mark.parametrize("given", [7, b"s", 1.5, ["s"]], ids=repr)
def test_what_is_no_session_id_is_refused(manager, call, given):
    """An id that is neither text nor None raises the same error in every call."""
    arguments = (given, {"role": "user", "content": ""}) if call == "append" else (given,)

    with pytest.raises(InvalidValueError, match=r"^session_id is "):
        getattr(manager, call)(*arguments)


@pytest.mark.parametrize("given", [None, "s", {}, Message("user", "x", message_id="m")], ids=repr)
def test_what_is_no_session_cannot_be_saved(manager, given):
    """Saving anything else raises an error that names it."""
    with pytest.raises(InvalidValueError, match=r"^session is .*; it is a Session"):
        manager.save(given)


def test_an_unknown_conflict_rule_is_refused(manager):
    """The error names the three rules."""
    with pytest.raises(InvalidValueError, match="on_conflict is 'mrege'; it is 'merge', 'error' or 'overwrite'"):
        manager.save(manager.create_session(), on_conflict="mrege")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("Hello!", " is a str; it is a Message, a dict, or an object"),
        (None, " is None; it is a Message, a dict, or an object"),
        ({"content": "x"}, ".role is missing: the item is without a role; it is a Message, a message of Chat"),
        ({"role": "user", "contnet": "x", "refusal": None}, ".content is missing: the item has 'contnet' instead"),
        ({"choices": [{"index": 0}], "id": "x"}, " is a whole completion; give completion.choices[0].message"),
        ([{"role": "user", "content": "x"}], " is a list; it is one message; give the messages themselves, *messages"),
        (Session().messages, " is a list; it is one message; give the messages themselves, *messages"),
        (range(1), " is a range; it is one message; give the messages themselves, *messages"),
    ],
    ids=repr,
)
def test_what_is_no_message_is_not_appended(manager, given, problem):
    """The error gives the argument's number. No message is stored."""
    manager.create_session(session_id="s")

    with pytest.raises(InvalidValueError) as caught:
        manager.append("s", {"role": "user", "content": "good"}, given)

    assert str(caught.value).startswith(f"messages[1]{problem}")
    assert manager.get_session("s").message_count == 0


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), "30", None, True], ids=repr)
def test_what_is_no_number_of_days_is_refused(manager, days):
    """The error says what is accepted. Nothing is archived."""
    manager.create_session("ada")

    with pytest.raises(InvalidValueError, match=r"^days is .*; it is a number of 0 or more"):
        manager.archive_inactive(days=days)

    assert manager.count() == 1


def test_more_days_than_a_calendar_has_archive_nothing(manager):
    """Any large number of days is accepted, and archives nothing."""
    manager.create_session("ada")

    assert manager.archive_inactive(days=10**9) == 0


@pytest.mark.parametrize("limit", [-1, 1.5, "5", True], ids=repr)
def test_what_is_no_limit_is_refused(manager, limit):
    """Every method with a limit raises at an invalid one."""
    for call in (
        lambda: manager.list_sessions(limit=limit),
        lambda: manager.get_sessions_for_user("ada", limit=limit),
        lambda: manager.get_session("s", last=limit),
    ):
        with pytest.raises(InvalidValueError, match="it is a whole number of 0 or more, or None for all"):
            call()


def test_what_is_no_time_user_cursor_or_status_is_refused(manager):
    """The error names the argument."""
    for path, call in {
        "before": lambda: manager.get_sessions_for_user("ada", before=NOON.replace(tzinfo=None)),
        "user_id": lambda: manager.get_sessions_for_user(None),
        "cursor": lambda: manager.list_sessions(cursor="x"),
        "status": lambda: manager.list_sessions(status="gone"),
    }.items():
        with pytest.raises(InvalidValueError) as caught:
            call()
        assert caught.value.path == path
