"""The tests of the adapters, each with its framework, as `make test-integrations` runs them.

python -m tests.integrations.frameworks [NAME ...] [arguments for pytest]

A NAME is a framework, as in `langgraph`, or one of its runs: `langgraph-lowest-direct`, `langgraph-highest` or
`strands-suite`. Without a name, everything runs. Each run has an environment in .venv-integrations, which make makes
first. A run that fails does not stop the others; a table at the end has them all. Ctrl-C stops what runs and prints the
table of what has run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.integrations.frameworks.suites.tables import SUITES

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".venv-integrations"
EXTRA = re.compile(r'^[a-z-]+ = \["([a-z-]+)[^]]*\]  # pyai_sessions\.integrations\.(\w+)$', re.MULTILINE)
OUTCOMES = ("passed", "failed", "skipped", "deselected")
COUNT = re.compile(r"(\d+) ([a-z]+)")
LINE = "{:<34}{:<9}" + "{:>11}" * len(OUTCOMES) + "{:>9}"
NO_TESTS = 5  # the exit code of pytest if -k selects none
FIRST_RUN = (
    "The first run downloads about 1 GB, and makes environments of 2 GB in .venv-integrations. "
    "All runs take 20 to 45 minutes on two cores, and those of one framework 1 to 6."
)


class Run(NamedTuple):
    """A row of the table: the tests that run in an environment."""

    framework: str
    package: str
    form: str

    @property
    def name(self) -> str:
        """The name of the run, and of its folder in .venv-integrations."""
        return f"{self.framework}-{self.form}"

    @property
    def python(self) -> str:
        """The Python that runs the tests: a suite has the environment of the newest release."""
        form = "highest" if self.form == "suite" else self.form
        return str(ENVIRONMENTS / f"{self.framework}-{form}" / "bin" / "python")

    @property
    def command(self) -> list[str]:
        """The command that runs the tests."""
        pytest = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if self.form == "suite":
            plugins = ["-p", f"suites.{self.framework}", "-p", "suites.selection"]
            return [*pytest, "-W", "ignore", *plugins, "--suite", self.framework, *SUITES[self.framework].tests]
        tests = [str(each.relative_to(ROOT)) for each in sorted(HERE.glob(f"test_{self.framework}*.py"))]
        return [*pytest, "-p", "no:anyio", "-p", "no:asyncio", "--frameworks", *tests]

    def version(self) -> str:
        """Return the installed release of the framework, or nothing where there is no environment."""
        program = f"from importlib.metadata import version; print(version({self.package!r}))"
        if not Path(self.python).exists():
            return ""
        return subprocess.run([self.python, "-c", program], capture_output=True, text=True, check=False).stdout.strip()


def runs() -> Iterator[Run]:
    """Yield all runs: the extras of pyproject.toml name the frameworks."""
    for package, framework in EXTRA.findall((ROOT / "pyproject.toml").read_text("utf-8")):
        for form in ("lowest-direct", "highest", *(["suite"] if framework in SUITES else [])):
            yield Run(framework, package, form)
    yield Run("recipes", "llama-index-core", "highest")


def run(one: Run, arguments: list[str]) -> tuple[bool, list[str]]:
    """Make the environment and run the tests; return whether they passed, and the row of the table."""
    print(f"\n=== {one.name}", flush=True)
    began = time.monotonic()
    made = subprocess.run(["make", "-s", f".venv-integrations/{one.name}/.made"], cwd=ROOT, check=False).returncode == 0
    code, last = tested([*one.command, *arguments], one) if made else (1, "")
    counts = Counter({outcome: int(count) for count, outcome in COUNT.findall(last)})
    counts["failed"] += counts["error"] + counts["errors"]
    row = [str(counts[each]) for each in OUTCOMES] if counts.total() else ["none", *[""] * (len(OUTCOMES) - 1)]
    return code in (0, NO_TESTS), [one.name, one.version(), *row, f"{time.monotonic() - began:.0f} s"]


def tested(command: list[str], one: Run) -> tuple[int, str]:
    """Run tests, and print what they print; return their exit code and their last line."""
    variables, folder = dict(os.environ), ROOT
    if one.form == "suite":
        folder = ENVIRONMENTS / one.name
        variables |= {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]), "OPENAI_API_KEY": "none"}
    last = ""
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        for line in started.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return started.returncode, last


def main(arguments: list[str]) -> int:
    """Run what the arguments name; return the exit code."""
    everything = list(runs())
    names = {each.framework for each in everything} | {each.name for each in everything}
    asked = set(arguments) & names
    if not asked and arguments and not arguments[0].startswith("-"):
        print(f"{arguments[0]!r} is not a framework. The frameworks are: {', '.join(sorted(names))}", file=sys.stderr)
        return 2
    chosen = [each for each in everything if not asked or asked & {each.framework, each.name}]
    if not all((ENVIRONMENTS / each.name / ".made").exists() for each in chosen):
        print(FIRST_RUN, flush=True)
    results: list[tuple[bool, list[str]]] = []
    with suppress(KeyboardInterrupt):  # the table then has what ended before
        for each in chosen:
            results.append(run(each, [each for each in arguments if each not in names]))  # noqa: PERF401
    print("\n" + LINE.format("tests", "version", *OUTCOMES, "time"))
    for _, row in results:
        print(LINE.format(*row))
    failed = [row[0] for good, row in results if not good]
    if len(results) < len(chosen):
        print(f"Interrupted. Without a result: {', '.join(each.name for each in chosen[len(results) :])}.")
        return 130
    print(f"Failed: {', '.join(failed)}." if failed else "All passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
