"""The logs of the program `llm`: `logs.db`, an SQLite file of conversations and responses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from pyai_sessions.cli.sources.reading import Broken, Found, given, moment, session_of

_COLUMNS = (
    "id",
    "model",
    "prompt",
    "system",
    "response",
    "conversation_id",
    "datetime_utc",
    "input_tokens",
    "output_tokens",
)


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
        there = {row["name"] for row in connection.execute("PRAGMA table_info(responses)")}
        columns = ", ".join(each for each in _COLUMNS if each in there)
        try:
            for row in connection.execute("SELECT id, name, model FROM conversations ORDER BY id").fetchall():
                query = f"SELECT {columns} FROM responses WHERE conversation_id = ? ORDER BY datetime_utc, id"  # noqa: S608
                messages = [each for found in connection.execute(query, (row["id"],)) for each in _turn(dict(found))]
                if messages:
                    about = {"model": row["model"]}
                    made = session_of(f"llm-{row['id']}", "llm", messages, title=row["name"], metadata=about)
                    yield Found(f"conversation {row['id']}", made)
        except sqlite3.Error as err:
            yield Broken(str(path), f"cannot be read: {err}")


def _turn(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the messages of a response: what was asked, and the answer."""
    common = given(timestamp=moment(row.get("datetime_utc")))
    name = str(row["id"])
    if row.get("system"):
        yield {"role": "system", "content": str(row["system"]), "message_id": f"{name}-system", **common}
    yield {"role": "user", "content": str(row.get("prompt") or ""), "message_id": f"{name}-prompt", **common}
    usage = given(input_tokens=row.get("input_tokens"), output_tokens=row.get("output_tokens"))
    metadata = given(model=row.get("model"), usage=json.loads(json.dumps(usage)) or None)
    answer = str(row.get("response") or "")
    yield {"role": "assistant", "content": answer, "message_id": name, "metadata": metadata, **common}
