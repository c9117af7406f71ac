"""The command of `make test-integrations`: what it runs."""

import subprocess
import sys

from tests.integrations.frameworks.__main__ import HERE, ROOT, runs
from tests.integrations.frameworks.suites.tables import SUITES

SHARED = {"__init__", "differences", "langchain"}


def test_each_adapter_is_tested_with_the_lowest_and_the_newest_release_of_its_framework():
    """Each module of an adapter has an extra, a test with the framework, and both releases in the command."""
    adapters = {each.stem for each in (ROOT / "pyai_sessions" / "integrations").iterdir()} - SHARED - {"__pycache__"}

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
