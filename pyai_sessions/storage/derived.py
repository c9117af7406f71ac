"""What a mapping can tell only by a walk through all items, kept in memory: ordered lists, and the keys of places."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from pyai_sessions.storage.names import split_namespace
from pyai_sessions.storage.protocol import Listed, Position


class Order:
    """One ordered list. To add a member at its end, as is usual, or to remove one takes constant time on average."""

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self._positions: list[Position] = []

    def put(self, member: str, score: int) -> None:
        """Give a member a score, whether or not it has one."""
        if self.scores.get(member) == score:
            return
        self.scores[member] = score
        position = (score, member)
        if not self._positions or self._positions[-1] < position:
            self._positions.append(position)
        else:
            insort(self._positions, position)
        self._tidy()

    def discard(self, member: str) -> None:
        """Remove a member, if it is there."""
        self.scores.pop(member, None)
        self._tidy()

    def _tidy(self) -> None:
        """Remove old positions, which `after` skips, when they are more than half of all."""
        if len(self._positions) > 2 * len(self.scores) + 16:
            self._positions = sorted((score, member) for member, score in self.scores.items())

    def after(self, position: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next *limit* positions after *position*."""
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
        """Give a member of a list a score; remove it for None."""
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
        """Return the next *limit* positions of a list after one."""
        order = self._orders.get(name)
        return [] if order is None else order.after(after, limit, newest_first=newest_first)

    def count(self, name: str) -> int:
        """Return how many members a list has."""
        order = self._orders.get(name)
        return 0 if order is None else len(order.scores)

    def listings(self, prefix: str) -> Iterator[Listed]:
        """Iterate over the members of the lists whose names begin with *prefix*."""
        for name, order in self._orders.items():
            if name.startswith(prefix):
                for member, score in order.scores.items():
                    yield name, member, score

    def listings_of(self, pairs: Sequence[tuple[str, str]]) -> Iterator[Listed]:
        """Iterate over the entries of these lists and members."""
        for name, member in pairs:
            order = self._orders.get(name)
            if order is not None and member in order.scores:
                yield name, member, order.scores[member]


class Places:
    """The keys below ``kind/place/``, for the kinds that were asked for."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, set[str]]] = {}

    def keys(self, prefix: str, walk: Callable[[], Iterable[str]]) -> Collection[str]:
        """Return the keys that begin with *prefix*, which has a kind, a place and a slash after it.

        *walk* returns all keys. It is called when a kind is asked for the first time.
        """
        kind, place, rest = _parts(prefix)
        places = self._kinds.get(kind)
        if places is None:
            places = dict[str, set[str]]()
            for key in walk():
                if key.startswith(kind):
                    places.setdefault(_parts(key)[1], set()).add(key)
            self._kinds[kind] = places  # not before it is complete: the walk may be interrupted
        found = places.get(place, ())
        return [key for key in found if key.startswith(prefix)] if rest else tuple(found)

    def add(self, key: str) -> None:
        """Note that there is a document under *key*."""
        if not self._kinds:
            return
        kind, place, _ = _parts(key)
        if (places := self._kinds.get(kind)) is not None:
            places.setdefault(place, set()).add(key)

    def discard(self, key: str) -> None:
        """Note that there is none."""
        if not self._kinds:
            return
        kind, place, _ = _parts(key)
        keys = self._kinds.get(kind, {}).get(place)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._kinds[kind][place]

    def forget(self) -> None:
        """Forget all keys: the next call walks again."""
        self._kinds.clear()


def is_of_place(prefix: str) -> bool:
    """Return whether all keys that begin with *prefix* lie in one place."""
    return split_namespace(prefix)[1].count("/") > 1


def _parts(key: str) -> tuple[str, str, str]:
    """Return a key in three parts: its namespace and kind with a slash, its place with a slash, and the rest."""
    under, rest = split_namespace(key)
    kind, slash, rest = rest.partition("/")
    place, tail, rest = rest.partition("/")
    return f"{under}{kind}{slash}", f"{place}{tail}", rest
