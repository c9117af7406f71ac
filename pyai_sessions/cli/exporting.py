"""`export`: lines of JSON that lose nothing; Markdown and HTML for people; lines for fine-tuning."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from pyai_sessions.cli.errors import RefusedError
from pyai_sessions.cli.html import index_of, page_of, row_of, searched_of
from pyai_sessions.cli.listing import complete_sessions, filters, summaries
from pyai_sessions.cli.markdown import markdown_of
from pyai_sessions.cli.masking import Masks
from pyai_sessions.cli.output import Output, as_typed, counted, inert
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.showing import no_session

if TYPE_CHECKING:
    from pyai_sessions import Session, SessionManager

_TOGETHER = 20
"""Sessions that are loaded together."""

_NAMED = 20
"""Sessions whose masked secrets are listed for a person."""

FORMATS = {"jsonl": ".jsonl", "markdown": ".md", "html": ".html", "openai": ".jsonl"}


@dataclass
class Report:
    """What an export did.

    Attributes:
        exported: How many sessions were written; of lines of JSON how many lines.
        masked: Of each session with secrets: how many were masked, by kind.
        left_out: What could not be written, and why.

    """

    exported: int = 0
    masked: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    left_out: list[str] = field(default_factory=list[str])


@command(
    examples="export > all.jsonl\nexport --user ada -o ada.jsonl.gz\nexport trip --format markdown\n"
    'export --format html --since "last month" -o site/\nexport --format openai -o training.jsonl'
)
@click.argument("sessions", nargs=-1, shell_complete=complete_sessions)
@click.option("--format", "-f", "form", type=click.Choice([*FORMATS]), default="jsonl", show_default=True)
@click.option("--output", "-o", metavar="PATH", help="A file, or a folder (with a / at its end) for a file each.")
@click.option("--mask/--no-mask", default=True, show_default=True, help="Mask secrets. Never in jsonl.")
@filters(status="all")
def export(
    settings: Settings, *, sessions: Sequence[str], form: str, output: str | None, mask: bool, **chosen: Any
) -> int:
    """Write SESSIONS, or all that the options choose, to a file, a folder or standard output.

    jsonl loses nothing, and `import` takes it: a line for each session, with its branches; with neither SESSIONS nor
    options the states of users, too. markdown and html are for people, openai is for fine-tuning. In these three,
    secrets (keys, tokens, passwords) are masked, and the command lists what it masked. HTML needs no network: one
    session is one page, several are a folder with an index that searches.
    """
    out = settings.output
    report = Report()
    with settings.reading() as manager:
        work = _Work(manager, sessions, chosen, report, Masks(on=mask), out, to_file=output is not None)
        if FORMATS[form] == ".jsonl" and _is_folder(output):
            msg = f"{form} is one file of lines; give --output a file"
            raise click.UsageError(msg)
        if form == "jsonl":
            _export_lines(work, output)
        elif _is_folder(output) or (form == "html" and len(sessions) != 1):
            if output is None:
                msg = "a page for each of several sessions is written to a folder: give --output folder/"
                raise click.UsageError(msg)
            _export_folder(work, Path(output), form)
        else:
            with _opened(output) as file:
                for n, session in enumerate(work.sessions()):
                    if n and form == "markdown":
                        file.write("\n")
                    for part in _parts(session, form, work):
                        file.write(part)
    _print(out, report, output)
    return int(bool(report.left_out))


@dataclass
class _Work:
    manager: SessionManager
    session_ids: Sequence[str]
    chosen: dict[str, Any]
    report: Report
    masks: Masks
    out: Output
    to_file: bool

    def ids(self) -> Iterator[str]:
        """Iterate over the ids of the sessions to export.

        Raises:
            NotFoundError: One that is named is not there; nothing was written.

        """
        if not self.session_ids:
            listed = summaries(self.manager, **self.chosen, on_damage=self._on_damage)
            return (each.session_id for each in listed)
        for each in self.session_ids:
            if not self.manager.get_sessions([each], last=1):
                raise no_session(each)
        return iter(self.session_ids)

    @property
    def filters(self) -> dict[str, Any]:
        """The options that choose sessions, as far as they leave any out."""
        return {name: value for name, value in self.chosen.items() if value not in (None, "all")}

    def progress(self) -> AbstractContextManager[Callable[[int], object]]:
        """Show how far the export is, unless it goes to the terminal itself."""
        total = len(self.session_ids) or (None if self.filters else self.manager.count(status=None))
        return self.out.progress("Exporting", total, shown=self.to_file or not sys.stdout.isatty())

    def _on_damage(self) -> None:
        damaged = "damaged sessions, which jsonl exports as they are; `pyai-sessions verify` names them"
        if damaged not in self.report.left_out:
            self.report.left_out.append(damaged)

    def sessions(self) -> Iterator[Session]:
        """Iterate over the sessions to export, without the secrets in them."""
        from pyai_sessions import InvalidDocumentError

        ids = self.ids()
        with self.progress() as progress:
            while batch := list(islice(ids, _TOGETHER)):
                try:
                    found: Iterable[Session] = self.manager.get_sessions(batch).values()
                except InvalidDocumentError:
                    found = self._readable(batch)
                for session in found:
                    yield self._masked(session)
                    self.report.exported += 1
                    progress(self.report.exported)

    def _readable(self, batch: Iterable[str]) -> Iterator[Session]:
        from pyai_sessions import InvalidDocumentError

        for each in batch:
            try:
                yield from self.manager.get_sessions([each]).values()
            except InvalidDocumentError as err:  # noqa: PERF203 (each session may be damaged)
                self.report.left_out.append(as_typed(str(err)))

    def _masked(self, session: Session) -> Session:
        from pyai_sessions import Session

        before = self.masks.found.copy()
        given = session.to_dict()
        masked = self.masks.value(given)
        if self.masks.found == before:
            return session
        self.report.masked[session.session_id] = self.masks.found - before
        for name in ("session_id", "user_id", "revision", "left"):
            masked.pop(name, None)
            if name in given and name != "left":
                masked[name] = given[name]
        for message, was in zip(masked["messages"], given["messages"], strict=True):
            message["message_id"], message["tool_call_id"] = was["message_id"], was["tool_call_id"]
        return Session.from_dict(masked)


def _export_lines(work: _Work, output: str | None) -> None:
    """Write lines of JSON that lose nothing; of all sessions in one go, else of each that was chosen."""
    filtered = work.filters
    with _opened(output) as file, work.progress() as progress:
        if not work.session_ids and not filtered.keys() - {"user"} and filtered.get("user") != "":
            whose = {"user_id": filtered["user"]} if filtered else {}
            work.report.exported = work.manager.export_sessions(file, **whose, progress=progress)
            return
        for session_id in work.ids():
            work.report.exported += work.manager.export_sessions(file, session_id=session_id)
            progress(work.report.exported)


def _parts(session: Session, form: str, work: _Work) -> Iterator[str]:
    if form == "openai":
        yield from _tuning_line(session, work.report)
    elif form == "markdown":
        yield from markdown_of(session, title_of(session))
    else:
        yield from page_of(session, title_of(session))


def title_of(session: Session) -> str:
    """Return what lists call a session; its id where they have no name for it."""
    if session.title:
        return session.title
    for each in session.messages:
        if each.role == "user" and isinstance(each.content, str) and each.content.strip():
            words = " ".join(each.content.split())
            return words if len(words) <= _WORDS else f"{words[:_WORDS].rpartition(' ')[0] or words[:_WORDS]}…"
    return session.session_id


_WORDS = 60
"""Characters of a question that stand for a title."""


def _tuning_line(session: Session, report: Report) -> Iterator[str]:
    """Return a session as a line that OpenAI's fine-tuning takes; nothing if it has no answer."""
    from pyai_sessions import SessionError

    try:
        messages: list[Any] = list(session.history(format="openai", interrupted="leave out"))
    except SessionError as err:
        report.left_out.append(as_typed(f"{session.session_id}: {err}"))
        return
    while messages and (messages[-1].get("role") != "assistant" or messages[-1].get("tool_calls")):
        messages.pop()
    if messages:
        yield json.dumps({"messages": messages}) + "\n"
    else:
        report.left_out.append(f"{session.session_id}: it has no answer to learn from")


# Where it is written ----------------------------------------------------------------------------------------------


def _is_folder(output: str | None) -> bool:
    return output is not None and (output.endswith(("/", os.sep)) or Path(output).is_dir())


@contextmanager
def _opened(output: str | None) -> Generator[IO[str], None, None]:
    """Open standard output, or a file that is there under its name when all of it is written."""
    if output is None:
        yield sys.stdout
        return
    path = Path(output)
    name = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opened(name, "wt", encoding="utf-8", newline="\n") as file:
            yield file
        Path(name).replace(path)
        name = None
    except OSError as err:
        msg = f"{inert(output)} cannot be written: {err.strerror} (the folder {inert(path.parent)})"
        raise RefusedError(msg) from err
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _export_folder(work: _Work, folder: Path, form: str) -> None:
    """Write a file for each session, and, of HTML, an index of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as rows,
        tempfile.TemporaryFile("w+", encoding="utf-8") as texts,
    ):
        for session in work.sessions():
            path = folder / file_name(session.session_id, FORMATS[form])
            title = title_of(session)
            parts = page_of(session, title, index=True) if form == "html" else _parts(session, form, work)
            with _opened(str(path)) as file:
                for part in parts:
                    file.write(part)
            rows.write(row_of(session, title, path.name))
            texts.write(json.dumps(searched_of(session, title)) + "\n")
        if form == "html":
            rows.seek(0)
            texts.seek(0)
            with _opened(str(folder / "index.html")) as file:
                for part in index_of(rows, map(json.loads, texts)):
                    file.write(part)


def file_name(session_id: str, suffix: str) -> str:
    """Return the name of a session's file: its id, made safe, and no two ids have the same.

    >>> file_name("trip", ".md"), file_name("../etc", ".md")
    ('trip.md', '.._etc-f7f9121f.md')

    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", session_id)[:100]
    if safe == session_id and safe[0] not in ".-" and safe.lower() == safe and safe != "index":
        return f"{safe}{suffix}"
    return f"{safe.lstrip('-')}-{hashlib.sha256(session_id.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}{suffix}"


def _print(out: Output, report: Report, output: str | None) -> None:
    """Tell what was written, masked and left out: where standard output has what is exported, on standard error."""
    masked = {name: dict(kinds) for name, kinds in report.masked.items()}
    if out.as_json:
        fields = {"exported": report.exported, "masked": masked, "left_out": report.left_out}
        if output is None:
            print(json.dumps({"version": 1, **fields}), file=sys.stderr)
        else:
            out.json(**fields)
        return
    if output is not None:
        out.note(f"{report.exported:,} written to {inert(output)}")
    for session_id, kinds in islice(masked.items(), _NAMED):
        listed = ", ".join(counted(number, kind) for kind, number in sorted(kinds.items()))
        out.note(f"Masked in {inert(session_id)}: {listed}")
    if len(masked) > _NAMED:
        out.note(f"Masked in {len(masked) - _NAMED:,} sessions more; --json lists all")
    for each in report.left_out[:_NAMED]:
        out.note(f"Left out: {inert(each)}")
    if len(report.left_out) > _NAMED:
        out.note(f"Left out: {len(report.left_out) - _NAMED:,} more")
