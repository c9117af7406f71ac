"""Fixtures for the tests of the command line: a store with a few conversations, and a way to run a command."""

import json
import shutil
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest

from pyai_sessions import Message, Session, SessionManager
from pyai_sessions.cli.app import run

START = datetime(2026, 1, 5, 9, 0, tzinfo=timezone.utc)


class Ran(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the output as JSON, and check its version."""
        found = json.loads(self.out)
        assert found["version"] == 1
        return found


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    """Run in an empty folder, in a known time zone, with no store in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PYAI_SESSIONS_STORE", "PYAI_SESSIONS_KEYS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(capsys):
    """Runs a command in this process: `cli("ls", "--json")`."""

    def call(*args):
        capsys.readouterr()
        code = run([str(each) for each in args])
        return Ran(code, *capsys.readouterr())

    return call


def trip() -> Session:
    """Return a conversation with a call of a tool and with code."""
    call = {"id": "c1", "type": "function", "function": {"name": "timetable", "arguments": '{"to": "Vienna"}'}}
    spoken = [
        Message("user", "Is there a night train to Vienna?", message_id="q1"),
        Message("assistant", "Let me look.", tool_calls=[call], message_id="a1"),
        Message("tool", '["22:10", "23:55"]', tool_call_id="c1", message_id="t1"),
        Message(
            "assistant",
            "Yes, at 22:10.\n```python\nbook('22:10')\n```\n",
            metadata={"model": "m-1", "usage": {"input_tokens": 40, "output_tokens": 12}},
            message_id="a2",
        ),
    ]
    messages = [
        Message.from_dict(each.to_dict() | {"timestamp": (START + timedelta(minutes=n)).isoformat()})
        for n, each in enumerate(spoken)
    ]
    end = START + timedelta(minutes=3)
    return Session(
        "trip", "ada", {"channel": "web"}, created_at=START, updated_at=end, messages=messages, title="Night trains"
    )


def hostile() -> Session:
    """Return a conversation that tries to be more than text."""
    when = START + timedelta(days=2)
    said = "\x1b[31mred\x1b[0m <script>alert(1)</script> \u202eevil 😀 " + "x" * 300
    message = Message("user", said, timestamp=when, message_id="h1")
    return Session("hostile", "bob", created_at=when, updated_at=when, messages=[message])


@pytest.fixture(scope="session")
def made_store(tmp_path_factory):
    """An SQLite file with conversations, to be copied."""
    path = tmp_path_factory.mktemp("made") / "chat.db"
    with SessionManager(path) as manager:
        when = START + timedelta(days=4)
        empty = Session("empty", created_at=when, updated_at=when)
        old = Session("old", "ada", created_at=START - timedelta(days=30), updated_at=START - timedelta(days=30))
        manager.import_sessions([trip(), hostile(), empty, old])
        manager.archive("old")
    return path


@pytest.fixture
def store(made_store, monkeypatch):
    """An SQLite file with conversations, which the environment names. Returns its url."""
    url = "sqlite:///chat.db"
    shutil.copy(made_store, "chat.db")
    monkeypatch.setenv("PYAI_SESSIONS_STORE", url)
    return url
