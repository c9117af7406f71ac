"""Other libraries' stores of conversations, each used as its own documentation intends.

A module a library. What is not installed is left out: `make bench-peers` installs all of them.
"""

import importlib
import inspect
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any, ClassVar, Protocol

from tests.benchmarks.families import Place
from tests.benchmarks.measure import say
from tests.benchmarks.texts import Messages

MODULES = ("openai_agents", "adk", "langchain", "langgraph", "strands", "agno")


class Conversation(Protocol):
    """One conversation in hand. What a method returns may have to be awaited."""

    def turn(self, messages: Messages) -> Awaitable[object] | object:
        """Persist a user's message and the answer."""
        ...

    def load(self, last: int | None = None) -> Awaitable[list[str]] | list[str]:
        """Load the messages, or at least the newest so many; return their texts."""
        ...


class Peer(Protocol):
    """A store of another library; two of them at one place share what is stored, as two processes would."""

    name: ClassVar[str]
    beside: ClassVar[str]
    """Our family that is measured beside it, of the same durability."""
    awaited: ClassVar[bool]
    """Whether its methods are awaited, and ours are those of AsyncSessionManager then."""
    note: ClassVar[str]
    """What it gives up, or promises more."""
    window: ClassVar[int | None]
    """How many of the newest messages a request loads; None: all, since it cannot or does not load less."""
    lists: ClassVar[bool]
    """Whether it lists a user's sessions: it then has `newest`."""

    def __init__(self, place: Place) -> None: ...

    def durability(self) -> Any:
        """Return the journal mode and the `synchronous` that it runs with."""
        ...

    def create(self, session_id: str, user_id: str) -> Any:
        """Store a new session, and return its `Conversation`."""
        ...

    def open(self, session_id: str, user_id: str) -> Any:
        """Return the `Conversation` of a stored session, as the next request would; its `load` comes next."""
        ...

    def newest(self, user_id: str) -> Any:
        """Return the ids of a user's newest 20 sessions, or of all where it cannot limit them."""
        ...

    def close(self) -> Any: ...


def installed(modules: Iterable[str] = MODULES, kinds: str = "PEERS") -> Iterator[type[Any]]:
    """Yield the classes of the peers that are installed, those that their modules name as *kinds*."""
    for each in modules:
        yield from _peers_of(each, kinds)


def _peers_of(name: str, kinds: str) -> tuple[type[Any], ...]:
    try:
        found: tuple[type[Any], ...] = getattr(importlib.import_module(f"{__name__}.{name}"), kinds)
    except ImportError as err:
        say(f"peers: {name} is left out ({err}); `make bench-peers` installs it")
        return ()
    return found


async def settle(result: Any) -> Any:
    """Return the result of a call that may have to be awaited."""
    return await result if inspect.isawaitable(result) else result


async def serve(peer: Peer, session_id: str, user_id: str, turn: Messages) -> None:
    """Do what a web server does that keeps nothing between requests: load the newest messages, persist a turn."""
    conversation = await settle(peer.open(session_id, user_id))
    await settle(conversation.load(peer.window))
    await settle(conversation.turn(turn))
