"""examples/from_sql.py: 5,000 real conversations of a plain table, moved by a process that is killed on its way."""

import random
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta, timezone
from itertools import cycle, islice

import pytest

from pyai_sessions import SessionManager
from tests.prompts.test_corpus import read_languages
from tests.test_examples import CLEAN, EXAMPLES, start

HOW_MANY, USERS, TOGETHER = 5_000, 400, 500
SCRIPT = EXAMPLES / "from_sql.py"
NAMES = {"human": "user", "bot": "assistant"}
"""Roles as the table has them, and as they are stored."""

DRIVER = """
import os, signal, sys
from itertools import islice
from pathlib import Path
import from_sql

_, path, url, most, kill_at = sys.argv
read = from_sql.conversations

def cut(database):
    for number, each in enumerate(islice(read(database), int(most))):
        if number == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        yield each

from_sql.conversations = cut
from_sql.main(path, url)
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""
"""Moves so many conversations, or is killed on the way, and prints how many KB it had resident at most."""


def drive(path, url, *, most=HOW_MANY, kill_at=-1):
    command = [sys.executable, "-c", DRIVER, str(path), url, str(most), str(kill_at)]
    return subprocess.run(command, cwd=EXAMPLES, env=CLEAN, capture_output=True, text=True, check=False)


def make_table(path, conversations):
    """Make a table as people have it, its rows in no order; return of each conversation what must be stored."""
    clock, rows, wanted = datetime(2024, 2, 28), [], {}  # noqa: DTZ001 (the table's times do not say so)
    for number, texts in enumerate(conversations):
        user, messages = f"user {number % USERS}", []
        for position, text in enumerate(texts):
            clock += timedelta(seconds=1, microseconds=number)
            role = ("human", "bot")[position % 2]
            rows.append((number, user, role, text, str(clock), position))
            messages.append((NAMES[role], text, clock.replace(tzinfo=timezone.utc)))
        wanted[str(number)] = (user, messages)
    random.Random(0).shuffle(rows)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE messages (conversation_id, user_id, role, content, created_at, position)")
        database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", rows)
    return wanted


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Make a table of conversations of 2 to 20 texts of chatterbot-corpus, in turns of all its languages."""
    sources = cycle(read_languages())
    path = tmp_path_factory.mktemp("table") / "chats.db"
    return path, make_table(path, (list(islice(next(sources), 2 + number % 19)) for number in range(HOW_MANY)))


@pytest.fixture
def few(tmp_path):
    """Make a table of three conversations of two messages."""
    path = tmp_path / "chats.db"
    return path, make_table(path, [["Hello!", f"Hello {n}!"] for n in range(3)])


def stored(url):
    """Return of each session in a store its user and its messages; assert that all are listed, latest first."""
    found = {}
    with SessionManager(url) as manager:
        for user in (f"user {n}" for n in range(USERS)):
            sessions = manager.get_sessions_for_user(user)
            latest_first = sorted((each.updated_at for each in sessions), reverse=True)
            assert [each.updated_at for each in sessions] == latest_first
            for each in sessions:
                assert (each.created_at, each.updated_at) == (each.messages[0].timestamp, each.messages[-1].timestamp)
                found[each.session_id] = (user, [(m.role, m.content, m.timestamp) for m in each.messages])
        assert manager.count() == len(found)
    return found


def counts(printed):
    """Return the four numbers of what a run printed: new, there already, replaced, gone on."""
    line = r"(.*) new, (.*) there already, (.*) replaced, (.*) went on in the new store, in .* s"
    return [int(each.replace(",", "")) for each in re.match(line, printed).groups()]


@pytest.mark.wide
@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
def test_a_move_that_was_killed_is_completed_by_the_next_run(kind, table, tmp_path, request):
    """After a kill, the next run completes the move: users, roles, texts, order and times agree with the table."""
    url = f"sqlite:///{tmp_path / 'moved.db'}"
    if kind == "valkey":
        url = f"{request.getfixturevalue('valkey_server').url}?prefix={tmp_path.name}:"

    killed = drive(table[0], url, kill_at=2_250)
    ended = start(SCRIPT, table[0], url, cwd=tmp_path)

    assert killed.returncode == -signal.SIGKILL
    assert killed.stderr.split()[-2:] == ["2,000", "..."]
    assert ended.returncode == 0, ended.stderr
    assert counts(ended.stdout) == [HOW_MANY - 2_000, 2_000, 0, 0]
    assert stored(url) == table[1]


@pytest.mark.wide
def test_a_move_of_many_takes_no_more_memory_than_one_of_some(table, tmp_path):
    """Moving five times as many conversations takes no more memory."""
    some, many = (drive(table[0], f"sqlite:///{tmp_path / str(n)}.db", most=n) for n in (1_000, HOW_MANY))

    assert counts(many.stdout)[0] == HOW_MANY, many.stderr
    peaks = [int(each.stdout.split()[-1]) / 1024 for each in (some, many)]
    assert peaks[1] - peaks[0] < 15, peaks


def test_a_later_run_takes_what_has_grown_and_leaves_what_goes_on_in_the_new_store(few, tmp_path):
    """A later run adds new messages, and leaves sessions that continued in the new store."""
    url = f"sqlite:///{tmp_path / 'moved.db'}"
    first = start(SCRIPT, few[0], url, cwd=tmp_path)
    with closing(sqlite3.connect(few[0])) as database, database:
        row = (0, "user 0", "human", "And?", "2024-03-01 08:00:00", 2)
        database.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
    with SessionManager(url) as manager:
        manager.append("1", {"role": "user", "content": "Here I am."})

    second = start(SCRIPT, few[0], url, cwd=tmp_path)

    assert (counts(first.stdout), counts(second.stdout)) == ([3, 0, 0, 0], [0, 1, 1, 1])
    with SessionManager(url) as manager:
        lasts = [manager.get_session(session_id).messages[-1].content for session_id in "012"]
    assert lasts == ["And?", "Here I am.", "Hello 2!"]


def test_what_cannot_be_moved_is_named_and_all_else_is_moved(few, tmp_path):
    """Conversations that cannot be moved are reported with the reason. All others are moved."""
    with closing(sqlite3.connect(few[0])) as database, database:
        database.execute("UPDATE messages SET user_id = 7 WHERE conversation_id = 1")

    ended = start(SCRIPT, few[0], "sqlite:///moved.db", cwd=tmp_path)

    assert (ended.returncode, counts(ended.stdout)) == (1, [2, 0, 0, 0])
    assert ended.stderr.endswith("Not moved:\nsessions[1].user_id is an int; it is text: str(user_id) (session '1')\n")


def test_it_says_what_it_must_be_given(tmp_path):
    """Without arguments, the first line shows the command."""
    ended = start(SCRIPT, cwd=tmp_path)

    assert ended.returncode == 1
    assert "python from_sql.py chats.db sqlite:///moved.db" in ended.stderr
