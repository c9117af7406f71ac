"""Fixtures for the tests with a framework: where sessions are stored, and a question asked in another process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.frameworks.page import ROOT


@pytest.fixture(params=["sqlite", "a valkey server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty SQLite file, then of a Valkey server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/chat.db"
    return request.getfixturevalue("valkey_server").url


@pytest.fixture
def chat(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that runs the framework's program `…_chat.py` in a process of its own.

    It takes the program's arguments, and returns what the program prints. The process has no settings and no key.
    """
    program = request.path.stem.removeprefix("test_") + "_chat"
    command = [sys.executable, "-m", f"tests.integrations.frameworks.{program}"]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def run(*arguments: object) -> Any:
        done = subprocess.run(
            [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
