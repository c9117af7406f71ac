"""Test suites for your own mappings, storages and stores, and tools for the tests of your application.

Subclass the contract for what you wrote, and return an empty one from a fixture. pytest then runs every rule::

    import pytest
    from pyai_sessions.testing import SessionStoreContract

    class TestMyStore(SessionStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

- For a mapping: `MappingContract`, or `PersistentMappingContract`, with the fixture `mapping`. Then
  `KVSessionStoreContract` with the mapping as `store`.
- For a `Storage`: ``pyai_sessions.testing.storage.StorageContract``. Then `KVSessionStoreContract` with it as `store`.
- For a store of four methods: `SessionStoreContract`.

For the tests of your application: a `StoppedClock` stands still, a `FaultyMapping` fails on demand, a `Recorder`
records what writers do, and `check_events` reports what was lost.

You need pytest and hypothesis: ``pip install pytest hypothesis``.
"""

from pyai_sessions.errors import MissingPackageError

try:
    import hypothesis  # noqa: F401  # pyright: ignore[reportUnusedImport] (to say now that it is missing)
    import pytest
except ImportError as _err:
    raise MissingPackageError("pyai_sessions.testing", "pytest", "hypothesis", name=_err.name) from _err

# pytest must know these modules before they are imported, or a failed assertion would not show its values.
pytest.register_assert_rewrite(
    "pyai_sessions.testing.mapping",
    "pyai_sessions.testing.machines",
    "pyai_sessions.testing.store",
    "pyai_sessions.testing.documents",
    "pyai_sessions.testing.storage",
)

from pyai_sessions.testing.clock import NOON, StoppedClock
from pyai_sessions.testing.documents import KVSessionStoreContract
from pyai_sessions.testing.faulty import FaultyMapping
from pyai_sessions.testing.machines import MappingMachine, SessionStoreMachine
from pyai_sessions.testing.mapping import MappingContract, PersistentMappingContract
from pyai_sessions.testing.recording import (
    Event,
    Fault,
    Recorder,
    check_events,
    events_from,
    events_to,
    find_faults,
)
from pyai_sessions.testing.rules import Contract
from pyai_sessions.testing.store import SessionStoreContract
from pyai_sessions.testing.store.powers import MissingPowerWarning

__all__ = [
    "NOON",
    "Contract",
    "Event",
    "Fault",
    "FaultyMapping",
    "KVSessionStoreContract",
    "MappingContract",
    "MappingMachine",
    "MissingPowerWarning",
    "PersistentMappingContract",
    "Recorder",
    "SessionStoreContract",
    "SessionStoreMachine",
    "StoppedClock",
    "check_events",
    "events_from",
    "events_to",
    "find_faults",
]
