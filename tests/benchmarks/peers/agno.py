"""Agno's SQLite database."""

import logging
import time
from uuid import uuid4

from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session._utils import resolve_run_index
from agno.session.agent import AgentSession
from sqlalchemy import text

from tests.benchmarks.families import Place
from tests.benchmarks.floors import modes
from tests.benchmarks.texts import Messages

logging.getLogger("agno").setLevel(logging.ERROR)
AGENT = "agent"


class Runs:
    """An agent's session: a turn is a run, and is stored as the agent does at the end of one."""

    def __init__(self, db: SqliteDb, session: AgentSession) -> None:
        self._db = db
        self._session = session

    def turn(self, messages: Messages) -> None:
        run = RunOutput(
            run_id=str(uuid4()),
            agent_id=AGENT,
            session_id=self._session.session_id,
            user_id=self._session.user_id,
            messages=[Message(role=each["role"], content=each["content"]) for each in messages],
            content=messages[-1]["content"],
            status=RunStatus.completed,
        )
        self._session.upsert_run(run)
        self._db.upsert_session(self._session)
        index = resolve_run_index(self._session, run)
        self._db.upsert_run(run, self._session.session_id, self._session.user_id, index)

    def load(self, last: int | None = None) -> list[str]:
        session = self._db.get_session(
            self._session.session_id,
            SessionType.AGENT,
            user_id=self._session.user_id,
            runs_limit=last // 2 if last else None,
        )
        assert isinstance(session, AgentSession)
        self._session = session
        return [str(each.content) for each in session.get_messages(skip_history_messages=False)]


class AgnoSqlite:
    """`SqliteDb(db_file=…)`."""

    name = "Agno SqliteDb"
    beside = "SQLite FULL"
    awaited = False
    window = None
    lists = True
    note = (
        "a turn is one row, and a transaction before it stamps the session; an agent loads all of a session at each "
        "run, through a cache of what it loaded before; lists by user, in pages; more: runs with status and metrics, "
        "memories"
    )

    def __init__(self, place: Place) -> None:
        self._db = SqliteDb(db_file=str(place.folder / "agno.db"))

    def durability(self) -> str:
        with self._db.db_engine.connect() as connection:
            journal = connection.execute(text("PRAGMA journal_mode")).scalar_one()
            return modes(journal, connection.execute(text("PRAGMA synchronous")).scalar_one())

    def create(self, session_id: str, user_id: str) -> Runs:
        session = AgentSession(
            session_id, agent_id=AGENT, user_id=user_id, session_data={}, created_at=int(time.time())
        )
        self._db.upsert_session(session)
        return Runs(self._db, session)

    def open(self, session_id: str, user_id: str) -> Runs:
        return Runs(self._db, AgentSession(session_id, agent_id=AGENT, user_id=user_id, session_data={}))

    def newest(self, user_id: str) -> list[str]:
        found = self._db.get_sessions(
            SessionType.AGENT, user_id=user_id, limit=20, page=1, sort_by="updated_at", include_runs=False
        )
        return [each.session_id for each in found if isinstance(each, AgentSession)]

    def close(self) -> None:
        self._db.close()


PEERS = (AgnoSqlite,)
