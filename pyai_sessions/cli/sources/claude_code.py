"""Claude Code's transcripts: a file of lines for each session, below `~/.claude/projects`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    UnreadableError,
    given,
    lines,
    mapping,
    moment,
    session_of,
    text_of,
)


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Give the session of a file. What agents of its own said, and what it told itself, is left out."""
    messages: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    title = session_id = None
    for item in lines(file):
        if isinstance(item, Broken):
            yield item
            continue
        try:
            line = mapping(item.value, "the line")
            title = line.get("summary") if line.get("type") == "summary" else title
            if line.get("type") not in ("user", "assistant") or line.get("isSidechain") or line.get("isMeta"):
                continue
            messages.append(_message(line))
            session_id = session_id or line.get("sessionId")
            about |= given(cwd=line.get("cwd"), branch=line.get("gitBranch"), version=line.get("version"))
        except UnreadableError as err:
            yield Broken(item.place, str(err))
    name = session_id if isinstance(session_id, str) else Path(getattr(file, "name", "") or "session").stem
    if messages:
        yield Found("line 1", session_of(f"claude-code-{name}", "claude-code", messages, title=title, metadata=about))


def _message(line: Mapping[str, Any]) -> dict[str, Any]:
    message = mapping(line.get("message"), "message")
    content = message.get("content")
    if not isinstance(content, (str, list)):
        msg = "content is neither text nor a list"
        raise UnreadableError(msg)
    return given(
        role=text_of(message.get("role"), "role"),
        content=content,
        message_id=text_of(line.get("uuid"), "uuid"),
        timestamp=moment(line.get("timestamp")),
        metadata=given(model=message.get("model"), usage=message.get("usage")),
    )
