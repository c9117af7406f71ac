"""A machine that lets two writers save copies in any order, and compares with a model in plain Python."""

import copy
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pyai_sessions import (
    KVSessionStore,
    SessionArchivedError,
    SessionConflictError,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionNotFoundError,
    SQLiteMapping,
)
from pyai_sessions.testing import StoppedClock

IDS = st.sampled_from(["s0", "s1"])
USERS = ["ada", "bob", None]
WRITER = st.integers(0, 1)


@dataclass
class Content:
    """A session in the model. Its messages are pairs of id and text."""

    user: object
    now: object
    edition: int
    life: int
    messages: list = field(default_factory=list)
    state: dict = field(default_factory=dict)
    status: str = "active"
    revision: int = 0
    active: object = None

    def __post_init__(self):
        self.active = self.active or self.now

    def copy(self):
        return copy.deepcopy(self)


@dataclass
class Copy:
    """A loaded session, the model of it, and the model of what was loaded."""

    session: object
    mine: Content
    base: Content
    part: bool = False
    rewritten: bool = False


def by_key(base, mine, theirs):
    merged = dict(theirs)
    for key in base.keys() | mine.keys():
        if mine.get(key) != base.get(key):
            if key in mine:
                merged[key] = mine[key]
            elif theirs.get(key) == base.get(key):  # I deleted it, and they did not change it
                merged.pop(key, None)
    return merged


def expected_messages(mine, base, theirs):
    """Return the merged messages, or None if there must be a conflict."""
    was, now, there = dict(base.messages), dict(mine.messages), dict(theirs.messages)
    added = [each for each in mine.messages if each[0] not in was]
    last = base.messages[-1][0] if base.messages else None
    if last is not None:
        if added and last not in there:
            return None
        if last not in now and last in there and theirs.messages[-1][0] != last:
            return None
    merged = dict(there)
    for message_id, text in was.items():
        if now.get(message_id) in (text, there.get(message_id)):
            continue
        if there.get(message_id) != text:
            return None
        merged[message_id] = now.get(message_id)
    return [each for each in merged.items() if each[1] is not None] + [each for each in added if each[0] not in there]


class TwoWriters(RuleBasedStateMachine):
    """Two managers with any number of copies, fresh and stale, compared with a model in plain Python."""

    copies = Bundle("copies")

    def open(self):
        return {}

    def __init__(self):
        super().__init__()
        self.mapping = self.open()
        self.clock = StoppedClock()
        self.managers = [SessionManager(KVSessionStore(self.mapping, clock=self.clock)) for _ in range(2)]
        self.stored = {}
        self.counter = 0

    def next(self):
        self.counter += 1
        return self.counter

    def attempt(self, expected, act):
        """Call a function that must raise *expected*, or nothing if that is None."""
        self.clock.advance(seconds=1)
        if expected is None:
            return act()
        with pytest.raises(expected) as caught:
            act()
        assert type(caught.value) is expected
        return None

    def commit(self, session_id, content):
        content.revision = self.next()
        self.stored[session_id] = content.copy()

    def in_hand(self, session, content, *, part=False):
        return Copy(session, content.copy(), content.copy(), part)

    @initialize(target=copies, count=st.sampled_from([0, 1, 3, 40]))
    def begin(self, count):
        """Start with several copies of a session. Otherwise most runs would have none."""
        first = self.create("s0", "ada", 0)
        self.set_or_delete_state(first, "a", 1)
        self.save(first, 0)
        if count:
            self.append("s0", 0, count)
        return multiple(*(self.load("s0", n % 2, last) for n, last in enumerate([None, None, None, 1])))

    @rule(target=copies, session_id=IDS, user=st.sampled_from(USERS), writer=WRITER)
    def create(self, session_id, user, writer):
        taken = session_id in self.stored
        session = self.attempt(
            SessionExistsError if taken else None,
            lambda: self.managers[writer].create_session(user, session_id=session_id),
        )
        if taken:
            return multiple()
        content = Content(user, self.clock.now, self.next(), self.next())
        self.commit(session_id, content)
        return self.in_hand(session, self.stored[session_id])

    @rule(target=copies, session_id=IDS, writer=WRITER, last=st.sampled_from([None, None, 0, 1, 40]))
    def load(self, session_id, writer, last):
        session = self.managers[writer].get_session(session_id, last=last)
        if session_id not in self.stored:
            assert session is None
            return multiple()
        return self.in_hand(session, self.stored[session_id], part=last is not None)

    @rule(session_id=IDS, writer=WRITER, count=st.sampled_from([1, 2, 40]))
    def append(self, session_id, writer, count):
        stored = self.stored.get(session_id)
        added = [(f"m{self.next()}", f"text {n}") for n in range(count)]
        archived = stored is not None and stored.status == "archived"
        error = SessionNotFoundError if stored is None else SessionArchivedError if archived else None
        self.attempt(
            error,
            lambda: self.managers[writer].append(
                session_id, *({"role": "user", "content": text, "message_id": each} for each, text in added)
            ),
        )
        if error is None:
            stored.messages += added
            stored.now = stored.active = self.clock.now
            self.commit(session_id, stored)

    @rule(session_id=IDS, writer=WRITER, status=st.sampled_from(["active", "archived"]))
    def archive_or_restore(self, session_id, writer, status):
        stored, manager = self.stored.get(session_id), self.managers[writer]
        change = manager.archive if status == "archived" else manager.restore
        self.attempt(SessionNotFoundError if stored is None else None, lambda: change(session_id))
        if stored is not None and stored.status != status:
            stored.status = status
            if status == "active":
                stored.now = stored.active = self.clock.now
            self.commit(session_id, stored)

    @rule(session_id=IDS, writer=WRITER)
    def delete(self, session_id, writer):
        assert self.managers[writer].delete(session_id) == (self.stored.pop(session_id, None) is not None)

    @rule(writer=WRITER)
    def reindex(self, writer):
        assert self.managers[writer].reindex() == len(self.stored)

    @rule(hand=copies, count=st.sampled_from([1, 3]))
    def add(self, hand, count):
        self.clock.advance(seconds=1)
        for n in range(count):
            message_id = f"m{self.next()}"
            hand.session.add_message("user", f"text {n}", message_id=message_id)
            hand.mine.messages.append((message_id, f"text {n}"))
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, key=st.sampled_from(["a", "b"]), value=st.integers(1, 3) | st.none())
    def set_or_delete_state(self, hand, key, value):
        self.clock.advance(seconds=1)
        if value is not None:
            hand.session.set_state(key, value)
            hand.mine.state[key] = value
        else:
            hand.session.delete_state(key)
            hand.mine.state.pop(key, None)
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, user=st.sampled_from(USERS))
    def change_user(self, hand, user):
        hand.session.user_id = hand.mine.user = user

    @rule(hand=copies)
    def archive_copy(self, hand):
        hand.session.archive()
        hand.mine.status = "archived"

    @rule(hand=copies, how=st.sampled_from(["pop", "remove", "edit"]), where=st.integers(0, 99))
    def rewrite(self, hand, how, where):
        if hand.part or not hand.mine.messages:
            return
        self.clock.advance(seconds=1)
        at = len(hand.mine.messages) - 1 if how == "pop" else where % len(hand.mine.messages)
        message_id, _ = hand.mine.messages[at]
        if how == "edit":
            text = f"edited {self.next()}"
            hand.session.replace_message(message_id, content=text)
            hand.mine.messages[at] = (message_id, text)
        else:
            hand.session.pop() if how == "pop" else hand.session.remove_message(message_id)
            del hand.mine.messages[at]
        hand.rewritten |= at < len(hand.base.messages)
        hand.mine.now = hand.session.updated_at

    @rule(hand=copies, writer=WRITER)
    def save(self, hand, writer):
        session_id, mine, base = hand.session.session_id, hand.mine, hand.base
        stored = self.stored.get(session_id)
        error, merged = self.expected(hand, stored)
        self.attempt(error, lambda: self.managers[writer].save(hand.session))
        if error is not None:
            mine.now = hand.session.updated_at
            return
        merged.edition = self.next() if hand.rewritten else stored.edition
        merged.now, merged.active = hand.session.updated_at, hand.session.active_at
        assert merged.active >= stored.active
        assert merged.active == stored.active or mine.messages != base.messages  # lists are ordered by messages
        assert merged.now >= max(mine.now, stored.now)
        assert merged.now > base.now or (mine.state, mine.user) == (base.state, base.user)
        self.commit(session_id, merged)
        hand.mine, hand.base, hand.rewritten = merged.copy(), self.stored[session_id].copy(), False

    @rule(hand=copies, writer=WRITER, where=st.integers(0, 99), how=st.sampled_from(["pop", "remove", "edit"]))
    def rewrite_and_save(self, hand, writer, where, how):
        self.rewrite(hand, how, where)
        self.save(hand, writer)

    @rule(one=copies, other=copies, count=st.sampled_from([1, 3]))
    def speak_at_the_same_time(self, one, other, count):
        self.add(one, count)
        self.add(other, count)
        self.save(one, 0)
        if other is not one:
            self.save(other, 1)

    @rule(one=copies, other=copies, where=st.integers(0, 99), how=st.sampled_from(["pop", "remove", "edit"]))
    def rewrite_while_another_speaks(self, one, other, where, how):
        self.rewrite(one, how, where)
        self.add(other, 1)
        self.save(other, 0)
        self.save(one, 1)

    @rule(one=copies, other=copies, key=st.sampled_from(["a", "b"]), value=st.integers(1, 3) | st.none())
    def change_state_while_another_speaks(self, one, other, key, value):
        self.set_or_delete_state(one, key, value)
        self.add(other, 1)
        self.save(other, 0)
        self.save(one, 1)

    @rule(hand=consumes(copies))
    def forget(self, hand):
        """Drop a copy, so that fresh ones are used as often as stale ones."""

    def expected(self, hand, stored):
        """Return the error that a save must raise, or None and the content that it must store."""
        mine, base = hand.mine, hand.base
        if stored is None or stored.life != base.life:
            gone_while_archived = stored is not None and base.status == stored.status == "archived"
            return (SessionArchivedError if gone_while_archived else SessionDeletedError), None
        if stored.status == "archived" and (base.status == "archived" or mine.status == "active"):
            return SessionArchivedError, None
        if stored.revision == base.revision:
            return None, mine.copy()
        messages = expected_messages(mine, base, stored)
        if messages is None:
            return SessionConflictError, None
        merged = stored.copy()
        merged.messages = messages
        merged.user = stored.user if mine.user == base.user else mine.user
        merged.status = stored.status if mine.status == base.status else mine.status
        merged.state = by_key(base.state, mine.state, stored.state)
        return None, merged

    @invariant()
    def both_managers_see_what_the_model_holds(self):
        for manager in self.managers:
            for session_id in ("s0", "s1"):
                session, stored = manager.get_session(session_id), self.stored.get(session_id)
                assert (session is None) == (stored is None)
                if stored:
                    assert [(each.message_id, each.content) for each in session.messages] == stored.messages
                    assert session.message_count == len(stored.messages)
                    assert (session.user_id, session.state, session.status, session.updated_at) == (
                        stored.user,
                        stored.state,
                        stored.status,
                        stored.now,
                    )

    @invariant()
    def lists_and_counts_are_those_of_the_model(self):
        newest_first = sorted(self.stored, key=lambda each: (self.stored[each].active, each), reverse=True)
        active = [each for each in newest_first if self.stored[each].status == "active"]
        for manager in self.managers:
            assert [each.session_id for each in manager.list_sessions(limit=None)] == active
            assert [each.session_id for each in manager.list_sessions(status=None, limit=None)] == newest_first
            assert manager.count() == len(active)
            assert manager.count(status=None) == len(newest_first)
            for user in ("ada", "bob"):
                theirs = [each for each in active if self.stored[each].user == user]
                assert [each.session_id for each in manager.get_sessions_for_user(user)] == theirs
                assert [each.message_count for each in manager.list_sessions(user, limit=None)] == [
                    len(self.stored[each].messages) for each in theirs
                ]
                assert manager.count(user) == len(theirs)

    def teardown(self):
        verified = self.managers[0].verify()
        assert verified.sessions == len(self.stored)
        assert not verified.problems
        assert self.managers[0].clear_all() == len(self.stored)
        assert not list(self.mapping)


class TwoWritersOfSQLite(TwoWriters):
    """The same machine on an SQLite database in memory."""

    def open(self):
        return SQLiteMapping(":memory:")

    def teardown(self):
        super().teardown()
        self.mapping.close()


steps = settings(max_examples=80, stateful_step_count=30)
TestTwoWriters = TwoWriters.TestCase
TestTwoWritersOfSQLite = pytest.mark.wide(TwoWritersOfSQLite.TestCase)
TestTwoWriters.settings = TestTwoWritersOfSQLite.settings = steps
