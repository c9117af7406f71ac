"""The contract of a store: everything that SessionManager promises, wherever sessions are stored."""

from pyai_sessions.testing.store.appending import Appending
from pyai_sessions.testing.store.changing import Changing
from pyai_sessions.testing.store.conversations import Conversations
from pyai_sessions.testing.store.ending import Ending
from pyai_sessions.testing.store.erasing import Erasing
from pyai_sessions.testing.store.everyday import Everyday
from pyai_sessions.testing.store.filters import Filters
from pyai_sessions.testing.store.forking import Forking
from pyai_sessions.testing.store.imports import Imports
from pyai_sessions.testing.store.isolation import Isolation
from pyai_sessions.testing.store.lists import Lists
from pyai_sessions.testing.store.merging import Merging
from pyai_sessions.testing.store.moving import Moving
from pyai_sessions.testing.store.once import Once
from pyai_sessions.testing.store.reading import Reading
from pyai_sessions.testing.store.redacting import Redacting
from pyai_sessions.testing.store.refusals import Refusals
from pyai_sessions.testing.store.returning import Returning
from pyai_sessions.testing.store.rewinding import Rewinding
from pyai_sessions.testing.store.scrolling import Scrolling
from pyai_sessions.testing.store.searching import Searching
from pyai_sessions.testing.store.streaming import Streaming
from pyai_sessions.testing.store.titles import Titles
from pyai_sessions.testing.store.updating import Updating
from pyai_sessions.testing.store.users import Users
from pyai_sessions.testing.store.values import Values

__all__ = ["SessionStoreContract"]


# pytest runs the last base class first: reading and saving come before what is built on them.
class SessionStoreContract(
    Refusals,
    Isolation,
    Searching,
    Redacting,
    Erasing,
    Moving,
    Imports,
    Users,
    Filters,
    Titles,
    Lists,
    Forking,
    Rewinding,
    Ending,
    Returning,
    Merging,
    Once,
    Scrolling,
    Streaming,
    Changing,
    Updating,
    Appending,
    Conversations,
    Values,
    Everyday,
    Reading,
):
    """Tests SessionManager with a store of four methods, sync or async, with a KVSessionStore, or with a mapping.

    Subclass it, and return an empty store, anything that SessionManager takes, from the fixture `store`::

        class TestMyStore(SessionStoreContract):
            @pytest.fixture
            def store(self, tmp_path):
                return MyStore(tmp_path / "chat.db")

    Optional:

    - A fixture `reopen` that returns a function. It opens a second store on the same storage. Without it, the tests'
      second manager uses the same store.
    - `manager_class`: your own subclass of SessionManager, to test that.
    - A fixture `damage` that returns a function. It takes a session id, and damages the stored row directly.
    - A fixture `index`: the mapping that is passed to managers as ``index=``.
    - `longest_id`, in bytes, and ``takes_id(text)``, if the storage does not accept every text as an id.
    - `must_have`: the optional powers that the store must have: ``("list_by_activity", "revisions")``.

    A store may lack an optional power, if it refuses by an error. The tests of that power are then skipped, and pytest
    lists a `MissingPowerWarning` for each. If `must_have` names the power, they fail.
    """
