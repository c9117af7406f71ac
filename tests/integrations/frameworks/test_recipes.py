"""Recipes of the documentation for frameworks without an adapter of their own, each run as the page has it."""

import pytest

from tests.integrations.frameworks.documented import documented


@pytest.mark.parametrize("name", ["BaseChatMessageHistory", "BaseChatStore"])
def test_a_recipe_prints_what_the_page_says(name, tmp_path):
    """The program of the page runs as it stands, with its framework."""
    output, printed = documented(name, tmp_path)

    assert printed == output
