"""The exceptions of this library. All derive from `SessionError` and carry their data as attributes.

Messages name ids, paths and remedies. They never contain the text of a conversation or a credential.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, cast

_KEEP = "manager.import_sessions([session]) stores its content as a new session, where its id is free"

_SHOWN = 200
"""Characters of an id that a message shows."""


class SessionError(Exception):
    """The base class of every exception that this library raises on purpose.

    Exceptions can be pickled and copied, so a worker process can pass them on with their attributes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with `args`, which hold the finished message instead of its parts.
        kind, arguments, *attributes = cast("tuple[Any, ...]", super().__reduce__())
        return _rebuild, (kind, arguments), *attributes


def _rebuild(kind: type[SessionError], arguments: tuple[object, ...]) -> SessionError:
    """Return an error as it was raised. Pickle and copy then set its attributes."""
    error = kind.__new__(kind, *arguments)
    super(SessionError, error).__init__(*arguments)  # that of the built-in class
    return error


# What the caller gave ---------------------------------------------------------------------------------------------


class InvalidValueError(SessionError, ValueError):
    """A given value is not accepted. Nothing was written.

    *path* names the value as the caller writes it: ``state["cursor"]``, ``session_id``, ``limit``. *problem* says what
    the value is, and what is accepted.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path
        self.problem = problem

    def within(self, place: str) -> InvalidValueError:
        """Return the error for a value inside another one, at *place*: ``sessions[1].messages[0]``."""
        return InvalidValueError(f"{place}.{self.path}", self.problem)


class ImmutableError(SessionError, FrozenInstanceError, TypeError):
    """A message, a checkpoint or the list of messages cannot be changed in place; the text says what to do instead."""


class UnsuitableMappingError(SessionError, TypeError):
    """The given mapping cannot keep sessions safely; the message says which mapping can."""


class UnsupportedOperationError(SessionError, NotImplementedError):
    """The store cannot do this: a custom store lacks an optional method, or its kind of storage has no way to do it."""


class MissingPackageError(SessionError, ImportError):
    """A feature needs a package that is not installed; the message says how to install it.

    *packages* are the packages to install. *name* is the module that could not be imported, as in any ImportError.
    """

    def __init__(self, feature: str, *packages: str, name: str | None = None) -> None:
        names = " and ".join(packages)
        super().__init__(f"{feature} needs {names}; install with: pip install {' '.join(packages)}", name=name)
        self.packages = packages


def _short(name: object) -> str:
    """Return an id as a message shows it."""
    text = repr(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# What the state of the session forbids ----------------------------------------------------------------------------


class SessionStateError(SessionError):
    """The operation does not fit the stored session *session_id* as it is now."""

    def __init__(self, session_id: str, problem: str) -> None:
        super().__init__(f"session {_short(session_id)} {problem}")
        self.session_id = session_id


class SessionNotFoundError(SessionStateError, LookupError):
    """No session has this id. It may be an id that no session can have: None, or text that is empty or too long."""

    def __init__(self, session_id: Any) -> None:
        super().__init__(session_id, "does not exist; create it with create_session(session_id=...)")


class SessionExistsError(SessionStateError):
    """A new session was saved under an id that another session has, which may be another user's."""

    def __init__(self, session_id: str) -> None:
        # It does not name `on_conflict="overwrite"`: that would destroy the session of another user.
        remedy = "choose another id; get_session(session_id, user_id=...) loads it if it is of that user"
        super().__init__(session_id, f"exists already; {remedy}")


class SessionDeletedError(SessionStateError):
    """The session of a saved copy does not exist any more: it was deleted, has expired, or is in another store.

    The message says which, as far as the store knows.
    """

    def __init__(
        self, session_id: str, problem: str = "was deleted after this copy was loaded, and stays deleted"
    ) -> None:
        super().__init__(session_id, f"{problem}; {_KEEP}")


class SessionArchivedError(SessionStateError):
    """An archived session was saved or appended to."""

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id, "is archived; manager.restore(session_id) makes it active again")


class SessionConflictError(SessionStateError):
    """Another writer changed the session, and both changes cannot be kept. Nothing was written.

    *base_revision* is the revision at which the copy was loaded, *stored_revision* the one that is stored now.
    """

    noted = False

    def __init__(
        self,
        session_id: str,
        base_revision: str | None,
        stored_revision: str | None,
        problem: str = "was saved by another writer",
    ) -> None:
        super().__init__(
            session_id,
            f"{problem}; load it again and repeat the change (loaded at revision {base_revision}, "
            f"stored is {stored_revision})",
        )
        self.base_revision = base_revision
        self.stored_revision = stored_revision


class StateConflictError(SessionError):
    """Another writer changed the state of *user_id* (None: of the application) since it was read. Nothing was written.

    *base_revision* is the given ``if_revision``, *stored_revision* the one that is stored now ("" if none is).
    """

    def __init__(self, user_id: str | None, base_revision: str, stored_revision: str) -> None:
        whose = "the application" if user_id is None else f"user {_short(user_id)}"
        super().__init__(
            f"the state of {whose} was changed by another writer; read it again and repeat the change (read at "
            f"revision {base_revision!r}, stored is {stored_revision!r})"
        )
        self.user_id = user_id
        self.base_revision = base_revision
        self.stored_revision = stored_revision


# What the storage holds -------------------------------------------------------------------------------------------


class InvalidDocumentError(SessionError):
    """A stored document cannot be read: it is damaged, or of a newer release, or not ours. It was not changed.

    *key* is its key in the mapping (in a namespace, ``namespace/<name>/`` may be missing), *session_id* the session
    that it belongs to, *reason* what is wrong with it. *document* is the stored value, so that you can rescue it by
    hand; it may contain text of the conversation, so the message does not show it.
    """

    remedy = "verify(repair=True) sets aside what cannot be read, and keeps the rest"

    def __init__(self, key: str, session_id: str | None, document: object, reason: str) -> None:
        super().__init__(f"the document under {key!r} cannot be read: {reason}. It was left untouched; {self.remedy}")
        self.key = key
        self.session_id = session_id
        self.document = document
        self.reason = reason


class EncryptionError(InvalidDocumentError):
    """A document cannot be decrypted with the keys of the store, or is not encrypted although the store is.

    It need not be damaged, so `verify` reports it and does not move it. *key_id* is the id of the key that encrypted
    it; None if it is not encrypted.
    """

    remedy = "it can be read when the store is opened as the reason says"

    def __init__(self, key: str, session_id: str | None, document: object, reason: str, key_id: str | None) -> None:
        super().__init__(key, session_id, document, reason)
        self.key_id = key_id


class OversizedDocumentError(InvalidDocumentError):
    """A document or a session is larger than a bound that you can set, and was not read.

    *size* is the number of bytes to which a compressed document would expand (`verify` reports it and does not move
    it), or the number of pages of a session.
    """

    remedy = "Encrypted(..., max_size=..., max_ratio=...) and Limits(pages=...) set what is accepted"

    def __init__(self, key: str, session_id: str | None, document: object, reason: str, size: int) -> None:
        super().__init__(key, session_id, document, reason)
        self.size = size


# What the storage cannot do now -----------------------------------------------------------------------------------


class StorageError(SessionError):
    """The storage failed.

    If it failed after the write (a reply was lost, a mapping's ``sync`` raised), the write may have been applied;
    otherwise nothing was written. You may repeat the call in both cases: it stores nothing twice.

    *where* names the file, directory or server, without credentials. *problem* says what happened, *remedy* what to do.
    """

    remedy = ""

    def __init__(self, where: str, problem: str, remedy: str | None = None) -> None:
        where = where.encode("utf-8", "backslashreplace").decode()  # a path need not be UTF-8; a message can be printed
        if remedy is not None:
            self.remedy = remedy
        place = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…"
        super().__init__(f"{place}: {problem}" + (f"; {self.remedy}" if self.remedy else ""))
        self.where = where
        self.problem = problem


class StorageLockedError(StorageError, TimeoutError):
    """Another writer held the storage until the deadline passed."""

    remedy = "another writer holds it: end its transaction, or allow a longer timeout"


class StorageInUseError(StorageLockedError):
    """A signal handler, a finaliser or a callback called the storage in the middle of a call of the same thread.

    That call continues only when the handler has returned, so waiting for it would never end. Nothing was written.
    """

    remedy = "let the handler set a flag or hand the work to another thread, and return; then the call can end"

    def __init__(self, where: str) -> None:
        super().__init__(where, "it is in use by the call of this thread that was interrupted")


class StorageFullError(StorageError):
    """There is no space left: a full disk, a page limit, or a server at its memory limit."""

    remedy = "make room, then repeat the call"


class StorageReadOnlyError(StorageError):
    """The storage does not accept writes."""

    remedy = "give this process write access to the file and its directory, or connect to the primary server"


class StoragePermissionError(StorageError, PermissionError):
    """The operating system does not let this process read the storage."""

    remedy = "give the user of this process access to it"


class StorageUnreachableError(StorageError, ConnectionError):
    """The storage did not answer. A write may have been applied or not."""

    noted = False

    remedy = "check that it runs and is reachable, then repeat the call"


class StorageCorruptError(StorageError):
    """The file is damaged, or is not a file of this kind."""

    remedy = "restore it from a backup"


class StorageMovedError(StorageError):
    """The file was deleted, renamed or replaced while the store had it open: what is written to it would be lost."""

    remedy = "put the file back; or close this store in every process, and open it again to use what is there now"


class StorageClosedError(StorageError):
    """The store or its mapping was closed."""

    remedy = "open it again"
