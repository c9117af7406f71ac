"""Claude's data export: `conversations.json`, a list of messages for each conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    Tree,
    each_read,
    given,
    items,
    listed,
    mapping,
    moment,
    session_of,
    text_of,
)


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Iterate over the conversations: the newest branch of each, and the others as branches of the session."""
    return each_read(items(file), _session)


def _session(found: Mapping[str, Any]) -> dict[str, Any]:
    tree, before = Tree(), None
    for each in listed(found.get("chat_messages"), "chat_messages"):
        message = mapping(each, "a message")
        made = _message(message)
        tree.add(made["message_id"], message.get("parent_message_uuid", before), made)
        before = made["message_id"]
    messages, left = tree.branches(found.get("current_leaf_message_uuid"))
    return session_of(
        f"claude-{text_of(found.get('uuid'), 'uuid')}",
        "claude",
        messages,
        title=found.get("name"),
        created_at=moment(found.get("created_at")),
        updated_at=moment(found.get("updated_at")),
        metadata={"model": found.get("model"), "summary": found.get("summary") or None},
        left=left or None,
    )


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    sender = text_of(message.get("sender"), "sender")
    return given(
        role="user" if sender == "human" else sender,
        content=_content(message),
        message_id=text_of(message.get("uuid"), "uuid"),
        timestamp=moment(message.get("created_at")),
    )


def _content(message: Mapping[str, Any]) -> Any:
    """Return the text of a message; where it has more, a list of parts: thoughts, calls of tools, names of files."""
    parts: list[dict[str, Any]] = [
        dict(mapping(each, "a part of content")) for each in listed(message.get("content"), "content")
    ]
    if not parts:
        parts = [{"type": "text", "text": str(message.get("text") or "")}]
    _name_calls(parts, str(message.get("uuid")))
    for each in listed(message.get("attachments"), "attachments"):
        attached = mapping(each, "an attachment")
        parts.append({"type": "file", "file_name": attached.get("file_name")})
        if attached.get("extracted_content"):
            parts.append({"type": "text", "text": str(attached["extracted_content"])})
    for each in listed(message.get("files"), "files"):
        parts.append({"type": "file", "file_name": mapping(each, "a file").get("file_name")})
    if all(each.get("type") == "text" for each in parts):
        return "\n\n".join(str(each.get("text") or "") for each in parts)
    return [{key: value for key, value in each.items() if value is not None} for each in parts]


def _name_calls(parts: list[dict[str, Any]], name: str) -> None:
    """Give an id to calls and their results that have none, as in older exports: a result follows its call."""
    number = 0
    for each in parts:
        if each.get("type") == "tool_use":
            number += 1
            each["id"] = each.get("id") or f"{name}-{number}"
        elif each.get("type") == "tool_result":
            each["tool_use_id"] = each.get("tool_use_id") or f"{name}-{number}"
