"""The logs of the program `llm`: `logs.db`, an SQLite file of conversations and responses."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pyai_sessions.cli.sources.reading import Broken, Found, called, given, moment, session_of

_PARTS = {
    "calls": "SELECT name, arguments, tool_call_id FROM tool_calls WHERE response_id = ? ORDER BY id",
    "results": "SELECT name, output, tool_call_id FROM tool_results WHERE response_id = ? ORDER BY id",
    "files": "SELECT a.id, a.type, a.path, a.url, a.content IS NOT NULL AS held FROM attachments a "
    'JOIN prompt_attachments p ON p.attachment_id = a.id WHERE p.response_id = ? ORDER BY p."order"',
    "fragments": "SELECT f.content FROM fragments f JOIN prompt_fragments p ON p.fragment_id = f.id "
    'WHERE p.response_id = ? ORDER BY p."order"',
    "system_fragments": "SELECT f.content FROM fragments f JOIN system_fragments p ON p.fragment_id = f.id "
    'WHERE p.response_id = ? ORDER BY p."order"',
}
"""What other tables have of a response. A log that an older release made lacks some of them."""


def is_log(path: Path) -> bool:
    """Return whether an SQLite file is such a log."""
    with suppress(sqlite3.Error), closing(_open(path)) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {"conversations", "responses"} <= tables
    return False


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def sessions(path: Path) -> Iterator[Found | Broken]:
    """Iterate over the conversations of a log. Holds one of them."""
    with closing(_open(path)) as connection:
        connection.row_factory = sqlite3.Row
        parts = {name: query for name, query in _PARTS.items() if _can(connection, query)}
        try:
            for row in connection.execute("SELECT id, name, model FROM conversations ORDER BY id").fetchall():
                query = "SELECT * FROM responses WHERE conversation_id = ? ORDER BY datetime_utc, id"
                omitted = Counter[str]()
                messages: list[dict[str, Any]] = []
                for response in connection.execute(query, (row["id"],)).fetchall():
                    name = str(response["id"])
                    found = {each: [*map(dict, connection.execute(parts[each], (name,)))] for each in parts}
                    omitted["contents of attachments"] += sum(each["held"] for each in found.get("files", ()))
                    messages += _turn(name, dict(response), found)
                if messages:
                    about = {"model": row["model"]}
                    made = session_of(f"llm-{row['id']}", "llm", messages, title=row["name"], metadata=about)
                    yield Found(f"conversation {row['id']}", made, +omitted)
        except sqlite3.Error as err:
            yield Broken(str(path), f"cannot be read: {err}")


def _can(connection: sqlite3.Connection, query: str) -> bool:
    with suppress(sqlite3.Error):
        connection.execute(query, ("",))
        return True
    return False


def _turn(name: str, row: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Return the messages of a response: results of tools, what was asked, and the answer with the tools it calls."""
    common = given(timestamp=moment(row.get("datetime_utc")))
    system = [*(each["content"] for each in found.get("system_fragments", ())), row.get("system")]
    prompt = [*(each["content"] for each in found.get("fragments", ())), row.get("prompt")]
    if any(system):
        yield {"role": "system", "content": _joined(system), "message_id": f"{name}-system", **common}
    for n, each in enumerate(found.get("results", ())):
        about = given(name=each["name"], tool_call_id=each["tool_call_id"])
        yield {"role": "tool", "content": str(each["output"]), "message_id": f"{name}-result-{n}", **about, **common}
    files = [
        {"type": "file", **given(file_name=each["path"] or each["url"] or each["id"], mime_type=each["type"])}
        for each in found.get("files", ())
    ]
    if any(prompt) or files or not found.get("results"):
        text = _joined(prompt)
        content = [*([{"type": "text", "text": text}] if text else []), *files] if files else text
        yield {"role": "user", "content": content, "message_id": f"{name}-prompt", **common}
    usage = given(input_tokens=row.get("input_tokens"), output_tokens=row.get("output_tokens"))
    metadata = given(model=row.get("resolved_model") or row.get("model"), usage=usage or None)
    calls = [called(each["name"], each["arguments"], each["tool_call_id"]) for each in found.get("calls", ())]
    answer = {"role": "assistant", "content": str(row.get("response") or ""), "message_id": name}
    yield {**answer, **given(tool_calls=calls or None), "metadata": metadata, **common}


def _joined(texts: list[Any]) -> str:
    return "\n".join(str(each) for each in texts if each)
