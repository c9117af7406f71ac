"""All sessions of a store, exported and imported from one storage to the next.

`make faults ARGS=tests/cli/test_round_trip.py` moves 100,000 sessions and prints the memory of each step; that takes 20
minutes of one core. `SESSIONS=5000` before it moves fewer.
"""

import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path

import pytest

from pyai_sessions import Session, SessionManager, SQLiteSessionStore
from pyai_sessions.testing import StoppedClock
from tests.processes import run_python
from tests.prompts.test_corpus import read_languages

SESSIONS = int(os.environ.get("SESSIONS", "100000"))
"""The most sessions that the long form moves."""

COMMAND = """
from pyai_sessions.cli.app import run

assert run([verb, "--store", url, *["-o"][: verb == "export"], path]) == 0
"""

LIBRARY = """
from contextlib import closing
from examples.postgres_storage import PostgresStorage
from pyai_sessions import SessionManager

with closing(PostgresStorage(url)) as storage, open(path, "w" if verb == "export" else "r", encoding="utf-8") as file:
    manager = SessionManager(storage)
    manager.export_sessions(file) if verb == "export" else manager.import_sessions(file)
"""
"""What the command does, for a storage that no url names."""

MEASURED = """
import sys, time
from pathlib import Path

verb, url, path = sys.argv[1:]
{}
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024, time.process_time())
"""
"""Prints how many MB the process had resident at most, and the seconds of its core."""

SIGNS = ["night", "Zürich", "東京", "поезд", "قطار", "✓", "😀", "\u202e", "\\", '"', "\n"]
START = datetime(2024, 2, 28, tzinfo=timezone.utc)
TTL = 50 * 366 * 86400


def made(count, sources):
    """Iterate over sessions of all kinds: of users and of none, archived, with titles, metadata and states."""
    draw, sources = random.Random(5), cycle(sources)
    for n in range(count):
        start = START + timedelta(minutes=n)
        texts = islice(next(sources), 200 if n % 100 == 7 else draw.randint(2, 12))
        messages = [
            {
                "message_id": f"m{n}-{k}",
                "role": ("user", "assistant")[k % 2],
                "timestamp": (start + timedelta(seconds=k)).isoformat(),
                "content": text,
            }
            for k, text in enumerate(texts)
        ]
        session = {"session_id": f"ä/{n}", "messages": messages, "created_at": start.isoformat()}
        session |= {"updated_at": (start + timedelta(seconds=50)).isoformat()}
        session |= {"user_id": f"u{n % 97}"} if n % 11 else {}
        signs = " ".join(draw.choices(SIGNS, k=4))
        session |= {"title": f"{signs} {n}", "metadata": {"sign": signs}} if n % 3 else {"state": {"cart": [n, signs]}}
        yield session | ({"status": "archived"} if n % 13 == 0 else {})


def make(path, count, sources):
    """Store so many sessions, and forks, branches, a user's state, and sessions that have expired."""
    with SessionManager(SQLiteSessionStore(path, ttl=TTL, synchronous="NORMAL"), close_store=True) as manager:
        manager.import_sessions(made(count, sources))
        manager.update_user_state("u1", {"theme": "dark"})
        for n in range(1, count, 50):
            session = manager.get_session(f"ä/{n}")
            if session.status == "active":
                manager.fork(session.session_id, 1, new_id=f"fork {n}")
                session.rewind(session.messages[0].message_id)
                manager.save(session)
    with SessionManager(SQLiteSessionStore(path, ttl=1, clock=StoppedClock(START)), close_store=True) as manager:
        manager.import_sessions(Session(f"expired {n}", "u1") for n in range(count // 20))


def work_of(url):
    return LIBRARY if url.startswith("postgresql:") else COMMAND


def measured(verb, url, path):
    """Run a step in a process of its own; return its peak of memory and the seconds of its core."""
    printed = run_python(MEASURED.format(work_of(url)), verb, url, path, timeout=3600)
    return [float(each) for each in printed.split()[-2:]]


def digests(path):
    """Return what the lines of a file are, in whatever order."""
    with Path(path).open("rb") as file:
        return sorted(blake2b(line, digest_size=16).digest() for line in file)


def moved_on(start, urls, run):
    """Move all sessions of a store from one storage to the next; return what *run* returns of each step."""
    first, before = Path("first.jsonl"), Path("first.jsonl")
    told = [run("export", start, first)]
    for number, url in enumerate(urls):
        after = Path(f"{number}.jsonl")
        told += [run("import", url, before), run("export", url, after)]
        assert digests(after) == digests(first)
        before = after
    return told


def test_sessions_that_go_through_each_storage_are_the_same_at_the_end(cli, valkey_server):
    """Exports from SQLite, diskcache, a server and SQLite again are equal, and have all that has not expired."""

    def run(verb, url, path):
        return cli(verb, "--store", url, *["-o"][: verb == "export"], path).code

    make("start.db", 40, [cycle(SIGNS)])

    codes = moved_on("start.db", ["diskcache://cache", f"{valkey_server.url}?prefix=round:", "end.db"], run)

    assert codes == [0] * 7
    exported = [json.loads(each) for each in Path("first.jsonl").read_text("utf-8").splitlines()]
    assert {each.get("session_id") for each in exported} == {*(f"ä/{n}" for n in range(40)), "fork 1", None}
    assert max(len(each["messages"]) for each in exported if "messages" in each) == 200


@pytest.mark.long
@pytest.mark.wide
@pytest.mark.timeout(7200)
def test_many_sessions_that_go_through_each_storage_take_no_more_memory(start_server, postgres_server, capsys):
    """Each export and import takes the memory of a batch, each in a process of its own, whatever the number."""
    server = start_server("valkey")  # the server that other tests share would keep the sessions
    peaks = {}
    for count in sorted({1_000, max(1_000, SESSIONS // 10), SESSIONS}):
        make(f"{count}.db", count, read_languages())
        urls = [
            f"diskcache://{count}?ttl={TTL}",
            f"{server.url}?prefix=round-{count}:&ttl={TTL}",
            f"sqlite:///{count}-end.db?ttl={TTL}",
            postgres_server.create_database(),
        ]

        def run(verb, url, path, count=count):
            peak, seconds = measured(verb, url, path)
            step = f"{verb} {url.partition(':')[0]}"
            peaks.setdefault(step, []).append(peak)
            with capsys.disabled():
                sys.stdout.write(f"\n{count:9,} {step:18} {peak:6.1f} MB {seconds:6.1f} s")
                sys.stdout.flush()

        moved_on(f"sqlite:///{count}.db", urls, run)

    assert all(each[-1] < 1.4 * each[0] for each in peaks.values()), peaks
