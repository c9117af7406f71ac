"""Parts of the contract for variants of storages. Another variant of each runs the whole contract."""

import pytest

from pyai_sessions.testing.documents.damage import Damage
from pyai_sessions.testing.documents.ending import EndingOfDocuments
from pyai_sessions.testing.documents.erasing import ErasingOfDocuments
from pyai_sessions.testing.documents.expiry import Expiry
from pyai_sessions.testing.documents.forking import ForkingOfDocuments
from pyai_sessions.testing.documents.imports import ImportsOfDocuments
from pyai_sessions.testing.documents.redacting import RedactingOfDocuments
from pyai_sessions.testing.documents.sessions import SessionsOfDocuments
from pyai_sessions.testing.documents.shared_state import SharingState, UpkeepOfState
from pyai_sessions.testing.documents.upkeep import Upkeep
from pyai_sessions.testing.store.appending import Appending
from pyai_sessions.testing.store.ending import Ending
from pyai_sessions.testing.store.everyday import Everyday
from pyai_sessions.testing.store.forking import Forking
from pyai_sessions.testing.store.merging import Merging
from pyai_sessions.testing.store.once import Once
from pyai_sessions.testing.store.reading import Reading
from pyai_sessions.testing.store.rewinding import Rewinding
from pyai_sessions.testing.store.updating import Updating
from pyai_sessions.testing.store.values import Values


class Made:
    """The fixture `make` returns a function that opens another store on the storage under test at each call."""

    @pytest.fixture
    def store(self, make):
        return make()

    @pytest.fixture
    def reopen(self, make):
        return make


class OfItems(SharingState, Damage, SessionsOfDocuments, Rewinding, Appending, Values, Everyday, Reading):
    """Rules that depend on how a mapping writes, reads and removes items."""


class OfEndings(Expiry, ForkingOfDocuments, EndingOfDocuments, Ending):
    """Rules about the end of sessions, and how an index follows it."""


class OfIndexes(UpkeepOfState, Upkeep, OfEndings):
    """Rules that depend on indexes, and on the end of sessions."""


class OfItemsAndIndexes(OfIndexes, Forking, OfItems):
    """Both."""


class OfWrites(
    RedactingOfDocuments, ErasingOfDocuments, ImportsOfDocuments, Updating, Merging, Once, OfItemsAndIndexes
):
    """Rules that depend on how often a storage gets a change."""
