"""Move conversations out of a table of your own, a row a message: python from_sql.py chats.db sqlite:///moved.db.

Run it again if it was cut short, or while users still write to the table: what is there already is not stored twice.
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from time import monotonic
from typing import Any

from pyai_sessions import SessionManager

# Change these two for your table. The rows of a conversation must come together and in order.
ROWS = """
    SELECT conversation_id, user_id, role, content, created_at, position FROM messages
    ORDER BY conversation_id, position
"""
ROLES = {"human": "user", "bot": "assistant"}


def conversations(database: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Read one conversation at a time; return each as the JSON of a session."""
    for conversation_id, rows in groupby(database.execute(ROWS), key=itemgetter(0)):
        user_ids, roles, contents, times, positions = zip(*(row[1:] for row in rows), strict=True)
        times = [f"{each}Z" for each in times]  # the table's times are UTC, and do not say so
        yield {
            "session_id": str(conversation_id),
            "user_id": user_ids[0],
            "created_at": times[0],
            "updated_at": times[-1],
            "messages": [
                {"role": ROLES.get(role, role), "content": content, "timestamp": time, "message_id": f"row-{position}"}
                for role, content, time, position in zip(roles, contents, times, positions, strict=True)
            ],
        }


def main(path: str, url: str) -> None:
    """Move them, and tell how far it is."""
    start = monotonic()
    database = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
    with closing(database), SessionManager(url) as manager:
        report = manager.import_sessions(
            conversations(database),
            on_conflict="newer",  # what goes on in the new store stays
            skip_invalid=True,
            progress=lambda done: print(f"{done:,} ...", file=sys.stderr),
        )
    print(
        f"{report.inserted:,} new, {report.identical:,} there already, {report.overwritten:,} replaced, "
        f"{report.different:,} went on in the new store, in {monotonic() - start:.1f} s"
    )
    if report.invalid:
        sys.exit("\n".join(["Not moved:", *report.problems]))


if __name__ == "__main__":
    match sys.argv:
        case [_, path, url]:
            main(path, url)
        case _:
            sys.exit(__doc__)
