"""Conversations under Pydantic AI, over SQLite and Valkey, and beside the framework's own store."""

import asyncio
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict, InMemoryConversationStore
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    CachePoint,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from pyai_sessions import SessionArchivedError, SessionManager
from pyai_sessions.integrations.pydantic_ai import SessionConversationStore

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "a valkey server"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return request.getfixturevalue("valkey_server").url


def chat(url, question):
    """Ask in a process of its own, and return what it prints."""
    module = "tests.integrations.frameworks.pydantic_ai_chat"
    done = subprocess.run([sys.executable, "-m", module, url, question], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_conversation_is_resumed_in_another_process(url):
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


MEDIA = [BinaryContent(b"abc\xff\xfe", media_type="image/png"), BinaryContent(b"a", media_type="application/pdf")]
LINKS = [ImageUrl("https://a/b.png"), DocumentUrl("https://a/b.pdf"), CachePoint()]
MESSAGES = [
    ModelRequest(parts=[SystemPromptPart("Be brief."), UserPromptPart(["Hi", *MEDIA, *LINKS])], instructions="I"),
    ModelResponse(parts=[ThinkingPart("hm", signature="s", provider_name="anthropic"), TextPart("Hello")]),
    ModelResponse(parts=[ToolCallPart("f", {"a": 1}, tool_call_id="c1"), ToolCallPart("g", "{", tool_call_id="c2")]),
    ModelRequest(
        parts=[ToolReturnPart("f", {"x": [1]}, tool_call_id="c1"), ToolReturnPart("g", None, tool_call_id="c2")]
    ),
    ModelRequest(parts=[ToolReturnPart("f", ["a"], tool_call_id="c3", outcome="failed"), UserPromptPart("x")]),
    ModelRequest(parts=[]),
    ModelResponse(parts=[]),
    ModelResponse(
        parts=[
            FilePart(MEDIA[0]),
            NativeToolCallPart("web", {"q": 1}, tool_call_id="n", provider_name="openai"),
            NativeToolReturnPart("web", {"r": 1}, tool_call_id="n", provider_name="openai"),
            TextPart("t", id="msg_1", provider_name="openai"),
        ],
        model_name="m",
        finish_reason="stop",
    ),
]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.integers(1, 3))
def test_messages_come_back_as_the_frameworks_own_json_gives_them(messages, limit):
    """Every kind of part comes back equal, as from the framework's own JSON; also the newest few of them."""
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
    """Our store and the framework's, on which the same is done; their entries have the same numbers."""

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
    """Whoever changed the conversation since it was loaded, a save of a stale copy raises the framework's error."""
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
    """A message by hand is an entry; what others say of the session besides, such as its title, is no conflict."""
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
    """Under another scope a conversation is not there, and saving it raises."""
    manager = SessionManager()
    store = SessionConversationStore(manager)
    save(store, Conversation(conversation_id="c"), "Hello!", scope="ada")

    assert asyncio.run(store.load("c", scope="bob")) is None
    assert [each.conversation_id for each in asyncio.run(store.list_conversations(scope="ada"))] == ["c"]
    with pytest.raises(ConversationConflict):
        save(store, Conversation(conversation_id="c"), "Mine.", scope="bob")
    assert manager.count("ada") == 1


def test_an_archived_session_is_read_and_not_written():
    """An archived conversation is loaded, is not listed, and takes nothing."""
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
    """An entry that the application noted is read from a store that knows nothing of it; another is a LookupError."""
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


def test_the_program_of_the_documentation_prints_what_it_says(tmp_path):
    """The page's program runs as it stands, with the framework."""
    page = (ROOT / "docs" / "how-to" / "frameworks.md").read_text("utf-8")
    programs = re.findall(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", page, re.DOTALL | re.MULTILINE)
    [(program, output)] = [each for each in programs if "integrations.pydantic_ai" in each[0]]
    (tmp_path / "program.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{program}", "utf-8")

    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, output), done.stderr
