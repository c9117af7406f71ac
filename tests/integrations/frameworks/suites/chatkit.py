"""A plugin of pytest for the tests of ChatKit: a store of ours stands in for theirs, which its package leaves out."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pyai_sessions import SessionManager
from pyai_sessions.integrations.chatkit import ChatKitStore


@dataclass
class RequestContext:
    """Who asks, as the tests say it."""

    user_id: str


class SQLiteStore(ChatKitStore):
    """A ChatKitStore of the database that a test names. Stores with one name share it."""

    def __init__(self, db_path: str) -> None:
        self.db_path = db_path
        path = Path(tempfile.mkdtemp()) / "sessions.db"
        manager = STORAGES.setdefault(db_path, SessionManager(f"sqlite:///{path}?synchronous=NORMAL"))
        super().__init__(manager, user_of=lambda context: context.user_id)


STORAGES: dict[str, SessionManager] = {}


def module(name: str, **names: Any) -> None:
    """Make a module with some names importable."""
    made = ModuleType(name)
    vars(made).update(names)
    sys.modules[name] = made


module("tests", __path__=[str(Path("tests").absolute())])
module("tests._types", RequestContext=RequestContext)
module("helpers", __path__=[])
module("helpers.mock_store", SQLiteStore=SQLiteStore)
