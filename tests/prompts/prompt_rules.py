"""The rules of the model APIs for the messages of a call: of order, roles, tool calls and their results.

Each check raises AssertionError with the rule that a prompt breaks. They know nothing of this library, and judge plain
dicts; a prompt's ``system``, where it has one, is judged with it. Types and fields are for the clients' own types.
"""

import re

_ID = re.compile(r"[a-zA-Z0-9_-]+")


def _rule(holds, rule, place):
    assert holds, f"{place}: {rule}"


def _check_names(names, longest):
    for place, name in names:
        _rule(_ID.fullmatch(name) and len(name) <= longest, f"a name is 1 to {longest} letters, digits, _ and -", place)


# OpenAI -----------------------------------------------------------------------------------------------------------


def check_openai(prompt):
    """Check the messages of a Chat Completions call: https://platform.openai.com/docs/api-reference/chat/create."""
    _rule(prompt, "there is a message", "prompt")
    open_calls = []
    for n, item in enumerate(prompt):
        if item["role"] == "tool":
            _rule(item["tool_call_id"] in open_calls, "a result follows its call, and is the only one", n)
            open_calls.remove(item["tool_call_id"])
        else:
            _rule(not open_calls, "each call is answered directly after it", n)
        _check_openai_item(item, n)
        if "tool_calls" in item:
            open_calls = [call["id"] for call in item["tool_calls"]]
            _rule(len(set(open_calls)) == len(open_calls), "calls of a message have ids of their own", n)
    _rule(not open_calls, "each call is answered directly after it", "end")


def _check_openai_item(item, place):
    role, content = item["role"], item.get("content")
    _rule(role in ("system", "developer", "user", "assistant", "tool"), "the API knows the role", place)
    _rule(role == "assistant" or content is not None, "only an assistant's message is without content", place)
    said = content is not None or {"tool_calls", "refusal", "audio"} & item.keys()
    _rule(said, "an assistant's message says or calls something", place)
    _rule(content != [], "a list of parts has some", place)
    kinds = {
        "user": {"text", "image_url", "input_audio", "file"},
        "assistant": {"text", "refusal"},
    }.get(role, {"text"})
    for part in content if isinstance(content, list) else ():
        _rule(part["type"] in kinds, f"a part of this role is one of {sorted(kinds)}", place)
    if "name" in item:
        _rule(re.fullmatch(r"[^\s<|\\/>]{1,64}", item["name"]), "a name has no spaces, 64 characters at most", place)
    if "tool_calls" in item:
        _rule(role == "assistant" and item["tool_calls"], "calls are the assistant's, one or more", place)
    for call in item.get("tool_calls", ()):
        _rule(1 <= len(call["id"]) <= 40, "the id of a call is 1 to 40 characters", place)
        _check_names([(place, call[call["type"]]["name"])], 64)


# Anthropic --------------------------------------------------------------------------------------------------------


def check_anthropic(prompt):
    """Check the messages and the system text of a Messages call: https://platform.claude.com/docs/en/api/messages."""
    _rule(prompt, "there is a message", "prompt")
    _rule(prompt[0]["role"] == "user", "the first message is a user's", 0)
    system = getattr(prompt, "system", None)
    if system is not None:
        _check_blocks({"role": "system", "content": system}, "system")
    roles = [item["role"] for item in prompt]
    used, open_calls = set(), set()
    for n, item in enumerate(prompt):
        role = item["role"]
        _rule(role in ("user", "assistant", "system"), "the API knows the role", n)
        if role == "system":
            _rule(roles[n - 1] == "user", "a system message follows a user's", n)
            _rule(roles[n + 1 : n + 2] in ([], ["assistant"]), "a system message is last, or the assistant is next", n)
        else:
            _rule(n == 0 or roles[n - 1] != role, "user and assistant alternate", n)
        blocks = _check_blocks(item, n)
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        _rule(len(set(results)) == len(results), "a call has one result", n)
        _rule(set(results) >= open_calls, "each call is answered directly after it", n)
        _rule(set(results) <= open_calls, "a result directly follows its call", n)
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        _rule(len(set(calls)) == len(calls) and not used & set(calls), "each call has an id of its own", n)
        open_calls = set(calls)
        used |= open_calls
    _rule(not open_calls, "each call is answered directly after it", "end")


def _check_blocks(item, place):
    content = item["content"]
    if isinstance(content, str):
        _rule(content.strip(), "text is not blank", place)
        return []
    _rule(content, "a list of blocks has some", place)
    kinds = [block["type"] for block in content]
    for block in content:
        _check_block(block, place)
    if item["role"] == "system":
        _rule(set(kinds) == {"text"}, "system blocks are text", place)
    if item["role"] == "assistant":
        refused = {"image", "document", "tool_result", "search_result"}
        _rule(not refused & set(kinds), "an assistant's message has no images, documents, results", place)
    if item["role"] == "user":
        refused = {"thinking", "redacted_thinking", "tool_use", "server_tool_use"}
        _rule(not refused & set(kinds), "a user's message has no thinking and no calls", place)
        ranks = [kind != "tool_result" for kind in kinds]
        _rule(ranks == sorted(ranks), "results come first", place)
    return content


def _check_block(block, place):
    if block["type"] == "text":
        _rule(block["text"].strip(), "text is not blank", place)
    if block["type"] == "tool_use":
        _check_names([(place, block["name"]), (place, block["id"])], 128)
        _rule(isinstance(block["input"], dict), "the input of a call is an object", place)
    if block["type"] == "tool_result" and isinstance(block.get("content"), list):
        for each in block["content"]:
            _rule(each["type"] != "tool_use", "a result holds no calls", place)
            _check_block(each, place)


# Gemini -----------------------------------------------------------------------------------------------------------

_GEMINI_DATA = {
    "text", "inline_data", "file_data", "function_call", "function_response", "executable_code",
    "code_execution_result", "tool_call", "tool_response",
}  # fmt: skip


def check_gemini(prompt):
    """Check the contents of a call and its system instruction: https://ai.google.dev/api/caching#Content."""
    _rule(prompt, "there is a content", "prompt")
    _rule(prompt[0]["role"] == "user", "the first content is the user's", 0)
    system = getattr(prompt, "system", None)
    if system is not None:
        _check_gemini_parts(system["parts"], "system")
        _rule(all("text" in part for part in system["parts"]), "a system instruction is text", "system")
    open_calls = []
    for n, item in enumerate(prompt):
        _rule(item["role"] in ("user", "model"), "the API knows the role", n)
        _rule(n == 0 or prompt[n - 1]["role"] != item["role"], "user and model alternate", n)
        parts = item["parts"]
        _check_gemini_parts(parts, n)
        results = [part["function_response"] for part in parts if "function_response" in part]
        _rule(len(results) == len(open_calls), "there are as many results as calls just before", n)
        _check_gemini_results(open_calls, results, n)
        open_calls = [part["function_call"] for part in parts if "function_call" in part]
        _rule(item["role"] == "model" or not open_calls, "calls are the model's", n)
        _rule(item["role"] == "user" or not results, "results are the user's", n)
        ranks = ["function_response" not in part for part in parts]
        _rule(ranks == sorted(ranks), "results come first", n)
    _rule(not open_calls, "each call is answered directly after it", "end")


def _check_gemini_parts(parts, place):
    _rule(parts, "a content has parts", place)
    for part in parts:
        _rule(len(_GEMINI_DATA & part.keys()) == 1, "a part holds one thing", place)
        _rule(part.get("text") != "" or "thought_signature" in part, "text is not empty", place)
        for kind, key in (("function_call", "args"), ("function_response", "response")):
            if kind in part:
                _rule(part[kind].get("name"), "a function has a name", place)
                _rule(isinstance(part[kind][key], dict), f"{key} is an object", place)


def _check_gemini_results(calls, results, place):
    left = list(calls)
    for result in results:
        found = next((call for call in left if _answers(result, call)), None)
        _rule(found is not None, "a result has the name of a call, and its id where it has one", place)
        left.remove(found)


def _answers(result, call):
    return result["name"] == call["name"] and result.get("id") == call.get("id")


# Bedrock ----------------------------------------------------------------------------------------------------------

_BEDROCK_KINDS = {
    "system": {"text", "guardContent", "cachePoint"},
    "user": {"text", "image", "document", "video", "audio", "guardContent", "cachePoint", "toolResult", "searchResult"},
    "assistant": {"text", "toolUse", "cachePoint", "reasoningContent", "citationsContent"},
    "result": {"text", "json", "image", "document", "video", "searchResult"},
}


def check_bedrock(prompt):
    """Check the messages and the system text of a call of Converse.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
    """
    _rule(prompt, "there is a message", "prompt")
    _rule(prompt[0]["role"] == "user", "the first message is a user's", 0)
    if getattr(prompt, "system", None) is not None:
        _check_bedrock_blocks(prompt.system, "system", "system")
    used, open_calls, names = set(), [], []
    for n, item in enumerate(prompt):
        role, blocks = item["role"], item["content"]
        _rule(role in ("user", "assistant"), "the API knows the role", n)
        _rule(n == 0 or prompt[n - 1]["role"] != role, "user and assistant alternate", n)
        _check_bedrock_blocks(blocks, role, n)
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        answered = sorted(each["toolUseId"] for each in results)
        _rule(answered == sorted(open_calls), "each call is answered once, directly after it", n)
        ranks = ["toolResult" not in block for block in blocks]
        _rule(ranks == sorted(ranks), "results come first", n)
        for each in results:
            if each["content"]:
                _check_bedrock_blocks(each["content"], "result", n)
        calls = [block["toolUse"] for block in blocks if "toolUse" in block]
        _check_names([(n, each[key]) for each in calls for key in ("name", "toolUseId")], 64)
        open_calls = [each["toolUseId"] for each in calls]
        _rule(len({*open_calls}) == len(open_calls) and not used & {*open_calls}, "each call has an id of its own", n)
        used |= {*open_calls}
        every = [*blocks, *(block for each in results for block in each["content"])]
        names += [block["document"]["name"] for block in every if "document" in block]
        for name in names:
            _rule(re.fullmatch(r"(?!.*\s\s)[\w\s()\[\]-]{1,200}", name), "a document's name has few characters", n)
        beside = any("text" in block for block in blocks) or not any("document" in block for block in blocks)
        _rule(beside, "a document has a text beside it", n)
    _rule(not open_calls, "each call is answered once, directly after it", "end")
    _rule(len({*names}) == len(names), "each document has a name of its own", "prompt")


def _check_bedrock_blocks(blocks, kind, place):
    _rule(blocks, "a content has blocks", place)
    for block in blocks:
        _rule(len(block) == 1, "a block holds one thing", place)
        _rule(
            block.keys() <= _BEDROCK_KINDS[kind], f"a block of {kind} is one of {sorted(_BEDROCK_KINDS[kind])}", place
        )
        _rule(block.get("text", "x").strip(), "text is not blank", place)


# OpenAI's Responses -----------------------------------------------------------------------------------------------

_INPUT_PARTS = {"input_text", "input_image", "input_file"}


def check_responses(prompt):
    """Check the input of a call of Responses: https://platform.openai.com/docs/api-reference/responses/create."""
    _rule(prompt, "there is an item", "prompt")
    called, answered = {}, set()
    for n, item in enumerate(prompt):
        kind = item.get("type", "message")
        if kind in ("function_call", "custom_tool_call"):
            _rule(1 <= len(item["call_id"]) <= 64, "the id of a call is 1 to 64 characters", n)
            _check_names([(n, item["name"])], 64)
            _rule(item["call_id"] not in called, "each call has an id of its own", n)
            called[item["call_id"]] = f"{kind}_output"
        elif kind in ("function_call_output", "custom_tool_call_output"):
            _rule(called.get(item["call_id"]) == kind, "an output follows a call of its kind", n)
            _rule(item["call_id"] not in answered, "a call has one output", n)
            answered.add(item["call_id"])
            _check_responses_content(item["output"], _INPUT_PARTS, n)
        elif kind == "message":
            _check_responses_message(item, n)
        elif kind == "reasoning":
            follows = prompt[n + 1] if n + 1 < len(prompt) else {}
            models = follows.get("role") == "assistant" or not follows.get("type", "_output").endswith("_output")
            _rule(models, "reasoning is followed by what it led to", n)
    _rule(answered == {*called}, "each call has an output", "end")


def _check_responses_message(item, place):
    role, content = item["role"], item["content"]
    _rule(role in ("system", "developer", "user", "assistant"), "the API knows the role", place)
    if role == "assistant":
        _rule("id" in item or isinstance(content, str), "an assistant's message without an id is text", place)
    kinds = {"user": _INPUT_PARTS, "assistant": {"output_text", "refusal"}}.get(role, {"input_text"})
    _check_responses_content(content, kinds, place)
    _rule(role != "user" or content, "a user's message says something", place)


def _check_responses_content(content, kinds, place):
    _rule(content != [], "a list of parts has some", place)
    for part in content if isinstance(content, list) else ():
        _rule(part["type"] in kinds, f"a part is one of {sorted(kinds)}", place)
