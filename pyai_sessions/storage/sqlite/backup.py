"""A copy of an SQLite file that others write meanwhile: whole, or not there."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from pyai_sessions.errors import InvalidValueError, StorageFullError
from pyai_sessions.storage.sqlite.connections import Connections
from pyai_sessions.storage.sqlite.files import FAILURES, creating, full_path, make_private, refused, storage_error
from pyai_sessions.values.checks import AnyPath
from pyai_sessions.values.tokens import new_token

_STEP = 1000
"""Pages that are copied between two looks at whether to go on: about 4 MB."""


def copy_file(connections: Connections, path: AnyPath, *, overwrite: bool) -> None:
    """Copy the file of these connections, as it is at one moment, to a path.

    A reader's transaction keeps that moment: in WAL mode, writers go on beside it. The copy is made under another name,
    written to the disk, and then renamed, so at no time does the path name a half one.

    Raises:
        InvalidValueError: The path cannot be that of a copy.

    """
    target = full_path(path, "path", "'backup.db'")
    _check_target(connections, target, overwrite=overwrite)
    part = f"{target}.{new_token(6)}.part"
    make_private(part)
    try:
        _copy(connections, part, target)
        with creating(target):
            _put_in_place(part, target, overwrite=overwrite)
    finally:
        for each in (part, f"{part}-journal", f"{part}-wal", f"{part}-shm"):
            with suppress(OSError):
                os.unlink(each)


def _check_target(connections: Connections, target: str, *, overwrite: bool) -> None:
    if os.path.exists(target) and os.path.exists(connections.path) and os.path.samefile(target, connections.path):
        raise InvalidValueError("path", f"is {target!r}, the file of this store; choose another path")
    if os.path.lexists(target) and not overwrite:
        raise _taken(target)
    for log in (f"{target}-wal", f"{target}-journal"):
        if os.path.lexists(log):  # SQLite would apply it to the copy
            problem = f"has {log!r} beside it, the log of a database that is in use or was not closed"
            raise InvalidValueError("path", f"{problem}; choose another path")


def _taken(target: str) -> InvalidValueError:
    return InvalidValueError("path", f"is {target!r}, which is there already; choose another, or pass overwrite=True")


def _copy(connections: Connections, part: str, target: str) -> None:
    with connections.reading() as source:
        joined = source.in_transaction
        try:
            with closing(sqlite3.connect(f"{Path(part).as_uri()}?mode=rw", uri=True, isolation_level=None)) as copy:
                if not joined:
                    source.execute("BEGIN")
                    source.execute("SELECT 1 FROM sqlite_master").fetchone()  # begins to read

                def go_on(status: int, remaining: int, total: int) -> None:  # noqa: ARG001
                    connections.extend(source)

                source.backup(copy, pages=_STEP, progress=go_on)
        except FAILURES as err:
            failure = storage_error(target, err)
            raise (failure if isinstance(failure, StorageFullError) else storage_error(connections.path, err)) from err
        finally:
            if not joined and source.in_transaction:
                source.execute("ROLLBACK")


def _put_in_place(part: str, target: str, *, overwrite: bool) -> None:
    _flush(part)
    try:
        if overwrite:
            os.replace(part, target)
        else:
            _rename(part, target)
    except FileExistsError as err:
        raise _taken(target) from err
    except OSError as err:
        raise refused(target, err, "replaced" if overwrite else "created") from err
    if os.name != "nt":
        _flush(os.path.dirname(target))


def _rename(part: str, target: str) -> None:
    """Rename a file; raise FileExistsError where the name is taken meanwhile, too."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError as err:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(target) from err
        os.rename(part, target)
    else:
        os.unlink(part)


def _flush(path: str) -> None:
    """Wait until a file or a folder is on the disk."""
    opened = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
