"""Keys, values, ids and sessions that the contracts write, and short helpers to read them back."""

import io
import json
from collections.abc import Iterable
from typing import Any

from pyai_sessions import ANYONE, Message, Session
from pyai_sessions.testing.clock import NOON

KEYS = {
    "plain": "session/sess_abc",
    "page": "messages/sess_abc/a1B2-_/0",
    "no slash": "key",
    "slashes": "a//b///c/",
    "only a slash": "/",
    "leading slash": "/a",
    "trailing slash": "a/",
    "colons": "a:b::c",
    "glob": "a*b?c[d]e^f",
    "braces": "{a}/{b}",
    "percent": "100%/%2F/%",
    "backslash": "a\\b\\",
    "quotes": 'it\'s "quoted"`',
    "newline": "a\nb\r\nc",
    "tab": "a\tb",
    "spaces": " a b ",
    "NUL": "a\0b",
    "ends in NUL": "a\0",
    "dots": "../..",
    "dot": ".",
    "accents": "h\u00e9llo",
    "decomposed accents": "he\u0301llo",
    "emoji": "\U0001f600/\U0001f469\u200d\U0001f4bb",
    "upper case": "KEY",
    "underscore": "k_y",
    "1 KiB": "k" * 1024,
    "1 KiB of another": "k" * 1023 + "j",
}
VALUES = {
    "empty": "",
    "JSON": '{"format":1,"messages":[{"role":"user","content":"Hello!"}]}',
    "number": "12",
    "NUL": "a\0b\0",
    "newlines": "a\nb\r\nc\rd",
    "spaces": "  a  ",
    "emoji": "\U0001f600 \U0001f469\u200d\U0001f4bb",
    "every plane": "\x01\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff",
    "quotes": "'\"\\`",
}

HOSTILE_IDS = [
    "/",
    "//",
    "a/b",
    "a/b/c",
    "../../etc/passwd",
    ".",
    "..",
    "...",
    ":",
    "{a}",
    "}{",
    "*",
    "a*",
    "?",
    "[a]",
    "^",
    "%",
    "%2F",
    "%252F",
    "a%2Fb",
    "\\",
    "\\n",
    "a\nb",
    "\r\n",
    "\t",
    " ",
    " a ",
    "a",
    "A",
    "a\0",
    "\0",
    "a\0b",
    "'",
    '"',
    "'; DROP TABLE sessions; --",
    "$(id)",
    "user",
    "active",
    "archived",
    "expiry",
    "session",
    "session/a",
    "messages/a/b/0",
    "messages/a/b/0/forks/c",
    "forks/a/b/c",
    "unreadable/a",
    "namespace/a",
    "pyai_sessions/probe",
    "h\u00e9llo",
    "he\u0301llo",
    "\u202eolleh",
    "\U0001f600",
    "\U0001f469\u200d\U0001f4bb",
    "\ud800",
    "\udfff",
    "a\ud83d",
    "\uffff",
    "0",
    "-1",
    "None",
    "null",
]
RICH: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "", "name": "ada"},
    {"role": "user", "content": "NUL \0, newline \r\n, emoji \U0001f600, lone \ud83d, right to left \u202e"},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "url": "data:,"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": {"arguments": "{}"}}]},
    {"role": "tool", "content": {"result": [1, 2.5, True, None, {"deep": [[]]}]}, "tool_call_id": "call_1"},
    {"role": "assistant", "content": "Done.", "metadata": {"tokens": 12, "tags": ["a", "b"], "n\u00fcl\0": None}},
)


def fill(session: Any, count: Any, start: Any = 0) -> None:
    """Add *count* messages, numbered from *start*."""
    for n in range(start, start + count):
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n}", message_id=f"m{n}")


def filled(session: Session, count: int, start: int) -> Session:
    """Add *count* messages to a session, and return it."""
    fill(session, count, start)
    return session


def contents(session: Any) -> list[Any]:
    """Return the contents of a session's messages."""
    return [each.content for each in session.messages]


def ids(sessions: Iterable[Any]) -> list[str]:
    """Return the ids of sessions or summaries."""
    return [each.session_id for each in sessions]


def without_revision(session: Session) -> dict[str, Any]:
    """Return a session as JSON values, without its revision, which is new at each save."""
    return {name: value for name, value in session.to_dict().items() if name != "revision"}


def exported(manager: Any, user_id: str, **options: Any) -> list[Any]:
    """Return the parsed lines of a user's export, in the order of session ids."""
    file = io.StringIO()
    count = manager.export_sessions(file, user_id=user_id, **options)
    lines = [json.loads(each) for each in file.getvalue().splitlines()]
    assert len(lines) == count
    return sorted(lines, key=lambda each: str(each.get("session_id", "")))


def all_pages(manager: Any, user_id: Any = ANYONE, **options: Any) -> Any:
    """Return all session ids of a list, read page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = manager.list_sessions(user_id, cursor=cursor, **options)
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


def hand_made(session_id: str, **fields: Any) -> Session:
    """Return a session of user "ada" that is in no store."""
    return Session(session_id=session_id, user_id="ada", created_at=NOON, updated_at=NOON, **fields)


def with_a_set_in_its_state() -> Session:
    """Return a session that JSON cannot represent."""
    session = hand_made("bad")
    vars(session)["state"] = {"deep": {"er": [{1, 2}]}}
    return session


def with_an_unknown_status() -> Any:
    """Return a session with an invalid status, assigned past the check."""
    session: Any = hand_made("bad")
    vars(session)["status"] = "gone"
    return session


def without_messages_of_its_own() -> Any:
    """Return a session whose history was replaced by a plain list."""
    session: Any = hand_made("bad")
    vars(session)["messages"] = [Message("user", "assigned")]
    return session


NO_SESSIONS: dict[str, Any] = {
    "set in state": with_a_set_in_its_state(),
    "status": with_an_unknown_status(),
    "assigned messages": without_messages_of_its_own(),
    "none": None,
    "number": 7,
    "text": "no line of JSON",
    "cut line": '{"session_id":"bad", "mess',
    "damaged document": '{"key": "session/bad", "document": "{"}',
    "list": [("session_id", "bad")],
    "message": Message("user", "no session"),
    "no id": {"user_id": "ada", "messages": []},
    "empty": {},
    "long id": {"session_id": "x" * 1025},
    "newer format": {"session_id": "bad", "format": 2},
    "head of pages": {"session_id": "bad", "sealed": [{"owner": "b", "generation": "g", "pages": 1, "messages": 32}]},
    "bytes as a key": {"session_id": "bad", b"user_id": "ada"},
    "messages of text": {"session_id": "bad", "messages": "Hello!"},
    "number of messages": {"session_id": "bad", "messages": 7},
    "message without a role": {"session_id": "bad", "messages": [{"content": "Hello!"}]},
    "set in a message": {"session_id": "bad", "messages": [{"role": "user", "content": {1}}]},
    "metadata": {"session_id": "bad", "metadata": []},
    "status text": {"session_id": "bad", "status": "gone"},
    "time of day": {"session_id": "bad", "updated_at": "yesterday"},
    "time in milliseconds": {"session_id": "bad", "updated_at": 1769860800000.0},
    "time without a zone": {"session_id": "bad", "updated_at": "2026-01-31T12:00:00"},
    "time before the year 1": {"session_id": "bad", "created_at": "0001-01-01T00:00:00+05:00"},
    "checkpoint": {"session_id": "bad", "checkpoints": [{}]},
}
