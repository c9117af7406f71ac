"""The command of `make test-integrations`: what it runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyai_sessions import integrations
from tests.integrations.frameworks.__main__ import HERE, ROOT, runs
from tests.integrations.frameworks.suites.tables import SUITES

SHARED = {"__init__", "differences", "langchain"}


def test_each_adapter_is_tested_with_the_lowest_and_the_newest_release_of_its_framework():
    """Each module of an adapter has an extra, a test with the framework, and both releases in the command."""
    folder = Path(integrations.__file__).parent
    adapters = {each.stem for each in folder.iterdir()} - SHARED - {"__pycache__"}

    for form in ("lowest-direct", "highest"):
        assert {each.framework for each in runs() if each.form == form} - {"recipes"} == adapters
    assert all((HERE / f"test_{each.framework}.py").exists() for each in runs())


def test_each_suite_is_one_of_a_framework():
    """The table of suites names frameworks, a plugin for each, and a reason for each test that is left out."""
    assert {each.framework for each in runs() if each.form == "suite"} == set(SUITES)
    assert all((HERE / "suites" / f"{each}.py").exists() for each in SUITES)
    assert all(len(reason.split()) > 2 for each in SUITES.values() for reason in each.left_out.values())


def test_an_unknown_framework_is_refused():
    """The error names what there is."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.frameworks", "langraph"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "'langraph' is not a framework" in done.stderr
    assert "langgraph, langgraph-highest" in done.stderr


EXTRAS = """
bad = ["pytest>=1"]  # pyai_sessions.integrations.bad
gone = ["pytest>=1"]  # pyai_sessions.integrations.gone
good = ["pytest>=1"]  # pyai_sessions.integrations.good
"""
MAKEFILE = """
.venv-integrations/gone-%/.made:
\t@exit 1
.venv-integrations/%/.made:
\t@mkdir -p $(@D)/bin && printf '#!/bin/sh\\nexec PYTHON "$$@"\\n' > $(@D)/bin/python && chmod +x $(@D)/bin/python
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the command in a project of three frameworks: the environment of one cannot be made."""
    folder = tmp_path / "tests" / "integrations" / "frameworks"
    shutil.copytree(HERE / "suites", folder / "suites")
    shutil.copy(HERE / "__main__.py", folder)
    for each in (folder, folder.parent, folder.parent.parent):
        (each / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(EXTRAS)
    (tmp_path / "Makefile").write_text(MAKEFILE.replace("PYTHON", sys.executable))
    (folder / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--frameworks', action='count')"
    )
    (folder / "test_bad.py").write_text("def test_it(): assert False")
    (folder / "test_good.py").write_text("def test_it(): pass")
    return folder


def test_ctrl_c_prints_the_table_of_what_has_run(folder, tmp_path):
    """The tests that run are stopped and have no row, and the exit code is that of Ctrl-C."""
    (folder / "test_good.py").write_text(
        "import os, signal, time\n"
        "def test_it():\n"
        "    os.killpg(0, signal.SIGINT)\n"  # as a terminal does
        "    time.sleep(60)\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.frameworks", "bad-highest", "gone-highest", "good-highest"],
        cwd=tmp_path, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip

    assert done.returncode == 130, done.stderr
    *_, bad, gone, interrupted = (each.split() for each in done.stdout.splitlines())
    assert (bad[0], bad[2:6]) == ("bad-highest", ["0", "1", "0", "0"])
    assert gone[:2] == ["gone-highest", "none"]
    assert interrupted == ["Interrupted.", "Without", "a", "result:", "good-highest."]


def test_a_failure_does_not_stop_the_others(folder, tmp_path):
    """Tests that fail, and an environment that cannot be made, are in the table and the exit code; all others run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integrations.frameworks", "bad-highest", "gone-highest", "good-highest"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    *_, bad, gone, good, failed = (each.split() for each in done.stdout.splitlines())
    assert (bad[0], bad[2:6]) == ("bad-highest", ["0", "1", "0", "0"])
    assert gone[:2] == ["gone-highest", "none"]
    assert (good[0], good[2:6]) == ("good-highest", ["1", "0", "0", "0"])
    assert failed == ["Failed:", "bad-highest,", "gone-highest."]
