"""What hundreds of chats on one event loop get done, and how long the loop keeps others waiting meanwhile."""

import asyncio
import gc
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyai_sessions import AsyncSessionManager, KVSessionStore, SessionManager
from tests.benchmarks.families import FAMILIES, Place, add, family
from tests.benchmarks.measure import Effort, finish, median, percentile, say
from tests.benchmarks.peers import installed, settle
from tests.benchmarks.report import Report
from tests.benchmarks.texts import Messages, Texts

CHATS, ROUNDS, MANY = 200, 5, 1_000
PROBE, REACH = 0.002, 20.0
"""Seconds that the probe sleeps, and the milliseconds that it may be late."""

COLUMNS = (
    "store",
    "journal, synchronous",
    f"{CHATS} chats",
    "one thread",
    "ratio",
    "lag P50",
    "P99",
    "max",
    "to reach",
    "reached",
)
ABOUT = (
    f"Turns per second of {CHATS} chats at a time on one event loop, by `AsyncSessionManager`, all together; the "
    f"median of {ROUNDS} rounds. Each chat creates its session; a turn loads the last 50 messages, adds one, yields to "
    "the loop as a model's call would, adds the answer and saves. *one thread*: the same turns one after another by "
    f"`SessionManager`. *lag*: milliseconds by which a task that sleeps {PROBE * 1000:g} ms wakes late on that loop, "
    "of all rounds; *idle* is a loop that does nothing else."
)
AGAINST = ("peer", "ours beside it", "theirs, turns/s", "ours, turns/s", "ratio", "their lag P99", "ours", "ahead")
VERSUS = (
    f"The same {CHATS} chats by the OpenAI Agents SDK: a session object for each chat, `get_items(limit=50)` and "
    f"`add_items` of both messages each turn, beside ours of the same durability. Rounds take turns; the median of "
    f"{ROUNDS}. *lag*: in milliseconds, as above."
)
THOUSAND = ("store", "journal, synchronous", "turns/s", "lag P50", "P99", "max", "messages", "lost", "whole, in order")
THOUSANDS = (
    f"{MANY:,} such chats at a time on one store. *lost*: messages whose save returned, and which another manager does "
    "not find afterwards. *whole, in order*: whether each chat has all its messages once, in its order."
)
Chat = Callable[[str, list[Messages]], Awaitable[None]]
_names = (f"chat-{n}" for n in itertools.count())


@dataclass
class Round:
    """What a round took, and by how many milliseconds the probe was late, each time."""

    rate: float
    late: list[float]


def measure(report: Report, place: Place, effort: Effort) -> None:
    table = report.table("Many chats on one event loop", COLUMNS, ABOUT)
    idle = finish(_late_in(asyncio.sleep(0.5)))
    table.add("idle", *[""] * 4, *_lag(idle), "", "")
    for each in FAMILIES:
        say(f"chats: {each.name}")
        with closing(each.store(place, "chats")) as store:
            manager, sync = AsyncSessionManager(store), SessionManager(store)
            rounds, alone = [], []
            for _ in range(ROUNDS):
                rounds.append(_round(partial(_ours, manager), CHATS, effort))
                alone.append(_one_thread(sync, effort))
            finish(manager.close())
            rate, late = _together(rounds)
            reached = "yes" if percentile(late, 0.99) <= REACH else "NO"
            ratio = f"{rate / median(alone):.2f}"
            table.add(
                each.name, each.durability(store), rate, median(alone), ratio, *_lag(late), f"P99 <= {REACH:g}", reached
            )
    _versus(report, place, effort)
    table = report.table("A thousand chats", THOUSAND, THOUSANDS)
    for name in ("SQLite NORMAL", "SQLite FULL", "Valkey"):
        say(f"a thousand chats: {name}")
        with closing(family(name).store(place, "thousand")) as store:
            table.add(name, family(name).durability(store), *_thousand(store, effort))


def _versus(report: Report, place: Place, effort: Effort) -> None:
    table = report.table("Many chats, beside the OpenAI Agents SDK", AGAINST, VERSUS)
    for kind in installed(["openai_agents"], "CHATTING"):
        say(f"chats: {kind.name}")
        with ExitStack() as stack:
            store = stack.enter_context(closing(family(kind.beside).store(place, "chats-beside")))
            manager, peer = AsyncSessionManager(store), kind(place)
            stack.callback(lambda peer=peer: finish(peer.close()))
            stack.callback(lambda manager=manager: finish(manager.close()))
            theirs, ours = [], []
            for _ in range(ROUNDS):
                theirs.append(_round(partial(_peers, peer), CHATS, effort))
                ours.append(_round(partial(_ours, manager), CHATS, effort))
            (rate, late), (our_rate, our_late) = _together(theirs), _together(ours)
            ahead = "yes" if our_rate > rate else "NO"
            lags = (percentile(late, 0.99), percentile(our_late, 0.99))
            table.add(kind.name, kind.beside, rate, our_rate, f"{our_rate / rate:.2f}", *lags, ahead)


def _thousand(store: KVSessionStore, effort: Effort) -> tuple[object, ...]:
    manager = AsyncSessionManager(store)
    said: dict[str, list[str]] = {}
    done = _round(partial(_ours, manager, said=said), MANY, effort)
    finish(manager.close())
    reader = SessionManager(store)
    stored: dict[str, list[Any]] = {}
    for name in said:
        session = reader.get_session(name)
        stored[name] = [] if session is None else [each.content for each in session.messages]
    lost = sum(len(set(texts) - set(stored[name])) for name, texts in said.items())
    whole = "yes" if stored == said else "NO"
    return done.rate, *_lag(done.late), sum(map(len, stored.values())), lost, whole


# A round ---------------------------------------------------------------------------------------------------------


def _round(chat: Chat, count: int, effort: Effort) -> Round:
    """Let so many chats run at a time."""
    chats = _chats(count, effort)
    seconds = 0.0

    async def run() -> None:
        nonlocal seconds
        start = time.perf_counter()
        await asyncio.gather(*(chat(name, turns) for name, turns in chats))
        seconds = time.perf_counter() - start

    gc.collect()
    gc.freeze()  # what other measurements left in memory is no part of a chat
    late = finish(_late_in(run()))
    gc.unfreeze()
    return Round(count * effort.chat_turns / seconds, late)


def _chats(count: int, effort: Effort) -> list[tuple[str, list[Messages]]]:
    """Return the chats of a round, by their names: each message says whose and which it is."""
    texts = Texts()
    chats = []
    for name in itertools.islice(_names, count):
        turns = [texts.turn() for _ in range(effort.chat_turns)]
        for n, message in enumerate(itertools.chain.from_iterable(turns)):
            message["content"] = f"{name} #{n} {message['content']}"
        chats.append((name, turns))
    return chats


async def _late_in(work: Awaitable[object]) -> list[float]:
    """Do *work*, and return by how many milliseconds a task that sleeps beside it woke late, each time."""
    late: list[float] = []

    async def probe() -> None:
        while True:
            start = time.perf_counter()
            await asyncio.sleep(PROBE)
            late.append((time.perf_counter() - start - PROBE) * 1000)

    probing = asyncio.create_task(probe())
    try:
        await asyncio.sleep(0)  # it sleeps before the work begins
        await work
        await asyncio.sleep(2 * PROBE)  # what kept the loop at the end counts too
    finally:
        probing.cancel()
        with suppress(asyncio.CancelledError):
            await probing
    return late


def _one_thread(manager: SessionManager, effort: Effort) -> float:
    """Return the turns per second of one thread that serves the same chats in turn."""
    chats = _chats(CHATS, effort)
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    for name, _ in chats:
        manager.create_session("ada", session_id=name)
    for n in range(effort.chat_turns):
        for name, turns in chats:
            session = manager.get_session(name, last=50)
            assert session is not None
            add(session, turns[n])
            manager.save(session)
    seconds = time.perf_counter() - start
    gc.unfreeze()
    return CHATS * effort.chat_turns / seconds


# A chat ----------------------------------------------------------------------------------------------------------


async def _ours(
    manager: AsyncSessionManager, name: str, turns: list[Messages], said: dict[str, list[str]] | None = None
) -> None:
    """Chat; *said* is given what saves returned for."""
    await manager.create_session("ada", session_id=name)
    for question, answer in turns:
        session = await manager.get_session(name, last=50)
        assert session is not None
        add(session, [question])
        await asyncio.sleep(0)
        add(session, [answer])
        await manager.save(session)
        if said is not None:
            said.setdefault(name, []).extend([question["content"], answer["content"]])


async def _peers(peer: Any, name: str, turns: list[Messages]) -> None:
    conversation = await settle(peer.create(name, "ada"))
    for turn in turns:
        await conversation.load(50)
        await asyncio.sleep(0)
        await conversation.turn(turn)
    await settle(conversation.close())


def _together(rounds: list[Round]) -> tuple[float, list[float]]:
    return median([each.rate for each in rounds]), [late for each in rounds for late in each.late]


def _lag(late: list[float]) -> tuple[float, float, float]:
    return median(late), percentile(late, 0.99), max(late)
