"""Conversations that have what is looked for: for the browser and for agents."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pyai_sessions.cli.listing import summaries

if TYPE_CHECKING:
    from pyai_sessions import SessionManager

_LOOKED_AT = 10_000


def found_ids(manager: SessionManager, text: str, user_id: str | None = None) -> set[str]:
    """Return the ids of the sessions whose title has a text, in any case."""
    found = summaries(manager, user=user_id, title=text.strip(), on_damage=lambda: None)
    return {each.session_id for each in islice(found, _LOOKED_AT)}
