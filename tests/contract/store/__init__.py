"""The contract of a store of sessions: all that SessionManager promises, whatever the sessions lie in.

A store's own test subclasses `StoreContract` and names its storage in the fixture `store`. Where the storage outlives
the store it adds `reopen`; where a mapping's items are not the documents' text it adds `raw`.
"""

from tests.contract.store.appending import Appending
from tests.contract.store.base import HOSTILE_IDS, RICH, all_pages, contents, fill, ids
from tests.contract.store.conversations import Conversations
from tests.contract.store.damage import Damage
from tests.contract.store.ending import Ending
from tests.contract.store.filters import Filters
from tests.contract.store.imports import NO_SESSIONS, Imports
from tests.contract.store.lists import Lists
from tests.contract.store.merging import Merging
from tests.contract.store.reading import Reading
from tests.contract.store.upkeep import Upkeep
from tests.contract.store.values import Values

__all__ = ["HOSTILE_IDS", "NO_SESSIONS", "RICH", "StoreContract", "all_pages", "contents", "fill", "ids"]


# The last class comes first: a store is read and written before it is tried on more.
class StoreContract(
    Upkeep, Damage, Imports, Filters, Lists, Ending, Merging, Appending, Conversations, Values, Reading
):
    """What a SessionManager does. Subclass it and give it a fixture `store`: what SessionManager takes, still empty."""
