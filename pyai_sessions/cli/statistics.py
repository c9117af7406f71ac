"""`stats`: how many sessions, users and messages a store has, how large they are, and how active its days were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import click

from pyai_sessions.cli.listing import Damage, summaries
from pyai_sessions.cli.output import Output, sized
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.stores import file_of, url_of
from pyai_sessions.cli.times import day_of, time

if TYPE_CHECKING:
    from pyai_sessions import Message, Session, SessionManager, SessionSummary

_BAR = 40
"""Characters of the longest bar."""

_DAYS = 30
"""Days that a person is shown, the newest of them."""

_TOGETHER = 20
"""Sessions whose messages are loaded together."""

_INPUT = ("input_tokens", "prompt_tokens", "inputTokens", "promptTokenCount")
_OUTPUT = ("output_tokens", "completion_tokens", "outputTokens", "candidatesTokenCount")


@dataclass
class Statistics:
    """What was counted."""

    sessions: Counter[str] = field(default_factory=Counter[str])
    users: Counter[str | None] = field(default_factory=Counter[str | None])
    messages: int = 0
    longest: int = 0
    days: Counter[str] = field(default_factory=Counter[str])
    characters: int = 0
    tokens: dict[tuple[str, str], list[int]] = field(default_factory=dict[tuple[str, str], list[int]])

    def add(self, summary: SessionSummary, *, by_message: bool) -> None:
        """Count a session."""
        self.sessions[str(summary.status)] += 1
        self.users[summary.user_id] += 1
        self.messages += summary.message_count
        self.longest = max(self.longest, summary.message_count)
        if not by_message:
            self.days[day_of(summary.active_at)] += 1

    def add_message(self, message: Message) -> None:
        """Count a message."""
        day = day_of(message.timestamp)
        self.days[day] += 1
        self.characters += len(message.content) if isinstance(message.content, str) else len(str(message.content))
        used = tokens_of(message.metadata)
        if used:
            model = message.metadata.get("model")
            both = self.tokens.setdefault((day, model if isinstance(model, str) else "?"), [0, 0])
            both[0] += used[0]
            both[1] += used[1]


def tokens_of(metadata: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the tokens read and written that a message's metadata tells, as APIs name them; None if it tells none.

    >>> tokens_of({"usage": {"prompt_tokens": 12, "completion_tokens": 3}})
    (12, 3)

    """
    usage: Mapping[str, Any] | object = metadata.get("usage", metadata)
    if not isinstance(usage, Mapping):
        return None
    found = [_first(cast("Mapping[str, Any]", usage), names) for names in (_INPUT, _OUTPUT)]
    return None if found == [None, None] else (found[0] or 0, found[1] or 0)


def _first(usage: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


@command(examples="stats\nstats --user ada --since '30 days ago'\nstats --messages --json")
@click.option("--user", "-u", metavar="USER", help='Of this user; "" for the sessions of no user.')
@click.option("--since", type=time, metavar="TIME", help="Of sessions active since.")
@click.option("--messages", "by_message", is_flag=True, help="Read all messages: for activity by message, and tokens.")
def stats(settings: Settings, *, user: str | None, since: datetime | None, by_message: bool) -> int:
    """Count sessions, users and messages, and show the activity by day.

    Reads no message, unless --messages asks for it: then a day's activity is its messages, not the sessions last
    active on it, and the tokens by day and model are shown where messages have them in their metadata ("usage" and
    "model", as APIs name them).
    """
    out, damage = settings.output, Damage()
    found = Statistics()
    chosen = user is not None or since is not None
    with (
        settings.reading() as manager,
        out.progress("Reading sessions", None if chosen else manager.count(status=None)) as progress,
    ):
        batch: list[str] = []
        for n, each in enumerate(summaries(manager, user=user, status="all", since=since, on_damage=damage), 1):
            found.add(each, by_message=by_message)
            batch.append(each.session_id)
            if len(batch) == _TOGETHER:
                _read(manager, batch, found, damage, by_message=by_message)
                progress(n)
        _read(manager, batch, found, damage, by_message=by_message)
        progress(found.sessions.total())
    size = _size(settings)
    if out.as_json:
        _print_json(out, found, size, by_message=by_message)
    else:
        _print(out, found, size, by_message=by_message)
    return int(bool(damage))


def _read(manager: SessionManager, batch: list[str], found: Statistics, damage: Damage, *, by_message: bool) -> None:
    from pyai_sessions import InvalidDocumentError

    given = batch.copy()
    batch.clear()
    if not by_message or not given:
        return
    try:
        sessions = [*manager.get_sessions(given).values()]
    except InvalidDocumentError:
        damage()
        sessions = [*_readable(manager, given)]
    for session in sessions:
        for message in session.messages:
            found.add_message(message)


def _readable(manager: SessionManager, session_ids: Iterable[str]) -> Iterator[Session]:
    from pyai_sessions import InvalidDocumentError

    for each in session_ids:
        with suppress(InvalidDocumentError):
            yield from manager.get_sessions([each]).values()


def _size(settings: Settings) -> int | None:
    """Return the bytes of the file or the directory of the store; None of another kind."""
    url = url_of(settings.store)
    parts, file = urlsplit(url), file_of(url)
    if file is not None:
        files = [file, Path(f"{file}-wal")]
    elif parts.scheme == "diskcache":
        files = [*Path(unquote(parts.netloc + parts.path)).expanduser().rglob("*")]
    else:
        return None
    return sum(each.stat().st_size for each in files if each.is_file())


def _print_json(out: Output, found: Statistics, size: int | None, *, by_message: bool) -> None:
    tokens = [
        {"day": day, "model": model, "input": used[0], "output": used[1]}
        for (day, model), used in sorted(found.tokens.items())
    ]
    out.json(
        sessions=dict(found.sessions),
        users=len([each for each in found.users if each is not None]),
        sessions_of_no_user=found.users[None],
        messages=found.messages,
        longest=found.longest,
        stored_bytes=size,
        **({"characters": found.characters, "tokens": tokens} if by_message else {}),
        activity={"of": "messages" if by_message else "sessions", "days": dict(sorted(found.days.items()))},
    )


def _print(out: Output, found: Statistics, size: int | None, *, by_message: bool) -> None:
    total = found.sessions.total()
    average = found.messages / total if total else 0
    users = len([each for each in found.users if each is not None])
    rows = [
        ("Sessions", f"{total:,}", ", ".join(f"{number:,} {name}" for name, number in sorted(found.sessions.items()))),
        ("Users", f"{users:,}", f"{found.users[None]:,} sessions of no user" if found.users[None] else ""),
        ("Messages", f"{found.messages:,}", f"{average:.1f} a session, {found.longest:,} in the longest"),
    ]
    if by_message:
        rows.append(("Characters", f"{found.characters:,}", "of what messages say"))
    if size is not None:
        rows.append(("Stored", sized(size), "on disk"))
    for name, value, remark in rows:
        out.line(f"{name:<12}{value:<12}{remark}".rstrip())
    if found.days:
        out.line()
        out.line(f"{'Messages' if by_message else 'Sessions, by the day of their last message'}", "bold")
        for line in plot(found.days):
            out.line(line)
    if found.tokens:
        out.line()
        rows_of_tokens = [[day, model, f"{a:,}", f"{b:,}"] for (day, model), (a, b) in sorted(found.tokens.items())]
        out.table(["DAY", "MODEL", "READ", "WRITTEN"], rows_of_tokens, right=["READ", "WRITTEN"])


def plot(days: Mapping[str, int]) -> list[str]:
    r"""Return a line for each of the newest days, with a bar; the days between that have nothing, too.

    >>> print("\n".join(plot({"2026-01-01": 2, "2026-01-03": 1})))
    2026-01-01  ████████████████████████████████████████ 2
    2026-01-02  0
    2026-01-03  ████████████████████ 1

    """
    end = datetime.fromisoformat(max(days))
    start = max(datetime.fromisoformat(min(days)), end - timedelta(days=_DAYS - 1))
    names = [(start + timedelta(days=n)).strftime("%Y-%m-%d") for n in range((end - start).days + 1)]
    highest = max(days.get(each, 0) for each in names)
    bars = {each: "█" * round(_BAR * days.get(each, 0) / highest) for each in names}
    lines = [f"{day}  {bar}{' ' if bar else ''}{days.get(day, 0):,}" for day, bar in bars.items()]
    earlier = sum(number for day, number in days.items() if day < names[0])
    return [*([f"(earlier days: {earlier:,})"] if earlier else []), *lines]
