"""The programs of docs/how-to/frameworks.md, which need a framework: the page shows what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "frameworks.md"
PROGRAM = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def check_program(name: str, folder: Path) -> None:
    """Run the page's program that uses *name* in an empty folder; it must print what the page shows."""
    [(program, output)] = [each for each in PROGRAM.findall(PAGE.read_text("utf-8")) if name in each[0]]

    assert run_program("-c", program, folder=folder) == output


def run_program(*arguments: str, folder: Path) -> str:
    """Run a Python program that imports this checkout's package; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
