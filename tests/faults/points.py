"""The points of a call where an exception can come, and functions that raise one there."""

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

import pyai_sessions

PACKAGE = str(Path(pyai_sessions.__file__).parent)
OURS = (PACKAGE,)
LOOPS = (PACKAGE, "/selectors.py")
"""The package, and where an event loop waits."""
HOLDS = tuple(f"{PACKAGE}/{each}" for each in ("storage/", "concurrency/", "sessions/trips.py", "sessions/backend.py"))
"""The code that takes what others wait for, and gives it back."""
HANG = 240.0
"""Seconds after which a call in another thread hangs."""

_NOT_OF_THE_CALL = (
    *(str(Path(__file__).with_name(each)) for each in ("points.py", "interrupts.py", "loops.py", "calls.py")),
    *("<frozen", "/_pytest/", "/pluggy/", "/weakref.py", "/_weakrefset.py", "/importlib/", "/coverage/"),
)


class Tracer:
    """Counts the points of a call and acts at one of them.

    A point is the entry of a function, and with *lines* also each line of the package. CPython looks for signals at the
    entry of functions, after calls of C and where loops go back, so a trace function raises where a signal handler
    could. With *only*, just the functions in files of these folders count. With *opcodes*, the steps of a line count,
    too.

    Attributes:
        entries: For each point so far, 1 if it is the entry of a function, else 0.
        where: The file, line and function of the point at which it acted; None before.

    """

    def __init__(self, at, act, *, lines=False, only=None, opcodes=False):
        self.at, self.act, self.lines, self.opcodes = at, act, lines or opcodes, opcodes
        self.only = None if only is None else tuple(only)
        self.entries, self.where = bytearray(), None

    @property
    def points(self):
        """The number of points so far."""
        return len(self.entries)

    def __call__(self, frame, event, arg):
        file = frame.f_code.co_filename
        if event != "call" or not _counts(file, self.only):
            return None
        frame.f_trace_opcodes = self.opcodes
        self._reach(frame, 1)
        return self._line if self.lines and file.startswith(PACKAGE) else None

    def _line(self, frame, event, arg):
        if event == ("opcode" if self.opcodes else "line"):
            self._reach(frame, 0)
        return self._line

    def _reach(self, frame, entry):
        self.entries.append(entry)
        if len(self.entries) == self.at:
            code = frame.f_code
            self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
            self.act()


@cache
def _counts(file, only):
    """Return whether the functions of a file are points."""
    if any(each in file for each in _NOT_OF_THE_CALL):
        return False
    return only is None or any(each in file for each in only)


def interrupt(call, at, act, *, lines=False, only=None, opcodes=False):
    """Make a call, with *act* at its point number *at*. Return the tracer and the call's exception or result."""
    tracer = Tracer(at, act, lines=lines, only=only, opcodes=opcodes)
    before, hook = sys.gettrace(), sys.unraisablehook

    def tell(told):
        # What is raised while a generator is being closed is dropped by Python itself: such a point is no interruption.
        if not issubclass(told.exc_type, Stop):
            traced = sys.gettrace()
            sys.settrace(None)  # else it would interrupt the hook
            hook(told)
            sys.settrace(traced)

    sys.unraisablehook = tell
    sys.settrace(tracer)
    try:
        outcome = call()
    except pytest.fail.Exception:  # of pytest-timeout: the call hangs
        raise
    except BaseException as err:  # noqa: BLE001 (it is what the test is about)
        outcome = err
    finally:
        sys.settrace(before)
        sys.unraisablehook = hook
    return tracer, outcome


def interrupt_a_thread(pool, call, at, act, **options):
    """Make a call in another thread, and interrupt it as `interrupt` does. Half of the threads go on, half end then."""
    if at % 2:
        return pool.submit(interrupt, call, at, act, **options).result(HANG)
    with ThreadPoolExecutor(1) as own:
        return own.submit(interrupt, call, at, act, **options).result(HANG)


class Stop(BaseException):
    """An exception from outside, which no library may handle as its own."""


def stop():
    """Raise an exception as a signal handler does."""
    raise Stop


class CtrlC(Stop, KeyboardInterrupt):
    """An exception that ends an event loop."""


def press_ctrl_c():
    """Raise the exception of Ctrl-C."""
    raise CtrlC


def stop_this_thread():
    """Raise in this thread as another thread does: after this call, or soon."""
    thread = ctypes.c_ulong(threading.get_ident())
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Stop)) == 1
