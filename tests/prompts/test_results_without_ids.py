"""Tests of tools' results that name no call, as Gemini's and Ollama's, stored by each door."""

import pytest

from pyai_sessions import Message, SessionManager
from tests.prompts.test_items import CALL, SHAPES, ended

WITHOUT_IDS = ("gemini", "ollama", "the former function_call")
DOORS = {
    "append": lambda manager, items: manager.append("s", *items),
    "add_messages": lambda manager, items: with_saved(manager, lambda session: session.add_messages(items)),
    "add_messages, loaded in part": lambda manager, items: with_saved(
        manager, lambda session: session.add_messages(items), last=1
    ),
}
STORED_AS_IT_IS = {
    "Message": lambda manager, item: manager.append("s", Message(**item)),
    "add_message": lambda manager, item: with_saved(manager, lambda session: session.add_message(**item)),
    "append": lambda manager, item: manager.append("s", item),
}


def with_saved(manager, act, **options):
    session = manager.get_session("s", **options)
    act(session)
    manager.save(session)


@pytest.mark.parametrize("shape", WITHOUT_IDS)
@pytest.mark.parametrize("asked", DOORS)
@pytest.mark.parametrize("answered", DOORS)
def test_a_result_that_names_no_call_belongs_to_the_last_one_of_its_function(shape, asked, answered):
    """Calls and results come by any door. A call of an earlier turn that was interrupted is not answered later."""
    manager = SessionManager()
    manager.create_session("ada", session_id="s")
    manager.append("s", {"role": "user", "content": "What colour?"})
    call, result = SHAPES[shape]
    DOORS[asked](manager, [call])
    manager.append("s", {"role": "user", "content": "And now?"})
    DOORS[asked](manager, [call])

    DOORS[answered](manager, [result])

    window = manager.get_session("s").history(format="openai")
    assert ended(window) == (CALL["function"], "blue")
    assert [each["role"] for each in window] == ["user", "assistant", "tool", "user", "assistant", "tool"]
    assert window[2]["content"].startswith("[interrupted")


@pytest.mark.parametrize("asked", STORED_AS_IT_IS)
@pytest.mark.parametrize("answered", DOORS)
def test_a_call_without_an_id_that_is_stored_as_it_is_has_one_id(asked, answered):
    """The history calls it by the id with which results are stored, also where that id is given back."""
    for given_back in (False, True):
        manager = SessionManager()
        manager.create_session("ada", session_id="s")
        manager.append("s", {"role": "user", "content": "What colour?"})
        call, result = SHAPES["ollama"]
        STORED_AS_IT_IS[asked](manager, call)
        if given_back:
            call_id = manager.get_session("s").history(format="openai")[-1]["tool_call_id"]
            result = {"role": "tool", "content": "blue", "tool_call_id": call_id}

        DOORS[answered](manager, [result])

        assert ended(manager.get_session("s").history(format="openai")) == (CALL["function"], "blue")
