"""Tests of `session.temporary`, which is never stored."""

import copy
import dataclasses
import io
import pickle

import pytest

from pyai_sessions import InvalidValueError, Session, SessionManager


def test_what_is_temporary_stays_with_the_object():
    """It survives saves and merges of the object, and is in no store, export, copy, pickle or comparison."""
    manager = SessionManager()
    session = manager.create_session("ada", session_id="s")
    kept = session.temp["client"] = object()
    manager.append("s", {"role": "user", "content": "theirs"})
    session.add_message("user", "mine")
    manager.save(session)  # merged

    assert session.temp == {"client": kept}
    assert manager.get_session("s").temp == {}
    assert manager.get_session("s") == session
    for other in (
        copy.copy(session),
        copy.deepcopy(session),
        pickle.loads(pickle.dumps(session)),  # noqa: S301
        dataclasses.replace(session),
        Session.from_json(session.to_json()),
        manager.fork("s"),
    ):
        assert other.temp == {}
    assert "temp" not in session.to_json()
    file = io.StringIO()
    manager.export_sessions(file, user_id="ada")
    assert "client" not in file.getvalue()
    assert SessionManager().import_sessions([session]).inserted == 1


def test_what_is_temporary_is_a_dict():
    """Another dict can be assigned. Other types raise."""
    session = Session()
    session.temp = {"a": 1}

    assert session.temp == {"a": 1}
    with pytest.raises(InvalidValueError, match="temp is a list"):
        session.temp = []
