"""Every Python block of the README runs as it stands, and prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyai_sessions
from pyai_sessions import Session, SessionManager

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_a_block_runs_and_prints_what_follows_it(code, output, tmp_path, valkey_server):
    """A block is a whole program: in an empty folder, with a server where the block names one."""
    program = tmp_path / "block.py"
    program.write_text(code.replace("redis://localhost:6379", valkey_server.url.removesuffix("/0")), "utf-8")

    done = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == output


def test_the_tables_name_what_exists():
    """Each method and each exception in the tables is the library's."""
    names = set(re.findall(r"`(\w+Error)`", TEXT))
    methods = set(re.findall(r"`manager\.(\w+)|`session\.(\w+)", TEXT))

    assert names
    assert all(hasattr(pyai_sessions, name) for name in names)
    assert {name for name in pyai_sessions.__all__ if name.endswith("Error")} - names <= {
        "SessionError",
        "SessionStateError",
        "StorageError",
    }
    for of_manager, of_session in methods:
        assert hasattr(SessionManager, of_manager) if of_manager else hasattr(Session, of_session)


def test_each_file_that_the_readme_links_to_exists():
    """A link leads to a file of the checkout."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)

    assert links
    assert [link for link in links if not README.parent.joinpath(link).exists()] == []


def test_each_make_goal_that_the_readme_names_exists():
    """`make demo` and the like are goals of the Makefile."""
    goals = set(re.findall(r"^([a-z]+):", README.with_name("Makefile").read_text("utf-8"), re.MULTILINE))

    assert set(re.findall(r"\bmake (demo|test|help)\b", TEXT)) <= goals
