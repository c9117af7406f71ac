"""Erasure: everything that a storage holds of one user is deleted."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pyai_sessions.documents.keys import head_key, parts_of_reference, session_beside
from pyai_sessions.documents.listed import Place
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import microseconds, named_runs, owners_of
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.indexes import are_listed, batches, relist
from pyai_sessions.sessions.pages import keys_beside, pages_there
from pyai_sessions.sessions.removing import remove
from pyai_sessions.upkeep import shared_state
from pyai_sessions.upkeep.aside import is_aside, sort_by_session
from pyai_sessions.upkeep.owners import Owner, Places, everything, listed, listings_of
from pyai_sessions.values.checks import Clock


@dataclass(frozen=True)
class Erasure:
    """The record of what `delete_user` erased. Its length is the number of sessions.

    Attributes:
        session_ids: The sessions, sorted: active, archived and damaged ones.
        pages: How many documents with messages or branches were erased with them.
        references: How many documents were erased that said which pages forks share.
        set_aside: How many damaged documents were erased that ``verify(repair=True)`` had set aside.
        shared: Sessions of *other* users that were forked from the erased ones and still hold messages of them, sorted.
            They are not changed: delete them too if the user's words must go. Without ``scan=True`` only those that
            share pages are found, not those that copied the newest messages.
        unlisted: The keys of documents that only the scan found and that were erased, sorted: heads that no index
            lists, documents that were set aside, pages and references that no session names.
        unknown: The keys of damaged documents that name no user, if everything was scanned. They were not erased: look
            at them by hand.
        states: How many documents were erased that held the user's state: `SessionManager.user_state`.

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


def erase(backend: Backend, user_id: str, *, scan: bool, clock: Clock) -> Erasure:
    """Erase what the indexes list for a user, and, with *scan*, what only reading all documents finds.

    What only expired forks kept of deleted sessions goes before, whoever's it is: it does not say whose.
    """
    if scan:
        backend.storage.keys("session/")  # raises here, before anything is erased, if the storage cannot list its keys
    forks.free_expired(backend, microseconds(clock()))
    eraser = _Eraser(backend, user_id)
    eraser.erase_sessions(listed(backend, user_id))
    if scan:
        eraser.scan()
    eraser.erase_state(scan=scan)
    return eraser.result()


def forks_of(session_ids: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    """Return the forks of sessions, and the forks of these forks; *parents* maps each fork to its parent."""
    known = set(session_ids)
    forked = set[str]()
    while more := {each for each, parent in parents.items() if parent in known} - known:
        known |= more
        forked |= more
    return forked


class _Eraser:
    """Erases the documents of one user. Heads are deleted first, in one commit each, then what only they named."""

    def __init__(self, backend: Backend, user_id: str) -> None:
        self._backend = backend
        self._owner = Owner(backend, user_id)
        self._ids: set[str] = set()
        self._erased = {"messages": 0, "forks": 0, "unreadable": 0}
        self._copies: set[str] = set()
        self._unlisted: set[str] = set()
        self._unknown: set[str] = set()
        self._states = 0

    def erase_sessions(self, found: Places) -> None:
        """Erase those of the sessions that belong to the user, and remove the others from the user's lists."""
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
        before = self._keys_beside(owners.union(ids))
        erased = [each for each in ids if self._erase_session(each, found[each])]
        self._ids.update(erased)
        self._erase_remains(erased, references)
        of_user = {key for key in before if session_beside(key) in self._ids or key in named or self._is_of_fork(key)}
        self._count(of_user - self._keys_beside(owners.union(ids)))

    def _erase_session(self, session_id: str, places: Iterable[Place]) -> bool:
        """Delete a session unless it belongs to another user by now; return whether it was deleted."""

        def attempt() -> bool | None:
            value = self._backend.head(session_id)
            if value is None or self._owner.has(value, session_id) is False:
                return False
            return remove(self._backend, session_id, value) or None

        done = until_done(self._backend, session_id, attempt)
        if done:
            relist(self._backend.storage, session_id, None, places, ())
        return done

    def _erase_remains(self, session_ids: Collection[str], references: Iterable[str]) -> None:
        """Erase what is left beside deleted heads, and the *references* of damaged sessions to pages of others.

        That is what was set aside, and what crashes left. Pages that other users' forks share stay.
        """
        pages: dict[str, list[str]] = {}
        aside: list[str] = []
        suspects = list(references)
        for key in self._keys_beside(session_ids):
            if key.startswith("messages/"):
                pages.setdefault(session_beside(key) or "", []).append(key)
            elif key.startswith("forks/"):
                suspects.append(key)
            else:
                aside.append(key)
        self._erase_dead_references(suspects)
        for session_id, keys in pages.items():
            unneeded = forks.unreferenced(self._backend.storage, session_id, None, keys)
            forks.drop(self._backend.storage, session_id, None, unneeded)
        is_owners: dict[str, bool | None] = dict.fromkeys(session_ids, True)
        of_user, _ = sort_by_session(self._backend.storage, self._owner, aside, is_owners)
        for session_id, keys in of_user.items():
            self._drop(session_id, keys)

    def scan(self) -> None:
        """Erase the user's documents that no index lists, and pages and references that no session names."""
        found = everything(self._backend, self._owner)
        self._unknown.update(found.unknown)
        indexed = {
            session_id
            for ids in batches(found.heads)
            for session_id in are_listed(self._backend.storage, {each: found.heads[each] for each in ids})
        }
        before = set(self._ids)
        self.erase_sessions({each: {place[:2] for place in of} for each, of in found.heads.items()})
        self._unlisted.update(head_key(each) for each in self._ids - before - indexed)

        aside = self._still_stored(found.aside)
        of_user, unknown = sort_by_session(self._backend.storage, self._owner, aside, found.is_owners)
        self._unknown.update(unknown)
        for session_id, keys in of_user.items():
            self._drop(session_id, keys)
            self._count(keys)
            self._unlisted.update(keys)

        self._erase_garbage(found.references, found.pages)
        for each in found.gone:
            relist(self._backend.storage, each, None, (), ())

        self._copies = forks_of(self._ids, found.parents)
        self._unknown = set(self._still_stored(self._unknown))

    def erase_state(self, *, scan: bool) -> None:
        """Erase the state of the user, and damaged documents of it that were set aside."""
        self._states, unlisted = shared_state.erase(self._backend, self._owner.user_id, scan=scan)
        self._unlisted.update(unlisted)

    def _erase_garbage(self, references: list[str], pages: list[str]) -> None:
        """Erase references of deleted forks, and pages that no session names: they may be the user's."""
        dead = [key for batch in batches(references) for key in forks.dead_references(self._backend, batch)]
        owners = {parts_of_reference(each)[0] for each in dead}
        before = self._keys_beside(owners)
        self._erase_dead_references(dead)
        gone = before - self._keys_beside(owners)
        orphans: dict[str, list[str]] = {}
        for key in self._still_stored(pages):
            orphans.setdefault(session_beside(key) or "", []).append(key)
        if orphans and self._backend.settle:
            time.sleep(self._backend.settle)  # another process may be about to commit the head that names them
        for session_id, keys in orphans.items():
            unneeded = forks.unreferenced(self._backend.storage, session_id, None, keys)
            if unneeded and forks.drop(self._backend.storage, session_id, None, unneeded):
                gone.update(unneeded)
        self._count(gone)
        self._unlisted.update(gone)

    def result(self) -> Erasure:
        """Return the record of what was erased."""
        references = (key for key in self._keys_beside(self._ids) if key.startswith("forks/"))
        shared = {parts_of_reference(key)[1] for key in references}
        return Erasure(
            sorted(self._ids),
            self._erased["messages"],
            self._erased["forks"],
            self._erased["unreadable"],
            sorted(shared | self._copies),
            sorted(self._unlisted),
            sorted(self._unknown),
            self._states,
        )

    # Keys --------------------------------------------------------------------------------------------------------

    def _keys_beside(self, session_ids: Collection[str]) -> set[str]:
        return set(keys_beside(self._backend.storage, session_ids)) if session_ids else set()

    def _references_of(self, session_ids: set[str]) -> set[str]:
        """Return the references of forks whose damaged heads cannot say which pages they share. Reads all keys."""
        keys = self._backend.storage.keys("forks/")
        return {key for key in keys if session_beside(key) and parts_of_reference(key)[1] in session_ids}

    def _is_of_fork(self, key: str) -> bool:
        """Return whether a key is that of a reference of an erased session."""
        return key.startswith("forks/") and parts_of_reference(key)[1] in self._ids

    def _still_stored(self, keys: Iterable[str]) -> list[str]:
        return [key for batch in batches(keys) for key in self._backend.storage.read(batch)]

    def _erase_dead_references(self, references: list[str]) -> None:
        """Remove those of *references* whose forks are gone, and the pages that only these named.

        A reference of another user's fork that was set aside stays, for whoever repairs that fork.
        """
        gone = [key for batch in batches(references) for key in forks.dead_references(self._backend, batch)]
        of_others = [each for each in gone if parts_of_reference(each)[1] not in self._ids]
        if of_others and self._backend.settle_forks:
            time.sleep(self._backend.settle_forks)  # another process may be about to write the fork's head
            gone = [key for batch in batches(gone) for key in forks.dead_references(self._backend, batch)]
        forked = {parts_of_reference(key)[1] for key in of_others}
        aside = {session_beside(key) for key in self._keys_beside(forked) if is_aside(key)}
        for key in gone:
            owner, fork, _ = parts_of_reference(key)
            if fork not in aside:
                forks.free_pages(self._backend, owner, [key])

    def _drop(self, session_id: str, keys: list[str]) -> None:
        until_done(
            self._backend,
            session_id,
            lambda: forks.drop(self._backend.storage, session_id, self._backend.head(session_id), keys) or None,
        )

    def _count(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._erased[key.partition("/")[0]] += 1
