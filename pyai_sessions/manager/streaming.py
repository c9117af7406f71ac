"""Answers that are stored while a model says them."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any

from typing_extensions import Self

from pyai_sessions.errors import InvalidValueError, SessionError
from pyai_sessions.manager.face import Face
from pyai_sessions.sessions.engine import Engine
from pyai_sessions.sessions.streaming import Growing
from pyai_sessions.sessions.trips import mending
from pyai_sessions.values.checks import ANYONE, Anyone, check_user, existing_id
from pyai_sessions.values.json import converting
from pyai_sessions.values.messages import Message

_FIELDS = {"message_id", "metadata", "name", "timestamp"}


class MessageStream:
    """A message that `SessionManager.stream` stores while it grows. A ``with`` block ends it.

    Attributes:
        session_id: The session to which the message is appended.
        message: The message as it was last stored; None before the first piece.
        content: Its text so far, stored or not.

    """

    def __init__(self, growing: Growing, engine: Engine) -> None:
        self._growing = growing
        self._engine = engine

    @property
    def session_id(self) -> str:
        """The session to which the message is appended."""
        return self._growing.session_id

    @property
    def message(self) -> Message | None:
        """The message as it was last stored; None before the first piece."""
        return self._growing.message

    @property
    def content(self) -> str:
        """The text so far, stored or not."""
        return self._growing.content

    def write(self, piece: str) -> None:
        """Add a piece of text; store the message if it is the first one, or *every* seconds have passed.

        Raises:
            SessionNotFoundError: The session is not there, or was deleted meanwhile.
            SessionStateError: The message was finished, or was removed by another writer.

        """
        if self.add(piece):
            self.store()

    def add(self, piece: str) -> bool:
        """Add a piece of text, and store nothing yet; return whether it is time to."""
        return self._growing.add(piece)

    @mending
    def store(self) -> None:
        """Store the message as it is now, still growing: before a long pause, for example."""
        self._growing.store()

    @mending
    def finish(self, **changes: Any) -> None:
        """Store the whole message, with other fields of `Message` if you give some: ``tool_calls=``, ``metadata=``.

        The end of the ``with`` block does so by itself.
        """
        self._growing.finish(changes)

    @mending
    def cut_off(self) -> None:
        """Store what there is, as cut off: what an exception in the ``with`` block does."""
        self._growing.cut_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            with suppress(SessionError):  # the exception in the block says what went wrong
                self.cut_off()


class StreamsMessages(Face):
    """The part of `SessionManager` that stores a message while it grows."""

    def stream(
        self,
        session_id: str,
        *,
        role: str = "assistant",
        every: float = 1.0,
        patience: float = 60.0,
        user_id: str | Anyone = ANYONE,
        **fields: Any,
    ) -> MessageStream:
        """Return a message that is stored while a model says it: write its pieces in a ``with`` block.

        The first piece appends the message, and the end of the block stores the whole of it. In between it is stored
        when a piece comes and *every* seconds have passed since the last time. It stays one message, at one place:
        what others append meanwhile comes after. `get_messages` and `history` have its text as far as it was stored.

        An exception in the block stores what there is, as cut off, and goes on. A process that dies stores nothing:
        each time, the message says that more will come within *patience* seconds, and after that it counts as cut off.
        ``message.status`` tells: ``"growing"``, ``"cut off"``, or ``"complete"``. A model that pauses for longer than
        *patience* makes the message look cut off until its next piece.

        Where nothing is written, nothing is stored. Each time that the message is stored is a call of ``stream`` to
        ``on_event=``. Of tool calls only whole ones are stored: `MessageStream.finish`.
        Of the async manager, the block is an ``async with``, and `write` and `finish` are awaited.

        Args:
            session_id: The session.
            role: The message's role.
            every: Seconds between two stores at the least; 0 stores each piece.
            patience: Seconds until the message counts as cut off, *every* or more.
            user_id: Whose session it must be.
            fields: Other fields of `Message`, such as metadata.

        Raises:
            InvalidValueError: A field is none of a message, or cannot be stored.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> with manager.stream("s") as answer:
        ...     for piece in ("Hello, ", "Ada!"):
        ...         answer.write(piece)
        >>> manager.get_messages("s")[0].content
        'Hello, Ada!'

        """
        owner, session_id = check_user(user_id), existing_id(session_id)
        for name in fields.keys() - _FIELDS:
            problem = f"is no field that a streamed message begins with; these are {', '.join(sorted(_FIELDS))}"
            raise InvalidValueError(name, problem)
        with converting(self._default):
            given = vars(Message(role, "", **fields))
        first = {name: given[name] for name in ("role", *fields)}
        growing = Growing(self._engine, session_id, owner, first, every=every, patience=patience)
        return MessageStream(growing, self._engine)
