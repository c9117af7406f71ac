"""Removing a session: its head, its pages that no fork needs, and its list entries."""

from __future__ import annotations

from collections.abc import Sequence

from pyai_sessions.documents.keys import head_key, is_page, page_prefix, reference_key
from pyai_sessions.documents.listed import listings_of, lists_of, session_listed
from pyai_sessions.documents.reading import read_head
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import Run, named_runs, owners_of
from pyai_sessions.sessions import indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.sessions.expiry import has_expired
from pyai_sessions.sessions.forks import free_pages
from pyai_sessions.sessions.pages import pages_there
from pyai_sessions.sessions.writers import turn_key
from pyai_sessions.storage.protocol import Change, Listing
from pyai_sessions.values.checks import Clock


def remove(backend: Backend, session_id: str, value: object) -> bool:
    """Delete the session whose head is *value*, and its pages, except those that a fork needs.

    Return False if it was changed meanwhile. A session that is gone by then counts as deleted, and its pages are
    removed: a client that lost the reply to a command sends it again, and then finds no session.
    """
    try:
        stored = read_head(value, session_id)
    except InvalidDocumentError:  # its pages and index entries are found by their names
        keys = [each for each in backend.storage.keys(page_prefix(session_id)) if is_page(each, session_id)]
        found = indexes.listings(backend.storage) if backend.storage.paged else ()  # a custom store has no entries
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
        if not is_forked:  # an interrupted deletion may have removed only the head
            free_pages(backend, session_id, keys=pages_there(backend.storage, own))
    if is_forked:  # perhaps by itself: a session that was created again from a fork of the former one
        reference = reference_key(session_id, session_id, incarnation)
        free_pages(backend, session_id, [reference], keys=pages_there(backend.storage, own))
    for owner in owners_of(runs, session_id):
        free_pages(backend, owner, [reference_key(owner, session_id, incarnation)])
    return True


def _remove_head(
    backend: Backend,
    session_id: str,
    expect: Sequence[tuple[str, str]],
    runs: Sequence[Run],
    lists: Sequence[Listing],
) -> bool:
    """Delete a session's head, and then pages of its own: *runs*, or, if that is one step, their whole generations."""
    drop = [head_key(session_id)]
    if backend.storage.ordered:
        drop += [f"{page_prefix(session_id)}{each}/" for each in dict.fromkeys(run.generation for run in runs)]
    else:
        drop += pages_there(backend.storage, runs)
    if backend.writers is not None:
        drop.append(turn_key(session_id))
    return backend.storage.write([Change(expect, drop=drop, lists=lists)])[0]


def purge(backend: Backend, session_id: str, value: object | None, clock: Clock) -> bool:
    """Remove a session if it has expired and *value* still is its head. Return whether it was removed."""
    return has_expired(value, session_id, clock) and remove(backend, session_id, value)


def _lives(backend: Backend, session_id: str, incarnation: str) -> bool:
    """Return whether the session of this *incarnation* is still stored. Another one may have its id by now."""
    value = backend.head(session_id)
    try:
        return value is not None and read_head(value, session_id).head.incarnation == incarnation
    except InvalidDocumentError:
        return True
