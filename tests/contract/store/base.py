"""What the tests of all themes use: the store's fixtures, hostile ids, and a few short words."""

import pytest

from pyai_sessions import KVSessionStore, SessionManager
from tests.clock import StoppedClock

HOSTILE_IDS = [
    "/",
    "//",
    "a/b",
    "a/b/c",
    "../../etc/passwd",
    ".",
    "..",
    "...",
    ":",
    "{a}",
    "}{",
    "*",
    "a*",
    "?",
    "[a]",
    "^",
    "%",
    "%2F",
    "%252F",
    "a%2Fb",
    "\\",
    "\\n",
    "a\nb",
    "\r\n",
    "\t",
    " ",
    " a ",
    "a",
    "A",
    "a\0",
    "\0",
    "a\0b",
    "'",
    '"',
    "'; DROP TABLE sessions; --",
    "$(id)",
    "user",
    "active",
    "archived",
    "expiry",
    "session",
    "session/a",
    "messages/a/b/0",
    "unreadable/a",
    "h\u00e9llo",
    "he\u0301llo",
    "\u202eolleh",
    "\U0001f600",
    "\U0001f469\u200d\U0001f4bb",
    "\ud800",
    "\udfff",
    "a\ud83d",
    "\uffff",
    "0",
    "-1",
    "None",
    "null",
]
RICH = (
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "", "name": "ada"},
    {"role": "user", "content": "NUL \0, newline \r\n, emoji \U0001f600, lone \ud83d, right to left \u202e"},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "url": "data:,"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": {"arguments": "{}"}}]},
    {"role": "tool", "content": {"result": [1, 2.5, True, None, {"deep": [[]]}]}, "tool_call_id": "call_1"},
    {"role": "assistant", "content": "Done.", "metadata": {"tokens": 12, "tags": ["a", "b"], "n\u00fcl\0": None}},
)


def fill(session, count, start=0):
    """Add *count* messages, numbered from *start*."""
    for n in range(start, start + count):
        session.add_message("user" if n % 2 == 0 else "assistant", f"message {n}", message_id=f"m{n}")


def contents(session):
    return [each.content for each in session.messages]


def ids(sessions):
    return [each.session_id for each in sessions]


def all_pages(manager, user_id=None, **options):
    """Return the ids of a list, read page by page."""
    found, cursor = [], None
    while True:
        page = manager.list_sessions(user_id, cursor=cursor, **options)
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found


class StoreFixtures:
    """The store under test, a second one over the same storage, and the documents as they lie there."""

    longest_id = 1024
    """In bytes; less where a storage's own keys have a limit, as file names have."""

    @pytest.fixture
    def store(self):
        msg = "a subclass of StoreContract has a fixture `store` that gives an empty store"
        raise NotImplementedError(msg)

    @pytest.fixture
    def clock(self):
        return StoppedClock()

    @pytest.fixture
    def manager(self, store, clock):
        return SessionManager(store, clock=clock)

    @pytest.fixture
    def reopen(self, manager):
        """A function that gives a second store over the same storage."""
        return lambda: KVSessionStore(manager.store.mapping)

    @pytest.fixture
    def other(self, reopen, clock):
        """A second manager over the same storage."""
        return SessionManager(reopen(), clock=clock)

    @pytest.fixture
    def raw(self, manager):
        """The stored documents, as a mapping of text, past the store."""
        return manager.store.mapping

    @staticmethod
    def ours(raw):
        """Return the keys of all documents."""
        return sorted(key for key in raw if key.startswith(("session/", "messages/")))

    @property
    def hostile_ids(self):
        return [*HOSTILE_IDS, "k" * self.longest_id, "k" * (self.longest_id - 1) + "j"]

    @pytest.fixture
    def ten(self, manager, clock):
        """Ten sessions of ada, s0 the oldest, a minute apart; one of bob's and one of nobody's between."""
        for n in range(10):
            manager.create_session("ada", session_id=f"s{n}", metadata={"n": n})
            clock.pass_(minutes=1)
            if n == 5:
                manager.create_session("bob", session_id="bob's")
                manager.create_session(session_id="nobody's")
        return [f"s{n}" for n in range(9, -1, -1)]
