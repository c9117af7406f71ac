"""What is stored before an operation, and what is looked at after it."""

import io
import json
from datetime import timedelta
from typing import Any

from pyai_sessions import InvalidDocumentError, KVSessionStore, Message, SessionManager
from pyai_sessions.sessions.joining import MAX_RUNS
from pyai_sessions.testing import NOON, StoppedClock

IDS = ("s0", "s1", "s2", "new", "child", "n0", "n1", "n2", "bad", "unlisted", "mortal", "mortal too")
NOW = NOON + timedelta(hours=2)
"""When operations are tried: s0 and s1 are idle for two hours, s2 for one."""


def store_world(manager):
    """Store three sessions of two users, of two pages and a rest, a page and a rest, and a rest alone."""
    clock = manager.store.clock = StoppedClock()
    for session_id, user, size in (("s0", "ada", 70), ("s1", "ada", 40), ("s2", "bob", 3)):
        session = manager.create_session(user, session_id=session_id, metadata={"channel": "web"})
        say(session, size)
        session.set_state("mood", "calm")
        manager.save(session)
        clock.advance(minutes=60 if session_id == "s1" else 1)


def say(session, how_many, word="message"):
    """Add messages with fixed ids. Those that are there already are not added again."""
    for n in range(how_many):
        session.add_message("user", f"{word} {n}", message_id=f"{word}{n}")


def said(how_many, word="more"):
    return [Message("user", f"{word} {n}", message_id=f"{word}{n}") for n in range(how_many)]


def has(session, message_id):
    return any(each.message_id == message_id for each in session.messages)


def nothing():
    """Return what an already completed call has left to do: nothing."""


def store_mortals(manager):
    """Store sessions that have expired when the operation runs."""
    mortal = SessionManager(KVSessionStore(manager.store.mapping, ttl=30), clock=StoppedClock())
    for session_id in ("mortal", "new"):
        session = mortal.create_session("bob", session_id=session_id)
        say(session, 40, "former")
        mortal.save(session)
    mortal.fork("s1", 20, new_id="mortal too")


def fork_and_delete_the_parent(manager):
    """Make s1 a fork of a fork whose parents are deleted."""
    manager.fork("s0", new_id="child", user_id="eve")
    manager.delete("s1")
    manager.append("child", *said(40))
    manager.fork("child", new_id="s1", user_id="ada")
    manager.delete("child")


def leave_a_branch(manager, session_id="s0"):
    session = manager.get_session(session_id)
    session.rewind("message20")
    say(session, 40, "more")
    manager.save(session)


def cut_into_runs(manager):
    """Store a session whose head names so many runs of pages that the next change joins some."""
    session = manager.create_session("bob", session_id="new")
    for n in range(160):
        session.add_message("user", "x" * 4_000, message_id=f"long{n}")
    manager.save(session)
    for n in range(2, 160, 4):
        if len(json.loads(manager.store.mapping["session/new"])["sealed"]) <= MAX_RUNS - 2:
            manager.replace_message("new", f"long{n}", metadata={"rating": n})


def store_a_fork(manager):
    manager.fork("s0", 50, new_id="new", user_id="bob")


def store_an_orphan(manager):
    store_a_fork(manager)
    manager.delete("s0")


def store_a_fork_with_a_branch(manager):
    manager.fork("s0", new_id="new", user_id="bob")
    leave_a_branch(manager, "new")


def store_foreign(manager):
    store_a_fork_with_a_branch(manager)
    manager.store.mapping["theirs"] = "kept"


def tell_a_secret(manager):
    """Put a message's text into a page, a branch and a fork of the same user."""
    manager.fork("s0", new_id="child", user_id="ada")
    leave_a_branch(manager)
    session = manager.get_session("s0")
    session.set_state("note", "as said in message 10, which is long")
    manager.save(session)


def write_unlisted(manager):
    """Put a session into the mapping without list entries, as another program might."""
    other = SessionManager()
    session = other.create_session("ada", session_id="unlisted")
    say(session, 3)
    other.save(session)
    manager.store.mapping["session/unlisted"] = other.store.mapping["session/unlisted"]


DAMAGED = ('[{"role":"user","content":"cut', '{"format":1,')


def damage(manager):
    """Cut a page, leave an orphan page and an unreadable head, and remove a list entry."""
    mapping = manager.store.mapping
    page = min(key for key in mapping if key.startswith("messages/s0/"))
    mapping[page], mapping["session/bad"] = DAMAGED
    mapping["messages/s1/lost/0"] = "[]"
    write_unlisted(manager)


def store_states(manager):
    """Store the state of two users, one of it damaged and set aside before."""
    manager.update_user_state("ada", {"n": 1, "a": {"b": 1}})
    manager.update_user_state("carol", {"n": 2})
    manager.store.mapping["state/user:carol"] = '{"format":1}'
    manager.verify(repair=True)
    manager.update_user_state("carol", {"n": 3})


# What is looked at ----------------------------------------------------------------------------------------------------


def contents(manager, *, branches=True):
    """Return each session's fields, messages and branches as stored."""
    found: dict[str, Any] = {}
    branched = set()
    for session_id in IDS:
        try:
            session = manager.get_session(session_id)
        except InvalidDocumentError:
            found[session_id] = "damaged"
            continue
        if session is None:
            found[session_id] = None
            continue
        fields = session.user_id, session.status.value, session.metadata, dict(session.state)
        found[session_id] = (*fields, [(each.message_id, each.content) for each in session.messages])
        if session.branches:
            branched.add(session.user_id)
    for user in branched if branches else ():
        for line in exported(manager, user):
            left = [texts(line)[: each["after"]] + texts(each) for each in line.get("left", ())]
            found[line["session_id"]] += tuple(sorted(left))
    return found


def states(manager):
    """Return the state of each user."""
    return {user: dict(manager.user_state(user)) for user in ("ada", "bob", "carol")}


def exported(manager, user):
    """Return the export of a user's sessions."""
    file = io.StringIO()
    manager.export_sessions(file, user_id=user)
    return [json.loads(line) for line in file.getvalue().splitlines()]


def texts(document):
    return [(each["message_id"], each["content"]) for each in document["messages"]]
