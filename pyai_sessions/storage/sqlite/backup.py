"""Backups of SQLite files and diskcache directories: of one moment, made while others write, whole or not there."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from pyai_sessions.errors import InvalidValueError, StorageError, StorageFullError
from pyai_sessions.storage.sqlite.connections import Connections, one_moment
from pyai_sessions.storage.sqlite.files import (
    FAILURES,
    creating,
    full_path,
    make_private,
    refused,
    storage_error,
)
from pyai_sessions.values.checks import AnyPath
from pyai_sessions.values.tokens import new_token

_STEP = 1000
"""Pages that are copied in one step, about 4 MB. After each step the connection may work for as long again."""

_TRIES = 100
"""How often the copy of a directory is begun anew because values were deleted meanwhile."""

Values = Callable[[sqlite3.Connection], Iterable[tuple[str, BinaryIO | None]]]
"""Returns the values in files beside the table: their paths below the directory, and the files; None if missing."""


def copy_file(connections: Connections, path: AnyPath, *, overwrite: bool) -> None:
    """Copy the file of these connections to *path*, as it is at one moment.

    A read transaction keeps that moment; in WAL mode it makes no writer wait. The copy is made under another name,
    flushed to the disk and then renamed, so *path* never names an incomplete file.

    Raises:
        InvalidValueError: *path* is taken, or cannot be that of a copy.

    """
    target = full_path(path, "path", "'backup.db'")
    _check_target(connections, target, target, overwrite=overwrite)
    part = f"{target}.{new_token(6)}.part"
    make_private(part)
    try:
        _copy(connections, part, target, lambda _: None)
        with creating(target):
            _put_in_place(part, target, overwrite=overwrite)
    finally:
        for each in (part, f"{part}-journal", f"{part}-wal", f"{part}-shm"):
            with suppress(OSError):
                os.unlink(each)


def copy_directory(connections: Connections, path: AnyPath, values: Values, *, overwrite: bool) -> None:
    """Copy a directory of diskcache's, ``cache.db`` and the values in files beside it, likewise.

    With *overwrite*, the directory that is replaced is moved aside, and removed when the new one is in its place.

    Raises:
        InvalidValueError: As above; or *path* names what is neither a diskcache directory nor empty.

    """
    target = full_path(path, "path", "'backup'", folder=True)
    _check_target(connections, target, os.path.join(target, "cache.db"), overwrite=overwrite)
    if os.path.islink(target) or (os.path.lexists(target) and not _may_be_replaced(target)):
        raise InvalidValueError("path", f"is {target!r}, which is no diskcache directory; choose another path")
    part = f"{target}.{new_token(6)}.part"
    copy, lost = os.path.join(part, "cache.db"), set[str]()
    try:
        for _ in range(_TRIES):
            make_private(copy)
            try:
                _copy(connections, copy, target, lambda source: _copy_values(part, values(source), lost))
                break
            except _LostError:
                shutil.rmtree(part)
        else:
            problem = "values were deleted again and again while it was copied"
            raise StorageError(connections.path, problem, "repeat the call")
        with creating(target):
            _put_directory_in_place(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_target(connections: Connections, target: str, file: str, *, overwrite: bool) -> None:
    if os.path.exists(file) and os.path.exists(connections.path) and os.path.samefile(file, connections.path):
        raise InvalidValueError("path", f"is {target!r}, the file of this store; choose another path")
    if os.path.lexists(target) and not overwrite:
        raise _taken(target)
    for log in (f"{file}-wal", f"{file}-journal"):
        if os.path.lexists(log):  # SQLite would apply it to the copy
            problem = f"has {log!r} beside it, the log of a database that is in use or was not closed"
            raise InvalidValueError("path", f"{problem}; choose another path")


def _taken(target: str) -> InvalidValueError:
    return InvalidValueError("path", f"is {target!r}, which is there already; choose another, or pass overwrite=True")


def _copy(connections: Connections, part: str, target: str, begun: Callable[[sqlite3.Connection], None]) -> None:
    """Copy the pages of a file. *begun* is called when the moment is fixed and nothing has been copied."""
    with connections.reading() as source:
        try:
            with (
                closing(sqlite3.connect(f"{Path(part).as_uri()}?mode=rw", uri=True, isolation_level=None)) as copy,
                one_moment(source),
            ):
                source.execute("SELECT 1 FROM sqlite_master").fetchone()  # begins to read
                begun(source)

                def go_on(status: int, remaining: int, total: int) -> None:  # noqa: ARG001
                    connections.extend(source)

                source.backup(copy, pages=_STEP, progress=go_on)
        except FAILURES as err:
            failure = storage_error(target, err)
            raise (failure if isinstance(failure, StorageFullError) else storage_error(connections.path, err)) from err


class _LostError(Exception):
    """A value that a row names was deleted after the moment of the copy."""


def _copy_values(part: str, values: Iterable[tuple[str, BinaryIO | None]], lost: set[str]) -> None:
    """Copy the values in files.

    A value that is missing may have been deleted after the moment of the copy, so the copy is begun anew. If it is
    missing again, the original lacks it, too.
    """
    missing = set[str]()
    for name, file in values:
        if file is None:
            missing.add(name)
            continue
        path = os.path.join(part, name)
        make_private(path)
        with creating(path), open(path, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
    if missing - lost:
        lost |= missing
        raise _LostError


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
    _flush_folder(os.path.dirname(target))


def _put_directory_in_place(part: str, target: str) -> None:
    for folder, _, _ in os.walk(part):
        _flush_folder(folder)
    _flush(os.path.join(part, "cache.db"))
    before = f"{part[: -len('.part')]}.before"
    if os.path.lexists(target):
        os.rename(target, before)
    try:
        os.rename(part, target)
    except OSError as err:
        if os.path.lexists(before):
            os.rename(before, target)
        raise refused(target, err, "created") from err
    _flush_folder(os.path.dirname(target))
    shutil.rmtree(before, ignore_errors=True)


def _may_be_replaced(target: str) -> bool:
    return os.path.isdir(target) and (os.path.isfile(os.path.join(target, "cache.db")) or not os.listdir(target))


def _rename(part: str, target: str) -> None:
    """Rename a file; raise FileExistsError if another process has taken the name meanwhile."""
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


def _flush_folder(path: str) -> None:
    if os.name != "nt":
        _flush(path)
