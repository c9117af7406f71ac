"""Sessions for the Claude Agent SDK, without it: entries that are appended come back, and are ordinary messages."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, MissingPackageError, SessionManager
from pyai_sessions.integrations.claude_agent_sdk import ClaudeSessionStore, entries_of, messages_of, session_id_of
from pyai_sessions.prompts.formats.parts import FORMATS

SESSION = "5b2e4b1c-6f0a-4b7e-9d3a-2f1f0c9a7d11"
TEXT = st.text(max_size=12)
UUIDS = st.uuids().map(str)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda each: st.lists(each, max_size=2))


def block(**fields):
    """Return a strategy for a block: texts are constants."""
    known = {key: each if isinstance(each, st.SearchStrategy) else st.just(each) for key, each in fields.items()}
    return st.fixed_dictionaries(known)


TEXTS = block(type="text", text=TEXT)
IMAGES = block(type="image", source=block(type="base64", media_type="image/png", data="AAAA"))
BLOCKS = (
    TEXTS
    | IMAGES
    | block(type="text", text=TEXT, cache_control=block(type="ephemeral"))
    | block(type="thinking", thinking=TEXT, signature=TEXT)
    | block(type="redacted_thinking", data=TEXT)
    | block(type="tool_use", id=TEXT, name=TEXT, input=st.dictionaries(TEXT, JSON, max_size=2))
    | block(type="tool_result", tool_use_id=TEXT, content=TEXT | st.lists(TEXTS | IMAGES, max_size=2))
    | block(type="tool_result", tool_use_id=TEXT, content=TEXT, is_error=st.booleans())
    | block(type="server_tool_use", id=TEXT, name="web_search", input=st.just({"query": "a"}))
    | block(type="of_a_later_release", payload=JSON)
    | st.dictionaries(TEXT, JSON, max_size=1)
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": TEXT | st.lists(BLOCKS, max_size=3) | JSON},
    optional={"id": TEXT, "model": TEXT, "usage": st.dictionaries(TEXT, st.integers(0, 9)), "stop_reason": st.none()},
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["user", "assistant", "system", "summary", "custom-title", "attachment", "x"])},
        optional={
            "message": MESSAGES | JSON,
            "uuid": UUIDS | st.sampled_from(["", "a" * 300]) | JSON,
            "parentUuid": st.none() | UUIDS,
            "timestamp": st.sampled_from(["2024-01-01T00:00:00.000Z", "2024-01-01T00:00:00.123456Z", "never", 7]),
            "sessionId": TEXT,
            "isSidechain": st.booleans(),
            "isMeta": st.booleans(),
            "isApiErrorMessage": st.booleans(),
            "toolUseResult": JSON,
            "customTitle": TEXT,
        },
    ),
    max_size=5,
    unique_by=lambda each: each["uuid"] if isinstance(each.get("uuid"), str) else id(each),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy
@given(ENTRIES)
def test_entries_come_back_as_they_were_given(entries):
    """Entries of every kind come back equal, field by field. Each format can be given them."""
    stored = [Message.from_dict(json.loads(json.dumps(each.to_dict()))) for each in messages_of(entries)]

    assert entries_of(stored, SESSION) == entries
    session = SessionManager().create_session()
    session.add_messages([Message("user", "Hello!"), *stored])  # else there may be calls without results alone
    for each in FORMATS:
        session.history(format=each)


def chained(*entries):
    """Return entries that follow one another, as the CLI writes them."""
    parent, made = None, []
    for n, each in enumerate(entries):
        uuid = f"00000000-0000-4000-8000-{n:012}"
        known = {"parentUuid": parent, "isSidechain": False, "sessionId": SESSION, "cwd": "/app", "version": "2.1"}
        made.append({**known, "uuid": uuid, "timestamp": f"2026-01-01T00:00:0{n}.000Z", **each})
        parent = uuid
    return made


def said(role, *blocks):
    return {"type": role, "message": {"role": role, "content": list(blocks)}}


CALL = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "21 degrees"}
TURN = chained(
    {"type": "user", "message": {"role": "user", "content": "Is it warm in Oslo?"}},
    {"type": "attachment", "attachment": {"type": "environment", "os": "linux"}},
    said("assistant", {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
    said("assistant", CALL),
    {**said("user", RESULT), "toolUseResult": [{"type": "text", "text": "21 degrees"}]},
    said("assistant", {"type": "text", "text": "Yes."}),
)
AGENT = {"project_key": "-app", "session_id": SESSION, "subpath": "subagents/agent-1"}


def run(call):
    return asyncio.run(call)


def stored(manager, entries=TURN, key=AGENT, **options):
    """Append entries to the transcript of a sub-agent, which needs no SDK; return its session."""
    run(ClaudeSessionStore(manager, **options).append(key, entries))
    return manager.get_session(session_id_of(**key))


def test_entries_are_ordinary_messages():
    """Other models are given what was said, without the CLI's own entries."""
    session = stored(SessionManager())

    assert session.history(format="openai") == [
        {"role": "user", "content": "Is it warm in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "21 degrees"},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
    ]
    assert str([each.to_dict() for each in session.messages]).count("Yes.") == 1


def test_an_entry_is_stored_once():
    """An entry with a known uuid is not stored again. An entry without a uuid always is."""
    manager = SessionManager()
    stored(manager)
    changed = {**TURN[0], "gitBranch": "main"}

    stored(manager, [*TURN[4:], changed, {"type": "mode"}, {"type": "mode"}, TURN[5]])

    assert run(ClaudeSessionStore(manager).load(AGENT)) == [*TURN, {"type": "mode"}, {"type": "mode"}]


def test_messages_of_others_follow_the_entry_before_them():
    """A message by hand, or of another framework, is an entry in the chain that the CLI resumes."""
    manager = SessionManager()
    session = stored(manager)
    manager.append(session.session_id, {"role": "user", "content": "And in Bergen?"}, Message("assistant", "No."))

    *entries, question, answer = run(ClaudeSessionStore(manager).load(AGENT))

    assert entries == TURN
    assert question["message"] == {"role": "user", "content": "And in Bergen?"}
    assert [question["parentUuid"], answer["parentUuid"]] == [TURN[-1]["uuid"], question["uuid"]]
    assert answer.items() >= {"type": "assistant", "sessionId": SESSION, "cwd": "/app", "version": "2.1"}.items()


def test_an_edited_message_says_what_it_was_edited_to():
    """After an edit, the entry has the new content, and its uuid and place as before."""
    manager = SessionManager()
    session = stored(manager)

    manager.replace_message(session.session_id, session.messages[-1], content="No.")

    edited = run(ClaudeSessionStore(manager).load(AGENT))[-1]
    assert edited["message"]["content"] == [{"type": "text", "text": "No."}]
    assert (edited["uuid"], edited["parentUuid"]) == (TURN[-1]["uuid"], TURN[-2]["uuid"])


def test_agents_go_with_their_session():
    """A session lists the transcripts of its sub-agents, and deleting it deletes them."""
    manager = SessionManager()
    store = ClaudeSessionStore(manager, user_id="ada")
    stored(manager, user_id="ada")
    other = stored(manager, key={**AGENT, "subpath": "subagents/agent-2"}, user_id="ada")
    main = {"project_key": "-app", "session_id": SESSION}

    assert sorted(run(store.list_subkeys(main))) == ["subagents/agent-1", "subagents/agent-2"]
    assert other.metadata["claude_agent"] == {"caller": session_id_of(**main), "subpath": "subagents/agent-2"}
    assert run(store.list_sessions("-app")) == []  # nothing was said in the session itself
    run(store.delete({**AGENT, "subpath": "subagents/agent-2"}))
    assert run(store.list_subkeys(main)) == ["subagents/agent-1"]
    run(store.delete(main))
    assert manager.count() == 0


def test_ids_tell_projects_apart():
    """No two keys have one session, whatever characters are in them."""
    keys = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b", "c"), ("a/b", "c", "d"), ("ä b", "c")]

    assert len({session_id_of(*each) for each in keys}) == len(keys)


def test_a_missing_sdk_is_named():
    """Without the SDK, which makes the summary, nothing is stored, and the error says what to install."""
    manager = SessionManager()

    with pytest.raises(MissingPackageError, match="pip install claude-agent-sdk"):
        stored(manager, key={"project_key": "-app", "session_id": SESSION})

    assert manager.count() == 0


@pytest.mark.parametrize("name", ["project_key", "session_id", "subpath"])
@pytest.mark.parametrize("value", ["", 7])
def test_a_key_without_one_of_its_names_is_refused(name, value):
    """The error says which. The id of the session would be that of another key, or end with a slash."""
    key = {"project_key": "p", "session_id": SESSION, "subpath": "agents/a"} | {name: value}

    with pytest.raises(InvalidValueError, match=name):
        session_id_of(**key)
