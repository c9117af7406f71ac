"""Fixtures for the tests of values."""

from datetime import datetime, timezone

import pytest

from pyai_sessions import KVSessionStore, Session, SessionManager, jsonable


def filled(session):
    """Give a session a value in every field, and return it."""
    session.add_message("user", "Hello!", message_id="m0", metadata={"a": [1]})
    session.add_message("assistant", [{"type": "text", "text": "Hi"}], message_id="m1", tool_calls=[{"id": "c"}])
    session.state["cart"] = [{"id": 1}]
    session.metadata["title"] = "T"
    session.checkpoint("here")
    session.keep_unknown({"x-label": {"deep": [1]}})
    return session


MADE = {
    "made": lambda _: filled(Session(session_id="s", user_id="ada")),
    "created": lambda m: filled(m.create_session("ada", session_id="s")),
    "saved": lambda m: m.save(filled(m.create_session("ada", session_id="s"))) or m.get_session("s"),
    "default": lambda m: filled(SessionManager(m.store, default=jsonable).create_session("ada", session_id="s")),
}


@pytest.fixture
def manager():
    return SessionManager(KVSessionStore({}), clock=lambda: datetime.now(timezone.utc))


@pytest.fixture(params=MADE)
def session(request, manager):
    """Return a session, new, created, or loaded."""
    return MADE[request.param](manager)
