"""Tests of `user_id=` with damaged sessions: another user learns nothing of the damage."""

import json
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError
from pyai_sessions.testing.samples import fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.isolation import CALLS, outcome


class IsolationOfDocuments(StoreFixtures):
    """Only the head decides whose a session is."""

    BEHIND_THE_HEAD: tuple[Any, ...] = (
        {"messages": [{"content": "no role"}]},
        {"messages": 12},
        {"message_count": 7},
        {"state": []},
        {"metadata": []},
        {"checkpoints": [{}]},
        {"parent": {"session_id": 12}},
        "a page",
        "no page",
    )

    def test_damage_behind_the_head_tells_a_stranger_nothing(self, manager: Any, raw: Any) -> None:
        """Another user gets "not found" for a damaged session, as for a sound one. Its own user gets the damage."""
        absent = {call: outcome(call, manager, "bob") for call in CALLS}
        fill(session := manager.create_session("ada", session_id="s"), 100)
        manager.save(session)
        page = max(key for key in raw if key.startswith("messages/s/"))
        for damage in self.BEHIND_THE_HEAD:
            changed = "session/s" if isinstance(damage, dict) else page
            whole = raw[changed]
            if damage == "no page":
                del raw[page]
            else:
                raw[changed] = "torn" if damage == "a page" else json.dumps(json.loads(whole) | damage)
            before = {key: raw[key] for key in raw if key.startswith(("session/", "messages/"))}

            assert {call: outcome(call, manager, "bob") for call in CALLS} == absent

            assert {key: raw[key] for key in raw if key.startswith(("session/", "messages/"))} == before
            with pytest.raises(InvalidDocumentError):
                manager.get_session("s", user_id="ada")
            raw[changed] = whole

    @pytest.mark.parametrize("text", ["", "torn", '{"format":1,"session_id":"another","user_id":"ada"}', None])
    def test_a_damaged_head_raises_whoever_asks(self, manager: Any, raw: Any, text: Any) -> None:
        """A damaged head does not say whose it is: every user's call raises. A call without a user deletes it."""
        fill(session := manager.create_session("ada", session_id="s"), 1)
        manager.save(session)
        text = raw["session/s"] = raw["session/s"][:-30] if text is None else text

        for user_id in ("ada", "bob"):
            for call, act in CALLS.items():
                with pytest.raises(InvalidDocumentError) as caught:
                    act(manager, user_id)
                assert caught.value.session_id == "s", call
            with pytest.raises(InvalidDocumentError):
                manager.get_or_create_session("s", user_id)

        assert raw["session/s"] == text
        assert manager.delete("s") is True
