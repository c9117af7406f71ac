"""What the figures were measured on."""

import os
import platform
import sqlite3
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import redis

LIBRARIES = (
    "pyai-sessions",
    "dataclasses-json",
    "msgspec",
    "diskcache",
    "sqlitedict",
    "redis",
    "openai-agents",
    "google-adk",
    "langchain-community",
    "strands-agents",
    "agno",
    "SQLAlchemy",
    "aiosqlite",
)


def describe(folder: Path, url: str) -> list[str]:
    """Return lines about the machine, the disk under *folder*, the server and the libraries."""
    with redis.Redis.from_url(url) as client:
        server = client.info("server")
    name, version = server.get("server_name", "redis"), server.get("valkey_version", server["redis_version"])
    return [
        f"date: {datetime.now(timezone.utc):%Y-%m-%d}",
        f"processor: {_processor()}, {os.cpu_count()} cores",
        f"memory: {_memory()}",
        f"kernel: {platform.system()} {platform.release()}",
        f"file system: {_file_system(folder)}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"server: {name} {version}, without persistence",
        ", ".join(f"{each} {metadata.version(each)}" for each in LIBRARIES if _installed(each)),
    ]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:  # not Linux
        return []


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    sizes = [line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return f"{int(sizes[0]) / 1024**2:.0f} GB" if sizes else "unknown"


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in _lines("/proc/mounts")]
    under = [(where, kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(under, key=lambda each: len(each[0]))[1] if under else "unknown"
