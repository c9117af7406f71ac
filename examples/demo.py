"""Run by `make demo`: a conversation in two processes, of which the second goes on where the first stopped."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pyai_sessions import SessionManager, SQLiteSessionStore

HERE = Path(__file__).parent
LINES = HERE.joinpath("conversation.txt").read_text("utf-8").splitlines()


def check(fact: object, rule: str) -> None:
    """End the demo unless *fact* is true."""
    if not fact:
        sys.exit(f"demo failed: {rule}")


def run_chat(db: Path, lines: list[str]) -> str:
    """Let ELIZA answer *lines* in a process of its own; print its output and return it."""
    file = db.with_name("lines.txt")
    file.write_text("\n".join(lines), "utf-8")
    print(f"\n$ python chat.py --db {db.name} --user ada {file.name}", flush=True)
    command = [sys.executable, HERE / "chat.py", "--db", db, "--user", "ada", file]
    env = {key: value for key, value in os.environ.items() if not key.startswith("OPENAI_")}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=60)  # noqa: S603
    print(done.stdout, end="", flush=True)
    return done.stdout


def main() -> None:
    """Talk in two processes, then read what they stored in a third, this one."""
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder, "chat.db")
        first = run_chat(db, LINES[:6])
        resumed = run_chat(db, LINES[6:]).partition("\n")[2]
        check(first and resumed.startswith(first), "the second process goes on where the first stopped")

        manager = SessionManager(store=SQLiteSessionStore(db))
        note = manager.create_session("ada", metadata={"title": "Trains to Lisbon"})
        manager.append(note.session_id, {"role": "user", "content": "Is there a night train?"})
        page = manager.list_sessions("ada")
        print("\nAda's sessions             messages  created   last active (UTC)")
        for each in page:
            times = f"{each.created_at:%H:%M:%S}  {each.updated_at:%H:%M:%S}"
            print(f"  {each.metadata['title']:26} {each.message_count:6}  {times}")
        check([each.message_count for each in page] == [1, 2 * len(LINES)], "all are listed, the latest first")

        messages = manager.get_session(page[-1].session_id).messages
        check([m.content for m in messages if m.role == "user"] == LINES, "all of Ada's lines are stored, in order")
        check(resumed == "".join(f"{m.role}: {m.content}\n" for m in messages), "what is stored is what was said")
        manager.store.close()
    print(f"\nAll {len(messages)} messages of the two processes are stored, in order.")


main()
