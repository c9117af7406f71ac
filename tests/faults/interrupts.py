"""Interrupts a call at one point by an exception or a saving handler, and checks all later calls.

`Storage.open` (or any object with such an `open`) gives the managers: one whose call is interrupted, another that looks
from outside, as a second connection does. `attack` interrupts a call of `CALLS` at each point, and tells what it saw.
"""

import asyncio
import ctypes
import faulthandler
import gc
import io
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import pytest

import pyai_sessions
from pyai_sessions import (
    AsyncSessionManager,
    KVSessionStore,
    Message,
    Session,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SessionStateError,
    SessionStatus,
    SQLiteMapping,
    StorageInUseError,
    StorageLockedError,
)
from pyai_sessions.testing import StoppedClock

PACKAGE = str(Path(pyai_sessions.__file__).parent)
OURS = (PACKAGE,)
LOOPS = (PACKAGE, "/selectors.py")
"""Likewise, and where an event loop waits."""
HOLDS = (f"{PACKAGE}/storage/", f"{PACKAGE}/backend.py", f"{PACKAGE}/writers.py", f"{PACKAGE}/turns.py")
"""Where the code lies that takes what others wait for, and gives it back."""
TIMEOUT = 90.0
"""Seconds that the stores wait for a lock. One that was left behind is so told from one that is held for a moment."""
HANG = 240.0
"""Seconds after which a call hangs; a safety net, which ends the process and shows where it stands."""

_HERE = (__file__, "<frozen", "/_pytest/", "/pluggy/", "/weakref.py", "/_weakrefset.py", "/importlib/", "/coverage/")


# Points --------------------------------------------------------------------------------------------------------------


class Tracer:
    """Counts the points of a call, and acts at one: at the entry of each function, and before lines of our own code.

    CPython looks for signals at the entry of functions, after calls of C and where loops go back: a trace function that
    raises does the same, at a place of one's choice. *only* limits functions to files of these folders. *opcodes* are
    points between the steps of a line, too.
    """

    def __init__(self, at, act, *, lines=False, only=None, opcodes=False):
        self.at, self.act, self.lines, self.only, self.opcodes = at, act, lines or opcodes, only, opcodes
        self.points, self.where = 0, None

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if event != "call" or any(each in code.co_filename for each in _HERE):
            return None
        if self.only and not any(each in code.co_filename for each in self.only):
            return None
        frame.f_trace_opcodes = self.opcodes
        self._reach(frame)
        return self._line if self.lines and code.co_filename.startswith(PACKAGE) else None

    def _line(self, frame, event, arg):
        if event == ("opcode" if self.opcodes else "line"):
            self._reach(frame)
        return self._line

    def _reach(self, frame):
        self.points += 1
        if self.points == self.at:
            code = frame.f_code
            self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
            self.act()


def interrupt(call, at, act, *, lines=False, only=None, opcodes=False):
    """Make a call, with *act* at its point number *at*. Return the tracer and the call's exception or result."""
    tracer = Tracer(at, act, lines=lines, only=only, opcodes=opcodes)
    before, hook = sys.gettrace(), sys.unraisablehook
    # What is raised while a generator is being closed is dropped by Python itself: such a point is no interruption.
    sys.unraisablehook = lambda told: None if issubclass(told.exc_type, Stop) else hook(told)
    sys.settrace(tracer)
    try:
        outcome = call()
    except BaseException as err:  # noqa: BLE001 (it is what the test is about)
        outcome = err
    finally:
        sys.settrace(before)
        sys.unraisablehook = hook
    return tracer, outcome


class Stop(BaseException):
    """An exception from outside, which no library may handle as its own."""


def stop():
    raise Stop


class CtrlC(Stop, KeyboardInterrupt):
    """An exception that ends an event loop."""


def press_ctrl_c():
    raise CtrlC


def stop_this_thread():
    """Raise in this thread as another thread does: after this call, or soon."""
    thread = ctypes.c_ulong(threading.get_ident())
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Stop)) == 1


# Calls ---------------------------------------------------------------------------------------------------------------

_numbers = count()


@dataclass
class Call:
    """A call to interrupt, and the check of its repetition."""

    prepare: object  # manager → what the call needs
    act: object  # manager, what it needs → result
    check: object  # manager that looks, what it needs


def _fresh():
    return f"s{next(_numbers)}"


def _stored(manager, size=3, pages=0):
    name = _fresh()
    session = manager.create_session(f"user of {name}", session_id=name)
    for n in range(size + pages * 40):
        session.add_message("user", f"before {n}", message_id=f"before {n}")
    manager.save(session)
    return session


def _texts(manager, session_id):
    session = manager.get_session(session_id)
    return None if session is None else [each.content for each in session.messages]


def _added(session, *contents):
    before = [each.content for each in session.messages]
    for each in contents:
        session.add_message("user", each, message_id=each)
    return session, [*before, *contents]


def _check_texts(manager, needs):
    session, texts = needs
    found = _texts(manager, session.session_id)
    assert found is not None, "lost: the session"
    found = [each for each in found if not each.startswith("handler ")]
    counted = Counter(found)
    assert not [each for each in texts if not counted[each]], "lost: messages"
    assert max(counted.values()) == 1, "doubled: messages"
    assert found == texts


def _create(manager, needs):
    with suppress(SessionExistsError):  # by the call that was interrupted
        manager.create_session("ada", session_id=needs[0].session_id)


def _named(_):
    return _Named(_fresh()), []


@dataclass
class _Named:
    session_id: str


def _stale(manager):
    session = _stored(manager)
    manager.append(session.session_id, Message("user", "theirs", message_id="theirs"))
    texts = [*(each.content for each in session.messages), "theirs", "mine"]
    session.add_message("user", "mine", message_id="mine")
    return session, texts


def _fork(manager, needs):
    with suppress(SessionExistsError):
        manager.fork(needs[0].session_id, new_id=needs[0].session_id + "-fork")


def _check_fork(manager, needs):
    _check_texts(manager, needs)
    assert _texts(manager, needs[0].session_id + "-fork") == needs[1], "lost: of the fork"


def _branched(manager):
    session = _stored(manager, pages=1)
    texts = [each.content for each in session.messages]
    session.rewind(2)
    manager.save(session)
    return session, texts, session.branches[0].branch_id


def _switch(manager, needs):
    session, _, branch = needs
    if branch in [each.branch_id for each in manager.get_session(session.session_id).branches]:
        with suppress(SessionStateError):  # the call that was interrupted was still at work, and has ended since
            manager.switch(session.session_id, branch)


def _delete(manager, needs):
    with suppress(SessionDeletedError):
        manager.delete(needs[0].session_id)


def _check_gone(manager, needs):
    assert manager.get_session(needs[0].session_id) is None, "lost: a deletion"
    assert not manager.list_sessions(needs[0].user_id), "lost: a deletion from a list"


def _archive(manager, needs):
    manager.archive(needs[0].session_id)


def _check_archived(manager, needs):
    assert not manager.list_sessions(needs[0].user_id), "lost: an archiving"
    _check_texts(manager, needs)


def _check_updated(manager, needs):
    _check_texts(manager, needs)
    assert manager.get_session(needs[0].session_id).state["key"] == {"a": 1}, "lost: a change of the state"


def _read(manager, needs):
    _check_texts(manager, needs)
    assert manager.get_session(needs[0].session_id, last=2).messages


def _list(manager, needs):
    session = needs[0]
    theirs = [each.session_id for each in manager.list_sessions(session.user_id)]
    assert theirs == [session.session_id], "lost: of a list"
    assert manager.count(session.user_id) == 1
    newest = [each.session_id for each in manager.list_sessions(limit=3)]
    assert session.session_id in newest, "lost: of the list of all"


def _check_exists(manager, needs):
    assert manager.get_session(needs[0].session_id) is not None, "lost: the session"


def _of_a_user(manager):
    named, texts = _named(manager)
    manager.update_user_state(named.session_id, {"a": {"before": 1}})
    return named, texts


def _update_state(manager, needs):
    manager.update_user_state(needs[0].session_id, {"a": {"b": 1}}, remove=["c"])


def _check_state(manager, needs):
    assert manager.user_state(needs[0].session_id) == {"a": {"before": 1, "b": 1}}, "lost: a change of a user's state"


def _update_with_state(manager, needs):
    message = Message("user", "a", message_id="a")
    state = {"user_state": {"a": {"b": 1}}, "remove_user_state": ["c"], "user_id": needs[0].session_id}
    manager.update(needs[0].session_id, message, state={"key": {"a": 1}}, create=True, **state)


def _check_both(manager, needs):
    _check_new(manager, needs)
    _check_state(manager, needs)


CALLS = {
    "create": Call(_named, _create, _check_exists),
    "save": Call(lambda m: _added(_stored(m), "a", "b"), lambda m, n: m.save(n[0]), _check_texts),
    "save a page": Call(
        lambda m: _added(_stored(m), *(f"{n} " + "x" * 300 for n in range(40))), lambda m, n: m.save(n[0]), _check_texts
    ),
    "save a stale copy": Call(_stale, lambda m, n: m.save(n[0]), _check_texts),
    "append": Call(
        lambda m: (s := _stored(m), [*(each.content for each in s.messages), "a"]),
        lambda m, n: m.append(n[0].session_id, Message("user", "a", message_id="a")),
        _check_texts,
    ),
    "update": Call(
        lambda m: (s := _stored(m), [*(each.content for each in s.messages), "a"]),
        lambda m, n: m.update(n[0].session_id, Message("user", "a", message_id="a"), state={"key": {"a": 1}}),
        _check_updated,
    ),
    "update with states": Call(_of_a_user, _update_with_state, _check_both),
    "update the state of a user": Call(_of_a_user, _update_state, _check_state),
    "read": Call(lambda m: _added(_stored(m, pages=1)), _read, _check_texts),
    "list": Call(lambda m: _added(_stored(m)), _list, _list),
    "fork": Call(lambda m: _added(_stored(m, pages=1)), _fork, _check_fork),
    "switch": Call(_branched, _switch, lambda m, n: _check_texts(m, n[:2])),
    "archive": Call(lambda m: _added(_stored(m)), _archive, _check_archived),
    "delete": Call(lambda m: _added(_stored(m, pages=1)), _delete, _check_gone),
}


# Calls on any number of sessions -------------------------------------------------------------------------------------

_TTL = 3600


def options_of(name):
    """Return the store options that a call needs. Calls on old sessions need a clock that can be set back."""
    return {"purge": {"clock": StoppedClock(), "ttl": _TTL}, "archive what is idle": {"clock": StoppedClock()}}.get(
        name, {}
    )


def _unstored(_):
    made = SessionManager()
    return *_added(_stored(made, pages=1)), _stored(made)


def _import(manager, needs):
    session, _, another = needs
    done = manager.import_sessions([session.to_dict(), another.to_dict()])
    assert (done.inserted + done.identical, done.different) == (2, 0)


def _check_imported(manager, needs):
    _check_texts(manager, needs[:2])
    assert len(_texts(manager, needs[2].session_id)) == 3, "lost: of what was imported"


def _export(manager, needs):
    file = io.StringIO()
    assert manager.export_sessions(file, user_id=needs[0].user_id) == 1, "lost: of the export"
    assert [each.content for each in Session.from_json(file.getvalue()).messages] == needs[1]


def _read_pages(manager, needs):
    session_id, texts = needs[0].session_id, needs[1]
    up = [manager.get_messages(session_id, limit=20)]
    while up[-1].has_older:
        up.append(manager.get_messages(session_id, before=up[-1][0], limit=20))
    assert [each.content for page in reversed(up) for each in page] == texts, "lost: of the pages"
    down = manager.get_messages(session_id, after=up[-1][0], limit=None)
    assert [each.content for each in down] == texts[1:], "lost: of what follows"


def _read_one(manager, needs):
    session_id, texts = needs[0].session_id, needs[1]
    assert manager.get_message(session_id, "before 7").content == texts[7], "lost: a message"
    assert manager.get_message(session_id, "nothing") is None


def _read_several(manager, needs):
    session, texts = needs
    found = manager.get_sessions([session.session_id, "nobody"])
    assert list(found) == [session.session_id], "lost: of several"
    assert [each.content for each in found[session.session_id].messages] == texts, "lost: of one of several"


def _update_new(manager, needs):
    message = Message("user", "a", message_id="a")
    manager.update(needs[0].session_id, message, state={"key": {"a": 1}}, create=True, user_id="ada")


def _check_new(manager, needs):
    _check_updated(manager, (needs[0], ["a"]))


def _to_copy(manager):
    for each in manager.list_sessions(limit=None):  # those of former points: each copy would take longer
        if each.user_id != "eve":  # who has the probe
            manager.delete(each.session_id)
    return *_added(_stored(manager, pages=1)), {}


def _copy(manager, needs):
    target = SessionManager(needs[2])
    done = manager.copy_sessions(target)
    assert not done.different, "other: a copy differs"
    assert _texts(target, needs[0].session_id) == needs[1], "lost: of a copy"


def _forked(manager):
    session = _stored(manager, pages=1)
    texts = [each.content for each in session.messages]
    manager.fork(session.session_id, new_id=session.session_id + "-fork")
    return session, ["gone" if each == "before 1" else each for each in texts]


def _redact(manager, needs):
    manager.redact(needs[0].session_id, "before 1", content="gone")


def _repair(manager, needs):
    assert not manager.verify(repair=True).problems
    _check_texts(manager, needs)


def _reindex(manager, needs):
    assert manager.reindex() > 1
    _list(manager, needs)


def _old(manager):
    """Return a session of two hours ago."""
    clock = manager.store.clock
    clock.advance(seconds=-2 * _TTL)
    try:
        return _added(_stored(manager, pages=1))
    finally:
        clock.advance(seconds=2 * _TTL)


def _restored(manager):
    session = _stored(manager)
    manager.archive(session.session_id)
    return _added(session)


def _load_history(manager, needs):
    session = manager.get_session(needs[0].session_id, last=2)
    manager.load_history(session)
    assert [each.content for each in session.messages] == needs[1]


def _without(start):
    """Return what prepares a session of a page and more, and its texts before number *start*."""

    def prepare(manager):
        session = _stored(manager, pages=1)
        texts = [each.content for each in session.messages]
        return session, texts[:start]

    return prepare


def _replaced(manager):
    session, texts = _added(_stored(manager, pages=1))
    return session, ["gone" if each == "before 1" else each for each in texts]


def _removed(manager):
    session, texts = _added(_stored(manager, pages=1))
    return session, [each for each in texts if each != "before 1"]


def _remove(manager, needs):
    with suppress(SessionStateError):  # by the call that was interrupted
        manager.remove_message(needs[0].session_id, "before 1")


def _clear(manager, needs):
    manager.clear_messages(needs[0].session_id)


def _check_cleared(manager, needs):
    assert _texts(manager, needs[0].session_id) == [], "lost: the removal of all messages"


def _rewind(manager, needs):
    if manager.get_message(needs[0].session_id, "before 21"):
        with suppress(SessionStateError):  # the call that was interrupted was still at work, and has ended since
            manager.rewind(needs[0].session_id, "before 20")


def _stream(manager, needs):
    session_id = needs[0].session_id
    if manager.get_message(session_id, "answer"):
        manager.replace_message(session_id, "answer", content="Once upon a time")
        return
    with manager.stream(session_id, every=0, message_id="answer") as answer:
        for piece in ("Once ", "upon ", "a time"):
            answer.write(piece)


def _fork_with_state(manager, needs):
    with suppress(SessionExistsError):
        manager.fork(needs[0].session_id, new_id=needs[0].session_id + "-fork", state={"key": {"a": 1}})


def _check_fork_with_state(manager, needs):
    _check_fork(manager, needs)
    assert manager.get_session(needs[0].session_id + "-fork").state["key"] == {"a": 1}, "lost: the state of a fork"


def _delete_revision(manager, needs):
    session = manager.get_session(needs[0].session_id, last=0)
    if session is not None:
        manager.delete(session.session_id, if_revision=session.revision)


CHANGES = {
    "replace a message": Call(
        _replaced, lambda m, n: m.replace_message(n[0].session_id, "before 1", content="gone"), _check_texts
    ),
    "remove a message": Call(_removed, _remove, _check_texts),
    "clear": Call(_without(0), _clear, _check_cleared),
    "rewind": Call(_without(21), _rewind, _check_texts),
    "stream": Call(lambda m: _added(_stored(m), "Once upon a time"), _stream, _check_texts),
    "fork with a state": Call(lambda m: _added(_stored(m, pages=1)), _fork_with_state, _check_fork_with_state),
    "delete a revision": Call(lambda m: _added(_stored(m, pages=1)), _delete_revision, _check_gone),
}
"""Calls that change a session which is not in hand, or end it."""

BULK = CHANGES | {
    "update, created": Call(_named, _update_new, _check_new),
    "pages": Call(lambda m: _added(_stored(m, pages=1)), _read_pages, _read_pages),
    "one message": Call(lambda m: _added(_stored(m, pages=1)), _read_one, _read_one),
    "several": Call(lambda m: _added(_stored(m, pages=1)), _read_several, _read_several),
    "copy": Call(_to_copy, _copy, _copy),
    "load the history": Call(lambda m: _added(_stored(m, pages=1)), _load_history, _check_texts),
    "restore": Call(_restored, lambda m, n: m.restore(n[0].session_id), _list),
    "import": Call(_unstored, _import, _check_imported),
    "export": Call(lambda m: _added(_stored(m, pages=1)), _export, _check_texts),
    "redact": Call(_forked, _redact, _check_fork),
    "delete a user": Call(
        lambda m: _added(_stored(m, pages=1)), lambda m, n: m.delete_user(n[0].user_id, scan=True), _check_gone
    ),
    "verify": Call(lambda m: _added(_stored(m, pages=1)), _repair, _repair),
    "reindex": Call(lambda m: _added(_stored(m, pages=1)), _reindex, _reindex),
    "purge": Call(_old, lambda m, _: m.purge_expired(), _check_gone),
    "archive what is idle": Call(_old, lambda m, _: m.archive_inactive(_TTL / 86400), _check_archived),
}
"""Calls that work on any number of sessions, and those that differ little from one of `CALLS`."""


SHORT = ("save", "append", "read")
"""The calls of the short form, where kinds differ little."""


def in_short(calls, chosen=SHORT):
    """Return names of calls as parameters, those that were not chosen for the long form."""
    return [each if each in chosen else pytest.param(each, marks=pytest.mark.long) for each in calls]


def each_in_short(kinds, calls, whole):
    """Likewise of pairs of a kind and a call: all calls of the kinds in *whole*, those of `SHORT` of the others."""
    return [
        pytest.param(
            kind,
            name,
            id=f"{getattr(kind, '__name__', kind)}-{name}",
            marks=() if kind in whole or name in SHORT else pytest.mark.long,
        )
        for kind in kinds
        for name in calls
    ]


# Attacks -------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """The interrupted points, the later calls, and what was wrong with them."""

    points: int = 0
    after: int = 0
    refused: int = 0
    wrong: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)

    def note(self, kind, where, problem):
        self.wrong[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{kind}, interrupted at {where}: {problem}")

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


class Attacked:
    """Managers on one storage, and a probe session that all write after each interruption."""

    def __init__(self, face, manager, other, pool):
        self.face, self.manager, self.other, self.pool = face, manager, other, pool
        self.probe = _fresh()
        self.written = []
        manager.create_session("eve", session_id=self.probe)

    def _append(self, manager, by):
        message = Message("user", f"{by} {len(self.written)}")
        manager.append(self.probe, message)
        self.written.append(message.content)

    def by_other(self):
        """Write through another connection."""
        self._append(self.other, "other")

    def by_thread(self):
        """Write in another thread with the interrupted manager."""
        self.pool.submit(self._append, self.manager, "thread").result(HANG)

    def by_self(self):
        """Write in this thread with the interrupted manager."""
        self._append(self.face, "self")
        assert self.written[-1] in _texts(self.other, self.probe)[-3:], "lost: what another connection cannot see"


@contextmanager
def attacked(storage, *, wrap=None, timeout=TIMEOUT, **options):
    """Open two managers on a storage, and a thread. *wrap* makes another kind of manager."""
    with ExitStack() as stack:
        manager = stack.enter_context(storage.open(timeout=timeout, **options))
        other = stack.enter_context(storage.open(timeout=timeout, **options))
        face = manager if wrap is None else stack.enter_context(wrap(manager))
        yield Attacked(face, manager, other, stack.enter_context(ThreadPoolExecutor(1)))


def count_points(managers, call, *, lines=False, only=None, by=interrupt):
    """Return the number of points of a call."""
    needs = call.prepare(managers.face)
    tracer, outcome = by(lambda: call.act(managers.face, needs), 0, stop, lines=lines, only=only)
    if isinstance(outcome, BaseException):
        raise outcome
    return tracer.points


def _chosen(points, every, first, most):
    """Return the points to interrupt: each *every*-th, or a number of them, evenly spread."""
    if most is not None:
        every = max(1, -(-points // most))
        first = every // 2 + 1
    return range(first, points + 1, every)


def attack(managers, name, *, lines=False, only=None, every=1, first=1, most=None, act=stop, by=interrupt):
    """Interrupt a call at its points, then write from everywhere, and repeat it; return a Tally.

    *by* makes the call, and acts at a point of its own kind, as `interrupt` does at those of a trace.

    Who writes first after the interruption goes round: another connection, another thread, this thread.
    """
    call, tally = (CALLS | BULK)[name], Tally()
    for n in _chosen(count_points(managers, call, lines=lines, only=only, by=by), every, first, most):
        if tally.points % 50 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
        needs = call.prepare(managers.face)
        tracer, _ = by(partial(call.act, managers.face, needs), n, act, lines=lines, only=only)
        if tracer.where is None:
            continue
        tally.points += 1
        writers = [managers.by_other, managers.by_thread, managers.by_self]
        turn = tally.points % 3
        _judge(tally, name, tracer, partial(_check_listed, managers.other, needs[0].session_id))
        for write in (*writers[turn:], *writers[:turn], partial(call.act, managers.face, needs)):
            _judge(tally, name, tracer, write)
        for manager in (managers.face, managers.other):
            _judge(tally, name, tracer, partial(call.check, manager, needs))
    _judge(tally, name, Tracer(0, stop), partial(_check_probe, managers))
    faulthandler.cancel_dump_traceback_later()
    return tally


def attack_with_handler(managers, name, *, lines=False, only=None, every=1, first=1, most=None):
    """At each point of a call let a signal handler load, append and save, while the call waits; return a Tally.

    What the handler is told is stored must be seen by another connection, and the call goes on as if nothing had been.
    Every second one then raises, as `sys.exit` does: what it has saved stays, and the call is repeated.
    """
    call, tally = (CALLS | BULK)[name], Tally()
    for n in _chosen(count_points(managers, call, lines=lines, only=only), every, first, most):
        if tally.points % 50 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
        needs = call.prepare(managers.face)
        told = []
        kept = []
        same = partial(_append_and_save, managers.face, needs[0], kept, saves=name.startswith("save"))
        leaves = bool(tally.points % 2)
        act = partial(_handle, managers, told, same, leaves=leaves)
        tracer, outcome = interrupt(partial(call.act, managers.face, needs), n, act, lines=lines, only=only)
        if tracer.where is None:
            continue
        tally.points += 1
        tally.refused += told.count("refused")
        for each in told:
            if isinstance(each, BaseException):
                tally.note("locked" if isinstance(each, StorageLockedError) else "other", tracer.where, repr(each))
        if leaves:
            _judge(tally, name, tracer, partial(call.act, managers.face, needs))
        elif isinstance(outcome, BaseException):
            tally.note("other", f"{name}, {tracer.where}", f"the call itself raised {outcome!r}")
        for check in (
            partial(call.check, managers.other, needs),
            partial(_check_kept, managers.other, needs[0].session_id, kept),
            managers.by_other,
            managers.by_thread,
            managers.by_self,
        ):
            _judge(tally, name, tracer, check)
    _judge(tally, name, Tracer(0, stop), partial(_check_probe, managers))
    faulthandler.cancel_dump_traceback_later()
    return tally


def _append_and_save(manager, session, kept, *, saves):
    """Write to the interrupted call's session: by another copy, then by the object that it saves."""
    if saves:
        message = Message("user", f"handler {next(_numbers)}")
        with suppress(SessionNotFoundError):
            manager.append(session.session_id, message)
            kept.append(message.content)
        manager.save(session)


def _check_kept(manager, session_id, kept):
    """Assert that the interrupted call did not overwrite what a handler stored."""
    if kept:
        found = Counter(_texts(manager, session_id))
        assert [found[each] for each in kept] == [1] * len(kept), "lost: what a handler appended"


def _handle(managers, told, same, *, leaves):
    """Do what a handler does that must save before the process ends: each of these is done, or refused at once.

    *same* saves the very session that the interrupted call is saving.
    """

    def save():
        session = managers.face.get_session(managers.probe)
        content = f"handler {len(managers.written)}"
        session.add_message("user", content)
        managers.face.save(session)
        managers.written.append(content)

    began = time.monotonic()
    for act in (same, save, partial(managers._append, managers.face, "handler")):
        try:
            act()
        except StorageInUseError:  # noqa: PERF203 (each act by itself)
            told.append("refused")
        except BaseException as err:  # noqa: BLE001 (it is shown)
            told.append(err)
        else:
            told.append("done")
    if time.monotonic() - began > TIMEOUT / 2:
        told.append(TimeoutError("the handler waited"))
    if leaves:
        raise Stop


def _judge(tally, name, tracer, call):
    tally.after += 1
    began = time.monotonic()
    try:
        call()
        assert time.monotonic() - began < TIMEOUT / 2, "hung: it waited"
    except StorageLockedError as err:
        tally.note("locked", f"{name}, {tracer.where}", err)
    except AssertionError as err:
        kind = str(err).partition(":")[0]
        tally.note(kind if kind in ("hung", "lost", "doubled") else "other", f"{name}, {tracer.where}", err)
    except TimeoutError as err:
        tally.note("hung", f"{name}, {tracer.where}", repr(err))
    except BaseException as err:  # noqa: BLE001 (to be shown with all others)
        tally.note("other", f"{name}, {tracer.where}", repr(err))


def _check_listed(manager, session_id):
    """Assert that a session left by the interrupted call is in its user's list."""
    session = manager.get_session(session_id)
    if session is not None and session.status is SessionStatus.ACTIVE:
        listed = [each.session_id for each in manager.list_sessions(session.user_id, limit=None)]
        if session_id not in listed:  # unless a thread of the call that was cut off has ended it since
            session = manager.get_session(session_id)
            assert session is None or session.status is not SessionStatus.ACTIVE, "lost: of a list"


def _check_probe(managers):
    for manager in (managers.face, managers.other):
        found = Counter(_texts(manager, managers.probe))
        assert not [each for each in managers.written if not found[each]], "lost: what was acknowledged"
        assert max(found.values(), default=1) == 1, "doubled: what was acknowledged"


# Stores of one's own -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encrypted:
    """A namespace of an SQLite file, encrypted, at a path."""

    path: Path

    @contextmanager
    def open(self, *, timeout):
        """Open the file anew."""
        with closing(SQLiteMapping(self.path, timeout=timeout)) as mapping:
            keys = {"k": bytes(32)}
            yield SessionManager(KVSessionStore(pyai_sessions.Encrypted(mapping, keys), namespace="n", timeout=timeout))


@dataclass(frozen=True)
class Custom:
    """A custom store as a storage, shared by all managers."""

    store: object

    @contextmanager
    def open(self, *, timeout):
        """Make a manager of it."""
        yield SessionManager(self.store)


# Awaited -------------------------------------------------------------------------------------------------------------


class Awaited:
    """An AsyncSessionManager with the methods of a sync one: each call runs on one loop till it has ended.

    What interrupts the loop is raised when the call was cancelled and has ended, as `asyncio.run` does. With *anew* the
    loop is then closed, and the next calls run on another. With *leaves* the call is not cancelled before that.
    """

    def __init__(self, manager, *, anew=False, leaves=False):
        self.manager = manager
        self.store = manager.store
        self.anew, self.leaves = anew, leaves
        self.loop = asyncio.new_event_loop()
        self.steps = None

    def __getattr__(self, name):
        method = getattr(self.manager, name)

        def call(*arguments, **options):
            coroutine = method(*arguments, **options)
            task = self.loop.create_task(coroutine if self.steps is None else self.steps.follow(coroutine))
            try:
                return self.loop.run_until_complete(task)
            except Stop:
                self._end(task)
                raise

        return call

    def _end(self, task):
        if not (self.leaves or task.done()):
            task.cancel()
            with suppress(asyncio.CancelledError, Stop):
                self.loop.run_until_complete(asyncio.wait([task]))
        if self.anew:
            self.loop.close()
            self.loop = asyncio.new_event_loop()


@contextmanager
def awaited(manager, **options):
    """Return the async manager of a manager's store. Only this thread may use it."""
    face = Awaited(AsyncSessionManager(manager.store), **options)
    try:
        yield face
    finally:
        face.loop.run_until_complete(face.manager.close())
        face.loop.close()
        gc.collect()  # coroutines that were cut off before their first step: Python warns of them


class Steps:
    """Counts the awaits of calls, and cancels the task at one, before or after its answer."""

    def __init__(self, at, *, answered):
        self.at, self.answered = at, answered
        self.points, self.where = 0, None

    async def follow(self, coroutine):
        """Await a call."""
        return await _Followed(coroutine, self)

    def reach(self, future):
        """Cancel the running task if this await is the one."""
        self.points += 1
        if self.points == self.at:
            self.where = f"await {self.at}, {'answered' if self.answered else 'waiting'}"
            task = asyncio.current_task()
            if self.answered and future is not None:
                future.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()


@dataclass
class _Followed:
    coroutine: object
    steps: Steps

    def __await__(self):
        on = self.coroutine.send
        given = None
        while True:
            try:
                future = on(given)
            except StopIteration as ended:
                return ended.value
            self.steps.reach(future)
            try:
                given = yield future
                on = self.coroutine.send
            except BaseException as err:  # noqa: BLE001 (the call's affair)
                on, given = self.coroutine.throw, err


def cancel(managers, call, at, _act, *, answered, **_options):
    """Make a call, and cancel its task at an await. Return like `interrupt`."""
    steps = managers.face.steps = Steps(at, answered=answered)
    try:
        outcome = call()
    except BaseException as err:  # noqa: BLE001 (it is what the test is about)
        outcome = err
    finally:
        managers.face.steps = None
    if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    return steps, outcome


# Threads -------------------------------------------------------------------------------------------------------------


def interrupt_a_thread(managers, call, at, act, **options):
    """Make a call in another thread, and interrupt it; as `interrupt`. Half of the threads end then, half go on."""
    if at % 2:
        return managers.pool.submit(interrupt, call, at, act, **options).result(HANG)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(interrupt, call, at, act, **options).result(HANG)
