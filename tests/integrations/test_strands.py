"""Sessions for Strands Agents, without Strands: its messages come back, and are ordinary messages."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import Message, MissingPackageError, Session, SessionManager
from pyai_sessions.integrations.strands import StrandsSessionRepository, message_of, messages_of

TEXT = st.text(max_size=9)
JSON = st.recursive(
    st.none() | st.booleans() | TEXT, lambda each: st.dictionaries(TEXT, each, max_size=2), max_leaves=4
)
ID = st.sampled_from(["a", "b", "?"])
BYTES = st.just({"__bytes_encoded__": True, "data": "AA+/"})
SOURCE = st.fixed_dictionaries({"bytes": BYTES})
SAID = (
    st.fixed_dictionaries({"text": TEXT})
    | st.fixed_dictionaries({"image": st.fixed_dictionaries({"format": st.just("png"), "source": SOURCE})})
    | st.fixed_dictionaries(
        {"document": st.fixed_dictionaries({"format": st.just("pdf"), "name": TEXT, "source": SOURCE})}
    )
)
RESULT = st.fixed_dictionaries(
    {"toolUseId": ID, "content": st.lists(SAID | st.fixed_dictionaries({"json": JSON}), max_size=2)},
    optional={"status": st.sampled_from(["success", "error"])},
)
USE = st.fixed_dictionaries({"toolUseId": ID, "name": TEXT, "input": st.dictionaries(TEXT, JSON, max_size=2)})
BLOCK = st.one_of(
    SAID,
    st.fixed_dictionaries({"toolUse": USE}),
    st.fixed_dictionaries({"toolResult": RESULT}),
    st.fixed_dictionaries({"reasoningContent": st.fixed_dictionaries({"reasoningText": st.just({"text": "Hm."})})}),
    st.fixed_dictionaries({"reasoningContent": st.fixed_dictionaries({"redactedContent": BYTES})}),
    st.fixed_dictionaries({"of_a_later_release": JSON}),
)
SPOKEN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(BLOCK, max_size=3)},
    optional={"tracking_id": TEXT, "metadata": st.dictionaries(TEXT, JSON, max_size=1)},
)
TIME = st.datetimes().map(lambda each: f"{each.isoformat()}+00:00") | st.just("yesterday")
STORED = st.fixed_dictionaries(
    {"message": SPOKEN, "message_id": st.just(0), "created_at": TIME, "updated_at": TIME},
    optional={"redact_message": SPOKEN},
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(STORED)
def test_a_message_comes_back_as_it_was_given(stored):
    """Messages of every kind come back equal, field by field. Every format can be given them."""
    message = Message.from_dict(json.loads(json.dumps(message_of(json.loads(json.dumps(stored))).to_dict())))

    assert list(messages_of([message])) == [stored]
    session = Session(session_id="s")
    session.add_message("user", "Hi")
    session.add_messages([message])
    for each in ("openai", "responses", "anthropic", "gemini", "bedrock"):
        session.history(format=each)


def told(*contents):
    """Return messages of the user and the assistant, in turn, as Strands stores them."""
    roles = ("user", "assistant") * len(contents)
    return [
        message_of({"message": {"role": role, "content": content}, "message_id": n, "created_at": "", "updated_at": ""})
        for n, (role, content) in enumerate(zip(roles, contents, strict=False))
    ]


TURN = [
    [{"text": "Is it warm?"}],
    [{"toolUse": {"toolUseId": each, "name": "weather", "input": {"city": each}}} for each in ("Oslo", "Bergen")],
    [{"toolResult": {"toolUseId": each, "content": [{"text": f"21 in {each}"}]}} for each in ("Oslo", "Bergen")],
    [{"text": "Yes."}],
]


def test_results_of_several_calls_are_one_message():
    """Results of several calls are one message, as in Strands. Other models are given each, and search finds them."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    session.add_messages(told(*TURN))
    manager.save(session)

    given_ = session.history(format="openai")

    assert session.message_count == 4
    assert [(each["role"], each.get("tool_call_id")) for each in given_] == [
        ("user", None), ("assistant", None), ("tool", "Oslo"), ("tool", "Bergen"), ("assistant", None),
    ]  # fmt: skip
    assert [hit.position for hit in manager.search("bergen", tools=True)] == [2, 1]


def test_a_redacted_message_says_what_redacts_it():
    """Models and searches see the replacement. Strands is given both contents."""
    [stored] = told([{"text": "secret"}])
    given_ = {**next(messages_of([stored])), "redact_message": {"role": "user", "content": [{"text": "[redacted]"}]}}

    redacted = message_of(given_)

    assert redacted.content == "[redacted]"
    assert list(messages_of([redacted])) == [given_]


def test_results_that_others_stored_apart_are_one_message():
    """Results that others stored one by one become one message after the calls, as Strands expects."""
    session = Session(session_id="s")
    session.add_message("system", "Be brief.")
    calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in "ab"]
    session.add_message("assistant", None, tool_calls=calls)
    for each in "ab":
        session.add_message("tool", each, tool_call_id=each)

    found = [each["message"] for each in messages_of(session.messages)]

    assert [[next(iter(block)) for block in each["content"]] for each in found] == [["toolUse"] * 2, ["toolResult"] * 2]


def test_without_strands_the_error_says_what_to_install():
    """The module can be imported, and the class asks for the package."""
    with pytest.raises(MissingPackageError, match="pip install strands-agents"):
        StrandsSessionRepository(SessionManager())
