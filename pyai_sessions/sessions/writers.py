"""Turns of writers: a document that lets one writer at a time commit a session, if the storage has no locks."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from pyai_sessions.documents.envelopes import start_of
from pyai_sessions.documents.keys import encode_id, head_key
from pyai_sessions.storage.protocol import Change, Storage
from pyai_sessions.values.tokens import new_token

_LEASE = 1.0
"""Seconds after which a turn that was not ended is over, since its process may be gone."""


def turn_key(session_id: str) -> str:
    """Return the key of the document that says which writer's turn it is."""
    return f"turn/{encode_id(session_id)}"


class Writers:
    """Turns to write sessions. The writer whose turn it is puts a token beside the head; other commits are refused.

    Args:
        storage: Where the sessions are.
        timeout: Seconds that a writer waits for its turn.

    """

    def __init__(self, storage: Storage, timeout: float) -> None:
        self._storage = storage
        self._timeout = timeout
        self._mine = threading.local()

    @contextmanager
    def turn(self, session_id: str) -> Generator[None, None, None]:
        """Wait for the turn to write a session; then no other writer can commit until the block ends.

        If there is no turn in time, the block runs all the same: its commits are refused, and its caller raises.
        """
        token = f"{new_token(6)}/{int(1000 * min(_LEASE, self._timeout / 4))}"
        if not self._take(session_id, token):
            yield
            return
        self._mine.turn = session_id, token
        try:
            yield
        finally:
            ended = not self.token_of(session_id)
            self.end()
            if not ended:
                key = turn_key(session_id)
                self._storage.write([Change(expect=[(key, token)], drop=[key])])

    def _take(self, session_id: str, token: str) -> bool:
        """Wait for a turn, and return whether it was taken: not if the session is gone, nor after the timeout."""
        key, head = turn_key(session_id), head_key(session_id)
        take = Change(expect=[(key, None), (head, "")], done=token, put=[(key, token.encode())])
        deadline = time.monotonic() + self._timeout
        seen, since = "", 0.0
        while not self._storage.write([take])[0]:
            found, now = self._storage.read([key, head]), time.monotonic()
            other = start_of(found.get(key))
            if other != seen:
                seen, since = other, now
            elif other and now - since > _lease_of(other):
                self._storage.write([Change(expect=[(key, other)], drop=[key])])
            if head not in found or now > deadline:
                return False
            time.sleep(random.uniform(0, 0.005))  # noqa: S311 (it keeps competing writers apart, not secrets)
        return True

    def token_of(self, session_id: str) -> str:
        """Return the token of this thread's turn to write a session; "" if it has none."""
        turn: tuple[str, str] | None = getattr(self._mine, "turn", None)
        return turn[1] if turn and turn[0] == session_id else ""

    def end(self) -> None:
        """Forget this thread's turn: its commit has removed the token."""
        self._mine.turn = None


def _lease_of(token: str) -> float:
    """Return after how many seconds a turn is over that its writer has not ended, as its token says."""
    milliseconds = token.rpartition("/")[2]
    return int(milliseconds) / 1000 if re.fullmatch("[0-9]{1,7}", milliseconds) else 0.0
