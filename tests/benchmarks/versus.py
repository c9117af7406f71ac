"""Turns, loads and lists of other libraries' stores, each beside ours of the same durability.

What blocks stands beside SessionManager, what is awaited beside AsyncSessionManager.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Any

from pyai_sessions import AsyncSessionManager, SessionManager
from tests.benchmarks.families import Place, add, conversation, family
from tests.benchmarks.measure import Call, Effort, Key, finish, interleaved, median, percentile, say
from tests.benchmarks.peers import installed, serve, settle
from tests.benchmarks.report import AGAINST_PEER, Report, Table
from tests.benchmarks.texts import Messages, Texts
from tests.benchmarks.turns import Ours, Turn, replacing

ABOUT = (
    "Microseconds, each peer in turn with ours, call by call, at the same durability. *turn*: persist one, the "
    "conversation in hand. *append*: theirs as before, ours without a conversation in hand. *web*: as a server that "
    "keeps nothing: load the last 50 messages, then persist a turn. *load all*, *last 50*: whole, or the end. *list*: "
    "a user's newest 20 of 40 sessions, among so many. Every call, theirs and ours, is timed inside a running loop. "
    "A slow call has fewer samples."
)
NOTES = (
    "Each is used as its documentation shows. *ours beside it* is our store of the same durability: what a write that "
    "returned survives."
)
TITLES = {
    False: ("Peers that block, beside SessionManager", "What the peers that block promise"),
    True: ("Peers that are awaited, beside AsyncSessionManager", "What the peers that are awaited promise"),
}
LISTED = 40
"""Sessions of a user."""


def measure(
    report: Report, place: Place, sizes: list[int], sessions: list[int], effort: Effort, *, awaited: bool
) -> None:
    peers = [each for each in installed() if each.awaited is awaited]
    title, promises = TITLES[awaited]
    table = report.table(title, AGAINST_PEER, ABOUT)
    for peer in peers:
        say(f"peers: {peer.name}")
        try:
            Versus(report, table, peer, place, effort).measure(sizes, sessions)
        except Exception as err:  # noqa: BLE001  a new release of one peer must not cost the results of all
            table.add(f"{peer.name}: failed", *[""] * 5, f"{type(err).__name__}: {err}"[:200])
    notes = report.table(promises, ("peer", "journal, synchronous", "ours beside it", "in short"), NOTES)
    for peer in peers:
        own = peer(place)
        notes.add(peer.name, finish(own.durability()), peer.beside, peer.note)
        finish(own.close())


def in_loop(call: Call) -> Call:
    """Return a call that `sample` times inside a running event loop, be it async or not."""

    async def awaited() -> object:
        return await settle(call())

    return awaited


def tail(samples: list[float]) -> float:
    return percentile(samples, 0.95)


class OursAwaited:
    """The ways of `turns.Ours`, by an AsyncSessionManager; the conversations are made by a SessionManager."""

    def __init__(self, manager: SessionManager, face: AsyncSessionManager) -> None:
        self._manager = manager
        self._face = face

    def save(self, messages: Messages) -> Turn:
        session = conversation(self._manager, messages)

        async def save(turn: Messages) -> None:
            add(session, turn)
            await self._face.save(session)

        return save

    def append(self, messages: Messages) -> Turn:
        session_id = conversation(self._manager, messages).session_id
        return lambda turn: self._face.append(session_id, *turn)

    def serve(self, messages: Messages) -> Turn:
        session_id = conversation(self._manager, messages).session_id

        async def serve(turn: Messages) -> None:
            session = await self._face.get_session(session_id, last=50)
            assert session is not None
            add(session, turn)
            await self._face.save(session)

        return serve


class Versus:
    """One peer beside ours."""

    def __init__(self, report: Report, table: Table, peer: type[Any], place: Place, effort: Effort) -> None:
        self._report = report
        self._table = table
        self._peer = peer
        self._family = family(peer.beside)
        self._place = place
        self._effort = effort
        self._made = 0

    def measure(self, sizes: list[int], sessions: list[int]) -> None:
        with ExitStack() as stack:
            store = stack.enter_context(closing(self._family.store(self._place, f"beside-{self._peer.__name__}")))
            self._manager = SessionManager(store)
            self._face: Any = AsyncSessionManager(store) if self._peer.awaited else self._manager
            stack.callback(lambda: finish(self._face.close()))
            self._theirs = self._peer(self._place)
            stack.callback(lambda: finish(self._theirs.close()))
            self._turns(sizes)
            self._loads(sizes)
            if self._peer.lists:
                self._lists(sessions)

    def _turns(self, sizes: list[int]) -> None:
        ours: Any = OursAwaited(self._manager, self._face) if self._peer.awaited else Ours(self._manager)
        times = self._effort.peer_times + 2
        calls: dict[tuple[str, int], Call] = {}
        for size in sizes:
            calls["turn", size] = replacing(self._turn, size, times)
            calls["web", size] = replacing(self._serve, size, times)
            calls["our turn", size] = replacing(ours.save, size, times)
            calls["our append", size] = replacing(ours.append, size, times)
            calls["our web", size] = replacing(ours.serve, size, times)
        found = self._interleaved(calls, self._effort.peer_times)
        for kind in ("turn", "append", "web"):
            theirs = "turn" if kind == "append" else kind
            for size in sizes:
                self._row(f"{kind} at {size:,}", found[theirs, size], found[f"our {kind}", size])
        for size in sizes:
            self._report.point("length", self._peer.name, size, found["turn", size])

    def _loads(self, sizes: list[int]) -> None:
        texts = Texts()
        calls: dict[tuple[str, int], Call] = {}
        for size in sizes:
            messages = texts.messages(size)
            mine = conversation(self._manager, messages).session_id
            name, _ = self._store(messages)
            for kind, last in (("load all", None), ("last 50", 50)):
                calls[kind, size] = lambda name=name, last=last: self._load(name, last)
                calls[f"our {kind}", size] = lambda mine=mine, last=last: self._face.get_session(mine, last=last)
            wanted = [each["content"] for each in messages]
            assert finish(self._load(name, None)) == wanted, f"{self._peer.name} loads other messages than were stored"
        found = self._interleaved(calls, self._effort.peer_times)
        for kind in ("load all", "last 50"):
            for size in sizes:
                if kind == "load all" or size > 50:
                    self._row(f"{kind} of {size:,}", found[kind, size], found[f"our {kind}", size])

    def _lists(self, sessions: list[int]) -> None:
        made = 0
        for count in sessions:
            for n in range(made, count):
                user = f"user {n % (count // LISTED)}"
                finish(self._theirs.create(f"listed-{n}", user))
                self._manager.create_session(user)
            made = count
            mine = lambda: self._face.list_sessions("user 1", limit=20)  # noqa: E731
            found = self._interleaved({"list": lambda: self._theirs.newest("user 1"), "our list": mine})
            self._row(f"list among {count:,}", found["list"], found["our list"])

    def _interleaved(self, calls: Mapping[Key, Call], times: int | None = None) -> dict[Key, list[float]]:
        return interleaved({key: in_loop(call) for key, call in calls.items()}, self._effort, times=times)

    def _row(self, work: str, theirs: list[float], ours: list[float]) -> None:
        figures = [figure(samples) for samples in (theirs, ours) for figure in (median, tail)]
        self._table.add(f"{self._peer.name}: {work}", *figures, f"{median(theirs) / median(ours):.1f}", len(theirs))

    # The peer's side, as `turns.Ours` is ours ---------------------------------------------------------------------

    def _store(self, messages: Messages) -> tuple[str, Any]:
        self._made += 1
        name = f"s{self._made}"
        conversation = finish(self._theirs.create(name, "ada"))
        for n in range(0, len(messages), 2):
            finish(conversation.turn(messages[n : n + 2]))
        return name, conversation

    def _turn(self, messages: Messages) -> Callable[[Messages], object]:
        _, conversation = self._store(messages)
        return conversation.turn

    def _serve(self, messages: Messages) -> Callable[[Messages], object]:
        name, _ = self._store(messages)
        return lambda turn: serve(self._theirs, name, "ada", turn)

    def _load(self, name: str, last: int | None) -> object:
        return self._theirs.open(name, "ada").load(last)
