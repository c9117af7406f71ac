"""What every command has: the options `--store`, `--keys` and `--json`, and what they mean for a command."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from pyai_sessions.cli.output import Output
from pyai_sessions.cli.stores import open_manager

if TYPE_CHECKING:
    from pyai_sessions import SessionManager


@dataclass(frozen=True)
class Settings:
    """What the options that every command has say. They may stand before the command's name or after it."""

    store: str | None = None
    keys: str | None = None
    as_json: bool = False

    @property
    def output(self) -> Output:
        """Where results go."""
        return Output(as_json=self.as_json)

    @property
    def keyfile(self) -> str | None:
        """The file of the keys of an encrypted store."""
        return self.keys or os.environ.get("PYAI_SESSIONS_KEYS")

    def reading(self) -> AbstractContextManager[SessionManager]:
        """Open the store for reading alone. Nothing is made where there is none."""
        return open_manager(self.store, self.keys, access="read")

    def writing(self, *, migrate: bool = False) -> AbstractContextManager[SessionManager]:
        """Open the store for writing. It must be there."""
        return open_manager(self.store, self.keys, access="write", migrate=migrate)

    def creating(self) -> AbstractContextManager[SessionManager]:
        """Open the store for writing, and make it where there is none."""
        return open_manager(self.store, self.keys, access="create")


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that every command has."""
    decorators = (
        click.option(
            "--store",
            metavar="URL",
            help="The store: sqlite:///chat.db, redis://localhost:6379/0, diskcache:///folder, or the path of an "
            "SQLite file. Default: $PYAI_SESSIONS_STORE, else ./sessions.db if that is there.",
        ),
        click.option(
            "--keys",
            metavar="FILE",
            help="The keys of an encrypted store: a JSON file of ids and keys in base64, the newest last. "
            "Default: $PYAI_SESSIONS_KEYS.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts, with a version in it."),
    )
    for each in reversed(decorators):
        function = each(function)
    return function


def taken(settings: Settings | None, params: dict[str, Any]) -> Settings:
    """Remove the settings of a command from *params* and return them: its own, or else those before its name."""
    settings = settings or Settings()
    given = {"store": params.pop("store"), "keys": params.pop("keys"), "as_json": params.pop("as_json")}
    return replace(settings, **{name: value for name, value in given.items() if value})


def command(*, examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, whose first argument is the settings. Its help ends with *examples*."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(**params: Any) -> Any:
            return function(taken(click.get_current_context().obj, params), **params)

        lines = "\n".join(f"  pyai-sessions {each}" for each in examples.split("\n"))
        return click.command(epilog=f"\b\nExamples:\n{lines}")(common(run))

    return decorate
