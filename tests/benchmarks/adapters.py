"""Runs of agent frameworks, on the framework's own durable store and on ours, each in the framework's environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.benchmarks.families import Place
from tests.benchmarks.frameworks import NAMES, WITHOUT
from tests.benchmarks.measure import median, percentile, say
from tests.benchmarks.report import Report

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv-integrations"
COLUMNS = (
    "store: work",
    "durability",
    "its P50",
    "P95",
    "ours, P50",
    "P95",
    "ratio",
    "of the run",
    "of its CPU time",
    "samples",
)
ABOUT = (
    "Microseconds. *turn*: what the calls of the store take in one run of the framework's own runner with a scripted "
    "model, a question of about 300 characters and an answer of about 1,000. *load*: what a new process does to take "
    "up the conversation; Strands loads the newest 40 messages. The ratios are the framework's store divided by ours: "
    "of that time; *of the run*, the framework's own work included; and *of its CPU time*, the work in all threads, "
    "which other programs on the machine change the least. Both are awaited, but for those of Strands, which block. "
    f"Theirs and ours take turns, call by call. {WITHOUT}"
)


def measure(report: Report, place: Place, *, quick: bool) -> None:
    table = report.table("Agent frameworks, on their own stores and on ours", COLUMNS, ABOUT)
    for name in NAMES:
        python = ENVIRONMENTS / f"{name}-highest" / "bin" / "python"
        if not python.exists():
            say(f"adapters: {name} is left out: `make bench-peers` installs it")
            continue
        say(f"adapters: {name}")
        try:
            reply = _run(python, name, place.folder / f"adapters-{name}", quick=quick)
        except subprocess.CalledProcessError as err:  # a new release of one framework must not cost all results
            table.add(f"{name}: failed", *[""] * 8, err.stderr.strip().splitlines()[-1][:200])
            continue
        for pair in reply["found"]:
            for work, found in pair["rows"].items():
                table.add(f"{pair['name']} {reply['version']}: {work}", pair["durability"], *_cells(**found))


def _run(python: Path, name: str, folder: Path, *, quick: bool) -> Any:
    """Return the samples of a framework, measured by a process of its environment."""
    folder.mkdir()
    reply = folder / "reply.json"
    command = [python, "-m", "tests.benchmarks.frameworks", name, folder, reply, *(["--quick"] if quick else [])]
    named = {**os.environ, "OPENAI_API_KEY": "none"}  # the SDK asks for one
    subprocess.run(command, cwd=ROOT, env=named, capture_output=True, text=True, check=True)
    return json.loads(reply.read_text())


def _cells(theirs: dict[str, list[float]], ours: dict[str, list[float]]) -> tuple[object, ...]:
    figures = [figure for each in (theirs, ours) for figure in (median(each["store"]), percentile(each["store"], 0.95))]
    ratios = [f"{median(theirs[kind]) / median(ours[kind]):.2f}" for kind in ("store", "run", "cpu")]
    return (*figures, *ratios, len(ours["store"]))
