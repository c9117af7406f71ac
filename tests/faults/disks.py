"""A disk whose power can be cut any number of times. Each cut is a copy of the disk at one instant."""

import atexit
import ctypes
import fcntl
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

NOT_TRIED = "NOT TRIED: power cuts"
FILE_SYSTEM = "2G"  # the files are sparse, and take what is written
DISK = "400M"  # room for what two writers write while the machine lets the third wait
CLONE = 0x40049409  # FICLONE of linux/fs.h: what `cp --reflink=always` does
WRITE = 2  # SYNC_FILE_RANGE_WRITE


class MissingProgramError(Exception):
    """A program that makes file systems is not installed."""


def find_program(name, package):
    """Return the path of a system program. If it is missing, tests fail; they are not skipped."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if path is None:
        msg = f"no {name}: on Debian it is in {package} (apt-get install {package}); `make faults` installs it"
        raise MissingProgramError(msg)
    return path


@dataclass(frozen=True)
class Cut:
    """A power cut. *folder* is the file system as the next start finds it.

    What had returned at *began* (`time.monotonic_ns`) must be there, if it was promised to be; what had not begun at
    *ended* cannot be.
    """

    folder: Path
    began: int
    ended: int


class Disk:
    """An ext4 file system at *folder*, on a loop device, whose file lies on an XFS file system on another one.

    It takes root, or sudo without a password, and the kernel's XFS and loop devices. Where one of them is not to be had
    the test is skipped, and the summary of pytest says what was not tried.

    As a context manager it is mounted on entry; on exit, or when Python exits, it is unmounted and removed.
    """

    def __init__(self, folder):
        self.folder = folder / "disk"
        self._outer = folder / "xfs"
        self._outer_file = folder / "xfs.img"
        self._file = self._outer / "disk.img"
        self._copies = itertools.count()
        self._mounted = []
        self._sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        self._owner = os.getpid()

    def __enter__(self):
        if sys.platform != "linux":
            pytest.skip(f"{NOT_TRIED}, which take Linux")
        if self._sudo and (shutil.which("sudo") is None or self._run("true").returncode):
            pytest.skip(f"{NOT_TRIED}, which take root, or sudo without a password, to mount file systems")
        make_xfs, make_ext4 = find_program("mkfs.xfs", "xfsprogs"), find_program("mkfs.ext4", "e2fsprogs")
        atexit.register(self.close)
        try:
            subprocess.run(["truncate", "-s", FILE_SYSTEM, self._outer_file], check=True)
            subprocess.run([make_xfs, "-q", "-m", "reflink=1", self._outer_file], check=True)
            self._mount(self._outer_file, self._outer)
            subprocess.run(["truncate", "-s", DISK, self._file], check=True)
            subprocess.run([make_ext4, "-q", "-b", "4096", "-E", "lazy_itable_init=0", self._file], check=True)
            self._mount(self._file, self.folder)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    @contextmanager
    def cut(self):
        """Cut the power without the writers noticing, and start again. Return the `Cut`."""
        folder = self._outer.parent / f"cut-{next(self._copies)}"
        copy = self._outer / f"{folder.name}.img"
        try:
            with self._file.open("rb") as source, copy.open("wb") as target:
                began = time.monotonic_ns()
                fcntl.ioctl(target, CLONE, source.fileno())
                ended = time.monotonic_ns()
            self._mount(copy, folder)
            yield Cut(folder, began, ended)
        finally:
            self._unmount(folder)
            copy.unlink(missing_ok=True)

    def close(self):
        """Unmount everything, even if in use, and remove the files. A second call does nothing."""
        if os.getpid() != self._owner:
            return  # a forked child comes here, too
        atexit.unregister(self.close)
        with ExitStack() as stack:
            stack.callback(self._outer_file.unlink, missing_ok=True)
            for folder in self._mounted:
                stack.callback(self._unmount, folder)

    def _run(self, *command):
        # In a session of its own, so that Ctrl-C does not end it.
        options = {"capture_output": True, "text": True, "start_new_session": True}
        return subprocess.run([*self._sudo, *command], check=False, **options)

    def _mount(self, file, folder):
        """Mount a file. Its loop device is released when it is unmounted."""
        self._mounted.append(folder)
        folder.mkdir()
        done = self._run("mount", "-o", "loop", file, folder)
        if done.returncode and file == self._outer_file:
            why = done.stderr.strip().rpartition(": ")[2]
            pytest.skip(f"{NOT_TRIED}, for which a file with XFS is mounted by a loop device: {why}")
        assert not done.returncode, done.stderr
        if self._sudo:
            self._run("chown", f"{os.getuid()}:{os.getgid()}", folder)

    def _unmount(self, folder):
        if folder not in self._mounted:
            return
        failed = ""
        if folder.is_mount():
            done = self._run("umount", folder)
            if done.returncode:  # a process still has a file open; the kernel unmounts when it ends
                failed = done.stderr
                self._run("umount", "--lazy", folder)
        self._mounted.remove(folder)
        if folder.exists():
            folder.rmdir()
        assert not failed, failed


def write_back(link, folder, seed, in_order):
    """In a process: let the kernel write some pages to disk early, as it does at any time.

    It may do so at any time, for it is short of memory or the pages are old. SQLite's files bear any order. A server's
    log has no checksums, by which it could notice a hole: it is written *in_order*, as the kernel does by itself.
    Now and then also commit ext4's journal, as the kernel does every five seconds.
    """
    choose, libc = random.Random(seed), ctypes.CDLL(None, use_errno=True)
    link.send("ready")
    link.recv()
    for n in itertools.count():
        for path in [each for each in sorted(folder.rglob("*")) if each.is_file()]:
            with suppress(FileNotFoundError), path.open("rb") as file:
                pages = os.fstat(file.fileno()).st_size // 4096 + 1
                first, some = (0, pages) if in_order else (choose.randrange(pages), choose.choice([1, 2, 5, pages]))
                where = ctypes.c_int64(4096 * first), ctypes.c_int64(4096 * some)
                libc.sync_file_range(file.fileno(), *where, WRITE)
        if n % 5 == 4:
            with (folder / f"unrelated {seed}").open("ab") as file:
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
        time.sleep(choose.uniform(0, 0.02))
