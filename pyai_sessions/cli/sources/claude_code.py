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
    branch_of,
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
        messages, left = reading.branches()
        fields = {"title": reading.title, "metadata": reading.about, "left": left or None}
        made = session_of(f"claude-code-{name}", "claude-code", messages, **fields)
        yield Found("line 1", made, reading.omitted)


class _Reading:
    """What was read of a transcript so far."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.messages: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        self.omitted: Counter[str] = Counter()
        self._titles: dict[object, object] = {}
        self._parents: dict[object, object] = {}
        self._prompts: dict[object, list[object]] = {}
        self._answers: dict[str, dict[str, Any]] = {}

    @property
    def title(self) -> object:
        """The newest summary of this session; a file may have some of others."""
        own = [title for leaf, title in self._titles.items() if leaf in self._parents]
        return own[-1] if own else None

    def take(self, line: Mapping[str, Any], place: str) -> None:
        """Take a line."""
        del place
        name, parent = _hashable(line.get("uuid")), _hashable(line.get("parentUuid"))
        self._parents.setdefault(name, parent)
        if line.get("type") == "summary":
            self._titles[_hashable(line.get("leafUuid"))] = line.get("summary")
        if line.get("type") not in ("user", "assistant"):
            return
        for mark, what in _OMITTED.items():
            if line.get(mark):
                self.omitted[what] += 1
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
        if parent is not None and _is_prompt(made):
            self._prompts.setdefault(parent, []).append(name)

    def branches(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the messages of the conversation, and its other branches.

        A person who goes back writes another prompt after the same message: the last one is the conversation. Other
        messages that follow the same one, such as the results of tools that ran together, stay in the file's order.
        """
        given_up = {each for prompts in self._prompts.values() for each in prompts[:-1]}
        prompt_of: dict[object, object] = {}
        place: dict[object, int] = {}
        for n, (name, parent) in enumerate(self._parents.items()):
            prompt_of[name] = name if name in given_up else prompt_of.get(parent)
            place[name] = n
        ways: dict[object, list[dict[str, Any]]] = {None: []}
        for message in self.messages:
            name = message["message_id"]
            prompt = prompt_of[name]
            if prompt not in ways:
                parent = self._parents[prompt]
                before = ways.get(prompt_of.get(parent), ())
                ways[prompt] = [each for each in before if place[each["message_id"]] <= place.get(parent, -1)]
            ways[prompt].append(message)
        messages = ways.pop(None)
        return messages, [branch_of(each, messages) for each in ways.values()]


def _is_prompt(message: Mapping[str, Any]) -> bool:
    """Return whether a message is what a person wrote, and no result of a tool."""
    content = message["content"]
    return message["role"] == "user" and (
        isinstance(content, str) or not any(isinstance(each, dict) and "tool_use_id" in each for each in content)  # pyright: ignore[reportUnknownVariableType]
    )


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
