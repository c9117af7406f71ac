"""Tests of power cuts with the real kernel: what was stored survives, or only the newest turns are lost.

What is simulated: processes write to a store on ext4, and at a random instant the content of its disk is copied; see
`tests.faults.disks`. The copy has all that the file system had sent to the disk by then. What was only in the memory of
a process or of the kernel is not in it, as after a power cut: pages that were not flushed, and ext4's open transaction.
Meanwhile the kernel writes pages back in any order. ext4 on the copy replays its journal, and a store is opened on it.

How one instant is copied: the loop device writes into the page cache of XFS, into the file `disk.img`. FICLONE (`cp
--reflink=always`) locks that file against writes, flushes its page cache, then shares its blocks with the copy. So no
write of ext4 is in the copy by half, and none that ext4 was told to be done is missing. The loop device needs no direct
I/O for it, and works the same with it.

What is not simulated: a disk that lies about flushes, and one that has a cache of its own and loses writes before the
flush that follows them. Here, all that reaches the disk stays there. Whether ext4 sends a flush before it answers an
fsync is thus ext4's promise; that our stores ask for an fsync before they return is what is tested. Other file systems,
and disks that tear a sector, are not tested.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from pyai_sessions import Message, SessionManager
from pyai_sessions.testing import Recorder, check_events, events_from, events_to
from pyai_sessions.testing.recording import Event
from tests.faults.disks import Disk, write_back
from tests.faults.storages import ON_SERVERS, Storage
from tests.faults.workers import check_indexes, in_a_process, receive, user_of
from tests.servers import Server, find_program

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # a minute or two each

WRITERS = 3


class Kind(NamedTuple):
    """A storage, how it is opened, and whether acknowledged calls must survive a power cut."""

    name: str
    options: dict
    durable: bool


OFTEN = {"auto-aof-rewrite-min-size": "200kb"}
"""Have the server rewrite its log, so that some cuts come meanwhile."""

KINDS = {
    "sqlite": Kind("sqlite", {"synchronous": "FULL"}, durable=True),
    "sqlite NORMAL": Kind("sqlite", {"synchronous": "NORMAL"}, durable=False),
    "sqlitedict": Kind("sqlitedict", {}, durable=True),
    "diskcache": Kind("diskcache", {}, durable=False),
    "valkey always": Kind("valkey", {"appendfsync": "always", **OFTEN}, durable=True),
    "valkey everysec": Kind("valkey", {"appendfsync": "everysec", **OFTEN}, durable=False),
    "redis always": Kind("redis", {"appendfsync": "always", **OFTEN}, durable=True),
    "redis everysec": Kind("redis", {"appendfsync": "everysec", **OFTEN}, durable=False),
}


@contextmanager
def started(kind, folder, tally=None):
    """Give a function that opens the storage in a folder, from any process; a server runs meanwhile.

    With a *tally* it is the first start after a power cut.
    """
    folder.mkdir(exist_ok=True)
    if kind.name not in ON_SERVERS:
        yield partial(Storage(kind.name, folder).open, **kind.options)
        return
    settings = {"dir": str(folder), "appendonly": "yes", **kind.options}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with closing(Server(f"{kind.name}-server", *words)) as server:
        if tally is not None:
            tally.mended += mend_log(kind, folder / "appendonlydir")
        server.start()
        try:
            yield Storage(kind.name, (server.url, "chats:")).open
        finally:
            server.stop()  # in good order: a child that rewrites its log would outlive it


def mend_log(kind, folder):
    """Cut damaged ends off a server's log files with its own tool. Return whether there were any.

    ext4 may have noted that a file is longer before what was added to it is on the disk: zeros stand there then, and
    the server would not start. Of a file that ends amid a transaction some servers keep the half, and may refuse it at
    a later start.
    """
    program, mended = find_program(f"{kind.name}-server"), False
    for line in (folder / "appendonly.aof.manifest").read_text().splitlines():
        _, name, _, _, _, purpose = line.split()
        if purpose == "i":  # what is added; "b" is the base, and "h" may be gone: the server no longer needs it
            command = [f"{kind.name}-check-aof", "--fix", folder / name]  # the server's program, by another name
            done = subprocess.run(command, check=False, executable=program, input="y\n", capture_output=True, text=True)
            assert not done.returncode, done.stdout + done.stderr
            mended = mended or "Successfully truncated" in done.stdout
    return mended


class AnswersFirst:
    """A manager whose append returns before it stores. The next append stores it."""

    def __init__(self, manager):
        self._manager = manager
        self._due = None

    def __getattr__(self, name):
        return getattr(self._manager, name)

    def append(self, *call):
        if self._due:
            self._manager.append(*self._due)
        self._due = call


def write(link, open_storage, writer, path, hasty):
    """In a process: write turns to sessions that others write too, create and delete some, until the end."""
    choose, copies = random.Random(writer), {}
    with open_storage() as opened:
        manager = Recorder(AnswersFirst(opened) if hasty else opened, events_to(path))
        tell = events_to(f"{path} deletions")
        link.send("ready")
        link.recv()
        for n in count():
            session_id = f"s{n // 30 + choose.randrange(3)}"
            texts = [f"{writer}/{n}/{m} {'x' * choose.choice([10, 200, 2_000])}" for m in range(choose.randint(2, 5))]
            if session_id not in copies:
                copies[session_id] = manager.get_or_create_session(session_id, user_of(session_id))
            if hasty or choose.random() < 0.5:
                manager.append(session_id, *(Message("user", text) for text in texts))
            else:
                for text in texts:
                    copies[session_id].add_message("user", text)
                manager.save(copies[session_id])
            if n % 10 == 9:
                session_id = f"s{100_000 * (writer + 1) + n}"
                manager.create_session(user_of(session_id), session_id=session_id)
                tell(Event(f"{writer}", n, "delete", session_id, time.monotonic_ns()))
                manager.delete(session_id)
                tell(Event(f"{writer}", n, "returned", session_id, time.monotonic_ns()))


class Writers:
    """Processes that write to a storage on a disk, and one that makes the kernel write back."""

    def __init__(self, open_storage, disk, folder, *, in_order=False, hasty=False):
        folder.mkdir()
        self._paths = [folder / f"calls {writer}" for writer in range(WRITERS)]
        self._to_start = [(write_back, disk.folder, 0, in_order)]
        self._to_start += [(write, open_storage, writer, path, hasty) for writer, path in enumerate(self._paths)]
        self._workers = []

    def __enter__(self):
        try:
            for each in self._to_start:  # one by one: a SqliteDict cannot be opened while others write
                self._workers.append(in_a_process(*each))
                assert receive(self._workers[-1][1]) == "ready"
        except BaseException:
            self.__exit__()
            raise
        for _, link in self._workers:
            link.send("go")
        return self

    def __exit__(self, *_):
        for process, link in self._workers:
            process.kill()
            process.join()
            link.close()

    def wait(self, moment):
        """Wait until each has written more, and a while longer."""
        sizes = [path.stat().st_size if path.exists() else 0 for path in self._paths]
        for path, size in zip(self._paths, sizes, strict=True):
            while not path.exists() or path.stat().st_size < size + 2_000:
                assert all(process.is_alive() for process, _ in self._workers), "a writer ended: its output says why"
                time.sleep(0.001)
        time.sleep(moment.uniform(0, 0.2))

    def pause(self):
        """Suspend them."""
        self._signal(signal.SIGSTOP)

    def resume(self):
        """Let them continue."""
        self._signal(signal.SIGCONT)

    def _signal(self, which):
        for process, _ in self._workers:
            os.kill(process.pid, which)

    def events(self):
        """Return the events of all so far."""
        return [event for path in self._paths for event in events_from(path)]

    def deletions(self):
        """Return the deletions so far."""
        paths = [path.with_name(f"{path.name} deletions") for path in self._paths]
        return [event for path in paths if path.exists() for event in events_from(path)]


class Tally:
    """The number of power cuts, and of acknowledged turns that were lost."""

    def __init__(self):
        self.cuts = self.acknowledged = self.lost = self.cuts_that_lost = self.most = self.mended = 0

    def add(self, acknowledged, lost):
        self.cuts += 1
        self.acknowledged += acknowledged
        self.lost += lost
        self.cuts_that_lost += lost > 0
        self.most = max(self.most, lost)

    def __str__(self):
        return (
            f"{self.cuts} cuts, {self.acknowledged} turns acknowledged before them; "
            f"{self.cuts_that_lost} cuts lost some, {self.most} at most; {self.mended} logs mended"
        )


def texts_of(manager):
    """Return the texts of all listed sessions."""
    found = [each.session_id for each in manager.list_sessions(status=None, limit=None)]
    return {each: [message.content for message in manager.get_session(each).messages] for each in found}


def check_what_is_left(manager, writers, cut, tally, *, durable):
    """Assert that the cut lost nothing that must survive, or only the newest turns. Return all texts."""
    events = [
        each
        for each in writers.events()
        if each.at < (cut.began if each.what in ("returned", "refused") else cut.ended)
    ]
    found = texts_of(manager)
    check_events(manager, events, may_lose=not durable)
    check_indexes(manager, {each: user_of(each) for each in found})
    assert not manager.verify().problems

    returned = {(each.writer, each.call) for each in events if each.what == "returned"}
    turns = [each for each in events if each.what in ("append", "save") and (each.writer, each.call) in returned]
    stored = [set(each.texts) <= set(found.get(each.session_id, ())) for each in turns]
    tally.add(len(stored), stored.count(False))
    assert not durable or all(stored)
    for writer in {each.writer for each in turns}:
        of_one = [there for there, each in zip(stored, turns, strict=True) if each.writer == writer]
        assert of_one == sorted(of_one, reverse=True), "a turn was lost, and a later one of its writer was not"
    deleted = {each.session_id for each in writers.deletions() if each.what == "returned" and each.at < cut.began}
    assert not durable or not deleted & set(found)
    return found


def go_on(manager):
    """Continue writing after a cut. Return all texts."""
    manager.get_or_create_session("s0", user_of("s0"))
    manager.append("s0", Message("user", "after the cut"))
    found = texts_of(manager)
    assert found["s0"][-1] == "after the cut"
    assert not manager.verify().problems
    return found


def look_at(kind, cut, at, writers, tally):
    """Start after a cut, check, write on, and start again. Return the texts that were left."""
    with started(kind, cut.folder / at, tally) as open_copy, open_copy() as manager:
        left = check_what_is_left(manager, writers, cut, tally, durable=kind.durable)
        after = go_on(manager)
    with started(kind, cut.folder / at) as open_copy, open_copy() as manager:
        assert texts_of(manager) == after
    return left


def cut_again_and_again(disk, kind, folder, cuts, *, hasty=False):
    """Write to a new storage, cut the power repeatedly, check each time, and return a tally."""
    moment, tally = random.Random(2026), Tally()
    per_storage = 5
    for n in range(cuts // per_storage):
        at, left = f"storage-{n}", []
        with started(kind, disk.folder / at) as open_storage:
            with open_storage() as manager:
                assert manager.count() == 0
            with Writers(open_storage, disk, folder / at, in_order=kind.name in ON_SERVERS, hasty=hasty) as writers:
                for _ in range(per_storage):
                    writers.wait(moment)
                    with disk.cut() as cut:
                        writers.pause()
                        left.append(look_at(kind, cut, at, writers, tally))
                        writers.resume()
            with open_storage() as manager:
                whole = texts_of(manager)
        shutil.rmtree(disk.folder / at)
        deleted = {each.session_id for each in writers.deletions()}
        for found in left:
            for session_id in found.keys() - deleted:
                texts = found[session_id]
                assert texts == whole[session_id][: len(texts)], "what is left is not what was stored first"
    return tally


@pytest.fixture
def disk():
    """A disk whose power can be cut; not below pytest's folder, which other runs of pytest would try to remove."""
    with TemporaryDirectory(prefix="pyai_sessions-disk-") as folder, Disk(Path(folder)) as disk:
        yield disk


@pytest.fixture
def cuts():
    """Return the number of power cuts for each storage."""
    return 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_power_cut_loses_nothing_that_was_promised(disk, kind, cuts, tmp_path, capsys):
    """After a power cut a durable storage has each acknowledged turn, and another lacks at most the newest ones."""
    tally = cut_again_and_again(disk, KINDS[kind], tmp_path, cuts)

    with capsys.disabled():
        sys.stdout.write(f"\n{kind:20} {tally}")
        sys.stdout.flush()
    assert bool(tally.lost) != KINDS[kind].durable, "what is not flushed is lost in some cut, else nothing was tried"


@pytest.mark.parametrize("kind", ["sqlite", "sqlitedict"])
def test_the_first_save_into_a_new_file_survives(disk, kind):
    """A first save into a new file in a new folder survives a power cut right after it returned."""
    for n in range(5):
        folder = disk.folder / f"new {n}"
        folder.mkdir()
        with Storage(kind, folder).open() as manager:
            session = manager.create_session("ada")
            session.add_message("user", "Hello!")
            manager.save(session)
            with disk.cut() as cut, Storage(kind, cut.folder / folder.name).open() as after:
                assert after.get_session(session.session_id) == session
                assert not after.verify().problems


def test_a_backup_that_returned_survives(disk):
    """A backup that returned survives a power cut, also if it replaced another."""
    with Storage("sqlite", disk.folder).open() as manager:
        for n in range(5):
            session = manager.create_session("ada")
            manager.append(session.session_id, *({"role": "user", "content": "x" * 1_000} for _ in range(100)))
            manager.backup(disk.folder / "backup.db", overwrite=n > 0)
            with disk.cut() as cut, SessionManager(cut.folder / "backup.db") as after:
                assert texts_of(after) == texts_of(manager)
                assert not after.verify().problems


def test_a_disk_keeps_what_was_flushed_and_no_more(disk):
    """The test disk keeps a flushed file, and loses one that was only written."""
    (disk.folder / "written").write_bytes(b"x" * 50_000)
    with (disk.folder / "flushed").open("wb") as file:
        file.write(b"y" * 50_000)
        file.flush()
        os.fsync(file.fileno())
    (disk.folder / "written later").write_bytes(b"z" * 50_000)

    with disk.cut() as cut:
        assert (cut.folder / "flushed").read_bytes() == b"y" * 50_000
        for name in ("written", "written later"):
            path = cut.folder / name
            assert not path.exists() or path.stat().st_size == 0


@pytest.mark.parametrize("fault", ["synchronous=OFF", "answers before it stores"])
def test_what_loses_turns_is_caught(disk, fault, cuts, tmp_path):
    """A store that does not flush, or that answers too early, fails these tests."""
    off = fault == "synchronous=OFF"
    kind = Kind("sqlite", {"synchronous": "OFF" if off else "FULL"}, durable=True)

    with pytest.raises(AssertionError, match="lost: "):
        cut_again_and_again(disk, kind, tmp_path, cuts, hasty=not off)
