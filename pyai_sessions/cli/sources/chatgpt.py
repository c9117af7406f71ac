"""ChatGPT's data export: `conversations.json`, a tree of messages for each conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    Tree,
    called,
    each_read,
    given,
    items,
    listed,
    mapping,
    moment,
    session_of,
    text_of,
)

_OF_NO_TOOL = (None, "", "all", "user")
"""Recipients of messages that call no tool."""


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Iterate over the conversations: the branch that was shown last, and the others as branches of the session."""
    return each_read(items(file), _session)


def _session(found: Mapping[str, Any]) -> dict[str, Any]:
    session_id = text_of(found.get("conversation_id") or found.get("id"), "conversation_id")
    nodes = {name: mapping(node, "a node") for name, node in mapping(found.get("mapping"), "mapping").items()}
    tree = Tree()
    for name, node in nodes.items():
        tree.add(name, node.get("parent"), _message(node, nodes))
    messages, left = tree.branches(found.get("current_node"))
    return session_of(
        f"chatgpt-{session_id}",
        "chatgpt",
        messages,
        title=found.get("title"),
        created_at=moment(found.get("create_time")),
        updated_at=moment(found.get("update_time")),
        metadata={"model": found.get("default_model_slug"), "gizmo_id": found.get("gizmo_id")},
        left=left or None,
        status="archived" if found.get("is_archived") is True else None,
    )


def _message(node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    if not node.get("message"):
        return None
    message = mapping(node["message"], "message")
    author, about = mapping(message.get("author"), "author"), mapping(message.get("metadata") or {}, "metadata")
    body = mapping(message.get("content"), "content")
    content = _with_files(_content(body), about)
    call = _call(message, body)
    if content in ("", []) and call is None:
        return None
    role = text_of(author.get("role"), "role")
    return given(
        role="system" if body.get("content_type") == "user_editable_context" else role,
        content="" if call else content,
        message_id=text_of(message.get("id"), "id"),
        timestamp=moment(message.get("create_time")),
        name=author.get("name") or None,
        tool_calls=None if call is None else [call],
        tool_call_id=_answered(node, nodes) if role == "tool" else None,
        metadata=given(model=about.get("model_slug"), hidden=about.get("is_visually_hidden_from_conversation") or None),
    )


def _call(message: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the call of a tool that an answer is which goes to the tool alone."""
    recipient = message.get("recipient")
    if recipient in _OF_NO_TOOL or mapping(message.get("author"), "author").get("role") != "assistant":
        return None
    found = _content(content)
    return called(recipient, found, text_of(message.get("id"), "id"))


def _answered(node: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the id of the call that a tool's message answers: it follows the call, or another answer to it."""
    for _ in nodes:
        node = nodes.get(str(node.get("parent")), {})
        if not node.get("message"):
            return None
        message = mapping(node["message"], "message")
        if mapping(message.get("author"), "author").get("role") != "tool":
            call = _call(message, mapping(message.get("content"), "content"))
            return None if call is None else call["id"]
    return None


def _content(content: Mapping[str, Any]) -> Any:
    """Return the text of a message; where it has images or files, a list of parts."""
    if "parts" in content:
        parts = [each for each in listed(content["parts"], "parts") if each not in ("", None)]
        if all(isinstance(each, str) for each in parts):
            return "\n".join(parts)
        return [{"type": "text", "text": each} if isinstance(each, str) else _part(each) for each in parts]
    if isinstance(content.get("thoughts"), list):
        thoughts = [str(mapping(each, "a thought").get("content", "")) for each in content["thoughts"]]
        return [{"type": "thinking", "thinking": "\n".join(thoughts)}] if any(thoughts) else []
    if content.get("content_type") == "user_editable_context":
        told = [content.get(name) for name in ("user_profile", "user_instructions")]
        return "\n\n".join(each for each in told if isinstance(each, str) and each)
    found = content.get("text") or content.get("result") or content.get("content") or ""
    return found if isinstance(found, str) else json.dumps(found)


def _part(part: Any) -> dict[str, Any]:
    found = dict(mapping(part, "a part"))
    return {"type": str(found.pop("content_type", "part")), **found}


def _with_files(content: Any, about: Mapping[str, Any]) -> Any:
    """Return a message's content with the names of the files attached to it, but for those that it shows itself."""
    shown = json.dumps(content)
    files = [
        {"type": "file", **given(file_name=each.get("name"), file_id=each.get("id"), mime_type=each.get("mime_type"))}
        for each in (mapping(one, "an attachment") for one in listed(about.get("attachments"), "attachments"))
        if not (isinstance(each.get("id"), str) and each["id"] in shown)
    ]
    if not files:
        return content
    text = [{"type": "text", "text": content}] if content else []
    return [*(text if isinstance(content, str) else content), *files]
