"""A cluster as a storage: documents as on one server; lists on other servers than their documents.

Every script and command works on one key. Commands on several keys fail while their slot moves to another server, even
if the keys share it, because some of them are already there. So the document and its lists cannot change in one step:

1. Listings that are new are added.
2. The document is written.
3. Listings that no longer hold are removed, and scores that go down are lowered.

A stored document is therefore never missing from a list. For a while, a list may hold what is gone. A member is removed
or lowered only if its score is still the one that was seen, since another writer may have listed it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pyai_sessions.storage.protocol import Change, Derive, Listing
from pyai_sessions.storage.redis import scripts
from pyai_sessions.storage.redis.layout import bytes_of
from pyai_sessions.storage.redis.mapping import RedisMapping
from pyai_sessions.storage.redis.scripts import Command
from pyai_sessions.storage.redis.storage import RedisStorage

_APPLIED = 1
"""What the script answers if it has just applied a change."""


class ClusterStorage(RedisStorage):
    """Documents and lists on a cluster.

    Args:
        mapping: The mapping whose items are the documents.
        timeout: Seconds after which no writer is still at work.
        derive: Returns the entries of lists that follow from a document, after a change was refused.

    """

    together = 1  # a round trip to several servers fails if one of them is gone
    apart = True

    def __init__(self, mapping: RedisMapping, *, timeout: float, derive: Derive) -> None:
        super().__init__(mapping, timeout=timeout)
        self._derive = derive

    def write(self, changes: Sequence[Change]) -> list[bool]:  # noqa: D102 (the protocol documents it)
        self._check_kept(changes)
        rising = [each for change in changes for each in change.lists if not _falls(each)]
        self._open.commands([self._raise(each) for each in rising if each.old is None])
        requests = [self._applying(each, ()) for each in changes]
        # A member that is listed already may be raised in the same trip: it is listed before and after.
        requests += [self._raise(each) for each in rising if each.old is not None]
        replies: list[int] = self._open.commands(requests)[: len(changes)]
        after: list[Command] = []
        for change, reply in zip(changes, replies, strict=True):
            moves = filter(_falls, change.lists) if reply == _APPLIED else self._corrections(change)
            after += [self._move(each) for each in moves if each.old is not None]
        self._open.commands(after)
        return [bool(each) for each in replies]

    def _raise(self, listing: Listing) -> Command:
        """Return the command that lists a member at its new score, unless a later writer listed it higher."""
        key = bytes_of(self._layout.set_of(listing.list, listing.member))
        return ("ZADD", key, "GT", str(listing.new), bytes_of(listing.member))

    def _move(self, listing: Listing) -> Command:
        """Return the command that lowers or removes a member, if its score is still the old one."""
        key = bytes_of(self._layout.set_of(listing.list, listing.member))
        score = "" if listing.new is None else str(listing.new)
        return scripts.MOVE.on([key], bytes_of(listing.member), str(listing.old), score)

    def _corrections(self, change: Change) -> list[Listing]:
        """Return the listings that make lists agree with the documents, after a change that was not applied now.

        Perhaps another writer listed the same member at the same score. The list cannot tell; the documents can.
        """
        held: dict[tuple[str, str], int] = {}
        for key in dict.fromkeys([key for key, _ in (*change.expect, *change.put)] if change.lists else ()):
            held.update(((name, member), score) for name, member, score in self._derive(key, partial(self._get, key)))
        moves: list[Listing] = []
        for each in change.lists:
            score: int | None = held.get((each.list, each.member))
            if _falls(each):
                moves += [each] if score == each.new else []
            elif score != each.new:
                moves.append(each._replace(old=each.new, new=score))
        return moves

    def _get(self, key: str) -> object:
        return self.read([key]).get(key)


def _falls(listing: Listing) -> bool:
    """Return whether a listing removes a member, or lowers its score."""
    return listing.new is None or (listing.old is not None and listing.new < listing.old)
