"""Tests with real signals at random moments, whose handlers raise or save."""

import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from pyai_sessions import Message, StorageInUseError
from tests.faults.storages import IN_FILES
from tests.faults.workers import in_a_process, receive, results


class Stop(BaseException):
    """The exception that a handler raises."""


class Alarms:
    """Sends a signal to this process after a random time. Its handler raises or saves."""

    def __init__(self, save, seed):
        self.choose = random.Random(seed)
        self.save, self.inside = save, False
        self.raised = self.saved = self.refused = 0
        self.longest = 0.002
        signal.signal(signal.SIGALRM, self._handle)

    def _handle(self, *_):
        if not self.inside:  # it came when the call had returned
            return
        if self.choose.random() < 0.3:
            try:
                self.save()
                self.saved += 1
            except StorageInUseError:
                self.refused += 1
        else:
            self.raised += 1
            raise Stop

    def interrupt(self, call):
        """Make a call during which the signal comes. Return whether it returned."""
        began = time.perf_counter()
        try:
            self.inside = True
            signal.setitimer(signal.ITIMER_REAL, self.choose.uniform(1e-5, self.longest))
            call()
            self.inside = False
        except Stop:
            return False
        finally:
            self.inside = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.longest = max(0.0002, 0.9 * self.longest + 0.1 * (time.perf_counter() - began))
        return True


def write_under_signals(link, storage, rounds, seed):
    """In a process: save and append under signals, repeat interrupted calls, and send the results."""
    with storage.open(timeout=60) as manager, storage.open(timeout=60) as other, ThreadPoolExecutor(1) as pool:
        session = manager.create_session("ada", session_id="s")
        manager.create_session("ada", session_id="probe")
        probed, texts = [], []

        def probe(by=manager):
            message = Message("user", f"probe {len(probed)}")
            by.append("probe", message)
            probed.append(message.content)

        alarms = Alarms(probe, seed)
        for n in range(rounds):
            texts.append(f"{n}")
            if n % 3:
                session.add_message("user", f"{n}")
                call = partial(manager.save, session)
            else:
                message = Message("user", f"{n}", message_id=f"m{n}")
                call = partial(manager.append, "s", message)
            if not alarms.interrupt(call):
                if n % 2:
                    probe(other)
                    pool.submit(probe).result(60)
                call()
            if not n % 3:
                session = manager.get_session("s")
            if n % 20 == 0:
                assert [each.content for each in other.get_session("s").messages] == texts
        found = [each.content for each in other.get_session("probe").messages]
        link.send((alarms.raised, alarms.saved, alarms.refused, found == probed))
        link.send([each.content for each in other.get_session("s").messages] == texts)


@pytest.mark.parametrize("storage", ["dict", *IN_FILES], indirect=True)
def test_signals_at_any_moment_leave_all_as_it_is(storage, long_form, capsys):
    """Every acknowledged message is stored once and in order, and no call waits for an interrupted one."""
    rounds = 1000 if long_form else 150

    process, link = in_a_process(write_under_signals, storage, rounds, 1)
    raised, saved, refused, right = receive(link)

    assert results([(process, link)]) == [True]
    assert right
    assert raised
    if long_form:
        with capsys.disabled():
            told = f"{raised} calls cut off, {saved} handlers saved, {refused} were refused at once"
            sys.stdout.write(f"\nsignals, {storage.kind}: {told}")
