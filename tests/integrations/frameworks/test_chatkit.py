"""Threads of ChatKit in sessions: its server over SQLite and Valkey, and items of every kind."""

import asyncio
from datetime import datetime, timezone

import pytest
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageItem,
    ClosedStatus,
    FileAttachment,
    HiddenContextItem,
    ThreadItem,
    ThreadMetadata,
    UserMessageItem,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pyai_sessions import (
    AsyncSessionManager,
    InvalidValueError,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
)
from pyai_sessions.integrations.chatkit import ChatKitStore
from tests.integrations.frameworks.page import check_program

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def test_a_thread_is_resumed_in_another_process(chat, url):
    """A second process goes on in the thread of the first, and the thread is an ordinary session."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert first["thread"] == second["thread"]
    turn = ["user_message", "client_tool_call"]
    assert second["seen"] == [*turn, "assistant_message", *turn]
    with SessionManager(url) as manager:
        [listed] = manager.get_sessions_for_user("ada")
    said = listed.history(format="openai")
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "assistant"] * 2
    assert (said[2]["content"], said[3]["content"]) == ("21 degrees", "It has 21 degrees.")


TEXT = st.text(max_size=8)
JSON = st.none() | TEXT | st.integers() | st.lists(st.integers(), max_size=2) | st.dictionaries(TEXT, TEXT, max_size=2)
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)
FILE = {"type": "file", "id": "f", "name": "a.pdf", "mime_type": "application/pdf"}
TAG = st.builds(dict, type=st.just("input_tag"), id=TEXT, text=TEXT, data=OBJECT)
TASK = st.builds(dict, type=st.just("custom"), title=TEXT)


def item(kind, **fields):
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


ITEMS = st.one_of(
    item(
        "user_message",
        content=st.lists(item("input_text", text=TEXT) | TAG, max_size=3),
        attachments=st.lists(st.just(FILE), max_size=1),
        quoted_text=st.none() | TEXT,
        inference_options=st.fixed_dictionaries({"model": st.none() | TEXT}),
    ),
    item(
        "assistant_message",
        content=st.lists(
            item(
                "output_text",
                text=TEXT,
                annotations=st.lists(
                    st.just({"source": {"type": "url", "url": "https://a", "title": "A"}, "index": 1}), max_size=1
                ),
            ),
            max_size=2,
        ),
    ),
    item(
        "client_tool_call",
        status=st.sampled_from(["pending", "completed"]),
        call_id=TEXT,
        name=TEXT,
        arguments=OBJECT,
        output=JSON,
    ),
    item("widget", widget=st.just({"type": "Card", "children": []}), copy_text=st.none() | TEXT),
    item("task", task=TASK),
    item("workflow", workflow=st.builds(dict, type=st.just("custom"), tasks=st.lists(TASK, max_size=2))),
    item("hidden_context_item", content=JSON),
    item("sdk_hidden_context", content=TEXT),
    item("end_of_turn"),
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.none() | st.just(timezone.utc))  # noqa: DTZ001


def made_of(given, n=1):
    return TypeAdapter(ThreadItem).validate_python({"id": f"i{n}", "thread_id": "t", "created_at": NOW, **given})


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.builds(lambda one, time: {**one, "created_at": time}, ITEMS, TIMES), max_size=4))
def test_items_come_back_as_they_were(given):
    """Items of every kind come back equal, in pages and by id. Each format can be given the thread."""
    items = [made_of(each, n) for n, each in enumerate(given)]

    async def store():
        async with AsyncSessionManager() as manager:
            store = ChatKitStore(manager)
            await store.save_thread(ThreadMetadata(id="t", created_at=NOW), None)
            for each in items:
                await store.add_thread_item("t", each, None)
            for order, wanted in (("asc", items), ("desc", items[::-1])):
                found, after = [], None
                while True:
                    page = await store.load_thread_items("t", after, 2, order, None)
                    found, after = [*found, *page.data], page.after
                    assert page.has_more == (len(found) < len(items))
                    if not page.has_more:
                        break
                assert found == wanted
            for each in items:
                assert await store.load_item("t", each.id, None) == each
            for name in ("openai", "anthropic", "gemini", "bedrock", "responses"):
                (await manager.get_session("t")).history(format=name)

    asyncio.run(store())


def run(step, manager=None, **options):
    """Run an async function with a store, and return its result."""

    async def made():
        async with AsyncSessionManager(manager or SessionManager()) as face:
            return await step(ChatKitStore(face, **options))

    return asyncio.run(made())


def test_an_item_is_replaced_and_removed():
    """Saving an item replaces the item of its id, or appends it. Removing an item twice does nothing."""
    one, two = (made_of({"type": "end_of_turn"}, n) for n in (1, 2))
    other = made_of({"type": "hidden_context_item", "content": "x"}, 1)

    async def step(store):
        for each in (one, two, other):
            await store.save_item("t", each, None)
        before = (await store.load_thread_items("t", None, 9, "asc", None)).data
        for _ in range(2):
            await store.delete_thread_item("t", "i1", None)
        return before, (await store.load_thread_items("t", None, 9, "asc", None)).data

    assert run(step) == ([other, two], [two])


def test_a_thread_is_what_was_saved_last():
    """Saving a thread replaces its title, status and metadata as a whole."""
    manager = SessionManager()

    async def step(store):
        thread = ThreadMetadata(id="t", created_at=NOW, title="Oslo", metadata={"a": {"b": 1}})
        await store.save_thread(thread, None)
        closed = thread.model_copy(update={"title": None, "metadata": {"a": {}}, "status": ClosedStatus(reason="done")})
        first = await store.load_thread("t", None)
        await store.save_thread(closed, None)
        return first == thread, await store.load_thread("t", None) == closed

    assert run(step, manager) == (True, True)


def test_threads_of_others_are_not_found():
    """Another user's thread and its items are not found, and storing to it raises."""
    manager = SessionManager()
    manager.create_session("ada", session_id="t")
    end = made_of({"type": "end_of_turn"})

    async def step(store):
        for call in (
            store.load_thread("t", "bob"),
            store.load_item("t", "i1", "bob"),
        ):
            with pytest.raises(NotFoundError):
                await call
        with pytest.raises(SessionExistsError):
            await store.add_thread_item("t", end, "bob")
        items = await store.load_thread_items("t", None, 9, "asc", "bob")
        return items.data, (await store.load_threads(9, None, "desc", "bob")).data

    assert run(step, manager, user_of=str) == ([], [])


def test_threads_are_listed_in_pages_that_begin_after_a_thread():
    """A page begins after the thread that is named. Naming a deleted thread raises NotFoundError."""
    manager = SessionManager()
    for n in range(5):
        manager.create_session("ada", session_id=f"t{n}")

    async def step(store):
        pages, after = [], None
        while True:
            page = await store.load_threads(2, after, "asc", None)
            pages, after = [*pages, [each.id for each in page.data]], page.after
            if not page.has_more:
                break
        with pytest.raises(NotFoundError):
            await store.load_threads(2, "gone", "asc", None)
        return pages, [each.id for each in (await store.load_threads(9, "t3", "desc", None)).data]

    assert run(step, manager) == ([["t0", "t1"], ["t2", "t3"], ["t4"]], ["t2", "t1", "t0"])


def test_an_archived_thread_is_read_and_not_written():
    """An archived thread still has its items, and takes no new ones."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="t")
    session.add_message("user", "Hello!")
    manager.save(session)
    manager.archive("t")
    end = made_of({"type": "end_of_turn"})

    async def step(store):
        for call in (store.add_thread_item, store.save_item):
            with pytest.raises(SessionArchivedError):
                await call("t", end, None)
        return (await store.load_thread_items("t", None, 9, "asc", None)).data

    [found] = run(step, manager)
    assert isinstance(found, UserMessageItem)


def test_a_conversation_of_others_is_a_thread():
    """Messages of other code become items: what users and models said, calls, and all else as hidden context."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="t", title="Oslo", metadata={"channel": "web"})
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    session.add_message("system", "Be brief.")
    session.add_message("user", "Hello!")
    session.add_message("assistant", None, tool_calls=[call])
    session.add_message("tool", "21", tool_call_id="c")
    session.add_message("assistant", "Hi!")
    manager.save(session)

    async def step(store):
        page = await store.load_thread_items("t", None, 9, "asc", None)
        return await store.load_thread("t", None), page.data

    thread, items = run(step, manager)
    assert (thread.title, thread.metadata) == ("Oslo", {"channel": "web"})
    kinds = ["sdk_hidden_context", "user_message", "client_tool_call", "sdk_hidden_context", "assistant_message"]
    assert [each.type for each in items] == kinds
    assert isinstance(items[4], AssistantMessageItem)
    assert items[4].content[0].text == "Hi!"


def test_a_text_is_stored_once():
    """The stored difference does not repeat what the message's own fields say."""
    manager = SessionManager()
    said = made_of({"type": "assistant_message", "content": [{"text": "A long answer."}]})

    run(lambda store: store.add_thread_item("t", said, None), manager)

    assert str([each.to_dict() for each in manager.get_session("t").messages]).count("A long answer.") == 1


@pytest.mark.parametrize("user_of", [None, str])
def test_an_attachment_is_kept_and_removed(user_of):
    """An attachment is found by its id until it is removed. Saving it again replaces it."""
    file = FileAttachment(id="f", name="a.pdf", mime_type="application/pdf", metadata={"a": {"b": 1}})
    other = file.model_copy(update={"metadata": {"a": {}}})

    async def step(store):
        for each in (file, other):
            await store.save_attachment(each, "ada")
        found = await store.load_attachment("f", "ada")
        for _ in range(2):
            await store.delete_attachment("f", "ada")
        with pytest.raises(NotFoundError):
            await store.load_attachment("f", "ada")
        return found

    assert run(step, user_of=user_of) == other


@pytest.mark.parametrize("user", [None, 7, ""])
def test_an_attachment_of_a_user_without_an_id_is_refused(user):
    """It is not kept among those that belong to no user, where everybody would find it."""
    file = FileAttachment(id="f", name="a.pdf", mime_type="application/pdf")

    with pytest.raises(InvalidValueError, match="user_id"):
        run(lambda store: store.save_attachment(file, None), user_of=lambda _: user)


def test_hidden_context_is_given_to_no_model():
    """Hidden context is in no prompt."""
    manager = SessionManager()
    hidden = HiddenContextItem(id="h", thread_id="t", created_at=NOW, content={"secret": 1})

    async def step(store):
        await store.add_thread_item("t", hidden, None)
        await store.add_thread_item("t", made_of({"type": "assistant_message", "content": [{"text": "Hi!"}]}), None)

    run(step, manager)
    assert manager.get_session("t").history(format="openai") == [{"role": "assistant", "content": "Hi!"}]


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.chatkit", tmp_path)
