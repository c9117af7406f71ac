"""Calls every public method with wrong values and in wrong states. Errors must be ours, with argument and remedy.

The calls are made from the signatures, so a new method or argument is covered by itself.
"""

import asyncio
import inspect
import io
import re
from datetime import date, datetime, timezone
from functools import partial
from pathlib import Path

import pytest

import pyai_sessions
from pyai_sessions import (
    AsyncSessionManager,
    Checkpoint,
    DiskCacheSessionStore,
    Encrypted,
    KVSessionStore,
    Limits,
    MemorySessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionError,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    jsonable,
    open_store,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


class Hostile:
    """An object whose repr raises."""

    def __repr__(self):
        raise RuntimeError


async def coroutine():
    """Return nothing: a coroutine that the caller forgot to await."""


def wrong_values():
    """Return new values of every type, since some can be used only once."""
    waiting = coroutine()
    waiting.close()
    return {
        "None": None,
        "int": 7,
        "minus": -1,
        "huge int": 10**5000,
        "bool": True,
        "float": 1.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "complex": 1j,
        "bytes": b"s",
        "bytearray": bytearray(b"s"),
        "object": object(),
        "hostile": Hostile(),
        "list": [1],
        "empty list": [],
        "dict": {"a": 1},
        "dict of int": {1: 1},
        "empty dict": {},
        "tuple": ("a", "b"),
        "set": {1},
        "generator": (each for each in [1]),
        "class": Session,
        "function": lambda *_: None,
        "huge str": "x" * 100_000,
        "empty str": "",
        "surrogate": "\ud800",
        "NUL": "\0",
        "str": "no such thing",
        "datetime": NOON,
        "naive": datetime(2026, 1, 31),  # noqa: DTZ001
        "date": date(2026, 1, 31),
        "path": Path("no/such"),
        "session": filled(Session(session_id="other")),
        "session of another store": SessionManager().create_session("ada", session_id="s"),
        "message": Message("user", "x"),
        "checkpoint": Checkpoint("c", 5),
        "coroutine": waiting,
        "file of bytes": io.BytesIO(),
        "exception": ValueError("x"),
        "module": pyai_sessions,
    }


def filled(session):
    for n in range(3):
        session.add_message("user", f"question {n}", message_id=f"q{n}")
        session.add_message("assistant", f"answer {n}", message_id=f"a{n}")
    session.checkpoint("here")
    return session


# The right arguments of calls. Other arguments keep their default.
RIGHT = {
    "session_id": "s",
    "user_id": "ada",
    "owned_by": "ada",
    "new_id": "new",
    "branch": "b",
    "messages": [{"role": "user", "content": "x"}],
    "sessions": [],
    "session_ids": ["s"],
    "message_id": "q1",
    "message": "q1",
    "before": "q1",
    "after": "q1",
    "role": "user",
    "content": "x",
    "items": [],
    "summary": "They talked.",
    "name": "here",
    "to": "here",
    "key": "k",
    "value": 1,
    "changes": {},
    "kvs": {"session_id": "s", "role": "user"},
    "s": '{"session_id": "s", "role": "user"}',
    "mapping": {},
    "keys": {"a": bytes(32)},
}
NOT_CALLED = {"close", "schema", "keep_unknown", "to_json", "to_dict"}  # of no argument, or of another library's


def manager_of_a_session():
    manager = SessionManager({})
    session = filled(manager.create_session("ada", session_id="s"))
    session.rewind(1)
    manager.save(session)
    return manager


def async_manager():
    return AsyncSessionManager(manager_of_a_session().store)


RECEIVERS = {
    "SessionManager": manager_of_a_session,
    "AsyncSessionManager": async_manager,
    "KVSessionStore": lambda: manager_of_a_session().store,
    "Session": lambda: manager_of_a_session().get_session("s"),
    "Session class": lambda: Session,
    "Message class": lambda: Message,
}
MAKERS = [
    *(Session, Message, Checkpoint, Limits, SessionManager, AsyncSessionManager, KVSessionStore, MemorySessionStore),
    *(SQLiteSessionStore, DiskCacheSessionStore, RedisSessionStore, RedisMapping, SQLiteMapping, Encrypted),
    *(open_store, jsonable),
]


def methods_of(receiver):
    """Return an object's public methods, or the class methods of a class."""
    kind = receiver if isinstance(receiver, type) else type(receiver)
    for name in dir(kind):
        found = inspect.getattr_static(kind, name)
        of_class = isinstance(found, classmethod)
        if (
            not name.startswith("_")
            and name not in NOT_CALLED
            and callable(getattr(kind, name))
            and (of_class or not isinstance(receiver, type))
        ):
            yield name


def parameters_of(function):
    """Return the parameters that a caller may pass, except those that gather options."""
    return [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]


def some(acts, label, long_form):
    """Return all acts in the long form, else a quarter, chosen by label, so that each value has its turn."""
    start = sum(map(ord, label)) % 4
    return acts if long_form else dict([*acts.items()][start::4])


METHODS = [(kind, name) for kind, make in RECEIVERS.items() for name in methods_of(make())]
ARGUMENTS = [
    (kind, name, each.name) for kind, name in METHODS for each in parameters_of(getattr(RECEIVERS[kind](), name))
]


def call(function, argument, value, right):
    """Call a function with a wrong value for one argument, and return the awaited result."""
    positional, named = [], {}
    for each in parameters_of(function):
        given = value if each.name == argument else right.get(each.name, each.default)
        if each.name != argument and given is each.empty:
            given = "s"
        if each.kind is each.VAR_POSITIONAL:
            positional += [value] if each.name == argument else given
        elif each.kind is each.KEYWORD_ONLY:
            named[each.name] = given
        else:
            positional.append(given)
    made = function(*positional, **named)

    async def awaited():
        return await made

    return asyncio.run(awaited()) if inspect.iscoroutine(made) and made is not value else made


REMEDY = re.compile(
    "it is |is null|is missing|; |, or |: |is made from|use |give |load |does not exist|cannot be|needs"
)
NO_TEXT = {"None", "bool", "float", "bytes", "object", "exception", "session", "message"}  # `str` of these is no id
MOST = 1000  # characters: it ends up in a log


def fault_of(err):
    """Return what is wrong with an error, or None."""
    text = f"{type(err).__name__}: {err}"
    if not isinstance(err, SessionError):
        return text[:300]
    return "" if REMEDY.search(str(err)) and len(str(err)) < MOST else f"no remedy, or too long: {text[:300]}"


def faults_of(acts):
    """Make calls by label. Return a line for each whose error is wrong."""
    lines = []
    for label, act in acts.items():
        try:
            act()
        except Exception as err:  # noqa: BLE001, PERF203 (which of them is what is tested)
            fault = fault_of(err)
            if label in NO_TEXT and "it is text: str(" in str(err):
                fault = f"str of it is no id: {err}"
            lines += [f"{label}: {fault}"] if fault else []
    return lines


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here", "own_garbage")
@pytest.mark.filterwarnings("ignore")  # of values that are thrown away
@pytest.mark.parametrize(("kind", "name", "argument"), ARGUMENTS)
def test_a_wrong_argument_is_an_error_of_ours(kind, name, argument, long_form):
    """A method raises a SessionError with a remedy, or accepts a value that can be stored."""

    def act(value):
        manager, receiver = manager_of_a_session(), RECEIVERS[kind]()
        right = {**RIGHT, "session": manager_of_a_session().get_session("s"), "file": io.StringIO()}
        if kind == "Session":
            receiver = manager.get_session("s")
        call(getattr(receiver, name), argument, value, right)
        if kind == "Session":  # it was accepted: then it can be saved, loaded, exported and given to a model
            manager.save(receiver)
            loaded = manager.get_session("s")
            assert loaded == receiver
            assert Session.from_json(receiver.to_json()) == loaded
            receiver.history(speakers={"": "user", "no such thing": "user", "\0": "user", "\ud800": "user"})

    acts = {label: partial(act, value) for label, value in wrong_values().items()}
    faults = faults_of(some(acts, f"{kind}.{name}.{argument}", long_form))

    assert not faults, "\n".join(faults)


@pytest.mark.usefixtures("here", "own_garbage")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "argument"),
    [(make, each.name) for make in MAKERS for each in parameters_of(make)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wrong_argument_of_a_constructor_is_an_error_of_ours(make, argument):
    """Constructors raise such an error at once."""

    def act(value):
        made = call(make, argument, value, RIGHT)
        if isinstance(made, Session):
            manager = SessionManager()
            manager.save(made)
            assert manager.get_session(made.session_id) == made
        if hasattr(made, "close") and not inspect.iscoroutinefunction(made.close):
            made.close()

    faults = faults_of({label: partial(act, value) for label, value in wrong_values().items()})

    assert not faults, "\n".join(faults)


# Wrong states ---------------------------------------------------------------------------------------------------------


def closed():
    manager = SessionManager("sqlite://:memory:")
    manager.save(filled(manager.create_session("ada", session_id="s")))
    session = manager.get_session("s")
    manager.close()
    return manager, session


def deleted():
    manager = manager_of_a_session()
    session = manager.get_session("s")
    manager.delete("s")
    return manager, session


def archived():
    manager = manager_of_a_session()
    session = manager.get_session("s")
    manager.archive("s")
    return manager, session


def in_part():
    manager = manager_of_a_session()
    whole = manager.get_session("s")
    for n in range(100):
        whole.add_message("user", f"more {n}")
    manager.save(whole)
    return manager, manager.get_session("s", last=3)


def unsaved():
    return manager_of_a_session(), filled(Session(session_id="unsaved"))


def of_another_store():
    return SessionManager(), manager_of_a_session().get_session("s")


STATES = [closed, deleted, archived, in_part, unsaved, of_another_store]


@pytest.mark.usefixtures("own_garbage")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("state", STATES)
def test_a_call_in_a_wrong_state_works_or_is_an_error_of_ours(state, here):
    """In any wrong state each call works, or raises an error that says what to do."""

    def act(kind, name):
        manager, session = state()
        receiver = {"SessionManager": manager, "KVSessionStore": manager.store, "Session": session}[kind]
        right = {**RIGHT, "session": session, "file": io.StringIO(), "path": str(here / f"{kind}-{name}")}
        call(getattr(receiver, name), None, None, right)
        if kind == "Session":
            manager.save(session)

    acts = {
        f"{kind}.{name}": partial(act, kind, name)
        for kind in ("SessionManager", "KVSessionStore", "Session")
        for name in methods_of(RECEIVERS[kind]())
    }
    faults = faults_of(acts)

    assert not faults, "\n".join(faults)
