"""`copy`: all sessions of a store to another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from pyai_sessions.cli.asking import dry_run, names
from pyai_sessions.cli.listing import Damage, summaries
from pyai_sessions.cli.output import Output, as_typed, counted, inert
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.stores import open_manager

if TYPE_CHECKING:
    from pyai_sessions import Imported, SessionManager

_TOGETHER = 100


@command(
    examples="copy chat.db redis://localhost:6379/0\ncopy sqlite:///chat.db diskcache://chat --dry-run\n"
    "copy chat.db encrypted.db --to-keys keys.json"
)
@click.argument("source")
@click.argument("target")
@click.option("--to-keys", metavar="FILE", help="The keys of an encrypted target; --keys are those of the source.")
@click.option("--skip-invalid", is_flag=True, help="Leave damaged sessions out, and go on.")
@dry_run
def copy(
    settings: Settings, *, source: str, target: str, to_keys: str | None, skip_invalid: bool, dry_run: bool
) -> int:
    """Copy all sessions from the store SOURCE to the store TARGET, which is made if it is not there.

    Each copy is read back and compared. Give the command again where it was interrupted, or to copy what has changed
    since: what is the same in both is not written. A session that was changed later in the target stays as it is
    there. The states of users and of the application are copied, too.
    """
    out = settings.output
    with open_manager(source, settings.keys, access="read") as manager:
        total = manager.count(status=None)
        if dry_run:
            return _compare(out, manager, target, to_keys)
        with open_manager(target, to_keys, access="create") as copied, out.progress("Copying", total) as progress:
            report = manager.copy_sessions(copied, skip_invalid=skip_invalid, progress=progress)
    return print_report(out, report)


def print_report(out: Output, report: Imported, omitted: Mapping[str, int] | None = None) -> int:
    """Tell what became of each session that was copied or imported; return the exit code.

    *omitted* counts what exports of other programs have that has no place in a session.
    """
    if out.as_json:
        fields = asdict(report) | {"problems": [*map(as_typed, report.problems)]}
        words = {"inserted": "new", "overwritten": "changed", "identical": "same", "different": "kept"}
        of_others = {} if omitted is None else {"omitted": dict(omitted)}
        out.json(dry_run=False, **{words.get(name, name): value for name, value in fields.items()}, **of_others)
        return int(bool(report.different or report.invalid))
    out.line(
        f"{counted(report.inserted, 'session')} new, {report.overwritten:,} changed, {report.identical:,} the same, "
        f"{report.different:,} kept as they are there, {report.invalid:,} left out"
    )
    if report.states:
        out.line(f"{counted(report.states, 'state')} of users or of the application")
    if report.different_ids:
        out.line(f"Kept, for they differ and were changed later: {names(report.different_ids)}")
    if report.different_states:
        users = ["the application" if each is None else each for each in report.different_states]
        out.line(f"States that differ, and were kept: {names(users)}")
    if omitted:
        listed = ", ".join(f"{number:,} {name}" for name, number in sorted(omitted.items()))
        out.note(f"Not taken over, for it has no place in a session: {inert(listed)}")
    for each in report.problems[:20]:
        out.note(f"Left out: {inert(as_typed(each))}")
    if report.invalid > 20:  # noqa: PLR2004 (as above)
        out.note(f"Left out: {report.invalid - 20:,} more")
    return int(bool(report.different or report.invalid))


def _compare(out: Output, manager: SessionManager, target: str, to_keys: str | None) -> int:
    """Say what a copy would do, by the times of the last change."""
    from pyai_sessions import StorageUnreachableError

    found: dict[str, Any] = {"new": 0, "changed": 0, "same": 0, "kept": 0}
    damage = Damage()
    listed = summaries(manager, status="all", on_damage=damage)
    try:
        with open_manager(target, to_keys, access="read") as copied:
            while batch := list(islice(listed, _TOGETHER)):
                there = copied.get_sessions([each.session_id for each in batch], last=1)
                for each in batch:
                    other = there.get(each.session_id)
                    if other is None:
                        found["new"] += 1
                    else:
                        later = (each.updated_at > other.updated_at) - (each.updated_at < other.updated_at)
                        found[("same", "changed", "kept")[later]] += 1
    except StorageUnreachableError:
        found["new"] += sum(1 for _ in listed)
    if out.as_json:
        out.json(dry_run=True, **found)
    else:
        out.line(
            f"Would be copied: {counted(found['new'], 'session')} new, {found['changed']:,} changed; "
            f"{found['same']:,} the same, {found['kept']:,} kept as they are there"
        )
    return int(bool(damage))
