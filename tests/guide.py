"""The documentation as programs: the README and the pages of docs/, block by block.

python -m tests.guide PYTHON      all blocks of all pages, in one folder, in order, as a reader would try them;
                                  the `pip install` lines of the pages are run for that interpreter first
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs" / "index.md"
LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
INSTALL = re.compile(r"^ *pip install (?!\.$)([a-z][a-z0-9 -]*)$", re.MULTILINE)


class Block(NamedTuple):
    """A program on a page, and its expected output."""

    line: int
    code: str
    output: str


def text_of(page: Path) -> str:
    """Return a page's text."""
    return page.read_text("utf-8")


def pages() -> list[Path]:
    """Return the README, the index, and the pages in the order of the index."""
    named = [INDEX.parent.joinpath(link.partition("#")[0]).resolve() for link in LINK.findall(text_of(INDEX))]
    found = [ROOT / "README.md", INDEX, *(each for each in named if INDEX.parent in each.parents)]
    return list(dict.fromkeys(found))


def blocks_of(page: Path) -> list[Block]:
    """Return the programs of a page, in order."""
    text = text_of(page)
    return [Block(text[: found.start()].count("\n") + 1, found[1], found[2] or "") for found in PYTHON.finditer(text)]


def packages_of(page: Path) -> list[str]:
    """Return the packages that a page says to install."""
    return sorted({name for line in INSTALL.findall(text_of(page)) for name in line.split()})


def run_block(block: Block, folder: Path, url: str, python: str = sys.executable) -> tuple[int, str, str]:
    """Run a block in *folder*, with the server at *url* in place of the one that it names.

    Return the exit code, what it printed, and what it wrote to standard error.
    """
    program = folder / "block.py"
    program.write_text(block.code.replace("redis://localhost:6379", url), "utf-8")
    done = subprocess.run(  # no timeout: pytest's own shows where it hangs
        [python, program.name], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stdout, done.stderr


def main() -> None:
    """Run all blocks with the given Python in a new folder."""
    from tests.servers import Server

    python, failed = str(Path(sys.argv[1]).absolute()), 0
    with tempfile.TemporaryDirectory() as name, Server("valkey-server") as server:
        url = server.url.removesuffix("/0")
        for page in pages():
            if packages := packages_of(page):
                subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
            for block in blocks_of(page):
                code, output, errors = run_block(block, Path(name), url, python)
                right = (code, output, errors) == (0, block.output, "")
                failed += not right
                print("ok    " if right else "FAILED", f"{page.relative_to(ROOT)}:{block.line}")
                if not right:
                    print(output, errors, sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
