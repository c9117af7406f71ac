"""The contract of a KVSessionStore: that of any store, and what becomes of the documents in its mapping."""

from pyai_sessions.testing.documents.damage import Damage
from pyai_sessions.testing.documents.ending import EndingOfDocuments
from pyai_sessions.testing.documents.erasing import ErasingOfDocuments
from pyai_sessions.testing.documents.expiry import Expiry
from pyai_sessions.testing.documents.forking import ForkingOfDocuments
from pyai_sessions.testing.documents.imports import ImportsOfDocuments
from pyai_sessions.testing.documents.isolation import IsolationOfDocuments
from pyai_sessions.testing.documents.lists import ListsOfDocuments
from pyai_sessions.testing.documents.redacting import RedactingOfDocuments
from pyai_sessions.testing.documents.sessions import SessionsOfDocuments
from pyai_sessions.testing.documents.shared_state import SharingState, UpkeepOfState
from pyai_sessions.testing.documents.upkeep import Upkeep
from pyai_sessions.testing.store import SessionStoreContract

__all__ = ["KVSessionStoreContract"]


class KVSessionStoreContract(
    UpkeepOfState,
    SharingState,
    Upkeep,
    Damage,
    IsolationOfDocuments,
    RedactingOfDocuments,
    ErasingOfDocuments,
    ImportsOfDocuments,
    ListsOfDocuments,
    ForkingOfDocuments,
    Expiry,
    EndingOfDocuments,
    SessionsOfDocuments,
    SessionStoreContract,
):
    """What a SessionManager does with a KVSessionStore: also where its documents are damaged, or lie in no index.

    Subclass it, and give it a fixture `store`: an empty KVSessionStore, or a mapping for one::

        class TestSessionsInMyMapping(KVSessionStoreContract):
            @pytest.fixture
            def store(self, tmp_path):
                return MyMapping(tmp_path)

    All that `SessionStoreContract` takes can be given here too. Where the mapping's items are not the documents' text,
    a fixture `raw` gives them as a mapping of text, keys included.
    """
