"""Conversations and windows in short form, for the tests of windows."""

from pyai_sessions import Message, Session


def call(name):
    """Return a call with this id."""
    return {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


def calls(*names, content=None, **fields):
    """Return a message with calls of these ids."""
    return Message("assistant", content, tool_calls=[call(each) for each in names], **fields)


def result(name, content="21", **fields):
    """Return the result of a call."""
    return Message("tool", content, tool_call_id=name, **fields)


def said(window):
    """Return a window in short form: u1 is a user's message, c are calls, r are results."""
    short = {"user": "u", "assistant": "a", "tool": "r", "system": "s", "developer": "d"}
    return " ".join("c" if each.get("tool_calls") else short[each["role"]] for each in window)


def talk(*roles, **fields):
    """Return a session of messages in short form: u, a, s, c (two calls with their results)."""
    session = Session(**fields)
    for n, role in enumerate(roles):
        if role == "c":
            session.add_message("assistant", None, tool_calls=[call(f"c{n}"), call(f"d{n}")])
            session.add_message("tool", "21", tool_call_id=f"c{n}")
            session.add_message("tool", "22", tool_call_id=f"d{n}")
        else:
            session.add_message({"u": "user", "a": "assistant", "s": "system"}[role], f"{role}{n} " * 10)
    return session
