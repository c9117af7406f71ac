"""Claude Code's transcripts: a file of lines for each session, below `~/.claude/projects`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    UnreadableError,
    each_taken,
    given,
    mapping,
    moment,
    session_of,
    text_of,
)

_OMITTED = {"isSidechain": "messages of agents within", "isMeta": "messages of the program itself"}


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Give the session of a file. What agents within it said, and what the program told itself, is left out."""
    reading = _Reading()
    yield from each_taken(file, reading.take)
    name = reading.session_id or Path(getattr(file, "name", "") or "session").stem
    if reading.messages or reading.omitted:
        fields = {"title": reading.title, "metadata": reading.about}
        made = session_of(f"claude-code-{name}", "claude-code", reading.messages, **fields)
        yield Found("line 1", made, reading.omitted)


class _Reading:
    """What was read of a transcript so far."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.messages: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        self.omitted: Counter[str] = Counter()
        self._titles: dict[object, object] = {}
        self._ids: set[object] = set()
        self._answers: dict[str, dict[str, Any]] = {}

    @property
    def title(self) -> object:
        """The newest summary of this session; a file may have some of others."""
        own = [title for leaf, title in self._titles.items() if leaf in self._ids]
        return own[-1] if own else None

    def take(self, line: Mapping[str, Any], place: str) -> None:
        """Take a line."""
        del place
        self._ids.add(_hashable(line.get("uuid")))
        if line.get("type") == "summary":
            self._titles[_hashable(line.get("leafUuid"))] = line.get("summary")
        if line.get("type") not in ("user", "assistant"):
            return
        for mark, name in _OMITTED.items():
            if line.get(mark):
                self.omitted[name] += 1
                return
        made = _message(line)
        if isinstance(line.get("sessionId"), str):
            self.session_id = self.session_id or line["sessionId"]
        self.about |= given(cwd=line.get("cwd"), branch=line.get("gitBranch"), version=line.get("version"))
        answer = mapping(line["message"], "message").get("id")
        if isinstance(answer, str):  # an answer has a line for each part; the usage of its last one is that of all
            if answer in self._answers:
                self._answers[answer]["metadata"].pop("usage", None)
            self._answers[answer] = made
        self.messages.append(made)


def _hashable(value: object) -> object:
    return value if isinstance(value, str) else None


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
