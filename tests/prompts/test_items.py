"""Tests of items of any API or framework that `add_messages` and `append` take."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message, Session, SessionManager
from pyai_sessions.testing import NOON
from tests.prompts.judges import FORMATS, judge
from tests.prompts.test_any_window import Fact, block, facts_of, tool_call

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}}
SHAPES = {
    "chat completions": [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ],
    "a dump of the client's": [
        {
            "role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None,
            "function_call": None, "tool_calls": [CALL],
        },
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ],
    "responses": [
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"at":"sky"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
    ],
    "anthropic": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "sky"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "blue"}]},
    ],
    "bedrock": [
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "look", "input": {"at": "sky"}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "blue"}]}}]},
    ],
    "gemini": [
        {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"at": "sky"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"output": "blue"}}}]},
    ],
    "langchain's tool calls": [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "name": "look", "args": {"at": "sky"}}]},
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ],
    "langchain's dicts": [
        {"type": "ai", "data": {"content": "", "tool_calls": [{"id": "c1", "name": "look", "args": {"at": "sky"}}]}},
        {"type": "tool", "data": {"content": "blue", "tool_call_id": "c1", "status": "success"}},
    ],
    "langchain's constructors": [
        {
            "lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "AIMessage"],
            "kwargs": {"content": "", "tool_calls": [{"id": "c1", "name": "look", "args": {"at": "sky"}}]},
        },
        {
            "lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "ToolMessage"],
            "kwargs": {"content": "blue", "tool_call_id": "c1"},
        },
    ],
    "ollama": [
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "look", "arguments": {"at": "sky"}}}]},
        {"role": "tool", "content": "blue", "tool_name": "look"},
    ],
    "the former function_call": [
        {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"at":"sky"}'}},
        {"role": "function", "name": "look", "content": "blue"},
    ],
    "vercel": [
        {"role": "assistant", "content": [
            {"type": "tool-call", "toolCallId": "c1", "toolName": "look", "input": {"at": "sky"}}]},
        {"role": "tool", "content": [
            {"type": "tool-result", "toolCallId": "c1", "output": {"type": "text", "value": "blue"}}]},
    ],
}  # fmt: skip


def ended(window):
    """Return the last two messages of a window in short form, without ids."""
    call, result = window[-2:]
    text = result["content"] if isinstance(result["content"], str) else result["content"][0]["text"]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    return call["tool_calls"][0]["function"], text


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_items_of_every_shape_are_translated(shape, together):
    """A call and its result, added at once or one by one, are in every format."""
    session = Session(messages=[Message("user", "What colour?")])
    for items in [SHAPES[shape]] if together else [[each] for each in SHAPES[shape]]:
        session.add_messages(items)

    assert ended(session.history(format="openai")) == (CALL["function"], "blue")
    for format_ in FORMATS:
        window = session.history(format=format_)
        judge(window, format_)
        assert "look" in str(window)
        assert "blue" in str(window)
    assert [each["role"] for each in session.history()] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("shape", SHAPES)
def test_append_takes_what_add_messages_takes(shape):
    """`append` takes the same items, without loading the session, if they have ids to match."""
    if shape in ("gemini", "ollama", "the former function_call"):  # their results name no call
        return
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "What colour?"})

    for item in SHAPES[shape]:
        manager.append("s", item)

    assert ended(manager.get_session("s").history(format="openai")) == (CALL["function"], "blue")


def test_what_a_model_made_is_one_message():
    """Reasoning, text and parallel calls of Responses become one message until the next input."""
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {
            "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "blue"}]},
        {"type": "function_call_output", "call_id": "c2", "output": "grey"},
        {
            "type": "web_search_call", "id": "ws_1", "status": "completed",
            "action": {"type": "search", "query": "sky", "queries": ["sky"]},
        },
        {"type": "message", "role": "user", "content": "And now?"},
    ]  # fmt: skip
    session = Session(messages=[Message("user", "What colour?")])

    session.add_messages(items)

    assert [each.role for each in session.messages] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    window = session.history(format="openai")
    assert window[1]["content"] == [{"type": "text", "text": "I look."}]
    assert [each["id"] for each in window[1]["tool_calls"]] == ["c1", "c2"]
    assert window[4]["content"] == [{"type": "text", "text": "[web_search_call left out]"}]
    for format_ in FORMATS:
        judge(session.history(format=format_), format_)
        assert ("encrypted" in str(session.history(format=format_))) == (format_ == "responses")
    assert [each.get("type", "message") for each in session.history(format="responses")] == [
        "message",
        *(each["type"] for each in items),
    ]


def test_clients_objects_are_taken():
    """Objects of the clients and their dumps can be added and appended."""
    from openai.types.chat import ChatCompletionMessage

    reply = ChatCompletionMessage.model_validate({"role": "assistant", "content": "Hi", "annotations": []})
    manager = SessionManager()
    manager.create_session("ada", session_id="s")

    manager.append("s", reply, reply.model_dump())

    session = manager.get_session("s")
    session.add_messages([reply, reply.model_dump()])
    assert [each.content for each in session.messages] == ["Hi"] * 4
    assert [each.unknown_fields for each in session.messages] == [{}] * 4


# Our own ----------------------------------------------------------------------------------------------------------

MINE = Message(
    "assistant", [{"type": "text", "text": "hi"}], {"score": 1}, NOON, "m1", tool_calls=[CALL], name="ada"
)  # fmt: skip


def mine():
    """Return a message with all fields and an unknown one."""
    made = Message.from_dict({**MINE.to_dict(), "later": [1]})
    assert made.unknown_fields == {"later": [1]}
    return made


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("as_dict", [False, True], ids=["message", "dict"])
def test_our_own_messages_are_taken_whole(format_, as_dict):
    """A `Message` keeps every field. Unknown fields are sent to no API."""
    given_ = mine().to_dict() if as_dict else mine()
    session, manager = Session(), SessionManager()
    manager.create_session("ada", session_id="s")

    [added] = session.add_messages([given_], format=format_)
    manager.append("s", given_)

    stored = manager.get_session("s").messages[0]
    for each in (added, stored):
        assert each.to_dict() == mine().to_dict()
    for other in FORMATS:
        assert "later" not in str(session.history(format=other))
        assert "score" not in str(session.history(format=other))


def test_messages_of_another_session_are_taken():
    """Messages of another session keep their ids, and are stored once."""
    other = Session(messages=[mine(), Message("tool", "blue", tool_call_id="c1")])
    session = Session()

    session.add_messages(other.messages)

    assert session.messages == other.messages
    session.add_messages(other.messages)
    assert session.message_count == 2


BESIDE = {"timestamp": NOON.isoformat(), "metadata": {"source": "mail"}, "message_id": "m1"}


@pytest.mark.parametrize(
    ("format_", "item"),
    [
        ("openai", {"role": "user", "content": "hi"}),
        ("openai", {"role": "assistant", "content": "hi", "name": "ada"}),
        ("openai", {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}),
        ("openai", {"type": "human", "content": "hi"}),
        ("anthropic", {"role": "user", "content": "hi"}),
        ("gemini", {"role": "model", "parts": [{"text": "hi"}]}),
    ],
)
def test_time_metadata_and_id_beside_an_item_are_kept(format_, item):
    """Time, metadata, id and unknown keys beside an item are kept. Unknown keys are sent to no API."""
    session = Session()

    [added] = session.add_messages([{**item, **BESIDE, "my_score": 7}], format=format_)

    assert (added.timestamp, added.message_id, added.metadata["source"]) == (NOON, "m1", "mail")
    assert added.unknown_fields["my_score"] == 7
    for other in FORMATS:
        assert "my_score" not in str(session.history(format=other))


def test_an_id_names_one_message():
    """An item that becomes several messages raises if it has one id."""
    blocks = [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}, {"type": "text", "text": "and?"}]

    with pytest.raises(InvalidValueError, match=r"items\[0\].message_id is one id, and the item becomes 2 messages"):
        Session().add_messages([{"role": "user", "content": blocks, "message_id": "m1"}])


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ({"role": "user", "content": "x"}, "items is a dict; it is a list of messages"),
        ("hello", "items is a str; it is a list of messages"),
        ([{"type": "computer_call"}], "the item is of the type 'computer_call', which is not known; it is a Message"),
        ([{"choices": []}], r"is a whole completion; give completion.choices\[0\].message"),
        ([{"role": "critic", "content": "x"}], "items.0..role is 'critic'; it is 'user', 'assistant'"),
        ([{"role": "tool", "content": "x"}], "no call of a tool waits for this result"),
        ([{"role": "assistant", "tool_calls": [{"x": 1}]}], "is no tool call; it is"),
    ],
)
def test_what_is_of_no_known_shape_is_refused(items, problem):
    """The error names the item and what is accepted. Nothing is added."""
    session = Session()

    with pytest.raises(InvalidValueError, match=problem):
        session.add_messages(items)

    assert session.message_count == 0


# Any content, by any door -----------------------------------------------------------------------------------------

BLOCKS = st.sampled_from(["anthropic", "bedrock", "gemini", "responses", "vercel"])
FACTS = st.lists(
    st.sampled_from([Fact("assistant", "XX"), Fact("call", "c1"), Fact("call", "c2")]),
    min_size=1,
    max_size=3,
    unique=True,
)


@settings(max_examples=60)
@given(BLOCKS, FACTS, st.sampled_from(["add_message", "Message", "append", "add_messages", "import"]))
def test_blocks_mean_the_same_by_whichever_door_they_come(shape, facts, door):
    """Blocks in a message's content give a model the same as the items of `add_messages`."""
    calls = [each for each in facts if each.kind == "call"]
    turns = [("assistant", [block(each, shape) for each in facts])]
    if calls:
        turns.append(("user", [block(Fact("result", each.what), shape) for each in calls]))
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    if door == "append":
        for role, content in turns:
            manager.append("s", {"role": role, "content": content})
    elif door == "import":
        whole = Session(session_id="t", messages=[Message(role, content) for role, content in turns])
        manager.import_sessions([whole.to_dict()])
    else:
        for role, content in turns:
            if door == "add_message":
                session.add_message(role, content)
            else:
                session.add_messages(
                    [Message(role, content) if door == "Message" else {"role": role, "content": content}]
                )
        manager.save(session)

    found = facts_of(manager.get_session("t" if door == "import" else "s").history(format="openai"))

    words = [each for each in facts if each.kind != "call"]
    assert found == [*words, *calls, *(Fact("result", each.what) for each in calls)]


def test_a_call_of_a_framework_is_told_by_its_name():
    """A framework's call that is stored untranslated is written with its name and arguments."""
    for shape in ("langchain", "ollama"):
        session = Session(
            messages=[Message("user", "x"), Message("assistant", "", tool_calls=[tool_call("c1", shape)])]
        )
        assert session.history(format="openai")[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
