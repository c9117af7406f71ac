"""What is read as a prompt of an API, and what is refused."""

import json
import re

import pytest

from pyai_sessions import InvalidValueError, Message
from pyai_sessions.prompts.formats import read_prompt, write_prompt
from pyai_sessions.testing import NOON
from tests.prompts.judges import FORMATS, read, round_trip
from tests.prompts.real import ANTHROPIC, REAL
from tests.test_layout import imported_by


def test_gemini_is_read_in_camel_case_and_with_bytes():
    """Gemini's camel case, urlsafe base64, bytes and None fields are read. Keys inside users' values stay."""
    items = [
        {"parts": [{"inlineData": {"mimeType": "image/png", "data": b"\xff\xfe\xfb"}}, {"text": "x", "thought": None}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"aB": None}}, "thoughtSignature": "c2ln"}]},
        {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"aB": 1}}}]},
        {"role": "model", "parts": [{"inlineData": {"mimeType": "image/gif", "data": "__77"}}]},
    ]

    assert round_trip(items, "gemini") == [
        {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "//77"}}, {"text": "x"}]},
        {
            "role": "model",
            "parts": [{"function_call": {"name": "f", "args": {"aB": None}}, "thought_signature": "c2ln"}],
        },
        {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"aB": 1}}}]},
        {"role": "model", "parts": [{"inline_data": {"mime_type": "image/gif", "data": "//77"}}]},
    ]


def test_objects_of_the_clients_are_read():
    """Objects of the clients are read, whole or as parts of a dict."""
    from anthropic.types import Message as Reply
    from google.genai.types import Content
    from openai.types.chat import ChatCompletionMessage

    reply = Reply.model_validate({
        "id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
        "content": [{"type": "text", "text": "Hi", "citations": None}],
    })  # fmt: skip
    hi = [{"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}]
    content = {"role": "model", "parts": [{"inline_data": {"mime_type": "image/gif", "data": "//77"}}]}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}

    assert round_trip([reply], "anthropic")[1:] == hi
    assert round_trip([{"role": "assistant", "content": reply.content}], "anthropic")[1:] == hi
    assert round_trip([Content.model_validate(content)], "gemini")[1:] == [content]
    assert round_trip([ChatCompletionMessage.model_validate({**asked, "refusal": None})], "openai") == [asked]


def test_a_block_that_is_newer_than_this_release_survives():
    """A part of an unknown type is kept for its API. Other APIs get a text about it."""
    items = {
        "openai": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "u"}}]}],
        "anthropic": [{"role": "user", "content": [{"type": "hologram", "size": 3}]}],
        "gemini": [{"role": "user", "parts": [{"hologram": {"size": 3}}]}],
        "bedrock": [{"role": "user", "content": [{"hologram": {"size": 3}}]}],
        "responses": [
            {"role": "user", "content": [{"type": "hologram", "size": 3}]},
            {"type": "hologram_call", "id": "h", "size": 3},
            {"type": "hologram_call_output", "call_id": "h", "size": 3},
        ],
    }

    for format_, given_ in items.items():
        assert round_trip(given_, format_) == given_
        for other in set(FORMATS) - {format_}:
            assert "left out]" in json.dumps(write_prompt(read(given_, format_), other))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_field_that_is_newer_than_this_release_is_kept_and_sent_nowhere(format_):
    """An unknown field of a message is stored with it, and sent to no API."""
    for item in REAL[format_]:
        calls = {"toolu_1": "f"} if "parts" in item else {}
        known = read_prompt([item], format_, clock=lambda: NOON, calls=calls)

        messages = read_prompt([{**item, "newer": {"a": [1]}}], format_, clock=lambda: NOON, calls=calls)

        assert [each.unknown_fields for each in messages[:-1]] == [{}] * (len(messages) - 1)
        assert messages[-1].unknown_fields == {"newer": {"a": [1]}}
        stored = [Message.from_json(each.to_json()) for each in messages]
        assert [each.unknown_fields for each in stored] == [each.unknown_fields for each in messages]
        for other in FORMATS:
            said = (write_prompt(each, other) for each in (known, messages, stored))
            assert all(without_ids(each) == without_ids(write_prompt(known, other)) for each in said)


def without_ids(prompt):
    """Return a prompt as text, without ids that were made up."""
    return re.sub(r"call_[0-9a-zA-Z_-]{8,}", "drawn", str([prompt, prompt.system]))


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_stored_under_the_name_of_an_api_is_sent_as_far_as_it_is_known(format_):
    """Unknown keys in the metadata of an API are not sent, since the API would refuse the prompt."""
    plain = [
        *read(REAL[format_], format_),
        Message("assistant", None, metadata={"openai": {"message": {"refusal": "No."}}}),
    ]
    stored = []
    for each in plain:
        metadata = json.loads(json.dumps(each.to_dict()["metadata"]))
        for api in FORMATS:
            own = metadata.setdefault(api, {})
            own["newer"] = 1
            own.setdefault("message", {})["newer"] = 1
        stored.append(Message.from_dict({**each.to_dict(), "metadata": metadata}))

    for other in FORMATS:
        written = write_prompt(stored, other)

        assert written == write_prompt(plain, other)
        assert written.system == write_prompt(plain, other).system
    assert "No." in json.dumps(write_prompt(stored, "openai"))


def test_times_come_from_the_clock_and_ids_are_new():
    """Messages that are read have the clock's time and new ids."""
    messages = read(ANTHROPIC, "anthropic")

    assert {each.timestamp for each in messages} == {NOON}
    assert len({each.message_id for each in messages}) == len(messages)


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("format_", "item", "place"),
    [
        ("openai", 7, "items[1]"),
        ("openai", {}, "items[1].role"),
        ("openai", {"role": "critic", "content": "x"}, "items[1].role"),
        ("openai", {"role": "user"}, "items[1].content"),
        ("openai", {"role": "user", "content": [7]}, "items[1].content[0]"),
        ("openai", {"role": "user", "content": [{"type": "text"}]}, "items[1].content[0].text"),
        ("openai", {"role": "user", "content": [{"type": "text", "text": {1}}]}, "items[1].content[0]['text']"),
        ("openai", {"role": "tool", "content": "x"}, "items[1].tool_call_id"),
        ("openai", {"role": "user", "content": "x", "name": 7}, "items[1].name"),
        ("openai", {"role": "assistant", "tool_calls": 7}, "items[1].tool_calls"),
        ("openai", {"role": "assistant", "tool_calls": [{"id": "c"}]}, "items[1].tool_calls[0]"),
        ("openai", {"role": "assistant", "content": "x", "function_call": {}}, "items[1].function_call.name"),
        ("openai", {"role": "function", "name": "f", "content": "x"}, "items[1].tool_call_id"),
        ("openai", {"role": "assistant"}, "items[1].content"),
        ("openai", {"type": "function_call", "call_id": "c"}, "items[1].name"),
        ("openai", {"type": "message", "role": "user", "content": [7]}, "items[1].content[0]"),
        ("openai", {"type": "computer_call"}, "items[1].role"),
        ("openai", {"role": "user", "content": "x", "timestamp": "then"}, "items[1].timestamp"),
        ("openai", {"role": "user", "content": "x", "metadata": 7}, "items[1].metadata"),
        ("openai", {"choices": []}, "items[1]"),
        ("gemini", {"role": "user", "content": "x"}, "items[1].parts"),
        ("anthropic", {"role": "tool", "content": "x"}, "items[1].role"),
        ("anthropic", {"role": "user"}, "items[1].content"),
        ("anthropic", {"role": "user", "content": [{"text": "x"}]}, "items[1].content[0].type"),
        ("anthropic", {"role": "user", "content": [{"type": "tool_result"}]}, "items[1].content[0].tool_use_id"),
        ("anthropic", {"role": "assistant", "content": [{"type": "tool_use"}]}, "items[1].content[0].id"),
        (
            "anthropic",
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]},
            "items[1].content[0].input",
        ),
        ("responses", {"role": "tool", "content": "x"}, "items[1].role"),
        ("responses", {"type": 7}, "items[1].type"),
        ("responses", {"role": "user", "content": 7}, "items[1].content"),
        ("responses", {"role": "user", "content": [{"type": "input_text"}]}, "items[1].content[0].text"),
        ("responses", {"type": "function_call", "call_id": "c"}, "items[1].name"),
        ("responses", {"type": "function_call_output", "output": "x"}, "items[1].call_id"),
        ("bedrock", {"role": "tool", "content": []}, "items[1].role"),
        ("bedrock", {"role": "user", "content": "x"}, "items[1].content"),
        ("bedrock", {"role": "user", "content": [{"type": "text", "text": "x"}]}, "items[1].content[0]"),
        ("bedrock", {"role": "user", "content": [{"text": 7}]}, "items[1].content[0].text"),
        ("bedrock", {"role": "user", "content": [{"toolResult": {}}]}, "items[1].content[0].toolResult.toolUseId"),
        (
            "bedrock",
            {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": "x"}}]},
            "items[1].content[0].toolResult.content",
        ),
        ("bedrock", {"role": "assistant", "content": [{"toolUse": {}}]}, "items[1].content[0].toolUse.toolUseId"),
        (
            "bedrock",
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": "x"}}]},
            "items[1].content[0].toolUse.input",
        ),
        ("gemini", "x", "items[1]"),
        ("gemini", {"role": "assistant"}, "items[1].role"),
        ("gemini", {"role": "user", "parts": "x"}, "items[1].parts"),
        ("gemini", {"role": "user", "parts": ["x"]}, "items[1].parts[0]"),
        ("gemini", {"role": "user", "parts": [{"text": 7}]}, "items[1].parts[0].text"),
        ("gemini", {"role": "user", "parts": [{"type": "text", "text": "x"}]}, "items[1].parts[0].type"),
        ("gemini", {"role": "model", "parts": [{"functionCall": {}}]}, "items[1].parts[0].function_call.name"),
        (
            "gemini",
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": "x"}}]},
            "items[1].parts[0].function_response.response",
        ),
    ],
)
def test_what_is_not_of_the_format_is_refused_by_its_place(format_, item, place):
    """An invalid item raises an error that names the part, as the caller would write it."""
    text = [{"text": "x"}]
    first = {"gemini": {"role": "user", "parts": text}, "bedrock": {"role": "user", "content": text}}.get(format_, USER)

    with pytest.raises(InvalidValueError) as refused:
        read([first, item], format_)

    assert refused.value.path == place


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_nested_without_end_is_refused(format_):
    """A value that contains itself raises InvalidValueError."""
    endless = []
    endless.append(endless)

    with pytest.raises(InvalidValueError, match="nested"):
        read([{"role": "user", "content": endless, "parts": endless}], format_)


def test_an_unknown_format_is_refused():
    """An unknown format raises an error that lists the formats."""
    with pytest.raises(InvalidValueError, match="'openai', 'responses', 'anthropic', 'gemini' or 'bedrock'"):
        write_prompt([], "mistral")
    with pytest.raises(InvalidValueError, match="'openai', 'responses', 'anthropic', 'gemini' or 'bedrock'"):
        read_prompt([], "mistral", clock=lambda: NOON)


@pytest.mark.parametrize("format_", FORMATS)
def test_no_messages_are_no_prompt(format_):
    """No messages give an empty prompt without a system text."""
    written = write_prompt([], format_)

    assert written == []
    assert written.system is None


def test_a_format_is_imported_when_it_is_first_used_and_no_client_ever():
    """A format's module is imported at its first use, and never a client."""
    run = "from pyai_sessions.prompts.formats import write_prompt; write_prompt([], 'gemini')"

    imported = imported_by(run)

    assert "pyai_sessions.prompts.formats.gemini" in imported
    assert not imported & {"pyai_sessions.prompts.formats.openai", "pyai_sessions.prompts.formats.anthropic"}
    assert not imported & {"openai", "anthropic", "google.genai", "pydantic", "httpx"}
