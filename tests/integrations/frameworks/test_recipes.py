"""Recipes for frameworks without an adapter of their own, as the page has them, and a conversation under several."""

import json

import pytest

from pyai_sessions import SessionManager
from tests.integrations.frameworks.page import ROOT, check_program, run_program


@pytest.mark.parametrize("name", ["BaseChatMessageHistory", "BaseChatStore"])
def test_a_recipe_prints_what_the_page_says(name, tmp_path):
    """The page's program runs as it stands, and prints the page's output."""
    check_program(name, tmp_path)


def test_one_conversation_goes_through_three_frameworks(tmp_path):
    """A conversation begun under the Agents SDK goes on under Pydantic AI and LangGraph, which are given all of it."""
    printed = run_program(str(ROOT / "examples" / "frameworks" / "one_conversation.py"), folder=tmp_path)

    title, *lines = printed.splitlines()
    said = [json.loads(each) for each in lines]
    assert title == "trip: Is it warm in Oslo?"
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "assistant", *["user", "assistant"] * 2]
    assert said[5]["content"] == "Pydantic AI was given 5 parts."
    assert said[7]["content"] == "LangGraph was given 7 messages."
    with SessionManager() as manager:
        with (tmp_path / "trip.jsonl").open(encoding="utf-8") as file:
            manager.import_sessions(file)
        assert manager.get_session("trip").history(format="openai") == said
