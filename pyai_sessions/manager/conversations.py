"""What a manager does with one session: create, find, save, switch, fork, archive, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyai_sessions.documents.keys import head_key
from pyai_sessions.errors import SessionDeletedError, SessionExistsError
from pyai_sessions.manager.face import Face
from pyai_sessions.model.branches import check_branch
from pyai_sessions.model.heads import SessionStatus
from pyai_sessions.model.points import Branch
from pyai_sessions.model.session import Session, new_session_id
from pyai_sessions.model.session_store import OnConflict, check_session
from pyai_sessions.sessions.forking import At
from pyai_sessions.sessions.loading import owned_head
from pyai_sessions.sessions.trips import Asking, Read, making, mending, sharing
from pyai_sessions.values.checks import (
    ANYONE,
    Anyone,
    check_id,
    check_items,
    check_limit,
    check_user,
    existing_id,
    sought_id,
)
from pyai_sessions.values.messages import Message

_TOGETHER = 100
"""Sessions that are loaded together."""


class KeepsConversations(Face):
    """The part of `SessionManager` that concerns one session."""

    @sharing
    def create_session(
        self,
        user_id: str | None = None,
        *,
        session_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Asking[Session]:
        """Create a session, store it at once, and return it.

        Without a *title* lists show the first words of the user's first message. ``session.title`` sets one later.

        Raises:
            SessionExistsError: The given id is taken.

        """
        session = self._new_session(user_id, session_id, metadata, state, title)
        yield from making(self._store.save, session)
        return session

    @sharing
    def get_session(
        self, session_id: str, *, last: int | None = None, user_id: str | Anyone = ANYONE, renew: bool = False
    ) -> Asking[Session | None]:
        """Return a session, or None where there is none, or it has expired.

        *last* loads the newest so many messages alone, at a cost that does not grow with the conversation's length.
        Such a session can be saved and appended to; `load_history` loads what was left out. *renew* lets the session
        live as long from now as after a save, for one commit more: reading alone does not.

        *user_id* says whose the session must be, here and in the methods that follow: another's is not found, by the
        same result or error as one that does not exist, and nothing is written. So is one of no user. Leave it out to
        ask for no user. None, which a login that failed may give, raises. Costs nothing: it is checked in what is read
        anyway, before anything else of the session is decoded.

        A *session_id* that no session can have is not found: None, empty text, text of more than 1,024 bytes.

        Raises:
            InvalidDocumentError: It is stored, but cannot be read; of whom it is, too, where its head is damaged.
            InvalidValueError: *user_id* is None. Or it is to be renewed, and its store has no ``ttl`` that slides.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> _ = manager.create_session("ada", session_id="s")
        >>> [user for user in ("ada", "bob") if manager.get_session("s", user_id=user)]
        ['ada']

        """
        found = yield from making(self._store.get, session_id, last=last, user_id=user_id, renew=renew)
        return self._opened(found)

    @mending
    def get_sessions(
        self, session_ids: Iterable[str], *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> dict[str, Session]:
        """Return sessions by their ids, in that order; those that are not there, or another user's, are left out.

        *last* loads the newest so many messages of each. One trip for up to 100 sessions, and a second one for older
        messages where they do not come with it; in each all that any of these sessions needs.

        Raises:
            InvalidDocumentError: One of them cannot be read.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> for session_id in "abc":
        ...     _ = manager.create_session("ada", session_id=session_id)
        >>> list(manager.get_sessions(["c", "x", "a"]))
        ['c', 'a']

        """
        owner, engine, found = check_user(user_id), self._engine, dict[str, Session]()
        check_limit(last, "last")
        sought = [sought_id(each) for each in check_items(session_ids, "session_ids", "ids of sessions")]
        wanted = list(dict.fromkeys([each for each in sought if each is not None]))
        for start in range(0, len(wanted), _TOGETHER):
            together = wanted[start : start + _TOGETHER]
            loaded = engine.trips.all([engine.loader.load(each, owner, last) for each in together])
            found |= {key: self._opened(each) for key, each in zip(together, loaded, strict=True) if each is not None}
        return found

    @sharing
    def get_or_create_session(
        self,
        session_id: str,
        user_id: str | Anyone = ANYONE,
        *,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        title: str | None = None,
    ) -> Asking[Session]:
        """Return the session of this id; create it, with the other arguments, where there is none.

        Without a *user_id* it returns anyone's session, and creates one of no user.

        Raises:
            SessionExistsError: A *user_id* is given, and the stored session is not of that user.

        """
        owner = check_user(user_id)
        made = self._new_session(owner, check_id(session_id, "session_id"), metadata, state, title)
        while True:
            stored = yield from making(self._store.get, session_id, user_id=owner or ANYONE)
            if stored is not None:
                return self._opened(stored)
            try:
                yield from making(self._store.save, made)
            except SessionExistsError:
                key = head_key(session_id)
                value = (yield Read([key])).get(key)
                if value is not None and owned_head(value, session_id, owner) is None:
                    raise
                # else another thread or process created it in between
            else:
                return made

    @sharing
    def load_history(self, session: Session) -> Asking[None]:
        """Load the older messages of a session that was loaded with ``last=``.

        Raises:
            SessionDeletedError: It was deleted since.
            SessionStateError: It was given to another user since.

        """
        check_session(session)
        yield from self._engine.loader.complete(session)

    @mending
    def switch(
        self, session_id: str, branch: str | Branch, *, last: int | None = None, user_id: str | Anyone = ANYONE
    ) -> Session:
        """Let a session go on from a branch that `Session.rewind` left, and return it, loaded as `get_session` does.

        *branch* is one of ``session.branches``, or its id. Messages, state, checkpoints and summary are those of the
        branch; how the conversation went on till now becomes a branch in turn. One commit, at a cost that does not grow
        with the conversation. A copy of the session that was loaded before is stale.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionArchivedError: It is archived.
            SessionStateError: It has no such branch.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada")
        >>> _ = session.add_message("user", "Tell me a joke."), session.add_message("assistant", "No.")
        >>> branch = session.rewind(1)
        >>> _ = session.add_message("user", "A joke, please!")
        >>> manager.save(session)
        >>> [each.content for each in manager.switch(session.session_id, branch).messages]
        ['Tell me a joke.', 'No.']

        """
        owner, branch_id = check_user(user_id), check_branch(branch)
        check_limit(last, "last")
        session_id = existing_id(session_id)
        self._engine.switcher.switch(session_id, branch_id, owner)
        session = self._store.get(session_id, last=last, user_id=user_id)
        if session is None:
            raise SessionDeletedError(session_id)
        return self._opened(session)

    @mending
    def get_branch(self, session_id: str, branch: str | Branch, *, user_id: str | Anyone = ANYONE) -> list[Message]:
        """Return the messages of a branch that a rewind left, from the first one on, without switching to it.

        *branch* is one of ``session.branches``, or its id. Nothing is written; an archived session has branches, too.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionStateError: It has no such branch.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada")
        >>> _ = session.add_message("user", "Tell me a joke."), session.add_message("assistant", "No.")
        >>> branch = session.rewind(1)
        >>> manager.save(session)
        >>> [each.content for each in manager.get_branch(session.session_id, branch)]
        ['Tell me a joke.', 'No.']

        """
        return self._engine.switcher.look(existing_id(session_id), check_branch(branch), check_user(user_id))

    @sharing
    def save(self, session: Session, *, on_conflict: OnConflict = "merge") -> Asking[None]:
        """Store a session; afterwards *session* is what is stored. One transaction, or one round trip.

        A copy that went stale is merged with what other writers stored meanwhile: their messages, then yours; metadata
        and state key by key; messages that either replaced or removed one by one, unless both changed the same one.
        ``on_conflict="error"`` raises instead, ``"overwrite"`` replaces what they stored.

        Raises:
            InvalidValueError: Something in the session cannot be stored as JSON; the error names it.
            SessionExistsError: The session was made by hand, and its id is taken.
            SessionArchivedError: It is archived; `restore` makes it active.
            SessionDeletedError: It was deleted since it was loaded, and stays so.
            SessionConflictError: Both changes cannot be kept.
            StorageError: The storage failed.

        """
        yield from making(self._store.save, session, on_conflict=on_conflict)

    @mending
    def fork(
        self,
        session_id: str,
        at: At = None,
        user_id: str | None = None,
        *,
        new_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        last: int | None = 50,
        owned_by: str | Anyone = ANYONE,
    ) -> Session:
        """Create a session that goes on from a point of another, archived or not, store it, and return it.

        *at* says where: a checkpoint or its name, the last message to keep or its id, or how many messages to keep.
        None keeps all that is stored. Metadata, and checkpoints up to there, are those of the other session, and so is
        the state: at a checkpoint that of the checkpoint. *metadata* and *state* are merged into these by key, at every
        depth, in the same commit. The user is the same unless *user_id* is given. The fork's ``parent`` tells where it
        came from. Either can be changed and deleted without the other. *owned_by* says whose the other session must
        be, as ``user_id`` does elsewhere.

        Older messages are shared, not copied: at the end a fork costs the same at any length, before it the way to
        that point. The fork is loaded as `get_session` does it with ``last=50``; None loads all of it. Of a custom
        store it is a copy, and loaded whole.

        Raises:
            SessionNotFoundError: There is no such session.
            SessionExistsError: The new id is taken.
            InvalidValueError: *at* names no point of the session.
            SessionStateError: The session no longer has the history of the checkpoint.

        >>> from pyai_sessions import SessionManager
        >>> manager = SessionManager()
        >>> session = manager.create_session("ada", session_id="s")
        >>> for n in range(3):
        ...     _ = session.add_message("user", f"message {n}")
        >>> manager.save(session)
        >>> fork = manager.fork("s", at=2, new_id="t")
        >>> fork.parent, [each.content for each in manager.get_session("t").messages]
        (<Parent 's' at 2 messages>, ['message 0', 'message 1'])

        """
        owner = check_user(owned_by, "owned_by")
        changes = {"metadata": self._patch(metadata, (), "metadata"), "state": self._patch(state, (), "state")}
        new_id = new_session_id() if new_id is None else check_id(new_id, "new_id")
        user_id = None if user_id is None else check_id(user_id, "user_id")
        check_limit(last, "last")
        fork = self._engine.switcher.fork(
            existing_id(session_id), at, new_id=new_id, user_id=user_id, changes=changes, owned_by=owner, last=last
        )
        return self._opened(fork)

    @mending
    def archive(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Take a session out of the lists; it can still be read. Archived already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        owner = check_user(user_id)
        self._engine.archiver.set_status(existing_id(session_id), SessionStatus.ARCHIVED, user_id=owner)

    @mending
    def restore(self, session_id: str, *, user_id: str | Anyone = ANYONE) -> None:
        """Make an archived session active again: its activity is now. Active already is fine.

        Raises:
            SessionNotFoundError: There is no such session.

        """
        owner = check_user(user_id)
        self._engine.archiver.set_status(existing_id(session_id), SessionStatus.ACTIVE, user_id=owner)

    @mending
    def delete(self, session_id: str, *, if_revision: str | None = None, user_id: str | Anyone = ANYONE) -> bool:
        """Delete a session; return whether there was one. It stays deleted: a copy of it can no longer be saved.

        *if_revision* deletes it only if nobody else has changed it since you read that revision. Its forks stay whole.
        An unreadable one is deleted as well, where no user is asked for.

        Raises:
            InvalidDocumentError: A user is asked for, or a revision, and its head cannot be read.
            SessionConflictError: Another revision is stored than *if_revision*. Nothing was deleted.

        """
        return self._store.delete(session_id, if_revision=if_revision, user_id=user_id)
