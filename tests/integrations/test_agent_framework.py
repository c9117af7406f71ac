"""Sessions for Microsoft's Agent Framework, without it: its messages come back, and are ordinary messages."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import Message, MissingPackageError, Session, SessionManager
from pyai_sessions.integrations.agent_framework import AgentFrameworkHistory, items_of, message_of

TEXT = st.text(max_size=9)
BESIDES = st.dictionaries(TEXT, TEXT, max_size=1)


def content(kind, **fields):
    """Return a strategy for a content: texts are constants."""
    known = {key: each if isinstance(each, st.SearchStrategy) else st.just(each) for key, each in fields.items()}
    return st.fixed_dictionaries({"type": st.just(kind), **known}, optional={"additional_properties": BESIDES})


CONTENT = st.one_of(
    content("text", text=TEXT),
    content("text_reasoning", text=TEXT),
    content("text_reasoning", protected_data=TEXT),
    content("data", uri="data:image/png;base64,AAAA", media_type="image/png"),
    content("data", uri="data:application/pdf;base64,AAAA", media_type="application/pdf"),
    content("uri", uri="https://a/b.png", media_type="image/png"),
    content("function_call", call_id=st.sampled_from("ab"), name=TEXT, arguments=TEXT | BESIDES),
    content("function_result", call_id=st.sampled_from("ab"), result=TEXT, items=st.lists(content("text", text=TEXT))),
    content("error", message=TEXT),
    content("of_a_later_release", x=TEXT),
)
MESSAGE = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "chat_message"]),
        "role": st.sampled_from(["user", "assistant", "tool", "system", "other"]),
        "contents": st.lists(CONTENT, max_size=3),
    },
    optional={"author_name": TEXT, "message_id": TEXT, "additional_properties": BESIDES},
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(MESSAGE)
def test_a_message_comes_back_as_it_was_given(given_):
    """Messages of every kind come back equal, field by field. Every format can be given them."""
    stored = Message.from_dict(json.loads(json.dumps(message_of(json.loads(json.dumps(given_))).to_dict())))

    assert list(items_of([stored])) == [given_]
    session = Session(session_id="s")
    session.add_message("user", "Hi")
    session.add_messages([stored])
    for each in ("openai", "responses", "anthropic", "gemini", "bedrock"):
        session.history(format=each, speakers={"other": "told"})


def test_reasoning_is_given_to_no_other_model():
    """Other models are given words, calls and results, and no reasoning."""
    thought = {"type": "text_reasoning", "text": "Hm."}
    call = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": '{"city": "Oslo"}'}
    results = [{"type": "function_result", "call_id": each, "result": "21 degrees"} for each in "ab"]
    session = Session(session_id="s")
    for role, contents in (("assistant", [thought, call, {**call, "call_id": "b"}]), ("tool", results)):
        session.add_messages([message_of({"type": "message", "role": role, "contents": contents})])

    told = session.history(format="openai")

    assert "Hm." not in str(told)
    assert [(each["role"], each.get("tool_call_id")) for each in told] == [
        ("assistant", None), ("tool", "a"), ("tool", "b"),
    ]  # fmt: skip


def test_without_the_framework_the_error_says_what_to_install():
    """The module can be imported, and the class asks for the package."""
    with pytest.raises(MissingPackageError, match="pip install agent-framework-core"):
        AgentFrameworkHistory(SessionManager())
