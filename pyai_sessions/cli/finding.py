"""Conversations that have what a person types: for the browser."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from pyai_sessions.cli.listing import summaries

if TYPE_CHECKING:
    from pyai_sessions import SessionManager

_MOST = 200


def found_ids(manager: SessionManager, text: str) -> list[str]:
    """Return the ids of the sessions that have words in their messages, best first, then those that have them as title.

    The last word may go on: a person is still typing it.
    """
    from pyai_sessions import InvalidValueError

    text = text.strip()
    query = f"{text}*" if text[-1:].isalnum() else text
    options: dict[str, Any] = {"order": "best", "one_per_session": True, "limit": _MOST, "skip_invalid": True}
    try:
        hits = [each.session_id for each in manager.search(query, **options)]
    except InvalidValueError:  # half of a query, such as a quote that is still open
        hits = []
    titled = summaries(manager, title=text, on_damage=lambda: None)
    return list(dict.fromkeys([*hits, *(each.session_id for each in islice(titled, _MOST))]))
