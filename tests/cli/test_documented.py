"""The page of the documentation about the program: each command on it prints what the page shows."""

import contextlib
import doctest
import io
import re
import shlex
import time
from pathlib import Path

import pytest

from pyai_sessions.cli.app import COMMANDS, run
from tests.guide import ROOT

PAGE = ROOT / "docs" / "how-to" / "command-line.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ pyai-sessions ?(.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def printed(arguments):
    """Return what a command prints to standard output and error."""
    channel = io.StringIO()
    with contextlib.redirect_stdout(channel), contextlib.redirect_stderr(channel):
        run(arguments)
    return channel.getvalue()


@pytest.fixture
def _in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_in_utc")
def test_each_command_of_the_page_prints_what_it_shows(monkeypatch):
    """Each command of the page prints what the page shows. "..." stands for anything."""
    checker = doctest.OutputChecker()
    monkeypatch.setenv("PYAI_SESSIONS_STORE", "chat.db")
    wrong = []
    for kind, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), {})  # noqa: S102 (a program of our own page)
            continue
        for command, shown in COMMAND.findall(text):
            got = "\n".join(each.rstrip() for each in printed(shlex.split(command)).splitlines()) + "\n"
            if not checker.check_output(shown, got, doctest.ELLIPSIS):
                wrong.append(f"$ pyai-sessions {command}\n{got}")

    assert wrong == []
    assert Path("site/index.html").exists()


def test_the_page_runs_or_names_every_command():
    """The page runs or names every command."""
    text = PAGE.read_text("utf-8")
    run_there = {command.split()[0] for command, _ in COMMAND.findall(text) if command and command[0] != "-"}
    names = {name for commands in COMMANDS.values() for name in commands}

    assert names - run_there == {"browse", "chat", "mcp", "rotate-keys"}
    for name in names - run_there:
        assert f"`pyai-sessions {name}" in text or f"`{name} " in text
