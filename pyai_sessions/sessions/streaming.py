"""A message that is stored while it grows: what is stored of it, and when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pyai_sessions.errors import InvalidValueError, SessionStateError
from pyai_sessions.sessions.engine import Engine
from pyai_sessions.sessions.updating import Update
from pyai_sessions.values.checks import kind_of, shown
from pyai_sessions.values.messages import CUT_OFF, GROWING, Message, replaced

_LONGEST = 24 * 3600


class Growing:
    """A message that grows, and where it is stored.

    It is appended with its first piece, and replaced in its place from then on. Each time it says until when its writer
    will have stored more of it: after that time, it counts as cut off.

    Args:
        engine: Stores it.
        session_id: The session to which it is appended.
        user_id: Whose session it must be; None: of anyone.
        fields: The fields of the message but its content.
        every: Seconds between two stores, at the least.
        patience: Seconds after the last store until the message counts as cut off.

    Attributes:
        message: It, as it was last stored; None before the first piece.

    """

    def __init__(
        self,
        engine: Engine,
        session_id: str,
        user_id: str | None,
        fields: dict[str, Any],
        *,
        every: float,
        patience: float,
    ) -> None:
        self.message: Message | None = None
        self.session_id = session_id
        self.is_finished = False
        self._engine = engine
        self._user_id = user_id
        self._fields = fields
        self._every = timedelta(seconds=_seconds(every, "every", 0))
        self._patience = timedelta(seconds=_seconds(patience, "patience", every))
        self._pieces: list[str] = []
        self._stored_at = engine.terms.clock()

    @property
    def content(self) -> str:
        """The text so far, stored or not."""
        return "".join(self._pieces)

    def add(self, piece: str) -> bool:
        """Take a piece of text; return whether it is time to store the message."""
        if self.is_finished:
            raise SessionStateError(self.session_id, "has the whole message already: it was finished")
        if not isinstance(piece, str):
            raise InvalidValueError("piece", f"is {kind_of(piece)}; it is text")
        if not piece:
            return False
        self._pieces.append(piece)
        return self.message is None or self._engine.terms.clock() - self._stored_at >= self._every

    def store(self) -> None:
        """Store the message as it is so far, marked as growing."""
        if self.is_finished or not self._pieces:
            return
        now = self._engine.terms.clock()
        self._put({}, {GROWING: (now + self._patience).isoformat().replace("+00:00", "Z")})
        self._stored_at = now

    def finish(self, changes: Mapping[str, Any]) -> None:
        """Store the message as a whole one, with these other fields; where it has nothing, it is not stored."""
        if not self.is_finished and (self._pieces or changes or self.message):
            self._put(changes, {})
        self.is_finished = True

    def cut_off(self) -> None:
        """Store what there is of the message as cut off."""
        if not self.is_finished and self._pieces:
            self._put({}, {CUT_OFF: True})
        self.is_finished = True

    def _put(self, changes: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        made = {"content": self.content, **changes}

        def grown(message: Message) -> Message:
            new = replaced(message, made)
            left = {key: each for key, each in new.unknown_fields.items() if key not in (GROWING, CUT_OFF)}
            object.__setattr__(new, "unknown_fields", {})
            new.keep_unknown({**left, **status})
            return new

        engine = self._engine
        if self.message is None:
            fields: dict[str, Any] = {"timestamp": engine.terms.clock(), **self._fields, **made}
            first = Message(**fields)
            first.keep_unknown(status)
            update = Update([first])
            engine.trips.alone(engine.updater.update(self.session_id, update, self._user_id, engine.terms))
            self.message = first
        else:
            self.message = engine.changer.replace(self.session_id, self.message.message_id, grown, self._user_id)


def _seconds(value: object, name: str, least: float) -> float:
    """Return *value* if it is a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= _LONGEST:
        raise InvalidValueError(name, f"is {shown(value)}; it is a number of seconds, {least} to {_LONGEST}")
    return value
