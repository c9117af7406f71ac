"""Questions before something is destroyed, the option `--dry-run`, and what a command says that it did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from pyai_sessions.cli.errors import NotFoundError, RefusedError
from pyai_sessions.cli.output import Output, inert

_SHOWN = 20
"""Names that a person is shown; a script gets all."""


def dry_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--dry-run`."""
    return click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")(function)


def yes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--yes`."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)


def confirm(question: str, *, given: bool) -> None:
    """Ask a person before something is destroyed.

    Raises:
        RefusedError: The answer is no; or there is nobody to ask, and `--yes` was not given.

    """
    if given:
        return
    if not sys.stdin.isatty():
        msg = f"{question} There is nobody to ask: give --yes if so. Nothing was changed."
        raise RefusedError(msg)
    if not click.confirm(question, err=True):
        msg = "nothing was changed."
        raise RefusedError(msg)


def names(session_ids: Sequence[str]) -> str:
    """Return ids for a person: the first of them, and how many there are besides."""
    shown = ", ".join(map(inert, session_ids[:_SHOWN]))
    more = len(session_ids) - _SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def receipt(out: Output, verb: str, session_ids: Sequence[str], missing: Sequence[str], *, dry: bool) -> None:
    """Print what was done with sessions, or would be.

    Raises:
        NotFoundError: Some of those that were named are not there; the others are done.

    """
    if out.as_json:
        out.json(dry_run=dry, **{verb: list(session_ids)}, missing=list(missing))
    elif session_ids:
        would = "Would be" if dry else "Now"
        out.line(f"{would} {verb}: {names(session_ids)}")
    if missing:
        msg = f"there is no session {', '.join(repr(inert(each)) for each in missing)}"
        raise NotFoundError(msg + ("; all others are done" if session_ids and not dry else ""))
