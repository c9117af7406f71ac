"""What a mapping can tell only by a walk through all items, kept in memory: ordered lists, and the keys of places.

`MappingStorage` builds both when they are first asked for, and updates them with each change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator

from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Listed, Position


class Order:
    """One ordered list. Adding a member at its end, as is usual, or removing one takes constant time on average.

    The positions are sorted. An outdated position stays, and is skipped, until more than half of them are outdated.
    """

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self._positions: list[Position] = []

    def put(self, member: str, score: int) -> None:
        """Set the score of a member, old or new."""
        if self.scores.get(member) == score:
            return
        self.scores[member] = score
        position = (score, member)
        if not self._positions or self._positions[-1] < position:
            self._positions.append(position)
        else:
            insort(self._positions, position)
        self._drop_old_positions()

    def discard(self, member: str) -> None:
        """Remove a member, if it is in the list."""
        self.scores.pop(member, None)
        self._drop_old_positions()

    def _drop_old_positions(self) -> None:
        if len(self._positions) > 2 * len(self.scores) + 16:
            self._positions = sorted((score, member) for member, score in self.scores.items())

    def after(self, position: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next *limit* positions after *position*; None: from the start, or with *newest_first* the end."""
        positions = self._positions
        found: list[Position] = []
        if newest_first:
            steps = range((len(positions) if position is None else bisect_left(positions, position)) - 1, -1, -1)
        else:
            steps = range(0 if position is None else bisect_right(positions, position), len(positions))
        for n in steps:
            if len(found) >= limit:
                break
            score, member = positions[n]
            if self.scores.get(member) == score and (not found or found[-1] != positions[n]):
                found.append(positions[n])
        return found


class Lists:
    """Ordered lists by their names."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}

    def move(self, name: str, member: str, score: int | None) -> None:
        """Set the score of a member of a list; None removes the member."""
        order = self._orders.get(name)
        if score is not None:
            if order is None:
                order = self._orders[name] = Order()
            order.put(member, score)
        elif order is not None:
            order.discard(member)
            if not order.scores:
                del self._orders[name]

    def scan(self, name: str, after: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next *limit* positions of a list, as `Order.after` does."""
        order = self._orders.get(name)
        return [] if order is None else order.after(after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:
        """Return how many members a list has."""
        order = self._orders.get(name)
        return 0 if order is None else len(order.scores)

    def listings(self, prefix: str) -> Iterator[Listed]:
        """Iterate over the entries of the lists whose names begin with *prefix*."""
        for name, order in self._orders.items():
            if name.startswith(prefix):
                for member, score in order.scores.items():
                    yield name, member, score

    def score(self, name: str, member: str) -> int | None:
        """Return the score of a member of a list; None if the list does not have it."""
        order = self._orders.get(name)
        return None if order is None else order.scores.get(member)


class Places:
    """The keys below each ``kind/place/``, collected when they are first asked for."""

    def __init__(self) -> None:
        self._below: dict[str, set[str]] | None = None

    def keys(self, prefix: str, walk: Callable[[], Iterable[str]]) -> Collection[str]:
        """Return the keys that begin with *prefix*, which has a kind, a place and a slash after it.

        *walk* returns all keys; it is called the first time.
        """
        below = self._below
        if below is None:
            below = dict[str, set[str]]()
            for key in walk():
                if start := start_of_place(key):
                    below.setdefault(start, set()).add(key)
            self._below = below  # only when it is complete: the walk may be interrupted
        found = below.get(start_of_place(prefix), ())
        return [key for key in found if key.startswith(prefix)]

    def add(self, key: str) -> None:
        """Note that there is a document under *key*."""
        if self._below is not None and (start := start_of_place(key)):
            self._below.setdefault(start, set()).add(key)

    def discard(self, key: str) -> None:
        """Note that there is no document under *key*."""
        if self._below is not None and (keys := self._below.get(start_of_place(key))):
            keys.discard(key)
            if not keys:
                del self._below[start_of_place(key)]

    def forget(self) -> None:
        """Forget all keys: the next `keys` walks again."""
        self._below = None


def start_of_place(key: str) -> str:
    """Return the ``kind/place/`` of a key, with its namespace; "" if nothing follows the place."""
    namespace, rest = split_namespace(key)
    kind, _, rest = rest.partition("/")
    place, slash, _ = rest.partition("/")
    return f"{namespace}{kind}/{place}/" if slash else ""
