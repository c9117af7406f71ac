"""A kit for tests: contracts, machines, a clock, a mapping that fails on demand, a check of what many writers saw.

A mapping of one's own is tested by a subclass that names it in the fixture `mapping`, a store by one that names it in
the fixture `store`; each gives an empty one::

    import pytest
    from pyai_sessions.testing import MappingContract, SessionStoreContract

    class TestMyMapping(MappingContract):
        @pytest.fixture
        def mapping(self, tmp_path):
            return MyMapping(tmp_path)

    class TestMyStore(SessionStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

Then ``pytest`` runs every rule of the contract. The kit needs pytest and hypothesis, which nothing else of this library
imports: ``pip install pytest hypothesis``.
"""

from pyai_sessions.errors import MissingPackageError

try:
    import hypothesis  # noqa: F401  # pyright: ignore[reportUnusedImport] (to say now that it is missing)
    import pytest
except ImportError as _err:
    raise MissingPackageError("pyai_sessions.testing", "pytest", "hypothesis", name=_err.name) from _err

# Before they are imported, or a failed assertion would not show its values.
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
