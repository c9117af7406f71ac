"""All sessions of a store, exported and imported from one storage to the next."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pyai_sessions import SessionManager

PROGRAM = """
import sys
from pathlib import Path
from pyai_sessions.cli.app import run
code = run(sys.argv[1:])
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""
"""Runs a command, and prints how many KB the process had resident at most."""

WORDS = ["night", "train", "Wien", "Zürich", "東京", "поезд", "قطار", "✓", "😀", "\u202e", "\\", '"', "\n"]


def made(count):
    """Iterate over sessions of all kinds: of users and of none, archived, with titles, metadata and states."""
    draw = random.Random(5)
    for n in range(count):
        start = 1_700_000_000 + n * 60
        messages = [
            {
                "message_id": f"m{n}-{k}",
                "role": ("user", "assistant")[k % 2],
                "timestamp": start + k,
                "content": " ".join(draw.choices(WORDS, k=draw.randint(3, 60))),
            }
            for k in range(draw.choice([2, 2, 4, 6, 40]))
        ]
        session = {"session_id": f"ä/{n}", "messages": messages, "created_at": start, "updated_at": start + 50}
        session |= {"user_id": f"u{n % 97}"} if n % 11 else {}
        session |= {"title": f"Title {n}", "metadata": {"channel": "web"}} if n % 3 else {"state": {"cart": [n]}}
        yield session | ({"status": "archived"} if n % 13 == 0 else {})


def make(path, count):
    with SessionManager(f"sqlite:///{path}") as manager:
        manager.import_sessions(made(count))
        manager.update_user_state("u1", {"theme": "dark"})
        for n in range(1, count, 50):
            session = manager.get_session(f"ä/{n}")
            if session.status == "active":
                manager.fork(session.session_id, 1, new_id=f"fork {n}")
                session.rewind(session.messages[0].message_id)
                manager.save(session)


def megabytes(*command):
    """Run a command; return how much memory it took at most."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1024


def lines(path):
    return sorted(Path(path).read_text("utf-8").splitlines())


def moved_on(start, urls, run):
    """Move all sessions of a store from one storage to the next; return what *run* returns of each command."""
    peaks = [run("export", "--store", start, "-o", "first.jsonl")]
    before = "first.jsonl"
    for number, url in enumerate(urls):
        after = f"{number}.jsonl"
        peaks.append(run("import", "--store", url, before))
        peaks.append(run("export", "--store", url, "-o", after))
        assert lines(after) == lines("first.jsonl")
        before = after
    return peaks


def test_sessions_that_go_through_each_storage_are_the_same_at_the_end(cli, valkey_server):
    """Exports from SQLite, diskcache, a server and SQLite again are equal."""
    make("start.db", 40)

    codes = moved_on(
        "start.db",
        ["diskcache://cache", f"{valkey_server.url}?prefix=round:", "end.db"],
        lambda *command: cli(*command).code,
    )

    assert codes == [0] * 7


@pytest.mark.long
@pytest.mark.wide
def test_many_sessions_that_go_through_each_storage_take_no_more_memory(valkey_server):
    """Each export and import takes the memory of a batch, each in a process of its own, whatever the number."""
    peaks = []
    for count in (1_000, 5_000):
        make(f"{count}.db", count)
        server = f"{valkey_server.url}?prefix=round-{count}:"

        peaks.append(moved_on(f"{count}.db", [f"diskcache://{count}", server, f"{count}-end.db"], megabytes))

    assert all(after - before < 20 for before, after in zip(peaks[0], peaks[-1], strict=True)), peaks
