"""A view of messages in an SQLite file, a row each, for those who read it by SQL: Datasette, sqlite3, a notebook."""

from __future__ import annotations

import string

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.storage.sqlite.connections import Connections
from pyai_sessions.storage.sqlite.tables import check_name, quoted
from pyai_sessions.values.checks import shown

_SAFE = string.ascii_letters + string.digits + "-_~."
_HEX = "".join(f"{ord(each):02X} " for each in _SAFE)

_ENCODED = f"""(
        WITH RECURSIVE encoded(n, text) AS (
            SELECT 1, ''
            UNION ALL
            SELECT n + 2, text || CASE
                WHEN instr('{_HEX}', substr(hex(runs.owner), n, 2) || ' ') = 0 OR (n = 1 AND runs.owner GLOB '.*')
                THEN '%' || substr(hex(runs.owner), n, 2)
                ELSE substr('{_SAFE}', (instr('{_HEX}', substr(hex(runs.owner), n, 2) || ' ') + 2) / 3, 1)
            END
            FROM encoded WHERE n < length(hex(runs.owner))
        )
        SELECT text FROM encoded ORDER BY n DESC LIMIT 1
    )"""
"""The owner of a run of pages as `encode_id` writes it: byte by byte, from its hex digits."""

_SOURCE = """\
    FROM {table}
    WHERE key >= {under} || 'session/' AND key < {under} || 'session0'"""
"""What a view reads the heads of sessions from: it tells whose view it is."""

# Where messages lie is found first, with no text of them, and sorted: the texts are read when their rows are.
_VIEW = """
CREATE VIEW {view} AS
WITH heads AS (
    SELECT key, substr(key, length({under}) + 9) AS place, json_extract(value, '$.session_id') AS session_id,
        json_extract(value, '$.user_id') AS user_id, json_extract(value, '$.status') AS status,
        json_extract(value, '$.expires_at') AS expires_at, json_extract(value, '$.sealed') AS sealed,
        json_array_length(value, '$.messages') AS count
{source} AND json_valid(value)
),
runs AS (
    SELECT heads.*, run.key AS number, json_extract(run.value, '$.pages') AS pages,
        COALESCE(json_extract(run.value, '$.start'), 0) AS first,
        json_extract(run.value, '$.owner') AS owner, json_extract(run.value, '$.generation') AS generation
    FROM heads, json_each(heads.sealed) AS run
),
prefixes AS (
    SELECT runs.*, {under} || 'messages/' || CASE
        WHEN owner = session_id THEN place ELSE {encoded}
    END || '/' || generation || '/' AS prefix
    FROM runs
),
documents AS (
    SELECT session_id, user_id, status, expires_at, number, found.key AS key, '$' AS path,
        CAST(substr(found.key, length(prefix) + 1) AS INTEGER) AS page, json_array_length(found.value) AS count
    FROM prefixes JOIN {table} AS found
        ON found.key >= prefix AND found.key < substr(prefix, 1, length(prefix) - 1) || '0'
    WHERE page >= first AND page < first + pages AND json_valid(found.value)
    UNION ALL
    SELECT session_id, user_id, status, expires_at, 1000000000, key, '$.messages', 0, count FROM heads
),
places AS (
    SELECT *, SUM(count) OVER (PARTITION BY session_id ORDER BY number, page) - count AS start FROM documents
)
SELECT
    places.session_id,
    places.user_id,
    places.start + message.key AS position,
    json_extract(message.value, '$.role') AS role,
    CASE json_type(message.value, '$.content')
        WHEN 'text' THEN json_extract(message.value, '$.content')
        ELSE (
            SELECT group_concat(part.atom, char(10)) FROM json_tree(message.value, '$.content') AS part
            WHERE part.type = 'text' AND (part.key = 'text' OR typeof(part.key) = 'integer')
        )
    END AS text,
    json_extract(message.value, '$.timestamp') AS timestamp,
    json_extract(message.value, '$.message_id') AS message_id,
    places.status,
    places.expires_at
FROM places JOIN {table} AS stored ON stored.key = places.key, json_each(stored.value, places.path) AS message
"""


def make_view(connections: Connections, name: str, table: str, under: str) -> None:
    """Make a view of the messages in a table, in the place of a former view of them.

    Args:
        connections: Connections to the file.
        name: The view's name.
        table: The table.
        under: The prefix of the namespace whose messages it shows.

    Raises:
        InvalidValueError: There is something else of that name: a table, or a view of other messages.

    """
    check_name(name, "name")
    prefix = "'" + under.replace("'", "''") + "'"
    source = _SOURCE.format(table=quoted(table), under=prefix)
    parts = {"view": quoted(name), "table": quoted(table), "under": prefix, "source": source, "encoded": _ENCODED}
    query = "SELECT type, sql FROM sqlite_master WHERE lower(name) = lower(?) AND type != 'trigger'"
    with connections.writing() as connection:
        for kind, sql in connection.execute(query, (name,)).fetchall():
            if kind != "view":
                problem = f"is {shown(name)}, and the file has a {kind} of that name; give another one"
                raise InvalidValueError("name", problem)
            if source not in sql:
                what = "a view of that name, which is not of these sessions"
                raise InvalidValueError("name", f"is {shown(name)}, and the file has {what}; give another one")
            connection.execute(f"DROP VIEW {quoted(name)}")
        connection.execute(_VIEW.format(**parts))
