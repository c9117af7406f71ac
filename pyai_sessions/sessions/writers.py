"""Writers of one session, one at a time, where a storage cannot keep the others out: they take turns."""

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
"""Seconds, at the most, that a writer's turn lasts if it does not end it: its process may be gone."""


def turn_key(session_id: str) -> str:
    """Return the key of the document that says whose turn it is to write a session."""
    return f"turn/{encode_id(session_id)}"


class Writers:
    """Turns to write sessions. Who has one has put a token beside the session's head; commits of others are refused.

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
        """Let no other writer of a session commit meanwhile, as soon as it is this one's turn.

        Without one the block runs all the same: what it tries is then refused, and its caller says so.
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
        """Wait for a turn, and return whether there is one: not for a session that is gone, nor after the timeout."""
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
        """Return the token of this thread's turn to write a session; empty, where it has none."""
        turn: tuple[str, str] | None = getattr(self._mine, "turn", None)
        return turn[1] if turn and turn[0] == session_id else ""

    def end(self) -> None:
        """Note that this thread's turn is over: what it stored has removed its token."""
        self._mine.turn = None


def _lease_of(token: str) -> float:
    """Return for how many seconds a turn lasts that its writer does not end: its token says that."""
    milliseconds = token.rpartition("/")[2]
    return int(milliseconds) / 1000 if re.fullmatch("[0-9]{1,7}", milliseconds) else 0.0
