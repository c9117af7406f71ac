"""What the import of the library costs, in fresh processes."""

import subprocess
import sys
from importlib.util import find_spec

from tests.benchmarks.measure import Effort, say
from tests.benchmarks.report import AGAINST_FLOOR, Report

ABOUT = (
    "Milliseconds that an import takes in a fresh process, after Python's own start; they take turns. The floor is "
    "`import dataclasses_json`, of peers `import pyai_sessions`."
)
OURS, FLOOR = "import pyai_sessions", "import dataclasses_json"
PEERS = (
    "from agents import SQLiteSession",
    "from google.adk.sessions import DatabaseSessionService",
    "from langchain_community.chat_message_histories import SQLChatMessageHistory",
    "from strands.session.file_session_manager import FileSessionManager",
    "from agno.db.sqlite import SqliteDb",
)
TIMED = "import time; start = time.perf_counter(); {}; print((time.perf_counter() - start) * 1e3)"


def measure(report: Report, effort: Effort) -> None:
    say("imports")
    peers = [each for each in PEERS if find_spec(each.split()[1].partition(".")[0])]
    found: dict[str, list[float]] = {each: [] for each in (OURS, FLOOR, *peers)}
    for n in range(min(effort.times, 20)):
        for each, samples in found.items():
            if each not in peers or n < min(5, effort.times // 10):
                samples.append(imported(each))
    table = report.table("Import of the library", AGAINST_FLOOR, ABOUT)
    table.against(OURS, "-", found[OURS], found[FLOOR], 1.5)
    for each in peers:
        table.against(each, "-", found[each], found[OURS])


def imported(statement: str) -> float:
    """Return how many milliseconds an import takes in a process of its own."""
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
