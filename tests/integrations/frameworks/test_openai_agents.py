"""Sessions under the runner of OpenAI's Agents SDK, over SQLite and Valkey, and beside the SDK's own session."""

import asyncio

import agents.memory
import pytest
from agents import Agent, ItemHelpers, RunConfig, Runner, SQLiteSession
from agents.memory import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputRefusal,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_output_text import AnnotationURLCitation
from openai.types.responses.response_reasoning_item import Summary

from pyai_sessions import SessionManager
from pyai_sessions.integrations.openai_agents import OpenAIAgentsSession
from tests.integrations.frameworks.openai_agents_chat import ScriptedModel, weather


def test_a_conversation_is_resumed_in_another_process(chat, url):
    """A second process gives the model all that was said in the first: question, reasoning, call, result and answer."""
    first = chat(url, "Is it warm?")
    second = chat(url, "And now?")

    kinds = [each.get("type", each.get("role")) for each in first["items"]]
    assert kinds == ["user", "reasoning", "function_call", "function_call_output", "message"]
    assert second["inputs"][0] == [*first["items"], {"role": "user", "content": "And now?"}]
    assert second["items"][:5] == first["items"]
    assert second["answer"] == "It has 21 degrees in Oslo."
    with SessionManager(url) as manager:
        [listed] = manager.list_sessions("ada")
        assert listed.message_count == 8


async def talk(session):
    """Return what a model is given in two turns, and the items of the session after them."""
    model = ScriptedModel()
    agent = Agent(name="helper", model=model, tools=[weather])
    for question in ("Is it warm?", "And now?"):
        await Runner.run(agent, question, session=session, run_config=RunConfig(tracing_disabled=True))
    return model.inputs, await session.get_items(), await session.get_items(3)


def test_the_runner_sees_what_it_sees_with_the_sdks_own_session():
    """The model is given the same, and the same items are stored, as with the SDK's SQLiteSession."""
    ours = asyncio.run(talk(OpenAIAgentsSession("s", SessionManager())))
    theirs = asyncio.run(talk(SQLiteSession("s")))

    assert ours == theirs


TEXT = st.text(max_size=8)
ID = st.sampled_from(["a", "b", "__fake_id__"])
CALL = {"type": st.just("function_call"), "call_id": ID, "name": TEXT, "arguments": TEXT}
STATUS = st.sampled_from(["completed", "incomplete"])
LINK = st.builds(
    AnnotationURLCitation,
    type=st.just("url_citation"),
    url=TEXT,
    title=TEXT,
    start_index=st.just(0),
    end_index=st.just(1),
)
SAID = st.builds(ResponseOutputText, type=st.just("output_text"), text=TEXT, annotations=st.lists(LINK, max_size=1))
REFUSED = st.builds(ResponseOutputRefusal, type=st.just("refusal"), refusal=TEXT)
OUTPUT = st.one_of(
    st.builds(
        ResponseOutputMessage,
        id=ID,
        type=st.just("message"),
        role=st.just("assistant"),
        status=STATUS,
        content=st.lists(SAID | REFUSED, max_size=2),
    ),
    st.builds(
        ResponseReasoningItem,
        id=ID,
        type=st.just("reasoning"),
        summary=st.lists(st.builds(Summary, type=st.just("summary_text"), text=TEXT), max_size=2),
        encrypted_content=st.none() | TEXT,
    ),
    st.builds(ResponseFunctionToolCall, id=ID, status=STATUS, **CALL),
).map(lambda each: each.model_dump(exclude_unset=True))  # as the SDK stores it
INPUT = st.one_of(
    st.builds(dict, type=st.just("input_text"), text=TEXT),
    st.builds(
        dict, type=st.just("input_image"), image_url=st.just("data:image/png;base64,AAAA"), detail=st.just("auto")
    ),
    st.builds(dict, type=st.just("input_file"), filename=TEXT, file_data=st.just("data:application/pdf;base64,AAAA")),
)
ASKED = st.builds(dict, role=st.sampled_from(["user", "system"]), content=TEXT | st.lists(INPUT, max_size=2))
RESULT = st.builds(
    lambda call, output: ItemHelpers.tool_call_output_item(call, output),
    st.builds(ResponseFunctionToolCall, **CALL),
    TEXT,
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(OUTPUT | ASKED | RESULT, max_size=3), max_size=3), st.integers(1, 4))
def test_items_come_back_as_from_the_sdks_own_session(batches, limit):
    """All items, the newest items and the last one are equal to what the SDK's SQLiteSession returns."""

    async def told(session):
        for each in batches:
            await session.add_items(each)
        return await session.get_items(), await session.get_items(limit), await session.pop_item()

    ours = asyncio.run(told(OpenAIAgentsSession("s", SessionManager())))

    assert ours == asyncio.run(told(SQLiteSession("s")))


def test_it_fulfils_the_sdks_protocol():
    """An OpenAIAgentsSession fulfils the SDK's protocol."""
    assert isinstance(OpenAIAgentsSession("s", SessionManager()), Session)


def test_history_is_compacted_by_the_sdk():
    """The SDK's compaction replaces the items with its client's, as in the SDK's own session."""
    compacting = getattr(agents.memory, "OpenAIResponsesCompactionSession", None)
    if compacting is None:  # a release before 0.7
        pytest.skip("this release of the SDK compacts nothing")

    class Client:
        class responses:  # noqa: N801
            @staticmethod
            async def compact(**_):
                class Compacted:
                    output = [{"type": "compaction", "id": "cmp_1", "encrypted_content": "c2VjcmV0"}]  # noqa: RUF012

                return Compacted

    async def compact(session):
        await session.add_items([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
        wrapped = compacting("s", session, client=Client(), model="gpt-5", compaction_mode="input")
        await wrapped.run_compaction({"force": True})
        return await session.get_items()

    ours = asyncio.run(compact(OpenAIAgentsSession("s", SessionManager())))

    assert ours == asyncio.run(compact(SQLiteSession("s")))
    assert [each["type"] for each in ours] == ["compaction"]
