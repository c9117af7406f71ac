"""ChatGPT's data export: `conversations.json`, a tree of messages for each conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from pyai_sessions.cli.sources.reading import (
    Broken,
    Found,
    UnreadableError,
    given,
    items,
    listed,
    mapping,
    moment,
    session_of,
    text_of,
)


def sessions(file: IO[str]) -> Iterator[Found | Broken]:
    """Iterate over the conversations: the branch that was shown last of each."""
    for item in items(file):
        if isinstance(item, Broken):
            yield item
            continue
        try:
            yield Found(item.place, _session(mapping(item.value, "the conversation")))
        except UnreadableError as err:
            yield Broken(item.place, str(err))


def _session(found: Mapping[str, Any]) -> dict[str, Any]:
    session_id = text_of(found.get("conversation_id") or found.get("id"), "conversation_id")
    nodes = mapping(found.get("mapping"), "mapping")
    messages = [made for node in _branch(nodes, found.get("current_node")) if (made := _message(node))]
    return session_of(
        f"chatgpt-{session_id}",
        "chatgpt",
        messages,
        title=found.get("title"),
        created_at=moment(found.get("create_time")),
        updated_at=moment(found.get("update_time")),
        metadata={"model": found.get("default_model_slug")},
    )


def _branch(nodes: Mapping[str, Any], last: object) -> list[Mapping[str, Any]]:
    """Return the nodes from the root to the last one; without a last one, to the newest leaf."""
    if not isinstance(last, str) or last not in nodes:
        leaves = [name for name, node in nodes.items() if not mapping(node, "a node").get("children")]
        last = max(leaves, key=lambda name: _time(nodes[name]), default=None)
    branch: list[Mapping[str, Any]] = []
    seen = set[str]()
    while isinstance(last, str) and last in nodes and last not in seen:
        seen.add(last)
        node = mapping(nodes[last], "a node")
        branch.append(node)
        last = node.get("parent")
    return branch[::-1]


def _time(node: Any) -> float:
    message: object = mapping(node, "a node").get("message")
    found = mapping(message, "message").get("create_time") if message else None
    return found if isinstance(found, (int, float)) else 0.0


def _message(node: Mapping[str, Any]) -> dict[str, Any] | None:
    if not node.get("message"):
        return None
    message = mapping(node["message"], "message")
    author, about = mapping(message.get("author"), "author"), mapping(message.get("metadata") or {}, "metadata")
    content = _content(mapping(message.get("content"), "content"))
    if about.get("is_visually_hidden_from_conversation") or content in ("", []):
        return None
    recipient = message.get("recipient")
    return given(
        role=text_of(author.get("role"), "role"),
        content=content,
        message_id=text_of(message.get("id"), "id"),
        timestamp=moment(message.get("create_time")),
        name=author.get("name") or None,
        metadata=given(model=about.get("model_slug"), recipient=None if recipient == "all" else recipient),
    )


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
    found = content.get("text") or content.get("result") or content.get("content") or ""
    return found if isinstance(found, str) else str(found)


def _part(part: Any) -> dict[str, Any]:
    found = dict(mapping(part, "a part"))
    return {"type": str(found.pop("content_type", "part")), **found}
