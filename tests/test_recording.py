"""Tests of `Recorder` and `find_faults`: each kind of fault is found, and no correct history is refused."""

import asyncio
from itertools import count
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyai_sessions import AsyncSessionManager, SessionArchivedError, SessionManager, StorageError
from pyai_sessions.testing import Event, FaultyMapping, Recorder, check_events, events_from, events_to, find_faults

READS = ("read", "newest", "page")


def events_of(*calls):
    """Return the events of calls, each as (writer, what, began, ended or None, texts[, got])."""
    events, numbers = [], count()
    for writer, what, began, ended, texts, *got in calls:
        number = next(numbers)
        events.append(Event(writer, number, what, "s", began, [] if what in READS else list(texts)))
        if ended == "refused":
            events.append(Event(writer, number, "refused", "s", began))
        elif ended is not None:
            seen = list(texts) if what in READS else got[0] if got else None
            events.append(Event(writer, number, "returned", "s", ended, seen))
    return events


def kinds(*calls, **options):
    return {each.kind for each in find_faults(events_of(*calls), **options)}


A = ("a", "append", 1, 2, "a")
B = ("b", "append", 3, 4, "b")
C = ("c", "append", 5, 6, "c")
AB = ("a", "save", 1, 2, "ab")
LAST_AB, LAST_ABC = (("r", "read", 21, 22, each) for each in ("ab", "abc"))

CASES = {
    # A read must have a message whose call returned before. A call that did not return may have had no effect.
    "lost": ([A, ("r", "read", 3, 4, "")], [A, ("r", "read", 2, 4, "")]),
    "lost, though others came": (
        [A, B, ("r", "read", 5, 6, "b")],
        [("a", "append", 1, None, "a"), B, ("r", "read", 5, 6, "b")],
    ),
    "lost since another read": (
        [("a", "append", 1, None, "ab"), ("r", "read", 3, 4, "ab"), ("r", "read", 5, 6, "")],
        [("a", "append", 1, None, "ab"), ("r", "read", 3, 4, ""), ("r", "read", 5, 6, "ab")],
    ),
    "doubled": ([A, ("r", "read", 3, 4, "aa")], [A, ("a", "append", 3, 4, "a"), ("r", "read", 5, 6, "a")]),
    "torn at the end": ([AB, ("r", "read", 1, 4, "a"), ("r", "read", 5, 6, "ab")], [AB, ("r", "read", 1, 4, "ab")]),
    "torn apart": (
        [AB, ("b", "append", 1, 2, "c"), ("r", "read", 5, 6, "acb")],
        [AB, ("b", "append", 1, 2, "c"), ("r", "read", 5, 6, "cab")],
    ),
    "torn for good": (
        [("a", "save", 1, None, "ab"), ("r", "read", 5, 6, "b")],
        [("a", "save", 1, None, "a"), ("a", "save", 2, None, "ab"), ("r", "read", 5, 6, "a")],
    ),
    "reordered in a save": ([AB, ("r", "read", 5, 6, "ba")], [("a", "save", 1, 2, "ba"), ("r", "read", 5, 6, "ba")]),
    "reordered by a writer": (
        [A, ("a", "append", 3, 4, "b"), ("r", "read", 5, 6, "ba")],
        [("a", "append", 1, None, "a"), ("a", "append", 3, 4, "b"), ("r", "read", 5, 6, "ba")],
    ),
    "reordered by two": ([A, B, ("r", "read", 5, 6, "ba")], [A, ("b", "append", 2, 4, "b"), ("r", "read", 5, 6, "ba")]),
    "reordered for one reader": (
        [A, ("b", "append", 1, 4, "b"), ("r", "read", 1, 6, "ab"), ("q", "read", 1, 6, "ba")],
        [A, ("b", "append", 1, 4, "b"), ("r", "read", 1, 6, "ab"), ("q", "read", 1, 6, "a")],
    ),
    "reordered by what came between": (
        [A, ("b", "append", 1, 4, "b"), ("r", "read", 1, 6, "b"), ("q", "read", 5, 6, "ab")],
        [A, ("b", "append", 1, 4, "b"), ("r", "read", 1, 6, "b"), ("q", "read", 5, 6, "ba")],
    ),
    "stale after a call": (
        [A, B, ("r", "read", 5, 6, "a"), ("r", "read", 7, 8, "ab")],
        [A, B, ("r", "read", 4, 6, "a"), ("r", "read", 7, 8, "ab")],
    ),
    "stale after a read": (
        [A, ("b", "append", 3, 9, "b"), ("r", "read", 4, 5, "ab"), ("q", "read", 6, 7, "a"), ("r", "read", 8, 9, "ab")],
        [A, ("b", "append", 3, 9, "b"), ("r", "read", 4, 6, "ab"), ("q", "read", 6, 7, "a"), ("r", "read", 8, 9, "ab")],
    ),
    "unwritten": ([A, ("r", "read", 3, 4, "ax")], [A, ("b", "append", 1, None, "x"), ("r", "read", 3, 4, "ax")]),
    "unwritten, and refused": (
        [("a", "append", 1, "refused", "a"), ("r", "read", 3, 4, "a")],
        [("a", "append", 1, "refused", "a"), ("a", "append", 2, None, "a"), ("r", "read", 3, 4, "a")],
    ),
    "lost since a page": (
        [("a", "append", 1, None, "a"), ("r", "page", 3, 4, "a"), ("r", "read", 21, 22, "")],
        [("a", "append", 1, None, "a"), ("r", "page", 3, 4, "a"), ("r", "read", 21, 22, "a")],
    ),
    "doubled in a page": (
        [A, B, ("r", "page", 5, 6, "bb"), LAST_AB],
        [A, B, ("r", "page", 5, 6, "b"), LAST_AB],
    ),
    "torn out of the middle of a page": (
        [A, B, C, ("r", "page", 7, 8, "ac"), LAST_ABC],
        [A, B, C, ("r", "page", 7, 8, "ab"), LAST_ABC],
    ),
    "torn at the end of the newest": (
        [AB, ("r", "newest", 1, 4, "a"), LAST_AB],
        [AB, ("r", "page", 1, 4, "a"), LAST_AB],
    ),
    "reordered in a page": (
        [A, B, ("r", "page", 5, 6, "ba"), LAST_AB],
        [A, B, ("r", "page", 5, 6, "ab"), LAST_AB],
    ),
    "stale, the newest": ([A, B, ("r", "newest", 5, 6, "a"), LAST_AB], [A, B, ("r", "page", 5, 6, "a"), LAST_AB]),
    "stale, and empty": ([A, B, ("r", "newest", 5, 6, ""), LAST_AB], [A, B, ("r", "page", 5, 6, ""), LAST_AB]),
    "stale after a page": (
        [A, ("b", "append", 3, 9, "b"), ("r", "page", 4, 5, "b"), ("q", "newest", 6, 7, "a"), LAST_AB],
        [A, ("b", "append", 3, 9, "b"), ("r", "page", 4, 6, "b"), ("q", "newest", 6, 7, "a"), LAST_AB],
    ),
    "unwritten in a page": (
        [A, ("r", "page", 3, 4, "x"), ("r", "read", 21, 22, "a")],
        [A, ("b", "append", 1, None, "x"), ("r", "page", 3, 4, "x"), ("r", "read", 21, 22, "ax")],
    ),
    "unwritten as yet, in the newest": (
        [A, ("r", "newest", 3, 4, "b"), ("b", "append", 5, 6, "b"), LAST_AB],
        [A, ("r", "newest", 3, 5, "b"), ("b", "append", 5, 6, "b"), LAST_AB],
    ),
    "unwritten as yet": ([("r", "read", 1, 2, "b"), B], [("r", "read", 1, 3, "b"), B]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_told_from_what_may_be(case):
    """Each kind of fault is found in a history with it, and none in the most similar correct one."""
    wrong, right = CASES[case]

    assert kinds(*wrong) == {case.partition(" ")[0].rstrip(",")}
    assert kinds(*right) == set()


LOSSY = [A, ("a", "append", 3, 4, "b"), ("b", "append", 5, 6, "c"), ("r", "read", 7, 8, "abc")]


def test_a_storage_that_may_lose_may_do_nothing_else():
    """With `may_lose`, lost messages may come back later, but saves must be whole, and messages single."""
    assert kinds(*LOSSY, ("r", "read", 9, 10, "ca"), may_lose=True) == set()
    assert kinds(*LOSSY, ("r", "read", 9, 10, "ca")) == {"lost", "reordered"}
    assert kinds(*LOSSY, ("r", "read", 9, 10, "cba"), may_lose=True) == {"reordered"}
    assert kinds(*LOSSY, ("r", "read", 9, 10, "aa"), may_lose=True) == {"doubled"}
    assert kinds(*LOSSY, ("r", "read", 9, 10, "x"), may_lose=True) == {"unwritten"}
    assert kinds(AB, ("r", "read", 3, 4, "b"), ("r", "read", 5, 6, "ab"), may_lose=True) == {"torn"}


def test_reads_that_may_lag_may_do_nothing_else():
    """With `may_lag`, reads may return an earlier state, except the last one, and never a false one."""
    lagging = [("r", "read", 9, 10, "a"), ("r", "read", 11, 12, "")]
    assert kinds(*LOSSY, *lagging, ("r", "read", 13, 14, "abc"), may_lag=True) == set()
    assert kinds(*LOSSY, *lagging, ("r", "read", 13, 14, "abc")) == {"stale"}
    assert kinds(*LOSSY, ("r", "read", 9, 10, "ab"), may_lag=True) == {"lost"}
    assert kinds(*LOSSY, ("r", "read", 9, 10, "ac"), ("r", "read", 13, 14, "abc"), may_lag=True) == {"reordered"}


def test_a_save_that_is_repeated_may_tell_the_session_as_it_was_stored_at_first():
    """A repeated save may return the session as the first try stored it."""
    calls = [("a", "save", 1, None, "a"), B, ("a", "save", 5, 6, "a", "a"), ("r", "read", 7, 8, "ab")]

    assert kinds(*calls) == set()
    assert kinds(*calls[:2], ("a", "save", 5, 6, "a", "ba"), calls[3]) == {"reordered"}


# Beside an oracle -----------------------------------------------------------------------------------------------------


def could_be(calls, stored=()):
    """Return whether a store that makes the calls one by one, in some order, could have answered like that."""
    soonest = min((each[3] for each in calls if each[3] is not None), default=inf)
    if soonest == inf:
        return True  # the remaining calls may have had no effect
    for n, (_, what, began, _, texts) in enumerate(calls):
        if began > soonest:
            continue  # another call had ended by then
        others = calls[:n] + calls[n + 1 :]
        if what in READS:
            if answers(what, list(texts), list(stored)) and could_be(others, stored):
                return True
        elif could_be(others, [*stored, *(text for text in texts if text not in stored)]):
            return True
    return False


def answers(what, texts, stored):
    """Return whether a read of what is stored could return these texts."""
    if what == "read":
        return texts == stored
    if what == "newest":
        return texts == stored[len(stored) - len(texts) :] if texts else not stored
    return any(texts == stored[n : n + len(texts)] for n in range(len(stored) + 1))


class Simulation:
    """Three writers and a correct store. `calls` has the same form as above."""

    def __init__(self, choose, shared):
        self.choose, self.shared = choose, shared
        self.stored, self.calls, self.now, self.texts = [], [], count(1), iter("abcdefghijklmnop")
        self.at_work, self.left_open, self.late = {}, {}, []
        for _ in range(choose.randint(6, 18)):
            self.step(choose.choice("123"))
        self.calls.append(["r", "read", next(self.now), next(self.now), list(self.stored)])

    def step(self, writer):
        if writer not in self.at_work:
            self.at_work[writer] = self.begin(writer)
        elif self.choose.random() < 0.3:  # nobody gets the reply; it may be stored late, or never
            call = self.at_work.pop(writer)
            if call[1] == "append":
                self.left_open[writer] = call[4]
                self.late.append(call)
        elif self.late and self.choose.random() < 0.3:
            self.store(self.late.pop())
        else:
            call = self.at_work.pop(writer)
            self.store(call)
            call[3] = next(self.now)
            if call[1] in READS:
                self.calls.append(call)
            else:
                self.left_open[writer] = []

    def begin(self, writer):
        if self.choose.random() < 0.4:
            return [writer, self.choose.choice(READS), next(self.now), None, []]
        texts = self.left_open.get(writer, []) if self.choose.random() < 0.5 else []
        if self.shared:
            texts = self.choose.choice(self.calls)[4][:1] if self.calls and self.choose.random() < 0.5 else []
        texts = texts + [next(self.texts) for _ in range(self.choose.randint(0 if texts else 1, 2))]
        self.calls.append([writer, "append", next(self.now), None, texts])
        return self.calls[-1]

    def store(self, call):
        if call[1] in READS:
            n, m = (self.choose.randrange(len(self.stored) + 1) for _ in "nm")
            part = {"read": slice(None), "newest": slice(min(n, len(self.stored) - 1), None), "page": slice(n, m)}
            call[4] = self.stored[part[call[1]]]
        else:
            self.stored += [text for text in call[4] if text not in self.stored]

    def change(self):
        """Change when a call began or ended, or what a read returned, or nothing."""
        call = self.choose.choice([each for each in self.calls if each[3] is not None])
        read = self.choose.choice([each for each in self.calls if each[1] in READS])
        got, n, m = read[4], *(self.choose.randrange(len(read[4]) + 1) for _ in "nm")
        self.choose.choice(
            [
                lambda: None,
                lambda: call.__setitem__(3, call[2]),
                lambda: call.__setitem__(2, call[3]),
                lambda: got.__delitem__(slice(n, None)),
                lambda: got.__delitem__(slice(n, n + 1)),
                lambda: got.__setitem__(slice(n, None), got[m:]),
                lambda: got.extend([got.pop(0) for _ in range(n)]),
            ]
        )()
        return sorted(self.calls, key=lambda each: each[2])


RANDOM = st.randoms(use_true_random=False)


@settings(max_examples=150)
@given(RANDOM)
def test_a_history_is_refused_where_no_order_of_its_calls_explains_it(choose):
    """If each writer repeats only its own messages, the check agrees with a trial of all orders."""
    calls = Simulation(choose, shared=False).change()

    assert (kinds(*calls) == set()) == could_be(calls)


@settings(max_examples=100)
@given(RANDOM)
def test_a_history_that_an_order_of_its_calls_explains_is_not_refused(choose):
    """A history that some order explains is not refused, also if writers add the same message."""
    calls = Simulation(choose, shared=True).change()

    assert kinds(*calls) == set() or not could_be(calls)


# The recorder ---------------------------------------------------------------------------------------------------------


def whats(events):
    return [(each.what, each.texts) for each in events]


def test_a_recorder_tells_what_each_call_gives_and_gets():
    """A save records its copy's new messages, and the copy if it is whole. A failed call has no end."""
    events, mapping = [], FaultyMapping({})
    manager = Recorder(SessionManager(mapping), events.append)
    session = manager.get_or_create_session("s")
    manager.append("s", {"role": "user", "content": "one"}, {"role": "user", "content": [2]})
    session.add_message("user", "three")
    manager.save(session)
    part = manager.get_session("s", last=1)
    part.add_message("user", "four")
    mapping.fail(OSError("broken"), applied=True)
    with pytest.raises(StorageError):
        manager.save(part)
    manager.save(part)
    manager.archive("s")
    with pytest.raises(SessionArchivedError):
        manager.append("s", {"role": "user", "content": "five"})

    assert whats(events) == [
        ("read", []),
        ("returned", []),
        ("append", ["one", "[2]"]),
        ("returned", None),
        ("save", ["three"]),
        ("returned", ["one", "[2]", "three"]),
        ("newest", []),
        ("returned", ["three"]),
        ("save", ["four"]),
        ("save", ["four"]),
        ("returned", None),
        ("append", ["five"]),
        ("refused", None),
    ]
    assert [each.at for each in events] == sorted(each.at for each in events)
    check_events(manager.manager, events)


def test_a_lost_session_has_lost_its_messages():
    """A missing session counts as one without messages. The error names the message, session and fault."""
    events = []
    manager = Recorder(SessionManager({}), events.append)
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "one"})
    manager.delete("s")

    with pytest.raises(AssertionError, match="lost: 'one' of session 's'"):
        check_events(manager.manager, events)


def test_awaited_calls_are_recorded():
    """Awaited calls are recorded from the start of the await to its end."""
    events = []

    async def run():
        async with AsyncSessionManager({}) as awaited:
            manager = Recorder(awaited, events.append)
            await manager.create_session("ada", session_id="s")
            await asyncio.gather(*(manager.append("s", {"role": "user", "content": f"{n}"}) for n in range(5)))
            session = await manager.get_session("s")
            session.add_message("user", "last")
            await manager.save(session)
            await manager.get_or_create_session("s")

    asyncio.run(run())

    assert events[-1].texts[-1] == "last"
    assert find_faults(events) == []


def test_events_outlive_a_writer_that_is_killed(tmp_path):
    """Each event is in the file before the call goes on. A cut-off last line is ignored."""
    first = Event("w", 0, "append", "s", 1, ["\u00e9\n"])
    tell = events_to(tmp_path / "events")
    tell(first)
    events_to(tmp_path / "events")(first._replace(what="returned", at=2, texts=None))
    with (tmp_path / "events").open("a") as file:
        file.write('["w", 1, "app')

    assert events_from(tmp_path / "events") == [first, Event("w", 0, "returned", "s", 2)]


def test_a_recorder_tells_what_pages_and_several_sessions_have():
    """Reads of pages, of one message and of several sessions are recorded, each as a call."""
    events = []
    manager = Recorder(SessionManager({}), events.append)
    for session_id in ("s", "t"):
        manager.get_or_create_session(session_id)
        manager.update(session_id, *({"role": "user", "content": f"{session_id}{n}"} for n in range(3)))
    known = len(events)

    page = manager.get_messages("s", limit=2)
    manager.get_messages("s", before=page[0])
    manager.get_message("s", page[1].message_id)
    manager.get_message("s", "nothing")
    manager.get_sessions(["s", "t", "nobody"])

    assert [(each.session_id, each.what, each.texts) for each in events[known:]] == [
        ("s", "newest", []),
        ("s", "returned", ["s1", "s2"]),
        ("s", "page", []),
        ("s", "returned", ["s0"]),
        ("s", "page", []),
        ("s", "returned", ["s2"]),
        ("s", "page", []),
        ("s", "returned", []),
        ("s", "read", []),
        ("t", "read", []),
        ("nobody", "read", []),
        ("s", "returned", ["s0", "s1", "s2"]),
        ("t", "returned", ["t0", "t1", "t2"]),
        ("nobody", "returned", []),
    ]
    check_events(manager.manager, events)


def test_awaited_pages_are_recorded():
    """Awaited reads of pages are recorded."""
    events = []

    async def run():
        async with AsyncSessionManager({}) as awaited:
            manager = Recorder(awaited, events.append)
            await manager.update("s", {"role": "user", "content": "one"}, create=True)
            await asyncio.gather(manager.get_messages("s"), manager.get_sessions(["s"]))

    asyncio.run(run())

    assert sorted(each.what for each in events) == ["append", "newest", "read", "returned", "returned", "returned"]
    assert [each.texts for each in events if each.what == "returned"] == [None, ["one"], ["one"]]
    assert find_faults(events) == []
