"""Which program a file comes from, told by what is in it; and the files in a folder or an archive."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from pyai_sessions.cli.sources import llm
from pyai_sessions.cli.sources.reading import Broken, items

_LOOKED_AT = 1 << 20
"""Characters of a line that are looked at."""


@contextmanager
def opened(path: Path) -> Generator[IO[str], None, None]:
    """Open a file of text, as it is, or compressed, or the `conversations.json` of an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(each for each in archive.namelist() if each.endswith("conversations.json"))
            with archive.open(name) as raw, io.TextIOWrapper(raw, "utf-8", errors="surrogateescape") as file:
                yield file
        return
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
            yield cast("IO[str]", file)
        return
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        yield file


def files_in(path: Path) -> Iterator[Path]:
    """Iterate over the files of a folder that may hold conversations, in order; or the file itself."""
    if not path.is_dir():
        yield path
        return
    for each in sorted(path.rglob("*")):
        if each.is_file() and (each.suffix == ".jsonl" or each.name in ("conversations.json", "logs.db")):
            yield each


def source_of(path: Path) -> str | None:
    """Return the name of the program that a file comes from, or None."""
    with path.open("rb") as raw:
        if raw.read(16) == b"SQLite format 3\0":
            return "llm" if llm.is_log(path) else None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(each.endswith("conversations.json") for each in archive.namelist()):
                return None
    first = _first(path)
    if isinstance(first, list):  # an array in one line; or a conversation of a data set
        items_of = cast("list[object]", first)
        first = items_of[0] if items_of else None
        if isinstance(first, dict) and {"from", "role"} & first.keys():
            return "sharegpt"
    if not isinstance(first, dict):
        return None
    return of_value(cast("dict[str, Any]", first))


def _first(path: Path) -> object:
    """Return the value of a file's first line, else the first that there is: of an array, or over several lines."""
    with opened(path) as file, suppress(ValueError):
        return json.loads(file.readline(_LOOKED_AT))
    with opened(path) as file:
        item = next(items(file), None)
    return None if item is None or isinstance(item, Broken) else item.value


def of_value(value: dict[str, Any]) -> str | None:  # noqa: PLR0911 (a table)
    """Return the name of the program whose export begins with a value."""
    if "shared_state" in value or "session_id" in value or value.keys() == {"key", "document"}:
        return "pyai"
    if "mapping" in value:
        return "chatgpt"
    if "chat_messages" in value:
        return "claude"
    if "conversations" in value or "messages" in value or "conversation" in value:
        return "sharegpt"
    if "payload" in value or (value.get("type") is None and {"id", "timestamp"} <= value.keys()):
        return "codex"
    if "sessionId" in value or value.get("type") in ("summary", "file-history-snapshot", "queue-operation"):
        return "claude-code"
    return None
