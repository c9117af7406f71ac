"""Files and folders: what a path means, how its file is made for this user alone, and why one cannot be used."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress

from pyai_sessions.errors import (
    InvalidValueError,
    StorageClosedError,
    StorageCorruptError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from pyai_sessions.values.checks import kind_of

FAILURES = (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError)
"""What sqlite3 raises. UnicodeDecodeError comes when an error quotes text of the file that is not UTF-8."""

# What a path means -----------------------------------------------------------------------------------------------

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|file:")
"""The start of a url. ``C:/`` is not one, but a drive."""


def full_path(path: object, name: str, example: str, *, folder: bool = False) -> str:
    """Return the path of a file, or of a *folder*, as absolute text. ``~`` at its start is the home folder.

    *name* is the argument's name and *example* a right path, for errors.

    Raises:
        InvalidValueError: It is not a path, or is a url.

    """
    try:
        text = os.fsdecode(path)  # type: ignore[arg-type]
        os.fsencode(text)
    except TypeError as err:
        raise InvalidValueError(name, f"is {kind_of(path)}; it is a path, such as {example}") from err
    except UnicodeError:
        problem = "holds a lone surrogate, which no path can; it is text, bytes or a pathlib.Path"
        raise InvalidValueError(name, problem) from None
    if not text:
        raise InvalidValueError(name, f"is empty; it is a path, such as {example}")
    if "\0" in text:
        raise InvalidValueError(name, f"holds a NUL character, which no path can; it is a path, such as {example}")
    if _URL.match(text):
        scheme = text.partition(":")[0]
        problem = (
            f"is a url ('{scheme}:…'), where a path is wanted: pass {example}; open_store(url) and SessionManager(url) "
            f"take urls; a folder named {scheme + ':'!r} is './{scheme}:'"
        )
        raise InvalidValueError(name, problem)
    if not folder and text.endswith(("/", os.sep)):
        raise InvalidValueError(name, f"ends with {text[-1]!r}, as a folder does; it is a file, such as {example}")
    if text.startswith("~"):
        text = _in_home(text, name)
    try:
        return os.path.abspath(text)
    except OSError as err:
        remedy = "change to another folder, or give the whole path"
        raise StorageUnreachableError(text, "the path is relative, and the current folder was deleted", remedy) from err


def _in_home(path: str, name: str) -> str:
    expanded = os.path.expanduser(path)
    if expanded == path:
        start = re.split(r"[/\\]", path, maxsplit=1)[0]
        problem = f"begins with {start!r}, which names no home folder; a file or folder named so is {'./' + start!r}"
        raise InvalidValueError(name, problem)
    return expanded


# Making files and folders ----------------------------------------------------------------------------------------


def make_folders(path: str) -> None:
    """Make a folder and those above it, for this user alone, unless they exist."""
    if path and not os.path.isdir(path):
        make_folders(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):  # if it is a folder, another process was faster
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


@contextmanager
def creating(path: str) -> Generator[None, None, None]:
    """Turn the operating system's errors while *path* is created into StorageErrors."""
    try:
        yield
    except (FileExistsError, StorageError):  # some StorageErrors are OSErrors, too
        raise
    except OSError as err:
        raise refused(path, err, "created") from err


def make_private(path: str) -> None:
    """Make a file that only this user may read, and its folders, unless they exist."""
    if os.path.islink(path) and not os.path.exists(path):  # SQLite would follow it and make a file that all may read
        remedy = "remove the link, or make the file that it leads to"
        raise StorageUnreachableError(path, "it is a symbolic link to nothing", remedy)
    with creating(path):
        try:
            make_folders(os.path.dirname(path))
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            _check_is_file(path, os.stat(path))


def check_is_there(path: str) -> None:
    """Raise unless a path names an existing file."""
    try:
        found = os.stat(path)
    except OSError as err:
        raise refused(path, err, "opened") from err
    _check_is_file(path, found)


# Why a file cannot be used ---------------------------------------------------------------------------------------


def refused(path: str, err: OSError, action: str) -> StorageError:  # noqa: PLR0911 (a table)
    """Return the StorageError for an operating system's error, which came when *path* was *action*: "opened", say."""
    code, text = err.errno or 0, err.strerror or type(err).__name__
    folder = os.path.dirname(path)
    if code in (errno.EACCES, errno.EPERM):
        if action == "created":
            remedy = f"give the user of this process write access to {folder}, or choose another path"
            return StorageReadOnlyError(path, f"it cannot be created: {text}", remedy)
        remedy = f"give the user of this process access to it and to {folder}"
        return StoragePermissionError(path, f"it cannot be {action}: {text}", remedy)
    if code == errno.EROFS:
        return StorageReadOnlyError(path, f"it cannot be {action}: its file system is read-only", _MOUNT)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(path, f"it cannot be {action}: {text}")
    if code in (errno.EMFILE, errno.ENFILE):
        return StorageUnreachableError(path, f"it cannot be {action}: {text}", _TOO_MANY)
    if code in (errno.ENOTDIR, errno.ENOENT):
        above = _last_above(path)
        if not os.path.isdir(above):
            problem = f"it cannot be {action}: {above} is a file, not a folder"
            return StorageUnreachableError(path, problem, "choose another path")
        return StorageUnreachableError(path, "there is no such file or folder", "check the path")
    return StorageUnreachableError(path, f"it cannot be {action}: {text}", "choose another path")


_MOUNT = "mount it for writing, open it for reading alone (read_only=True, ?mode=ro), or choose another path"
_TOO_MANY = "this process has too many files open: close some, or raise its limit (ulimit -n), then repeat the call"


def _last_above(path: str) -> str:
    """Return the nearest folder above a path that exists, or the file that exists in its place."""
    above = os.path.dirname(path)
    while not os.path.lexists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    return above


def check_folder(path: str, remedy: str) -> None:
    """Raise unless a path names a folder."""
    if not os.path.isdir(path):
        raise StorageUnreachableError(path, "it is a file, not a folder", remedy)


def storage_error(path: str, err: Exception) -> StorageError:
    """Return the StorageError that says what an SQLite error means (codes: sqlite.org/rescode.html)."""
    if isinstance(err, UnicodeDecodeError):  # SQLite's error quotes the file
        return StorageCorruptError(path, "its schema holds text that is not UTF-8")
    problem = str(err)
    if problem.startswith("Could not decode"):  # followed by the text itself
        problem = "a stored text is not UTF-8"
    if problem == "interrupted":
        problem = "a statement did not end in time: the file may hold a trigger that never does"
    if problem.startswith("unable to open database file"):
        return _unopened(path, problem)
    if problem.startswith(("attempt to write a readonly database", "access permission denied")):
        return _unwritten(path) or StorageReadOnlyError(path, problem)
    if problem.startswith("disk I/O error"):
        remedy = "look into the system's log for a failing disk or file system, then repeat the call"
        return StorageUnreachableError(path, " ".join([problem, getattr(err, "sqlite_errorname", "")]).strip(), remedy)
    kinds: list[tuple[type[StorageError], tuple[str, ...]]] = [
        (StorageLockedError, ("database is locked", "database table is locked", "database schema is locked")),
        (StorageFullError, ("database or disk is full",)),
        (
            StorageCorruptError,
            ("database disk image is malformed", "file is not a database", "malformed database schema"),
        ),
        (StorageClosedError, ("Cannot operate on a closed database",)),
    ]
    for kind, texts in kinds:
        if problem.startswith(texts):
            return kind(path, problem)
    return StorageError(path, f"{type(err).__name__}: {problem}")


def _check_is_file(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise StorageUnreachableError(path, "it is a folder, not a file", "give the path of a file, such as one in it")
    if not stat.S_ISREG(found.st_mode):
        raise StorageUnreachableError(path, "it is a device, a pipe or a socket, not a file", "choose another path")


def _unopened(path: str, problem: str) -> StorageError:
    """Return why SQLite cannot open a file: it does not say.

    The file is not opened to find out, since closing it would drop the locks that this process has on it.
    """
    try:
        found = os.stat(path)
        os.close(os.open(os.devnull, os.O_RDONLY))  # fails if the process has too many files open
    except OSError as err:
        return refused(path, err, "opened")
    try:
        _check_is_file(path, found)
    except StorageError as err:
        return err
    if not os.access(path, os.R_OK):
        remedy = "give the user of this process read and write access to it"
        return StoragePermissionError(path, "it cannot be opened: Permission denied", remedy)
    return _unwritten(path) or StorageUnreachableError(
        path, problem, "check the file and its folder, then repeat the call"
    )


def _unwritten(path: str) -> StorageError | None:
    """Return why a file, its logs or its folder cannot be written; None if they can."""
    folder = os.path.dirname(path)
    with suppress(OSError, AttributeError):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return StorageReadOnlyError(path, "its file system is read-only", _MOUNT)
    for each in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal", folder):
        if os.path.lexists(each) and not os.access(each, os.W_OK):
            remedy = f"give the user of this process write access to {each}"
            return StorageReadOnlyError(path, f"{each} cannot be written: Permission denied", remedy)
    return None
