"""Other Python processes, which lock a file, write it, fork, or end without closing."""

import os
import subprocess
import sys
import textwrap
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _command(code, arguments):
    # Python 3.12 and later warn of a fork beside threads, which is intended here.
    return [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), *map(str, arguments)]


def _environment():
    # The package under test, wherever it is, and the tests.
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def run_python(code, *arguments, timeout=60):
    """Run *code* in a new process, and return its output. `sys.argv[1:]` are *arguments*."""
    done = subprocess.run(
        _command(code, arguments), env=_environment(), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _start(code, arguments):
    return subprocess.Popen(
        _command(code, arguments), env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@contextmanager
def python_until_told(code, *arguments):
    """Run *code* until it prints a line. It goes on when the block ends, with a line to read."""
    with _start(code, arguments) as process:
        try:
            assert process.stdout.readline()
            yield
        finally:
            process.communicate("go on\n", timeout=30)
    assert process.returncode == 0


def run_at_once(code, *arguments):
    """Run *code* in a process per argument. Each prints a line and reads one, and then all go on at once."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_start(code, each)) for each in arguments]
        for each in processes:
            assert each.stdout.readline()
        for each in processes:
            each.stdin.write("go on\n")
            each.stdin.flush()
        assert [each.wait() for each in processes] == [0] * len(processes)


LOCKED = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    sys.stdin.readline()
    connection.execute("ROLLBACK")
    connection.close()
"""
"""Code that holds the write lock of an SQLite file."""
