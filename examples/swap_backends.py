"""The same code on four mappings: only the line that opens the mapping changes.

    python swap_backends.py [redis://localhost:6379/0]

The url may also stand in REDIS_URL. Without one, Redis is left out.
"""

import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import diskcache
import redis
from sqlitedict import SqliteDict

from pyai_sessions import RedisMapping, SessionManager


def converse(mapping: MutableMapping[str, Any]) -> None:
    """Save a conversation in *mapping*, read it by another manager, and delete it."""
    with SessionManager(mapping) as manager:
        session = manager.create_session("ada", metadata={"title": "Tea"})
        session.add_message("user", "Is green tea stronger than black?")
        session.add_message("assistant", "It usually has less caffeine.")
        manager.save(session)

    with SessionManager(mapping) as manager:
        session = manager.get_session(session.session_id)
        title, count = session.metadata["title"], session.message_count
        print(f"{type(mapping).__name__:12} {title!r}, {count} messages, the last: {session.messages[-1].content}")
        manager.delete(session.session_id)


def main() -> None:
    """Converse on each mapping."""
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REDIS_URL")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        converse({})
        with SqliteDict(folder / "chat.db") as table:
            converse(table)
        index = diskcache.Index(str(folder / "chat"))
        converse(index)
        index.cache.close()
    if url is None:
        print("RedisMapping left out: give a url, redis://localhost:6379/0, as the argument or in REDIS_URL")
        return
    with redis.Redis.from_url(url, socket_timeout=10) as client:
        converse(RedisMapping(client, prefix="example:"))


main()
