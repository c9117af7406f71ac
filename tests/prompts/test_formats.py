"""Formats: what one API says survives a round trip, and what any conversation holds is told to each of them.

The judges are the rules in `tests.prompts.prompt_rules`, and the types of the APIs' own clients.
"""

import base64
import copy
import json
import re
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyai_sessions import InvalidValueError, Message
from pyai_sessions.prompts.formats import Prompt, read_prompt, write_prompt
from pyai_sessions.testing import NOON
from tests.prompts.prompt_rules import check_anthropic, check_bedrock, check_gemini, check_openai, check_responses
from tests.test_layout import imported_by

FORMATS = ["openai", "responses", "anthropic", "gemini", "bedrock"]
RULES = {
    "openai": check_openai,
    "responses": check_responses,
    "anthropic": check_anthropic,
    "gemini": check_gemini,
    "bedrock": check_bedrock,
}
SHORT = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"


# The judges -------------------------------------------------------------------------------------------------------


@cache
def client_type(format_):
    """Return what validates a prompt by the client's own types; a client takes a second to import."""
    from pydantic import TypeAdapter

    if format_ == "openai":
        from openai.types.chat import ChatCompletionMessageParam

        return TypeAdapter(list[ChatCompletionMessageParam])
    if format_ == "responses":
        from openai.types.responses import ResponseInputItemParam

        return TypeAdapter(list[ResponseInputItemParam])
    if format_ == "anthropic":
        from anthropic.types import MessageParam

        return TypeAdapter(list[MessageParam])
    if format_ == "bedrock":
        return _Converse()
    from google.genai.types import Content

    return TypeAdapter(list[Content])


class _Converse:
    """Validates messages as boto3 does before it sends them."""

    def __init__(self):
        from botocore.loaders import Loader
        from botocore.model import ServiceModel

        model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
        self._shape = model.operation_model("Converse").input_shape

    def validate_python(self, prompt):
        from botocore.validate import validate_parameters

        system = getattr(prompt, "system", None)
        given = {"modelId": "m", "messages": list(prompt), **({} if system is None else {"system": system})}
        validate_parameters(given, self._shape)


def exhausted(value):
    """Walk through what a client's type validates only when it is looked at."""
    if isinstance(value, dict):
        return {key: exhausted(each) for key, each in value.items()}
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or hasattr(value, "model_dump"):
        return value
    return [exhausted(each) for each in value]


def judge(prompt, format_):
    """Fail unless the API would take the prompt."""
    RULES[format_](prompt)
    exhausted(client_type(format_).validate_python(prompt))


def sent(value):
    """Return JSON as it can be sent: in place of half a character stands U+FFFD."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in value)
    if isinstance(value, dict):
        return {sent(key): sent(each) for key, each in value.items()}
    return [sent(each) for each in value] if isinstance(value, list) else value


def read(items, format_):
    return read_prompt(items, format_, clock=lambda: NOON)


def round_trip(items, format_):
    return write_prompt(read(items, format_), format_)


# What there may be ------------------------------------------------------------------------------------------------

SAID = st.text(min_size=1, max_size=6).filter(str.strip) | st.sampled_from(["\ud800", "ünï", " x ", "{}"])
NAMES = st.sampled_from(["get_weather", "search", "f"])
OBJECTS = st.dictionaries(
    st.sampled_from(["a", "bC", "text"]), st.none() | st.integers() | SAID | st.just([1]), max_size=2
)
MARK = st.just({}) | st.just({"cache_control": {"type": "ephemeral"}})


def fixed(*values):
    return st.sampled_from(values).map(copy.deepcopy)


def both(blocks, extra):
    return st.builds(lambda block, more: {**block, **more}, blocks, extra)


def some(parts):
    return st.lists(parts, min_size=1, max_size=3)


# -- anthropic

CITED = {
    "citations": [
        {
            "type": "char_location",
            "cited_text": "x",
            "document_index": 0,
            "document_title": None,
            "start_char_index": 0,
            "end_char_index": 1,
        }
    ]
}
A_TEXT = both(SAID.map(lambda text: {"type": "text", "text": text}), MARK)
A_IMAGE = both(
    fixed(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    ),
    MARK,
)
A_DOCUMENT = both(
    fixed(
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "context": "y"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
    ),
    MARK,
)
A_SEARCH = fixed({"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]})
A_OWN = fixed(
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "thinking", "thinking": "", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "c2Vj"},
    {"type": "text", "text": "As told.", **CITED},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "url": "https://e", "title": "t", "encrypted_content": "e"}],
    },
)
A_GIVEN = A_TEXT | A_IMAGE | A_DOCUMENT | A_SEARCH


@st.composite
def anthropic_prompts(draw):
    """Return any prompt that Anthropic takes, in the form that is written."""
    ids = iter(f"toolu_{n}" for n in range(100))

    def use():
        return {"type": "tool_use", "id": next(ids), "name": draw(NAMES), "input": draw(OBJECTS), **draw(MARK)}

    def result(block):
        content = draw(fixed({}, {"content": ""}) | st.builds(lambda each: {"content": each}, SAID | some(A_GIVEN)))
        mark = draw(MARK | fixed({"is_error": True}, {"is_error": False}))
        return {"type": "tool_result", "tool_use_id": block["id"], **content, **mark}

    items = []
    for _ in range(draw(st.integers(1, 2))):
        items.append({"role": "user", "content": draw(SAID | some(A_GIVEN))})
        if draw(st.booleans()):
            uses = [use() for _ in range(draw(st.integers(1, 3)))]
            others = draw(st.lists(A_TEXT | A_OWN, max_size=2))
            items.append({"role": "assistant", "content": draw(st.permutations([*uses, *others]))})
            results = draw(st.permutations([result(each) for each in uses]))
            items.append({"role": "user", "content": [*results, *draw(st.lists(A_GIVEN, max_size=2))]})
        if draw(st.booleans()):
            items.append({"role": "system", "content": draw(SAID | some(A_TEXT))})
        items.append({"role": "assistant", "content": draw(SAID | some(A_TEXT | A_OWN))})
    return Prompt(items, system=draw(st.none() | SAID | some(A_TEXT)))


# -- gemini

SIGNED = st.just({}) | st.just({"thought_signature": "c2ln"})
G_TEXT = both(SAID.map(lambda text: {"text": text}), SIGNED)
G_GIVEN = G_TEXT | fixed(
    {"inline_data": {"mime_type": "image/png", "data": PNG}},
    {"inline_data": {"mime_type": "image/png", "data": PNG, "display_name": "a.png"}},
    {"inline_data": {"mime_type": "image/heic", "data": PNG}, "media_resolution": {"level": "MEDIA_RESOLUTION_LOW"}},
    {"inline_data": {"mime_type": "image/gif", "data": PNG}},
    {"inline_data": {"mime_type": "audio/wav", "data": PNG}},
    {"inline_data": {"mime_type": "audio/ogg", "data": PNG}},
    {"inline_data": {"mime_type": "application/pdf", "data": PDF, "display_name": "a.pdf"}},
    {"inline_data": {"mime_type": "video/mp4", "data": PNG}, "video_metadata": {"fps": 2.0}},
    {"file_data": {"file_uri": "https://example.com/a.png?x=1", "mime_type": "image/png"}},
    {"file_data": {"file_uri": "https://generativelanguage.googleapis.com/v1beta/files/a", "mime_type": "image/png"}},
    {"file_data": {"file_uri": "gs://bucket/a.pdf", "mime_type": "application/pdf"}},
)
G_OWN = fixed(
    {"text": "Hm.", "thought": True},
    {"text": "", "thought_signature": "c2ln"},
    {"executable_code": {"code": "1+1", "language": "PYTHON"}},
    {"code_execution_result": {"outcome": "OUTCOME_OK", "output": "2"}},
    {"inline_data": {"mime_type": "image/png", "data": PNG}, "thought_signature": "c2ln"},
)
G_RESPONSES = OBJECTS | st.builds(lambda text: {"output": text}, SAID) | fixed({"output": [1]}, {"error": "x"})


@st.composite
def gemini_prompts(draw):
    """Return any contents that Gemini takes, in the form that is written."""
    ids = iter(f"call-{n}" for n in range(100))
    items = []
    for _ in range(draw(st.integers(1, 2))):
        items.append({"role": "user", "parts": draw(some(G_GIVEN))})
        if draw(st.booleans()):
            has_ids = draw(st.booleans())
            calls = [
                {
                    "function_call": {
                        "name": draw(NAMES),
                        "args": draw(OBJECTS),
                        **({"id": next(ids)} if has_ids else {}),
                    },
                    **draw(SIGNED),
                }
                for _ in range(draw(st.integers(1, 3)))
            ]
            others = draw(st.lists(G_TEXT | G_OWN, max_size=2))
            items.append({"role": "model", "parts": draw(st.permutations([*calls, *others]))})
            results = [
                {
                    "function_response": {
                        **{key: each["function_call"][key] for key in ("name", "id") if key in each["function_call"]},
                        "response": draw(G_RESPONSES),
                        **draw(fixed({}, {"will_continue": False})),
                    }
                }
                for each in calls
            ]
            others = draw(st.lists(G_GIVEN, max_size=2))
            items.append({"role": "user", "parts": [*draw(st.permutations(results)), *others]})
        items.append({"role": "model", "parts": draw(some(G_TEXT | G_OWN))})
    system = st.none() | st.builds(lambda parts: {"parts": parts}, some(G_TEXT))
    return Prompt(items, system=draw(system))


# -- bedrock

B_TEXT = SAID.map(lambda text: {"text": text}) | fixed({"cachePoint": {"type": "default"}})
B_DATA = base64.b64decode(PNG)
B_IMAGE = fixed(
    {"image": {"format": "png", "source": {"bytes": B_DATA}}},
    {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
    {"video": {"format": "mp4", "source": {"bytes": B_DATA}}},
)
B_GIVEN = B_TEXT | B_IMAGE | fixed({"audio": {"format": "wav", "source": {"bytes": B_DATA}}})
B_DOCUMENT = fixed(
    {"format": "pdf", "source": {"bytes": base64.b64decode(PDF)}},
    {"format": "txt", "source": {"text": "x"}, "context": "y"},
    {"format": "md", "source": {"s3Location": {"uri": "s3://bucket/a.md"}}},
)
B_OWN = fixed(
    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": B_DATA}},
)


@st.composite
def bedrock_prompts(draw):
    """Return any messages that Converse takes, in the form that is written."""
    ids = iter(f"tooluse_{n}" for n in range(100))
    names = iter(f"Report ({n})" for n in range(100))

    def use():
        return {"toolUse": {"toolUseId": next(ids), "name": draw(NAMES), "input": draw(OBJECTS)}}

    def result(block):
        some_of = draw(some(SAID.map(lambda text: {"text": text}) | B_IMAGE | OBJECTS.map(lambda each: {"json": each})))
        content = draw(st.sampled_from([[], some_of]))
        mark = draw(fixed({}, {"status": "success"}, {"status": "error"}))
        return {"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "content": content, **mark}}

    def said():
        documents = [{"document": {**each, "name": next(names)}} for each in draw(st.lists(B_DOCUMENT, max_size=2))]
        return [*documents, *([{"text": draw(SAID)}] if documents else draw(some(B_GIVEN)))]

    items = []
    for _ in range(draw(st.integers(1, 2))):
        items.append({"role": "user", "content": said()})
        if draw(st.booleans()):
            uses = [use() for _ in range(draw(st.integers(1, 3)))]
            others = draw(st.lists(B_TEXT | B_OWN, max_size=2))
            items.append({"role": "assistant", "content": draw(st.permutations([*uses, *others]))})
            results = draw(st.permutations([result(each) for each in uses]))
            items.append({"role": "user", "content": [*results, *draw(st.just([]) | st.builds(said))]})
        items.append({"role": "assistant", "content": draw(some(B_TEXT | B_OWN))})
    return Prompt(items, system=draw(st.none() | some(B_TEXT)))


# -- openai

O_TEXT = SAID.map(lambda text: {"type": "text", "text": text})
O_GIVEN = O_TEXT | fixed(
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PNG}", "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "https://example.com/a"}},
    {"type": "input_audio", "input_audio": {"data": PNG, "format": "mp3"}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    {"type": "file", "file": {"filename": "a.csv", "file_data": f"data:text/csv;base64,{PDF}"}},
    {"type": "file", "file": {"file_id": "file_1"}},
)
O_SAID = O_TEXT | fixed({"type": "refusal", "refusal": "No."})
O_NAME = st.just({}) | fixed({"name": "ada"}, {"name": "Ада.l"})
O_ARGUMENTS = OBJECTS.map(json.dumps) | st.sampled_from(["", "{", "[1]", "nul", '{"a": NaN}', '"x"'])


@st.composite
def openai_prompts(draw):
    """Return any messages that OpenAI takes, in the form that is written."""
    ids = iter(f"call_{n}" for n in range(100))

    def call():
        if draw(st.integers(0, 5)) == 0:
            return {"id": next(ids), "type": "custom", "custom": {"name": draw(NAMES), "input": draw(SAID)}}
        function = {"name": draw(NAMES), "arguments": draw(O_ARGUMENTS)}
        return {"id": next(ids), "type": "function", "function": function}

    def system():
        role = draw(st.sampled_from(["system", "developer"]))
        return {"role": role, "content": draw(SAID | some(O_TEXT)), **draw(O_NAME)}

    items = [system() for _ in range(draw(st.integers(0, 2)))]
    for _ in range(draw(st.integers(1, 2))):
        items.append({"role": "user", "content": draw(st.just("") | SAID | some(O_GIVEN)), **draw(O_NAME)})
        if draw(st.booleans()):
            calls = [call() for _ in range(draw(st.integers(1, 3)))]
            content = draw(st.none() | SAID | some(O_SAID))
            items.append({"role": "assistant", "content": content, "tool_calls": calls, **draw(O_NAME)})
            items += [
                {"role": "tool", "tool_call_id": each["id"], "content": draw(st.just("") | SAID | some(O_TEXT))}
                for each in draw(st.permutations(calls))
            ]
        if draw(st.booleans()):
            items.append(system())
        items.append(
            draw(
                fixed(
                    {"role": "assistant", "content": None, "refusal": "No."},
                    {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
                    {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."},
                )
                | st.builds(lambda content: {"role": "assistant", "content": content}, SAID | some(O_SAID))
            )
        )
    return Prompt(items)


# -- responses

R_TEXT = both(
    SAID.map(lambda text: {"type": "input_text", "text": text}),
    fixed({}, {"prompt_cache_breakpoint": {"mode": "explicit"}}),
)
R_GIVEN = R_TEXT | fixed(
    {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
    {"type": "input_image", "file_id": "file_1", "detail": "auto"},
    {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
    {"type": "input_file", "file_id": "file_1"},
    {"type": "input_file", "file_url": "https://example.com/a.pdf"},
)
R_CITED = {"type": "url_citation", "url": "https://e", "title": "t", "start_index": 0, "end_index": 1}
R_SAID = fixed({"type": "refusal", "refusal": "No."}) | st.builds(
    lambda text, annotations: {"type": "output_text", "text": text, "annotations": annotations},
    SAID,
    st.sampled_from([[], [R_CITED]]),
)


@st.composite
def responses_prompts(draw):  # noqa: C901 (a kind of item each)
    """Return any input that Responses take, in the form that is written."""
    ids = iter(range(1000))

    def reasoning():
        summary = draw(st.sampled_from([[], [{"type": "summary_text", "text": "Hm."}]]))
        more = draw(fixed({}, {"encrypted_content": "c2ln"}))
        return {"type": "reasoning", "id": f"rs_{next(ids)}", "summary": summary, **more}

    def output_message():
        phase = draw(fixed({}, {"phase": "commentary"}))
        given = {"id": f"msg_{next(ids)}", "status": "completed", **phase}
        return {"type": "message", "role": "assistant", **given, "content": draw(some(R_SAID))}

    def search():
        action = {"type": "search", "query": "x", "queries": ["x"]}
        return {"type": "web_search_call", "id": f"ws_{next(ids)}", "status": "completed", "action": action}

    def call():
        own = draw(fixed({}, {"id": "fc_1", "status": "completed"}))
        if draw(st.integers(0, 5)) == 0:
            given = {"type": "custom_tool_call", "input": draw(SAID)}
            own.pop("status", None)
        else:
            given = {"type": "function_call", "arguments": draw(O_ARGUMENTS)}
        return {**given, "call_id": f"call_{next(ids)}", "name": draw(NAMES), **own}

    def output(item):
        own = draw(fixed({}, {"id": "fco_1"}))
        given = draw(st.just("") | SAID | some(R_GIVEN))
        return {"type": f"{item['type']}_output", "call_id": item["call_id"], "output": given, **own}

    def system():
        role = draw(st.sampled_from(["system", "developer"]))
        return {"role": role, "content": draw(SAID | some(R_TEXT))}

    items = [system() for _ in range(draw(st.integers(0, 2)))]
    for _ in range(draw(st.integers(1, 2))):
        items.append({"role": "user", "content": draw(SAID | some(R_GIVEN))})
        if draw(st.booleans()):
            calls = [call() for _ in range(draw(st.integers(1, 3)))]
            made = draw(st.lists(st.sampled_from([reasoning, output_message, search]), max_size=3))
            items += [*(make() for make in made), *draw(st.permutations([*calls, output_message()]))]
            items += draw(st.permutations([output(each) for each in calls]))
        if draw(st.booleans()):
            items.append(system())
        if draw(st.booleans()):
            items.append(reasoning())
        items.append(output_message() if draw(st.booleans()) else {"role": "assistant", "content": draw(SAID)})
    return Prompt(items)


PROMPTS = {"openai": openai_prompts(), "anthropic": anthropic_prompts(), "gemini": gemini_prompts()}
PROMPTS |= {"bedrock": bedrock_prompts(), "responses": responses_prompts()}


# -- what a session may hold

ODD_PARTS = fixed(
    {"type": "chart", "data": [1]},
    {"type": "text"},
    {"type": "text", "text": ""},
    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}, "gemini": 7},
    {"type": "image_url", "image_url": "https://example.com/a.png"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}},
    {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AAAA"}},
    {"type": "image_url", "image_url": {"url": "file:///a.png"}},
    {"type": "image_url"},
    {"type": "input_audio"},
    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}},
    {"type": "file"},
    {"type": "refusal"},
    {"type": "anthropic", "anthropic": {"type": "thinking", "thinking": "x", "signature": "s"}},
    {"type": "gemini", "gemini": {"thought": True, "text": "x"}},
    {"type": "gemini", "gemini": {"executable_code": {"code": "1", "language": "PYTHON"}}},
    {"type": "openai", "openai": {"type": "text", "text": "x"}},
    {"type": "openai"},
    {"type": "anthropic", "anthropic": {"type": []}},
    {"type": "gemini", "gemini": 7},
    {"type": "bedrock", "bedrock": {"image": {"format": "png", "source": {"bytes": "AAAA"}}}},
    {"type": "bedrock", "bedrock": {"reasoningContent": {"redactedContent": "AAAA"}}},
    {"type": "bedrock", "bedrock": 7},
    {"type": "responses", "responses": {"item": {"type": "reasoning", "id": "rs_1", "summary": []}}},
    {"type": "responses", "responses": {"item": 7}},
    {"type": "responses", "responses": {"type": "input_file", "file_id": "f", "message": {"id": "m"}}},
    {"type": "responses", "responses": 7},
    {"type": "reasoning", "text": "Hm."},
    {"type": "text", "text": "x", "bedrock": {"json": {"a": 1}}},
)
CONTENTS = (
    st.none()
    | SAID
    | st.sampled_from(["", "  ", 7, True, [], [1, 2], {"a": None}, [{"type": "dog", "name": "Rex"}], [{"a": 1}]])
    | some(O_GIVEN | O_SAID | ODD_PARTS)
)
ODD_IDS = st.sampled_from(["c", "functions.f:0", "x" * 60, "ünï", "call_1", "", "call 1", "call.1"])


@st.composite
def conversations(draw):
    """Return messages as a session may hold them: of any content, in turns that a user begins, each call answered."""
    messages = [
        Message(draw(st.sampled_from(["system", "developer"])), draw(CONTENTS)) for _ in range(draw(st.integers(0, 2)))
    ]
    for _ in range(draw(st.integers(1, 2))):
        messages.append(Message("user", draw(CONTENTS), name=draw(st.sampled_from([None, "Ada L", ""]))))
        if draw(st.booleans()):
            calls = [
                draw(
                    st.builds(
                        lambda call_id, name, arguments: {
                            "id": call_id,
                            "type": "function",
                            "function": {"name": name, "arguments": arguments},
                        },
                        st.just(each),
                        NAMES | st.sampled_from(["a.b", "f" * 70]),
                        O_ARGUMENTS | OBJECTS | st.none(),
                    )
                    | st.just({"id": each, "type": "function"})
                )
                for each in draw(st.lists(ODD_IDS.filter(bool), min_size=1, max_size=3, unique=True))
            ]
            metadata = draw(
                fixed({}, {"anthropic": {"calls_at": [0, "x"]}}, {"anthropic": 7, "gemini": {"calls_at": 7}})
            )
            messages.append(Message("assistant", draw(CONTENTS), tool_calls=calls, metadata=metadata))
            messages += [
                Message("tool", draw(CONTENTS), tool_call_id=each["id"]) for each in draw(st.permutations(calls))
            ]
        messages += [
            Message(draw(st.sampled_from(["assistant", "system", "critic", "", "function"])), draw(CONTENTS))
            for _ in range(draw(st.integers(0, 2)))
        ]
    return messages


# Round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(data=st.data())
def test_what_an_api_says_is_written_as_it_was_read(format_, data):
    """All that is valid in a format comes back the same: thinking and signatures, marks, ids, the order of blocks."""
    prompt = data.draw(PROMPTS[format_])
    judge(prompt, format_)
    given_ = copy.deepcopy(prompt)

    written = round_trip(prompt, format_)

    assert list(prompt) == list(given_)
    assert list(written) == sent(list(given_))
    assert written.system == sent(given_.system)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
@SHORT
@given(data=st.data())
def test_a_conversation_goes_on_with_another_api(format_, other, data):
    """What was read from one API, the other takes, and its private reasoning is not told."""
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
    """Whatever the content, the roles and the arguments, the prompt is one that the API takes."""
    judge(write_prompt(messages, format_), format_)


@pytest.mark.parametrize("format_", FORMATS)
@SHORT
@given(messages=conversations(), data=st.data())
def test_a_torn_conversation_is_written_all_the_same(format_, messages, data):
    """Results without calls, calls without results, no user: nothing of that is an error here."""
    write_prompt([each for each in messages if data.draw(st.booleans())], format_)


OPENAI = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "Is it warmer in Rome or here?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/here.jpg"}},
    ]},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":'}},
    ]},
    {"role": "tool", "content": '{"celsius": 31}', "tool_call_id": "call_1"},
    {"role": "tool", "content": "the arguments are cut off", "tool_call_id": "call_2"},
    {"role": "assistant", "content": "Rome."},
]  # fmt: skip

ANTHROPIC = Prompt([
    {"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/here.jpg"}},
        {"type": "text", "text": "Is it warmer in Rome or here?", "cache_control": {"type": "ephemeral"}},
    ]},
    {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "I need both.", "signature": "c2ln"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "31"}]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "which city?", "is_error": True},
        {"type": "text", "text": "And quickly!"},
    ]},
    {"role": "assistant", "content": "Rome."},
], system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])  # fmt: skip

GEMINI = Prompt([
    {"role": "user", "parts": [
        {"text": "Is it warmer in Rome or here?"},
        {"inline_data": {"mime_type": "image/png", "data": PNG}},
        {"file_data": {"file_uri": "https://example.com/here.jpg", "mime_type": "image/jpeg"}},
    ]},
    {"role": "model", "parts": [
        {"text": "I need both.", "thought": True},
        {"function_call": {"name": "get_weather", "args": {"city": "Rome"}}, "thought_signature": "c2ln"},
        {"function_call": {"name": "get_weather", "args": {}}},
    ]},
    {"role": "user", "parts": [
        {"function_response": {"name": "get_weather", "response": {"output": "31"}}},
        {"function_response": {"name": "get_weather", "response": {"error": "which city?"}}},
    ]},
    {"role": "model", "parts": [{"text": "Rome.", "thought_signature": "c2ln"}]},
], system={"parts": [{"text": "Be brief."}]})  # fmt: skip

BEDROCK = Prompt([
    {"role": "user", "content": [
        {"image": {"format": "png", "source": {"bytes": base64.b64decode(PNG)}}},
        {"text": "Is it warmer in Rome or here?"},
        {"cachePoint": {"type": "default"}},
    ]},
    {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "I need both.", "signature": "c2ln"}}},
        {"text": "I look."},
        {"toolUse": {"toolUseId": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}},
        {"toolUse": {"toolUseId": "toolu_2", "name": "get_weather", "input": {}}},
    ]},
    {"role": "user", "content": [
        {"toolResult": {"toolUseId": "toolu_1", "content": [{"json": {"celsius": 31}}], "status": "success"}},
        {"toolResult": {"toolUseId": "toolu_2", "content": [{"text": "which city?"}], "status": "error"}},
        {"text": "And quickly!"},
    ]},
    {"role": "assistant", "content": [{"text": "Rome."}]},
], system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}])  # fmt: skip

RESPONSES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "input_text", "text": "Is it warmer in Rome or here?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
    ]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"},
    {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary", "content": [
        {"type": "output_text", "text": "I look.", "annotations": []},
    ]},
    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Rome"}',
     "id": "fc_1", "status": "completed"},
    {"type": "function_call", "call_id": "call_2", "name": "get_weather", "arguments": '{"city":'},
    {"type": "function_call_output", "call_id": "call_1", "output": '{"celsius": 31}'},
    {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "which city?"}]},
    {"role": "assistant", "content": "Rome."},
]  # fmt: skip

REAL = {"responses": RESPONSES, "openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "bedrock": BEDROCK}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_real_conversation_comes_back(format_):
    """Parallel calls, images, thinking with its signature, marks, a failed call."""
    judge(REAL[format_], format_)

    written = round_trip(REAL[format_], format_)

    assert list(written) == list(REAL[format_])
    assert written.system == getattr(REAL[format_], "system", None)


def test_an_anthropic_conversation_as_openai_takes_it():
    """Reasoning and marks are not told; system text, calls and results are."""
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
    """Results have the name of their function; arguments that are not JSON are wrapped; ids have no place."""
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


# One rule a test --------------------------------------------------------------------------------------------------


def called(*ids):
    function = {"name": "f", "arguments": "{}"}
    return Message(
        "assistant", None, tool_calls=[{"id": each, "type": "function", "function": function} for each in ids]
    )


def test_results_for_gemini_stand_in_the_order_of_their_calls():
    """Without ids, results of one function are told apart by their order alone."""
    messages = [Message("user", "x"), called("a", "b")]
    messages += [Message("tool", each, tool_call_id=each) for each in ("b", "a")]

    results = write_prompt(messages, "gemini")[2]["parts"]

    assert [each["function_response"]["response"] for each in results] == [{"output": "a"}, {"output": "b"}]


@pytest.mark.parametrize("format_", ["anthropic", "gemini", "bedrock"])
def test_a_later_system_message_and_unknown_roles_are_told_as_a_users(format_):
    """The API has one system text, at the start; the message stays where it was, and says whose it is."""
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
    """Nothing else is taken there, also not what Gemini takes elsewhere."""
    written = write_prompt([Message("system", [part]), Message("user", "x")], "gemini")

    assert written.system == {"parts": [{"text": said}]}


def test_a_system_message_read_among_anthropics_is_moved_where_it_would_be_refused():
    """It is written where it was read; with an assistant's message before it, it is told as a user's."""
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
    """Results, and what users say after them, are one message, results first."""
    messages = [Message("user", "x"), called("a"), Message("tool", "1", tool_call_id="a")]
    messages += [Message("user", "one"), Message("user", "two")]

    last = write_prompt(messages, format_)[-1][key]

    assert [next(iter(part.keys() - {"type"})) for part in last[1:]] == ["text", "text"]
    assert len(last) == 3


@pytest.mark.parametrize("format_", FORMATS)
def test_a_message_with_nothing_to_tell_is_left_out_but_not_a_users(format_):
    """Thinking alone says nothing to another API; a user's empty message begins a turn."""
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
    """A short text says what is missing."""
    written = write_prompt([Message("user", [part])], "anthropic")

    assert written == [{"role": "user", "content": [{"type": "text", "text": said}]}]


@pytest.mark.parametrize("format_", ["openai", "anthropic"])
def test_a_result_that_is_no_text_is_told_as_json(format_):
    """Also one that looks like parts, but holds types of its own."""
    rex = [{"type": "dog", "name": "Rex"}]
    messages = [Message("user", "x"), called("a", "b")]
    messages += [Message("tool", {"celsius": 31}, tool_call_id="a"), Message("tool", rex, tool_call_id="b")]

    told = json.dumps(write_prompt(messages, format_)[2:])

    assert json.dumps('{"celsius":31}') in told
    assert json.dumps('[{"type":"dog","name":"Rex"}]') in told


def test_reasoning_goes_with_what_it_led_to():
    """Responses refuse reasoning alone: it is written before a call or words of the same message, and not without."""
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    answer = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": []}
    answer["content"] = [{"type": "output_text", "text": "Hi", "annotations": []}]
    alone, together = (read(items, "responses") for items in ([reasoning], [reasoning, answer]))

    assert write_prompt([Message("user", "x"), *alone], "responses") == [{"role": "user", "content": "x"}]
    assert write_prompt(together, "responses") == [reasoning, answer]


def test_a_reply_of_responses_is_read_as_it_came():
    """The objects of response.output, together with what answers them, without a format and with it."""
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
    """It is an input of its own, is written again where it stood, and told of to other APIs."""
    shot = {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "file_id": "f"}}
    call = {"type": "computer_call", "id": "cu_1", "call_id": "c", "status": "completed", "pending_safety_checks": []}
    items = [{"role": "user", "content": "Look."}, call, shot, {"role": "assistant", "content": "Done."}]

    assert round_trip(items, "responses") == items
    told = str(write_prompt(read(items, "responses"), "openai"))
    assert "[computer_call left out]" in told
    assert "[computer_call_output left out]" in told


def test_documents_for_bedrock_have_names_of_their_own_and_a_text_beside_them():
    """The API takes few characters in a name, each name once in a call, and no document alone."""
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
    """What Bedrock calls a status is what Anthropic calls an error."""
    messages = read(BEDROCK, "bedrock")

    results = [
        block for item in write_prompt(messages, "anthropic") for block in item["content"] if "is_error" in block
    ]

    assert [each["tool_use_id"] for each in results] == ["toolu_2"]
    assert write_prompt(read(ANTHROPIC, "anthropic"), "bedrock")[2]["content"][1]["toolResult"]["status"] == "error"


def test_data_for_bedrock_is_bytes_and_base64_is_read():
    """boto3 encodes bytes itself; JSON that was stored elsewhere has base64."""
    image = {"format": "png", "source": {"bytes": PNG}}

    written = round_trip([{"role": "user", "content": [{"image": image}]}], "bedrock")

    assert written[0]["content"][0]["image"]["source"]["bytes"] == base64.b64decode(PNG)


def test_ids_are_made_what_the_api_takes_and_stay_apart():
    """Anthropic wants each id once, of few characters; OpenAI wants short ones. Results go with their calls."""
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
    """A prompt is a copy: lists and dicts in it are plain, and a message does not change with them."""
    messages = read(ANTHROPIC, "anthropic")

    for format_ in FORMATS:
        written = write_prompt(messages, format_)
        for item in written:
            content = item.get("content", item.get("parts"))
            if isinstance(content, list):
                content.append({})
        assert write_prompt(messages, "anthropic") == ANTHROPIC


def test_a_result_of_geminis_may_answer_a_call_that_was_read_before():
    """It goes to the first call of its function that waits; its function's name stays with it."""
    results = [{"function_response": {"name": name, "response": {}}} for name in ("f", "g", "f", "f")]
    waiting = {"a": "f", "b": "f", "c": "g"}

    messages = read_prompt([{"role": "user", "parts": results}], "gemini", clock=lambda: NOON, calls=waiting)

    assert [each.tool_call_id for each in messages[:3]] == ["a", "c", "b"]
    assert messages[3].tool_call_id not in waiting
    assert write_prompt(messages, "gemini") == [{"role": "user", "parts": results}]
    assert waiting == {"a": "f", "b": "f", "c": "g"}


def test_a_turn_of_geminis_may_come_in_pieces():
    """Calls in neighbouring contents wait together; those left open by an earlier turn wait no longer."""
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


# What is given ----------------------------------------------------------------------------------------------------


def test_gemini_is_read_in_camel_case_and_with_bytes():
    """The API's own spelling, urlsafe base64, fields that are None; keys of users stay."""
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
    """A reply is read as it came, whole or within a dict."""
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
    """A part of an unknown type is kept under its API's name, and is told of to others."""
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
    """Of a message of each role: it stays beside the message as it is stored, and no API is sent what none may take."""
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
    """Return a prompt as text, without the ids that were drawn."""
    return re.sub(r"call_[0-9a-zA-Z_-]{8,}", "drawn", str([prompt, prompt.system]))


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_stored_under_the_name_of_an_api_is_sent_as_far_as_it_is_known(format_):
    """Another release, or a program, may have stored more in the metadata: the API would refuse the whole prompt."""
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
    """Read messages are new ones."""
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
        ("gemini", {"role": "model", "parts": [{"functionCall": {}}]}, "items[1].parts[0].function_call.name"),
        (
            "gemini",
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": "x"}}]},
            "items[1].parts[0].function_response.response",
        ),
    ],
)
def test_what_is_not_of_the_format_is_refused_by_its_place(format_, item, place):
    """The error names the part, as the caller would write it."""
    text = [{"text": "x"}]
    first = {"gemini": {"role": "user", "parts": text}, "bedrock": {"role": "user", "content": text}}.get(format_, USER)

    with pytest.raises(InvalidValueError) as refused:
        read([first, item], format_)

    assert refused.value.path == place


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_nested_without_end_is_refused(format_):
    """A value that holds itself is an error of ours."""
    endless = []
    endless.append(endless)

    with pytest.raises(InvalidValueError, match="nested"):
        read([{"role": "user", "content": endless, "parts": endless}], format_)


def test_an_unknown_format_is_refused():
    """The error names those that there are."""
    with pytest.raises(InvalidValueError, match="'openai', 'responses', 'anthropic', 'gemini' or 'bedrock'"):
        write_prompt([], "mistral")
    with pytest.raises(InvalidValueError, match="'openai', 'responses', 'anthropic', 'gemini' or 'bedrock'"):
        read_prompt([], "mistral", clock=lambda: NOON)


@pytest.mark.parametrize("format_", FORMATS)
def test_no_messages_are_no_prompt(format_):
    """Nothing is made up."""
    written = write_prompt([], format_)

    assert written == []
    assert written.system is None


def test_a_format_is_imported_when_it_is_first_used_and_no_client_ever():
    """Who does not use a format does not pay for it."""
    run = "from pyai_sessions.prompts.formats import write_prompt; write_prompt([], 'gemini')"

    imported = imported_by(run)

    assert "pyai_sessions.prompts.formats.gemini" in imported
    assert not imported & {"pyai_sessions.prompts.formats.openai", "pyai_sessions.prompts.formats.anthropic"}
    assert not imported & {"openai", "anthropic", "google.genai", "pydantic", "httpx"}
