"""Records the calls of many writers as events, and checks that a correct store could have answered like that.

The idea comes from Jepsen's list-append tests. Each message has a unique text, and sessions only grow. So the longest
read shows the order of all stored messages. Every other read and every acknowledged call must agree with that order.
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from pyai_sessions.aio import AsyncSessionManager
from pyai_sessions.errors import SessionError, StorageError
from pyai_sessions.model.session import Session
from pyai_sessions.values.messages import Message
from pyai_sessions.values.tokens import new_id

_PARTS = ("newest", "page")
"""Calls that read only some of a session's messages."""


class Event(NamedTuple):
    """A call that begins or ends. A call without an end may or may not have been stored."""

    writer: str
    call: int
    """The number of this call among its writer's calls."""
    what: str
    """At the begin: "append", "save", "read", "newest" or "page". At the end: "returned", or "refused" if nothing was
    written. "newest" reads the newest messages, "page" any other part."""
    session_id: str
    at: int
    """`time.monotonic_ns()`, a clock that all processes of a machine share."""
    texts: list[str] | None = None
    """The new messages of a call that begins, or all messages that it got. None if it got only some of them."""


class Fault(NamedTuple):
    """An answer that no correct store gives, with a message that shows it."""

    kind: str
    """"lost", "doubled", "torn", "reordered", "stale" or "unwritten"."""
    session_id: str
    text: str


class Recorder:
    """A manager that records its calls which read or add messages.

    These are `append`, `update`, `save`, `get_session`, `get_sessions`, `get_or_create_session`, `get_messages` and
    `get_message`.

    Give each process its own recorder; threads and tasks may share one. Each message of a session needs a text that
    no other has. If you repeat a call, pass the same messages. Only add messages: a removed or replaced one counts
    as lost.

    >>> from pyai_sessions import SessionManager
    >>> from pyai_sessions.testing import Recorder, check_events
    >>> manager, events = SessionManager({}), []
    >>> ada, bob = Recorder(manager, events.append), Recorder(manager, events.append)
    >>> session = ada.get_or_create_session("chat")
    >>> bob.append("chat", {"role": "user", "content": "From Bob."})
    >>> _ = session.add_message("user", "From Ada.")
    >>> ada.save(session)
    >>> check_events(manager, events)

    Args:
        manager: A SessionManager, or an AsyncSessionManager, whose calls you await as usual.
        tell: A function that is called with each event: a list's `append`, a pipe's `send`, or `events_to(path)`.

    """

    def __init__(self, manager: Any, tell: Callable[[Event], object]) -> None:
        self.manager = manager
        self._tell = tell
        self._writer = new_id()
        self._calls = count()
        self._stored: defaultdict[str, set[str]] = defaultdict(set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.manager, name)

    def append(self, session_id: str, *messages: Any) -> Any:
        """Append messages: `Message` objects, or dicts with a "content"."""
        return self._adding(self.manager.append, session_id, messages, {})

    def update(self, session_id: str, *messages: Any, **options: Any) -> Any:
        """Append messages, and make the other changes that the options ask for."""
        return self._adding(self.manager.update, session_id, messages, options)

    def _adding(self, act: Callable[..., Any], session_id: str, messages: Any, options: dict[str, Any]) -> Any:
        given = [_text(each["content"] if isinstance(each, dict) else each.content) for each in messages]
        return self._run("append", session_id, given, lambda: act(session_id, *messages, **options))

    def save(self, session: Any, **options: Any) -> Any:
        """Save a session. Messages that this recorder has not seen in the store yet count as new."""
        stored = self._stored[session.session_id]
        given = [text for text in _texts(session) if text not in stored]
        return self._run("save", session.session_id, given, lambda: self.manager.save(session, **options), session)

    def get_session(self, session_id: str, **options: Any) -> Any:
        """Load a session, or its newest messages."""
        what = "read" if options.get("last") is None else "newest"
        return self._run(what, session_id, [], lambda: self.manager.get_session(session_id, **options))

    def get_or_create_session(self, session_id: str, *arguments: Any, **options: Any) -> Any:
        """Load a session, or create it if there is none."""
        act = self.manager.get_or_create_session
        return self._run("read", session_id, [], lambda: act(session_id, *arguments, **options))

    def get_sessions(self, session_ids: Iterable[str], **options: Any) -> Any:
        """Load several sessions. Each is recorded as a separate call."""
        ids = list(dict.fromkeys(session_ids))
        return self._run_in(self._calling_all(ids), lambda: self.manager.get_sessions(ids, **options))

    def get_messages(self, session_id: str, **options: Any) -> Any:
        """Return a page of messages: the newest, unless *before* or *after* is given."""
        is_newest = options.get("before") is None and options.get("after") is None
        what = "newest" if is_newest else "page"
        return self._run(what, session_id, [], lambda: self.manager.get_messages(session_id, **options))

    def get_message(self, session_id: str, message_id: str, **options: Any) -> Any:
        """Return one message, recorded as a page."""
        return self._run("page", session_id, [], lambda: self.manager.get_message(session_id, message_id, **options))

    def _run(self, what: str, session_id: str, given: list[str], act: Callable[[], Any], saved: Any = None) -> Any:
        return self._run_in(self._calling(what, session_id, given, saved), act)

    def _run_in(self, calling: AbstractContextManager[Callable[[Any], Any]], act: Callable[[], Any]) -> Any:
        if isinstance(self.manager, AsyncSessionManager):
            return _awaited(calling, act)
        with calling as end:
            return end(act())

    @contextmanager
    def _calling(self, what: str, session_id: str, given: list[str], saved: Any) -> Generator[Callable[[Any], Any]]:
        number = next(self._calls)

        def tell(what: str, texts: list[str] | None) -> None:
            self._tell(Event(self._writer, number, what, session_id, time.monotonic_ns(), texts))

        def end(result: Any) -> Any:
            copy = saved if what in ("append", "save") else result
            texts = _texts(copy)
            is_part = what == "append" or (isinstance(copy, Session) and copy.message_count > len(texts))
            tell("returned", None if is_part and what not in _PARTS else texts)
            self._stored[session_id].update(given, texts)
            return result

        tell(what, given)
        try:
            yield end
        except StorageError:
            raise  # the call may have been stored
        except SessionError:
            tell("refused", None)
            raise

    @contextmanager
    def _calling_all(self, session_ids: list[str]) -> Generator[Callable[[Any], Any]]:
        with ExitStack() as calls:
            ends = {each: calls.enter_context(self._calling("read", each, [], None)) for each in session_ids}

            def end(found: Any) -> Any:
                for session_id, tell in ends.items():
                    tell(found.get(session_id))
                return found

            yield end


async def _awaited(calling: Any, act: Callable[[], Any]) -> Any:
    with calling as end:
        return end(await act())


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


def _texts(read: Any) -> list[str]:
    """Return the texts of a session, a page, a message or None."""
    if isinstance(read, Message):
        return [_text(read.content)]
    return [_text(each.content) for each in (read.messages if isinstance(read, Session) else read or ())]


def events_to(path: str | os.PathLike[str]) -> Callable[[Event], object]:
    """Return a function that appends each event to a file at once, so that events survive a killed process."""

    def tell(event: Event) -> None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    return tell


def events_from(path: str | os.PathLike[str]) -> list[Event]:
    """Return the events of a file that `events_to` wrote. A last line that was cut off is ignored."""
    return [Event(*json.loads(line)) for line in Path(path).read_text(encoding="utf-8").split("\n")[:-1]]


def check_events(manager: Any, events: Iterable[Event], *, may_lose: bool = False, may_lag: bool = False) -> None:
    """Read all sessions of the events once more. Raise an AssertionError that lists what `find_faults` finds."""
    events = list(events)
    reader = Recorder(manager, events.append)
    for session_id in sorted({each.session_id for each in events}):
        reader.get_session(session_id)
    if faults := find_faults(events, may_lose=may_lose, may_lag=may_lag):
        shown = [f"{kind}: {text!r} of session {name!r}" for kind, name, text in faults[:20]]
        raise AssertionError("\n".join([f"{len(faults)} faults in {len(events)} events", *shown]))


def find_faults(events: Iterable[Event], *, may_lose: bool = False, may_lag: bool = False) -> list[Fault]:
    """Return the answers that no correct store gives, in the order of session ids; [] if all is well.

    - lost: the last read lacks the message, although the call that added it returned, or another read had it.
    - doubled: a read has the message twice.
    - torn: a read lacks other messages of the same save, or has foreign ones between them; or a page lacks a message
      between two that it has.
    - reordered: messages of one save or one writer are out of order, or two reads have different orders.
    - stale: a read lacks the message, although its call had returned, or another read had it, before this one began.
    - unwritten: a read has a message that no call had given, or only calls that were refused.

    Begin the last read of a session when all other calls have ended, as `check_events` does.

    Args:
        events: The events of all writers. Keep each writer's events in order; the order of writers does not matter.
        may_lose: The storage may lose acknowledged messages, as when a replica takes over, and get them back from a
            copy. Each read is still checked by itself, and so is the order of each writer's messages.
        may_lag: Reads may return an earlier state, as a replica does. The last read may not.

    """
    calls: dict[tuple[str, int], _Call] = {}
    sessions: defaultdict[str, list[_Call]] = defaultdict(list)
    for writer, number, what, session_id, at, texts in events:
        if what == "returned":
            calls[writer, number].ended, calls[writer, number].got = at, texts
        elif what == "refused":
            calls[writer, number].given = []
        else:
            calls[writer, number] = call = _Call(writer, what, at, texts or [])
            sessions[session_id].append(call)
    found: list[Fault] = []
    for session_id, its_calls in sorted(sessions.items()):
        if any(each.got is not None and each.what not in _PARTS for each in its_calls):
            session = _Session(sorted(its_calls, key=lambda each: each.began))
            faults = session.faults_of_each() if may_lose else session.faults_of_all(may_lag=may_lag)
            found += (Fault(kind, session_id, text) for kind, text in faults)
    return found


@dataclass
class _Call:
    writer: str
    what: str
    began: float
    given: list[str]
    ended: float = inf
    got: list[str] | None = None


@dataclass
class _Given:
    """The calls that give one message: the first one, how many there are, and when one of them returned."""

    first: _Call
    calls: int = 0
    ended: float = inf


class _Moment(NamedTuple):
    """The time span in which a message was stored or a read was made, with its place in the order of all messages."""

    began: float
    ended: float
    place: float
    """A message's number; for a read, half a place after the last message that it got."""
    fault: str
    """The kind of the fault if something with a later place had ended before this began."""


class _Session:
    """The calls on one session, in the order in which they began."""

    def __init__(self, calls: list[_Call]) -> None:
        self.given: dict[str, _Given] = {}
        pairs: Counter[tuple[str, str]] = Counter()
        for call in calls:
            for text in call.given:
                known = self.given.setdefault(text, _Given(call))
                known.calls += 1
                known.ended = min(known.ended, call.ended)
            pairs.update(pairwise(call.given))
        # `before`: the text that every call gives right before a text. `after`: the reverse, if both are in every call.
        self.before = {text: other for (other, text), n in pairs.items() if n == self.given[text].calls}
        together = ((a, b) for b, a in self.before.items() if self.given[a].calls == self.given[b].calls)
        self.after = dict(together)
        answered = [(call, call.got) for call in calls if call.got is not None]
        self.reads = [each for each in answered if each[0].what not in _PARTS]
        self.parts = [each for each in answered if each[0].what in _PARTS]
        self.fresh = max((call.began for call, _ in self.reads if call.what == "read"), default=-inf)

    def faults_of_all(self, *, may_lag: bool) -> Iterator[tuple[str, str]]:
        """Yield the kind and a text of each fault. The longest read gives the order of all messages."""
        order = max((got for _, got in self.reads), key=len)
        places = {text: n for n, text in enumerate(order)}
        yield from self._faults_of_one(order)
        for _, got in self.reads:
            if got != order[: len(got)]:
                lost = [("lost", text) for text in got if text not in places]
                differ = [("reordered", text) for text, other in zip(got, order, strict=False) if text != other]
                yield from list(self._faults_of_one(got)) or lost or differ[:1]
            elif got[-1:] and got[-1] in self.after and len(got) < len(order):
                yield "torn", got[-1]
        moments: list[_Moment] = []
        for text, each in self.given.items():
            if text in places:
                moments.append(_Moment(each.first.began, each.ended, places[text], "reordered"))
            elif each.ended < self.fresh:
                yield "lost", text
        for call, got in self.reads:
            # A repeated save may return the session as its first try stored it, before others wrote.
            early = call.what == "save" or (may_lag and call.began < self.fresh)
            fault = "stale" if call.began < self.fresh else "lost"
            moments.append(_Moment(-inf if early else call.began, call.ended, len(got) - 0.5, fault))
        for call, got in self.parts:
            faults = list(self._faults_of_part(call, got, places))
            yield from faults
            if not faults and (got or call.what == "newest"):
                moments.append(self._moment_of_part(call, places[got[-1]] + 0.5 if got else -0.5, may_lag=may_lag))
        yield from _faults_in_time(moments, order)

    def _moment_of_part(self, call: _Call, place: float, *, may_lag: bool) -> _Moment:
        """Return when a part was read that ends at *place*. Only the newest part shows that no more was there."""
        early = call.what == "page" or (may_lag and call.began < self.fresh)
        fault = "stale" if call.began < self.fresh else "lost"
        return _Moment(-inf if early else call.began, call.ended, place, fault)

    def _faults_of_part(self, call: _Call, got: list[str], places: dict[str, int]) -> Iterator[tuple[str, str]]:
        """Yield the kind and a text of each fault of a part. A part is a run of messages without gaps."""
        yield from self._faults_of_any(got)
        yield from (("lost", text) for text in got if text in self.given and text not in places)
        order = list(places)
        for text, other in pairwise(text for text in got if text in places):
            if places[text] + 1 < places[other]:
                yield "torn", order[places[text] + 1]
            elif places[text] > places[other]:
                yield "reordered", other
        if call.what == "newest" and got and got[-1] in self.after and got[-1] != order[-1]:
            yield "torn", got[-1]

    def _faults_of_any(self, got: list[str]) -> Iterator[tuple[str, str]]:
        yield from (("doubled", text) for text, n in Counter(got).items() if n > 1)
        yield from (("unwritten", text) for text in got if text not in self.given)

    def faults_of_each(self) -> Iterator[tuple[str, str]]:
        """Yield the kind and a text of each fault within one read, and of each writer's order in the last read."""
        for _, got in self.reads:
            yield from self._faults_of_one(got)
        for _, got in self.parts:
            yield from self._faults_of_any(got)
        order = self.reads[-1][1]
        writers: defaultdict[str, list[_Moment]] = defaultdict(list)
        for place, text in enumerate(order):
            if (each := self.given.get(text)) is not None:
                writers[each.first.writer].append(_Moment(each.first.began, each.ended, place, "reordered"))
        for moments in writers.values():
            yield from _faults_in_time(moments, order)

    def _faults_of_one(self, got: list[str]) -> Iterator[tuple[str, str]]:
        places = {text: n for n, text in enumerate(got)}
        if len(places) < len(got):
            yield from (("doubled", text) for text, n in Counter(got).items() if n > 1)
            return
        for text, place in places.items():
            last, following = self.before.get(text, text), self.after.get(text, text)
            if text not in self.given:
                yield "unwritten", text
            elif last not in places or following not in places or places[following] > place + 1:
                yield "torn", text
            elif places[last] > place:
                yield "reordered", text


def _faults_in_time(moments: list[_Moment], order: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each message or read with an earlier place than something that ended before it began."""
    ended = iter(sorted(moments, key=lambda each: each.ended))
    next_ended = next(ended, None)
    furthest = -1.0
    for began, _, place, fault in sorted(moments, key=lambda each: each.began):
        while next_ended is not None and next_ended.ended < began:
            furthest = max(furthest, next_ended.place)
            next_ended = next(ended, None)
        if place < furthest and place % 1:  # a read that lacks a message which was there
            yield fault, order[int(furthest)]
        elif place < furthest:
            yield "unwritten" if furthest % 1 else fault, order[int(place)]
