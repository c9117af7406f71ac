"""The two indexes in memory, and who refers to whose pages, for mappings that cannot tell.

Derived from the documents, kept up by commits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from pyai_sessions.backends.protocol import Position
from pyai_sessions.heads import Entry, SessionStatus
from pyai_sessions.keys import decode_id, encode_id


class Order:
    """Positions in order. Adding to the end, which is the usual case, and removing are O(1) amortised."""

    def __init__(self) -> None:
        self._positions: list[Position] = []
        self._current: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._current)

    def add(self, name: str, activity: int) -> None:
        """Put a session, by its encoded id, at *activity*, wherever it was."""
        if self._current.get(name) == activity:
            return
        self._current[name] = activity
        position = (activity, name)
        if not self._positions or self._positions[-1] < position:
            self._positions.append(position)
        else:
            insort(self._positions, position)
        # A session's earlier position stays behind, is passed over by `after`, and goes when half of them are such.
        if len(self._positions) > 2 * len(self._current) + 16:
            self._positions = sorted((activity, name) for name, activity in self._current.items())

    def discard(self, name: str) -> None:
        """Take a session out, if it is in."""
        self._current.pop(name, None)

    def after(self, position: Position | None, limit: int, *, newest_first: bool) -> list[Position]:
        """Return the next *limit* positions after *position*."""
        positions = self._positions
        found: list[Position] = []
        if newest_first:
            steps = range((len(positions) if position is None else bisect_left(positions, position)) - 1, -1, -1)
        else:
            steps = range(0 if position is None else bisect_right(positions, position), len(positions))
        for n in steps:
            if len(found) == limit:
                break
            activity, name = positions[n]
            if self._current.get(name) == activity and (not found or found[-1] != positions[n]):
                found.append(positions[n])
        return found

    def until(self, activity: int) -> list[Position]:
        """Return all positions up to an activity, in order."""
        passed = self._positions[: bisect_left(self._positions, (activity + 1, ""))]
        return [each for each in dict.fromkeys(passed) if self._current.get(each[1]) == each[0]]


class DerivedIndex:
    """The two indexes of a mapping, in memory."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._orders: dict[tuple[SessionStatus, str | None], Order] = {}
        self._expiring = Order()
        self.references: dict[str, set[str]] = {}
        """The keys of references, by the owners of the pages."""

    def put(self, entry: Entry) -> None:
        """Index a session, wherever it was indexed."""
        old = self._entries.get(entry.session_id)
        if old and (old.status, old.user_id) != (entry.status, entry.user_id):
            self.discard(entry.session_id)
        self._entries[entry.session_id] = entry
        name = encode_id(entry.session_id)
        for user_id in {None, entry.user_id}:
            self._orders.setdefault((entry.status, user_id), Order()).add(name, entry.activity)
        if entry.expires is not None:
            self._expiring.add(name, entry.expires)
        elif old and old.expires is not None:
            self._expiring.discard(name)

    def discard(self, session_id: str) -> None:
        """Take a session out, if it is in."""
        old = self._entries.pop(session_id, None)
        if old is None:
            return
        for user_id in {None, old.user_id}:
            order = self._orders[old.status, user_id]
            order.discard(encode_id(session_id))
            if not len(order):
                del self._orders[old.status, user_id]
        self._expiring.discard(encode_id(session_id))

    def expiring(self, until: int, after: Position | None, limit: int) -> list[Position]:
        """Return the next *limit* sessions after *after* that expire by *until*, each at its expiry."""
        return [each for each in self._expiring.after(after, limit, newest_first=False) if each[0] <= until]

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:
        """Return how many sessions one index has that do not expire by *now*. Costs those that do."""
        over = [self._entries[decode_id(name) or name] for _, name in self._expiring.until(now)]
        return len(self.order(status, user_id)) - sum(
            each.status is status and user_id in (None, each.user_id) for each in over
        )

    def order(self, status: SessionStatus, user_id: str | None) -> Order:
        """Return the order of one index."""
        return self._orders.get((status, user_id), Order())

    def entry(self, session_id: str) -> Entry | None:
        """Return what is indexed of a session."""
        return self._entries.get(session_id)

    def entries(self) -> list[Entry]:
        """Return all that is indexed."""
        return list(self._entries.values())
