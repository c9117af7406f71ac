"""Tests of the rules for prompts: each broken rule is reported."""

import pytest

from tests.prompts.prompt_rules import check_anthropic, check_bedrock, check_gemini, check_openai, check_responses


class Prompt(list):
    """A prompt with a system text beside it."""

    def __init__(self, items, system):
        super().__init__(items)
        self.system = system


def user(content="x"):
    return {"role": "user", "content": content}


def said(content="y"):
    return {"role": "assistant", "content": content}


# OpenAI -----------------------------------------------------------------------------------------------------------


def asked(*ids, name="f"):
    function = {"name": name, "arguments": "{}"}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": each, "type": "function", "function": function} for each in ids],
    }


def answer(call_id, content="1"):
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_what_openai_takes_passes():
    """Valid: system messages anywhere, the assistant first, parallel calls answered in any order."""
    system = {"role": "system", "content": "s"}

    check_openai([said(), user()])
    check_openai([system, user(), asked("a", "b"), answer("b"), answer("a"), system, said(), user([{"type": "text"}])])


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        ([], "there is a message"),
        ([user(), {"role": "critic", "content": "x"}], "knows the role"),
        ([user(), asked("a"), user()], "answered directly"),
        ([user(), asked("a", "b"), answer("a")], "answered directly"),
        ([user(), answer("a")], "follows its call"),
        ([user(), asked("a"), answer("a"), answer("a")], "only one"),
        ([user(), asked("a", "a"), answer("a")], "ids of their own"),
        ([user(None)], "without content"),
        ([user([])], "has some"),
        ([user(), said(None)], "says or calls"),
        ([user(), {**said(), "tool_calls": []}], "one or more"),
        ([user(), said([{"type": "image_url"}])], "part of this role"),
        ([{**user(), "name": "Ada L"}], "no spaces"),
        ([user(), asked("a" * 41), answer("a" * 41)], "40 characters"),
        ([user(), asked("a", name="a.b"), answer("a")], "letters, digits"),
    ],
)
def test_what_breaks_openais_rules_is_told(items, rule):
    """The error names the broken rule."""
    with pytest.raises(AssertionError, match=rule):
        check_openai(items)


# Anthropic --------------------------------------------------------------------------------------------------------


def use(call_id, **changes):
    return {"type": "tool_use", "id": call_id, "name": "f", "input": {}, **changes}


def result(call_id, **changes):
    return {"type": "tool_result", "tool_use_id": call_id, **changes}


TEXT = {"type": "text", "text": "x"}
SYSTEM = {"role": "system", "content": "s"}


def test_what_anthropic_takes_passes():
    """Valid: results in any order, text after them, a system message before the assistant's."""
    items = [user(), said([TEXT, use("a"), use("b")]), user([result("b"), result("a"), TEXT]), SYSTEM, said(), user()]

    check_anthropic(Prompt(items, [TEXT]))


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        ([], "there is a message"),
        ([said()], "first message"),
        (Prompt([user()], " "), "not blank"),
        (Prompt([user()], []), "has some"),
        ([user(), {"role": "tool", "content": "x"}], "knows the role"),
        ([user(), user()], "alternate"),
        ([user(), said(), SYSTEM], "follows a user's"),
        ([user(), SYSTEM, user()], "the assistant is next"),
        ([user(" ")], "not blank"),
        ([user([])], "has some"),
        ([user([{"type": "text", "text": "\n"}])], "not blank"),
        ([user(), said([use("a")])], "answered directly"),
        ([user(), said([use("a")]), user()], "answered directly"),
        ([user(), said([use("a")]), SYSTEM, user([result("a")])], "follows a user's"),
        ([user(), said(), user([result("a")])], "follows its call"),
        ([user(), said([use("a")]), user([result("a"), result("a")])], "one result"),
        ([user(), said([use("a"), use("a")]), user([result("a")])], "id of its own"),
        ([user(), said([use("a")]), user([result("a")]), said([use("a")]), user([result("a")])], "id of its own"),
        ([user(), said([use("a")]), user([TEXT, result("a")])], "results come first"),
        ([user(), said([use("a", input="{}")]), user([result("a")])], "an object"),
        ([user(), said([use("a.b")]), user([result("a.b")])], "letters, digits"),
        ([user(), said([use("a")]), user([result("a", content=[{"type": "text", "text": ""}])])], "not blank"),
        ([user([{"type": "thinking"}])], "no thinking"),
        ([user(), said([{"type": "image"}])], "no images"),
    ],
)
def test_what_breaks_anthropics_rules_is_told(items, rule):
    """The error names the broken rule."""
    with pytest.raises(AssertionError, match=rule):
        check_anthropic(items)


# Gemini -----------------------------------------------------------------------------------------------------------


def content(role, *parts):
    return {"role": role, "parts": list(parts)}


def call(name="f", **changes):
    return {"function_call": {"name": name, "args": {}, **changes}}


def response(name="f", **changes):
    return {"function_response": {"name": name, "response": {}, **changes}}


X = {"text": "x"}
ASKS = content("user", X)


def test_what_gemini_takes_passes():
    """Valid: results by name or id, text after them, an empty text with a signature."""
    items = [
        ASKS,
        content("model", X, call(), call("g", id="1")),
        content("user", response("g", id="1"), response(), X),
        content("model", {"text": "", "thought_signature": "s"}),
    ]

    check_gemini(Prompt(items, {"parts": [X]}))


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        ([], "there is a content"),
        ([content("model", X)], "first content"),
        (Prompt([ASKS], {"parts": []}), "has parts"),
        (Prompt([ASKS], {"parts": [{"inline_data": {}}]}), "is text"),
        ([ASKS, content("assistant", X)], "knows the role"),
        ([ASKS, ASKS], "alternate"),
        ([content("user")], "has parts"),
        ([content("user", {"text": ""})], "not empty"),
        ([content("user", {"text": "x", "inline_data": {}})], "one thing"),
        ([content("user", {"type": "text"})], "one thing"),
        ([content("user", call())], "calls are the model's"),
        ([ASKS, content("model", call())], "answered directly"),
        ([ASKS, content("model", call()), ASKS], "as many results"),
        ([ASKS, content("model", X), content("user", response())], "as many results"),
        ([ASKS, content("model", call()), content("user", response(), response())], "as many results"),
        ([ASKS, content("model", call()), content("user", response("g"))], "name of a call"),
        ([ASKS, content("model", call(id="1")), content("user", response())], "its id"),
        ([ASKS, content("model", call()), content("user", X, response())], "results come first"),
        ([ASKS, content("model", call(args="{}")), content("user", response())], "an object"),
        ([ASKS, content("model", call("")), content("user", response(""))], "has a name"),
    ],
)
def test_what_breaks_geminis_rules_is_told(items, rule):
    """The error names the broken rule."""
    with pytest.raises(AssertionError, match=rule):
        check_gemini(items)


# Bedrock ----------------------------------------------------------------------------------------------------------


def tool_use(call_id, name="f"):
    return {"toolUse": {"toolUseId": call_id, "name": name, "input": {}}}


def tool_result(call_id, *content):
    return {"toolResult": {"toolUseId": call_id, "content": list(content)}}


def document(name):
    return {"document": {"format": "pdf", "name": name, "source": {"bytes": b"x"}}}


def test_what_bedrock_takes_passes():
    """Valid: results in any order, text after them, a document beside a text, a cache point in the system text."""
    items = [
        user([X, document("a (1)")]),
        said([tool_use("a"), X, tool_use("b")]),
        user([tool_result("b", {"json": {}}), tool_result("a"), X]),
        said([{"reasoningContent": {}}, X]),
    ]

    check_bedrock(Prompt(items, [X, {"cachePoint": {"type": "default"}}]))


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        ([], "there is a message"),
        ([said([X])], "first message"),
        (Prompt([user([X])], []), "has blocks"),
        (Prompt([user([X])], [{"image": {}}]), "a block of system"),
        ([user([X]), {"role": "system", "content": [X]}], "knows the role"),
        ([user([X]), user([X])], "alternate"),
        ([user([])], "has blocks"),
        ([user([{"text": " "}])], "not blank"),
        ([user([{"text": "x", "image": {}}])], "one thing"),
        ([user([tool_use("a")])], "a block of user"),
        ([user([X]), said([{"image": {}}])], "a block of assistant"),
        ([user([X]), said([tool_use("a")])], "directly after"),
        ([user([X]), said([tool_use("a")]), user([X])], "directly after"),
        ([user([X]), said([X]), user([tool_result("a")])], "directly after"),
        ([user([X]), said([tool_use("a")]), user([tool_result("a"), tool_result("a")])], "answered once"),
        ([user([X]), said([tool_use("a")]), user([X, tool_result("a")])], "results come first"),
        ([user([X]), said([tool_use("a")]), user([tool_result("a", tool_use("b"))])], "a block of result"),
        ([user([X]), said([tool_use("a.b")]), user([tool_result("a.b")])], "letters, digits"),
        ([user([X]), said([tool_use("a"), tool_use("a")]), user([tool_result("a"), tool_result("a")])], "of its own"),
        ([user([document("a")])], "a text beside"),
        ([user([X, document("a.pdf")])], "few characters"),
        ([user([X, document("a"), document("a")])], "name of its own"),
    ],
)
def test_what_breaks_bedrocks_rules_is_told(items, rule):
    """The error names the broken rule."""
    with pytest.raises(AssertionError, match=rule):
        check_bedrock(items)


# OpenAI's Responses -----------------------------------------------------------------------------------------------

REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def called(call_id, name="f", kind="function_call"):
    return {"type": kind, "call_id": call_id, "name": name}


def output(call_id, kind="function_call_output", **changes):
    return {"type": kind, "call_id": call_id, "output": "1", **changes}


def test_what_responses_take_passes():
    """Valid: reasoning before a call or text, outputs in any order, the assistant first."""
    output_message = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text"}]}
    items = [REASONING, output_message, called("a"), called("b"), output("b"), output("a"), REASONING, said(), user()]

    check_responses(items)


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        ([], "there is an item"),
        ([{"role": "critic", "content": "x"}], "knows the role"),
        ([called("a")], "has an output"),
        ([output("a")], "follows a call"),
        ([called("a"), output("a", "custom_tool_call_output")], "of its kind"),
        ([called("a"), output("a"), output("a")], "one output"),
        ([called("a"), output("a"), called("a"), output("a")], "id of its own"),
        ([called("a" * 65)], "64 characters"),
        ([called("a", "f.g"), output("a")], "letters, digits"),
        ([user(), REASONING], "what it led to"),
        ([REASONING, user()], "what it led to"),
        ([REASONING, output("a")], "what it led to"),
        ([user([])], "has some"),
        ([user("")], "says something"),
        ([user([{"type": "text", "text": "x"}])], "a part is one of"),
        ([said([{"type": "output_text"}])], "without an id is text"),
        ([called("a"), output("a", output=[{"type": "text"}])], "a part is one of"),
    ],
)
def test_what_breaks_the_rules_of_responses_is_told(items, rule):
    """The error names the broken rule."""
    with pytest.raises(AssertionError, match=rule):
        check_responses(items)
