"""A conversation as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyai_sessions.cli.output import inert, one_line
from pyai_sessions.cli.texts import blocks_of
from pyai_sessions.cli.times import shown

if TYPE_CHECKING:
    from pyai_sessions import Session


def markdown_of(session: Session, title: str) -> Iterator[str]:
    """Iterate over the parts of a conversation in Markdown. What was said stands as it was written, quoted if need be.

    A heading of a message's own is a level below those of the messages, so that no message can look like another.
    """
    yield f"# {_escaped(one_line(title))}\n\n"
    whose = "" if session.user_id is None else f", {_escaped(one_line(session.user_id))}"
    yield f"`{one_line(session.session_id).replace('`', ' ')}`{whose}, {shown(session.created_at)}\n"
    for message in session.messages:
        name = message.name and f" ({one_line(message.name)})"
        yield f"\n## {_escaped(one_line(message.role) + (name or ''))}, {shown(message.timestamp)}\n\n"
        for block in blocks_of(message):
            if block.kind == "text":
                yield f"{_below(_quiet(block.text)).strip()}\n\n"
            elif block.kind == "media":
                yield f"*{_escaped(block.title)}*\n\n"
            else:
                yield f"<details><summary>{_escaped(block.title)}</summary>\n\n"
                yield f"{_fenced(_quiet(block.text))}\n</details>\n\n"


_TAG = re.compile(r"(`+).*?\1|<(?=[A-Za-z/!?])")
"""Code within a line, which stays as it is; or where HTML may begin."""


def _quiet(text: str) -> str:
    """Return a text whose lines do nothing to a terminal."""
    return "\n".join("\t".join(map(inert, line.split("\t"))) for line in text.splitlines())


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>&#|])", r"\\\1", text)


def _fenced(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _below(text: str) -> str:
    """Return Markdown with its headings two levels lower, and with HTML as text. Code between fences stays."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        found = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            if found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            lines.append(line)
        elif found:
            fence = found[1]
            lines.append(line)
        else:
            heading = re.match(r" {0,3}(#{1,6})(?=\s|$)", line)
            made = f"{'#' * min(6, len(heading[1]) + 2)}{line[heading.end() :]}" if heading else line
            if lines and lines[-1].strip():
                made = re.sub(r"^ {0,3}(=+|-+)\s*$", r"\\\1", made)  # would make a heading of the line above
            lines.append(_TAG.sub(lambda found: found[0] if found[1] else "\\<", made))
    return "\n".join([*lines, *([fence] if fence else [])])
