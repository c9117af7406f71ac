"""What users write, as a type checker sees it: each name and each call here is right, and has a type."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pyai_sessions
from pyai_sessions import *  # noqa: F403
from pyai_sessions import (
    AsyncSessionManager,
    DiskCacheSessionStore,
    Encrypted,
    KVSessionStore,
    Limits,
    MemorySessionStore,
    Message,
    RedisMapping,
    RedisSessionStore,
    Session,
    SessionError,
    SessionManager,
    SessionStore,
    SQLiteMapping,
    SQLiteSessionStore,
    open_store,
)


class Rows(SessionStore):
    """A store of four methods."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def save(self, session: Session) -> None:
        self.rows[session.session_id] = session.to_json()

    def get(self, session_id: str) -> Session | None:
        row = self.rows.get(session_id)
        return None if row is None else Session.from_json(row)

    def delete(self, session_id: str) -> None:
        self.rows.pop(session_id, None)

    def list_for_user(self, user_id: str) -> list[Session]:
        return [each for each in map(Session.from_json, self.rows.values()) if each.user_id == user_id]


def converse(manager: SessionManager) -> int:
    session: Session = manager.create_session("ada", metadata={"title": "Tea"}, state={"turns": 0})
    message: Message = session.add_message("user", "Hello!", metadata={"channel": "web"})
    session.set_state("turns", 1)
    manager.save(session)
    manager.append(session.session_id, {"role": "assistant", "content": "Hi!"}, user_id="ada")
    found: Session | None = manager.get_session(session.session_id, last=50, user_id="ada")
    assert found is not None
    history: list[dict[str, Any]] = found.history(last=50, max_tokens=1000, format="openai")
    when: datetime = found.updated_at
    ids: list[str] = [each.session_id for each in manager.list_sessions("ada", limit=20)]
    fork: Session = manager.fork(found.session_id, at=1)
    print(pyai_sessions.__version__.upper(), message.role, when.isoformat(), ids, fork.parent, manager.count("ada"))
    texts: list[str] = [Message.from_json(each.to_json()).role for each in found.messages]
    texts += [each.name for each in found.checkpoints] + [each.branch_id for each in found.branches]
    try:
        manager.save(session, on_conflict="error")
    except SessionError as error:
        print(str(error))
    return len(history)


async def converse_async(manager: AsyncSessionManager) -> int:
    session: Session = await manager.get_or_create_session("sess_1", "ada")
    session.add_message("user", "Hello!")
    await manager.save(session)
    found: Session | None = await manager.get_session(session.session_id, last=50)
    return await manager.count("ada") + (0 if found is None else found.message_count)


def main(folder: str) -> None:
    """Run on each store that needs no server."""
    stores: list[SessionStore] = [
        MemorySessionStore(),
        SQLiteSessionStore(f"{folder}/sessions.db", synchronous="NORMAL", limits=Limits(message_bytes=4096)),
        DiskCacheSessionStore(f"{folder}/sessions", ttl=86400),
        open_store("memory://"),
        KVSessionStore({}, namespace="acme"),
        Rows(),
    ]
    for store in stores:
        with SessionManager(store) as manager:
            print(converse(manager))
    asyncio.run(converse_async(AsyncSessionManager()))
    RedisSessionStore("redis://localhost:6379", prefix="app:", ttl=60).close()


def encrypt(keys: dict[str, bytes], client: Any) -> tuple[Encrypted, Encrypted]:
    return Encrypted(SQLiteMapping("sessions.db"), keys), Encrypted(RedisMapping(client), keys, compress=True)


if __name__ == "__main__":
    main(".")
