"""Writers that change one session at the same time, in all ways that there are: what each did is there, and stays."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pyai_sessions import SessionConflictError, SessionManager, SessionNotFoundError
from tests.faults.storages import ALL, EXAMPLE, SHARED
from tests.faults.workers import ids_of_all_branches, in_a_process, receive, results

WRITERS = 4
EVERYWHERE = [*ALL, EXAMPLE]


@pytest.fixture
def turns(long_form):
    return 60 if long_form else 8


# Workers --------------------------------------------------------------------------------------------------------------


def work(link, storage, act, writer, turns):
    """In a process: wait for the word, act, and send what came of it."""
    with storage.open() as manager:
        link.send("ready")
        link.recv()
        link.send(act(manager, writer, turns))


def together(storage, acts, turns):
    """Let writers act at the same time, in processes of their own where the storage has several; return the results."""
    if storage.kind not in (*SHARED, EXAMPLE):
        with storage.open() as manager, ThreadPoolExecutor(len(acts)) as threads:
            running = [threads.submit(act, manager, writer, turns) for writer, act in enumerate(acts)]
            return [each.result() for each in running]
    workers = [in_a_process(work, storage, act, writer, turns) for writer, act in enumerate(acts)]
    for _, link in workers:
        assert receive(link) == "ready"
    for _, link in workers:
        link.send("go")
    return results(workers)


class Own:
    """The messages that one writer adds to session s0 and changes, as they must be at the end."""

    def __init__(self, manager, writer, turns):
        self.manager, self.writer, self.turns = manager, writer, turns
        self.choose = random.Random(writer)
        self.messages = {}
        self.step = 0

    def _new(self, how_many=1):
        made = [
            {
                "role": "user",
                "content": f"{self.writer}/{self.step}/{n}",
                "message_id": f"{self.writer}-{self.step}-{n}",
            }
            for n in range(how_many)
        ]
        self.messages |= {each["message_id"]: [each["content"], {}] for each in made}
        return made

    def _one(self):
        return self.choose.choice(list(self.messages))

    def append(self):
        self.manager.append("s0", *self._new(self.choose.choice([1, 2, 33])))

    def update(self):
        self.manager.update("s0", *self._new(), state={f"{self.writer}": self.step})

    def stream(self):
        with self.manager.stream("s0", every=0, message_id=f"{self.writer}-{self.step}") as answer:
            for piece in ("Once ", "upon ", "a time"):
                answer.write(piece)
        self.messages[f"{self.writer}-{self.step}"] = ["Once upon a time", {}]

    def replace(self):
        key = self._one()
        self.messages[key][0] = f"{key} said anew at {self.step}"
        self.manager.replace_message("s0", key, content=self.messages[key][0])

    def rate(self):
        key = self._one()
        self.messages[key][1] = {"rating": self.step}
        self.manager.replace_message("s0", key, metadata={"rating": self.step})

    def remove(self):
        key = self._one()
        del self.messages[key]
        self.manager.remove_message("s0", key)

    def save(self):
        made, key = self._new(), self._one()
        while not self._saved(made, key):
            pass
        self.messages[key][1] = {"saved": self.step}

    def _saved(self, made, key):
        """Save a copy of the session with changes. Return False if another writer took back its last message."""
        session = self.manager.get_session("s0")
        for each in made:
            session.add_message(**each)
        session.replace_message(key, metadata={"saved": self.step})
        try:
            self.manager.save(session)
        except SessionConflictError as err:
            if "had the message taken back that yours were written after" not in str(err):
                raise
            return False
        return True

    def fork(self):
        fork = self.manager.fork("s0", new_id=f"fork {self.writer} {self.step}", state={"of": self.writer}, last=None)
        assert own(fork, self.writer) == self.expected
        if self.step % 2:
            assert self.manager.delete(fork.session_id, if_revision=fork.revision)
        else:
            self.manager.replace_message(fork.session_id, self._one(), content="in the fork alone")

    def look(self):
        key = self._one()
        message = self.manager.get_message("s0", key)
        assert [message.content, dict(message.metadata)] == self.messages[key]
        assert key in [each.message_id for each in self.manager.get_messages("s0", before=None, limit=None)]

    @property
    def expected(self):
        return [(key, *value) for key, value in self.messages.items()]

    ways = (append, update, stream, replace, replace, rate, rate, remove, save, fork, look)

    def run(self):
        for step in range(self.turns):
            self.step = step
            way = self.choose.choice(self.ways) if len(self.messages) > 2 else Own.append
            way(self)
            if self.step % 4 == 3:
                assert own(self.manager.get_session("s0"), self.writer) == self.expected
        return self.expected


def own(session, writer):
    """Return the messages of a writer, in order."""
    found = [(each.message_id, each.content, dict(each.metadata)) for each in session.messages]
    return [each for each in found if each[0].startswith(f"{writer}-")]


def change_own(manager, writer, turns):
    return Own(manager, writer, turns).run()


# What holds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", EVERYWHERE, indirect=True)
def test_writers_of_different_messages_all_succeed(storage, turns):
    """If each writer changes only messages of its own, all changes are stored.

    None conflicts, but for a save of what was said after a message that its writer took back meanwhile.
    """
    with storage.open() as manager:
        manager.create_session("ada", session_id="s0")

    done = together(storage, [change_own] * WRITERS, 3 * turns)

    with storage.open() as manager:
        session = manager.get_session("s0")
        for writer, expected in enumerate(done):
            assert own(session, writer) == expected
        assert session.message_count == sum(map(len, done))
        assert not manager.verify().problems


def say_and_pop(manager, writer, turns):
    """Add messages; every second writer removes the last one. Return the ids of the messages added or removed."""
    done = []
    for n in range(turns):
        if writer % 2 == 0:
            ids = [f"{writer}-{n}-{each}" for each in range(3)]
            manager.append("s0", *[{"role": "user", "content": each, "message_id": each} for each in ids])
            done += ids
        elif manager.get_messages("s0", limit=1):
            done.append(manager.pop_message("s0").message_id)
    return done


@pytest.mark.parametrize("storage", EVERYWHERE, indirect=True)
def test_each_message_is_taken_back_once_or_is_there(storage, turns):
    """However many take back the last message while others add more."""
    with storage.open() as manager:
        manager.append(manager.create_session("ada", session_id="s0").session_id, *first(3 * turns * WRITERS))

    done = together(storage, [say_and_pop] * WRITERS, turns)

    with storage.open() as manager:
        there = [each.message_id for each in manager.get_session("s0").messages]
        popped = [each for writer in done[1::2] for each in writer]
        added = [each for writer in done[::2] for each in writer] + [
            each["message_id"] for each in first(3 * turns * WRITERS)
        ]
        assert Counter(there + popped) == Counter(added)
        assert not manager.verify().problems


def first(how_many):
    return [{"role": "user", "content": f"first {n}", "message_id": f"first{n}"} for n in range(how_many)]


def say_or_clear(manager, writer, turns):
    """Add messages, or, the first writer, remove all; return when each call began and ended, and what it added."""
    done = []
    for n in range(turns):
        began, added = time.monotonic_ns(), None
        if writer:
            added = f"{writer}-{n}"
            manager.append("s0", {"role": "user", "content": added, "message_id": added})
        elif n % 4 == 0:
            manager.clear_messages("s0")
        else:
            manager.get_session("s0")
            continue
        done.append((began, time.monotonic_ns(), added))
    return done


@pytest.mark.parametrize("storage", EVERYWHERE, indirect=True)
def test_what_was_added_after_all_was_removed_stays_and_what_was_before_goes(storage, turns):
    """By the clock of the machine, that all of them share."""
    with storage.open() as manager:
        manager.append(manager.create_session("ada", session_id="s0").session_id, *first(40))

    clears, *others = together(storage, [say_or_clear] * WRITERS, 4 * turns)

    with storage.open() as manager:
        there = {each.message_id for each in manager.get_session("s0").messages}
        assert not there & {each["message_id"] for each in first(40)}
        for began, ended, added in [each for done in others for each in done]:
            if any(ended < start for start, _, _ in clears):
                assert added not in there
            if all(began > end for _, end, _ in clears):
                assert added in there
        assert not manager.verify().problems


def say_or_go_back(manager, writer, turns):
    """Add messages, or, the first writer, go back to one of the latest; return the ids of what was added."""
    done = []
    for n in range(turns):
        if writer:
            done.append(f"{writer}-{n}")
            manager.append("s0", {"role": "user", "content": done[-1], "message_id": done[-1]})
        elif n % 2 and n < 50:  # 32 branches are remembered
            manager.rewind("s0", manager.get_messages("s0", limit=3)[0])
    return done


@pytest.mark.parametrize("storage", EVERYWHERE, indirect=True)
def test_what_a_rewind_leaves_is_in_a_branch(storage, turns):
    """By the id of a message, while others add more: each message is in the conversation or in a branch."""
    with storage.open() as manager:
        manager.append(manager.create_session("ada", session_id="s0").session_id, *first(40))

    done = together(storage, [say_or_go_back] * 3, turns)

    with storage.open() as manager:
        assert ids_of_all_branches(manager) >= {each for ids in done for each in ids}
        assert not manager.verify().problems


def change_or_delete(revisions, manager, writer, turns):
    """Change or delete sessions if nobody else has since one revision; return of which sessions that succeeded."""
    done = []
    for n in range(turns):
        try:
            if writer % 2:
                is_done = manager.delete(f"d{n}", if_revision=revisions[n])
            else:
                is_done = manager.update(f"d{n}", state={"by": writer}, if_revision=revisions[n])
        except (SessionConflictError, SessionNotFoundError):
            is_done = False
        if is_done:
            done.append(n)
    return done


@pytest.mark.parametrize("storage", EVERYWHERE, indirect=True)
def test_of_those_who_change_or_delete_one_revision_one_succeeds(storage, turns):
    """The others are told of a conflict, or that there is no such session; two who delete it may both be told so."""
    with storage.open() as manager:
        revisions = [manager.create_session("ada", session_id=f"d{n}").revision for n in range(2 * turns)]

    done = together(storage, [partial(change_or_delete, revisions)] * WRITERS, 2 * turns)

    with storage.open() as manager:
        for n in range(2 * turns):
            changed, deleted = ([each for each in range(k, WRITERS, 2) if n in done[each]] for k in (0, 1))
            assert len(changed) + bool(deleted) == 1
            session = manager.get_session(f"d{n}")
            assert [session and session.get_state("by")] == (changed or [None])
        assert not manager.verify().problems


def copy_or_say(target, manager, writer, turns):
    """Copy all to another storage, or, the others, add turns; return what the copies had of session s0."""
    seen = []
    for n in range(turns):
        if writer < 2:
            with target.open() as other:
                manager.copy_sessions(other)
                seen.append([each.message_id for each in other.get_session("s0").messages])
        else:
            ids = [f"{writer}-{n}-{each}" for each in range(2)]
            manager.append("s0", *[{"role": "user", "content": each, "message_id": each} for each in ids])
    return seen


@pytest.mark.parametrize("storage", [*SHARED, EXAMPLE], indirect=True)
def test_copies_beside_writers_are_of_one_moment_each_and_the_last_is_whole(storage, turns, tmp_path):
    """Two copy to one store while others add turns: no copy has half a turn, or loses what a former one had."""
    target = type(storage)("sqlite", tmp_path / "target.db")
    with storage.open() as manager:
        manager.append(manager.create_session("ada", session_id="s0").session_id, *first(40))

    done = together(storage, [partial(copy_or_say, target)] * WRITERS, turns)

    with storage.open() as manager, target.open() as other:
        manager.copy_sessions(other)
        whole = [each.message_id for each in manager.get_session("s0").messages]
        assert [each.message_id for each in other.get_session("s0").messages] == whole
        for seen in done[0] + done[1]:
            assert seen == whole[: len(seen)]
            assert len(seen) % 2 == 0
        assert not other.verify().problems
        assert manager.copy_sessions(other).identical == SessionManager.count(manager)
