"""What one API says comes back the same, and any conversation can be written for each API."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyai_sessions import Message
from pyai_sessions.prompts.formats import responses, write_prompt
from pyai_sessions.prompts.formats.shapes import prompt_messages
from tests.prompts.conversations import PROMPTS, SHORT, conversations
from tests.prompts.judges import FORMATS, judge, read, round_trip, sent
from tests.prompts.real import ANTHROPIC, OPENAI, PNG, REAL


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(data=st.data())
def test_what_an_api_says_is_written_as_it_was_read(format_, data):
    """Reading and writing a valid prompt gives the same: thinking, signatures, cache marks, ids, order of blocks."""
    prompt = data.draw(PROMPTS[format_])
    judge(prompt, format_)
    given_ = copy.deepcopy(prompt)

    written = round_trip(prompt, format_)

    assert list(prompt) == list(given_)
    assert list(written) == sent(list(given_))
    assert written.system == sent(given_.system)


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(data=st.data())
def test_what_was_read_from_an_api_is_not_translated_again(format_, data):
    """Messages that a format has read have the shape that formats write, so a history is written from them as is."""
    for message in read(data.draw(PROMPTS[format_]), format_):
        [said] = prompt_messages(message)

        assert (said.message.content, said.message.tool_calls) == (message.content, message.tool_calls)


@SHORT
@given(messages=conversations(), data=st.data())
def test_an_answer_of_one_text_is_the_same_item_alone(messages, data):
    """The short way from a message to an item of the Responses API gives what the long way does, or nothing."""
    content = [{"type": "output_text", "text": "Yes.", "annotations": []}]
    answer = {"type": "message", "role": "assistant", "id": "m", "status": "completed", "content": content}
    [said] = read([answer], "responses")
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    assert responses.said_alone(said) == answer
    assert [responses.said_alone(each) for each in read([answer, call], "responses")] == [None]
    for message in [*messages, *read(data.draw(PROMPTS["responses"]), "responses")]:
        alone = responses.said_alone(message)

        if alone is not None:
            written, _ = responses.write([each.message for each in prompt_messages(message)])
            assert written == [alone]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
@SHORT
@given(data=st.data())
def test_a_conversation_goes_on_with_another_api(format_, other, data):
    """Messages read from one API can be written for another, without private reasoning."""
    messages = read(data.draw(PROMPTS[format_]), format_)
    messages = [Message.from_dict(json.loads(json.dumps(each.to_dict()))) for each in messages]

    written = write_prompt(messages, other)

    judge(written, other)
    if other != format_:
        assert not [
            word for word in ("thinking", "signature", "cache_control", "cachePoint", "Hm.") if word in str(written)
        ]


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(messages=conversations())
def test_any_conversation_is_told(format_, messages):
    """Messages of any content, roles and arguments are written as a prompt that the API takes."""
    judge(write_prompt(messages, format_), format_)


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(messages=conversations(), data=st.data())
def test_a_torn_conversation_is_written_all_the_same(format_, messages, data):
    """A conversation with missing calls, results or users can be written."""
    write_prompt([each for each in messages if data.draw(st.booleans())], format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_real_conversation_comes_back(format_):
    """Parallel calls, images, signed thinking, marks and a failed call are written as they were read."""
    judge(REAL[format_], format_)

    written = round_trip(REAL[format_], format_)

    assert list(written) == list(REAL[format_])
    assert written.system == getattr(REAL[format_], "system", None)


def test_an_anthropic_conversation_as_openai_takes_it():
    """For OpenAI, thinking and marks are left out. System text, calls and results are kept."""
    assert write_prompt(read(ANTHROPIC, "anthropic"), "openai") == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/here.jpg"}},
            {"type": "text", "text": "Is it warmer in Rome or here?"},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}], "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
        ]},
        {"role": "tool", "content": [{"type": "text", "text": "31"}], "tool_call_id": "toolu_1"},
        {"role": "tool", "content": "which city?", "tool_call_id": "toolu_2"},
        {"role": "user", "content": [{"type": "text", "text": "And quickly!"}]},
        {"role": "assistant", "content": "Rome."},
    ]  # fmt: skip


def test_an_openai_conversation_as_gemini_takes_it():
    """For Gemini, results have their function's name, arguments that are not JSON are wrapped, and ids are left out."""
    written = write_prompt(read(OPENAI, "openai"), "gemini")

    assert written.system == {"parts": [{"text": "Be brief."}]}
    assert written[1:3] == [
        {"role": "model", "parts": [
            {"function_call": {"name": "get_weather", "args": {"city": "Rome"}}},
            {"function_call": {"name": "get_weather", "args": {"arguments": '{"city":'}}},
        ]},
        {"role": "user", "parts": [
            {"function_response": {"name": "get_weather", "response": {"output": '{"celsius": 31}'}}},
            {"function_response": {"name": "get_weather", "response": {"output": "the arguments are cut off"}}},
        ]},
    ]  # fmt: skip
