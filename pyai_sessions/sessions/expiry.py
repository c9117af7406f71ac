"""The list of sessions that expire: which are due, and which the storage itself has removed already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from pyai_sessions.documents.keys import head_key
from pyai_sessions.documents.listed import EXPIRY, USERS, Names, Place, list_of, session_listed
from pyai_sessions.documents.reading import read_head, readable_head, stamp_of_value
from pyai_sessions.errors import InvalidDocumentError, StorageError
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.storage.protocol import Change, Listing, Position, Storage
from pyai_sessions.storage.walks import Walk
from pyai_sessions.values.checks import Clock

_TOGETHER = 500
"""Members of the list that are read at a time."""

_OFTEN, _SWEPT = 64, 50
"""Saves of expiring sessions between two sweeps, and how many removed sessions a sweep takes out of the lists."""


def has_expired(value: object | None, session_id: str, clock: Clock) -> bool:
    """Return whether the session of a stored head has expired; False if the head cannot be read."""
    stored = readable_head(value, session_id)
    return stored is not None and stored.is_over(clock)


class Expiry:
    """The list of sessions that expire. *names* translates users to their names in lists.

    A storage that removes expired sessions by itself (it `forgets`) leaves their list entries, which are removed here.
    """

    def __init__(self, storage: Storage, names: Names) -> None:
        self._storage = storage
        self._names = names
        self._saves = 0
        self._swept: Position | None = None

    def due(self, until: int, together: int = _TOGETHER) -> Iterator[dict[str, str]]:
        """Iterate over the members that expire by *until*, in microseconds since 1970, each with its session id.

        They come in the order of expiry, in batches of up to *together*.
        """
        after: Position | None = None
        walk = Walk(EXPIRY)
        found = self._storage.scan(EXPIRY, None, 1)
        while found and found[0][0] <= until:  # usually none is due
            found = self._storage.scan(EXPIRY, after, together)
            yield _sessions(found, until)
            if len(found) < together or found[-1][0] > until:
                return
            after = found[-1]
            walk.reach(after)

    def count(self, status: SessionStatus, user_id: str | None, now: int) -> int:
        """Return how many sessions of a status do not expire by *now*, of one user or of all (None)."""
        name, gone = list_of(status, user_id), set[Place]()
        if self._storage.forgets and not self._sweep(now):
            return self._storage.count(name)
        total, names = self._storage.count(name), self._names.names(name)
        for members in self.due(now):
            parts = [each.split("/") for each in members]
            places = [(of if user_id is None else f"{USERS}{user}/{of}", each) for each, of, user in parts]
            found = [each for each in places if each[0] in names]
            gone.update(each[:2] for each in (self._storage.listings(found) if found else ()))
        return total - len(gone)

    def unlist_forgotten(self, now: int, progress: Callable[[int], object] | None = None) -> int:
        """Remove the list entries of sessions that the storage has removed by *now*; return how many sessions."""
        total = 0
        for members in self.due(now) if self._storage.forgets else ():
            total += self._unlist(members)
            if progress:
                progress(total)
        return total

    def sweep_sometimes(self, now: int) -> None:
        """Count a save of an expiring session. After every 64, remove some list entries of sessions that are gone."""
        self._saves += 1
        if self._saves >= _OFTEN:
            self._saves = 0
            with suppress(StorageError):  # the session itself is saved
                self._sweep(now)

    def _sweep(self, now: int) -> bool:
        """Remove list entries of some sessions that are due; return whether any are due.

        Each sweep continues after the one before: parents of forks stay due, and would hide all others.
        """
        for start in dict.fromkeys((self._swept, None)):
            due = [each for each in self._storage.scan(EXPIRY, start, _SWEPT) if each[0] <= now]
            self._swept = due[-1] if len(due) == _SWEPT else None
            if due:
                self._unlist(_sessions(due, now))
                return True
        return False

    def _unlist(self, due: Mapping[str, str]) -> int:
        """Remove the list entries of due sessions that are gone; return how many sessions.

        A session that is still stored keeps the entries that its head asks for.
        """
        heads = self._storage.read([head_key(each) for each in due.values()])
        total = 0
        for member, session_id in due.items():
            with suppress(InvalidDocumentError):
                total += self._unlist_one(session_id, member, heads.get(head_key(session_id)))
        return total

    def _unlist_one(self, session_id: str, member: str, value: object | None) -> bool:
        name, status, user = member.split("/", 2)
        wrong = [(EXPIRY, member), (status, name), *([(f"{USERS}{user}/{status}", name)] if user else [])]
        if value is not None:
            right = {each[:2] for each in self._names.listed(read_head(value, session_id).entry)}
            wrong = [each for each in wrong if each not in right]
        lists = [Listing(*each, None) for each in self._storage.listings(wrong)] if wrong else []
        change = Change(expect=[(head_key(session_id), stamp_of_value(value))], lists=lists)
        return bool(lists) and self._storage.write([change])[0]


def _sessions(positions: Iterable[Position], until: int) -> dict[str, str]:
    """Return the members that expire by *until*, each with its session id."""
    found = {member: session_listed(EXPIRY, member) for end, member in positions if end <= until}
    return {member: session_id for member, session_id in found.items() if session_id is not None}
