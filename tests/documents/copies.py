"""Two copies of one stored session, for tests of merges."""

from pyai_sessions import SessionManager
from pyai_sessions.testing import StoppedClock


class Two:
    """Two copies of one stored session, *mine* and *theirs*, each with its own manager on one dict."""

    def __init__(self, messages=3, last=None):
        self.mapping = {}
        self.my_manager, self.their_manager = (SessionManager(self.mapping, clock=StoppedClock()) for _ in range(2))
        session = self.my_manager.create_session("ada", session_id="s", metadata={"t": 0}, state={"a": 0, "b": 0})
        for n in range(messages):
            session.add_message("user", f"base {n}", message_id=f"b{n}")
        self.my_manager.save(session)
        self.mine = self.my_manager.get_session("s", last=last)
        self.theirs = self.their_manager.get_session("s", last=last)

    def save_both(self, **options):
        """Save theirs, then mine, which is stale by then."""
        self.their_manager.save(self.theirs)
        self.my_manager.save(self.mine, **options)

    @property
    def stored(self):
        return SessionManager(self.mapping).get_session("s")

    @property
    def ids(self):
        return [each.message_id for each in self.stored.messages]


def add(session, *ids):
    for message_id in ids:
        session.add_message("user", f"text {message_id}", message_id=message_id)
