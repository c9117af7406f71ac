"""The program `pyai-sessions`: what a person or a script at a terminal does with a store, over the public interface."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the program; return its exit code."""
    from importlib.util import find_spec

    from pyai_sessions.errors import MissingPackageError

    missing = [name for name in ("click", "dateparser", "markdown_it", "rich") if find_spec(name) is None]
    if missing:
        raise SystemExit(str(MissingPackageError("the command line", *missing)))
    try:
        from pyai_sessions.cli.app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are imported; `run` has its own
        from pyai_sessions.cli.errors import interrupted

        return interrupted()
