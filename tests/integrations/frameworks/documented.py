"""The programs of the page on frameworks that need a framework."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = re.compile(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def documented(module: str, folder: Path) -> tuple[str, str]:
    """Run the program that uses a module in *folder*; return what the page shows, and what it prints."""
    page = (ROOT / "docs" / "how-to" / "frameworks.md").read_text("utf-8")
    [(program, output)] = [each for each in PROGRAM.findall(page) if module in each[0]]
    named = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=named, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return output, done.stdout
