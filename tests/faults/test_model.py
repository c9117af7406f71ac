"""Two writers against a plain model, on a mapping that may crash at any write of any call."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, rule

from pyai_sessions import KVSessionStore, Session, SessionExistsError, SessionManager, StorageError
from pyai_sessions.model.session import history_of
from tests.documents.test_two_writers import IDS, USERS, WRITER, Content, TwoWriters
from tests.faults.crashing import Crashing, CrashingDict, Death

CRASHES = st.tuples(
    st.sampled_from([1, 1, 2, 2, 3, 4]),  # at which write
    st.booleans(),  # after it took effect
    st.sampled_from([Death, ConnectionResetError, OSError]),
)


def view(items):
    """Return each session's fields and messages as another process reads them."""
    manager = SessionManager(KVSessionStore(Crashing(items)))
    found = {}
    for summary in manager.list_sessions(status=None, limit=None):
        session = manager.get_session(summary.session_id)
        messages = [(each.message_id, each.content) for each in session.messages]
        assert summary.message_count == len(messages)
        found[session.session_id] = (session.user_id, session.status, dict(session.state), session.updated_at, messages)
    assert set(found) == {key.removeprefix("session/") for key in items if key.startswith("session/")}
    return found


class TwoWritersWhoCrash(TwoWriters):
    """After a crash each session is as it was before the call or as it will be; the call, repeated, does the rest.

    A crash is a write that fails for a moment, before or after it took effect, or the end of the process: then both
    managers are opened anew. Copies in hand outlive it, as they do where a web worker hands them on.
    """

    crashes, appends = iter([]), False

    def open(self):
        return CrashingDict({})

    @initialize(crashes=st.lists(CRASHES | st.none(), min_size=20, max_size=40))
    def plan(self, crashes):
        """Choose the calls that crash: one in two of those that write."""
        self.crashes = iter(crashes)

    @rule(target=TwoWriters.copies, session_id=IDS, user=st.sampled_from(USERS), writer=WRITER)
    def create(self, session_id, user, writer):
        """Save a session made by hand, which can be repeated with the same object."""
        made = []

        def save():
            if not made:
                now = self.clock.now
                made.append(Session(session_id=session_id, user_id=user, created_at=now, updated_at=now))
                history_of(made[0]).clock = self.clock
            self.managers[writer].save(made[0])

        taken = session_id in self.stored
        self.attempt(SessionExistsError if taken else None, save)
        if taken:
            return multiple()
        self.commit(session_id, Content(user, self.clock.now, self.next(), self.next()))
        return self.in_hand(made[0], self.stored[session_id])

    @rule(session_id=IDS, writer=WRITER, count=st.sampled_from([1, 40, 80]))
    def append(self, session_id, writer, count):
        self.appends = True
        super().append(session_id, writer, count)
        self.appends = False

    @rule(session_id=IDS, writer=WRITER)
    def delete(self, session_id, writer):
        there = self.stored.pop(session_id, None) is not None
        deleted = self.attempt(None, lambda: self.managers[writer].delete(session_id))
        assert deleted == there or self.halfway is not None

    @rule(writer=WRITER)
    def verify(self, writer):
        """`verify(repair=True)` may crash, too. It changes no session."""
        before = view(self.mapping.items_)
        self.crash(lambda: self.managers[writer].verify(repair=True))
        assert view(self.mapping.items_) == before
        assert self.managers[writer].verify(repair=True)
        assert not self.managers[1 - writer].verify().problems

    def attempt(self, expected, act):
        """Make the call that the model makes. If a crash is due, let it crash, check, and repeat it."""
        self.before = view(self.mapping.items_)
        self.halfway = None

        def crash_first():
            result, error = self.crash(act)
            if error is None:
                return result
            self.halfway = view(self.mapping.items_)
            if self.appends and error is Death and self.halfway != self.before:
                return None  # a manager of another process knows the newest messages alone, and would add older again
            return act()

        result = super().attempt(expected, crash_first)
        after = view(self.mapping.items_)
        if self.halfway is not None:
            for session_id in self.before | self.halfway | after:
                now = self.halfway.get(session_id)
                assert now in (self.before.get(session_id), after.get(session_id))
        return result

    def crash(self, act):
        """Make a call with the next planned crash. Return its result, and the crash if there was one."""
        at, applied, error = next(self.crashes, None) or (0, False, None)
        self.mapping.crash(at, error and error(), applied=applied, once=error is not Death)
        try:
            return act(), None
        except (Death, StorageError):
            if not self.mapping.crashed:
                raise
        finally:
            self.mapping.recover()
        if error is Death:
            self.mapping = CrashingDict(self.mapping.items_)
            self.managers = [SessionManager(KVSessionStore(self.mapping, clock=self.clock)) for _ in range(2)]
        return None, error

    def teardown(self):
        for manager in self.managers:
            manager.verify(repair=True)
        super().teardown()


TestTwoWritersWhoCrash = pytest.mark.wide(TwoWritersWhoCrash.TestCase)
TestTwoWritersWhoCrash.settings = settings(max_examples=80, stateful_step_count=40)
