"""Tests of files that the operating system refuses: each error names the cause and a remedy."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from pyai_sessions import (
    DiskCacheSessionStore,
    Session,
    SessionError,
    SessionManager,
    SQLiteSessionStore,
    StorageError,
    StoragePermissionError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from tests.faults.workers import in_a_process, results
from tests.processes import run_python

KINDS = {"sqlite": lambda at: SQLiteSessionStore(at / "chat.db"), "diskcache": DiskCacheSessionStore}


def use(store):
    with closing(store):
        store.save(Session(user_id="ada"))
        return SessionManager(store).count()


def refusal(open_it):
    """Return the error text of opening, writing and reading a store."""
    try:
        use(open_it())
    except SessionError as err:
        return f"{type(err).__name__}: {err}"
    return "nothing"


# Permissions ----------------------------------------------------------------------------------------------------------


def closed_file(at):
    for each in at.rglob("*.db*"):
        each.chmod(0)


def closed_folder(at):
    at.chmod(0)


def no_new_files(at):
    for each in at.iterdir():
        each.unlink()
    at.chmod(0o555)


def try_without_rights(link, kind, change, folder):
    """In an unprivileged process: open a file of another user."""
    if os.getuid() == 0:
        with tempfile.TemporaryDirectory() as scratch:
            refusal(lambda: KINDS[kind](Path(scratch)))  # imports what is needed, from where nobody may read
        nobody = pwd.getpwnam("nobody")
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    at = Path(folder) / "chat"
    at.mkdir()
    use(KINDS[kind](at))
    change(at)
    text = refusal(lambda: KINDS[kind](at))
    at.chmod(0o700)
    link.send(text)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (closed_file, StoragePermissionError, "give the user of this process read and write access"),
        (closed_folder, StorageError, "give the user of this process"),
        (no_new_files, StorageReadOnlyError, "write access to"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_permitted_is_called_so(kind, change, error, words):
    """The error says who needs which right to what."""
    folder = tempfile.mkdtemp()  # pytest's own are closed to other users
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "nobody")
        text = results([in_a_process(try_without_rights, kind, change, folder)])[0]
    finally:
        shutil.rmtree(folder)

    assert "Permission denied" in text
    assert words in text
    assert text.startswith(error.__name__) or error is StorageError


# Places ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("folder", "it is a folder, not a file; give the path of a file"),
        ("file/chat.db", "/file is a file, not a folder; choose another path"),
        ("file/deep/chat.db", "/file is a file, not a folder; choose another path"),
        ("pipe", "it is a device, a pipe or a socket, not a file"),
        ("dangling", "it is a symbolic link to nothing; remove the link"),
        ("loop", "it is a symbolic link to nothing"),
        ("x" * 300, "File name too long; choose another path"),
    ],
)
def test_a_place_for_no_file_is_called_what_it_is(tmp_path, place, words):
    """A path at which no file can be raises an error that says why. Nothing is made."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(StorageUnreachableError) as caught:
        use(SQLiteSessionStore(tmp_path / place))

    assert words in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", ["file", "file/deep"])
def test_a_place_for_no_directory_is_called_what_it_is(tmp_path, place):
    """A path at which no directory can be raises an error that says why. Nothing is made."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(StorageUnreachableError, match="a file, not a folder"):
        use(DiskCacheSessionStore(tmp_path / place))

    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_a_read_only_file_system_is_called_so(tmp_path, kind):
    """It takes root, or sudo without a password, to mount one."""
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    options = f"size=4m,mode=0700,uid={os.getuid()}"
    if subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        use(KINDS[kind](tmp_path))
        subprocess.run([*sudo, "mount", "-o", "remount,ro", tmp_path], check=True)
        filled = refusal(lambda: KINDS[kind](tmp_path))
        new = refusal(lambda: SQLiteSessionStore(tmp_path / "new.db"))
    finally:
        subprocess.run([*sudo, "umount", "-l", tmp_path], check=True)

    for text in (filled, new):
        assert text.startswith("StorageReadOnlyError: ")
        assert "its file system is read-only; mount it for writing" in text


EXHAUSTED = """
    import os, resource, sys
    from pathlib import Path
    from pyai_sessions import DiskCacheSessionStore, SQLiteSessionStore, Session, SessionError
    kind = {"sqlite": lambda at: SQLiteSessionStore(at / "chat.db"), "diskcache": DiskCacheSessionStore}[sys.argv[1]]
    folder = Path(sys.argv[2])
    store = kind(folder / "a")
    store.save(Session(session_id="s"))
    store.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    opened = []
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for name in ("a", "new"):
        try:
            kind(folder / name).get("s")
        except SessionError as err:
            print(type(err).__name__, err)
    for each in opened:
        os.close(each)
    print(kind(folder / "a").get("s").session_id)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_open_files_are_called_so(tmp_path, kind):
    """Too many open files raise an error that says so. Later the same path opens."""
    (tmp_path / "a").mkdir()
    (tmp_path / "new").mkdir()

    *refusals, last = run_python(EXHAUSTED, kind, tmp_path).splitlines()

    assert len(refusals) == 2
    assert all("too many files open: close some, or raise its limit (ulimit -n)" in each for each in refusals)
    assert last == "s"
