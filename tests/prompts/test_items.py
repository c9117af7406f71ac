"""Tests of items of any API or framework that `add_messages` and `append` take."""

from dataclasses import asdict

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
@pytest.mark.parametrize("door", ["append", "update"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_append_takes_what_add_messages_takes(shape, door, together):
    """`append` takes the same items without loading the session. A result belongs to its call in every format."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    question = {"role": "user", "content": "What colour?"}

    for items in [[question, *SHAPES[shape]]] if together else [[each] for each in (question, *SHAPES[shape])]:
        getattr(manager, door)("s", *items)

    session = manager.get_session("s")
    assert ended(session.history(format="openai")) == (CALL["function"], "blue")
    assert not session.repair()
    for format_ in FORMATS:
        assert "blue" in str(session.history(format=format_))
        assert "interrupted" not in str(session.history(format=format_))


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


def clients_objects():
    import anthropic.types
    from openai.types.chat import ParsedChatCompletionMessage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage

    text = [{"type": "output_text", "text": "Hi", "annotations": []}]
    usage = {"input_tokens": 1, "output_tokens": 1}
    return [
        ParsedChatCompletionMessage.model_validate({"role": "assistant", "content": "Hi", "newer": 1}),
        ResponseOutputMessage.model_validate(
            {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": text}
        ),
        ResponseFunctionToolCall.model_validate(
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
        ),
        anthropic.types.Message.model_validate(
            {
                "id": "m", "type": "message", "role": "assistant", "model": "x", "usage": usage,
                "content": [{"type": "text", "text": "Hi"}],
            }
        ),
    ]  # fmt: skip


def test_an_object_and_its_dump_are_the_same_message_by_each_door():
    """Fields that are None count as absent, and fields that are not known are kept, by `append` as well."""
    for each in clients_objects():
        made = []
        for item in (each, each.model_dump()):
            manager = SessionManager()
            manager.create_session("ada", session_id="s")
            manager.append("s", item)
            made += [manager.get_session("s").messages[0], *Session().add_messages([item])]

        said = [(each.role, each.content, each.tool_calls, each.metadata) for each in made]
        assert said == said[:1] * 4
        assert made[0].unknown_fields == made[1].unknown_fields
        windows = [Session(messages=[each]).history(format="responses") for each in made]
        assert windows == windows[:1] * 4


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


@pytest.mark.parametrize("beside", [{}, {"message_id": "m1"}, {"id": "x"}, {"metadata": {"a": 1}}])
@pytest.mark.parametrize(
    ("format_", "item"),
    [
        ("openai", {"role": "user", "content": "hi"}),
        ("openai", {"role": "user", "parts": [{"text": "hi"}]}),
        ("anthropic", {"role": "user", "content": "hi"}),
        ("gemini", {"role": "user", "parts": [{"text": "hi"}]}),
    ],
)
def test_a_time_beside_an_item_may_be_a_datetime(format_, item, beside):
    """It is taken by every door as text is. One without a zone is refused by its place."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    given_ = {**item, **beside, "timestamp": NOON}

    [added] = Session().add_messages([given_], format=format_)
    manager.append("s", given_)

    assert added.timestamp == manager.get_session("s").messages[0].timestamp == NOON
    with pytest.raises(InvalidValueError, match=r"items\[0\].timestamp has no time zone"):
        Session().add_messages([{**given_, "timestamp": NOON.replace(tzinfo=None)}], format=format_)


def test_the_fields_of_a_message_as_a_dict_are_the_message():
    """What `dataclasses.asdict` returns is taken by `append` and `add_messages`."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")

    manager.append("s", asdict(MINE))

    assert manager.get_session("s").messages == Session().add_messages([asdict(MINE)]) == [MINE]


UI = {"id": "u1", "role": "assistant"}
TOOL = {"type": "tool-look", "toolCallId": "c1", "state": "output-available", "input": {}, "output": "blue"}


@pytest.mark.parametrize(
    "item",
    [
        {**UI, "role": "user", "parts": [{"type": "text", "text": "hi"}]},
        {**UI, "parts": [{"type": "step-start"}, {"type": "text", "text": "hi", "state": "done"}]},
        {**UI, "content": "hi", "parts": [{"type": "text", "text": "hi"}], "toolInvocations": []},
        {**UI, "parts": [{"type": "text", "text": "hi"}], "metadata": {"a": 1}, "timestamp": NOON, "message_id": "m"},
    ],
)
def test_a_ui_message_of_vercels_that_is_text_is_taken(item):
    """Its text is the content, in every format."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    session = Session()

    session.add_messages([item])
    manager.append("s", item)

    assert session.messages[0].content == manager.get_session("s").messages[0].content == "hi"
    assert session.messages[0].role == item["role"]
    for format_ in FORMATS:
        judge(session.history(format=format_), format_)
        assert "'type': 'text'" not in str(session.history(format="gemini"))


@pytest.mark.parametrize(
    ("beside", "place"),
    [
        ({"parts": [TOOL]}, ".parts[0].type"),
        ({"parts": [{"type": "text", "text": "x"}, {**TOOL, "type": "dynamic-tool"}]}, ".parts[1].type"),
        ({"content": "x", "parts": [{"type": "file", "mediaType": "image/png", "url": "u"}]}, ".parts[0].type"),
        ({"content": "", "toolInvocations": [{"toolCallId": "c1", "result": "x"}]}, ".toolInvocations"),
        ({"content": "x", "experimental_attachments": [{"url": "u"}]}, ".experimental_attachments"),
    ],
)
@pytest.mark.parametrize("stored", [False, True], ids=["new", "with id and time"])
def test_a_ui_message_of_vercels_that_says_more_is_refused(beside, place, stored):
    """The error names what is no text, and the remedy."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    item = {**UI, **beside, **({"message_id": "m1", "timestamp": NOON} if stored else {})}

    for name, add in (("items[0]", lambda each: Session().add_messages([each])), ("messages[0]", appended(manager))):
        with pytest.raises(InvalidValueError, match="convertToModelMessages") as refused:
            add(item)

        assert refused.value.path == name + place


def appended(manager):
    return lambda item: manager.append("s", item)


@pytest.mark.parametrize(
    ("item", "content"),
    [
        ({"role": "user", "parts": [{"text": "hi"}]}, "hi"),
        ({"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}}, None),
        ({"role": "assistant", "text": "hi"}, InvalidValueError),
        ({"role": "user"}, InvalidValueError),
        ({"role": "user", "metadata": {"text": "hi"}}, InvalidValueError),
    ],
)
@pytest.mark.parametrize("beside", [{}, {"message_id": "m1", "timestamp": NOON.isoformat()}], ids=["new", "whole"])
def test_a_message_without_a_content_is_translated_or_refused(item, content, beside):
    """No text is replaced by an empty one, whatever else the item says of itself."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    doors = (lambda each: Session().add_messages([each])[0], appended(manager))

    for act in doors:
        if content is not InvalidValueError:
            made = act({**item, **beside}) or manager.get_session("s").messages[0]
            assert made.content == content
            continue
        with pytest.raises(InvalidValueError, match="is missing") as refused:
            act({**item, **beside})

        assert refused.value.path.endswith("[0].content")


def test_a_content_of_geminis_without_parts_is_refused():
    """Only the model may have said nothing: its client then returns a role alone."""
    for item in ({"role": "model", "text": "hi"}, {"role": "user"}, {"text": "hi"}):
        with pytest.raises(InvalidValueError, match=r"items\[0\].parts is missing"):
            Session().add_messages([item], format="gemini")
    assert Session().add_messages([{"role": "model"}], format="gemini")[0].content is None


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
        ([{"model": "x", "message": {"role": "assistant"}, "done": True}], "is a whole response, .* give its message"),
        ([{"index": 0, "message": {"role": "assistant"}}], "is a whole response, or a choice of one; give its message"),
        ([{"output": {"message": {}}, "stopReason": "x"}], r"is a whole response; give .*output\['message'\]"),
        ([[{"role": "user", "content": "x"}]], r"is a list; it is one message; give the messages themselves"),
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
