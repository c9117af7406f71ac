"""Tests that exceptions can be pickled and copied, and survive the way out of a worker process."""

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import (
    AsyncSessionManager,
    DiskCacheSessionStore,
    Encrypted,
    KVSessionStore,
    MemorySessionStore,
    RedisSessionStore,
    SessionError,
    SessionManager,
    SQLiteSessionStore,
    UnsupportedOperationError,
    errors,
)

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SessionError)]

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda it, n=n: pickle.loads(pickle.dumps(it, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},  # noqa: S301
}

BY_TYPE = {
    "str": st.text(),
    "str | None": st.none() | st.text(),
    "int": st.integers(),
    "object": st.none() | st.text() | st.integers() | st.binary() | st.dictionaries(st.text(), st.text()),
}


def a_value(name, type_):
    return 5 if type_ == "int" else f"a {name}"


def made(kind, value=a_value):
    """Return an error made of a value for each parameter, or of a message."""
    if not any("__init__" in vars(each) for each in kind.__mro__ if issubclass(each, SessionError)):
        return kind(value("message", "str"))
    parameters = inspect.signature(kind).parameters.values()
    given = [value(each.name, each.annotation) for each in parameters if each.kind is not each.KEYWORD_ONLY]
    named = {each.name: value(each.name, each.annotation) for each in parameters if each.kind is each.KEYWORD_ONLY}
    return kind(*given, **named)


def attributes_of(error):
    """Return an error's attributes, with those in Python's own slots."""
    names = [each for each in dir(error) if not each.startswith("_")]
    return {each: value for each in names if not callable(value := getattr(error, each, None))}


def check_same(found, error):
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert attributes_of(found) == attributes_of(error)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), way=st.sampled_from(list(WAYS.values())))
def test_every_error_is_the_same_after_a_copy_and_a_pickle(kind, way, data):
    """A copy or pickle of an error keeps its type, message, arguments and attributes."""
    error = made(kind, lambda name, type_: data.draw(BY_TYPE.get(type_, st.none()), label=name))
    error.note_of_the_caller = "kept"

    check_same(way(error), error)


class TenantError(errors.SessionNotFoundError):
    """A user's subclass with a constructor of its own."""

    def __init__(self, tenant: "str", session_id: "str"):
        super().__init__(session_id)
        self.tenant = tenant


def raise_error(kind):
    raise made(kind)


@pytest.fixture(scope="module")
def executor():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@pytest.mark.parametrize("kind", [*KINDS, TenantError])
class TestInAWorkerProcess:
    """A caller gets the error that a worker raised, and the workers go on."""

    def test_of_a_process_pool_executor(self, executor, kind):
        """An error that cannot be unpickled would break the executor."""
        with pytest.raises(kind) as caught:
            executor.submit(raise_error, kind).result(timeout=60)

        check_same(caught.value, made(kind))

    def test_of_a_multiprocessing_pool(self, pool, kind):
        """An error that cannot be unpickled would leave the caller waiting for ever."""
        with pytest.raises(kind) as caught:
            pool.apply_async(raise_error, (kind,)).get(timeout=60)

        check_same(caught.value, made(kind))


# What belongs to one process ------------------------------------------------------------------------------------------


def holders(path):
    """Yield each object that holds connections or keys, with the function that closes it."""
    with ExitStack() as stack:
        file = stack.enter_context(closing(SQLiteSessionStore(path / "chat.db")))
        cache = stack.enter_context(closing(DiskCacheSessionStore(path / "cache")))
        server = stack.enter_context(closing(RedisSessionStore()))  # connects at first use
        stores = [MemorySessionStore(), KVSessionStore({}), file, cache, server]
        yield from stores
        yield from map(SessionManager, stores)
        yield from map(AsyncSessionManager, stores)
        yield from (file.mapping, server.mapping, Encrypted({}, {"k": bytes(32)}))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_holds_connections_is_neither_pickled_nor_copied(tmp_path, way):
    """Pickling or copying such an object raises an error that says where to open it."""
    for each in holders(tmp_path):
        with pytest.raises(UnsupportedOperationError, match=f"{type(each).__name__} .* in the worker process"):
            way(each)


def test_a_manager_that_is_sent_to_a_worker_is_refused_and_the_executor_goes_on(executor):
    """Sending a manager to a worker raises in the caller, and the executor goes on."""
    with pytest.raises(UnsupportedOperationError, match="open the store in the worker process"):
        executor.submit(SessionManager().count).result(timeout=60)

    assert executor.submit(abs, -1).result(timeout=60) == 1
