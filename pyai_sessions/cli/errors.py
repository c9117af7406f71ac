"""What a command raises that it cannot do: each with its exit code."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

import click

OK, PROBLEMS, USAGE, NOT_FOUND, STORAGE = range(5)
INTERRUPTED, BROKEN_PIPE = 130, 141
"""The exit codes; the last two are those of a shell for a program that a signal ended."""


class NotFoundError(click.ClickException):
    """There is no such session, message or document."""

    exit_code = NOT_FOUND


class RefusedError(click.ClickException):
    """A command cannot be done as things are, or was not confirmed."""

    exit_code = PROBLEMS


def interrupted() -> int:
    """Tell that Ctrl-C ended the command; return the exit code."""
    print("Interrupted; what was written is whole.", file=sys.stderr)
    return INTERRUPTED


@contextmanager
def missing(feature: str, package: str) -> Generator[None, None, None]:
    """Say what to install where an import within fails.

    Raises:
        MissingPackageError: The package is not installed.

    """
    from pyai_sessions.errors import MissingPackageError

    try:
        yield
    except ImportError as err:
        raise MissingPackageError(feature, package, name=err.name) from err
