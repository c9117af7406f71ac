"""Attacks: a call is interrupted at one point after another, and all later calls are checked.

`Storage.open` (or any object with such an `open`) makes the managers: one whose call is interrupted, and another that
looks from outside, as a second connection does.

A call has up to 7,000 points, all calls on all storages have two million, and a point takes 4 to 12 ms. So each test
takes those at which its code can differ:

- The long form takes each entry of a function and up to 4,000 lines of each call on a dict and in an SQLite file: there
  is all code above the storages. Only a few calls that repeat much have more lines.
- On the other storages, in event loops and on two kinds of Redis clients it takes each entry of a function, as that is
  where Python looks for signals, and a sample of the lines.
- In threads and on the other kinds of clients it takes a sample of both: they differ in options alone.
- The plain form takes a sample of the functions that take what others wait for, and give it back.
"""

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from random import Random

import pytest

from pyai_sessions import (
    Encrypted,
    KVSessionStore,
    Message,
    SessionManager,
    SessionNotFoundError,
    SessionStatus,
    SQLiteMapping,
    StorageInUseError,
    StorageLockedError,
    UnsupportedOperationError,
)
from tests.faults.calls import BULK, CALLS, texts_of
from tests.faults.points import HANG, Stop, interrupt, stop

ALL = sys.maxsize
"""Each entry of a function, or each line."""
TIMEOUT = 90.0
"""Seconds that the stores wait for a lock. One that was left behind is so told from one that is held for a moment."""
ROUND = 20
"""Points after which the sessions are deleted, so that the later calls of many points do not become slow."""

_numbers = count()


@dataclass(frozen=True)
class Points:
    """The points of a call that are taken. A sample is one random point of each of as many equal parts.

    The numbers decide which points are random: a failure comes again.

    Attributes:
        entries: How many entries of functions are taken.
        lines: How many lines of the package are taken.
        only: Parts of the names of the files whose functions count; None for all.

    """

    entries: int = ALL
    lines: int = 0
    only: tuple[str, ...] | None = None

    def choose(self, is_entry, seed):
        """Return the numbers of the points that are taken, counted from 1."""
        points = range(1, len(is_entry) + 1)
        random = Random(f"{seed} {len(points)}")
        entries = [each for each in points if is_entry[each - 1]]
        lines = [each for each in points if not is_entry[each - 1]]
        return sorted((*_sample(entries, self.entries, random), *_sample(lines, self.lines, random)))


def _sample(points, most, random):
    """Return all points, or one of each of *most* equal parts."""
    if len(points) <= most:
        return points
    edges = [len(points) * n // most for n in range(most + 1)]
    return [points[random.randrange(*each)] for each in pairwise(edges)]


# Results --------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """The numbers of points and of later calls, and the calls that failed, by the kind of their failure."""

    points: int = 0
    after: int = 0
    refused: int = 0
    wrong: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)

    def note(self, kind, where, problem):
        """Count a failure, and keep the first ones as text."""
        self.wrong[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{kind}, interrupted at {where}: {problem}")

    def judge(self, where, call):
        """Make a later call, and note how it fails or that it took too long."""
        self.after += 1
        began = time.monotonic()
        try:
            call()
            assert time.monotonic() - began < TIMEOUT / 2, "hung: it waited"
        except StorageLockedError as err:
            self.note("locked", where, err)
        except AssertionError as err:
            kind = str(err).partition(":")[0]
            self.note(kind if kind in ("hung", "lost", "doubled") else "other", where, err)
        except TimeoutError as err:
            self.note("hung", where, repr(err))
        except pytest.fail.Exception:  # of pytest-timeout: the call hangs
            raise
        except BaseException as err:  # noqa: BLE001 (to be shown with all others)
            self.note("other", where, repr(err))

    def __str__(self):
        kinds = ("hung", "locked", "lost", "doubled", "other")
        told = ", ".join(f"{self.wrong[each]} {each}" for each in kinds)
        return f"{self.points:6} points, {self.after:6} calls after, {self.refused:5} refused: {told}"

    def __iadd__(self, other):
        self.points += other.points
        self.after += other.after
        self.refused += other.refused
        self.wrong += other.wrong
        self.examples += other.examples
        return self


# Managers -------------------------------------------------------------------------------------------------------------


class Managers:
    """Managers on one storage, and a probe session to which all of them append after each interruption.

    Attributes:
        face: The manager whose calls are interrupted.
        manager: The same, or the sync manager that shares the store of an async one.
        other: A manager with a connection of its own.
        pool: A thread.

    """

    def __init__(self, face, manager, other, pool):
        self.face, self.manager, self.other, self.pool = face, manager, other, pool
        self.begin()

    def begin(self):
        """Begin an empty probe session."""
        self.probe, self.written = f"probe {next(_numbers)}", []
        self.manager.create_session("eve", session_id=self.probe)

    def clear(self):
        """Delete all sessions, and begin another probe."""
        with suppress(UnsupportedOperationError):  # of a store of four methods
            self.other.clear_all()
        self.begin()

    def append(self, manager, by):
        """Append to the probe, and remember what was appended."""
        message = Message("user", f"{by} {len(self.written)}")
        manager.append(self.probe, message)
        self.written.append(message.content)

    def by_other(self):
        """Append through the other connection."""
        self.append(self.other, "other")

    def by_thread(self):
        """Append in another thread, with the interrupted manager."""
        self.pool.submit(self.append, self.manager, "thread").result(HANG)

    def by_self(self):
        """Append in this thread, with the interrupted manager."""
        self.append(self.face, "self")
        newest = [each.content for each in self.other.get_session(self.probe, last=3).messages]
        assert self.written[-1] in newest, "lost: what another connection cannot see"

    def check_probe(self):
        """Assert that the probe has each message that was appended, once."""
        for manager in (self.face, self.other):
            found = Counter(texts_of(manager, self.probe))
            assert not [each for each in self.written if not found[each]], "lost: what was acknowledged"
            assert max(found.values(), default=1) == 1, "doubled: what was acknowledged"


@contextmanager
def attacked(storage, *, wrap=None, timeout=TIMEOUT, **options):
    """Open two managers on a storage, and a thread. *wrap* makes another kind of manager."""
    with ExitStack() as stack:
        manager = stack.enter_context(storage.open(timeout=timeout, **options))
        other = stack.enter_context(storage.open(timeout=timeout, **options))
        face = manager if wrap is None else stack.enter_context(wrap(manager))
        yield Managers(face, manager, other, stack.enter_context(ThreadPoolExecutor(1)))


@dataclass(frozen=True)
class EncryptedFile:
    """A namespace of an SQLite file, encrypted, at a path."""

    path: Path

    @contextmanager
    def open(self, *, timeout):
        """Open the file anew."""
        with closing(SQLiteMapping(self.path, timeout=timeout)) as mapping:
            encrypted = Encrypted(mapping, {"k": bytes(32)})
            yield SessionManager(KVSessionStore(encrypted, namespace="n", timeout=timeout))


@dataclass(frozen=True)
class Custom:
    """A custom store as a storage, shared by all managers."""

    store: object

    @contextmanager
    def open(self, *, timeout):
        """Make a manager of it."""
        yield SessionManager(self.store)


# Attacks --------------------------------------------------------------------------------------------------------------


def attack(managers, name, points, *, act=stop, by=interrupt):
    """Interrupt a call at its points. After each one, append from everywhere and repeat the call; return a Tally.

    Who appends first changes from point to point: another connection, another thread, this thread.

    Args:
        managers: What `attacked` opens.
        name: The name of a call of `CALLS` or `BULK`.
        points: The points that are taken.
        act: What interrupts.
        by: Makes the call, and acts at a point, as `interrupt` does.

    """
    tally = Tally()
    for call, where, needs, _ in _interrupted(managers, name, points, tally, lambda _: act, by):
        writers = [managers.by_other, managers.by_thread, managers.by_self]
        turn = tally.points % 3
        tally.judge(where, partial(_check_listed, managers.other, needs[0].session_id))
        for write in (*writers[turn:], *writers[:turn], partial(call.act, managers.face, needs)):
            tally.judge(where, write)
        for manager in (managers.face, managers.other):
            tally.judge(where, partial(call.check, manager, needs))
    return tally


def attack_with_handler(managers, name, points):
    """At each point of a call let a signal handler load, append and save, while the call waits; return a Tally.

    Another connection must see what the handler stored, and the call must go on and end as if there had been none.
    Every second handler then raises, as `sys.exit` does: what it has saved must stay, and the call is repeated.
    """
    tally, handlers = Tally(), []

    def handle(needs):
        handlers.append(_Handler(managers, needs[0], saves=name.startswith("save"), leaves=bool(tally.points % 2)))
        return handlers[-1]

    for call, where, needs, outcome in _interrupted(managers, name, points, tally, handle):
        handler = handlers.pop()
        tally.refused += handler.refused
        for each in handler.problems:
            tally.note("locked" if isinstance(each, StorageLockedError) else "other", where, repr(each))
        if handler.leaves:
            tally.judge(where, partial(call.act, managers.face, needs))
        elif isinstance(outcome, BaseException):
            tally.note("other", where, f"the call itself raised {outcome!r}")
        for check in (
            partial(call.check, managers.other, needs),
            partial(handler.check, needs[0].session_id),
            managers.by_other,
            managers.by_thread,
            managers.by_self,
        ):
            tally.judge(where, check)
    return tally


def _interrupted(managers, name, points, tally, make_act, by=interrupt):  # noqa: PLR0917 (of this module alone)
    """Interrupt a call at one point after another: yield the call, where that was, what the call needs, its outcome.

    A call that reads all sessions finds as many at each point as when its points were counted.
    """
    call = (CALLS | BULK)[name]
    needs = call.prepare(managers.face)
    options = {"lines": points.lines > 0, "only": points.only}
    counted, outcome = by(partial(call.act, managers.face, needs), 0, stop, **options)
    if isinstance(outcome, BaseException):
        raise outcome
    for n in points.choose(counted.entries, name):
        if call.scans or tally.points % ROUND == ROUND - 1:
            tally.judge(name, managers.check_probe)
            managers.clear()
        needs = call.prepare(managers.face)
        tracer, outcome = by(partial(call.act, managers.face, needs), n, make_act(needs), **options)
        if tracer.where is not None:
            tally.points += 1
            yield call, f"{name}, {tracer.where}", needs, outcome
    tally.judge(name, managers.check_probe)


def _check_listed(manager, session_id):
    """Assert that a session left by the interrupted call is in its user's list."""
    session = manager.get_session(session_id)
    if session is not None and session.status is SessionStatus.ACTIVE:
        listed = [each.session_id for each in manager.list_sessions(session.user_id, limit=None)]
        if session_id not in listed:  # unless a thread of the call that was cut off has ended it since
            session = manager.get_session(session_id)
            assert session is None or session.status is not SessionStatus.ACTIVE, "lost: of a list"


class _Handler:
    """A signal handler that must save before the process ends: each of its calls is done, or refused at once.

    It appends to the session of the interrupted call, and if that call is a save, it saves the very same object.
    """

    def __init__(self, managers, session, *, saves, leaves):
        self.managers, self.session, self.saves, self.leaves = managers, session, saves, leaves
        self.refused, self.problems, self.kept = 0, [], []

    def __call__(self):
        began = time.monotonic()
        for act in (self._save_the_same, self._save_the_probe, self._append):
            try:
                act()
            except StorageInUseError:  # noqa: PERF203 (each act by itself)
                self.refused += 1
            except BaseException as err:  # noqa: BLE001 (it is shown)
                self.problems.append(err)
        if time.monotonic() - began > TIMEOUT / 2:
            self.problems.append(TimeoutError("the handler waited"))
        if self.leaves:
            raise Stop

    def _save_the_same(self):
        if self.saves:
            message = Message("user", f"handler {next(_numbers)}")
            with suppress(SessionNotFoundError):
                self.managers.face.append(self.session.session_id, message)
                self.kept.append(message.content)
            self.managers.face.save(self.session)

    def _save_the_probe(self):
        session = self.managers.face.get_session(self.managers.probe)
        content = f"handler {len(self.managers.written)}"
        session.add_message("user", content)
        self.managers.face.save(session)
        self.managers.written.append(content)

    def _append(self):
        self.managers.append(self.managers.face, "handler")

    def check(self, session_id):
        """Assert that the interrupted call did not overwrite what the handler appended."""
        if self.kept:
            found = Counter(texts_of(self.managers.other, session_id))
            assert [found[each] for each in self.kept] == [1] * len(self.kept), "lost: what a handler appended"
