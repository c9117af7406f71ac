"""Run by `make demo`: a chat whose first process is killed in the middle of an answer; a second one goes on."""

import os
import signal
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

from agents import ask_eliza
from chat import answer, chat

from pyai_sessions import SessionManager, SQLiteSessionStore

HERE = Path(__file__).parent
LINES = HERE.joinpath("conversation.txt").read_text("utf-8").splitlines()
DB = "demo.db"


def be_killed(history: list[dict[str, Any]]) -> NoReturn:
    """Be an agent whose process is killed in the middle of its answer."""
    words = "".join(ask_eliza(history)).split()
    print("assistant:", *words[: len(words) // 2], "...", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("a killed process went on")


def talk(session_id: str, lines: list[str], *, dies: bool) -> None:
    """Go on with a chat, in a process of its own, which *dies* while it answers the last line."""
    with SessionManager(SQLiteSessionStore(DB), close_store=True) as manager:
        session = manager.get_or_create_session(session_id, "ada")
        if session.messages:
            answer(manager, session)
        for n, line in enumerate(lines):
            print(f"user: {line}")
            chat(manager, session, line, *([be_killed] if dies and n == len(lines) - 1 else []))


def run(session_id: str, lines: list[str], *, dies: bool = False) -> int | None:
    """Let a new process talk; return how it ended."""
    process = get_context("spawn").Process(target=talk, args=(session_id, lines), kwargs={"dies": dies})
    process.start()
    process.join()
    return process.exitcode


def check(fact: object, rule: str) -> None:
    """End the demo unless *fact* is true."""
    if not fact:
        sys.exit(f"demo failed: {rule}")


def main() -> None:
    """Tell the story, then read in this process what the two others stored."""
    with SessionManager(SQLiteSessionStore(DB), close_store=True) as manager:
        name = f"demo-{manager.count(status=None) + 1}"
        print(f"Ada chats with ELIZA. A process stores each message in {DB}, session {name!r}.\n")
        check(run(name, LINES[:3], dies=True) == -signal.SIGKILL, "the first process is killed")
        found = manager.get_session(name)
        check(found and found.messages[-1].content == LINES[2], "the question is stored")
        print(
            f"\nThe process was killed (kill -9). Stored: {found.message_count} messages, the last without an answer."
        )
        print("A new process opens the file, answers that message, and goes on:\n")
        check(run(name, LINES[3:5]) == 0, "the second process ends well")
        messages = manager.get_session(name).messages
        check([each.content for each in messages if each.role == "user"] == LINES[:5], "no message is lost")
        check(len(messages) == 2 * len(LINES[:5]) and manager.verify(), "each message is stored once")
        print(f"\nNothing is lost: {name!r} has {len(messages)} messages, whole and in order. Try next:\n")
    python, here = os.path.relpath(sys.executable), os.path.relpath(HERE)
    print(f"  {python} {here}/chat.py --db {DB} --session {name}    # go on with this chat yourself")
    print(f"  {python} {here}/quickstart.py    # the shortest program: read it, run it twice")
    print(f"  less {os.path.relpath(HERE.parent / 'docs')}/tutorial.md    # write a chat of your own, in ten minutes")


if __name__ == "__main__":
    main()
