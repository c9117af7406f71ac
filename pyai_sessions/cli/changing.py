"""`title`, `archive`, `restore`, `rm` and `rm-user`: what changes sessions, or removes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pyai_sessions.cli.asking import confirm, dry_run, names, receipt, yes
from pyai_sessions.cli.errors import RefusedError
from pyai_sessions.cli.listing import complete_sessions, summaries
from pyai_sessions.cli.output import Output, counted, inert, one_line
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.showing import is_there, no_session

if TYPE_CHECKING:
    from pyai_sessions import SessionManager, SessionSummary

_DAYS = click.FloatRange(0)


@command(examples='title trip "Night trains to Vienna"\ntitle trip --clear')
@click.argument("session", shell_complete=complete_sessions)
@click.argument("text", required=False)
@click.option("--clear", is_flag=True, help="Take the title away: lists show the first words of the first question.")
@dry_run
def title(settings: Settings, *, session: str, text: str | None, clear: bool, dry_run: bool) -> None:
    """Give a SESSION a title, or take it away."""
    if clear is (text is not None):
        msg = "give a title, or --clear"
        raise click.UsageError(msg)
    out = settings.output
    with settings.reading() if dry_run else settings.writing() as manager:
        found = manager.get_session(session, last=1)
        if found is None:
            raise no_session(session)
        before, found.title = found.title, text
        if not dry_run:
            manager.save(found)
    if out.as_json:
        out.json(dry_run=dry_run, session_id=session, title=text, title_before=before)
    else:
        would = "would be called" if dry_run else "is called"
        out.line(f"{inert(session)} {would} {one_line(text) if text else 'by its first question'}")


def _some(
    settings: Settings,
    session_ids: Sequence[str],
    verb: str,
    act: Callable[[SessionManager, str], object],
    *,
    dry: bool,
    ask: Callable[[Sequence[str]], object] = lambda _: None,
) -> None:
    """Do something with each session that is named, and print a receipt."""
    from pyai_sessions import SessionNotFoundError

    done: list[str] = []
    with settings.reading() if dry else settings.writing() as manager:
        there = {each for each in session_ids if is_there(manager, each)}
        missing = [each for each in session_ids if each not in there]
        ask([each for each in session_ids if each in there])
        for each in dict.fromkeys(session_ids):
            if each in there:
                try:
                    if not dry:
                        act(manager, each)
                    done.append(each)
                except SessionNotFoundError:
                    missing.append(each)
    receipt(settings.output, verb, done, missing, dry=dry)


def _named_or_inactive(sessions: Sequence[str], inactive: float | None) -> None:
    if bool(sessions) is (inactive is not None):
        msg = "name sessions, or give --inactive DAYS"
        raise click.UsageError(msg)


def _report(out: Output, verb: str, found: Sequence[SessionSummary]) -> None:
    """Say which sessions a dry run found."""
    receipt(out, verb, [each.session_id for each in found], [], dry=True)
    if not found and not out.as_json:
        out.line("Nothing would change.")


@command(examples="archive trip\narchive --inactive 30 --dry-run")
@click.argument("sessions", nargs=-1, shell_complete=complete_sessions)
@click.option("--inactive", type=_DAYS, metavar="DAYS", help="All that got no message for so many days.")
@dry_run
def archive(settings: Settings, *, sessions: Sequence[str], inactive: float | None, dry_run: bool) -> None:
    """Archive SESSIONS: they leave the lists, and can still be read, exported and restored."""
    _named_or_inactive(sessions, inactive)
    out = settings.output
    if inactive is None:
        _some(settings, sessions, "archived", lambda manager, each: manager.archive(each), dry=dry_run)
    elif dry_run:
        with settings.reading() as manager:
            _report(out, "archived", manager.archive_inactive(inactive, dry_run=True))
    else:
        with settings.writing() as manager, out.progress("Archiving") as progress:
            number = manager.archive_inactive(inactive, progress=progress)
        _print_number(out, "archived", number)


def _print_number(out: Output, verb: str, number: int) -> None:
    if out.as_json:
        out.json(dry_run=False, **{f"{verb}_count": number})
    else:
        out.line(f"{counted(number, 'session')} {verb}")


@command(examples="restore trip")
@click.argument("sessions", nargs=-1, required=True, shell_complete=complete_sessions)
@dry_run
def restore(settings: Settings, *, sessions: Sequence[str], dry_run: bool) -> None:
    """Make archived SESSIONS active again."""
    _some(settings, sessions, "restored", lambda manager, each: manager.restore(each), dry=dry_run)


@command(examples="rm trip\nrm --inactive 365 --dry-run\nrm trip other --yes")
@click.argument("sessions", nargs=-1, shell_complete=complete_sessions)
@click.option("--inactive", type=_DAYS, metavar="DAYS", help="All that got no message for so many days, archived too.")
@dry_run
@yes
def rm(settings: Settings, *, sessions: Sequence[str], inactive: float | None, dry_run: bool, yes: bool) -> None:
    """Delete SESSIONS for good. Their forks stay whole. It asks before."""
    _named_or_inactive(sessions, inactive)
    out = settings.output
    if inactive is None:

        def ask(there: Sequence[str]) -> None:
            if there and not dry_run:
                confirm(f"Delete {counted(len(there), 'session')} for good: {names(there)}?", given=yes)

        _some(settings, sessions, "deleted", lambda manager, each: manager.delete(each), dry=dry_run, ask=ask)
        return
    with settings.reading() as manager:
        found = manager.delete_inactive(inactive, dry_run=True)
    if dry_run:
        _report(out, "deleted", found)
        return
    if found:
        listed = names([each.session_id for each in found])
        confirm(f"Delete {counted(len(found), 'session')} for good: {listed}?", given=yes)
    with settings.writing() as manager, out.progress("Deleting", len(found)) as progress:
        number = manager.delete_inactive(inactive, progress=progress) if found else 0
    _print_number(out, "deleted", number)


@command(examples="rm-user ada --dry-run\nrm-user ada --scan --yes --json > receipt.json")
@click.argument("user")
@click.option("--scan", is_flag=True, help="Read all that is stored, and erase what no list knows, too.")
@dry_run
@yes
def rm_user(settings: Settings, *, user: str, scan: bool, dry_run: bool, yes: bool) -> None:
    """Erase all that is held of a USER: sessions of every status, their branches, and the user's state.

    The receipt names the forks of other users that still hold messages of the erased sessions. Copies elsewhere
    (backups, exports, logs) are not reached.
    """
    out = settings.output
    if not user:
        msg = "a user is named; the sessions of no user are deleted with rm"
        raise click.UsageError(msg)
    with settings.reading() as manager:
        damage: list[None] = []
        found = [
            each.session_id
            for each in summaries(manager, user=user, status="all", on_damage=lambda: damage.append(None))
        ]
        has_state = bool(manager.user_state(user))
    if dry_run:
        if out.as_json:
            receipt(out, "erased", found, [], dry=True)
        else:
            state = " and the user's state" if has_state else ""
            listed = f": {names(found)}" if found else ""
            out.line(f"Would be erased of {inert(user)}: {counted(len(found), 'session')}{state}{listed}")
        return
    state = ", and the user's state" if has_state else ""
    damaged = ", and what is damaged" if damage else ""
    question = f"Erase {counted(len(found), 'session')} of {inert(user)}{state}{damaged} for good?"
    confirm(question, given=yes)
    with settings.writing() as manager:
        erased = manager.delete_user(user, scan=scan)
    _print_erasure(out, user, asdict(erased))
    if erased.unknown:
        msg = "documents that cannot be read, and do not tell whose they are, were left: " + ", ".join(erased.unknown)
        raise RefusedError(msg)


def _print_erasure(out: Output, user: str, erased: dict[str, Any]) -> None:
    if out.as_json:
        out.json(dry_run=False, user_id=user, **erased)
        return
    number = len(erased["session_ids"])
    out.line(f"Erased of {inert(user)}: {counted(number, 'session')}, {counted(erased['states'], 'document')} of state")
    if erased["shared"]:
        out.line(f"Forks of other users still hold messages of these sessions: {names(erased['shared'])}")
    if erased["unlisted"]:
        out.line(f"Found by the scan alone, and erased: {names(erased['unlisted'])}")
