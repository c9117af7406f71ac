"""The session services of Google's Agent Development Kit."""

import logging
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from sqlalchemy import text

from tests.benchmarks.families import Place
from tests.benchmarks.floors import modes, modes_of
from tests.benchmarks.texts import Messages

try:
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
except ImportError:  # older releases
    SqliteSessionService = None

logging.getLogger("google_adk").setLevel(logging.ERROR)
APP = "bench"


class Events:
    """A session of the kit: a turn is two events, each appended as it comes."""

    def __init__(self, service: Any, session: Any) -> None:
        self._service = service
        self._session = session

    async def turn(self, messages: Messages) -> None:
        for each in messages:
            content = types.Content(
                role="user" if each["role"] == "user" else "model", parts=[types.Part(text=each["content"])]
            )
            event = Event(author=each["role"], invocation_id="turn", content=content)
            await self._service.append_event(self._session, event)

    async def load(self, last: int | None = None) -> list[str]:
        self._session = await self._service.get_session(
            app_name=APP,
            user_id=self._session.user_id,
            session_id=self._session.id,
            config=GetSessionConfig(num_recent_events=last) if last else None,
        )
        return [each.content.parts[0].text for each in self._session.events]


class Named:
    """The id of a session that is still to be loaded."""

    def __init__(self, session_id: str, user_id: str) -> None:
        self.id = session_id
        self.user_id = user_id


class _Service:
    """What both services share."""

    window = 50
    lists = True
    service: Any

    async def create(self, session_id: str, user_id: str) -> Events:
        return Events(
            self.service, await self.service.create_session(app_name=APP, user_id=user_id, session_id=session_id)
        )

    def open(self, session_id: str, user_id: str) -> Events:
        return Events(self.service, Named(session_id, user_id))

    async def newest(self, user_id: str) -> list[str]:
        found = await self.service.list_sessions(app_name=APP, user_id=user_id)
        return [each.id for each in found.sessions]

    async def close(self) -> None:
        await self.service.close()


class AdkSqlite(_Service):
    """`SqliteSessionService(path)`."""

    name = "ADK SqliteSessionService"
    beside = "SQLite FULL"
    awaited = True
    note = (
        "each message a transaction: a killed process leaves half a turn; a stale copy raises; the list is of all of a "
        "user's sessions, oldest first; more: state by user and by app"
    )

    def __init__(self, place: Place) -> None:
        self.service = SqliteSessionService(str(place.folder / "adk-sqlite.db"))

    async def durability(self) -> str:
        async with self.service._get_db_connection() as db:
            return await db._execute(modes_of, db._conn)


class AdkDatabase(_Service):
    """`DatabaseSessionService("sqlite+aiosqlite:///…")`."""

    name = "ADK DatabaseSessionService"
    beside = "SQLite FULL"
    awaited = True
    note = (
        "each message a transaction: a killed process leaves half a turn; a stale copy raises; the list is of all of a "
        "user's sessions, oldest first; more: any SQL server, state by user and by app"
    )

    def __init__(self, place: Place) -> None:
        self.service = DatabaseSessionService(f"sqlite+aiosqlite:///{place.folder / 'adk-database.db'}")

    async def durability(self) -> str:
        async with self.service.db_engine.connect() as connection:
            journal = (await connection.execute(text("PRAGMA journal_mode"))).scalar_one()
            return modes(journal, (await connection.execute(text("PRAGMA synchronous"))).scalar_one())


PEERS = (AdkSqlite, AdkDatabase) if SqliteSessionService else (AdkDatabase,)
