"""The programs of docs/how-to/frameworks.md that need a framework: the page shows what they print."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "frameworks.md"


def check_program(section, folder):
    """Run the program of a section of the page in an empty folder; it must print what the page shows."""
    [text] = re.findall(
        rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    [(code, output)] = re.findall(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)
    root = str(PAGE.parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.returncode) == (output, 0), done.stderr
