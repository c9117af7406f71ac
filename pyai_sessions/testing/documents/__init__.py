"""The contract of a KVSessionStore: everything that holds for any store, and the documents in its mapping."""

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
    """Tests SessionManager with a KVSessionStore, also with damaged documents and wrong indexes.

    Subclass it, and return an empty KVSessionStore, or a mapping for one, from the fixture `store`::

        class TestSessionsInMyMapping(KVSessionStoreContract):
            @pytest.fixture
            def store(self, tmp_path):
                return MyMapping(tmp_path)

    The options of `SessionStoreContract` apply here, too. If the mapping's items are not the text of documents, add a
    fixture `raw` that returns them as a mapping of text, with the keys as text.
    """
