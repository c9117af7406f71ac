"""A turn of a ChatKit server with scripted answers and a tool of the client, in a process of its own.

python -m tests.integrations.frameworks.chatkit_chat URL QUESTION

Prints as JSON the types of the items that the server answered to, and the id of the thread.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timezone
from typing import Any

from chatkit.server import ChatKitServer
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ClientToolCallItem, ThreadItemDoneEvent

from pyai_sessions import AsyncSessionManager
from pyai_sessions.integrations.chatkit import ChatKitStore


class Server(ChatKitServer[str]):
    """A server that asks the client for the temperature, and says what it was told. *seen* are the items before."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.seen: list[str] = []

    async def respond(self, thread: Any, item: Any, context: str) -> Any:
        """Yield the call of the tool, or the answer after its result."""
        page = await self.store.load_thread_items(thread.id, None, 100, "asc", context)
        self.seen = [each.type for each in page.data]
        new = {"thread_id": thread.id, "created_at": datetime.now(timezone.utc)}
        last = page.data[-1]
        if last.type == "client_tool_call":
            text = AssistantMessageContent(text=f"It has {last.output}.")
            made: Any = AssistantMessageItem(
                id=self.store.generate_item_id("message", thread, context), content=[text], **new
            )
        else:
            call = {"call_id": f"c{len(self.seen)}", "name": "temperature", "arguments": {"city": "Oslo"}}
            made = ClientToolCallItem(id=self.store.generate_item_id("tool_call", thread, context), **call, **new)
        yield ThreadItemDoneEvent(item=made)


async def ask(server: Server, kind: str, **params: Any) -> list[dict[str, Any]]:
    """Make a request, and return the events of its answer."""
    result = await server.process(json.dumps({"type": kind, "params": params}), "ada")
    return [json.loads(each.removeprefix(b"data: ")) async for each in result]  # type: ignore[union-attr]


async def chat(url: str, question: str) -> dict[str, Any]:
    """Ask one question in the user's newest thread, or in a new one, and answer the call of the tool."""
    async with AsyncSessionManager(url) as manager:
        server = Server(ChatKitStore(manager, user_of=lambda context: context))
        content = [{"type": "input_text", "text": question}]
        given = {"content": content, "attachments": [], "inference_options": {}}
        threads = (await server.store.load_threads(1, None, "desc", "ada")).data
        if threads:
            thread_id = threads[0].id
            await ask(server, "threads.add_user_message", thread_id=thread_id, input=given)
        else:
            events = await ask(server, "threads.create", input=given)
            thread_id = next(each["thread"]["id"] for each in events if each["type"] == "thread.created")
        await ask(server, "threads.add_client_tool_output", thread_id=thread_id, result="21 degrees")
        return {"thread": thread_id, "seen": server.seen}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(chat(*sys.argv[1:]))))  # noqa: T201
