"""Transcripts: a conversation as text for people, in a terminal or a notebook."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from html import escape
from typing import NamedTuple

from typing_extensions import Self

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import PromptMessage
from pyai_sessions.prompts.windows import Choice
from pyai_sessions.values.checks import check_limit, counted, kind_of, shown
from pyai_sessions.values.json import is_array, is_mapping, thawed
from pyai_sessions.values.messages import Message

_INDENT = "    "
_NARROWEST = 20
_LINE = 100
"""The length of a line for a tool call or a result, if no width is given."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that move a terminal's cursor, clear its screen or reverse its text."""


class Entry(NamedTuple):
    """The entry of a message: who speaks, the time as text if it is shown, and what is said."""

    heading: str
    time: str
    text: str


class Transcript(str):  # noqa: SLOT000 (slices of it have no entries)
    """A conversation as text: ``print`` it, or let a notebook show it as HTML. Its repr contains no text.

    Each message begins with a line that has no indent, and all its text is indented, so that no content can look like
    another message. Control characters and HTML are escaped.
    """

    _entries: tuple[Entry, ...] = ()
    _omitted = ""

    @classmethod
    def of(cls, entries: Sequence[Entry], omitted: str, width: int | None) -> Self:
        """Return the transcript of *entries*, with a first line that says what was *omitted*."""
        lines = [omitted] if omitted else []
        for each in entries:
            lines += _lines(each, width)
        made = cls("\n".join(lines))
        made._entries = tuple(entries)
        made._omitted = omitted
        return made

    def __repr__(self) -> str:
        """Without content: a repr ends up in logs."""
        return f"<Transcript of {counted(len(self._entries), 'message')}; print() shows it>"

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Copy as a plain text."""
        return str, (str(self),)

    def _repr_html_(self) -> str:
        """Return the transcript as HTML for a notebook. It loads nothing, and markup in messages is escaped."""
        rows = [f"<p><i>{escape(self._omitted)}</i></p>"] if self._omitted else []
        for each in self._entries:
            time = f" <small>{escape(each.time)}</small>" if each.time else ""
            text = f'<div style="white-space: pre-wrap; margin-left: 2em">{escape(each.text)}</div>'
            rows.append(f"<div><b>{escape(each.heading)}</b>{time}{text}</div>")
        return f"<div>{''.join(rows)}</div>"


def transcript_of(
    messages: Sequence[Message],
    *,
    unloaded: int = 0,
    last: int | None = None,
    roles: Iterable[str] | None = None,
    width: int | None = None,
    zone: str | tzinfo | None = None,
) -> Transcript:
    """Return a transcript of messages, of which *unloaded* older ones are not loaded; see `Session.transcript`."""
    check_limit(last, "last")
    if width is not None and (not isinstance(width, int) or isinstance(width, bool) or width < _NARROWEST):
        raise InvalidValueError("width", f"is {shown(width)}; it is a number of {_NARROWEST} or more, or None")
    reader = _zone(zone)
    choice = Choice.of(last=None, roles=roles, speakers=None, interrupted="tell")
    names = {call.id: call.name for each in choice.prompt_messages(messages) for call in _calls(each)}
    chosen = [(each, said) for each in messages if (said := choice.prompt_messages([each]))]
    left = [] if last == 0 else chosen[-last:] if last is not None else chosen
    earlier = len(chosen) - len(left)
    omitted = [f"{counted(earlier, 'earlier message')} not shown"] if earlier else []
    if unloaded:
        omitted.append(f"{counted(unloaded, 'earlier message')} not loaded")
    fold = (width or _LINE) - len(_INDENT)
    entries = [_entry(message, said, names, reader, fold) for message, said in left]
    return Transcript.of(entries, f"({', '.join(omitted)})" if omitted else "", width)


def _zone(zone: object) -> tzinfo | str | None:
    if zone is None or isinstance(zone, tzinfo):
        return zone
    if isinstance(zone, str):
        if zone == "local":
            return zone
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(zone)
        except (OSError, ValueError, LookupError) as err:
            problem = f"is {shown(zone)}, no time zone that this machine knows"
            raise InvalidValueError("zone", f"{problem}; it is a name such as 'Europe/Vienna', or 'local'") from err
    accepted = "it is the name of a time zone, 'local', a tzinfo, or None for no times"
    raise InvalidValueError("zone", f"is {kind_of(zone)}; {accepted}")


def _time(moment: datetime, zone: tzinfo | str | None) -> str:
    if zone is None:
        return ""
    return moment.astimezone(None if isinstance(zone, str) else zone).strftime("%Y-%m-%d %H:%M:%S %z")


def _calls(said: PromptMessage) -> Iterable[p.Call]:
    return p.calls_of(said.message)


def _entry(
    message: Message, said: Sequence[PromptMessage], names: dict[str, str], zone: tzinfo | str | None, fold: int
) -> Entry:
    name = f" ({message.name})" if message.name and message.name != message.role else ""
    text = "\n".join(line for told in said for line in _said(told, names, fold))
    heading = _folded(_inert(f"{message.role or '(no role)'}{name}").replace("\n", "\\n"), _LINE)
    return Entry(heading or "(no role)", _time(message.timestamp, zone), _inert(text))


def _said(told: PromptMessage, names: dict[str, str], fold: int) -> Iterator[str]:
    """Iterate over the lines of a message: its text, a line for each image or file, a line for each call or result."""
    message = told.message
    if message.role == "tool":
        name = message.name or names.get(message.tool_call_id or "", message.tool_call_id or "a tool")
        result = p.result_of(message)
        parts = p.parts_of(message) if is_array(result) else ()
        text = " ".join(map(_part, parts)) if parts else "" if result is None else p.text_of(result)
        yield _folded(f"{name} returned: {text}", fold)
        return
    for part in p.parts_of(message):
        if part != {"type": "text", "text": ""}:
            yield _part(part)
    for call in _calls(told):
        yield _folded(f"calls {call.name}({p.text_of(call.arguments)})", fold)


def _part(part: p.Part) -> str:
    if part["type"] == "text":
        return p.text_of(part.get("text", ""))
    if part["type"] == "refusal":
        return p.text_of(part.get("refusal", ""))
    given: str = part["type"]
    kind = {"image_url": "image", "input_audio": "audio"}.get(given, given)
    media = p.media_of(part)
    file = part.get("file")
    name = file.get("filename") if is_mapping(file) else p.url_of(part)
    named = [name] if isinstance(name, str) and not name.startswith("data:") else []
    if media is not None:
        named.append(media.mime_type)
    return _folded(f"[{' '.join([kind, *named])}]", _LINE)


def _folded(text: str, length: int) -> str:
    """Return a text as one line of at most *length* characters."""
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 1]}…"


def _inert(text: str) -> str:
    """Return a text with its control characters escaped."""
    made: str = thawed(text.replace("\r\n", "\n"))
    return _CONTROL.sub(_escaped, made)


def _escaped(found: re.Match[str]) -> str:
    return "\t" if found[0] == "\t" else found[0].encode("unicode_escape").decode()


def _lines(entry: Entry, width: int | None) -> Iterator[str]:
    """Iterate over the lines of an entry: first the speaker, then the text, indented."""
    yield f"{entry.heading}, {entry.time}:" if entry.time else f"{entry.heading}:"
    for line in entry.text.split("\n") if entry.text else ():
        wrapped = [line] if width is None else textwrap.wrap(line, width - len(_INDENT), replace_whitespace=False)
        yield from (f"{_INDENT}{each}" if each else "" for each in wrapped or [""])
