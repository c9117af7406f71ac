"""Sessions that share sealed pages: how they are stored, and what frees a page when the last that names it goes.

A fork's head names pages of other sessions as it names its own. With their owner it leaves a *reference*, a document
that says which. A page stays while the owner's head or a reference names it.

Who shares pages first leaves a reference, then looks whether the head that it read still names them, and only then
writes its own head. Who lets pages go first removes what named them, a head or a reference, then looks who else does.
So of two at the same time one sees the other, without a transaction. A crash in between leaves pages or references that
serve nobody; `upkeep.verify` finds them. The owner's head is marked ``forked`` before the first reference: a save of
such a session removes no page unseen, and one of any other need not look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.documents.keys import (
    head_key,
    is_page,
    is_reference,
    page_keys,
    page_prefix,
    parts_of_reference,
    reference_key,
    reference_prefix,
)
from pyai_sessions.documents.listed import listings_of, lists_of, session_listed
from pyai_sessions.documents.reading import (
    read_head,
    stamp_of_value,
)
from pyai_sessions.documents.references import read_reference, write_reference
from pyai_sessions.documents.writing import Draft, amend
from pyai_sessions.errors import InvalidDocumentError, SessionExistsError
from pyai_sessions.model.heads import (
    Head,
    Run,
    StoredHead,
    extent,
    extents,
    named_runs,
    owners_of,
)
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import LONGER, Backend
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.loading import MISSING, Attempts
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.sessions.writers import turn_key
from pyai_sessions.storage.protocol import Change, Listing, Storage
from pyai_sessions.values.checks import Clock
from pyai_sessions.values.tokens import new_token

# Sharing ------------------------------------------------------------------------------------------------------------


def store(backend: Backend, draft: Draft, shared: Sequence[Run], parent: StoredHead) -> bool:
    """Store the draft of a fork of *parent* with the pages that they share; False where *parent* was changed meanwhile.

    Raises:
        SessionExistsError: Its id is taken.

    """
    fork = draft.stored.head
    owners = {run.owner for run in shared}
    if parent.head.session_id in owners and parent.head.forked is not True:
        mark = amend(parent, forked=True)
        if not backend.commit(mark):
            return False
    pages = extents(shared)
    references = {reference_key(each, fork.session_id, fork.incarnation): each for each in owners}
    for key, owner in references.items():
        put_reference(backend.storage, key, pages[owner], draft.time_left)
    named = not owners or _names(backend.head(parent.head.session_id), parent.head, shared)
    if named and backend.commit(draft):
        return True
    for key, owner in references.items():
        free_pages(backend, owner, reference=key)
    if named:
        raise SessionExistsError(fork.session_id)
    return False


def put_reference(storage: Storage, key: str, pages: Mapping[str, int], time_left: int | None) -> None:
    """Store a reference to so many pages of each generation where they lie, whether or not their owner's head is there.

    The storage then keeps what lies there for at least *time_left* milliseconds; None keeps it for ever.
    """
    lives = None if time_left is None else time_left + LONGER
    storage.write([Change(put=[(key, write_reference(pages))], lives=lives)])


def _names(value: object | None, head: Head, runs: Iterable[Run]) -> bool:
    """Return whether a session still has the history of its former *head*, and names all pages of *runs*."""
    try:
        now = None if value is None else read_head(value, head.session_id).head
    except InvalidDocumentError:
        return False
    found = extents(named_runs(now)) if now is not None and now.edition == head.edition else {}
    return all(found.get(run.owner, {}).get(run.generation, 0) >= run.pages for run in runs)


# Letting go ---------------------------------------------------------------------------------------------------------


def may_leave_shared(before: StoredHead | None, draft: Draft) -> bool:
    """Return whether a save of what was *before* may leave pages that are shared.

    Only a rewritten history does, or a branch that was forgotten.
    """
    now = draft.stored.head
    if before is None or (before.head.edition, before.head.branches) == (now.edition, now.branches):
        return False
    return before.is_forked or bool(owners_of(named_runs(before.head), draft.session_id))


def free_shared(backend: Backend, before: StoredHead | None, draft: Draft) -> None:
    """Free what a session named *before* a draft of it was stored, and no longer names, if it may be shared."""
    if before is None or not may_leave_shared(before, draft):
        return
    for owner in set(owners_of(named_runs(before.head), draft.session_id)).difference(draft.owners):
        free_pages(backend, owner, reference=reference_key(owner, draft.session_id, draft.stored.head.incarnation))
    if before.is_forked:
        left = pages_there(backend.storage, [run for run in named_runs(before.head) if run.owner == draft.session_id])
        free_pages(backend, draft.session_id, keys=left)


def remove(backend: Backend, session_id: str, value: object) -> bool:
    """Delete the session whose head is *value*, with the pages that nobody else names; False where it was changed.

    A client that lost the reply to a command sends it
    again, and is then told that the session is not there. So a session that is gone by then counts as deleted here, and
    what only it named is removed, whoever deleted its head.
    """
    try:
        stored = read_head(value, session_id)
    except InvalidDocumentError:  # nothing says which pages it named, of whom, or how it is listed
        keys = [each for each in backend.storage.keys(page_prefix(session_id)) if is_page(each, session_id)]
        found = indexes.listings(backend.storage) if backend.storage.paged else ()  # else they follow from the store
        listed = (each for each in found if session_listed(*each[:2]) == session_id)
        removed = _remove_head(backend, session_id, [], [], [Listing(*each, None) for each in listed])
        free_pages(backend, session_id, keys=keys)
        return removed or backend.head(session_id) is None
    runs, incarnation, is_forked = named_runs(stored.head), stored.head.incarnation, stored.head.forked is True
    own = [run for run in runs if run.owner == session_id]
    expect, runs_now = [(head_key(session_id), stored.stamp)], [] if is_forked else own
    if not _remove_head(backend, session_id, expect, runs_now, listings_of(stored.entry, None)):
        if _lives(backend, session_id, incarnation):
            return False
        indexes.mend(backend, session_id, [each[:2] for each in lists_of(stored.entry)])
        if not is_forked:  # the deletion of its head was cut short, perhaps
            free_pages(backend, session_id, keys=pages_there(backend.storage, own))
    if is_forked:  # perhaps by itself: it was created anew from a fork of its former self
        reference = reference_key(session_id, session_id, incarnation)
        free_pages(backend, session_id, reference=reference, keys=pages_there(backend.storage, own))
    for owner in owners_of(runs, session_id):
        free_pages(backend, owner, reference=reference_key(owner, session_id, incarnation))
    return True


def _remove_head(
    backend: Backend,
    session_id: str,
    expect: Sequence[tuple[str, str]],
    runs: Sequence[Run],
    lists: Sequence[Listing],
) -> bool:
    """Delete a session's head, then *runs*, pages of its own: what is left of their generations may go with them."""
    drop = [head_key(session_id)]
    if backend.storage.ordered:
        drop += [f"{page_prefix(session_id)}{each}/" for each in dict.fromkeys(run.generation for run in runs)]
    else:
        drop += pages_there(backend.storage, runs)
    if backend.writers is not None:
        drop.append(turn_key(session_id))
    return backend.storage.write([Change(expect, drop=drop, lists=lists)])[0]


def purge(backend: Backend, session_id: str, value: object | None, clock: Clock) -> bool:
    """Remove a session with all that belongs to it if it has expired, and *value* is its head still."""
    return has_expired(value, session_id, clock) and remove(backend, session_id, value)


def _lives(backend: Backend, session_id: str, incarnation: str) -> bool:
    """Return whether a session is still there: not deleted, nor deleted and created anew under its id."""
    value = backend.head(session_id)
    try:
        return value is not None and read_head(value, session_id).head.incarnation == incarnation
    except InvalidDocumentError:
        return True


def free_pages(backend: Backend, owner: str, *, reference: str | None = None, keys: Iterable[str] = ()) -> None:
    """Remove a reference to an owner's pages; then, of *keys* and what it named, the pages that nothing names now."""
    pages = set(keys)
    if reference is not None:
        pages.update(_pages_of(backend, owner, reference))
        backend.storage.write([Change(drop=[reference])])
    if not pages:
        return
    attempts = Attempts(backend, owner)
    for _ in attempts:
        with attempts.exclusive():
            value = backend.head(owner)
            unneeded = unreferenced(backend.storage, owner, value, pages)
            done = not unneeded or drop(backend.storage, owner, value, unneeded)
        if done:
            return


def drop(storage: Storage, session_id: str, value: object | None, keys: Sequence[str]) -> bool:
    """Remove documents that lie beside a session's head, if that is *value* still; else return False."""
    return storage.write([Change([(head_key(session_id), stamp_of_value(value))], drop=keys)])[0]


def leave_parent(backend: Backend, session_id: str, owner: str) -> None:
    """Give a session its own copy of the pages that it shares with *owner*, and let these go. Its content stays."""
    attempts = Attempts(backend, session_id)
    for _ in attempts:
        with attempts.exclusive():
            value = backend.head(session_id)
            head = None if value is None else read_head(value, session_id)
            names = {} if head is None else extent(named_runs(head.head), owner)
            if head is None or owner == session_id or not names:
                return
            draft = _left_parent(backend, head, owner, {each: new_token(6) for each in names}, names)
            done = backend.commit(draft)
            if done:
                free_pages(backend, owner, reference=reference_key(owner, session_id, head.head.incarnation))
        if done:
            return


def _left_parent(
    backend: Backend, stored: StoredHead, owner: str, names: Mapping[str, str], counts: Mapping[str, int]
) -> Draft:
    """Return what stores a session with copies of an owner's pages, in generations of other *names*."""
    head, pages = stored.head, dict[str, bytes]()
    for generation, count in counts.items():
        keys = page_keys([Run(owner, generation, count, 0)])
        made = page_keys([Run(head.session_id, names[generation], count, 0)])
        found = backend.storage.read(keys)
        for key, copy in zip(keys, made, strict=True):
            text = text_of(found.get(key))
            if text is None:
                raise InvalidDocumentError(key, head.session_id, None, MISSING)
            pages[copy] = text

    def own(runs: Sequence[Run]) -> tuple[Run, ...]:
        shared = [run.owner == owner and run.generation in names for run in runs]
        return tuple(
            Run(head.session_id, names[run.generation], run.pages, run.messages) if each else run
            for run, each in zip(runs, shared, strict=True)
        )

    sealed = own(head.sealed)
    if sealed and sealed[-1] != head.sealed[-1]:  # what comes next must not go on in the copy: a branch may name more
        sealed = (*sealed, Run(head.session_id, new_token(6), 0, 0))
    branches = tuple(msgspec.structs.replace(each, sealed=own(each.sealed)) for each in head.branches or ())
    return amend(stored, pages=pages, sealed=sealed, branches=branches or UNSET)


def _pages_of(backend: Backend, owner: str, reference: str) -> list[str]:
    text = backend.storage.read([reference]).get(reference)
    try:
        pages = {} if text is None else read_reference(text, reference)
    except InvalidDocumentError:
        return []
    return pages_there(backend.storage, [Run(owner, generation, count, 0) for generation, count in pages.items()])


def unreferenced(storage: Storage, owner: str, value: object | None, keys: Iterable[str]) -> list[str]:
    """Return which of an owner's pages neither its head, which is *value*, nor a reference names.

    None of them where one of these cannot be read. The references are read after the head, and only if need be.
    """
    try:
        named = {} if value is None else extent(named_runs(read_head(value, owner).head), owner)
        left = _beyond(named, keys)
        for key, text in _references(storage, owner).items() if left else ():
            left = _beyond(read_reference(text, key), left) if is_reference(key, owner) else left
    except InvalidDocumentError:
        return []
    return sorted(left)


def _references(storage: Storage, owner: str) -> dict[str, object]:
    prefix = reference_prefix(owner)
    if storage.ordered:
        return storage.read([prefix])
    with storage.exclusive():
        return storage.read(list(storage.keys(prefix)))


def _beyond(named: Mapping[str, int], keys: Iterable[str]) -> list[str]:
    left: list[str] = []
    for key in keys:
        generation, number = key.rsplit("/", 2)[1:]
        if int(number) >= named.get(generation, 0):
            left.append(key)
    return left


# Upkeep -------------------------------------------------------------------------------------------------------------


class MissingPage(NamedTuple):
    """A reference that is missing, cannot be read, or names too little, and what it should say."""

    key: str
    pages: Mapping[str, int]


def missing_of_parents(storage: Storage, stored: StoredHead) -> list[MissingPage]:
    """Return the references that a session should have left with the owners of pages that it names, and has not."""
    head = stored.head
    wanted = [
        MissingPage(reference_key(owner, head.session_id, head.incarnation), pages)
        for owner, pages in extents(named_runs(head)).items()
        if owner != head.session_id
    ]
    there = storage.read([each.key for each in wanted]) if wanted else {}
    found: list[MissingPage] = []
    for each in wanted:
        text = there.get(each.key)
        try:
            named = {} if text is None else read_reference(text, each.key)
        except InvalidDocumentError:
            named = {}
        if any(named.get(generation, 0) < count for generation, count in each.pages.items()):
            found.append(each)
    return found


def dead_references(backend: Backend, references: Sequence[str]) -> list[str]:
    """Return those of *references* whose fork is gone, or names no page of the owner any more."""
    by_fork: dict[str, list[str]] = {}
    for key in references:
        by_fork.setdefault(parts_of_reference(key)[1], []).append(key)
    found: list[str] = []
    heads = backend.heads(by_fork)
    for fork, keys in by_fork.items():
        value = heads.get(fork)
        try:
            head = None if value is None else read_head(value, fork).head
        except InvalidDocumentError:
            continue  # it may be the one
        owners = {run.owner for run in named_runs(head)} if head else set[str]()
        for key in keys:
            owner, _, incarnation = parts_of_reference(key)
            if head is None or head.incarnation != incarnation or owner not in owners:
                found.append(key)
    there = backend.storage.read(found) if found else {}
    return [key for key in found if key in there]
