"""Find conversations by words, and the messages around one of them: for the browser, and for agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from pyai_sessions.cli.listing import summaries

if TYPE_CHECKING:
    from pyai_sessions import Message, SessionManager, SessionSummary

_MOST = 200


def found_messages(manager: SessionManager, text: str, progress: Callable[[int], object]) -> dict[str, str | None]:
    """Return the ids of the sessions that have words in their messages or their title, each with the best message's id.

    Those found by their title alone come last, with None. The last word may go on: a person is still typing it.
    *progress* is called from time to time with how many sessions were looked at; what it raises ends the search.
    """
    from pyai_sessions import InvalidValueError

    text = text.strip()
    query = f"{text}*" if text[-1:].isalnum() else text
    options: dict[str, Any] = {
        "order": "best",
        "one_per_session": True,
        "limit": _MOST,
        "skip_invalid": True,
        "progress": progress,
    }
    try:
        hits = {each.session_id: each.message_id for each in manager.search(query, **options)}
    except InvalidValueError:  # half of a query, such as a quote that is still open
        hits = {}
    wanted = text.casefold()
    titled = (each.session_id for each in newest(manager, progress) if wanted in (each.title or "").casefold())
    return {**hits, **{each: None for each in islice(titled, _MOST) if each not in hits}}


def newest(manager: SessionManager, progress: Callable[[int], object]) -> Iterator[SessionSummary]:
    """Iterate over the active sessions, latest activity first. *progress* is as that of `found_ids`."""
    for number, each in enumerate(summaries(manager, on_damage=lambda: None)):
        progress(number)
        yield each


def messages_around(manager: SessionManager, session_id: str, message_id: str, size: int, whose: Any) -> list[Message]:
    """Return a message and those before and after it, about *size* in all. *whose* is a ``user_id`` of a manager.

    Raises:
        SessionStateError: The session has no such message.

    """
    options: dict[str, Any] = {"user_id": whose, "limit": size // 2 or 1}
    before = manager.get_messages(session_id, before=message_id, **options)
    after = manager.get_messages(session_id, after=message_id, **options)
    message = manager.get_message(session_id, message_id, user_id=whose)
    return [*before, *([] if message is None else [message]), *after]
