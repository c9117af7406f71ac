"""The session manager of Strands that keeps files."""

import logging
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager

from tests.benchmarks.families import Place
from tests.benchmarks.texts import Messages

logging.getLogger("strands").setLevel(logging.ERROR)
AGENT = "agent"


class Silent(Model):
    """A model that is never asked."""

    def update_config(self, **config: Any) -> None: ...
    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *args: Any, **options: Any) -> Any: ...
    def stream(self, *args: Any, **options: Any) -> Any: ...


class Files:
    """An agent with its session manager, which does at each message what the agent's hooks do."""

    def __init__(self, folder: str, session_id: str) -> None:
        self._manager = FileSessionManager(session_id, storage_dir=folder)
        self._agent = Agent(
            model=Silent(), agent_id=AGENT, session_manager=self._manager, callback_handler=None
        )  # loads the messages of its window, 40

    def turn(self, messages: Messages) -> None:
        for each in messages:
            message: Any = {"role": each["role"], "content": [{"text": each["content"]}]}
            self._agent.messages.append(message)
            self._manager.append_message(message, self._agent)
            self._manager.sync_agent(self._agent)
        self._agent.conversation_manager.apply_management(self._agent)
        self._manager.sync_agent(self._agent)

    def load(self, last: int | None = None) -> list[str]:
        if last:  # the agent has them since it was made: those of its window
            return [each["content"][0]["text"] for each in self._agent.messages]
        found = self._manager.list_messages(self._manager.session_id, AGENT)
        return [each.message["content"][0]["text"] for each in found]


class StrandsFiles:
    """`Agent(session_manager=FileSessionManager(session_id, storage_dir))`; *last* is the agent's own window of 40."""

    name = "Strands FileSessionManager"
    beside = "SQLite NORMAL"
    awaited = False
    window = 50
    lists = False
    note = (
        "a file a message, put in place by a rename: a killed process leaves half a turn; no fsync; messages are "
        "numbered from memory, so one writer overwrites another's; no users, no list; *last 50* is the agent's window "
        "of 40"
    )

    def __init__(self, place: Place) -> None:
        self._folder = str(place.folder / "strands")

    def durability(self) -> str:
        return "files, no fsync"

    def open(self, session_id: str, user_id: str) -> Files:
        return Files(self._folder, session_id)

    def create(self, session_id: str, user_id: str) -> Files:
        return Files(self._folder, session_id)

    def close(self) -> None: ...


PEERS = (StrandsFiles,)
