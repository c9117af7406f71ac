"""Clearing: removing all sessions and states of a store, and what is left of former ones."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pyai_sessions.documents.keys import head_key, session_of_key
from pyai_sessions.sessions import forks, indexes
from pyai_sessions.sessions.backend import Backend
from pyai_sessions.upkeep import shared_state


def clear(backend: Backend, delete: Callable[[str], bool]) -> int:
    """Remove all sessions and states; return how many sessions *delete* has deleted. Foreign documents are kept."""
    shared_state.clear(backend)
    deleted = sum(delete(each) for each in indexes.session_ids(backend.storage))
    for key in backend.storage.keys(""):
        session_id = session_of_key(key)
        if session_id is not None and key != head_key(session_id):
            forks.drop(backend.storage, session_id, None, [key])
    forks.free_expired(backend, sys.maxsize)  # all forks are gone
    for wrong in indexes.wrong_listings(backend):
        for session_id, places in wrong.items():
            indexes.mend(backend, session_id, places)
    return deleted
