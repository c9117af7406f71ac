"""Chat with an agent (see agents.py). Every turn is saved, and the next start goes on where this one stopped.

python chat.py [--db chat.db] [--user ada] [FILE]     FILE holds a message a line; without it, type them
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

from agents import run_agent

from pyai_sessions import SessionManager, SQLiteSessionStore

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--db", default="chat.db")
parser.add_argument("--user", default="ada")
parser.add_argument("file", nargs="?", type=Path)
options = parser.parse_args()
manager = SessionManager(store=SQLiteSessionStore(options.db))


async def chat(user_id: str, message: str) -> str:
    """Answer a message in the user's latest session, or in a new one, and save both."""
    sessions = manager.get_sessions_for_user(user_id, limit=1)
    session = sessions[0] if sessions else manager.create_session(user_id, metadata={"title": message[:40]})
    answer = await run_agent([*session.history(), {"role": "user", "content": message}])
    session.add_message("user", message)
    session.add_message("assistant", answer)
    manager.save(session)
    return answer


def read_messages() -> Iterator[str]:
    """Yield the lines of the file, or of standard input until Ctrl-D; print those that nobody typed."""
    if options.file is None and sys.stdin.isatty():
        while True:
            yield input("user: ")
    for line in filter(str.strip, options.file.read_text("utf-8").splitlines() if options.file else sys.stdin):
        print(f"user: {line.strip()}")
        yield line.strip()


async def main() -> None:
    """Print the conversation so far, then go on with it."""
    for session in manager.get_sessions_for_user(options.user, limit=1):
        print(f"Resumed: {session.message_count} messages, the last at {session.updated_at:%Y-%m-%d %H:%M:%S} UTC")
        for message in session.messages:
            print(f"{message.role}: {message.content}")
    for message in filter(None, read_messages()):
        await chat(options.user, message)


try:
    asyncio.run(main())
except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
    print()
