"""`SharedState`: the state that all sessions of a user, or of the application, share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


class SharedState(dict[str, Any]):
    """The state of a user or of the application, as it was read: a dict. Changing it does not change what is stored.

    As JSON it is the state alone. To pass it through a web client, send its revision too.

    Attributes:
        revision: The opaque revision that was read or written; "" if nothing is stored. Give it to an update as
            ``if_revision`` to write only if nobody else has since.
        expires_at: When the state expires, in UTC; None if it does not.

    >>> from pyai_sessions import SessionManager
    >>> manager = SessionManager()
    >>> state = manager.user_state("ada")
    >>> state, state.revision
    ({}, '')

    """

    def __init__(self, state: Mapping[str, Any] = {}, revision: str = "", expires_at: datetime | None = None) -> None:
        super().__init__(state)
        self.revision = revision
        self.expires_at = expires_at
