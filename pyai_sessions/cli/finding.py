"""Conversations that have what is looked for: for the browser and for agents."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from pyai_sessions.cli.listing import summaries

if TYPE_CHECKING:
    from pyai_sessions import SessionManager

_MOST = 200


def found_ids(manager: SessionManager, text: str, user_id: str | None = None, *, typing: bool = False) -> list[str]:
    """Return the ids of the sessions that have words in their messages, best first, then those that have them as title.

    While a person is still *typing*, the last word may go on.
    """
    from pyai_sessions import ANYONE, InvalidValueError

    text = text.strip()
    whose: Any = ANYONE if user_id is None else user_id
    query = f"{text}*" if typing and text[-1:].isalnum() else text
    options: dict[str, Any] = {"order": "best", "one_per_session": True, "limit": _MOST, "skip_invalid": True}
    try:
        hits = [each.session_id for each in manager.search(query, whose, **options)]
    except InvalidValueError:  # half of a query, such as a quote that is still open
        hits = []
    titled = summaries(manager, user=user_id, title=text, on_damage=lambda: None)
    return list(dict.fromkeys([*hits, *(each.session_id for each in islice(titled, _MOST))]))
