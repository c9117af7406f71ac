"""Codex's transcripts: a file of lines for each session, below `~/.codex/sessions`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    called,
    each_taken,
    given,
    listed,
    mapping,
    moment,
    session_of,
    text_of,
)

_CALLS = ("function_call", "custom_tool_call", "local_shell_call")
_WORDS = 60
"""Characters of a question that stand for a title."""

_RESULTS = ("function_call_output", "custom_tool_call_output")


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Give the session of a file: messages, thoughts as far as they were written down, calls of tools and results."""
    reading = _Reading()
    yield from each_taken(file, reading.take)
    name = reading.session_id or Path(getattr(file, "name", "") or "session").stem
    if reading.messages:
        fields = {"created_at": reading.started, "metadata": reading.about, "title": reading.title}
        yield Found("line 1", session_of(f"codex-{name}", "codex", reading.messages, **fields), reading.omitted)


class _Reading:
    """What was read of a transcript so far."""

    def __init__(self) -> None:
        self.session_id: str | None = None
        self.started: str | None = None
        self.messages: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        self.title: str | None = None
        self.omitted: Counter[str] = Counter()
        self._model: object = None
        self._uncounted: dict[str, Any] | None = None

    def take(self, line: Mapping[str, Any], place: str) -> None:
        """Take a line: older releases have no envelope around what newer ones call its payload."""
        kind = line.get("type")
        payload = mapping(line["payload"], "payload") if "payload" in line else line
        if kind == "session_meta" or (kind is None and "id" in line):
            self.session_id = text_of(payload.get("id"), "id")
            self.started = moment(payload.get("timestamp") or line.get("timestamp"))
            self.about |= given(cwd=payload.get("cwd"), version=payload.get("cli_version"))
        elif kind == "turn_context":
            self._model = payload.get("model")
        elif kind == "event_msg" and payload.get("type") == "user_message":
            self.title = self.title or _title(payload.get("message"))  # what a person typed, without the surroundings
        elif kind == "event_msg" and payload.get("type") == "token_count":
            self._count(payload.get("info"))
        elif kind == "response_item" or "payload" not in line:
            made = _message(payload)
            if made is not None:
                made |= given(timestamp=moment(line.get("timestamp")))
                made["message_id"] = re.sub(r"\D", "", place)
                if made["role"] == "assistant" and isinstance(self._model, str):
                    made["metadata"] = {"model": self._model}
                self.messages.append(made)
                self._uncounted = made if made["role"] == "assistant" else self._uncounted
            elif payload.get("type") is not None:
                self.omitted[f"items of the type {payload['type']}"] += 1
        elif kind == "compacted":
            self.omitted["summaries of what came before"] += 1

    def _count(self, info: object) -> None:
        """Give the tokens of a request to the newest answer. A count may come again without a request."""
        used: object = mapping(info, "info").get("last_token_usage") if info else None
        if used and self._uncounted is not None:
            counted = mapping(used, "last_token_usage")
            usage = given(**{name: counted.get(name) for name in ("input_tokens", "output_tokens")})
            self._uncounted.setdefault("metadata", {})["usage"] = usage
            self._uncounted = None


def _title(message: object) -> str | None:
    """Return the first words of a question."""
    words = " ".join(str(message or "").split())
    return words if len(words) <= _WORDS else f"{words[:_WORDS].rpartition(' ')[0] or words[:_WORDS]}…"


def _message(item: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = item.get("type")
    if kind == "message":
        parts = [mapping(each, "a part of content") for each in listed(item.get("content"), "content")]
        texts = [each["text"] for each in parts if isinstance(each.get("text"), str)]
        content: Any = "\n".join(texts) if len(texts) == len(parts) else [dict(each) for each in parts]
        return {"role": text_of(item.get("role"), "role"), "content": content}
    if kind == "reasoning":
        told = given(summary=listed(item.get("summary"), "summary") or None, content=item.get("content") or None)
        return {"role": "assistant", "content": [{"type": "reasoning", **told}]} if told else None
    if kind in _CALLS:
        arguments = item.get("arguments", item.get("input", item.get("action")))
        call = called(item.get("name") or kind, arguments, item.get("call_id") or item.get("id"))
        return {"role": "assistant", "content": "", "tool_calls": [call]}
    if kind in _RESULTS:
        output: object = item.get("output")
        if isinstance(output, dict):  # of older releases
            output = mapping(item["output"], "output").get("content")
        return {"role": "tool", "content": output, "tool_call_id": text_of(item.get("call_id"), "call_id")}
    return None
