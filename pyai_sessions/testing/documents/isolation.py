"""Sessions asked for in a user's name, where what is stored is damaged."""

import json
from typing import Any

import pytest

from pyai_sessions import InvalidDocumentError
from pyai_sessions.testing.samples import fill
from pyai_sessions.testing.store.fixtures import StoreFixtures
from pyai_sessions.testing.store.isolation import DOORS, outcome


class IsolationOfDocuments(StoreFixtures):
    """Whose a session is, its head says alone; what else it consists of tells a stranger nothing."""

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
        """A session is another's before it is damaged: not found, and left as it is. Its user learns of the damage."""
        absent = {door: outcome(door, manager, "bob") for door in DOORS}
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

            assert {door: outcome(door, manager, "bob") for door in DOORS} == absent

            assert {key: raw[key] for key in raw if key.startswith(("session/", "messages/"))} == before
            with pytest.raises(InvalidDocumentError):
                manager.get_session("s", user_id="ada")
            raw[changed] = whole

    @pytest.mark.parametrize("text", ["", "torn", '{"format":1,"session_id":"another","user_id":"ada"}', None])
    def test_a_damaged_head_raises_whoever_asks(self, manager: Any, raw: Any, text: Any) -> None:
        """Unreadable is not absent; and whose it is, nothing says: it is deleted by who asks for no user."""
        fill(session := manager.create_session("ada", session_id="s"), 1)
        manager.save(session)
        text = raw["session/s"] = raw["session/s"][:-30] if text is None else text

        for user_id in ("ada", "bob"):
            for door, act in DOORS.items():
                with pytest.raises(InvalidDocumentError) as caught:
                    act(manager, user_id)
                assert caught.value.session_id == "s", door
            with pytest.raises(InvalidDocumentError):
                manager.get_or_create_session("s", user_id)

        assert raw["session/s"] == text
        assert manager.delete("s") is True
