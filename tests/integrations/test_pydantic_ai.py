"""Conversations of Pydantic AI, without it: requests and responses come back, and are ordinary messages."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyai_sessions import Message, MissingPackageError, SessionManager
from pyai_sessions.integrations.pydantic_ai import SessionConversationStore
from pyai_sessions.integrations.pydantic_ai.messages import items_of, messages_of
from pyai_sessions.prompts.formats.parts import FORMATS

TEXT = st.text(max_size=12)
JSON = st.recursive(st.booleans() | st.integers(-9, 9) | TEXT, lambda each: st.lists(each, max_size=2), max_leaves=4)
OBJECTS = st.dictionaries(TEXT, st.none() | JSON, max_size=2)
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456Z"])


def fields(optional=None, **required):
    """Return a strategy for an object: texts are constants."""
    known = {key: each if isinstance(each, st.SearchStrategy) else st.just(each) for key, each in required.items()}
    return st.fixed_dictionaries(known, optional=optional or {})


MEDIA = st.sampled_from(["image/png", "audio/wav", "application/pdf", "video/mp4"])
BINARY = fields(data=st.sampled_from(["AAAA", "_-8=", ""]), media_type=MEDIA, kind="binary", identifier=TEXT)
CONTENT = (
    TEXT
    | BINARY
    | fields(
        url=st.just("https://a/b"), kind=st.sampled_from(["image-url", "document-url", "video-url"]), identifier=TEXT
    )
    | fields(content=TEXT, kind="text-content")
    | fields(kind="cache-point", ttl="5m")
    | fields(file_id=TEXT, kind="uploaded-file")
)
REQUEST_PARTS = (
    fields(content=TEXT, timestamp=TIMES, part_kind="system-prompt")
    | fields(content=TEXT | st.lists(CONTENT, max_size=3), timestamp=TIMES, part_kind="user-prompt")
    | fields(
        tool_name=TEXT, content=st.none() | JSON | OBJECTS, tool_call_id=TEXT, part_kind="tool-return", outcome=TEXT
    )
    | fields(tool_name=TEXT, content=TEXT | st.lists(OBJECTS, max_size=1), tool_call_id=TEXT, part_kind="retry-prompt")
    | fields(content=TEXT, tool_call_id=TEXT, part_kind="retry-prompt")
    | fields(content=TEXT, part_kind="retry-feedback")
    | fields(payload=JSON, part_kind="of-a-later-release")
)
PROVIDER = {"provider_name": st.sampled_from(["anthropic", "openai"]), "signature": TEXT, "id": TEXT}
RESPONSE_PARTS = (
    fields(content=TEXT, part_kind="text", optional=PROVIDER)
    | fields(content=TEXT, part_kind="thinking", optional=PROVIDER)
    | fields(content=BINARY, part_kind="file")
    | fields(tool_name=TEXT, tool_call_id=TEXT, part_kind="tool-call", optional={"args": TEXT | OBJECTS})
    | fields(tool_name=TEXT, args=OBJECTS, tool_call_id=TEXT, part_kind="builtin-tool-call")
    | fields(tool_name=TEXT, content=JSON, tool_call_id=TEXT, part_kind="builtin-tool-return")
    | fields(payload=JSON, part_kind="of-a-later-release")
)
BESIDES = {"run_id": TEXT, "metadata": OBJECTS, "timestamp": TIMES, "instructions": TEXT}
ITEMS = st.lists(
    fields(parts=st.lists(REQUEST_PARTS, max_size=3), kind="request", optional=BESIDES)
    | fields(parts=st.lists(RESPONSE_PARTS, max_size=3), kind="response", optional=BESIDES, usage=OBJECTS),
    max_size=4,
)


RETURN = {"tool_name": "f", "content": [False], "tool_call_id": "c", "part_kind": "tool-return", "outcome": "success"}
ASKED = [{"content": "", "part_kind": "system-prompt"}, {"content": [], "part_kind": "user-prompt"}]


@example([{"parts": [*ASKED, RETURN], "kind": "request"}])
@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(ITEMS)
def test_requests_and_responses_come_back_as_they_were_given(items):
    """Requests and responses of every kind come back equal, field by field. Every format can be given them."""
    made = [each for n, item in enumerate(items) for each in messages_of(item, f"entry{n}")]
    stored = [Message.from_dict(json.loads(json.dumps(each.to_dict()))) for each in made]

    assert items_of(stored) == [(f"entry{n}", item) for n, item in enumerate(items)]
    session = SessionManager().create_session()
    session.add_messages([Message("user", "Hello!"), *stored])
    for each in FORMATS:
        session.history(format=each)


TURN = [
    {
        "kind": "request",
        "parts": [
            {"part_kind": "system-prompt", "content": "Be brief."},
            {"part_kind": "user-prompt", "content": ["Is it warm?", {"kind": "cache-point", "ttl": "5m"}]},
        ],
    },
    {
        "kind": "response",
        "parts": [
            {"part_kind": "thinking", "content": "Hm.", "signature": "c2ln", "provider_name": "openai"},
            {"part_kind": "tool-call", "tool_name": "f", "args": '{"a":1}', "tool_call_id": "c1"},
            {"part_kind": "tool-call", "tool_name": "g", "args": {"b": 2}, "tool_call_id": "c2"},
        ],
    },
    {
        "kind": "request",
        "parts": [
            {"part_kind": "tool-return", "tool_name": "f", "content": {"c": 3}, "tool_call_id": "c1"},
            {"part_kind": "tool-return", "tool_name": "g", "content": "21 degrees", "tool_call_id": "c2"},
        ],
    },
    {"kind": "response", "parts": [{"part_kind": "text", "content": "Yes."}], "usage": {"input_tokens": 1}},
]


def stored_turn():
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_messages([each for n, item in enumerate(TURN) for each in messages_of(item, f"e{n}")])
    manager.save(session)
    return manager, session


def test_requests_and_responses_are_ordinary_messages():
    """Other models are given words, calls and results, and no reasoning."""
    manager, session = stored_turn()

    said = manager.get_session("s").history(format="anthropic")

    assert said.system == "Be brief."
    assert said == [
        {"role": "user", "content": [{"type": "text", "text": "Is it warm?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "g", "input": {"b": 2}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"c":3}'},
                {"type": "tool_result", "tool_use_id": "c2", "content": "21 degrees"},
            ],
        },
        {"role": "assistant", "content": "Yes."},
    ]
    assert str([each.to_dict() for each in session.messages]).count("Yes.") == 1


def test_an_edited_message_says_what_it_was_edited_to():
    """After one message of a request is edited, the request says what its messages say."""
    manager, session = stored_turn()

    manager.replace_message("s", session.messages[1], content="Is it cold?")

    (_, first), *_ = items_of(manager.get_session("s").messages)
    assert [each["content"] for each in first["parts"]] == ["Be brief.", "Is it cold?"]


def test_a_missing_framework_is_named():
    """Without the framework there is no store, and the error says what to install."""
    with pytest.raises(MissingPackageError, match="pip install pydantic-ai-slim"):
        SessionConversationStore(SessionManager())
