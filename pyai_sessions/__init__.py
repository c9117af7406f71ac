"""Sessions of conversations with AI agents, kept as JSON documents in any mapping: dict, SQLite, diskcache, Redis.

>>> from pyai_sessions import SessionManager, SQLiteSessionStore
>>> manager = SessionManager(store=SQLiteSessionStore(":memory:"))
>>> session = manager.create_session(user_id="user123")
>>> _ = session.add_message("user", "Hello!")
>>> manager.save(session)
>>> manager.get_session(session.session_id).messages[0].content
'Hello!'

Look at these first, with ``help(...)``:

- `SessionManager` creates, finds, saves, lists and deletes sessions.
- `AsyncSessionManager` has the same methods, awaited.
- `Session` is one conversation: `Session.add_message`, `Session.history`, `Session.set_state`.
- `MemorySessionStore`, `SQLiteSessionStore`, `DiskCacheSessionStore` and `RedisSessionStore` open a storage each;
  `KVSessionStore` takes any mapping, and `open_store` a url.
- `SessionError` is the base of every exception.
- `Storage` says what a database needs to keep sessions: eight methods, and the `Change` that one of them applies.
- `pyai_sessions.testing` tests a mapping, a storage or a store of your own.

``dir(pyai_sessions)`` lists the public names. The modules are internal, except `pyai_sessions.testing`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyai_sessions.aio import AsyncMessageStream, AsyncSessionManager
    from pyai_sessions.documents.limits import Limits
    from pyai_sessions.errors import (
        EncryptionError,
        ImmutableError,
        InvalidDocumentError,
        InvalidValueError,
        MissingPackageError,
        OversizedDocumentError,
        SessionArchivedError,
        SessionConflictError,
        SessionDeletedError,
        SessionError,
        SessionExistsError,
        SessionNotFoundError,
        SessionStateError,
        StateConflictError,
        StorageClosedError,
        StorageCorruptError,
        StorageError,
        StorageFullError,
        StorageInUseError,
        StorageLockedError,
        StorageMovedError,
        StoragePermissionError,
        StorageReadOnlyError,
        StorageUnreachableError,
        UnsuitableMappingError,
        UnsupportedOperationError,
    )
    from pyai_sessions.events import Event
    from pyai_sessions.manager import SessionManager
    from pyai_sessions.manager.streaming import MessageStream
    from pyai_sessions.model.heads import SessionStatus
    from pyai_sessions.model.listed import MessagePage, SessionSummary, SummaryPage
    from pyai_sessions.model.points import Branch, Checkpoint, Parent, Summary
    from pyai_sessions.model.session import Session
    from pyai_sessions.model.session_store import SessionStore
    from pyai_sessions.model.shared_state import SharedState
    from pyai_sessions.search.hits import Hit, HitPage
    from pyai_sessions.storage.protocol import Change, Listing, Storage
    from pyai_sessions.storage.redis.mapping import RedisMapping
    from pyai_sessions.storage.sqlite.mapping import SQLiteMapping
    from pyai_sessions.stores.encrypted import Encrypted
    from pyai_sessions.stores.kv import KVSessionStore
    from pyai_sessions.stores.makers import (
        DiskCacheSessionStore,
        MemorySessionStore,
        RedisSessionStore,
        SQLiteSessionStore,
        open_store,
    )
    from pyai_sessions.upkeep.damage import Problem
    from pyai_sessions.upkeep.erasure import Erasure
    from pyai_sessions.upkeep.imports import Imported
    from pyai_sessions.upkeep.redaction import Redaction
    from pyai_sessions.upkeep.repair import Verification
    from pyai_sessions.values.checks import ANYONE, NOBODY
    from pyai_sessions.values.conversions import jsonable
    from pyai_sessions.values.messages import Message

__all__ = [
    "ANYONE",
    "NOBODY",
    "AsyncMessageStream",
    "AsyncSessionManager",
    "Branch",
    "Change",
    "Checkpoint",
    "DiskCacheSessionStore",
    "Encrypted",
    "EncryptionError",
    "Erasure",
    "Event",
    "Hit",
    "HitPage",
    "ImmutableError",
    "Imported",
    "InvalidDocumentError",
    "InvalidValueError",
    "KVSessionStore",
    "Limits",
    "Listing",
    "MemorySessionStore",
    "Message",
    "MessagePage",
    "MessageStream",
    "MissingPackageError",
    "OversizedDocumentError",
    "Parent",
    "Problem",
    "Redaction",
    "RedisMapping",
    "RedisSessionStore",
    "SQLiteMapping",
    "SQLiteSessionStore",
    "Session",
    "SessionArchivedError",
    "SessionConflictError",
    "SessionDeletedError",
    "SessionError",
    "SessionExistsError",
    "SessionManager",
    "SessionNotFoundError",
    "SessionStateError",
    "SessionStatus",
    "SessionStore",
    "SessionSummary",
    "SharedState",
    "StateConflictError",
    "Storage",
    "StorageClosedError",
    "StorageCorruptError",
    "StorageError",
    "StorageFullError",
    "StorageInUseError",
    "StorageLockedError",
    "StorageMovedError",
    "StoragePermissionError",
    "StorageReadOnlyError",
    "StorageUnreachableError",
    "Summary",
    "SummaryPage",
    "UnsuitableMappingError",
    "UnsupportedOperationError",
    "Verification",
    "jsonable",
    "open_store",
]

__version__ = "0.1.0"

_MODULES = {
    "aio": ["AsyncMessageStream", "AsyncSessionManager"],
    "documents.limits": ["Limits"],
    "errors": [
        "EncryptionError",
        "ImmutableError",
        "InvalidDocumentError",
        "InvalidValueError",
        "MissingPackageError",
        "OversizedDocumentError",
        "SessionArchivedError",
        "SessionConflictError",
        "SessionDeletedError",
        "SessionError",
        "SessionExistsError",
        "SessionNotFoundError",
        "SessionStateError",
        "StateConflictError",
        "StorageClosedError",
        "StorageCorruptError",
        "StorageError",
        "StorageFullError",
        "StorageInUseError",
        "StorageLockedError",
        "StorageMovedError",
        "StoragePermissionError",
        "StorageReadOnlyError",
        "StorageUnreachableError",
        "UnsuitableMappingError",
        "UnsupportedOperationError",
    ],
    "events": ["Event"],
    "manager": ["SessionManager"],
    "manager.streaming": ["MessageStream"],
    "model.heads": ["SessionStatus"],
    "model.listed": ["MessagePage", "SessionSummary", "SummaryPage"],
    "model.points": ["Branch", "Checkpoint", "Parent", "Summary"],
    "model.session": ["Session"],
    "model.session_store": ["SessionStore"],
    "model.shared_state": ["SharedState"],
    "search.hits": ["Hit", "HitPage"],
    "storage.redis.mapping": ["RedisMapping"],
    "storage.protocol": ["Change", "Listing", "Storage"],
    "storage.sqlite.mapping": ["SQLiteMapping"],
    "stores.encrypted": ["Encrypted"],
    "stores.kv": ["KVSessionStore"],
    "stores.makers": [
        "DiskCacheSessionStore",
        "MemorySessionStore",
        "RedisSessionStore",
        "SQLiteSessionStore",
        "open_store",
    ],
    "upkeep.damage": ["Problem"],
    "upkeep.erasure": ["Erasure"],
    "upkeep.imports": ["Imported"],
    "upkeep.redaction": ["Redaction"],
    "upkeep.repair": ["Verification"],
    "values.checks": ["ANYONE", "NOBODY"],
    "values.conversions": ["jsonable"],
    "values.messages": ["Message"],
}
"""In which module each public name is. A module is imported when one of its names is first used, so that a program that
needs little of the package starts at once."""

_HOMES = {name: f"pyai_sessions.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return a public name, imported now."""
    if name in _HOMES:
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg, name=name, obj=sys.modules[__name__])  # for Python's "Did you mean"


def __dir__() -> list[str]:
    """Return the public names: what Tab shows."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
