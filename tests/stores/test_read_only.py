"""Tests of SQLite files opened read-only: they can be read anywhere, and stay unchanged."""

import io
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from pyai_sessions import (
    InvalidValueError,
    SessionManager,
    SQLiteMapping,
    SQLiteSessionStore,
    StorageError,
    StorageReadOnlyError,
    StorageUnreachableError,
    open_store,
)


def fill(path, **options):
    """Store two sessions, and close the file."""
    with closing(SQLiteSessionStore(path, **options)) as store:
        manager = SessionManager(store)
        manager.create_session("ada", session_id="s")
        manager.append("s", {"role": "user", "content": "Hello!"})
        manager.create_session("bob", session_id="t")


@pytest.fixture
def path(tmp_path):
    """A file with two sessions that nobody has open."""
    fill(tmp_path / "chat.db")
    return tmp_path / "chat.db"


def check(path):
    """Read everything of a file by the URL. Writes raise, and nothing is written."""
    before = path.read_bytes()
    with SessionManager(f"sqlite:///{path}?mode=ro") as manager:
        session = manager.get_session("s")
        assert [each.content for each in session.messages] == ["Hello!"]
        assert [each.session_id for each in manager.list_sessions()] == ["t", "s"]
        assert [each.session_id for each in manager.get_sessions_for_user("ada")] == ["s"]
        assert (manager.count(), manager.count("bob")) == (2, 1)
        assert manager.export_sessions(io.StringIO(), user_id="ada") == 1
        assert manager.verify()
        assert manager.get_or_create_session("t", "bob").session_id == "t"
        manager.ping()
        session.add_message("user", "More.")
        for write in (
            lambda: manager.save(session),
            lambda: manager.append("s", {"role": "user", "content": "More."}),
            lambda: manager.create_session("ada"),
            lambda: manager.delete("s"),
            lambda: manager.archive("s"),
            lambda: manager.archive_inactive(days=0),
            manager.clear_all,
            lambda: manager.import_sessions([session]),
        ):
            with pytest.raises(StorageReadOnlyError, match="opened for reading alone; open it for writing"):
                write()
    assert path.read_bytes() == before


def test_a_file_is_read_and_not_written(path):
    """A file is opened read-only by a URL or an argument."""
    check(path)
    with closing(SQLiteSessionStore(path, read_only=True)) as store:
        assert SessionManager(store).count() == 2


def test_a_file_that_was_read_has_no_other_file_beside_it(path):
    """SQLite makes a log and its index to read a file, and a connection that may only read cannot remove them."""
    check(path)
    with closing(SQLiteSessionStore(path, read_only=True)) as one, closing(SQLiteSessionStore(path, read_only=True)):
        assert SessionManager(one).count() == 2

    assert list(path.parent.iterdir()) == [path]


def test_a_log_that_lay_beside_a_file_stays_there(path):
    """Others may have left it for a reason: it is for a writer to remove."""
    with closing(SQLiteSessionStore(path)) as writer:
        SessionManager(writer).create_session("carol", session_id="u")
        copy = path.with_name("copy.db")
        for each in ("", "-wal"):
            Path(f"{copy}{each}").write_bytes(Path(f"{path}{each}").read_bytes())

    with closing(SQLiteSessionStore(copy, read_only=True)) as store:
        assert SessionManager(store).count() == 3
    assert Path(f"{copy}-wal").stat().st_size > 0


def test_a_reader_sees_what_a_writer_stores_meanwhile(path):
    """A read-only store sees what others write."""
    with closing(open_store(f"sqlite:///{path}?mode=ro")) as store, closing(SQLiteSessionStore(path)) as writer:
        reader = SessionManager(store)
        assert reader.count() == 2
        SessionManager(writer).create_session("carol", session_id="u")

        assert reader.get_session("u").user_id == "carol"


def test_a_file_of_a_rollback_journal_is_read(path):
    """A file without WAL can be read."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=DELETE")

    check(path)


@pytest.fixture
def read_only_disk(tmp_path):
    """A folder, and a function that makes its file system read-only. It needs root."""
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    options = f"size=8m,mode=0700,uid={os.getuid()}"
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder, lambda how: subprocess.run([*sudo, "mount", "-o", f"remount,{how}", folder], check=True)
    subprocess.run([*sudo, "umount", "-l", folder], check=True)


def test_a_file_on_a_read_only_disk_is_read(read_only_disk):
    """A file in WAL mode on a read-only disk can be read, which SQLite alone cannot."""
    folder, mount = read_only_disk
    fill(folder / "chat.db")
    mount("ro")

    check(folder / "chat.db")


def test_what_comes_to_a_disk_that_was_read_only_is_seen(read_only_disk):
    """A store opened on a read-only disk sees later writers."""
    folder, mount = read_only_disk
    fill(folder / "chat.db")
    mount("ro")
    with closing(SQLiteSessionStore(folder / "chat.db", read_only=True)) as store:
        reader = SessionManager(store)
        assert reader.count() == 2
        mount("rw")
        with closing(SQLiteSessionStore(folder / "chat.db")) as writer:
            SessionManager(writer).create_session("carol", session_id="u")
            assert reader.get_session("u").user_id == "carol"
        assert reader.count() == 3
        assert reader.verify()


def test_a_file_whose_log_cannot_be_read_there_is_refused(read_only_disk):
    """A file whose log cannot be read raises, since data would be missing."""
    folder, mount = read_only_disk
    with closing(SQLiteSessionStore(folder / "chat.db")) as writer:
        SessionManager(writer).create_session("carol", session_id="u")
        log = (folder / "chat.db-wal").read_bytes()
        content = (folder / "chat.db").read_bytes()
    (folder / "other.db").write_bytes(content)
    (folder / "other.db-wal").write_bytes(log)
    mount("ro")

    with pytest.raises(StorageError, match="read-only"):
        SQLiteSessionStore(folder / "other.db", read_only=True)


AS_NOBODY = """
import hmac, os, sys  # hmac is imported late, and another user may not be able to read the standard library
from pyai_sessions import SessionManager, StorageReadOnlyError
from pathlib import Path
from tests.stores.test_read_only import check
os.setgid(65534), os.setuid(65534)
check(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_file_in_a_folder_of_another_user_is_read(tmp_path):
    """A file that this user cannot write can be read."""
    fill(tmp_path / "chat.db")
    for each in (tmp_path, *tmp_path.parents):  # pytest's own folders are for its user alone
        if each.is_relative_to(tempfile.gettempdir()) and each != Path(tempfile.gettempdir()):
            each.chmod(0o755)
    (tmp_path / "chat.db").chmod(0o644)

    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(tmp_path / "chat.db")], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    """An absent file and its folders are not made."""
    for path in (tmp_path / "none.db", tmp_path / "none" / "chat.db"):
        with pytest.raises(StorageUnreachableError, match="no such file"):
            SQLiteSessionStore(path, read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_not_there_is_not_made(path):
    """An absent table is not made."""
    with pytest.raises(StorageReadOnlyError, match="has no table 'others'"):
        SQLiteSessionStore(path, "others", read_only=True)


def test_an_item_of_a_mapping_is_not_written(path):
    """A read-only mapping does not write."""
    with closing(SQLiteMapping(path, read_only=True)) as mapping:
        assert "session/s" in mapping
        with pytest.raises(StorageReadOnlyError):
            mapping["session/s"] = ""


@pytest.mark.parametrize("url", ["sqlite:///{}?mode=rx", "sqlite:///{}?mode=", "sqlite:///:memory:?mode=ro"])
def test_a_mode_that_cannot_be_is_refused(url, path):
    """An invalid mode raises before anything is opened."""
    with pytest.raises(InvalidValueError, match=r"^(mode|read_only) "):
        open_store(url.format(path))
    with pytest.raises(InvalidValueError, match=r"^read_only "):
        SQLiteSessionStore(path, read_only="no")
    with pytest.raises(InvalidValueError, match="option 'mode'"):
        open_store("redis://localhost?mode=ro")
