"""Files that are deleted, renamed or replaced while a store has them open."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyai_sessions import Message, StorageMovedError
from tests.faults.storages import IN_FILES, Storage

ACTS = {
    "ping": lambda manager, session: manager.ping(),
    "save": lambda manager, session: manager.save(session),
    "append": lambda manager, session: manager.append("s", Message("user", "more", message_id="m2")),
    "create": lambda manager, session: manager.create_session("ada", session_id="t"),
    "get": lambda manager, session: manager.get_session("s"),
    "get the last": lambda manager, session: manager.get_session("s", last=1),
    "get what is not there": lambda manager, session: manager.get_session("no"),
    "list": lambda manager, session: manager.get_sessions_for_user("ada"),
    "summaries": lambda manager, session: manager.list_sessions(),
    "count": lambda manager, session: manager.count(),
    "fork": lambda manager, session: manager.fork("s"),
    "archive": lambda manager, session: manager.archive("s"),
    "delete": lambda manager, session: manager.delete("s"),
    "delete a user": lambda manager, session: manager.delete_user("ada", scan=True),
    "archive idle": lambda manager, session: manager.archive_inactive(0),
    "import": lambda manager, session: manager.import_sessions([{"session_id": "u", "messages": []}]),
    "reindex": lambda manager, session: manager.reindex(),
    "verify": lambda manager, session: manager.verify(),
    "clear": lambda manager, session: manager.clear_all(),
}


def file_of(storage):
    return storage.at / "chat" / "cache.db" if storage.kind == "diskcache" else storage.at / "chat.db"


def fill(manager):
    """Store a session, and return it with an unsaved message."""
    session = manager.create_session("ada", session_id="s")
    session.add_message("user", "before", message_id="m0")
    manager.save(session)
    session.add_message("user", "after", message_id="m1")
    return session


def delete(path):
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def rename(path):
    path.rename(path.with_name("moved.db"))


def replace(path):
    other = shutil.copy(path, path.with_name("backup.db"))
    Path(other).replace(path)


def delete_folder(path):
    shutil.rmtree(path.parent)


def rename_folder(path):
    path.parent.rename(path.parent.with_name("moved"))


def put_a_folder(path):
    rename(path)
    path.mkdir()


CHANGES = {
    delete: "deleted or renamed",
    rename: "deleted or renamed",
    replace: "another file was put in its place",
    delete_folder: "deleted or renamed",
    rename_folder: "deleted or renamed",
    put_a_folder: "another file was put in its place",
}


@pytest.fixture
def in_a_folder(storage):
    """The storage in its own folder, which can be removed."""
    (storage.at / "folder").mkdir()
    return type(storage)(storage.kind, storage.at / "folder")


@pytest.mark.parametrize(("change", "words"), CHANGES.items(), ids=[each.__name__ for each in CHANGES])
@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_every_call_says_that_the_file_is_gone(in_a_folder, change, words):
    """If the file is gone, every call raises, and no new file is made in its place."""
    path = file_of(in_a_folder)
    with in_a_folder.open() as manager:
        session = fill(manager)
        manager.count()
        change(path)
        there = sorted(path.parent.parent.rglob("*"))

        for act in ACTS.values():
            with pytest.raises(StorageMovedError, match=words) as caught:
                act(manager, session)
            assert caught.value.where == str(path)
            assert "open it again" in str(caught.value)

        assert sorted(path.parent.parent.rglob("*")) == there


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_a_thread_that_opens_a_connection_says_so_too(storage):
    """A new thread's connection raises, too, and makes no empty file."""
    raised = []

    def act(manager):
        try:
            manager.get_session("s")
        except StorageMovedError as err:
            raised.append(err)

    with storage.open() as manager:
        fill(manager)
        with manager.store._engine.backend._whole._connections.reading():  # the idle one
            delete(file_of(storage))
            thread = threading.Thread(target=act, args=[manager])
            thread.start()
            thread.join()

        assert len(raised) == 1
        assert not file_of(storage).exists()


@pytest.mark.parametrize("storage", IN_FILES, indirect=True)
def test_with_the_file_put_back_all_goes_on(storage):
    """When the file is back, the same store saves again, and nothing is lost."""
    path = file_of(storage)
    with storage.open() as manager:
        session = fill(manager)
        rename(path)
        with pytest.raises(StorageMovedError):
            manager.save(session)
        path.with_name("moved.db").rename(path)

        manager.save(session)

    with storage.open() as manager:
        assert [each.message_id for each in manager.get_session("s").messages] == ["m0", "m1"]


@pytest.mark.parametrize("kind", ["sqlite", "diskcache"])
def test_a_log_that_was_removed_is_missed_and_nothing_is_lost(tmp_path, kind):
    """If the log was removed, every call raises. When all have closed the file, what was stored is there."""
    storage = Storage(kind, tmp_path)
    log = file_of(storage).with_name(f"{file_of(storage).name}-wal")
    with storage.open() as manager:
        session = fill(manager)
        log.unlink()
        for act in ACTS.values():
            with pytest.raises(StorageMovedError, match="write-ahead log"):
                act(manager, session)

    with storage.open() as manager:
        assert [each.message_id for each in manager.get_session("s").messages] == ["m0"]
        manager.save(session)
        assert manager.verify()


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_link_that_leads_elsewhere_is_another_file(storage):
    """A path that now leads to another file counts as moved."""
    path = file_of(storage)
    with storage.open() as manager:
        fill(manager)
    path.rename(path.with_name("first.db"))
    path.symlink_to("first.db")
    with storage.open() as manager:
        session = manager.get_session("s")
        shutil.copy(path.with_name("first.db"), path.with_name("second.db"))
        path.unlink()
        path.symlink_to("second.db")

        with pytest.raises(StorageMovedError, match="another file"):
            manager.save(session)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)
def test_a_file_that_goes_while_a_save_waits_for_its_turn_is_missed(storage):
    """A save checks the file after it has the lock."""
    path = file_of(storage)
    with storage.open(timeout=60) as manager, storage.open() as other, ThreadPoolExecutor(1) as executor:
        session = fill(manager)
        manager.count()
        with other.store._engine.backend._whole._connections.writing():
            saving = executor.submit(manager.save, session)
            while manager.store._engine.backend._whole._connections._used is None:  # it waits from then on
                pass
            rename(path)
        with pytest.raises(StorageMovedError):
            saving.result(timeout=60)
