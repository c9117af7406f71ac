"""Recipes for frameworks without an adapter of their own, as the page has them, and a conversation under several."""

import json
import os
import subprocess
import sys

import pytest

from pyai_sessions import SessionManager
from tests.integrations.frameworks.documented import ROOT, documented


@pytest.mark.parametrize("name", ["BaseChatMessageHistory", "BaseChatStore"])
def test_a_recipe_prints_what_the_page_says(name, tmp_path):
    """The program of the page runs as it stands, with its framework."""
    output, printed = documented(name, tmp_path)

    assert printed == output


def test_one_conversation_goes_through_three_frameworks(tmp_path):
    """What is begun under the Agents SDK is continued under Pydantic AI and LangGraph, each given all before it."""
    program = ROOT / "examples" / "frameworks" / "one_conversation.py"
    named = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=named, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    said = [json.loads(each) for each in lines]
    assert title == "trip: Is it warm in Oslo?"
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "assistant", *["user", "assistant"] * 2]
    assert said[5]["content"] == "Pydantic AI was given 5 parts."
    assert said[7]["content"] == "LangGraph was given 7 messages."
    with SessionManager() as manager:
        with (tmp_path / "trip.jsonl").open(encoding="utf-8") as file:
            manager.import_sessions(file)
        assert manager.get_session("trip").history(format="openai") == said
