"""Hypothesis strategies: any prompt of each API, and any conversation that a session holds."""

import base64
import copy
import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pyai_sessions import Message
from pyai_sessions.prompts.formats import Prompt
from tests.prompts.real import PDF, PNG

SHORT = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])

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
    """Return any prompt that Anthropic takes, as we write it."""
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
    """Return any contents that Gemini takes, as we write them."""
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
B_GIVEN = (
    B_TEXT
    | B_IMAGE
    | fixed(
        {"audio": {"format": "wav", "source": {"bytes": B_DATA}}},
        {"searchResult": {"source": "s", "title": "t", "content": [{"text": "x"}], "citations": {"enabled": True}}},
    )
)
B_DOCUMENT = fixed(
    {"format": "pdf", "source": {"bytes": base64.b64decode(PDF)}},
    {"format": "txt", "source": {"text": "x"}, "context": "y"},
    {"format": "md", "source": {"s3Location": {"uri": "s3://bucket/a.md"}}},
)
B_OWN = fixed(
    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": B_DATA}},
    {"citationsContent": {"content": [{"text": "x"}], "citations": []}},
)


@st.composite
def bedrock_prompts(draw):
    """Return any messages that Converse takes, as we write them."""
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
    """Return any messages that OpenAI takes, as we write them."""
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
    """Return any input that Responses takes, as we write it."""
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
    """Return messages of any content. A user begins each turn, and each call has a result."""
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
