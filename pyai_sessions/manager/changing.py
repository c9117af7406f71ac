"""What a manager changes of the messages of a session that is not loaded: one replaced or removed, or the last ones."""

from __future__ import annotations

from typing import Any

from pyai_sessions.errors import InvalidValueError
from pyai_sessions.manager.face import Face
from pyai_sessions.model.points import Branch, Checkpoint
from pyai_sessions.sessions.trips import mending
from pyai_sessions.values.checks import ANYONE, Anyone, check_user, existing_id
from pyai_sessions.values.json import converting
from pyai_sessions.values.messages import Message, fields_of, id_of, replaced


class ChangesMessages(Face):
    """The part of `SessionManager` that changes messages of a session that is not loaded."""

    @mending
    def replace_message(
        self, session_id: str, message_id: str | Message, /, *, user_id: str | Anyone = ANYONE, **changes: Any
    ) -> Message:
        """Put a changed copy in the place of a message, without loading the session; return the copy. The id stays.

        *changes* are fields of `Message`, as in `Session.replace_message`, which says what stays beside new *metadata*.
        Without any, *message_id* is a `Message` that takes the place of the one with its id. What stays the same is not
        written. Only the page that holds the message is written, however far back it lies. A change of metadata alone,
        such as a rating, moves no session in lists and prolongs no life.

        Others may append meanwhile, change other messages, or save a copy that they had loaded: all of it stays. Of two
        calls for one message both count, in turn. A copy in hand in which the same message was changed can no longer be
        saved (`SessionConflictError`). Branches and forks keep the message as it was; `redact` takes words out of all
        that is stored.

        Costs finding the message, see `get_messages`, and one commit. The whole session is read where the message
        instructs the model, or is the first question, and its content changes.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: It has no such message.
            SessionArchivedError: It is archived.
            InvalidValueError: JSON cannot hold a field.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> answer = session.add_message("assistant", "Hello!")
        >>> manager.save(session)
        >>> manager.replace_message("s", answer, metadata={"rating": 5}).metadata
        {'rating': 5}

        """
        owner, wanted = check_user(user_id), id_of(message_id, "message_id")
        if "message_id" in changes:
            raise InvalidValueError("message_id", "names the message to replace and cannot change")
        if not changes:
            if not isinstance(message_id, Message):
                problem = "is given without a change; give fields of the message, metadata={...}, or a whole Message"
                raise InvalidValueError("message_id", problem)
            changes = fields_of(message_id)

        def change(old: Message) -> Message:
            with converting(self._default):
                return replaced(old, changes)

        return self._engine.changer.replace(existing_id(session_id), wanted, change, owner)

    @mending
    def remove_message(self, session_id: str, message_id: str | Message, *, user_id: str | Anyone = ANYONE) -> Message:
        """Remove a message, without loading the session, and return it. Costs and errors are as in `replace_message`.

        What followed it stays where it lies. A call that raised a `StorageError` may have removed it: repeated, it may
        raise that there is no such message.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> typo = session.add_message("user", "Helo!")
        >>> manager.save(session)
        >>> manager.remove_message("s", typo).content
        'Helo!'

        """
        owner, wanted = check_user(user_id), id_of(message_id, "message_id")
        return self._engine.changer.remove(existing_id(session_id), wanted, owner)

    @mending
    def pop_message(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> Message:
        """Remove the last message, without loading the session, and return it: the last one when that is stored.

        Two callers remove two messages. One read and one commit. A call that raised a `StorageError` may have removed
        it: look at `get_messages` before you repeat it.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: It has no message.
            SessionArchivedError: It is archived.

        """
        return self._engine.changer.remove(existing_id(session_id), None, check_user(user_id))

    @mending
    def clear_messages(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Remove all messages, without loading them; metadata, state, title and branches stay. One read, one commit.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.

        """
        self._engine.changer.clear(existing_id(session_id), check_user(user_id))

    @mending
    def rewind(
        self, session_id: str, to: str | int | Checkpoint | Message, *, user_id: str | Anyone = ANYONE
    ) -> Branch | None:
        """Go back to a point of the conversation, as `Session.rewind` does, without loading what precedes it.

        *to* is a message or its id, which becomes the last; a number of turns, which go; or a checkpoint or its name.
        Return the branch that is left so, from which `switch` goes on; None where nothing follows the point. Messages
        that another writer appends before that is stored are left with the others.

        Costs the way to the point, the pages from it on, and one commit.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            InvalidValueError: There is no such message or checkpoint.
            SessionStateError: It has fewer turns, or no longer the history of the checkpoint.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> question, answer = session.add_message("user", "Tell me a joke."), session.add_message("assistant", "No.")
        >>> manager.save(session)
        >>> branch = manager.rewind("s", question)
        >>> [each.content for each in manager.get_messages("s")]
        ['Tell me a joke.']

        """
        return self._engine.changer.rewind(existing_id(session_id), to, check_user(user_id))
