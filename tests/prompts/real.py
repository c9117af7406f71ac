"""One conversation with calls of tools, as each API has it."""

import base64

from pyai_sessions.prompts.formats import Prompt

PNG = "iVBORw0KGgo="
PDF = "JVBERi0xLjQK"

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
