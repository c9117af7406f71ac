"""A SqliteDict of the user's: its file, opened a second time by connections of our own.

A SqliteDict works through a thread that hides errors until another call, hangs after a fork, and unpickles what it
reads. Our connections do none of that. They write text into its table, which a SqliteDict with ``decode=str`` reads.
"""

# sqlitedict has no type hints:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import sqlite3
from queue import Empty, Queue
from typing import Any

from sqlitedict import SqliteDict
from sqlitedict import encode as pickling_encode

from pyai_sessions.errors import StorageClosedError, StorageLockedError, UnsuitableMappingError
from pyai_sessions.storage.protocol import Derive
from pyai_sessions.storage.sqlite.connections import OPEN_FILE, Connections
from pyai_sessions.storage.sqlite.files import storage_error
from pyai_sessions.storage.sqlite.storage import SQLiteStorage
from pyai_sessions.storage.sqlite.tables import Table


def storage_of(mapping: SqliteDict, derive: Derive, *, timeout: float = 10.0) -> SQLiteStorage:
    """Return the storage of a SqliteDict that has a file."""
    _check_codec(mapping)
    path = _file_of(mapping, timeout)
    # With a rollback journal, SqliteDict's default, a commit ends when the journal is removed. FULL does not flush the
    # folder after that: a power cut may bring the journal back, and SQLite would undo the commit. EXTRA flushes it.
    connections = Connections(path, timeout=timeout, synchronous="EXTRA", read_only=mapping.flag == "r")
    table = Table(mapping.tablename.replace('""', '"'))
    return SQLiteStorage(connections, table, derive, owned=True, alive=lambda: mapping.conn is not None)


def _file_of(mapping: SqliteDict, timeout: float) -> str:
    """Return the file that a SqliteDict has open, even if its path is relative and the current folder has changed.

    Waits until its thread has connected. If one of our connections came first, that thread could fail for good.
    """
    answer: Queue[Any] = Queue()
    try:
        worker: Any = mapping.conn
        worker.execute(OPEN_FILE, (), answer)
        row = answer.get(timeout=timeout)
        return os.fsdecode(row[0]) if isinstance(row, tuple) and row[0] else os.path.abspath(str(mapping.filename))
    except AttributeError as err:
        raise StorageClosedError(str(mapping.filename), "the SqliteDict was closed") from err
    except Empty as err:
        raise StorageLockedError(str(mapping.filename), f"the SqliteDict did not answer for {timeout} s") from err
    except sqlite3.Error as err:
        raise storage_error(str(mapping.filename), err) from err


def _check_codec(mapping: SqliteDict) -> None:
    """Raise if the SqliteDict encodes its keys, or if its codec does not read documents that are plain text."""
    opened = "SqliteDict(path, encode=str, decode=str)"
    if mapping.encode_key("session/a") != "session/a":
        msg = f"this SqliteDict encodes its keys; sessions need them as they are: open it as {opened}"
        raise UnsuitableMappingError(msg)
    if mapping.encode is pickling_encode:
        return  # the default codec: our rows are text all the same, and its pickles are never read
    probe = '{"format":1}'
    try:
        plain = mapping.encode(probe) == probe or mapping.decode(probe) == {"format": 1}
    except Exception:  # noqa: BLE001 (a user's codec may raise anything)
        plain = False
    if not plain:
        msg = (
            "this SqliteDict has a codec of its own, which sessions would bypass: they are stored as JSON text. "
            f"Open it as {opened}"
        )
        raise UnsuitableMappingError(msg)
