"""Fixtures and helpers of all storage tests: the storage under test, a second one, and changes to write."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from pyai_sessions.storage.names import encode_id, split_namespace
from pyai_sessions.storage.protocol import Change, Listed, Listing, Position, Storage
from pyai_sessions.testing.rules import Contract
from pyai_sessions.testing.samples import HOSTILE_IDS, KEYS

PATIENCE = 30.0
"""Seconds that a test waits for its threads, at most."""


def document(revision: str, *listed: Listed, text: str = "") -> bytes:
    """Return a document of a revision. It begins with ``start(revision)`` and names the lists that its member is in."""
    return (start(revision) + f',"listed":{json.dumps(listed)},"text":{json.dumps(text)}}}').encode()


def start(revision: str) -> str:
    """Return the beginning of each document of a revision."""
    return f'{{"revision":{json.dumps(revision)}'


def derive(key: str, read: Callable[[], object]) -> Iterable[Listed]:
    """Return the list entries that a test document asks for: the `Derive` for the storage under test."""
    if split_namespace(key)[1].partition("/")[0] != "doc":
        return []
    try:
        found: Any = json.loads(text_of(read()))["listed"]
    except (ValueError, TypeError, LookupError):
        return []
    return [(name, member, score) for name, member, score in found]


def text_of(value: object) -> str:
    """Return a document as text. The storage may return text or bytes."""
    return value if isinstance(value, str) else bytes(value).decode()  # type: ignore[call-overload]


def change(
    place: str,
    revision: str,
    expected: str | None = None,
    *,
    listed: Mapping[str, int] | None = None,
    was: Mapping[str, int] | None = None,
    pages: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    under: str = "",
) -> Change:
    """Return a change that replaces ``doc/<place>`` at revision *expected* by *revision*. None expects no document.

    The member of the same name moves from the lists *was* to the lists *listed*, each a dict of scores. *pages* are put
    first, under ``page/<place>/<name>``. The keys *drop* are dropped last. All keys and all names of lists begin with
    *under*.
    """
    listed, was = listed or {}, was or {}
    key = f"{under}doc/{place}"
    return Change(
        expect=[(key, None if expected is None else start(expected))],
        done=start(revision),
        put=[
            *[(f"{under}page/{place}/{name}", text.encode()) for name, text in (pages or {}).items()],
            (key, document(revision, *[(under + name, place, score) for name, score in listed.items()])),
        ],
        drop=drop,
        lists=[Listing(under + name, place, was.get(name), listed.get(name)) for name in {**was, **listed}],
    )


def put(key: str, text: str | bytes = "text") -> Change:
    """Return a change that puts one document without a condition."""
    return Change(put=[(key, text.encode() if isinstance(text, str) else text)])


class StorageFixtures(Contract):
    """The storage under test, and others on the same data."""

    def takes_key(self, key: str) -> bool:
        """Return whether the storage accepts this text as a key. By default, every text of up to 1 KiB."""
        return True

    @pytest.fixture
    def storage(self) -> Any:
        """Return the storage under test, empty."""
        msg = "a subclass of StorageContract has a fixture `storage` that gives an empty storage"
        raise NotImplementedError(msg)

    @pytest.fixture
    def reopen(self) -> Any:
        """Return a function that opens a second storage on the data of `storage`."""
        msg = "a subclass of StorageContract has a fixture `reopen`: a function that opens a second storage on the data"
        raise NotImplementedError(msg)

    @pytest.fixture
    def impatient(self) -> Any:
        """Return a function that opens a storage on the same data with a timeout of 0.1 s; None if there is none."""
        return None

    @pytest.fixture
    def other(self, storage: Storage, reopen: Callable[[], Storage]) -> Iterator[Storage]:
        """Return a second storage on the data of `storage`."""
        other = reopen()
        yield other
        other.close()

    @property
    def foreign_keys(self) -> list[str]:
        """Return keys of other programs that the storage accepts. None ends with a slash: it would mean all below."""
        return [each for each in KEYS.values() if not each.endswith("/") and self.takes_key(each)]

    @property
    def hostile_places(self) -> list[str]:
        """Return ids as they stand in keys, percent-encoded. The longest are among them."""
        ids = [*HOSTILE_IDS, "k" * 1024, "k" * 1023 + "j", "\u00e9" * 512, "\U0001f600" * 256]
        return [each for each in map(encode_id, ids) if self.takes_key(f"doc/{each}")]


def apply(storage: Storage, *changes: Change) -> None:
    """Write changes, and assert that each was applied."""
    assert storage.write(changes) == [True] * len(changes)


def read(storage: Storage, *keys: str) -> dict[str, str]:
    """Return the texts under these keys."""
    return {key: text_of(value) for key, value in storage.read(keys).items()}


def all_texts(storage: Storage) -> dict[str, str]:
    """Return the texts under all keys."""
    return read(storage, *set(storage.keys()))


def all_positions(storage: Storage, name: str, limit: int = 2, *, newest_first: bool = False) -> list[Position]:
    """Return all positions of a list, by scans of at most *limit*."""
    found: list[Position] = []
    while more := storage.scan(name, found[-1] if found else None, limit, newest_first=newest_first):
        assert len(more) <= limit
        found += more
    return found


def all_listed(storage: Storage) -> list[Listed]:
    """Return the entries of all lists, sorted."""
    return sorted(set(storage.listings()))
