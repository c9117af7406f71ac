"""Conversations that have what a person types: for the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from pyai_sessions.cli.listing import summaries

if TYPE_CHECKING:
    from pyai_sessions import SessionManager, SessionSummary

_MOST = 200


def found_ids(manager: SessionManager, text: str, progress: Callable[[int], object]) -> list[str]:
    """Return the ids of the sessions that have words in their messages, best first, then those that have them as title.

    The last word may go on: a person is still typing it. *progress* is called from time to time with how many sessions
    were looked at; what it raises ends the search.
    """
    from pyai_sessions import InvalidValueError

    text = text.strip()
    query = f"{text}*" if text[-1:].isalnum() else text
    options: dict[str, Any] = {
        "order": "best",
        "one_per_session": True,
        "limit": _MOST,
        "skip_invalid": True,
        "progress": progress,
    }
    try:
        hits = [each.session_id for each in manager.search(query, **options)]
    except InvalidValueError:  # half of a query, such as a quote that is still open
        hits = []
    wanted = text.casefold()
    titled = (each.session_id for each in newest(manager, progress) if wanted in (each.title or "").casefold())
    return list(dict.fromkeys([*hits, *islice(titled, _MOST)]))


def newest(manager: SessionManager, progress: Callable[[int], object]) -> Iterator[SessionSummary]:
    """Iterate over the active sessions, latest activity first. *progress* is as that of `found_ids`."""
    for number, each in enumerate(summaries(manager, on_damage=lambda: None)):
        progress(number)
        yield each
