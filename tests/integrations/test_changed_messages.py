"""Messages of frameworks that are changed through the manager, such as by a rating."""

import pytest

from pyai_sessions import SessionManager
from pyai_sessions.integrations import (
    agent_framework,
    chatkit,
    claude_agent_sdk,
    google_adk,
    langchain,
    openai_agents,
    strands,
)
from pyai_sessions.integrations.langgraph.log import NAME
from pyai_sessions.integrations.pydantic_ai import messages as pydantic_ai
from pyai_sessions.prompts.formats.parts import APIS
from pyai_sessions.values.messages import OF_OTHERS

AT = "2026-01-02T03:04:05Z"
ITEMS = {
    "agent_framework": {
        "type": "message", "role": "assistant", "author_name": "helper", "additional_properties": {"kept": 1},
        "contents": [{"type": "text", "text": "21 degrees", "additional_properties": {}}],
    },
    "claude_agent_sdk": {
        "type": "user", "uuid": "6f9619ff-8b86-4d01-b42d-00c04fc964ff", "timestamp": AT,
        "parentUuid": None, "cwd": "/app",
        "message": {"role": "user", "content": "What is the weather?"},
    },
    "google_adk": {
        "id": "e1", "timestamp": 1767323045.1234567, "author": "helper", "invocation_id": "i1",
        "content": {"role": "model", "parts": [{"text": "21 degrees"}]},
    },
    "openai_agents": {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "21 degrees", "annotations": [], "logprobs": []}],
    },
    "pydantic_ai": {
        "kind": "response", "timestamp": AT, "model_name": "m", "usage": {"input_tokens": 3},
        "parts": [{"part_kind": "text", "content": "21 degrees"}],
    },
    "strands": {
        "created_at": "2026-01-02T03:04:05+00:00", "updated_at": "2026-01-02T03:04:06+00:00",
        "message": {"role": "user", "content": [{"text": "What is the weather?"}], "tracking_id": "t1"},
    },
}  # fmt: skip
MADE = {
    "agent_framework": lambda item: [agent_framework.message_of(item)],
    "claude_agent_sdk": lambda item: claude_agent_sdk.messages_of([item]),
    "google_adk": lambda item: [google_adk.message_of(item)],
    "openai_agents": lambda item: openai_agents.messages_of([item]),
    "pydantic_ai": lambda item: pydantic_ai.messages_of(item, "r1"),
    "strands": lambda item: [strands.message_of(item)],
}
BACK = {
    "agent_framework": lambda messages: list(agent_framework.items_of(messages)),
    "claude_agent_sdk": lambda messages: claude_agent_sdk.entries_of(messages, "s"),
    "google_adk": lambda messages: list(map(google_adk.event_json, messages)),
    "openai_agents": openai_agents.items_of,
    "pydantic_ai": lambda messages: [item for _, item in pydantic_ai.items_of(messages)],
    "strands": lambda messages: [{**each, "message_id": None} for each in strands.messages_of(messages)],
}


@pytest.fixture
def manager():
    with SessionManager() as opened:
        yield opened


@pytest.mark.parametrize("framework", ITEMS)
def test_a_rating_leaves_a_frameworks_item_as_it_was(manager, framework):
    """Metadata that are given to ``replace_message`` take nothing from what a framework keeps of the message."""
    made = MADE[framework](ITEMS[framework])
    manager.update("s", *made, create=True)
    before = BACK[framework](manager.get_session("s").messages)

    manager.replace_message("s", made[0].message_id, metadata={"rating": 5})
    session = manager.get_session("s")
    session.replace_message(made[0].message_id, metadata={"rating": 4})
    manager.save(session)

    loaded = manager.get_session("s").messages
    assert framework in loaded[0].metadata
    assert BACK[framework](loaded) == before
    assert loaded[0].metadata["rating"] == 4


@pytest.mark.parametrize("framework", ITEMS)
def test_new_words_are_what_a_framework_is_given(manager, framework):
    """Of a message whose content was changed nothing of the former words comes back, though its metadata stay."""
    [made] = MADE[framework](ITEMS[framework])
    manager.update("s", made, create=True)

    manager.replace_message("s", made.message_id, content="It rains.")

    [item] = BACK[framework](manager.get_session("s").messages)
    assert "It rains." in str(item)
    assert "21 degrees" not in str(item)
    assert "weather?" not in str(item)


def test_metadata_with_new_words_are_all_that_the_message_has(manager):
    """Where the words change, what an API or a framework kept of the former ones goes."""
    [made] = MADE["openai_agents"](ITEMS["openai_agents"])
    manager.update("s", made, create=True)

    changed = manager.replace_message("s", made.message_id, content="It rains.", metadata={"rating": 5})

    assert changed.metadata == {"rating": 5}


def test_a_failed_call_stays_failed_when_its_result_is_rated(manager):
    """What one API says of a result, that it is an error, stays beside new metadata."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": "no such city", "is_error": True}
    session = manager.create_session("ada", session_id="s")
    call = {"type": "tool_use", "id": "t", "name": "weather", "input": {}}
    session.add_messages(
        [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
        format="anthropic",
    )
    manager.save(session)
    before = session.history(format="anthropic")

    manager.replace_message("s", session.messages[-1], metadata={"rating": 1})

    assert manager.get_session("s").history(format="anthropic") == before
    assert "is_error" in str(before)


def test_the_names_of_all_apis_and_frameworks_are_known():
    """Each API and each adapter keeps what it knows under a name that new metadata spare."""
    assert {*APIS, *ITEMS, chatkit._NAME, langchain._NAME, NAME} == OF_OTHERS
