"""`search`: messages that say something; and `search-index`, which makes searches fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from pyai_sessions.cli.asking import dry_run
from pyai_sessions.cli.errors import RefusedError
from pyai_sessions.cli.listing import STATUSES, Damage, complete_sessions
from pyai_sessions.cli.output import Output, counted, inert, one_line
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.showing import ROLES, is_there, no_session
from pyai_sessions.cli.stores import url_of
from pyai_sessions.cli.times import shown, time

if TYPE_CHECKING:
    from pyai_sessions import HitPage, SessionManager


@command(
    examples="search night train\nsearch '\"night train\" OR ferry' --user ada -C 1\n"
    "search 'trai* -bus' --only answers --since 'last week'\nsearch --mode regex 'NJ \\d+' --session trip\n"
    "search refund --best --one-per-session --json"
)
@click.argument("query", nargs=-1, required=True)
@click.option("--context", "-C", type=click.IntRange(0, 100), default=0, help="Messages around each hit to show.")
@click.option("--user", "-u", metavar="USER", help='In the sessions of this user; "" for those of no user.')
@click.option("--session", metavar="SESSION", shell_complete=complete_sessions, help="In this session.")
@click.option("--status", type=STATUSES, default="active", show_default=True, help="In sessions of this status.")
@click.option("--only", metavar="WHICH", multiple=True, help="answers, questions, tools, or a role; may be repeated.")
@click.option("--since", type=time, metavar="TIME", help="Messages made at this time or later.")
@click.option("--until", type=time, metavar="TIME", help="Messages made before this time.")
@click.option("--mode", type=click.Choice(["words", "substring", "regex"]), default="words", show_default=True)
@click.option("--tools", is_flag=True, help="Look into calls of tools and their results, too.")
@click.option("--best", is_flag=True, help="The best hit first, not the newest.")
@click.option("--one-per-session", is_flag=True, help="The best hit of each session alone.")
@click.option("--limit", "-n", type=click.IntRange(0), default=20, show_default=True, help="Hits; 0 for all.")
def search(
    settings: Settings,
    *,
    query: Sequence[str],
    context: int,
    user: str | None,
    session: str | None,
    status: str,
    only: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    mode: Any,
    tools: bool,
    best: bool,
    one_per_session: bool,
    limit: int,
) -> int:
    """Find messages that have the words of QUERY.

    Both words of "night train" must be there, "OR" stands between either, a phrase stands in quotes, "trai*" finds
    words that begin so, and "-bus" leaves out messages with that word. Your shell needs quotes around a query with
    such signs: 'night -bus'. The exit code is 0 also where nothing is found.
    """
    from pyai_sessions import ANYONE, NOBODY, SessionStatus

    owner: Any = ANYONE if user is None else user or NOBODY
    options: dict[str, Any] = {
        "mode": mode,
        "session_id": session,
        "status": None if status == "all" else SessionStatus(status),
        "role": [ROLES.get(each, each) for each in only] or None,
        "since": since,
        "until": until,
        "tools": tools,
        "order": "best" if best else "newest",
        "one_per_session": one_per_session,
        "context": context,
        "limit": limit or None,
    }
    out, damage = settings.output, Damage()
    with settings.reading() as manager:
        if session is not None and not is_there(manager, session):
            raise no_session(session)
        found = _search(manager, " ".join(query), owner, options, damage)
    if out.as_json:
        out.json(hits=[each.to_dict() for each in found], more=found.next_cursor is not None, damaged=bool(damage))
    else:
        _print(out, found, context=context)
    return int(bool(damage))


def _search(manager: SessionManager, query: str, owner: Any, options: dict[str, Any], damage: Damage) -> HitPage:
    from pyai_sessions import EncryptionError, InvalidDocumentError

    try:
        return manager.search(query, owner, **options)
    except EncryptionError:
        raise
    except InvalidDocumentError:
        damage()
        return manager.search(query, owner, **options, skip_invalid=True)


def _print(out: Output, found: HitPage, *, context: int) -> None:
    from pyai_sessions import Session

    bold = "\x1b[1m" if os.environ.get("NO_COLOR") else "\x1b[1;31m"
    before, after = (bold, "\x1b[0m") if sys.stdout.isatty() else ("[", "]")
    last = None
    for hit in found:
        if hit.session_id != last:
            if last is not None:
                out.line()
            whose = "" if hit.user_id is None else f", {one_line(hit.user_id)}"
            out.line(f"{one_line(hit.title or hit.session_id)} ({inert(hit.session_id)}{whose})", "bold")
            last = hit.session_id
        where = f"{one_line(hit.role)}, {shown(hit.timestamp)}, message {hit.position + 1}"
        out.line(f"  {where}: {hit.marked(before, after, escape=one_line_kept)}")
        if context:
            for line in Session(messages=list(hit.context)).transcript(zone="local").split("\n"):
                out.line(f"    {line}".rstrip())
    if not found:
        out.note("Nothing was found.")
    if found.next_cursor is not None:
        out.note(f"{counted(len(found), 'hit')} shown, and there are more: --limit 0 lists all.")


def one_line_kept(text: str) -> str:
    """Return a part of a line, inert, with the spaces at its ends."""
    start, end = " " * (text[:1] == " "), " " * (text[-1:] == " " and text.strip() != "")
    return f"{start}{one_line(text)}{end}"


@command(examples="search-index\nsearch-index --rebuild\nsearch-index --drop")
@click.option("--rebuild", is_flag=True, help="Make it anew.")
@click.option("--drop", is_flag=True, help="Remove it: searches then read all messages.")
@dry_run
def search_index(settings: Settings, *, rebuild: bool, drop: bool, dry_run: bool) -> None:
    """Make an index in the store's file for `search`, or bring it up to date. For SQLite and diskcache.

    From then on each writer notes in the index what it changes. A search finds the same with it and without.
    """
    if rebuild and drop:
        msg = "give --rebuild, or --drop"
        raise click.UsageError(msg)
    out = settings.output
    if settings.keyfile is not None or urlsplit(url_of(settings.store)).scheme not in ("sqlite", "diskcache"):
        msg = "an index of this store would lie in memory, and end with this command; search finds the same without it"
        raise RefusedError(msg)
    with settings.reading() if dry_run else settings.writing() as manager:
        number = manager.count(status=None)
        if not dry_run:
            number = _index(out, manager, rebuild=rebuild, drop=drop)
    if out.as_json:
        out.json(dry_run=dry_run, dropped=drop, **{"sessions" if dry_run or drop else "documents": number})
    elif drop:
        out.line(f"The index {'would be' if dry_run else 'is'} removed")
    elif dry_run:
        out.line(f"{counted(number, 'session')}: those that are new or have changed would be indexed")
    else:
        out.line(f"{counted(number, 'document')} indexed")


def _index(out: Output, manager: SessionManager, *, rebuild: bool, drop: bool) -> int:
    if drop:
        manager.drop_search_index()
        return manager.count(status=None)
    with out.progress("Indexing") as progress:
        return manager.build_search_index(rebuild=rebuild, progress=progress)
