"""Erasing all that is held of one user."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pyai_sessions.documents.keys import head_key, parts_of_reference, session_beside
from pyai_sessions.documents.listed import Place
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import named_runs, owners_of
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import are_listed, batches, relist
from pyai_sessions.sessions.loading import Attempts
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.holdings import Owner, Places, everything, is_aside, left_aside, listed, listings_of


@dataclass(frozen=True)
class Erasure:
    """What `delete_user` erased: for the record. Its length is the number of sessions.

    Attributes:
        session_ids: The sessions, sorted: active, archived and damaged ones.
        pages: How many documents of messages and of branches went with them.
        references: How many documents went that said which pages forks share.
        set_aside: How many damaged documents went that ``verify(repair=True)`` had set aside.
        shared: Sessions of *other* users that were forked from the erased ones and still hold messages of them, sorted:
            in pages that they share, and, if everything was scanned, as copies of the newest messages. They stay as
            they are. Delete these sessions, too, if the user's words must go.
        unlisted: What only the scan found: the keys of heads that no index listed, of documents that were set aside,
            of pages and references that no session names. Sorted, and erased.
        unknown: Keys of damaged documents, if everything was scanned, of which nothing says whose they are. They were
            left: look at them by hand.
        states: How many documents went that held the user's state: `SessionManager.user_state`.

    """

    session_ids: list[str] = field(default_factory=list[str])
    pages: int = 0
    references: int = 0
    set_aside: int = 0
    shared: list[str] = field(default_factory=list[str])
    unlisted: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])
    states: int = 0

    def __len__(self) -> int:
        return len(self.session_ids)


def erase(backend: Backend, user_id: str, *, scan: bool) -> Erasure:
    """Erase all that a storage holds of a user: what the indexes list, then, to *scan*, what everything shows."""
    if scan:
        backend.storage.keys("session/")  # raises where a storage cannot list them: before anything is erased
    erasing = _Erasing(backend, user_id)
    erasing.sessions(listed(backend, user_id))
    if scan:
        erasing.scan()
    erasing.state(scan=scan)
    return erasing.done()


def forks_of(session_ids: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    """Return which sessions were forked from these, or from forks of theirs; *parents* says from which each was."""
    known = set(session_ids)
    forked = set[str]()
    while more := {each for each, parent in parents.items() if parent in known} - known:
        known |= more
        forked |= more
    return forked


class _Erasing:
    """An erasure at work. Heads go first, one commit each; what only these named goes after them."""

    def __init__(self, backend: Backend, user_id: str) -> None:
        self._backend = backend
        self._owner = Owner(backend, user_id)
        self._ids: set[str] = set()
        self._gone = {"messages": 0, "forks": 0, "unreadable": 0}
        self._copies: set[str] = set()
        self._unlisted: set[str] = set()
        self._unknown: set[str] = set()
        self._states = 0

    def sessions(self, found: Places) -> None:
        """Erase sessions with all that is theirs; take those that are not the user's out of the user's lists."""
        ids: list[str] = []
        damaged: set[str] = set()
        owners: set[str] = set()
        named: set[str] = set()
        for batch in batches(found):
            heads = self._backend.heads(batch)
            for session_id in batch:
                value = heads.get(session_id)
                if value is None or self._owner.has(value, session_id) is False:
                    wanted = listings_of(value, session_id)
                    relist(self._backend.storage, session_id, value, found[session_id], wanted)
                    continue
                ids.append(session_id)
                try:
                    runs = named_runs(read_head(value, session_id).head)
                except InvalidDocumentError:
                    damaged.add(session_id)
                else:
                    owners.update(owners_of(runs, session_id))
                    named.update(pages_there(self._backend.storage, [run for run in runs if run.owner != session_id]))
        if not ids:
            return
        references = self._references_of(damaged) if damaged else set[str]()
        owners.update(parts_of_reference(each)[0] for each in references)
        before = self._keys(owners.union(ids))
        erased = [each for each in ids if self._erase(each, found[each])]
        self._ids.update(erased)
        self._clear(erased, references)
        mine = {key for key in before if session_beside(key) in self._ids or key in named or self._is_mine(key)}
        self._count(mine - self._keys(owners.union(ids)))

    def _erase(self, session_id: str, places: Iterable[Place]) -> bool:
        """Delete a session, unless it is another's by now; return whether it was there, and is gone."""
        attempts = Attempts(self._backend, session_id)
        for _ in attempts:
            with attempts.exclusive():
                value = self._backend.head(session_id)
                if value is None or self._owner.has(value, session_id) is False:
                    return False
                done = forks.remove(self._backend, session_id, value)
            if done:
                relist(self._backend.storage, session_id, None, places, ())
                return True
        return False

    def _clear(self, session_ids: Collection[str], references: Iterable[str]) -> None:
        """Remove what is left of sessions whose heads are gone, and the *references* of damaged ones to others' pages.

        That is what was set aside, and what crashes left; what other users' forks share stays.
        """
        pages: dict[str, list[str]] = {}
        aside: list[str] = []
        suspects = list(references)
        for key in self._keys(session_ids):
            if key.startswith("messages/"):
                pages.setdefault(session_beside(key) or "", []).append(key)
            elif key.startswith("forks/"):
                suspects.append(key)
            else:
                aside.append(key)
        self._let_go(suspects)
        for session_id, keys in pages.items():
            unnamed = forks.unreferenced(self._backend.storage, session_id, None, keys)
            forks.drop(self._backend.storage, session_id, None, unnamed)
        theirs, _ = left_aside(self._backend, self._owner, aside, dict.fromkeys(session_ids, True))
        for session_id, keys in theirs.items():
            self._remove(session_id, keys)

    def scan(self) -> None:
        """Erase what the indexes do not know, and what no session names: nothing says that it is not the user's."""
        found = everything(self._backend, self._owner)
        self._unknown.update(found.unknown)
        indexed = {
            session_id
            for ids in batches(found.heads)
            for session_id in are_listed(self._backend.storage, {each: found.heads[each] for each in ids})
        }
        before = set(self._ids)
        self.sessions({each: {place[:2] for place in of} for each, of in found.heads.items()})
        self._unlisted.update(head_key(each) for each in self._ids - before - indexed)

        theirs, unknown = left_aside(self._backend, self._owner, self._there(found.aside), found.whose)
        self._unknown.update(unknown)
        for session_id, keys in theirs.items():
            self._remove(session_id, keys)
            self._count(keys)
            self._unlisted.update(keys)

        self._garbage(found.references, found.pages)
        for each in found.gone:
            relist(self._backend.storage, each, None, (), ())

        self._copies = forks_of(self._ids, found.parents)
        self._unknown = set(self._there(self._unknown))

    def state(self, *, scan: bool) -> None:
        """Erase the state of the user, and what was set aside of it."""
        self._states, unlisted = shared_state.erase(self._backend, self._owner.user_id, scan=scan)
        self._unlisted.update(unlisted)

    def _garbage(self, references: list[str], pages: list[str]) -> None:
        """Remove references of forks that are not there, and pages that no session names."""
        dangling = [key for batch in batches(references) for key in forks.dead_references(self._backend, batch)]
        owners = {parts_of_reference(each)[0] for each in dangling}
        before = self._keys(owners) if dangling else set[str]()
        self._let_go(dangling)
        gone = before - self._keys(owners) if dangling else set[str]()
        orphans: dict[str, list[str]] = {}
        for key in self._there(pages):
            orphans.setdefault(session_beside(key) or "", []).append(key)
        if orphans and self._backend.settle:
            time.sleep(self._backend.settle)  # another process may be about to commit the head that names them
        for session_id, keys in orphans.items():
            unnamed = forks.unreferenced(self._backend.storage, session_id, None, keys)
            if unnamed and forks.drop(self._backend.storage, session_id, None, unnamed):
                gone.update(unnamed)
        self._count(gone)
        self._unlisted.update(gone)

    def done(self) -> Erasure:
        """Return what was erased."""
        references = (key for key in self._keys(self._ids) if key.startswith("forks/")) if self._ids else ()
        shared = {parts_of_reference(key)[1] for key in references}
        return Erasure(
            sorted(self._ids),
            self._gone["messages"],
            self._gone["forks"],
            self._gone["unreadable"],
            sorted(shared | self._copies),
            sorted(self._unlisted),
            sorted(self._unknown),
            self._states,
        )

    # Below: keys -------------------------------------------------------------------------------------------------

    def _keys(self, session_ids: Collection[str]) -> set[str]:
        return set(keys_beside(self._backend.storage, session_ids)) if session_ids else set()

    def _references_of(self, session_ids: set[str]) -> set[str]:
        """Return the references of forks whose heads cannot say what they share. Goes through all keys."""
        keys = self._backend.storage.keys("forks/")
        return {key for key in keys if session_beside(key) and parts_of_reference(key)[1] in session_ids}

    def _is_mine(self, key: str) -> bool:
        return key.startswith("forks/") and parts_of_reference(key)[1] in self._ids

    def _there(self, keys: Iterable[str]) -> list[str]:
        """Return those of *keys* under which something lies."""
        return [key for batch in batches(keys) for key in self._backend.storage.read(batch)]

    def _let_go(self, references: list[str]) -> None:
        """Remove those of *references* whose forks are not there, and the pages that only these named.

        One of another's fork that was set aside keeps pages for whoever mends that.
        """
        gone = [key for batch in batches(references) for key in forks.dead_references(self._backend, batch)]
        late = [each for each in gone if parts_of_reference(each)[1] not in self._ids]
        if late and self._backend.settle_forks:
            time.sleep(self._backend.settle_forks)  # another process may be about to write the fork's head
            gone = [key for batch in batches(gone) for key in forks.dead_references(self._backend, batch)]
        aside = {
            session_beside(key) for key in self._keys({parts_of_reference(key)[1] for key in late}) if is_aside(key)
        }
        for key in gone:
            if parts_of_reference(key)[1] in aside:
                continue
            forks.free_pages(self._backend, parts_of_reference(key)[0], reference=key)

    def _remove(self, session_id: str, keys: list[str]) -> None:
        for _ in Attempts(self._backend, session_id):
            if forks.drop(self._backend.storage, session_id, self._backend.head(session_id), keys):
                return

    def _count(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._gone[key.partition("/")[0]] += 1
