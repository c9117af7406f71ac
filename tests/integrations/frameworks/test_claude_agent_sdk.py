"""Sessions under the Claude Agent SDK and its CLI, over SQLite and Valkey; its conformance tests, on every storage."""

import asyncio
from itertools import chain
from pathlib import Path

import claude_agent_sdk as sdk
import pytest
from claude_agent_sdk.testing import run_session_store_conformance
from sqlitedict import SqliteDict

from pyai_sessions import (
    DiskCacheSessionStore,
    KVSessionStore,
    MemorySessionStore,
    Message,
    RedisSessionStore,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
    SQLiteSessionStore,
)
from pyai_sessions.integrations.claude_agent_sdk import ClaudeSessionStore, session_id_of
from tests.integrations.frameworks.page import check_program
from tests.integrations.test_claude_agent_sdk import SESSION, TURN

ROOT = Path(__file__).parents[3]
KEY = {"project_key": "-app", "session_id": SESSION}


def spoken(messages):
    """Return the blocks of messages that a user, a model or a tool says, without what the CLI reminds the model of."""
    contents = [
        [{"type": "text", "text": each["content"]}] if isinstance(each["content"], str) else each["content"]
        for each in messages
    ]
    blocks = [{key: value for key, value in each.items() if key != "cache_control"} for each in chain(*contents)]
    for each in blocks:
        if isinstance(each.get("content"), list):
            each["content"] = each["content"][:1]
    return [each for each in blocks if "<system-reminder>" not in each.get("text", "")]


def test_a_conversation_is_resumed_in_another_process(chat, url, tmp_path):
    """A second process, whose CLI knows nothing of the first, gives the model all that was said in it."""
    first = chat(url, tmp_path, "Is it warm?")
    second = chat(url, tmp_path, "And now?", first["session_id"])

    assert second["session_id"] == first["session_id"]
    assert second["entries"][: len(first["entries"])] == first["entries"]
    *before, question = spoken(second["requests"][0])
    assert question["text"] == "And now?"
    assert [each["type"] for each in before] == ["text", "tool_use", "tool_result", "text"]
    assert before == [*spoken(first["requests"][-1]), {"type": "text", "text": first["answer"]}]
    with SessionManager(url) as manager:
        [listed] = manager.list_sessions("ada")
        assert listed.title == "Is it warm?"


def test_the_cli_goes_on_with_a_conversation_of_another_origin(chat, tmp_path):
    """The CLI resumes a session written by hand and in another format: the model is given its words and calls."""
    url = f"sqlite:///{tmp_path}/chat.db"
    with SessionManager(url) as manager:
        session_id = session_id_of(sdk.project_key_for_directory(tmp_path), SESSION)
        session = manager.create_session("ada", session_id=session_id)
        session.add_message("user", "Is it cold in Bergen?")
        call = {"type": "function_call", "call_id": "c1", "name": "thermometer", "arguments": "{}"}
        session.add_messages(
            [call, {"type": "function_call_output", "call_id": "c1", "output": "3"}], format="responses"
        )
        session.add_message("assistant", "Yes.")
        manager.save(session)

    resumed = chat(url, tmp_path, "And in Oslo?", SESSION)

    assert spoken(resumed["requests"][0]) == [
        {"type": "text", "text": "Is it cold in Bergen?"},
        {"type": "tool_use", "id": "c1", "name": "thermometer", "input": {}},
        {"type": "tool_result", "tool_use_id": "c1", "content": "3"},
        {"type": "text", "text": "Yes."},
        {"type": "text", "text": "And in Oslo?"},
    ]


STORES = {
    "memory": lambda _, __: MemorySessionStore(),
    "SQLite": lambda folder, _: SQLiteSessionStore(folder / "chat.db"),
    "SqliteDict": lambda folder, _: KVSessionStore(SqliteDict(folder / "chat.sqlite")),
    "diskcache": lambda folder, _: DiskCacheSessionStore(folder),
    "a mapping": lambda _, __: KVSessionStore({}),
    "Valkey": lambda folder, request: _of_server(folder, request, "valkey_server"),
    "Redis": lambda folder, request: _of_server(folder, request, "redis_server"),
}


def _of_server(folder, request, fixture):
    return RedisSessionStore(request.getfixturevalue(fixture).url, prefix=f"{folder.parent.name}-{folder.name}:")


@pytest.mark.parametrize("options", [{}, {"user_id": "ada"}], ids=["anyone", "a user"])
@pytest.mark.parametrize("storage", STORES)
def test_the_sdks_conformance_tests_pass(storage, options, tmp_path, request):
    """All 14 contracts of the SDK hold on every storage, with a user and without one."""
    managers = []

    def make():
        folder = tmp_path / str(len(managers))
        folder.mkdir()
        managers.append(SessionManager(STORES[storage](folder, request), close_store=True))
        return ClaudeSessionStore(managers[-1], **options)

    asyncio.run(run_session_store_conformance(make))
    for each in managers:
        each.close()


def test_summaries_say_what_the_sdk_makes_of_all_entries():
    """A session's summary covers its whole transcript, whoever appended. Its title is the one that the user gave."""
    manager = SessionManager()

    async def append():
        one, other = ClaudeSessionStore(manager), ClaudeSessionStore(manager)
        titles = [{"type": "custom-title", "customTitle": f"Oslo {n}"} for n in range(4)]
        for n, each in enumerate(TURN):
            await (one if n % 2 else other).append(KEY, [each])
        await asyncio.gather(*(each.append(KEY, [title]) for each in (one, other) for title in titles))
        return await one.load(KEY), await other.list_session_summaries("-app"), await one.list_sessions("-app")

    entries, [summary], [listed] = asyncio.run(append())

    assert len(entries) == len(TURN) + 8
    assert summary == {**sdk.fold_session_summary(None, KEY, entries), "mtime": listed["mtime"]}
    assert manager.get_session(session_id_of(**KEY)).title == summary["data"]["custom_title"]


def test_the_sdks_own_functions_work_on_it():
    """The SDK lists, reads, renames, tags, forks and deletes sessions of the store."""
    store = ClaudeSessionStore(SessionManager())
    folder = "/app"
    key = {"project_key": sdk.project_key_for_directory(folder), "session_id": SESSION}

    async def use():
        await store.append(key, TURN)
        await sdk.rename_session_via_store(store, SESSION, "Weather", directory=folder)
        await sdk.tag_session_via_store(store, SESSION, "trip", directory=folder)
        fork = await sdk.fork_session_via_store(store, SESSION, directory=folder)
        listed = await sdk.list_sessions_from_store(store, directory=folder)
        said = [
            await sdk.get_session_messages_from_store(store, each, directory=folder)
            for each in (SESSION, fork.session_id)
        ]
        await sdk.delete_session_via_store(store, SESSION, directory=folder)
        return listed, said, await sdk.list_sessions_from_store(store, directory=folder)

    listed, [original, forked], left = asyncio.run(use())

    assert {each.session_id: each.tag for each in listed}[SESSION] == "trip"
    assert "Weather" in [each.custom_title for each in listed]
    assert [each.message for each in original] == [each.message for each in forked]
    assert len(original) == 5
    assert SESSION not in [each.session_id for each in left]


def test_another_users_session_is_not_read_and_not_written():
    """Another user's session is not found, and appending to it raises."""
    manager = SessionManager()
    asyncio.run(ClaudeSessionStore(manager, user_id="ada").append(KEY, TURN))
    store = ClaudeSessionStore(manager, user_id="bob")

    assert asyncio.run(store.load(KEY)) is None
    assert asyncio.run(store.list_sessions("-app")) == []
    with pytest.raises(SessionExistsError):
        asyncio.run(store.append(KEY, TURN))
    asyncio.run(store.delete(KEY))
    assert manager.get_session(session_id_of(**KEY)).message_count == len(TURN)


def test_an_archived_session_is_read_and_not_written():
    """An archived session still has its entries, is not listed, and takes no new ones."""
    manager = SessionManager()
    store = ClaudeSessionStore(manager)
    asyncio.run(store.append(KEY, TURN))
    manager.archive(session_id_of(**KEY))

    assert asyncio.run(store.load(KEY)) == TURN
    assert asyncio.run(store.list_sessions("-app")) == []
    with pytest.raises(SessionArchivedError):
        asyncio.run(store.append(KEY, [{"type": "mode"}]))


def test_adding_is_one_commit():
    """Appending a batch is one write. The store remembers the revision and the summary of its last write."""
    events = []
    manager = SessionManager({}, on_event=events.append)
    store = ClaudeSessionStore(manager)

    async def append():
        await store.append(KEY, TURN[:1])
        events.clear()
        await store.append(KEY, TURN[1:])

    asyncio.run(append())

    assert [each.method for each in events if each.name == "ended"] == ["update"]


def test_messages_by_hand_and_entries_are_one_conversation():
    """Messages appended by hand beside the CLI are kept, and so are the CLI's entries."""
    manager = SessionManager()
    store = ClaudeSessionStore(manager)

    async def both():
        await store.append(KEY, TURN[:1])
        manager.append(session_id_of(**KEY), Message("user", "By hand."))
        await store.append(KEY, TURN[1:])
        return await store.load(KEY)

    entries = asyncio.run(both())

    assert [each for each in entries if each in TURN] == TURN
    assert entries[1]["parentUuid"] == TURN[0]["uuid"]


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.claude_agent_sdk", tmp_path)
