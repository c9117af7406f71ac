"""`show`: a conversation as a transcript; its code alone; or as it goes on."""

from __future__ import annotations

import io
import re
import select
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import click

from pyai_sessions.cli.errors import NotFoundError
from pyai_sessions.cli.listing import complete_sessions
from pyai_sessions.cli.output import Output, counted, inert, one_line
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.times import shown

if TYPE_CHECKING:
    from pyai_sessions import Message, Session, SessionManager

ROLES = {"answers": "assistant", "questions": "user", "tools": "tool"}
_COLOURS = {"user": "bold cyan", "assistant": "bold green", "tool": "bold yellow", "system": "bold magenta"}

_FENCED = re.compile(
    r"^(?P<fence>`{3,}|~{3,})[^\n]*\n(?P<code>.*?)(?:^(?P=fence)[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)


@command(examples="show trip --last 10\nshow --only answers\nshow trip --code > program.py\nshow trip --follow")
@click.argument("session", required=False, shell_complete=complete_sessions)
@click.option("--last", "-n", type=click.IntRange(1), help="The newest so many messages alone.")
@click.option("--only", metavar="WHICH", multiple=True, help="answers, questions, tools, or a role; may be repeated.")
@click.option("--code", is_flag=True, help="Print the code blocks alone, as they are.")
@click.option("--follow", "-f", is_flag=True, help="Go on with messages as they are stored, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.01), default=1.0, hidden=True)
def show(
    settings: Settings,
    *,
    session: str | None,
    last: int | None,
    only: Sequence[str],
    code: bool,
    follow: bool,
    interval: float,
) -> None:
    """Show a conversation: who said what, and when. Without a SESSION, the newest one.

    A call of a tool and its result are a line each. Control characters are escaped.
    """
    out = settings.output
    roles = [ROLES.get(each, each) for each in only] or None
    with settings.reading() as manager:
        found = _session(manager, session, None if roles else last)
        messages = [each for each in found.messages if roles is None or each.role in roles]
        messages = messages[-last:] if last else messages
        if code:
            _print_code(messages)
        elif out.as_json:
            _print_json(out, found, messages, follow=follow)
        else:
            _print_head(out, found)
            _print_transcript(out, found, last, roles)
            if roles and not messages:
                there = ", ".join(sorted({one_line(each.role) for each in found.messages})) or "none"
                out.note(f"No message is of {inert(', '.join(only))}; there are: {there}")
        if follow:
            for message in _following(manager, found, interval):
                if roles is None or message.role in roles:
                    _print_message(out, message, code=code)


def _session(manager: SessionManager, session_id: str | None, last: int | None) -> Session:
    if session_id is None:
        newest = manager.list_sessions(limit=1)
        if not newest:
            msg = "the store has no active session to show"
            raise NotFoundError(msg)
        session_id = newest[0].session_id
    found = manager.get_session(session_id, last=last)
    if found is None:
        raise no_session(session_id)
    return found


def is_there(manager: SessionManager, session_id: str) -> bool:
    """Return whether there is a session of this id, be it damaged."""
    from pyai_sessions import InvalidDocumentError

    try:
        return manager.get_session(session_id, last=1) is not None
    except InvalidDocumentError:
        return True


def no_session(session_id: str) -> NotFoundError:
    """Return the error that says that there is no session of this id, and how to find one."""
    return NotFoundError(f"there is no session '{inert(session_id)}'; `pyai-sessions ls` lists them")


def _following(manager: SessionManager, session: Session, interval: float) -> Iterator[Message]:
    """Iterate over the messages that are stored from now on, without end."""
    from pyai_sessions import SessionStateError

    seen = session.messages[-1].message_id if session.messages else None
    while True:
        try:
            page = manager.get_messages(session.session_id, after=seen, limit=100)
        except SessionStateError as err:
            if isinstance(err, LookupError):  # the session is gone
                raise
            seen = None  # the message was removed
            newest = manager.get_messages(session.session_id, limit=1)
            seen = newest[-1].message_id if newest else None
            continue
        for each in page:
            seen = each.message_id
            yield each
        if not page.has_newer:
            _check_reader()
            time.sleep(interval)


def _check_reader() -> None:
    """Raise where standard output is a pipe that nobody reads any more: writing would tell, but nothing is written."""
    if not sys.stdout.isatty() and hasattr(select, "poll"):  # Windows has no poll
        with suppress(io.UnsupportedOperation):  # it is no file
            poll = select.poll()
            poll.register(sys.stdout.fileno(), 0)
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
                raise BrokenPipeError


def _print_head(out: Output, session: Session) -> None:
    whose = f"of {one_line(session.user_id)}" if session.user_id is not None else "of no user"
    count = counted(session.message_count, "message")
    if session.title:
        out.line(one_line(session.title), "bold")
    out.line(
        f"{inert(session.session_id)}, {whose}, {session.status}, {count}, since {shown(session.created_at)}", "dim"
    )
    out.line()


def _print_transcript(out: Output, session: Session, last: int | None, roles: list[str] | None) -> None:
    width = max(out.console().width, 20) if sys.stdout.isatty() else None
    _print_lines(out, session.transcript(last=last, roles=roles, width=width, zone="local"))


def _print_lines(out: Output, transcript: str) -> None:
    for line in transcript.split("\n") if transcript else ():
        heading = line[:1].strip() and not line.startswith("(")
        out.line(line, _COLOURS.get(re.split(r"[ ,:]", line)[0], "bold") if heading else None)


def _print_message(out: Output, message: Message, *, code: bool) -> None:
    from pyai_sessions import Session

    if code:
        _print_code([message])
    elif out.as_json:
        out.json_line(message=message.to_dict())
    else:
        _print_lines(out, Session(messages=[message]).transcript(zone="local"))
    sys.stdout.flush()


def _print_json(out: Output, session: Session, messages: Sequence[Message], *, follow: bool) -> None:
    fields: dict[str, Any] = {
        name: getattr(session, name)
        for name in ("session_id", "user_id", "title", "metadata", "state", "message_count")
    }
    fields["status"] = str(session.status)
    fields |= {name: getattr(session, name).isoformat() for name in ("created_at", "updated_at", "active_at")}
    if follow:
        out.json_line(session=fields)
        for each in messages:
            out.json_line(message=each.to_dict())
    else:
        out.json(session=fields, messages=[each.to_dict() for each in messages])


def _print_code(messages: Sequence[Message]) -> None:
    """Print the code blocks of messages: as they are into a file or a pipe, inert on a terminal."""
    for each in messages:
        for block in code_of(each.content):
            print("\n".join(map(inert, block.split("\n"))) if sys.stdout.isatty() else block)


def code_of(content: object) -> Iterator[str]:
    r"""Iterate over the fenced blocks of a message's texts.

    >>> list(code_of("Try this:\n```python\nprint(1)\n```\nDone."))
    ['print(1)']

    """
    if isinstance(content, str):
        for found in _FENCED.finditer(content):
            yield found["code"].removesuffix("\n")
    elif isinstance(content, Sequence):
        for part in cast("Sequence[object]", content):
            if isinstance(part, Mapping):
                yield from code_of(cast("Mapping[str, object]", part).get("text"))
