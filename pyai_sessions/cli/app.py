"""The commands' names, and what is done with an error: each kind has an exit code of its own."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from pyai_sessions import __version__
from pyai_sessions.cli.errors import BROKEN_PIPE, NOT_FOUND, OK, PROBLEMS, STORAGE, USAGE, RefusedError, interrupted
from pyai_sessions.cli.output import VERSION, as_typed, inert
from pyai_sessions.cli.settings import common, taken

COMMANDS = {
    "Look": {
        "ls": ("listing", "List conversations, the newest first."),
        "show": ("showing", "Show a conversation as a transcript."),
        "search": ("searching", "Find messages by what they say."),
        "stats": ("statistics", "Count sessions, users and messages, and show the activity by day."),
        "peek": ("peeking", "Show a stored document as it is, or list the keys of all."),
    },
    "Use": {
        "browse": ("browsing", "Look through conversations on the whole screen."),
        "chat": ("chatting", "Chat with a model, and store every message."),
        "mcp": ("serving", "Serve conversations to an agent, for reading alone."),
    },
    "Change": {
        "title": ("changing", "Give a session a title."),
        "archive": ("changing", "Take sessions out of the lists."),
        "restore": ("changing", "Make archived sessions active again."),
        "rm": ("changing", "Delete sessions for good."),
        "rm-user": ("changing", "Erase all that is held of a user."),
    },
    "Move": {
        "export": ("exporting", "Write conversations as JSON lines, Markdown, HTML, or for fine-tuning."),
        "import": ("importing", "Import sessions: our own exports, and those of other programs."),
        "copy": ("copying", "Copy all sessions to another store, and check each copy."),
    },
    "Keep up": {
        "backup": ("mending", "Copy the SQLite file of the store while others write."),
        "verify": ("mending", "Read everything, say what is damaged, and mend it."),
        "reindex": ("mending", "Rebuild the lists from the documents."),
        "search-index": ("searching", "Make searches fast: an index in the store's file."),
        "purge": ("mending", "Remove expired sessions."),
        "rotate-keys": ("mending", "Encrypt with the newest key what older keys wrote."),
    },
}
"""By theme: each command's module and first line of help. A module is imported when its command is asked for."""

_CODES = """\b
Exit codes:
  0    done
  1    done, but something is wrong or was left out; or a conflict: the text says what
  2    wrong usage
  3    there is no such session, message or document
  4    the store cannot be used: it is not there, locked, full, damaged
  130  interrupted by Ctrl-C; what was written is whole, and the command can be repeated
"""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where no more can be written."""


class App(click.Group):
    """The program: its commands are imported when they are used, so help is printed at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names of the commands."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command by its name."""
        for commands in COMMANDS.values():
            if cmd_name in commands:
                module, summary = commands[cmd_name]
                imported = import_module(f"pyai_sessions.cli.{module}")
                name = "import_" if cmd_name == "import" else cmd_name.replace("-", "_")
                found: click.Command = getattr(imported, name)
                found.name, found.short_help = cmd_name, summary
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands by theme, without importing any."""
        for theme, commands in COMMANDS.items():
            with formatter.section(theme):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would take a broken pipe for a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(hung_up()) from None


def run(args: Sequence[str]) -> int:
    """Run a command; return the exit code, which says how it went. What is no fault of ours has no traceback."""
    try:
        code: object = app.main(args, "pyai-sessions", standalone_mode=False)
        sys.stdout.flush()
    except Exception as err:  # noqa: BLE001 (what is none of ours is raised again)
        code = failed(err, as_json="--json" in args)
    except KeyboardInterrupt:
        code = interrupted()
    return code if isinstance(code, int) else OK


def failed(err: Exception, *, as_json: bool) -> int:
    """Tell a person or a script what went wrong; return the exit code."""
    if isinstance(err, BrokenPipeError):
        return hung_up()
    if isinstance(err, click.exceptions.Exit):
        return err.exit_code
    if isinstance(err, click.Abort):
        return interrupted()
    code = code_of(err)
    if isinstance(err, OSError) and err.errno in _FULL:
        err = RefusedError(f"the output cannot be written: {err.strerror}")
    if as_json:
        text = err.format_message() if isinstance(err, click.ClickException) else as_typed(str(err))
        error = {"type": type(err).__name__, "message": text, "exit_code": code}
        print(json.dumps({"version": VERSION, "error": error}), file=sys.stderr)
    elif isinstance(err, click.ClickException):
        err.show()
    else:
        print(f"Error: {inert(as_typed(str(err)))}", file=sys.stderr)
    return code


def hung_up() -> int:
    """Let nothing more be written where nobody reads, so that Python does not complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def code_of(err: Exception) -> int:
    """Return the exit code of an error.

    Raises:
        Exception: It is none that a command raises on purpose.

    """
    from pyai_sessions import InvalidValueError, SessionError, SessionNotFoundError, StorageError

    if isinstance(err, click.ClickException):
        return err.exit_code
    if isinstance(err, SessionNotFoundError):
        return NOT_FOUND
    if isinstance(err, StorageError):
        return STORAGE
    if isinstance(err, InvalidValueError):
        return USAGE
    if isinstance(err, (SessionError, OSError)):
        return PROBLEMS
    raise err


@click.group(
    cls=App,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExamples:\n  pyai-sessions --store sqlite:///chat.db\n  pyai-sessions show --store chat.db "
    f"--last 10\n  export PYAI_SESSIONS_STORE=redis://localhost:6379/0\n\n{_CODES}",
)
@common
@click.version_option(__version__, prog_name="pyai-sessions")
@click.pass_context
def app(ctx: click.Context, /, **params: Any) -> None:
    """Look at, move and mend the conversations that pyai_sessions keeps.

    Without a command it lists the newest ones. A password in a url is safer in PYAI_SESSIONS_STORE than on the
    command line, which other users of the machine can see.
    """
    ctx.obj = taken(None, params)
    if ctx.invoked_subcommand is None:
        ls = app.get_command(ctx, "ls")
        if ls is not None:
            ctx.exit(ctx.invoke(ls, store=None, keys=None, as_json=False))
