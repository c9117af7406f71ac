"""`peek`: a stored document, as it is; or the keys of all documents."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from pyai_sessions.cli.errors import NotFoundError
from pyai_sessions.cli.output import Output, inert
from pyai_sessions.cli.settings import Settings, command


@command(examples="peek\npeek session/trip\npeek --prefix messages/trip/ --limit 0")
@click.argument("key", required=False)
@click.option("--prefix", default="", help="Without a KEY: the keys that begin so.")
@click.option("--limit", "-n", type=click.IntRange(0), default=100, show_default=True, help="Keys; 0 for all.")
@click.option("--raw", is_flag=True, help="Print the document as it is stored, byte by byte.")
def peek(settings: Settings, *, key: str | None, prefix: str, limit: int, raw: bool) -> None:
    """Show the document under a KEY of the storage, whatever it is; without a KEY, list the keys.

    A session is under session/ID, its older messages are under messages/ID/. Nothing is checked or changed: this is
    how a damaged document is looked at.
    """
    out = settings.output
    with settings.reading() as manager:
        mapping: Any = manager.store.mapping
        if key is None:
            _print_keys(out, (each for each in mapping if str(each).startswith(prefix)), limit)
            return
        try:
            value = mapping[key]
        except KeyError:
            msg = f"there is no document {inert(key)!r}; `pyai-sessions peek` lists the keys"
            raise NotFoundError(msg) from None
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
    if raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    else:
        _print_document(out, key, data)


def _print_keys(out: Output, keys: Iterator[str], limit: int) -> None:
    chosen = islice(keys, limit or None)
    if out.as_json:
        out.json_list("keys", chosen)
        return
    for each in chosen:
        out.line(inert(each))
    if limit and next(keys, None) is not None:
        out.note(f"The first {limit:,} keys; --limit 0 lists all.")


def _print_document(out: Output, key: str, data: bytes) -> None:
    try:
        document, is_json = json.loads(data), True
    except (ValueError, RecursionError):
        document, is_json = data.decode("utf-8", "backslashreplace"), False
    if out.as_json:
        out.json(key=key, is_json=is_json, document=document)
    elif is_json:
        out.line(json.dumps(document, indent=2))
    else:
        out.note("This is not JSON:")
        for line in document.split("\n"):
            out.line(inert(line))
