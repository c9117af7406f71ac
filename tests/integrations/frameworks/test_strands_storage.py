"""Values of Strands in sessions, beside the framework's own storage in memory."""

import asyncio

import pytest

pytest.importorskip("strands.storage", reason="the lowest release has no Storage", exc_type=ImportError)

from hypothesis import given
from hypothesis import strategies as st
from strands import Agent
from strands.session.snapshot_session_manager import SnapshotSessionManager
from strands.storage import InMemoryStorage, LocalFileStorage, Storage
from strands.types.exceptions import StorageError

from pyai_sessions import AsyncSessionManager, SessionManager
from pyai_sessions.integrations.strands.storage import StrandsStorage
from tests.integrations.frameworks.strands_chat import ScriptedModel, weather

KEYS = st.sampled_from(["a", "a/b", "a/b.json", "b c", "ü/x"])
STEPS = st.lists(
    st.tuples(st.just("write"), KEYS, st.binary(max_size=20) | st.text(max_size=20).map(str.encode))
    | st.tuples(st.sampled_from(["read", "delete"]), KEYS)
    | st.tuples(st.just("list"), st.sampled_from(["", "a", "a/", "b", "zz"]))
    | st.tuples(st.just("search"), st.sampled_from(["night train", "x"])),
    max_size=12,
)


@given(STEPS)
def test_each_call_does_what_strands_own_storage_does(steps):
    """Whatever is written, deleted and asked for, the answers are those of the storage in memory."""

    async def answers(storage):
        return [await getattr(storage, name)(*arguments) for name, *arguments in steps]

    assert asyncio.run(answers(StrandsStorage(SessionManager()))) == asyncio.run(answers(InMemoryStorage()))


def test_it_is_a_storage_of_strands():
    """It fulfils the protocol, and takes the place of the files of an agent with snapshots."""
    assert isinstance(StrandsStorage(SessionManager()), Storage)


def talk(storage, question):
    manager = SnapshotSessionManager("s", storage=storage)
    agent = Agent(model=ScriptedModel(), agent_id="a", tools=[weather], session_manager=manager, callback_handler=None)
    agent(question)
    return [(each["role"], each["content"]) for each in agent.messages]


def test_an_agent_with_snapshots_is_resumed(url, tmp_path):
    """A new agent has the messages of the last one, as with Strands' own files."""
    files = LocalFileStorage(str(tmp_path))

    for question in ("Is it warm?", "And now?"):
        with SessionManager(url) as manager:
            ours = talk(StrandsStorage(manager, user_id="ada"), question)
        assert ours == talk(files, question)
    assert len(ours) == 8


def test_another_users_values_are_not_there():
    """A user neither reads, lists nor deletes what is another's, and writing it raises the framework's error."""

    async def check():
        async with AsyncSessionManager() as manager:
            mine, theirs = StrandsStorage(manager, user_id="ada"), StrandsStorage(manager, user_id="bob")
            await mine.write("k", b"mine")
            await theirs.delete("k")
            assert (await theirs.read("k"), await theirs.list("")) == (None, [])
            with pytest.raises(StorageError):
                await theirs.write("k", b"theirs")
            assert await mine.read("k") == b"mine"

    asyncio.run(check())


@pytest.mark.parametrize("key", ["", "x" * 2000, 7, None])
def test_a_key_that_cannot_be_the_id_of_a_session_raises_strands_error(key):
    """What is refused is refused by name, as the framework's own storages refuse it."""
    with pytest.raises(StorageError, match="key is"):
        asyncio.run(StrandsStorage(SessionManager()).write(key, b""))
