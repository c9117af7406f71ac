"""Conversations under Pydantic AI, over SQLite and Valkey, and beside the framework's own store."""

import asyncio
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, InMemoryConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    CompactionPart,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.usage import RequestUsage

from pyai_sessions import SessionArchivedError, SessionManager
from pyai_sessions.integrations.pydantic_ai import SessionConversationStore
from tests.integrations.frameworks.page import check_program

ROOT = Path(__file__).parents[3]


def test_a_conversation_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first: prompts, reasoning, call, result and answer."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert second["calls"][0][: len(first["calls"][1])] == first["calls"][1]
    kinds = [part["part_kind"] for message in second["calls"][0] for part in message["parts"]]
    assert kinds == ["system-prompt", "user-prompt", "thinking", "tool-call", "tool-return", "text", "user-prompt"]
    assert second["answer"] == "It has 21 degrees in Oslo."
    with SessionManager(url) as manager:
        [listed] = manager.get_sessions_for_user("ada")
        roles = [each["role"] for each in listed.history(format="openai")]
        assert roles == ["system", *["user", "assistant", "tool", "assistant"] * 2]


TEXT = st.text(max_size=8)
CALL_ID = st.sampled_from(["c1", "c2"])
NAME = st.sampled_from(["weather", "clock"])
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda each: st.lists(each, max_size=2))
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)
BY = {"id": st.none() | TEXT, "provider_name": st.sampled_from([None, "openai", "anthropic"])}
DETAILS = {**BY, "provider_details": st.none() | OBJECT}
KINDS = st.sampled_from(["image/png", "audio/wav", "video/mp4", "application/pdf", "text/plain"])
MEDIA = st.builds(BinaryContent, data=st.binary(max_size=6), media_type=KINDS, vendor_metadata=st.none() | OBJECT)
URL = st.sampled_from(["https://a/b", "https://a/c.png"])
LINK = st.one_of(*(st.builds(each, url=URL, media_type=KINDS) for each in (ImageUrl, AudioUrl, VideoUrl, DocumentUrl)))
CONTENT = TEXT | MEDIA | LINK | st.builds(TextContent, content=TEXT, metadata=JSON) | st.just(CachePoint())
RETURNED = {"tool_name": NAME, "content": JSON | OBJECT, "tool_call_id": CALL_ID, "metadata": JSON}
REQUEST = st.builds(
    ModelRequest,
    parts=st.lists(
        st.builds(SystemPromptPart, content=TEXT)
        | st.builds(UserPromptPart, content=TEXT | st.lists(CONTENT, max_size=3))
        | st.builds(ToolReturnPart, **RETURNED, outcome=st.sampled_from(["success", "failed", "denied", "retried"]))
        | st.builds(RetryFeedbackPart, content=TEXT, retry=st.just(RetryInfo(cause="no_output"))),
        max_size=3,
    ),
    instructions=st.none() | TEXT,
    run_id=st.none() | TEXT,
    metadata=st.none() | OBJECT,
)
CALLED = {"tool_name": NAME, "args": st.none() | TEXT | OBJECT, "tool_call_id": CALL_ID}
RESPONSE = st.builds(
    ModelResponse,
    parts=st.lists(
        st.builds(TextPart, content=TEXT, **DETAILS)
        | st.builds(ThinkingPart, content=TEXT, signature=st.none() | TEXT, **DETAILS)
        | st.builds(ToolCallPart, **CALLED, **DETAILS)
        | st.builds(NativeToolCallPart, **CALLED, **DETAILS)
        | st.builds(NativeToolReturnPart, **RETURNED, provider_name=BY["provider_name"])
        | st.builds(FilePart, content=MEDIA, **DETAILS)
        | st.builds(CompactionPart, content=st.none() | TEXT, **DETAILS),
        max_size=4,
    ),
    usage=st.builds(RequestUsage, input_tokens=st.integers(0, 9), details=st.just({"reasoning": 1})),
    model_name=st.none() | TEXT,
    finish_reason=st.sampled_from([None, "stop", "length", "error"]),
    state=st.sampled_from(["complete", "interrupted"]),
    metadata=st.none() | OBJECT,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(REQUEST | RESPONSE, max_size=4), st.integers(1, 3))
def test_messages_come_back_as_the_frameworks_own_json_gives_them(messages, limit):
    """Parts of every kind come back equal to what the framework's own JSON gives, all messages and the newest."""
    wanted = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(messages))

    async def store():
        store = SessionConversationStore(SessionManager())
        entries = await store.save(Conversation(messages=messages, conversation_id="c"))
        return entries, await store.load_entries("c"), await store.load("c", limit=limit)

    entries, loaded, newest = asyncio.run(store())

    assert [each.message for each in loaded] == wanted
    assert [(each.id, each.parent_id) for each in loaded] == [(each.id, each.parent_id) for each in entries]
    assert newest.messages == wanted[-limit:]


class Pair:
    """Our store and the framework's. The same is done to both, and their entries are numbered alike."""

    def __init__(self):
        self.stores = SessionConversationStore(SessionManager()), InMemoryConversationStore()
        self.numbers = {}, {}
        self.ids = ["c0"]

    async def do(self, rng):
        """Do one thing to both, and compare what comes of it."""
        names = ("save", "save", "save", "rewrite", "branch", "return", "fork", "fork from", "delete")
        name, chosen, limit = rng.choice(names), rng.choice(self.ids), rng.choice([None, None, 1, 2, 3])
        at, entry, new = rng.randrange(6), rng.randrange(len(self.numbers[0]) + 1), f"c{len(self.ids)}"
        texts = [f"{rng.random()}" for _ in range(rng.randrange(1, 4))]
        messages = [ModelRequest(parts=[SystemPromptPart("s"), UserPromptPart(each)]) for each in texts[:1]]
        messages += [ModelResponse(parts=[TextPart(each)]) for each in texts[1:]]
        results = []
        for store, numbers in zip(self.stores, self.numbers, strict=True):
            entry_id = next((each for each, number in numbers.items() if number == entry), "no such")
            try:
                made = await self.call(
                    store, name, chosen, new=new, at=at, entry_id=entry_id, limit=limit, messages=messages
                )
            except (UserError, LookupError) as err:
                made = type(err).__name__
            if isinstance(made, list):
                numbers.update({each.id: len(numbers) + n for n, each in enumerate(made)})
                made = len(made)
            results.append(made)
        assert results[0] == results[1], name
        if isinstance(results[0], Conversation):
            self.ids.append(results[0].conversation_id)
        assert await self.seen(0) == await self.seen(1), name

    async def call(self, store, name, chosen, *, new, at, entry_id, limit, messages):
        if name in ("save", "rewrite"):
            conversation = await store.load(chosen, limit=limit if name == "save" else None)
            conversation = conversation or Conversation(conversation_id=chosen)
            if name == "rewrite":
                conversation.messages, conversation.new_message_index = conversation.messages[:at], None
            conversation.messages = [*conversation.messages, *messages]
            return await store.save(conversation)
        if name in ("branch", "return"):
            record = await store.read_record(chosen)
            point = {"at": at} if name == "branch" else {"from_entry": entry_id}
            made = await store.branch(chosen, expected_revision=record and record.revision, **point)
            return len(made.messages)
        if name == "delete":
            return await store.delete(chosen)
        point = {} if name == "fork" else {"from_entry": entry_id}
        made = await store.fork(chosen, new_conversation_id=new, **point)
        made.revision = None
        return made

    async def seen(self, which):
        """Return all that is stored, with numbers for entries."""
        store, numbers = self.stores[which], self.numbers[which]
        found = {}
        for record in await store.list_conversations():
            about = record.conversation_id, record.scope, record.forked_from, numbers.get(record.forked_at)
            tips = sorted(numbers[each] for each in record.branches)
            histories = [
                [(numbers[each.id], numbers.get(each.parent_id), each.message.parts[-1].content) for each in entries]
                for tip in (record.head_id, *sorted(record.branches, key=numbers.get))
                for entries in (await store.read_history(tip), await store.read_history(tip, limit=2))
            ]
            found[about] = (tips, histories)
        return list(found.items())


@pytest.mark.parametrize("seed", range(6))
def test_it_does_what_the_frameworks_own_store_does(seed):
    """After any saves, rewrites, branches, returns, forks and deletions both stores hold the same."""

    async def compare():
        pair, rng = Pair(), random.Random(seed)
        for _ in range(12):
            await pair.do(rng)

    asyncio.run(compare())


def save(store, conversation, text, **options):
    conversation.messages.append(ModelRequest(parts=[UserPromptPart(text)]))
    return asyncio.run(store.save(conversation, **options))


def test_a_stale_copy_is_refused():
    """If anyone changed the conversation after it was loaded, saving it raises the framework's error."""
    manager = SessionManager()
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!", scope="ada")
    for change in (
        lambda: save(SessionConversationStore(manager), asyncio.run(store.load("c")), "Theirs."),
        lambda: manager.append("c", {"role": "user", "content": "By hand."}),
        lambda: manager.delete("c"),
    ):
        mine = asyncio.run(store.load("c"))
        change()
        with pytest.raises(ConversationConflict):
            save(store, mine, "Mine.")


def test_what_others_append_is_in_the_conversation():
    """A message appended by hand is an entry. A new title is no conflict."""
    manager = SessionManager()
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!", scope="ada")
    manager.append("c", {"role": "assistant", "content": "By hand."})

    loaded = asyncio.run(store.load("c", scope="ada"))
    manager.update("c", title="Greetings")
    save(store, loaded, "Thanks.")

    assert loaded.messages[1].parts[0].content == "By hand."
    assert [each.content for each in manager.get_session("c").messages] == ["Hello!", "By hand.", "Thanks."]


def test_a_scope_is_a_user():
    """Another scope's conversation is not found, and saving it raises."""
    manager = SessionManager()
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!", scope="ada")

    assert asyncio.run(store.load("c", scope="bob")) is None
    assert [each.conversation_id for each in asyncio.run(store.list_conversations(scope="ada"))] == ["c"]
    with pytest.raises(ConversationConflict):
        save(store, Conversation(conversation_id="c"), "Mine.", scope="bob")
    assert manager.count("ada") == 1


def test_an_archived_session_is_read_and_not_written():
    """An archived conversation is loaded, is not listed, and takes no messages."""
    manager = SessionManager()
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!")
    manager.archive("c")

    loaded = asyncio.run(store.load("c"))

    assert len(loaded.messages) == 1
    assert asyncio.run(store.list_conversations()) == []
    with pytest.raises(SessionArchivedError):
        save(store, loaded, "Mine.")


def test_an_entry_is_found_by_its_id_alone():
    """A new store finds an entry by its id. An unknown id raises LookupError."""
    manager = SessionManager()
    [entry] = save(SessionConversationStore(manager), Conversation(conversation_id="c"), "Hello!")

    assert asyncio.run(SessionConversationStore(manager).read_entry(entry.id)) == entry
    with pytest.raises(LookupError):
        asyncio.run(SessionConversationStore(manager).read_entry("no such"))


def test_adding_is_one_commit():
    """A save that follows a load is one write."""
    events = []
    manager = SessionManager({}, on_event=events.append)
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!")
    loaded = asyncio.run(store.load("c"))
    events.clear()

    save(store, loaded, "Thanks.")

    assert [each.method for each in events if each.name == "ended"] == ["get_session", "update"]


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.pydantic_ai", tmp_path)
