"""The contract of a store of sessions: all that SessionManager promises, whatever the sessions lie in."""

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


# The last class comes first: a store is read and written before it is tried on more.
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
    """What a SessionManager does with a store: of four methods, sync or async, or a KVSessionStore, or a mapping.

    Subclass it, and give it a fixture `store`: an empty one, whatever SessionManager takes::

        class TestMyStore(SessionStoreContract):
            @pytest.fixture
            def store(self, tmp_path):
                return MyStore(tmp_path / "chat.db")

    What follows is optional.

    - A fixture `reopen`: a function that gives a second store over the same storage. Without it the second manager of
      the tests uses the same store.
    - `manager_class`: your own subclass of SessionManager, where that is what you try.
    - A fixture `damage`: a function that makes the stored row of a session id unreadable, past the store.
    - A fixture `index`: the mapping that managers take as ``index=``.
    - `longest_id`, in bytes, and ``takes_id(text)``, where the storage does not take every text as an id.
    - `must_have`: the powers that the store is meant to have, ``("list_by_activity", "revisions")``.

    A store that lacks an optional power passes by its refusal. The tests of that power are skipped, and pytest lists a
    `MissingPowerWarning` for each, unless `must_have` names it: then they fail.
    """
