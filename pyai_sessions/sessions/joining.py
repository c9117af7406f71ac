"""Joining the runs of a head that names its pages in many pieces, so that the head does not grow with every change."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from pyai_sessions.documents.envelopes import text_of
from pyai_sessions.documents.keys import page_keys
from pyai_sessions.documents.pages import fresh_run, no_longer_named
from pyai_sessions.documents.writing import Draft, amend
from pyai_sessions.errors import StorageError
from pyai_sessions.model.heads import Run, StoredHead, branch_runs
from pyai_sessions.sessions import forks
from pyai_sessions.sessions.backend import Backend

MAX_RUNS = 64
"""A head that names more runs than this has some of them joined. A run takes about 100 bytes of the head."""

JOINED = 9
"""Runs that become one at a time. The change of a message adds two, so every fourth such change copies some pages."""

MAX_COPIED = 256
"""Pages that are copied at a time at most."""


def has_many_runs(stored: StoredHead) -> bool:
    """Return whether a head names so many runs that some are to be joined."""
    return len(stored.head.sealed) > MAX_RUNS


def join_runs(backend: Backend, stored: StoredHead) -> StoredHead | None:
    """Copy the pages of some adjacent runs into one run if a head names too many; return the new head, if it is stored.

    Messages, times and edition stay as they are. It is done after a change that is stored already, so a storage that
    fails, or a writer that is faster, only puts it off.
    """
    if not has_many_runs(stored):
        return None
    with suppress(StorageError):
        draft = _joined(backend, stored)
        if draft is not None and backend.commit(draft):
            forks.free_left(backend, stored, draft)
            return msgspec.structs.replace(draft.stored, last_message=stored.last_message)
    return None


def _joined(backend: Backend, stored: StoredHead) -> Draft | None:
    """Return the draft that joins the adjacent runs with the fewest pages. The last run, which goes on, stays."""
    head = stored.head
    runs = list(head.sealed)
    first = min(range(len(runs) - JOINED), key=lambda n: sum([run.pages for run in runs[n : n + JOINED]]))
    some, rest = runs[first : first + JOINED], runs[first + JOINED :]
    keys = page_keys(some)
    if len(keys) > MAX_COPIED:
        return None
    joined, messages = msgspec.structs.replace(fresh_run(stored), pages=len(keys)), sum([run.messages for run in some])
    counted = next((n for n, run in enumerate(rest) if run.messages), None)
    if counted is None:
        joined = msgspec.structs.replace(joined, messages=messages)
    else:  # the last of them may be a part of a run, whose messages are not counted before that run's last part
        rest[counted] = msgspec.structs.replace(rest[counted], messages=messages + rest[counted].messages)
    found, pages = backend.storage.read(keys), dict[str, bytes]()
    for key, copy in zip(keys, page_keys([joined]), strict=True):
        text = text_of(found.get(key))
        if text is None:  # another writer has changed the session, or it is damaged: a load tells
            return None
        pages[copy] = text
    sealed = (*runs[:first], joined, *rest)
    garbage, dropped = list[str](), tuple[str, ...]()
    if not stored.is_forked:
        garbage, dropped = no_longer_named(stored, [*sealed, *_of_branches(stored)])
    return amend(stored, active=False, pages=pages, sealed=sealed, garbage=garbage, dropped=dropped)


def _of_branches(stored: StoredHead) -> list[Run]:
    head = stored.head
    return [run for each in head.branches or () for run in branch_runs(head.session_id, each)]
