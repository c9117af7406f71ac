"""A turn of the Claude Agent SDK, with its own CLI and a scripted model, in a process of its own.

python -m tests.integrations.frameworks.claude_agent_sdk_chat URL FOLDER QUESTION [SESSION_ID]

FOLDER is the CLI's working folder. The CLI asks a server of this process, on the loopback interface, for the model's
words. It prints as JSON the messages of each request, the answer, the id of the session, and the stored entries.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ResultMessage,
    create_sdk_mcp_server,
    project_key_for_directory,
    query,
    tool,
)

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.claude_agent_sdk import ClaudeSessionStore

requests: list[Any] = []


class Model(BaseHTTPRequestHandler):
    """Answers as the Messages API does: it asks for the weather, and then says what it was told."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Return the call of the tool, or the answer after its result, as a stream of events."""
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.startswith("/v1/messages?") or not given.get("stream"):
            self.send_error(404)
            return
        requests.append(given["messages"])
        blocks = [each for each in given["messages"][-1]["content"] if isinstance(each, dict)]
        result = next((each for each in blocks if each["type"] == "tool_result"), None)
        turn = sum(each["role"] == "assistant" for each in given["messages"])
        if result is None:
            start = {"type": "tool_use", "id": f"toolu_{turn}", "name": "mcp__w__weather", "input": {}}
            delta = {"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'}
        else:
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": f"It has {result['content'][0]['text']}."}
        reason = "tool_use" if result is None else "end_turn"
        usage = {"input_tokens": 1, "output_tokens": 1}
        message = {"id": f"msg_{turn}", "type": "message", "role": "assistant", "model": given["model"], "content": []}
        events = [
            {
                "type": "message_start",
                "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage},
            },
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
            {"type": "message_stop"},
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for each in events:
            self.wfile.write(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode())


@tool("weather", "Return the temperature in a city.", {"city": str})
async def weather(given: dict[str, Any]) -> dict[str, Any]:
    """Return the temperature in a city."""
    return {"content": [{"type": "text", "text": f"21 degrees in {given['city']}"}]}


async def chat(url: str, folder: str, question: str, session_id: str | None = None) -> dict[str, Any]:
    """Ask the agent one question."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = tempfile.mkdtemp()  # it holds nothing of earlier processes
    async with AsyncSessionManager(url) as manager:
        store = ClaudeSessionStore(manager, user_id="ada")
        options = ClaudeAgentOptions(
            session_store=store,
            resume=session_id,
            model="claude-sonnet-4-5",
            cwd=folder,
            setting_sources=[],
            mcp_servers={"w": create_sdk_mcp_server("w", tools=[weather])},
            allowed_tools=["mcp__w__weather"],
            env={
                "HOME": home,
                "CLAUDE_CONFIG_DIR": home,
                "ANTHROPIC_API_KEY": "none",
                "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            },
        )
        async for message in query(prompt=question, options=options):
            if isinstance(message, ResultMessage):
                answer, session_id = message.result, message.session_id
        entries = await store.load({"project_key": project_key_for_directory(folder), "session_id": session_id})
    server.shutdown()
    return {"answer": answer, "requests": requests, "session_id": session_id, "entries": entries}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
