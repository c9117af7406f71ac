"""Pages that several sessions share: storing a fork, and removing pages that no session needs any more.

The head of a fork names pages of other sessions, their *owners*. Beside the pages of each owner the fork stores a
*reference*, a document that says which pages it needs. A page is kept as long as its owner's head or a reference names
it.

No transaction spans two sessions, so the order of the steps keeps a page that is needed:

    a fork      writes the reference, then checks that the owner's head still names the pages, then writes its own head
    a removal   removes the head or the reference that named the pages, then reads what else names them, then removes
                the pages that nothing names

Whichever comes second sees what the other wrote. A crash between the steps leaves pages or references that nobody
needs; `verify` finds them. Before the first reference is written, the owner's head is marked ``forked``. A save of a
session without this mark removes its old pages without looking for references.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.documents.keys import (
    aside_prefix,
    head_key,
    is_reference,
    page_keys,
    parts_of_reference,
    reference_key,
    reference_prefix,
    session_beside,
    session_of_key,
)
from pyai_sessions.documents.listed import place_of_fork
from pyai_sessions.documents.reading import read_head, readable_head, stamp_of_value
from pyai_sessions.documents.references import read_reference, write_reference
from pyai_sessions.documents.writing import Draft, amend
from pyai_sessions.errors import InvalidDocumentError, SessionExistsError
from pyai_sessions.model.heads import Head, Run, StoredHead, extents, named_runs, owners_of, page_numbers, united
from pyai_sessions.sessions.attempts import until_done
from pyai_sessions.sessions.backend import LONGER, Backend
from pyai_sessions.sessions.expiry import expired_forks, listings_of_fork, unlistings_of_forks
from pyai_sessions.sessions.indexes import batches
from pyai_sessions.sessions.loading import MISSING
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.values.tokens import new_token

# Sharing ------------------------------------------------------------------------------------------------------------


def store(backend: Backend, draft: Draft, shared: Sequence[Run], parent: StoredHead) -> bool:
    """Store a fork of *parent*, which shares the pages *shared*. Return False if *parent* was changed meanwhile.

    Raises:
        SessionExistsError: There is a session of the fork's id.

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
        put_reference(backend.storage, key, pages[owner], draft.stored.entry.expires, draft.time_left)
    named = not owners or _names(backend.head(parent.head.session_id), parent.head, shared)
    if named and backend.commit(draft):
        return True
    for key, owner in references.items():
        free_pages(backend, owner, [key])
    if named:
        raise SessionExistsError(fork.session_id)
    return False


def put_reference(
    storage: Storage, key: str, pages: Mapping[str, int], expires: int | None, time_left: int | None
) -> None:
    """Store a reference. *pages* are the generations of pages that it names, each with the number of its pages.

    The owner may be deleted already. A storage that forgets by itself keeps the owner's pages for *time_left*
    milliseconds or longer; None: for ever. *expires* is the time at which the fork expires.
    """
    lives = None if time_left is None else time_left + LONGER
    lists = listings_of_fork(storage, key, expires)
    storage.write([Change(put=[(key, write_reference(pages))], lists=lists, lives=lives)])


def _names(value: object | None, head: Head, runs: Iterable[Run]) -> bool:
    """Return whether the head *value* has the same history as the former *head*, and names all pages of *runs*."""
    now = readable_head(value, head.session_id)
    found = page_numbers(named_runs(now.head)) if now is not None and now.head.edition == head.edition else {}
    return all(
        any(run.start in each and run.end - 1 in each for each in found.get((run.owner, run.generation), ()))
        for run in united(runs)
    )


# Removing -----------------------------------------------------------------------------------------------------------


def may_leave_shared(before: StoredHead | None, draft: Draft) -> bool:
    """Return whether a save may stop naming shared pages. *before* is what was stored before the save.

    Only a save that rewrites the history, or removes a branch, does so.
    """
    now = draft.stored.head
    if before is None or (before.head.edition, before.head.branches) == (now.edition, now.branches):
        return False
    return before.is_forked or bool(owners_of(named_runs(before.head), draft.session_id))


def free_shared(backend: Backend, before: StoredHead | None, draft: Draft) -> None:
    """Remove the shared pages and references that a session named *before* a save, and no longer names after it."""
    if before is not None and may_leave_shared(before, draft):
        free_left(backend, before, draft)


def free_left(backend: Backend, before: StoredHead, draft: Draft) -> None:
    """Remove the pages and references that a session named *before*, and no longer names, as `free_shared` does."""
    for owner in set(owners_of(named_runs(before.head), draft.session_id)).difference(draft.owners):
        free_pages(backend, owner, [reference_key(owner, draft.session_id, draft.stored.head.incarnation)])
    if before.is_forked:
        left = pages_there(backend.storage, [run for run in named_runs(before.head) if run.owner == draft.session_id])
        free_pages(backend, draft.session_id, keys=left)


def free_pages(backend: Backend, owner: str, references: Sequence[str] = (), *, keys: Iterable[str] = ()) -> None:
    """Remove *references* to pages of *owner*, and then those pages that they named, or *keys*, that are not needed.

    A page is needed if the owner's head or another reference names it.
    """
    pages = set(keys)
    if references:
        pages.update(_pages_of(backend, owner, references))
        backend.storage.write([Change(drop=references, lists=unlistings_of_forks(backend.storage, references))])
    if not pages:
        return

    def attempt() -> bool | None:
        value = backend.head(owner)
        unneeded = unreferenced(backend.storage, owner, value, pages)
        return not unneeded or drop(backend.storage, owner, value, unneeded) or None

    until_done(backend, owner, attempt)


def drop(storage: Storage, session_id: str, value: object | None, keys: Sequence[str]) -> bool:
    """Remove documents of a session if *value* still is its head. Return whether it is."""
    lists = unlistings_of_forks(storage, [each for each in keys if each.startswith("forks/")])
    return storage.write([Change([(head_key(session_id), stamp_of_value(value))], drop=keys, lists=lists)])[0]


def free_expired(backend: Backend, now: int, owner: str | None = None) -> None:
    """Remove what only forks kept that expired by *now*, and that the storage has removed with their heads.

    With *owner*, only what they kept of that session.
    """
    if not backend.storage.forgets:
        return
    if owner is None:
        due = backend.expiry.due_forks(now)
    else:
        keys = [each for each in _references(backend.storage, owner) if is_reference(each, owner)]
        due = iter([expired_forks(backend.storage, keys, now)])
    for references in due:
        gone = {key: parts_of_reference(key) for key in _without_fork(backend, references)}
        prefixes = [aside_prefix(fork) for fork in dict.fromkeys(fork for _, fork, _ in gone.values())]
        aside = set(map(session_beside, backend.storage.read(prefixes) if prefixes else ()))
        by_owner: dict[str, list[str]] = {}
        for key, (of, fork, _) in gone.items():
            if fork not in aside:  # else someone may repair it by hand, and then needs the pages
                by_owner.setdefault(of, []).append(key)
        for each, dead in by_owner.items():
            free_pages(backend, each, dead)


def leave_parent(backend: Backend, session_id: str, owner: str) -> None:
    """Copy the pages of *owner* that a session shares, so that it no longer needs them. Its content stays the same."""

    def attempt() -> bool | None:
        value = backend.head(session_id)
        stored = None if value is None else read_head(value, session_id)
        named = () if stored is None else named_runs(stored.head)
        shared = [run for run in named if run.owner == owner and run.pages]
        if stored is None or owner == session_id or not shared:
            return False
        if not backend.commit(_with_own_pages(backend, stored, owner, shared)):
            return None
        free_pages(backend, owner, [reference_key(owner, session_id, stored.head.incarnation)])
        return True

    until_done(backend, session_id, attempt)


def _with_own_pages(backend: Backend, stored: StoredHead, owner: str, shared: Sequence[Run]) -> Draft:
    """Return a draft in which a session has copies of the pages *shared* of *owner*."""
    head, pages = stored.head, dict[str, bytes]()
    names = {each: new_token(6) for each in dict.fromkeys(run.generation for run in shared)}
    for run in shared:
        keys = page_keys([run])
        made = page_keys([msgspec.structs.replace(run, owner=head.session_id, generation=names[run.generation])])
        found = backend.storage.read(keys)
        for key, copy in zip(keys, made, strict=True):
            text = text_of(found.get(key))
            if text is None:
                raise InvalidDocumentError(key, head.session_id, None, MISSING)
            pages[copy] = text

    def own(runs: Sequence[Run]) -> tuple[Run, ...]:
        return tuple(
            msgspec.structs.replace(run, owner=head.session_id, generation=names[run.generation])
            if run.owner == owner and run.generation in names
            else run
            for run in runs
        )

    sealed = own(head.sealed)
    if sealed and sealed[-1] != head.sealed[-1]:  # new pages must not follow the copy: a branch may name more of it
        sealed = (*sealed, Run(head.session_id, new_token(6), 0, 0))
    branches = tuple(msgspec.structs.replace(each, sealed=own(each.sealed)) for each in head.branches or ())
    return amend(stored, pages=pages, sealed=sealed, branches=branches or UNSET)


def _pages_of(backend: Backend, owner: str, references: Sequence[str]) -> list[str]:
    """Return the keys of the pages that stored references name; one that is missing or cannot be read names none."""
    pages: dict[str, int] = {}
    for key, text in backend.storage.read(references).items():
        with suppress(InvalidDocumentError):
            for generation, count in read_reference(text, key).items():
                pages[generation] = max(count, pages.get(generation, 0))
    return pages_there(backend.storage, [Run(owner, generation, count, 0) for generation, count in pages.items()])


def unreferenced(storage: Storage, owner: str, value: object | None, keys: Iterable[str]) -> list[str]:
    """Return those of *keys*, pages of *owner*, that neither its head *value* nor a reference names.

    If one of these cannot be read, it may name any page, so the result is empty. References are read after the head,
    and only if there are pages that the head does not name.
    """
    try:
        named = {} if value is None else page_numbers(named_runs(read_head(value, owner).head))
        left = _not_among(named, owner, keys)
        for key, text in _references(storage, owner).items() if left else ():
            if is_reference(key, owner):
                named = {(owner, each): [range(n)] for each, n in read_reference(text, key).items()}
                left = _not_among(named, owner, left)
    except InvalidDocumentError:
        return []
    return sorted(left)


def _references(storage: Storage, owner: str) -> dict[str, object]:
    """Return all references to pages of *owner*, as they are at one moment."""
    prefix = reference_prefix(owner)
    if storage.ordered:
        return storage.read([prefix])
    with storage.exclusive():
        return storage.read(list(storage.keys(prefix)))


def _not_among(named: Mapping[tuple[str, str], Sequence[range]], owner: str, keys: Iterable[str]) -> list[str]:
    """Return the *keys* of pages of *owner* that *named*, the numbers of pages by generation, lacks."""
    parts = ((key, *key.rsplit("/", 2)[1:]) for key in keys)
    return [key for key, of, number in parts if not any(int(number) in each for each in named.get((owner, of), ()))]


# Upkeep -------------------------------------------------------------------------------------------------------------


def relist(backend: Backend) -> None:
    """Write the missing list entries of references whose forks expire: by these, `free_expired` finds them."""
    if not backend.storage.forgets:
        return
    for keys in batches(each for each in backend.storage.keys("forks/") if session_of_key(each) is not None):
        heads = backend.heads({parts_of_reference(each)[1] for each in keys})
        held = {each[:2] for each in backend.storage.listings([place_of_fork(each) for each in keys])}
        for key in keys:
            _, fork, incarnation = parts_of_reference(key)
            stored = readable_head(heads.get(fork), fork)
            if stored is None or stored.head.incarnation != incarnation or place_of_fork(key) in held:
                continue
            lists = listings_of_fork(backend.storage, key, stored.entry.expires)
            if lists:
                backend.storage.write([Change(expect=[(key, "")], lists=lists)])


class MissingReference(NamedTuple):
    """The key of a reference that is missing, damaged, or names too few pages; and the pages that it should name."""

    key: str
    pages: Mapping[str, int]


def missing_of_parents(storage: Storage, stored: StoredHead) -> list[MissingReference]:
    """Return the references that a session needs, because its head names pages of other sessions, and does not have."""
    head = stored.head
    wanted = [
        MissingReference(reference_key(owner, head.session_id, head.incarnation), pages)
        for owner, pages in extents(named_runs(head)).items()
        if owner != head.session_id
    ]
    there = storage.read([each.key for each in wanted]) if wanted else {}
    found: list[MissingReference] = []
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
    """Return those of *references* whose fork is deleted, or no longer names a page of the owner."""
    found = _without_fork(backend, references)
    there = backend.storage.read(found) if found else {}
    return [key for key in found if key in there]


def _without_fork(backend: Backend, references: Sequence[str]) -> list[str]:
    """Return likewise those of *references*, stored or not."""
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
            continue  # it may name pages of the owner
        owners = {run.owner for run in named_runs(head)} if head else set[str]()
        for key in keys:
            owner, _, incarnation = parts_of_reference(key)
            if head is None or head.incarnation != incarnation or owner not in owners:
                found.append(key)
    return found
