"""Threads of OpenAI's ChatKit in sessions: the store that a ``ChatKitServer`` takes.

It is longer than two converters and the calls, as the store of ChatKit also lists threads by pages, and keeps
attachments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from typing import Any

from pyai_sessions import (
    ANYONE,
    AsyncSessionManager,
    Message,
    MissingPackageError,
    Session,
    SessionArchivedError,
    SessionManager,
    SessionNotFoundError,
    SessionStateError,
    SessionSummary,
)
from pyai_sessions.integrations.differences import keep_difference, restored
from pyai_sessions.prompts.formats import openai
from pyai_sessions.prompts.formats import parts as p
from pyai_sessions.prompts.formats.shapes import prompt_messages
from pyai_sessions.values.checks import Anyone, check_id
from pyai_sessions.values.json import is_array, is_mapping, plain, write

try:
    _types: Any = import_module("chatkit.types")
    _framework: Any = import_module("chatkit.store")
    _Store: Any = _framework.Store
except ImportError:
    _framework, _types, _Store = None, None, object

_NAME = "chatkit"
_LISTED = 100
"""Threads that are read at a time."""


class ChatKitStore(_Store):  # type: ignore[misc]  # pyright: ignore[reportUntypedBaseClass]
    """The sessions of a manager, as a ChatKit server uses them: a thread is a session, and an item a message.

    What users and models say, and the calls of client tools with their results, are in the messages' own fields.
    Widgets, tasks, workflows and the like are messages that say nothing to a model.

    Args:
        manager: An `AsyncSessionManager`, or a `SessionManager`, whose calls are then made in threads.
        user_of: Returns the user's id for the ``context`` of a request. Another user's threads are not found. Leave it
            out to ask for no user.

    Notes:
        Each call that changes a thread is one commit. Attachments are in the user's state, or in the application's
        where no user is asked for; the bytes of a file are where your ``AttachmentStore`` puts them.

    """

    def __init__(
        self, manager: AsyncSessionManager | SessionManager, *, user_of: Callable[[Any], str] | None = None
    ) -> None:
        if _framework is None:
            raise MissingPackageError("ChatKitStore", "openai-chatkit", name="chatkit")
        self._manager = manager if isinstance(manager, AsyncSessionManager) else AsyncSessionManager(manager)
        self._user_of = user_of

    def _user(self, context: Any) -> str | Anyone:
        return ANYONE if self._user_of is None else self._user_of(context)

    # Threads --------------------------------------------------------------------------------------------------------

    async def load_thread(self, thread_id: str, context: Any) -> Any:
        """Return a thread's metadata, without its items."""
        found = await self._manager.get_session(thread_id, last=1, user_id=self._user(context))
        if found is None:
            raise _missing(f"thread {thread_id!r}")
        return _thread(found)

    async def save_thread(self, thread: Any, context: Any) -> None:
        """Store a thread's metadata; its items stay as they are."""
        part = thread.model_dump(mode="json", include={"created_at", "status", "allowed_image_domains", "metadata"})
        await self._manager.update(
            thread.id,
            title=thread.title,
            metadata={_NAME: part},
            remove_metadata=[_NAME],
            create=True,
            user_id=self._user(context),
        )

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Any:
        """Return a page of the user's threads: those that were active last, first, if *order* is ``"desc"``.

        *after* is the id of a thread; the list is walked to it from its beginning.
        """
        found: list[SessionSummary] = []
        cursor, is_passed = None, after is None
        while len(found) <= limit:
            page = await self._manager.list_sessions(
                self._user(context), limit=_LISTED, cursor=cursor, order="newest" if order == "desc" else "oldest"
            )
            for each in page:
                if is_passed:
                    found.append(each)
                is_passed = is_passed or each.session_id == after
            cursor = page.next_cursor
            if cursor is None:
                break
        if not is_passed:
            raise _missing(f"thread {after!r}")
        return _page([_thread(each) for each in found[:limit]], has_more=len(found) > limit)

    async def delete_thread(self, thread_id: str, context: Any) -> None:
        """Delete a thread with its items."""
        await self._manager.delete(thread_id, user_id=self._user(context))

    # Items ----------------------------------------------------------------------------------------------------------

    async def load_thread_items(self, thread_id: str, after: str | None, limit: int, order: str, context: Any) -> Any:
        """Return a page of a thread's items, oldest first, or newest first if *order* is ``"desc"``."""
        wanted: dict[str, Any] = {"before" if order == "desc" else "after": after}
        whole = order != "desc" and after is None  # from the first on, which only a list of all has
        try:
            page = await self._manager.get_messages(
                thread_id, limit=None if whole else limit, user_id=self._user(context), **wanted
            )
        except SessionNotFoundError:
            return _page([], has_more=False)
        except SessionStateError as err:
            raise _missing(f"item {after!r} of thread {thread_id!r}") from err
        messages = list(reversed(page)) if order == "desc" else page[:limit] if whole else list(page)
        has_more = len(page) > limit if whole else page.has_older if order == "desc" else page.has_newer
        return _page([_item(each, thread_id) for each in messages], has_more=has_more)

    async def add_thread_item(self, thread_id: str, item: Any, context: Any) -> None:
        """Append an item."""
        await self._manager.update(thread_id, _message(item, thread_id), create=True, user_id=self._user(context))

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        """Replace the item with the same id; append the item if there is none."""
        try:
            await self._manager.replace_message(thread_id, _message(item, thread_id), user_id=self._user(context))
        except (SessionNotFoundError, SessionStateError) as err:
            if isinstance(err, SessionArchivedError):
                raise
            await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
        """Return an item."""
        message = None
        with suppress(SessionNotFoundError):
            message = await self._manager.get_message(thread_id, item_id, user_id=self._user(context))
        if message is None:
            raise _missing(f"item {item_id!r} of thread {thread_id!r}")
        return _item(message, thread_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:
        """Remove an item, if there is one of this id."""
        try:
            await self._manager.remove_message(thread_id, item_id, user_id=self._user(context))
        except (SessionNotFoundError, SessionStateError) as err:
            if isinstance(err, SessionArchivedError):
                raise

    # Attachments ----------------------------------------------------------------------------------------------------

    async def save_attachment(self, attachment: Any, context: Any) -> None:
        """Store the description of an attachment, in place of an earlier one."""
        given = attachment.model_dump(mode="json")
        await self._change(context, {_NAME: {"attachments": {attachment.id: given}}}, attachment.id)

    async def load_attachment(self, attachment_id: str, context: Any) -> Any:
        """Return the description of an attachment."""
        user = self._user(context)
        state = await (self._manager.app_state() if user is ANYONE else self._manager.user_state(user))
        found = p.native(p.native(state.get(_NAME)).get("attachments")).get(attachment_id)
        if found is None:
            raise _missing(f"attachment {attachment_id!r}")
        return _validated(_types.Attachment, found)

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:
        """Remove the description of an attachment, if there is one."""
        await self._change(context, {}, attachment_id)

    async def _change(self, context: Any, changes: Mapping[str, Any], attachment_id: str) -> None:
        user, gone = self._user(context), [[_NAME, "attachments", check_id(attachment_id, "attachment_id")]]
        if user is ANYONE:
            await self._manager.update_app_state(changes, remove=gone)
        else:
            await self._manager.update_user_state(user, changes, remove=gone)


def _page(data: list[Any], *, has_more: bool) -> Any:
    return _types.Page(data=data, has_more=has_more, after=data[-1].id if has_more and data else None)


def _missing(what: str) -> Exception:
    made: Exception = _framework.NotFoundError(f"there is no {what}")
    return made


def _validated(kind: Any, value: Any) -> Any:
    return import_module("pydantic").TypeAdapter(kind).validate_python(value)


def _thread(session: Session | SessionSummary) -> Any:
    """Return a thread's metadata. That of a session which others made has their metadata."""
    own = session.metadata.get(_NAME)
    part = own if is_mapping(own) else {"created_at": session.created_at, "metadata": session.metadata}
    given = {**plain({**part, "created_at": str(part["created_at"])}, "metadata"), "id": session.session_id}
    return _validated(_types.ThreadMetadata, {**given, "title": session.title})


def _message(item: Any, thread_id: str) -> Message:
    """Return the message that stores an item."""
    given = plain(item.model_dump(mode="json"), "item")
    role, content = _said(given)
    created: datetime = item.created_at
    moment = created.astimezone()  # of a time without zone, which ChatKit makes, it is the local one
    message = Message(role, content, message_id=item.id, timestamp=moment)
    keep_difference(message, _NAME, _written(message, thread_id), given)
    return message


def _said(given: dict[str, Any]) -> tuple[str, Any]:
    """Return the role and the content of what an item says to a model."""
    kind, content = given["type"], given.get("content")
    if kind in ("user_message", "assistant_message") and is_array(content):
        texts = [p.text_part(each["text"]) for each in content]
        only = texts[0]["text"] if len(texts) == 1 else texts
        return kind.removesuffix("_message"), only
    if kind == "client_tool_call":
        call = {"call_id": given["call_id"], "name": given["name"], "arguments": write(given["arguments"]).decode()}
        output = p.text_of(given["output"]) if given["status"] == "completed" else None
        made = [{"type": "function_call", **call}]
        made += (
            [] if output is None else [{"type": "function_call_output", "call_id": call["call_id"], "output": output}]
        )
        return "assistant", made
    return "assistant", None


def _item(message: Message, thread_id: str) -> Any:
    """Return the item that a message stores."""
    return _validated(_types.ThreadItem, restored(message, _NAME, _written(message, thread_id)))


def _written(message: Message, thread_id: str) -> dict[str, Any]:
    """Write an item from a message's own fields; what ChatKit has no item for becomes hidden context."""
    made: dict[str, Any] = {
        "id": message.message_id,
        "thread_id": thread_id,
        "created_at": message.timestamp.isoformat(),
    }
    said = [each.message for each in prompt_messages(message)]
    texts = [each["text"] for part in said for each in p.parts_of(part) if each["type"] == "text"]
    if len(said) == 1 and not said[0].tool_calls and p.speaker(said[0]) in ("user", "assistant"):
        kind, part = (
            ("user_message", "input_text") if p.speaker(said[0]) == "user" else ("assistant_message", "output_text")
        )
        content: list[dict[str, Any]] = [{"type": part, "text": each} for each in texts]
        if kind == "user_message":
            return {**made, "type": kind, "content": content, "attachments": [], "quoted_text": None} | {
                "inference_options": {"tool_choice": None, "model": None}
            }
        return {**made, "type": kind, "content": [{**each, "annotations": []} for each in content]}
    calls = p.calls_of(said[0])
    if len(calls) == 1 and not texts and len(said) <= 2:  # noqa: PLR2004 (a call and its result)
        output = said[1].content if len(said) > 1 else None
        status = "completed" if len(said) > 1 else "pending"
        call = {"call_id": calls[0].id, "name": calls[0].name, "arguments": calls[0].input}
        return {**made, "type": "client_tool_call", "status": status, **call, "output": output}
    return {**made, "type": "sdk_hidden_context", "content": write(openai.write(said)[0]).decode()}
