"""Sessions for OpenAI's Agents SDK: what ``Runner.run(session=...)`` takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import groupby
from typing import Any

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    Message,
    SessionConflictError,
    SessionDeletedError,
    SessionManager,
    SessionNotFoundError,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats import responses
from pyai_sessions.prompts.formats.shapes import plain_text, prompt_messages
from pyai_sessions.values.checks import Anyone, Clock, check_id, utc_now
from pyai_sessions.values.json import is_mapping

_NAME = "openai_agents"


class OpenAIAgentsSession:
    """A session of a manager, as the Agents SDK's runner uses it. It fulfils the SDK's protocol ``Session``.

    Args:
        session_id: The id of the session. It is created by the first items that are added.
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        user_id: The user to whom the session belongs. Of another user's session nothing is returned, and adding to it
            raises `SessionExistsError`. Leave it out to ask for no user.
        session_settings: The SDK's ``SessionSettings``, or a dict of its fields. The limit holds where `get_items` is
            given none.

    Notes:
        What the model made between two inputs, its reasoning, words and calls, is one message. Each call of a method
        that changes the session is one commit. Any number of runners may add to one session.

    >>> import asyncio
    >>> async def chat():
    ...     async with AsyncSessionManager() as manager:
    ...         session = OpenAIAgentsSession("s", manager, user_id="ada")
    ...         await session.add_items([{"role": "user", "content": "Hello!"}])
    ...         return await session.get_items()
    >>> asyncio.run(chat())
    [{'role': 'user', 'content': 'Hello!'}]

    """

    def __init__(
        self,
        session_id: str,
        manager: AsyncSessionManager | SessionManager,
        *,
        user_id: str | Anyone = ANYONE,
        session_settings: Any = None,
    ) -> None:
        self.session_id = check_id(session_id, "session_id")
        if is_mapping(session_settings):  # the runner asks it for more than its fields
            session_settings = import_module("agents").SessionSettings(**session_settings)
        self.session_settings: Any = session_settings
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._user_id = user_id
        self._is_there = False

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """Return the newest *limit* items, or all, oldest first; none if there is no session yet.

        Without a *limit*, that of the ``session_settings`` holds. An archived session has items as well.
        """
        if limit is None:
            limit = getattr(self.session_settings, "limit", None)
        if limit is not None and limit <= 0:
            return []
        items: list[Any] = []
        oldest: Message | None = None
        while True:
            try:
                page = await self._manager.get_messages(
                    self.session_id, before=oldest, limit=limit, user_id=self._user_id
                )
            except SessionNotFoundError:
                return []
            self._is_there = True
            items = [*items_of(page), *items]
            if limit is None or len(items) >= limit or not page.has_older:
                return items if limit is None else items[-limit:]
            oldest = page[0]  # a page had messages that are no items

    async def add_items(self, items: list[Any]) -> None:
        """Append items, in one commit.

        Raises:
            SessionArchivedError: The session is archived.
            SessionExistsError: It is another user's.
            InvalidValueError: An item cannot be read or stored; the error says which. None is stored.

        """
        if not items:
            return
        added = messages_of(items)
        if self._is_there:  # to append takes less time
            with suppress(SessionNotFoundError):  # it was deleted meanwhile, or is another user's now
                await self._manager.append(self.session_id, *added, user_id=self._user_id)
                return
        await self._manager.update(self.session_id, *added, create=True, user_id=self._user_id)
        self._is_there = True

    async def pop_item(self) -> Any:
        """Remove the last item and return it; None if there is none. Of two callers each removes an item of its own."""
        while True:
            session = await self._manager.get_session(self.session_id, last=1, user_id=self._user_id)
            if session is None or not session.messages:
                return None
            message = session.pop()
            *rest, last = items_of([message]) or [None]
            session.add_messages(messages_of(rest, partial(getattr, message, "timestamp")))
            try:
                await self._manager.save(session, on_conflict="error")
            except SessionConflictError:
                continue
            except SessionDeletedError:
                return None
            if last is not None:
                return last

    async def clear_session(self) -> None:
        """Remove all items. The session stays, with its title, metadata and state."""
        try:
            await self._manager.clear_messages(self.session_id, user_id=self._user_id)
        except SessionNotFoundError:
            return


def messages_of(items: Iterable[Any], clock: Clock = utc_now) -> list[Message]:
    """Return new messages that say what items of the Responses API say, as the SDK's input items are.

    An object that is no such item, such as one that the SDK's EncryptedSession stores, becomes a message that says
    nothing to a model.
    """
    given = [(f"items[{n}]", p.given_object(item, f"items[{n}]")) for n, item in enumerate(items)]
    made: list[Message] = []
    for maker, group in groupby(given, lambda each: _maker(each[1], each[0])):
        run = list(group)
        for part in [run] if maker == "model" else [[each] for each in run]:
            if maker == "unknown":
                message = Message("assistant", None, timestamp=clock())
            else:
                [message] = responses.read(part, None, clock, {})
            keep_difference(message, _NAME, _written(message), [item for _, item in part])
            made.append(message)
    return made


def _maker(item: p.Part, path: str) -> str:
    if "type" not in item and "role" not in item:
        return "unknown"
    return "model" if responses.is_models(item, path) else "application"


def items_of(messages: Iterable[Message]) -> list[Any]:
    """Return the items that messages were made of; a message of another origin becomes what it says."""
    items: list[Any] = []
    for each in messages:
        plain = _plain(each)
        items += restored(each, _NAME, plain or _written(each), fresh=plain is not None)
    return items


def _plain(message: Message) -> list[Any] | None:
    """Write the item of a message that is one text, as most are; None of any other. It shares nothing with that."""
    text = plain_text(message)
    if text is not None:
        return [{"role": message.role, "content": text}]
    alone = responses.said_alone(message)
    return None if alone is None else [alone]


def _written(message: Message) -> Sequence[Any]:
    """Write items from a message's own fields alone."""
    plain = _plain(message)
    if plain is not None:
        return plain
    said = [each.message for each in prompt_messages(message)]
    items, _ = responses.write(said)
    nothing = items == [{"role": "user", "content": p.EMPTY}] and p.speaker(said[0]) != "user"
    return [] if nothing else items
