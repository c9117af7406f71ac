"""Tests of a key rotation beside writers by a process that is killed."""

import random
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from pyai_sessions import Encrypted, KVSessionStore, RedisMapping, SessionManager, SQLiteMapping
from pyai_sessions.encryption import rotation
from pyai_sessions.testing import Recorder
from tests.faults.storages import ON_SERVERS
from tests.faults.test_kill import reports
from tests.faults.workers import Hammers, check_turns, in_a_process, plan, receive, session_ids, user_of

pytestmark = pytest.mark.wide

INDEX, OLD, NEW = b"i" * 32, b"o" * 32, b"n" * 32
IDS = session_ids(10)


@dataclass(frozen=True)
class EncryptedStorage:
    """An encrypted storage that any process can open."""

    kind: str
    at: Any
    keys: dict[str, bytes]

    @contextmanager
    def mapping(self):
        """Open the storage inside."""
        if self.kind in ON_SERVERS:
            url, prefix = self.at
            with closing(redis.Redis.from_url(url)) as client:
                yield RedisMapping(client, prefix=prefix)
        else:
            with closing(SQLiteMapping(Path(self.at) / "chat.db", synchronous="NORMAL", timeout=30)) as mapping:
                yield mapping

    @contextmanager
    def open(self, *, timeout=30.0):
        with ExitStack() as stack:
            mapping = Encrypted(stack.enter_context(self.mapping()), self.keys, compress=True)
            yield SessionManager(stack.enter_context(closing(KVSessionStore(mapping, timeout=timeout))))


def rotate(link, storage, waits):
    """In a process: rotate in small batches, and report the start, each batch and the end.

    It *waits* after the first batch until it is killed.
    """
    rotation.TOGETHER = 5

    def progress(done):
        link.send(done)
        if waits:
            link.recv()

    with storage.open() as manager:
        link.send("begun")
        manager.rotate_keys(progress=progress)
        link.send("ended")


@pytest.mark.parametrize("storage", ["sqlite", "valkey"], indirect=True)
def test_a_killed_rotation_beside_writers_leaves_every_session_readable(storage, long_form, tmp_path):
    """Three writers save and append meanwhile. At the end all turns are there, encrypted with the new key."""
    before = EncryptedStorage(storage.kind, storage.at, {"index": INDEX, "old": OLD})
    during = EncryptedStorage(storage.kind, storage.at, {"index": INDEX, "old": OLD, "new": NEW})
    after = EncryptedStorage(storage.kind, storage.at, {"index": INDEX, "new": NEW})
    kills, moment = (40 if long_form else 6), random.Random(2026)
    with before.open() as manager:
        for session_id in IDS:
            manager.create_session(user_of(session_id), session_id=session_id)
    first = Hammers(before, tmp_path, [(plan(0, IDS, 250), "append")]).events()

    plans = [plan(writer, IDS, 600 if long_form else 40) for writer in range(1, 4)]
    writers = Hammers(during, tmp_path, list(zip(plans, ["save", "append", "save"], strict=True)))
    cut, reads = 0, []
    for n in range(kills):
        process, link = in_a_process(rotate, during, n == 0)
        with link:
            assert receive(link) == "begun"
            if n == 0:
                receive(link)
            else:
                time.sleep(moment.uniform(0, 0.02) * n / kills)  # the instant
            process.kill()
            process.join()
            cut += "ended" not in reports(link)
        with during.open() as manager:
            reader = Recorder(manager, reads.append)
            for session_id in IDS:
                reader.get_session(session_id)
    written = writers.events()
    with during.open() as manager:
        manager.rotate_keys()
        assert manager.rotate_keys() == 0

    assert cut
    with after.open() as manager:
        check_turns(manager, IDS, first + written + reads)
    with after.mapping() as mapping:
        assert not [key for key in mapping if '"encrypted":"new.' not in mapping[key]]
