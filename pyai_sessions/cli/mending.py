"""`purge`, `reindex`, `verify`, `rotate-keys` and `backup`: the upkeep of a whole store."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import click

from pyai_sessions.cli.asking import confirm, dry_run, yes
from pyai_sessions.cli.output import counted, inert, sized
from pyai_sessions.cli.settings import Settings, command
from pyai_sessions.cli.stores import open_manager, read_keys, url_of


def documents(settings: Settings, mapping: Any) -> Iterator[tuple[str, str]]:
    """Iterate over the documents of a store in its mapping: keys, without that of the namespace, and texts."""
    name = dict(parse_qsl(urlsplit(url_of(settings.store)).query)).get("namespace")
    prefix = "" if name is None else f"namespace/{quote(name, safe='')}/"
    for key in mapping:
        if isinstance(key, str) and key.startswith(prefix) and (prefix or not key.startswith("namespace/")):
            value = mapping.get(key)
            if value is not None:
                text = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
                yield key.removeprefix(prefix), text


@command(examples="purge --dry-run\npurge --yes")
@dry_run
@yes
def purge(settings: Settings, *, dry_run: bool, yes: bool) -> None:
    """Remove the sessions whose time to live is over. No command finds them anyway; their space is freed."""
    out = settings.output
    with settings.reading() as manager:
        expired = len(manager.purge_expired(dry_run=True))
    if not dry_run:
        if expired:
            confirm(f"Remove {counted(expired, 'expired session')} for good?", given=yes)
        with settings.writing() as manager, out.progress("Purging", expired) as progress:
            expired = manager.purge_expired(progress=progress)
    if out.as_json:
        out.json(dry_run=dry_run, purged=expired)
    else:
        out.line(f"{counted(expired, 'expired session')} {'would be removed' if dry_run else 'removed'}")


@command(examples="reindex --dry-run\nreindex")
@dry_run
def reindex(settings: Settings, *, dry_run: bool) -> None:
    """Rebuild the lists from the documents, while others write."""
    out = settings.output
    with settings.reading() if dry_run else settings.writing() as manager, out.progress("Reading") as progress:
        if dry_run:
            report = manager.verify(progress=progress)
            wrong = [each.session_id for each in report.problems if each.kind == "index"]
            number = report.sessions
        else:
            number, wrong = manager.reindex(progress=progress), None
    if out.as_json:
        out.json(dry_run=dry_run, sessions=number, **({} if wrong is None else {"wrong": wrong}))
    elif wrong is None:
        out.line(f"The lists are those of {counted(number, 'session')} now")
    else:
        out.line(f"{counted(len(wrong), 'session')} of {number:,} would be listed anew")


@command(examples="verify\nverify --repair --dry-run\nverify --repair")
@click.option("--repair", is_flag=True, help="Mend what can be mended; what cannot be read is set aside, not deleted.")
@dry_run
def verify(settings: Settings, *, repair: bool, dry_run: bool) -> int:
    """Read everything, and say what is damaged. The exit code is 1 if something still is."""
    out = settings.output
    repairs = repair and not dry_run
    with (
        settings.writing() if repairs else settings.reading() as manager,
        out.progress("Verifying", manager.count(status=None)) as progress,
    ):
        report = manager.verify(repair=repairs, progress=progress)
    left = [each for each in report.problems if not each.repaired]
    if out.as_json:
        out.json(dry_run=not repairs, sessions=report.sessions, problems=[asdict(each) for each in report.problems])
        return int(bool(left))
    out.line(f"{counted(report.sessions, 'session')} read, {counted(len(report.problems), 'problem')} found")
    if report.problems:
        out.line()
        rows = [[each.kind, each.session_id, _became(each.repaired), each.detail] for each in report.problems]
        out.table(["PROBLEM", "SESSION", "REPAIRED", "DETAIL"], rows)
    if left and not repairs:
        kinds = Counter(each.kind for each in left)
        out.note("`pyai-sessions verify --repair` mends what can be mended: " + ", ".join(sorted(kinds)))
    return int(bool(left))


def _became(repaired: bool) -> str:
    return "yes" if repaired else "no"


@command(examples="rotate-keys --keys keys.json --dry-run\nrotate-keys --keys keys.json")
@click.option("--migrate", is_flag=True, help="Encrypt what is not encrypted yet, too.")
@dry_run
def rotate_keys(settings: Settings, *, migrate: bool, dry_run: bool) -> None:
    """Encrypt with the newest key, the last in the file, what older keys wrote; while others read and write."""
    out = settings.output
    keys = settings.keyfile
    if keys is None:
        msg = "the keys are in a file: --keys keys.json, or PYAI_SESSIONS_KEYS"
        raise click.UsageError(msg)
    *_, newest = read_keys(keys)
    if dry_run:
        with settings.reading() as manager:
            mapping: Any = manager.store.mapping
            number = sum(_is_older(text, newest, migrate=migrate) for _, text in documents(settings, mapping.mapping))
    else:
        with settings.writing(migrate=migrate) as manager, out.progress("Encrypting") as progress:
            number = manager.rotate_keys(progress=progress)
    if out.as_json:
        out.json(dry_run=dry_run, rotated=number, key=newest)
    else:
        would = "would be encrypted" if dry_run else "encrypted"
        out.line(f"{counted(number, 'document')} {would} with the key {inert(newest)}")


def _is_older(text: str, newest: str, *, migrate: bool) -> bool:
    """Return whether a document is encrypted with an older key than the newest; or not at all, to *migrate* it."""
    _, found, rest = text.partition('"encrypted":"')
    return migrate if not found else not rest.startswith((f"{newest}:", f"{newest}."))


@command(examples="backup chat-backup.db\nbackup /mnt/backup/chat.db --overwrite")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@dry_run
def backup(settings: Settings, *, path: Path, overwrite: bool, dry_run: bool) -> None:
    """Copy the SQLite file or diskcache directory of the store to PATH, while others write. Of others: use `copy`."""
    out = settings.output
    with settings.reading() as manager:
        number = manager.count(status=None)
        if not dry_run:
            manager.backup(path, overwrite=overwrite)
            number = _count(path, settings)
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    size = sum(each.stat().st_size for each in files if each.is_file()) if path.exists() else None
    if out.as_json:
        out.json(dry_run=dry_run, path=str(path), sessions=number, bytes=size, is_there=path.exists())
    elif dry_run:
        there = " It is there already, and would be replaced." if overwrite and path.exists() else ""
        there = " It is there already: --overwrite would replace it." if path.exists() and not overwrite else there
        out.line(f"{counted(number, 'session')} would be copied to {inert(path)}.{there}")
    else:
        out.line(f"{inert(path)}: {counted(number, 'session')}, {sized(size or 0)}")


def _count(path: Path, settings: Settings) -> int:
    """Return how many sessions a backup has, counted in it."""
    query = urlsplit(url_of(settings.store)).query
    scheme = "diskcache://" if path.is_dir() else "sqlite:///"
    url = f"{scheme}{quote(os.fsencode(path.absolute()))}{'?' if query else ''}{query}"
    with open_manager(url, settings.keys, access="read") as copied:
        return copied.count(status=None)
