"""Chat with an agent (see agents.py). Every message is saved, and the next start goes on where this one stopped.

python chat.py [--db chat.db] [--user ada] [--session chat-ada] [FILE]     FILE holds a message a line; or type them
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agents import run_agent

from pyai_sessions import Session, SessionManager, SQLiteSessionStore

Agent = Callable[[list[dict[str, Any]]], str]


def chat(manager: SessionManager, session: Session, text: str, agent: Agent = run_agent) -> None:
    """Store a message, answer it, and store the answer."""
    session.add_message("user", text)
    manager.save(session)  # now, so that the message is stored whatever becomes of the answer
    answer(manager, session, agent)


def answer(manager: SessionManager, session: Session, agent: Agent = run_agent) -> None:
    """Answer the last message, and store the answer."""
    session.add_message("assistant", agent(session.history(last=50)))
    manager.save(session)


def resume(manager: SessionManager, session: Session) -> None:
    """Print the conversation so far, and answer a last message that has no answer."""
    print(f"Resumed: {session.message_count} messages, the last at {session.updated_at:%Y-%m-%d %H:%M:%S} UTC")
    for message in session.messages:
        print(f"{message.role}: {message.content}")
    if session.messages[-1].role == "user":
        answer(manager, session)


def read_messages(file: Path | None) -> Iterator[str]:
    """Yield the lines of the file, or of standard input until Ctrl-D; print those that nobody typed."""
    if file is None and sys.stdin.isatty():
        while True:
            yield input("user: ").strip()
    for line in filter(str.strip, file.read_text("utf-8").splitlines() if file else sys.stdin):
        print(f"user: {line.strip()}")
        yield line.strip()


def main(options: argparse.Namespace) -> None:
    """Go on with the conversation."""
    with SessionManager(SQLiteSessionStore(options.db), close_store=True) as manager:
        session = manager.get_or_create_session(options.session or f"chat-{options.user}", options.user)
        if session.messages:
            resume(manager, session)
        for text in filter(None, read_messages(options.file)):
            chat(manager, session, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", default="chat.db")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--session")
    parser.add_argument("file", nargs="?", type=Path)
    try:
        main(parser.parse_args())
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
        print()
