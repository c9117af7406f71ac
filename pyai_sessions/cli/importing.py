"""`import`: our own exports, and those of other programs. Given again, it adds what is new."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyai_sessions.cli.asking import dry_run
from pyai_sessions.cli.copying import print_report
from pyai_sessions.cli.errors import RefusedError
from pyai_sessions.cli.output import as_typed, counted, inert
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.sources.detecting import files_in, opened, source_of
from pyai_sessions.cli.sources.reading import Broken, Found

if TYPE_CHECKING:
    from pyai_sessions import Imported, SessionManager

SOURCES = ("pyai", "chatgpt", "claude", "claude-code", "codex", "sharegpt", "llm")

_TOGETHER = 100


@command(
    examples="import all.jsonl\nimport chatgpt-export.zip --user ada\nimport ~/.claude/projects ~/.codex/sessions\n"
    "import ~/.config/io.datasette.llm/logs.db --dry-run\nimport data.json --from sharegpt --strict"
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--from", "source", type=click.Choice(SOURCES), help="The program; by default what is in a file tells.")
@click.option(
    "--user",
    "-u",
    metavar="USER",
    help="Whose the sessions of other programs become. Default: of no user; stored ones keep their own.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(["newer", "skip", "overwrite"]),
    default="newer",
    show_default=True,
    help="What is done where other content is stored: it is replaced unless it was changed later; it stays; it goes.",
)
@click.option("--strict", is_flag=True, help="Stop at the first thing that cannot be read; what came before is stored.")
@dry_run
def import_(
    settings: Settings,
    *,
    paths: tuple[Path, ...],
    source: str | None,
    user: str | None,
    on_conflict: Any,
    strict: bool,
    dry_run: bool,
) -> int:
    """Import sessions from files, archives and folders.

    They may be exports of this program (JSON lines), data exports of ChatGPT and Claude (the archive, or its
    conversations.json), transcripts of Claude Code and Codex, data sets like ShareGPT's, and the logs.db of llm.
    Give the command again with a newer export: what is stored already is counted as the same, what has grown is
    replaced, and what was changed later in the store stays. What cannot be read is named by its line, and left out.
    """
    out = settings.output
    files = [each for path in paths for each in files_in(path)]
    if not files:
        msg = "there are no files of conversations in " + ", ".join(map(str, paths))
        raise click.UsageError(msg)
    if dry_run:
        return _compare(settings, files, source)
    from pyai_sessions import Imported

    total, omitted = Imported(), Counter[str]()
    with settings.creating() as manager, out.progress("Importing") as progress:
        done = 0
        for file in files:
            reading = _Reading(file, source, user, strict=strict)

            def tell(number: int, before: int = done) -> None:
                progress(before + number)

            options: dict[str, Any] = {"on_conflict": on_conflict, "skip_invalid": not strict, "progress": tell}
            given = reading.given() if user is not None else (_with_user(manager, each) for each in reading.given())
            report = manager.import_sessions(given, **options)
            _add(total, report, reading)
            omitted += reading.omitted
            done += report.inserted + report.identical + report.overwritten + report.different
    return print_report(out, total, omitted)


class _Reading:
    """A file that is read, and what of it is broken."""

    def __init__(self, path: Path, source: str | None, user: str | None, *, strict: bool) -> None:
        self.path = path
        self.source = source or source_of(path)
        self.broken: list[str] = []
        self.omitted: Counter[str] = Counter()
        self._user = user
        self._strict = strict

    def given(self) -> Iterator[Any]:
        """Iterate over what the file has for `import_sessions`: lines of our own, or sessions of others."""
        if self.source is None:
            self._fail(Broken("", "is of no program that is known; give --from, or use `copy` for a store"))
        elif self.source == "pyai":
            with opened(self.path) as file:
                yield from file
        else:
            yield from self._others(self.source)

    def found(self) -> Iterator[Found | Broken]:
        """Iterate over the sessions of another program."""
        module = import_module(f"pyai_sessions.cli.sources.{str(self.source).replace('-', '_')}")
        read: Callable[[Any], Iterator[Found | Broken]] = module.sessions
        with ExitStack() as stack:
            yield from read(self.path if self.source == "llm" else stack.enter_context(opened(self.path)))

    def _others(self, source: str) -> Iterator[dict[str, Any]]:
        from pyai_sessions import InvalidValueError, Session

        del source
        for each in self.found():
            if isinstance(each, Broken):
                self._fail(each)
                continue
            self.omitted.update(each.omitted)
            if not each.session["messages"] and each.omitted:
                continue
            session = each.session | ({} if self._user is None else {"user_id": self._user})
            try:
                Session.from_dict(session)
            except InvalidValueError as err:
                self._fail(Broken(each.place, str(err)))
            else:
                yield session

    def _fail(self, broken: Broken) -> None:
        """Keep what is broken for the report; in strict mode, raise it."""
        text = f"{self.path}, {broken.place}: {broken.reason}" if broken.place else f"{self.path} {broken.reason}"
        if self._strict:
            raise RefusedError(text)
        self.broken.append(text)


def _with_user(manager: SessionManager, given: Any) -> Any:
    """Return a session of another program as one of the user that it is of in the store already."""
    from pyai_sessions import InvalidDocumentError

    if isinstance(given, str):  # a line of our own says whose it is
        return given
    try:
        there = manager.get_session(given["session_id"], last=1)
    except InvalidDocumentError:
        there = None
    return given if there is None or there.user_id is None else given | {"user_id": there.user_id}


def _add(total: Imported, report: Imported, reading: _Reading) -> None:
    """Add what became of the sessions of a file."""
    for name, value in vars(report).items():
        if name != "problems":
            setattr(total, name, getattr(total, name) + value)
    problems = [*(f"{reading.path}, {each}" for each in report.problems), *reading.broken]
    total.problems += map(as_typed, problems)
    total.invalid += len(reading.broken)


def _compare(settings: Settings, files: Iterable[Path], source: str | None) -> int:
    """Say how many sessions would be new, and how many are there already."""
    from pyai_sessions import StorageUnreachableError

    out = settings.output
    found = {"new": 0, "there": 0, "left_out": 0}
    with ExitStack() as stack:
        try:
            manager = stack.enter_context(settings.reading())
        except StorageUnreachableError:
            manager = None
        for file in files:
            reading = _Reading(file, source, None, strict=False)
            ids = _ids(reading)
            while batch := list(islice(ids, _TOGETHER)):
                there = _there(manager, [each for each in batch if each])
                found["there"] += len(there)
                found["new"] += len({each for each in batch if each} - there)
            found["left_out"] += len(reading.broken)
            for each in reading.broken[:20]:
                out.note(f"Would be left out: {inert(each)}")
    if out.as_json:
        out.json(dry_run=True, **found)
    else:
        out.line(
            f"Would be imported: {counted(found['new'], 'session')} new; {found['there']:,} are there already, and "
            f"would be compared; {found['left_out']:,} left out"
        )
    return int(bool(found["left_out"]))


def _there(manager: SessionManager | None, session_ids: list[str]) -> set[str]:
    return set() if manager is None or not session_ids else set(manager.get_sessions(session_ids, last=1))


def _ids(reading: _Reading) -> Iterator[str]:
    """Iterate over the ids of the sessions in a file; what cannot be read is kept as broken."""
    for n, each in enumerate(reading.given(), 1):
        if not isinstance(each, str):
            yield str(each["session_id"])
        elif each.strip():
            try:
                found = json.loads(each)
                if "shared_state" not in found:
                    yield str(found["session_id"])
            except (ValueError, TypeError, KeyError):
                reading.broken.append(f"{reading.path}, line {n}: it is no session")
