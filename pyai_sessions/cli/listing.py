"""`ls`: conversations, the newest first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from pyai_sessions.cli.output import counted, inert, one_line
from pyai_sessions.cli.settings import Settings, command, taken
from pyai_sessions.cli.times import shown, time

if TYPE_CHECKING:
    from pyai_sessions import SessionManager, SessionSummary

_PAGE = 100
"""Summaries that are read in one trip."""

_COMPLETED = 1_000
"""Sessions, the newest, among whose ids a shell completes."""

STATUSES = click.Choice(["active", "archived", "all"])


def summaries(
    manager: SessionManager,
    *,
    user: str | None = None,
    status: str = "active",
    title: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    on_damage: Callable[[], object],
) -> Iterator[SessionSummary]:
    """Iterate over summaries, latest activity first. Holds a page of them; stops reading where *since* says so.

    Where a
    session cannot be read, *on_damage* is called, and the others of its page follow.

    *user* "" asks for sessions of no user; *title* for those whose title has this text, in any case.
    """
    from pyai_sessions import ANYONE, NOBODY, EncryptionError, InvalidDocumentError, SessionStatus

    owner: Any = ANYONE if user is None else user or NOBODY
    wanted = None if status == "all" else SessionStatus(status)
    passed_over = title is not None or until is not None
    size = _PAGE if limit is None or passed_over else max(1, min(limit, _PAGE))
    cursor = None
    while True:
        given: dict[str, Any] = {"status": wanted, "limit": size, "cursor": cursor}
        try:
            page = manager.list_sessions(owner, **given)
        except EncryptionError:
            raise
        except InvalidDocumentError:
            on_damage()
            page = manager.list_sessions(owner, **given, skip_invalid=True)
        for each in page:
            if since is not None and each.active_at < since:
                return
            if until is not None and each.active_at > until:
                continue
            if title is None or title.casefold() in (each.title or "").casefold():
                yield each
        cursor = page.next_cursor
        if cursor is None:
            return


def complete_sessions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids among which a shell completes: of the newest sessions, with their titles."""
    from pyai_sessions import SessionError

    del param
    before = None if ctx.parent is None else taken(None, dict(ctx.parent.params))
    settings = taken(before, dict(ctx.params))
    with suppress(SessionError, click.UsageError), settings.reading() as manager:
        newest = islice(summaries(manager, status="all", on_damage=lambda: None), _COMPLETED)
        return [
            CompletionItem(each.session_id, help=one_line(each.title or ""))
            for each in newest
            if each.session_id.startswith(incomplete) and each.session_id == inert(each.session_id)
        ]
    return []


class Damage:
    """Tells a person once that damaged sessions are left out, and is true from then on."""

    _found = False

    def __call__(self) -> None:
        """Tell it."""
        if not self._found:
            self._found = True
            print("Damaged sessions are left out; `pyai-sessions verify` names them.", file=sys.stderr)

    def __bool__(self) -> bool:
        return self._found


def filters(*, status: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that choose sessions; by default those of a status."""
    options = (
        click.option("--user", "-u", metavar="USER", help='Sessions of this user; "" for those of no user.'),
        click.option("--status", type=STATUSES, default=status, show_default=True, help="Sessions of this status."),
        click.option("--title", metavar="TEXT", help="Sessions whose title has this text, in any case."),
        click.option("--since", type=time, metavar="TIME", help='Sessions active since: 2026-11-28, "last week".'),
        click.option("--until", type=time, metavar="TIME", help="Sessions last active before this time."),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(options):
            function = each(function)
        return function

    return decorate


@command(examples='ls --user ada --since "last week"\nls --status archived --limit 0\nls --title train --json')
@filters(status="active")
@click.option("--limit", "-n", type=click.IntRange(0), default=20, show_default=True, help="At most; 0 for all.")
def ls(
    settings: Settings,
    *,
    user: str | None = None,
    status: str = "active",
    title: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 20,
) -> int:
    """List conversations, the newest first.

    A title is the session's own, or the first words of its first question.
    """
    out = settings.output
    damage = Damage()
    chosen: dict[str, Any] = {"user": user, "status": status, "title": title, "since": since, "until": until}
    with settings.reading() as manager:
        found = summaries(manager, **chosen, limit=limit + 1 if limit else None, on_damage=damage)
        listed = islice(found, limit or None)
        if out.as_json:
            fields = (each.to_dict() for each in listed)
            out.json_list("sessions", fields, more=lambda: next(found, None) is not None, damaged=lambda: bool(damage))
            return int(bool(damage))
        rows = list(listed)
        more = next(found, None) is not None
    if not rows:
        out.note("No session fits." if user or title or since or until else "There are no sessions.")
        return int(bool(damage))
    all_of_them = status == "all"
    out.table(
        ["SESSION", "USER", *(["STATUS"] if all_of_them else []), "MESSAGES", "ACTIVE", "TITLE"],
        [
            [each.session_id, each.user_id, *([each.status] if all_of_them else []), each.message_count,
             shown(each.active_at), each.title]
            for each in rows
        ],
        right=["MESSAGES"],
    )  # fmt: skip
    if more:
        out.note(f"{counted(len(rows), 'session')} shown, and there are more: --limit 0 lists all.")
    return int(bool(damage))
