"""Sample sessions for the tests of messages and histories."""

from pyai_sessions import SessionManager

CALLS = [{"id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}]
PARTS = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}]


def three_messages(clock):
    """Return a session with three messages, m0 to m2."""
    made = SessionManager({}, clock=clock).create_session("ada", session_id="s")
    for n, role in enumerate(["system", "user", "assistant"]):
        made.add_message(role, f"text {n}", message_id=f"m{n}")
    return made


def contents(session):
    return [each.content for each in session.messages]
