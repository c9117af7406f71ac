"""Sessions under the agents of Microsoft's Agent Framework, over SQLite and Valkey, and beside its own history."""

import asyncio

import pytest
from agent_framework import Content, ContextProvider, HistoryProvider, InMemoryHistoryProvider, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, SessionArchivedError, SessionExistsError, SessionManager
from pyai_sessions.integrations.agent_framework import AgentFrameworkHistory
from tests.integrations.frameworks.agent_framework_chat import talk
from tests.integrations.frameworks.page import check_program


def without_ids(value):
    """Return JSON without ids, and without the framework's notes on where a message came from."""
    if isinstance(value, dict):
        beside = ("id", "message_id", "author_name", "additional_properties")
        return {key: without_ids(each) for key, each in value.items() if key not in beside}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


def test_a_conversation_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    assert second["answers"] == ["It has 21 degrees in Oslo and 21 degrees in Bergen."]
    assert without_ids(second["inputs"][0][:3]) == without_ids(first["inputs"][1])
    with SessionManager(url) as manager:
        [session] = manager.get_sessions_for_user("ada")
        assert [each["role"] for each in session.history(format="openai")] == 2 * [
            "user", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip


def test_the_agent_sees_what_it_sees_with_the_frameworks_own_history():
    """The model is given the same, and answers the same, as with an InMemoryHistoryProvider."""
    questions = "Is it warm?", "And now?"

    ours = asyncio.run(talk(AgentFrameworkHistory(SessionManager()), *questions))

    assert without_ids(ours) == without_ids(asyncio.run(talk(InMemoryHistoryProvider(), *questions)))


TEXT = st.text(max_size=8)
CALL_ID = st.sampled_from("ab")
JSON = st.none() | st.booleans() | st.integers(-9, 9) | TEXT
OBJECT = st.dictionaries(TEXT, JSON, max_size=2)
BESIDES = {"additional_properties": st.none() | OBJECT}
KINDS = st.sampled_from(["image/png", "audio/wav", "application/pdf"])
CONTENT = st.one_of(
    st.builds(Content.from_text, text=TEXT, **BESIDES),
    st.builds(Content.from_text_reasoning, text=TEXT, protected_data=st.none() | TEXT, **BESIDES),
    st.builds(Content.from_data, data=st.binary(max_size=6), media_type=KINDS, **BESIDES),
    st.builds(Content.from_uri, uri=st.sampled_from(["https://a/b", "https://a/b.png"]), media_type=KINDS, **BESIDES),
    st.builds(Content.from_function_call, call_id=CALL_ID, name=TEXT, arguments=st.none() | TEXT | OBJECT, **BESIDES),
    st.builds(Content.from_function_result, call_id=CALL_ID, result=TEXT | OBJECT, **BESIDES),
    st.builds(Content.from_function_result, call_id=CALL_ID, exception=TEXT),
    st.builds(Content.from_error, message=TEXT, error_code=st.none() | TEXT),
    st.builds(Content.from_usage, usage_details=st.just({"input_token_count": 1})),
    st.builds(Content.from_hosted_file, file_id=TEXT),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["user", "assistant", "tool", "system"]),
        contents=st.lists(CONTENT, max_size=3),
        author_name=st.none() | TEXT,
        message_id=st.none() | TEXT,
        **BESIDES,
    ),
    max_size=3,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(MESSAGES, max_size=2))
def test_messages_come_back_as_they_were_given(batches):
    """Messages with contents of every kind come back equal, field by field, in the order in which they were saved."""

    async def run():
        history = AgentFrameworkHistory(SessionManager())
        for each in batches:
            await history.save_messages("s", each)
        return await history.get_messages("s")

    assert [each.to_dict() for each in asyncio.run(run())] == [each.to_dict() for batch in batches for each in batch]


OPTIONS = [
    {},
    {"load_messages": False},
    {"store_inputs": False},
    {"store_outputs": False},
    {"store_context_messages": True},
    {"store_context_messages": True, "store_context_from": {"facts"}},
    {"store_context_messages": True, "store_context_from": {"others"}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_option_does_what_it_does_in_the_frameworks_own_provider(options):
    """With each option, the model is given what it is given with an InMemoryHistoryProvider."""

    class Facts(ContextProvider):
        async def before_run(self, *, context, **_):
            context.extend_messages(self.source_id, [Message("user", ["It is winter."])])

    def told(history):
        return without_ids(asyncio.run(talk(history, "Is it warm?", "And now?", providers=[Facts("facts")])))

    assert told(AgentFrameworkHistory(SessionManager(), **options)) == told(InMemoryHistoryProvider(**options))


def test_it_is_a_provider_of_the_framework():
    """An AgentFrameworkHistory is a HistoryProvider, and takes its options."""
    history = AgentFrameworkHistory(SessionManager(), store_outputs=False)

    assert isinstance(history, HistoryProvider)
    assert (history.store_outputs, history.store_inputs) == (False, True)


def test_sessions_are_those_of_their_user():
    """Another user's session has no messages and takes none. An archived session is read, and takes none."""
    manager = SessionManager()
    ours, others = (AgentFrameworkHistory(manager, user_id=each) for each in ("ada", "bob"))
    said = [Message("user", ["Hi"])]

    async def run():
        assert await ours.get_messages("s") == await ours.get_messages(None) == []
        await ours.save_messages("s", said)
        assert await others.get_messages("s") == []
        with pytest.raises(SessionExistsError):
            await others.save_messages("s", said)
        manager.archive("s")
        assert len(await ours.get_messages("s")) == 1
        with pytest.raises(SessionArchivedError):
            await ours.save_messages("s", said)
        with pytest.raises(InvalidValueError, match="session_id"):
            await ours.save_messages(None, said)

    asyncio.run(run())


def test_a_conversation_of_others_is_continued():
    """The model is given what your own code or another framework wrote."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "Is it warm?")
    session.add_messages(
        [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}]},
        ],
        format="anthropic",
    )
    manager.save(session)

    told = asyncio.run(talk(AgentFrameworkHistory(manager, user_id="ada"), "And now?"))["inputs"][0]

    assert [each["role"] for each in told] == ["user", "assistant", "tool", "user"]
    assert told[1]["contents"][0]["name"] == "f"
    assert told[2]["contents"][0]["result"] == "21 degrees"


def test_the_program_of_the_page_prints_what_the_page_shows(tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program("integrations.agent_framework", tmp_path)
