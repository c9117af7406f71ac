"""The list of sessions that expire: which are due, and which the storage itself has removed already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from pyai_sessions.documents.keys import head_key
from pyai_sessions.documents.listed import (
    EXPIRY,
    FORKS,
    USERS,
    Names,
    Place,
    exact,
    list_of,
    place_of_fork,
    reference_listed,
    session_listed,
)
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


def listings_of_fork(storage: Storage, reference: str, expires: int | None) -> list[Listing]:
    """Return the list entry of a reference whose fork the storage removes by itself, at *expires*.

    With the fork goes its head, which says whose pages it shares. This entry says it then.
    """
    if expires is None or not storage.forgets:
        return []
    score = exact(expires)
    return [Listing(*place_of_fork(reference), score, score)]


def unlistings_of_forks(storage: Storage, references: Iterable[str]) -> list[Listing]:
    """Return the changes that remove the list entries of *references*."""
    places = [place_of_fork(each) for each in references] if storage.forgets else []
    if storage.apart and places:  # there, only the right score removes an entry
        return [Listing(*each, None) for each in storage.listings(places)]
    return [Listing(*each, None, None) for each in places]


def expired_forks(storage: Storage, references: Sequence[str], now: int) -> list[str]:
    """Return those of *references* whose forks were to be removed by the storage by *now*."""
    if not references or not storage.forgets:
        return []
    keys = {place_of_fork(each): each for each in references}
    return [keys[name, member] for name, member, end in storage.listings(list(keys)) if end <= now]


class Expiry:
    """The list of sessions that expire. *names* translates users to their names in lists.

    A storage that removes expired sessions by itself (it `forgets`) leaves their list entries, which are removed here.
    """

    def __init__(self, storage: Storage, names: Names) -> None:
        self._storage = storage
        self._names = names
        self._saves = 0
        self._swept: dict[str, Position | None] = {}

    def due(self, until: int, together: int = _TOGETHER) -> Iterator[dict[str, str]]:
        """Iterate over the members that expire by *until*, in microseconds since 1970, each with its session id.

        They come in the order of expiry, in batches of up to *together*.
        """
        return map(_sessions, self._due(EXPIRY, until, together))

    def due_forks(self, until: int) -> Iterator[list[str]]:
        """Iterate over the references whose forks expire by *until*, likewise, by their keys."""
        return (list(_references(found)) for found in self._due(FORKS, until, _TOGETHER))

    def _due(self, name: str, until: int, together: int) -> Iterator[list[Position]]:
        after: Position | None = None
        walk = Walk(name)
        found = self._storage.scan(name, None, 1)
        while found and found[0][0] <= until:  # usually none is due
            found = self._storage.scan(name, after, together)
            yield [each for each in found if each[0] <= until]
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

    def forgotten(self, now: int) -> set[Place]:
        """Return the list entries that are left of sessions which the storage may have removed by *now*."""
        left = set[Place]()
        for members in self.due(now) if self._storage.forgets else ():
            left.update(place for member in members for place in _places(member))
        return left

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
                self._sweep_forks(now)

    def _sweep(self, now: int) -> bool:
        """Remove list entries of some sessions that are due; return whether any are due."""
        due = self._some_due(EXPIRY, now)
        self._unlist(_sessions(due))
        return bool(due)

    def _sweep_forks(self, now: int) -> None:
        """Remove list entries of some references that are due, and that the storage has removed with their owners."""
        due = _references(self._some_due(FORKS, now))
        there = self._storage.read(list(due)) if due else {}
        gone = {key: position for key, position in due.items() if key not in there}
        for key, (end, member) in gone.items():
            self._storage.write([Change([(key, None)], lists=[Listing(FORKS, member, end, None)])])

    def _some_due(self, name: str, now: int) -> list[Position]:
        """Return some members of a list that are due.

        Each sweep continues after the one before: what stays due, as parents of forks do, would hide all others.
        """
        for start in dict.fromkeys((self._swept.get(name), None)):
            due = [each for each in self._storage.scan(name, start, _SWEPT) if each[0] <= now]
            self._swept[name] = due[-1] if len(due) == _SWEPT else None
            if due:
                return due
        return []

    def _unlist(self, due: Mapping[str, str]) -> int:
        """Remove the list entries of due sessions that are gone; return how many sessions.

        A session that is still stored keeps the entries that its head asks for.
        """
        heads = self._storage.read([head_key(each) for each in due.values()]) if due else {}
        total = 0
        for member, session_id in due.items():
            with suppress(InvalidDocumentError):
                total += self._unlist_one(session_id, member, heads.get(head_key(session_id)))
        return total

    def _unlist_one(self, session_id: str, member: str, value: object | None) -> bool:
        wrong = _places(member)
        if value is not None:
            right = {each[:2] for each in self._names.listed(read_head(value, session_id).entry)}
            wrong = [each for each in wrong if each not in right]
        lists = [Listing(*each, None) for each in self._storage.listings(wrong)] if wrong else []
        change = Change(expect=[(head_key(session_id), stamp_of_value(value))], lists=lists)
        return bool(lists) and self._storage.write([change])[0]


def _sessions(positions: Iterable[Position]) -> dict[str, str]:
    """Return the members of the list of sessions, each with its session id."""
    found = {member: session_listed(EXPIRY, member) for _, member in positions}
    return {member: session_id for member, session_id in found.items() if session_id is not None}


def _references(positions: Iterable[Position]) -> dict[str, Position]:
    """Return the positions in the list of forks by the keys of the references."""
    found = {reference_listed(each[1]): each for each in positions}
    return {key: position for key, position in found.items() if key is not None}


def _places(member: str) -> list[Place]:
    """Return the list entries of the session that a member of the list of sessions that expire stands for."""
    name, status, user = member.split("/", 2)
    return [(EXPIRY, member), (status, name), *([(f"{USERS}{user}/{status}", name)] if user else [])]
