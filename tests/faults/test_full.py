"""Tests of full disks, locked files, read-only directories and servers without memory: own errors, nothing lost."""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pyai_sessions import (
    Message,
    RedisSessionStore,
    SessionManager,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
)
from tests.faults.storages import IN_FILES, Storage
from tests.faults.workers import check_indexes, in_a_process, receive, results


def message(n, size):
    return Message("user", "x" * size, message_id=f"m{n}")


def ids_of(manager, session_id="s0"):
    return [each.message_id for each in manager.get_session(session_id).messages]


def fill_up(manager):
    """Save growing sessions until there is no space. Check what is stored, and return the calls to repeat.

    The calls that raised must raise StorageFullError, and leave the sessions as they were.
    """
    saved = manager.create_session("user0", session_id="s0")
    manager.create_session("user1", session_id="s1")
    in_hand, appended = [], []

    def save_longer_and_longer():
        for n in range(2_000):
            saved.add_message("user", "x" * 5_000, message_id=f"m{n}")
            manager.save(saved)
            in_hand.append(f"m{n}")

    def append_more_and_more():
        for n in range(2_000):
            manager.append("s1", message(n, 50_000))
            appended.append(f"m{n}")

    with pytest.raises(StorageFullError) as caught:
        save_longer_and_longer()
    assert type(caught.value) is StorageFullError
    with pytest.raises(StorageFullError):
        append_more_and_more()
    with pytest.raises(StorageFullError):
        manager.create_session("user2", session_id="s2", state={"long": "x" * 60_000})
    assert in_hand
    assert ids_of(manager) == in_hand
    assert ids_of(manager, "s1") == appended
    assert manager.get_session("s2") is None
    check_indexes(manager, {"s0": "user0", "s1": "user1"})
    return saved, [*in_hand, f"m{len(in_hand)}"], [*appended, f"m{len(appended)}"]


def go_on(manager, saved, in_hand, appended):
    """Repeat the failed calls, now that there is space."""
    manager.save(saved)
    manager.append("s1", message(len(appended) - 1, 50_000))
    manager.create_session("user2", session_id="s2", state={"long": "x" * 60_000})

    assert ids_of(manager) == in_hand
    assert ids_of(manager, "s1") == appended
    check_indexes(manager, {"s0": "user0", "s1": "user1", "s2": "user2"})
    manager.verify(repair=True)
    assert not manager.verify().problems


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB, mounted: it takes root, or sudo without a password."""
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    folder = tmp_path / "disk"
    folder.mkdir()
    options = f"size=4m,mode=0700,uid={os.getuid()}"
    mounted = subprocess.run([*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here; a page limit stands for it in the next test")
    yield folder
    subprocess.run([*sudo, "umount", folder], check=True)


@pytest.mark.parametrize("kind", ["folder", *IN_FILES])
def test_a_full_disk_loses_nothing(small_disk, kind):
    """A save on a full disk raises StorageFullError. With space, the same save succeeds."""
    ballast = small_disk / "ballast"
    with Storage(kind, small_disk).open() as manager:
        ballast.write_bytes(b"\0" * 2_500_000)
        to_repeat = fill_up(manager)
        ballast.unlink()
        go_on(manager, *to_repeat)

    with Storage(kind, small_disk).open() as manager:
        assert ids_of(manager) == to_repeat[1]


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_file_that_may_not_grow_loses_nothing(storage):
    """A save beyond SQLite's limit of pages raises StorageFullError. With more pages, the same save succeeds."""
    with storage.open() as manager:
        manager.count()
        connections = manager.store._engine.backend._whole._connections

        def limit(pages):
            with connections.writing() as connection:
                connection.execute(f"PRAGMA max_page_count={pages}")

        limit(400)
        to_repeat = fill_up(manager)
        limit(1_000_000)
        go_on(manager, *to_repeat)


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_a_server_at_its_memory_limit_loses_nothing(start_server, kind):
    """A save at a server's memory limit raises StorageFullError. Stored sessions can be read and deleted."""
    server = start_server(kind, "--maxmemory-policy", "noeviction")
    with server.client() as client, closing(RedisSessionStore(server.url)) as store:
        manager = SessionManager(store)
        manager.delete(manager.create_session().session_id)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        to_repeat = fill_up(manager)
        client.config_set("maxmemory", 0)
        go_on(manager, *to_repeat)


# A locked file --------------------------------------------------------------------------------------------------------


def lock(link, path):
    """In a process: hold a file's exclusive lock until told to release it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        link.send("locked")
        link.recv()
        connection.execute("ROLLBACK")
    link.send("let go")


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_locked_file_raises_at_the_deadline(storage):
    """While another process holds the file, calls raise StorageLockedError after `timeout`, and change nothing."""
    path = storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"
    with storage.open(timeout=0.1) as manager:
        session = manager.create_session("user0", session_id="s0")
        session.add_message("user", "before", message_id="m0")
        manager.save(session)
        session.add_message("user", "while locked", message_id="m1")
        appended = message(2, 10)
        holder, link = in_a_process(lock, path)
        assert receive(link) == "locked"
        for act in (
            lambda: manager.save(session),
            lambda: manager.append("s0", appended),
            lambda: manager.create_session(session_id="s1"),
            lambda: manager.archive("s0"),
            lambda: manager.delete("s0"),
        ):
            with pytest.raises(StorageLockedError) as caught:
                act()
            assert type(caught.value) is StorageLockedError
        link.send("let go")
        assert results([(holder, link)]) == ["let go"]

        assert ids_of(manager) == ["m0"]
        manager.save(session)
        manager.append("s0", appended)
        assert ids_of(manager) == ["m0", "m1", "m2"]
        check_indexes(manager, {"s0": "user0"})
        assert not manager.verify().problems


# A read-only directory ------------------------------------------------------------------------------------------------


def error_of(storage, act):
    """Return what a call raises on a newly opened store, as text."""
    try:
        with storage.open(timeout=0.5) as manager:
            act(manager)
    except Exception as err:  # noqa: BLE001 (the test judges it)
        return f"{type(err).__name__}: {err}"
    return "nothing"


def write_where_forbidden(link, kind, folder):
    """In an unprivileged process: save, lose the right to write, try, get it back, save."""
    if os.getuid() == 0:
        with tempfile.TemporaryDirectory() as scratch:
            act_where_forbidden(kind, scratch)  # imports all that is needed, from where nobody may read
        nobody = pwd.getpwnam("nobody")
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    link.send(act_where_forbidden(kind, folder))


def act_where_forbidden(kind, folder):
    """Save, lose the right to write, try, get it back, save; return what was raised and read."""
    storage = Storage(kind, Path(folder))
    with storage.open() as manager:
        session = manager.create_session("user0", session_id="s0")
        session.add_message("user", "before", message_id="m0")
        manager.save(session)
        manager.create_session("user1", session_id="s2")
    session.add_message("user", "while forbidden", message_id="m1")
    there = [Path(folder), *Path(folder).rglob("*")]
    modes = {each: each.stat().st_mode for each in there}
    for each in there:
        each.chmod(0o555 if each.is_dir() else 0o444)
    errors = [
        error_of(storage, act)
        for act in (
            lambda manager: manager.save(session),
            lambda manager: manager.append("s0", message(2, 10)),
            lambda manager: manager.create_session(session_id="s1"),
            lambda manager: manager.delete("s2"),
        )
    ]
    for each, mode in modes.items():
        if each.exists():
            each.chmod(mode)
    with storage.open() as manager:
        before = ids_of(manager)
        manager.save(session)
        return errors, before, ids_of(manager), manager.count("user0"), [*manager.verify().problems]


@pytest.mark.parametrize("kind", ["folder", *IN_FILES])
def test_a_read_only_directory_is_called_so(kind):
    """Without the right to write, a save raises StorageReadOnlyError. With it, the same save succeeds."""
    with ExitStack() as stack:
        folder = tempfile.mkdtemp()  # pytest's own are closed to other users
        stack.callback(shutil.rmtree, folder)
        if os.getuid() == 0:
            shutil.chown(folder, "nobody")
        errors, before, after, count, problems = results([in_a_process(write_where_forbidden, kind, folder)])[0]

    assert {error.partition(":")[0] for error in errors} == {StorageReadOnlyError.__name__}
    assert before == ["m0"]
    assert after == ["m0", "m1"]
    assert count == 1
    assert not problems
