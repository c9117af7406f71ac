"""A chat server: a session for each user, and answers that are streamed word by word. The agent is ELIZA, from nltk.

    python fastapi_chat.py        pip install fastapi uvicorn nltk
    curl -N localhost:8000/chat/ada --json '{"message": "I like trains."}'
    curl -N localhost:8000/chat/ada --json '{"message": "Why?"}' -H 'Accept: text/event-stream'
    curl localhost:8000/chats/ada                   a user's chats: the next page is ?cursor=<next_cursor>
    curl localhost:8000/chats/ada/ada?limit=20      the newest messages of one: to scroll up, ?before=<message_id>

SESSIONS names the store: sqlite:///chats.db where it is not set, or redis://localhost:6379. PORT is the port.
A message is stored before it is answered, an answer while it is streamed. Where the client goes away in the middle, the
model is stopped, and what it had said until then is stored with ``"cut_off": true``. Where the server dies, what it had
said is there after the next start: its ``growing_until`` has passed.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

try:
    import uvicorn
    from fastapi import Body, FastAPI, Header, HTTPException, Query
    from fastapi.responses import StreamingResponse
    from nltk.chat.eliza import eliza_chatbot
except ModuleNotFoundError as err:
    sys.exit(f"{err}; this example needs: pip install fastapi uvicorn nltk")

from pyai_sessions import AsyncSessionManager, MessagePage, SessionNotFoundError, SessionStateError, SummaryPage

Limit = Annotated[int, Query(ge=1, le=100)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one manager open as long as the server runs."""
    async with AsyncSessionManager(os.environ.get("SESSIONS", "sqlite:///chats.db")) as app.state.manager:
        yield


app = FastAPI(lifespan=lifespan)


async def ask_model(history: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield the answer to the last message of *history*, word by word, as a model's client does."""
    for n, word in enumerate(eliza_chatbot.respond(history[-1]["content"].rstrip("!.")).split()):
        await asyncio.sleep(0.02)
        yield f" {word}" if n else word


async def answer(session_id: str, history: list[dict[str, Any]]) -> AsyncIterator[str]:
    """Yield the model's answer, and store it while it grows, however that ends."""
    async with app.state.manager.stream(session_id) as stored:
        async for part in ask_model(history):
            await stored.write(part)
            yield part


async def events(parts: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield parts as Server-Sent Events, as a browser's EventSource reads them: JSON, then an event ``done``."""
    async with aclosing(parts):
        async for part in parts:
            yield f"data: {json.dumps(part)}\n\n"
        yield "event: done\ndata: null\n\n"


class Answer(StreamingResponse):
    """A response that ends its stream also when the client has gone."""

    async def __call__(self, *connection: Any) -> None:
        """Send the response."""
        async with aclosing(self.body_iterator):
            await super().__call__(*connection)


@app.post("/chat/{user_id}")
async def chat(
    user_id: str, message: Annotated[str, Body(embed=True)], accept: Annotated[str, Header()] = ""
) -> Answer:
    """Answer a message in the user's session; who the user is, a real server takes from the login."""
    manager = app.state.manager
    session = await manager.get_session(user_id, last=50, user_id=user_id)
    session = session or await manager.get_or_create_session(user_id, user_id)
    session.add_message("user", message)
    await manager.save(session)
    parts = answer(user_id, session.history(last=50))
    if "text/event-stream" in accept:
        return Answer(events(parts), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    return Answer(parts, media_type="text/plain; charset=utf-8")


@app.get("/chat/{user_id}")
async def history(user_id: str) -> list[dict[str, Any]]:
    """Return the user's messages so far."""
    session = await app.state.manager.get_session(user_id)
    return session.history() if session else []


@app.get("/chats/{user_id}")
async def chats(user_id: str, cursor: str | None = None, limit: Limit = 20) -> SummaryPage:
    """Return a page of the user's chats, the latest first, without reading a message."""
    page: SummaryPage = await app.state.manager.list_sessions(user_id, cursor=cursor, limit=limit)
    return page


@app.get("/chats/{user_id}/{session_id}")
async def messages(user_id: str, session_id: str, before: str | None = None, limit: Limit = 20) -> MessagePage:
    """Return the newest messages of a chat, or those that precede one: ``has_older`` tells whether to scroll on."""
    try:
        page: MessagePage = await app.state.manager.get_messages(
            session_id, before=before, limit=limit, user_id=user_id
        )
    except (SessionNotFoundError, SessionStateError) as err:  # another user's chat is as one that does not exist
        raise HTTPException(404, "There is no such chat, or no such message in it.") from err
    return page


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
