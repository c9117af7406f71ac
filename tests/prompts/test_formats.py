"""How messages are written for each API."""

import base64
import json

import pytest

from pyai_sessions import Message
from pyai_sessions.prompts.formats import read_prompt, write_prompt
from pyai_sessions.testing import NOON
from tests.prompts.judges import FORMATS, judge, read, round_trip
from tests.prompts.prompt_rules import check_anthropic, check_openai
from tests.prompts.real import ANTHROPIC, BEDROCK, PDF, PNG


def called(*ids):
    function = {"name": "f", "arguments": "{}"}
    return Message(
        "assistant", None, tool_calls=[{"id": each, "type": "function", "function": function} for each in ids]
    )


def test_results_for_gemini_stand_in_the_order_of_their_calls():
    """Gemini has no ids, so results stand in the order of their calls."""
    messages = [Message("user", "x"), called("a", "b")]
    messages += [Message("tool", each, tool_call_id=each) for each in ("b", "a")]

    results = write_prompt(messages, "gemini")[2]["parts"]

    assert [each["function_response"]["response"] for each in results] == [{"output": "a"}, {"output": "b"}]


@pytest.mark.parametrize("format_", ["anthropic", "gemini", "bedrock"])
def test_a_later_system_message_and_unknown_roles_are_told_as_a_users(format_):
    """A later system message, or one of an unknown role, stays in place as a user's message that names its role."""
    messages = [
        Message("system", "One."), Message("developer", "Two."), Message("user", "x"), Message("assistant", "y"),
        Message("system", "Three."), Message("critic", "Four."),
    ]  # fmt: skip

    written = write_prompt(messages, format_)

    said = [part["text"] for part in written[-1].get("content", written[-1].get("parts"))]
    assert written[-1]["role"] == "user"
    assert said == ["[system]", "Three.", "[critic]", "Four."]
    assert [each["text"] for each in (written.system["parts"] if format_ == "gemini" else written.system)] == [
        "One.",
        "Two.",
    ]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}, "[image/png left out]"),
        ({"type": "gemini", "gemini": {"executable_code": {"code": "1"}}}, "[executable_code left out]"),
    ],
)
def test_a_system_instruction_of_geminis_is_text(part, said):
    """Gemini's system instruction has only text parts."""
    written = write_prompt([Message("system", [part]), Message("user", "x")], "gemini")

    assert written.system == {"parts": [{"text": said}]}


def test_a_system_message_read_among_anthropics_is_moved_where_it_would_be_refused():
    """A system message among Anthropic's is written where it was, unless it follows an assistant's message."""
    items = [
        {"role": "user", "content": "x"},
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "y"},
    ]
    messages = read(items, "anthropic")

    assert write_prompt(messages, "anthropic") == items
    moved = write_prompt([messages[0], messages[2], messages[1]], "anthropic")
    assert [each["role"] for each in moved] == ["user", "assistant", "user"]


@pytest.mark.parametrize(("format_", "key"), [("anthropic", "content"), ("gemini", "parts"), ("bedrock", "content")])
def test_neighbours_of_one_role_are_one_message(format_, key):
    """Neighbouring messages of one role are written as one, with results first."""
    messages = [Message("user", "x"), called("a"), Message("tool", "1", tool_call_id="a")]
    messages += [Message("user", "one"), Message("user", "two")]

    last = write_prompt(messages, format_)[-1][key]

    assert [next(iter(part.keys() - {"type"})) for part in last[1:]] == ["text", "text"]
    assert len(last) == 3


@pytest.mark.parametrize("format_", FORMATS)
def test_a_message_with_nothing_to_tell_is_left_out_but_not_a_users(format_):
    """A message of thinking alone is left out for other APIs. A user's empty message is kept."""
    thinking = [{"type": "gemini", "gemini": {"text": "Hm.", "thought": True}}]
    if format_ == "gemini":
        thinking = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]
    messages = [Message("user", None), Message("assistant", thinking), Message("system", None)]

    written = write_prompt(messages, format_)

    assert len(written) == 1
    assert "[empty message]" in json.dumps(written)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PNG}"}}, "[image/tiff left out]"),
        ({"type": "image_url", "image_url": {"url": "blob:x"}}, "[image left out]"),
        ({"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}, "[audio/wav left out]"),
        ({"type": "file", "file": {"file_id": "f"}}, "[file left out]"),
        ({"type": "chart", "data": 1}, "[chart left out]"),
        ({"type": "gemini", "gemini": {"executable_code": {"code": "1"}}}, "[executable_code left out]"),
        ({"type": "gemini", "gemini": {"file_data": {"mime_type": "video/mp4"}}}, "[video/mp4 left out]"),
        ({"type": "openai", "openai": {"type": "video_url", "video_url": {"url": "u"}}}, "[video_url left out]"),
    ],
)  # fmt: skip
def test_a_part_that_an_api_cannot_hold_is_told_of(part, said):
    """A part that the API does not have is replaced by a short text that names it."""
    written = write_prompt([Message("user", [part])], "anthropic")

    assert written == [{"role": "user", "content": [{"type": "text", "text": said}]}]


@pytest.mark.parametrize("format_", ["openai", "anthropic"])
def test_a_result_that_is_no_text_is_told_as_json(format_):
    """A result that is not text is written as JSON, even if it resembles parts."""
    rex = [{"type": "dog", "name": "Rex"}]
    messages = [Message("user", "x"), called("a", "b")]
    messages += [Message("tool", {"celsius": 31}, tool_call_id="a"), Message("tool", rex, tool_call_id="b")]

    told = json.dumps(write_prompt(messages, format_)[2:])

    assert json.dumps('{"celsius":31}') in told
    assert json.dumps('[{"type":"dog","name":"Rex"}]') in told


def test_reasoning_goes_with_what_it_led_to():
    """For Responses, reasoning is written only before a call or text of the same message."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    answer = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": []}
    answer["content"] = [{"type": "output_text", "text": "Hi", "annotations": []}]
    alone, together = (read(items, "responses") for items in ([reasoning], [reasoning, answer]))

    assert write_prompt([Message("user", "x"), *alone], "responses") == [{"role": "user", "content": "x"}]
    assert write_prompt(together, "responses") == [reasoning, answer]


def test_a_reply_of_responses_is_read_as_it_came():
    """The objects of `response.output` can be read with the items that answer them."""
    from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem

    given_ = [
        {"role": "user", "content": "What colour?"},
        ResponseReasoningItem(id="rs_1", summary=[], type="reasoning", encrypted_content="c2ln"),
        ResponseFunctionToolCall(arguments="{}", call_id="c1", name="look", type="function_call", id="fc_1"),
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
    ]

    for format_ in ("openai", "responses"):
        messages = read(given_, format_)
        assert [each.role for each in messages] == ["user", "assistant", "tool"]
        written = write_prompt(messages, "responses")
        judge(written, "responses")
        assert [each.get("id") for each in written] == [None, "rs_1", "fc_1", None]


def test_what_an_application_gives_a_tool_of_openais_is_kept():
    """An application's input to an OpenAI tool is written again in place. Other APIs get a text about it."""
    shot = {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "file_id": "f"}}
    call = {"type": "computer_call", "id": "cu_1", "call_id": "c", "status": "completed", "pending_safety_checks": []}
    items = [{"role": "user", "content": "Look."}, call, shot, {"role": "assistant", "content": "Done."}]

    assert round_trip(items, "responses") == items
    told = str(write_prompt(read(items, "responses"), "openai"))
    assert "[computer_call left out]" in told
    assert "[computer_call_output left out]" in told


def test_documents_for_bedrock_have_names_of_their_own_and_a_text_beside_them():
    """For Bedrock, each document has a unique name of allowed characters, and a text beside it."""
    data = {"file_data": f"data:application/pdf;base64,{PDF}"}
    files = [{"type": "file", "file": {**data, **each}} for each in ({"filename": "Q3_report.pdf"}, {}, {})]
    messages = [Message("user", [each]) for each in files]

    written = write_prompt([messages[0], Message("assistant", "y"), *messages[1:]], "bedrock")

    judge(written, "bedrock")
    documents = [block.get("document", block) for item in written for block in item["content"]]
    assert [each.get("name", each.get("text")) for each in documents] == [
        "Q3 report", "[a document]", "y", "document", "document 2", "[a document]",
    ]  # fmt: skip


def test_a_failed_call_is_failed_for_each_api():
    """Bedrock's status "error" and Anthropic's `is_error` are written from each other."""
    messages = read(BEDROCK, "bedrock")

    results = [
        block for item in write_prompt(messages, "anthropic") for block in item["content"] if "is_error" in block
    ]

    assert [each["tool_use_id"] for each in results] == ["toolu_2"]
    assert write_prompt(read(ANTHROPIC, "anthropic"), "bedrock")[2]["content"][1]["toolResult"]["status"] == "error"


def test_data_for_bedrock_is_bytes_and_base64_is_read():
    """Data for Bedrock is written as bytes. Both bytes and base64 are read."""
    image = {"format": "png", "source": {"bytes": PNG}}

    written = round_trip([{"role": "user", "content": [{"image": image}]}], "bedrock")

    assert written[0]["content"][0]["image"]["source"]["bytes"] == base64.b64decode(PNG)


def test_ids_are_made_what_the_api_takes_and_stay_apart():
    """Call ids are made valid and unique for the API, and results follow them."""
    turn = [
        called("a.b", "a:b", "x" * 60),
        *(Message("tool", "", tool_call_id=each) for each in ("a:b", "a.b", "x" * 60)),
    ]
    messages = [Message("user", "x"), *turn, *turn]

    anthropic, openai = (write_prompt(messages, each) for each in ("anthropic", "openai"))

    check_anthropic(anthropic)
    check_openai(openai)
    assert [each["id"] for each in anthropic[1]["content"]][:2] == ["a_b", "a_b_1"]
    assert [each["tool_use_id"] for each in anthropic[2]["content"]][:2] == ["a_b_1", "a_b"]
    assert openai[1] == openai[5]


def test_what_is_written_may_be_changed():
    """Changing a written prompt does not change the messages."""
    messages = read(ANTHROPIC, "anthropic")

    for format_ in FORMATS:
        written = write_prompt(messages, format_)
        for item in written:
            content = item.get("content", item.get("parts"))
            if isinstance(content, list):
                content.append({})
        assert write_prompt(messages, "anthropic") == ANTHROPIC


def test_a_result_of_geminis_may_answer_a_call_that_was_read_before():
    """Gemini's result answers the first open call of its function, also one read earlier."""
    results = [{"function_response": {"name": name, "response": {}}} for name in ("f", "g", "f", "f")]
    waiting = {"a": "f", "b": "f", "c": "g"}

    messages = read_prompt([{"role": "user", "parts": results}], "gemini", clock=lambda: NOON, calls=waiting)

    assert [each.tool_call_id for each in messages[:3]] == ["a", "c", "b"]
    assert (messages[3].tool_call_id, messages[3].name) == (None, "f")
    assert write_prompt(messages[:3], "gemini") == [{"role": "user", "parts": results[:3]}]
    assert waiting == {"a": "f", "b": "f", "c": "g"}


def test_a_turn_of_geminis_may_come_in_pieces():
    """Calls in neighbouring contents are open together. Open calls of an earlier turn are closed."""
    first, second, third = (
        {"role": "model", "parts": [{"function_call": {"name": "f", "args": {"n": n}}}]} for n in range(3)
    )
    result = {"role": "user", "parts": [{"function_response": {"name": "f", "response": {}}}]}
    said = {"role": "user", "parts": [{"text": "Never mind."}]}

    messages = read([first, second, result, result, third, said, first, result], "gemini")

    ids = [each["id"] for message in messages for each in message.tool_calls or ()]
    answered = [each.tool_call_id for each in messages if each.role == "tool"]
    assert answered == [ids[0], ids[1], ids[3]]
    assert [len(each["parts"]) for each in write_prompt(messages, "gemini")][:3] == [1, 2, 2]
