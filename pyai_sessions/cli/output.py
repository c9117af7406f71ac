"""What a command prints: tables and notes for people, JSON for scripts, progress on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

VERSION = 1
"""Of the JSON that commands print. It grows when a field goes, or means something else; new fields may come before."""

_WIDE = 10_000
"""Columns where nothing is wrapped or cut: of a pipe, a file."""

_GAP = 2
"""Spaces between the columns of a table."""

_NARROWEST = 20
"""Characters that the last column of a table has at the least; the others are never cut, for they are copied."""

ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""What moves a cursor, changes a terminal, turns a text around, or cannot be printed."""


def inert(text: object) -> str:
    r"""Return a text as one line that does nothing to a terminal.

    >>> inert("red: \x1b[31m")
    'red: \\x1b[31m'

    """
    return ACTIVE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(text))


def one_line(text: object) -> str:
    """Return a text as one line, its spaces and line ends as single spaces."""
    return inert(" ".join(str(text).split()))


_TYPED = {
    "verify(repair=True)": "`pyai-sessions verify --repair`",
    "; skip_invalid=True leaves such lines out": "",
    "manager.restore(session_id)": "`pyai-sessions restore`",
    "pass overwrite=True": "give --overwrite",
    'mode="substring"': "--mode substring",
    "or list sessions with list_sessions": "or list sessions with `pyai-sessions ls`",
    "or None for no title of its own": "or give --clear for no title of its own",
    "open the store as KVSessionStore(Encrypted(mapping, keys))": "give its keys with --keys",
}
"""Advice of the library in its errors, and the same as it is typed."""


def as_typed(text: str) -> str:
    """Return an error of the library with its advice in the words of the command line."""
    for of_library, typed in _TYPED.items():
        text = text.replace(of_library, typed)
    return text


class Output:
    """Where a command's results go: standard output for results, standard error for all else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def console(self, *, stderr: bool = False) -> Console:
        """Return a console of rich: colours where a person reads, and plain text elsewhere."""
        from rich.console import Console

        file = sys.stderr if stderr else sys.stdout
        width = None if file.isatty() or "COLUMNS" in os.environ else _WIDE
        return Console(file=file, width=width, highlight=False, markup=False, emoji=False)

    def json(self, **fields: Any) -> None:
        """Print an object of these fields, and the version."""
        print(json.dumps({"version": VERSION, **fields}, indent=2))

    def json_line(self, **fields: Any) -> None:
        """Print an object of these fields as one line, at once: a part of what goes on."""
        print(json.dumps({"version": VERSION, **fields}), flush=True)

    def json_list(self, name: str, items: Iterable[Any], **after: Callable[[], Any]) -> None:
        """Print an object with a list that may be long, an item after the other; then the fields that come *after*."""
        print(f'{{\n  "version": {VERSION},\n  {json.dumps(name)}: [', end="")
        separator = "\n"
        for each in items:
            print(f"{separator}    {json.dumps(each)}", end="")
            separator = ",\n"
        print("\n  ]" if separator != "\n" else "]", end="")
        for key, value in after.items():
            print(f",\n  {json.dumps(key)}: {json.dumps(value())}", end="")
        print("\n}")

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print a line, in a colour where a person reads. Whatever text of others it has is inert already."""
        if style is None or not sys.stdout.isatty():
            print(text)
        else:
            from rich.text import Text

            self.console().print(Text(text, style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Tell a person something that is no result."""
        if not self.as_json:
            print(text, file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> None:
        """Print rows under headings. The last column takes what width is left, and is cut where that is too little."""
        from rich.cells import cell_len

        shown = [["" if each is None else each for each in row] for row in rows]
        cells = [[*map(inert, names), one_line(last)] for *names, last in shown]
        widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
        left = self.console().width - sum(widths[:-1]) - _GAP * (len(columns) - 1)
        widths[-1] = min(max(_NARROWEST, left), widths[-1])
        to_right = [name in right for name in columns]
        for n, row in enumerate([columns, *cells]):
            fitted = map(_fitted, row, widths, to_right)
            self.line((" " * _GAP).join(fitted).rstrip(), None if n else "bold")

    @contextmanager
    def progress(
        self, doing: str, total: int | None = None, *, shown: bool = True
    ) -> Generator[Callable[[int], object], None, None]:
        """Give a function that is told how many are done, and show that to a person while the work goes on."""
        if self.as_json or not shown or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.console(stderr=True)) as bar:
            task = bar.add_task(doing, total=total)
            yield lambda done: bar.update(task, completed=done, total=max(done, total) if total else None)
            bar.update(task, total=bar.tasks[0].completed)  # it is done, whatever was expected


def _fitted(text: str, width: int, to_right: bool) -> str:
    """Return a text that takes so many cells of a terminal: cut, or with spaces."""
    from rich.text import Text

    fitted = Text(text)
    fitted.truncate(width, overflow="ellipsis")
    spaces = " " * (width - fitted.cell_len)
    return spaces + fitted.plain if to_right else fitted.plain + spaces


def counted(number: int, noun: str) -> str:
    """Return a number and a noun: ``1 session``, ``2,000 sessions``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sized(size: float) -> str:
    """Return a number of bytes for people.

    >>> sized(1536)
    '1.5 KiB'

    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":  # noqa: PLR2004 (what a unit is of the one before)
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
