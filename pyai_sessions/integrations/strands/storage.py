"""Values by keys for Strands Agents: what ``SnapshotSessionManager(storage=...)`` and ``Agent(storage=...)`` take."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Awaitable
from importlib import import_module
from typing import Any, TypeVar

from pyai_sessions import ANYONE, AsyncSessionManager, MissingPackageError, SessionError, SessionManager
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.values.checks import Anyone, check_id

try:
    _search: Any = import_module("strands.storage.search.keyword")
except ImportError:
    _search = None

_MARK = "strands_storage"
"""The key in the metadata of the sessions that hold values."""

_BEFORE = "strands/"
T = TypeVar("T")


class StrandsStorage:
    """Snapshots, stashes and the like of Strands Agents, in sessions. It fulfils the framework's protocol ``Storage``.

    A value is the state of a session of its own, whose id is ``strands/`` and the key. What is in a value only Strands
    can read: use `StrandsSessionRepository` to have a conversation as messages.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        user_id: The user to whom the values belong. Another user's are as if they were not there, and writing one
            raises Strands' ``StorageError``. Leave it out to ask for no user.

    Notes:
        Each write is one commit. What cannot be stored or read, an empty key too, raises Strands' ``StorageError``,
        with ours as its cause.

    """

    def __init__(self, manager: AsyncSessionManager | SessionManager, *, user_id: str | Anyone = ANYONE) -> None:
        if _search is None:
            raise MissingPackageError("StrandsStorage", "strands-agents", name="strands.storage")
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._user_id = user_id

    async def write(self, key: str, data: bytes) -> None:
        """Store *data* under a key, in the place of what is there."""
        try:
            value = {"text": bytes(data).decode()}
        except UnicodeDecodeError:
            value = {"base64": b64encode(data).decode()}
        changes: dict[str, Any] = {"state": value, "remove_state": ["text", "base64"], "metadata": {_MARK: True}}
        await _done(self._manager.update(_session_id(key), create=True, user_id=self._user_id, **changes))

    async def read(self, key: str) -> bytes | None:
        """Return what is stored under a key, or None."""
        found = await _done(self._manager.get_session(_session_id(key), last=0, user_id=self._user_id))
        if found is None or _MARK not in found.metadata:
            return None
        text = found.state.get("text")
        return b64decode(found.state["base64"]) if text is None else p.text_of(text).encode()

    async def delete(self, key: str) -> None:
        """Remove what is stored under a key; nothing happens if there is nothing."""
        if await self.read(key) is not None:
            await _done(self._manager.delete(_session_id(key), user_id=self._user_id))

    async def list(self, query: str = "") -> list[str]:
        """Return the keys that begin with *query*, in order. The heads of the user's sessions are read."""
        page = await _done(self._manager.list_sessions(self._user_id, status=None, where={_MARK: True}))
        keys = [each.session_id.removeprefix(_BEFORE) for each in page]
        return sorted(each for each in keys if each.startswith(query))

    async def search(self, query: str) -> Any:
        """Return what Strands' own search by keywords finds, which reads all values."""
        return await _search.KeywordSearchStrategy().search(self, query)


def _session_id(key: str) -> str:
    try:
        return _BEFORE + check_id(key, "key")
    except SessionError as err:
        raise _error(err) from err


async def _done(call: Awaitable[T]) -> T:
    try:
        return await call
    except SessionError as err:
        raise _error(err) from err


def _error(err: SessionError) -> Any:
    return import_module("strands.types.exceptions").StorageError(str(err))
