"""What a command raises that it cannot do: each with its exit code."""

from __future__ import annotations

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
