"""The exceptions: each can be pickled and copied, and comes out of a worker process whole."""

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
    """Return an error, made of a value for each parameter; one without a constructor of ours takes a message."""
    if not any("__init__" in vars(each) for each in kind.__mro__ if issubclass(each, SessionError)):
        return kind(value("message", "str"))
    parameters = inspect.signature(kind).parameters.values()
    given = [value(each.name, each.annotation) for each in parameters if each.kind is not each.KEYWORD_ONLY]
    named = {each.name: value(each.name, each.annotation) for each in parameters if each.kind is each.KEYWORD_ONLY}
    return kind(*given, **named)


def attributes_of(error):
    """Return what an error says of itself, in slots of Python's too: `name` of an ImportError."""
    names = [each for each in dir(error) if not each.startswith("_")]
    return {each: value for each in names if not callable(value := getattr(error, each, None))}


def check_same(found, error):
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert attributes_of(found) == attributes_of(error)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), way=st.sampled_from(list(WAYS.values())))
def test_every_error_is_the_same_after_a_copy_and_a_pickle(kind, way, data):
    """Type, message, arguments and all attributes, those that the caller added, too."""
    error = made(kind, lambda name, type_: data.draw(BY_TYPE.get(type_, st.none()), label=name))
    error.note_of_the_caller = "kept"

    check_same(way(error), error)


class TenantError(errors.SessionNotFoundError):
    """An error of a user's own, with a constructor of its own."""

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
    """The caller gets the error that the worker raised, and the workers go on."""

    def test_of_a_process_pool_executor(self, executor, kind):
        """An error that could not be unpickled would break the executor."""
        with pytest.raises(kind) as caught:
            executor.submit(raise_error, kind).result(timeout=60)

        check_same(caught.value, made(kind))

    def test_of_a_multiprocessing_pool(self, pool, kind):
        """An error that could not be unpickled would leave the caller waiting for ever."""
        with pytest.raises(kind) as caught:
            pool.apply_async(raise_error, (kind,)).get(timeout=60)

        check_same(caught.value, made(kind))


# What belongs to one process ------------------------------------------------------------------------------------------


def holders(path):
    """Yield all that holds connections or keys, each with what closes it."""
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
    """The error says where to open it instead."""
    for each in holders(tmp_path):
        with pytest.raises(UnsupportedOperationError, match=f"{type(each).__name__} .* in the worker process"):
            way(each)


def test_a_manager_that_is_sent_to_a_worker_is_refused_and_the_executor_goes_on(executor):
    """The caller gets the error, and the next call is made."""
    with pytest.raises(UnsupportedOperationError, match="open the store in the worker process"):
        executor.submit(SessionManager().count).result(timeout=60)

    assert executor.submit(abs, -1).result(timeout=60) == 1
