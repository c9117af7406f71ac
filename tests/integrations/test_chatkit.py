"""The store of ChatKit, without ChatKit."""

import pytest

from pyai_sessions import MissingPackageError
from pyai_sessions.integrations.chatkit import ChatKitStore


def test_a_store_without_chatkit_says_what_to_install():
    """The adapter is imported without its framework, and names it when it is used."""
    with pytest.raises(MissingPackageError, match="pip install openai-chatkit"):
        ChatKitStore(None)
