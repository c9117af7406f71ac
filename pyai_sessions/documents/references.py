"""References: which pages of a session another one, its fork, names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from pyai_sessions.documents.keys import parts_of_reference
from pyai_sessions.documents.reading import check_pages, document_of, reason_of
from pyai_sessions.errors import InvalidDocumentError
from pyai_sessions.model.heads import FORMAT, Count
from pyai_sessions.values.json import read_as, write


def write_reference(pages: Mapping[str, int]) -> bytes:
    """Return a reference to so many pages of each generation."""
    return write({"format": FORMAT, "pages": dict(pages)})


def read_reference(value: object, key: str) -> dict[str, int]:
    """Return how many pages of each generation the reference names that a mapping holds as *value* under *key*.

    Raises:
        InvalidDocumentError: It is not a reference that this release can read.

    """
    fork = parts_of_reference(key)[1]
    document = document_of(value, key, fork)
    try:
        pages = read_as(document, _REFERENCE, _Reference).pages
        check_pages(sum(pages.values()))
    except ValueError as err:
        raise InvalidDocumentError(key, fork, value, reason_of(err)) from err
    return pages


class _Reference(msgspec.Struct, frozen=True):
    format: Literal[1]
    pages: dict[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")], Count]


_REFERENCE = msgspec.json.Decoder(_Reference)
