"""Sessions for Google's ADK, without the ADK: the JSON of events comes back, and is in ordinary messages."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import Message, MissingPackageError, Session, SessionManager
from pyai_sessions.integrations.google_adk import GoogleADKSessionService, event_json, message_of

TEXT = st.text(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | TEXT, lambda each: st.dictionaries(TEXT, each, max_size=2), max_leaves=4
)
ID = st.fixed_dictionaries({}, optional={"id": st.sampled_from(["a", "b"])})
CALL = st.tuples(ID, st.fixed_dictionaries({"name": TEXT}, optional={"args": st.dictionaries(TEXT, JSON, max_size=2)}))
RESULT = st.tuples(ID, st.fixed_dictionaries({"name": TEXT, "response": st.dictionaries(TEXT, JSON, max_size=2)}))
MIME = st.sampled_from(["image/png", "audio/wav", "application/pdf", "video/mp4"])
PART = st.one_of(
    st.fixed_dictionaries({"text": TEXT}, optional={"thought": st.booleans(), "thought_signature": TEXT}),
    st.fixed_dictionaries({"inline_data": st.fixed_dictionaries({"data": st.just("AA+/"), "mime_type": MIME})}),
    st.fixed_dictionaries({"function_call": CALL.map(lambda pair: pair[0] | pair[1])}),
    st.fixed_dictionaries({"function_response": RESULT.map(lambda pair: pair[0] | pair[1])}),
    st.fixed_dictionaries({"of_a_later_release": JSON}),
)
CONTENT = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "model", "other"]), "parts": st.lists(PART, max_size=3)}
)
EVENT = st.fixed_dictionaries(
    {"id": st.just("e"), "timestamp": st.floats(-1e20, 1e20), "author": TEXT},
    optional={"content": CONTENT, "invocation_id": TEXT, "actions": st.dictionaries(TEXT, JSON), "branch": TEXT},
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(EVENT)
def test_an_event_comes_back_as_it_was_given(event):
    """Events of every kind come back equal, field by field. Every format can be given them."""
    stored = Message.from_dict(json.loads(json.dumps(message_of(json.loads(json.dumps(event))).to_dict())))

    assert event_json(stored) == event
    session = Session(session_id="s")
    session.add_message("user", "Hi")
    session.add_messages([stored])
    for each in ("openai", "responses", "anthropic", "gemini", "bedrock"):
        session.history(format=each)


def test_what_says_nothing_is_given_to_no_model():
    """An event that only changes a state, or ends an agent, is stored, and is in no history."""
    session = Session(session_id="s")
    session.add_message("user", "Hi")
    ended = {"id": "e", "timestamp": 1.0, "author": "helper", "actions": {"end_of_agent": True}}
    session.add_messages([message_of(ended)])

    for each in ("openai", "responses", "anthropic", "gemini", "bedrock"):
        prompt = session.history(format=each)
        assert len(getattr(prompt, "messages", prompt)) == 1


def test_results_of_several_calls_are_one_message():
    """The results of several calls are one event. Other models are given each result."""
    results = [{"function_response": {"id": each, "name": "f", "response": {"output": each}}} for each in "ab"]
    calls = [{"function_call": {"id": each, "name": "f", "args": {}}} for each in "ab"]
    session = Session(session_id="s")
    for event_id, role, parts in (("1", "model", calls), ("2", "user", results)):
        content = {"role": role, "parts": parts}
        session.add_messages([message_of({"id": event_id, "timestamp": 1.0, "author": "helper", "content": content})])

    told = session.history(format="openai")

    assert session.message_count == 2
    assert [(each["role"], each.get("tool_call_id"), each["content"]) for each in told[1:]] == [
        ("tool", "a", "a"),
        ("tool", "b", "b"),
    ]


def test_without_the_adk_the_error_says_what_to_install():
    """The module can be imported, and the class asks for the package."""
    with pytest.raises(MissingPackageError, match="pip install google-adk"):
        GoogleADKSessionService(SessionManager())
