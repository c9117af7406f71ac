"""A table of all operations that change what is stored, which the fault tests interrupt and repeat.

Each is a function that loads what it needs and returns the call that is to be interrupted. Called again, on another
manager, it is what a caller does who does not know whether his call was stored: he looks, and does what is missing.
"""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pyai_sessions import (
    InvalidDocumentError,
    KVSessionStore,
    Message,
    Session,
    SessionArchivedError,
    SessionExistsError,
    SessionManager,
)
from pyai_sessions.sessions.joining import MAX_RUNS
from pyai_sessions.testing import NOON, StoppedClock

IDS = ("s0", "s1", "s2", "new", "child", "n0", "n1", "n2", "bad", "unlisted", "mortal", "mortal too")
NOW = NOON + timedelta(hours=2)
"""When operations are tried: s0 and s1 are idle for two hours, s2 for one."""


@dataclass(frozen=True)
class Operation:
    """An operation that changes what is stored.

    Attributes:
        load: Returns, of a manager, the call that is to be interrupted.
        arrange: What is stored before, beside the world of `store_world`.
        mends: Whether lists and documents are wrong until it is done.
        returns: Whether it returns the same, though part of it, or all, was done before by a call that raised.
        stepwise: Whether a session changes in several steps, each text in one.
        grows: Whether a message is stored before its text is whole.
        together: Whether sessions and states change in one step, where the storage has transactions.
        kept: Texts that must lie in the storage afterwards, whatever happens.
        rings: The keys with which the world is stored, and those with which the operation opens it, if it is encrypted.

    """

    load: Callable[[SessionManager], Callable[[], Any]]
    arrange: Callable[[SessionManager], object] = lambda _: None
    mends: bool = False
    returns: bool = False
    stepwise: bool = False
    grows: bool = False
    together: bool = False
    kept: tuple[str, ...] = ()
    rings: tuple[dict[str, bytes] | None, dict[str, bytes] | None] = field(default=(None, None))


OPERATIONS: dict[str, Operation] = {}


def operation(arrange=lambda _: None, **options):
    """Add a function to the table under its name."""

    def enter(load):
        OPERATIONS[load.__name__.replace("_", " ")] = Operation(load, arrange, **options)
        return load

    return enter


# What is stored before ------------------------------------------------------------------------------------------------


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


# Sessions that begin --------------------------------------------------------------------------------------------------


@operation()
def create_session(manager):
    def act():
        with suppress(SessionExistsError):  # it was stored, though the call failed
            manager.create_session("bob", session_id="new", metadata={"channel": "app"})

    return act


@operation()
def save_a_new_session(manager):
    session = manager.get_session("new") or Session(session_id="new", user_id="bob")
    say(session, 70)
    return lambda: manager.save(session)


def store_mortals(manager):
    """Store sessions that have expired when the operation runs."""
    mortal = SessionManager(KVSessionStore(manager.store.mapping, ttl=30), clock=StoppedClock())
    for session_id in ("mortal", "new"):
        session = mortal.create_session("bob", session_id=session_id)
        say(session, 40, "former")
        mortal.save(session)
    mortal.fork("s1", 20, new_id="mortal too")


@operation(store_mortals)
def create_in_place_of_an_expired_one(manager):
    return save_a_new_session(manager)


@operation()
def import_several(manager):
    sessions = []
    for n in range(3):
        session = Session(session_id=f"n{n}", user_id="bob", created_at=NOON)
        for m in range(40 if n != 1 else 2):
            session.add_message("user", f"imported {m}", message_id=f"imported{m}", timestamp=NOON)
        session.updated_at = NOON
        if n == 1:
            session.archive()
        sessions.append(session)
    return lambda: manager.import_sessions(sessions)


@operation()
def import_over_what_is_stored(manager):
    given = manager.get_session("s0").to_dict()
    given |= {"messages": given["messages"][:50], "state": {"mood": "other"}}
    given.pop("message_count", None)
    line = json.dumps(given)
    return lambda: manager.import_sessions(
        [line, json.dumps({"session_id": "n0", "user_id": "bob"})], on_conflict="overwrite"
    )


@operation(lambda manager: manager.fork("s0", 50, new_id="child", user_id="eve"))
def import_over_a_parent(manager):
    return import_over_what_is_stored(manager)


@operation(lambda manager: manager.fork("s1", 40, new_id="s0", user_id="ada") if manager.delete("s0") else None)
def import_over_a_fork(manager):
    return import_over_what_is_stored(manager)


@operation()
def copy_from_another_store(manager):
    source = SessionManager({}, clock=StoppedClock())
    for session_id in ("n0", "s2"):
        session = Session(session_id=session_id, user_id="bob", created_at=NOON, updated_at=NOW)
        for m in range(40):
            session.add_message("user", f"copied {m}", message_id=f"copied{m}", timestamp=NOON)
        session.updated_at = NOW
        source.import_sessions([session])
    return lambda: source.copy_sessions(manager)


@operation()
def fork(manager, session_id="s0", at=40):
    def act():
        with suppress(SessionExistsError):
            manager.fork(session_id, at, new_id="new", user_id="bob")

    return act


@operation()
def fork_with_a_state(manager):
    def act():
        with suppress(SessionExistsError):
            manager.fork("s0", 40, new_id="new", user_id="bob", metadata={"channel": "app"}, state={"mood": "gay"})

    return act


@operation()
def fork_all(manager):
    return fork(manager, at=None)


def fork_and_delete_the_parent(manager):
    """Make s1 a fork of a fork whose parents are deleted."""
    manager.fork("s0", new_id="child", user_id="eve")
    manager.delete("s1")
    manager.append("child", *said(40))
    manager.fork("child", new_id="s1", user_id="ada")
    manager.delete("child")


@operation(fork_and_delete_the_parent)
def fork_a_fork(manager):
    return fork(manager, "s1", None)


# Sessions that go on --------------------------------------------------------------------------------------------------


@operation()
def save(manager):
    session = manager.get_session("s0")
    say(session, 2, "more")
    return lambda: manager.save(session)


@operation()
def update(manager):
    texts = said(40, "more")

    def act():
        manager.update("s0", *texts, metadata={"channel": "mail"}, state={"mood": "gay", "deep": {"a": 1}})

    return act


@operation()
def update_creates(manager):
    texts = said(2, "more")

    def act():
        manager.update("new", *texts, state={"mood": "calm"}, create=True, user_id="bob")

    return act


@operation()
def save_pages(manager):
    session = manager.get_session("s0")
    say(session, 70, "more")
    return lambda: manager.save(session)


@operation()
def save_the_last(manager):
    session = manager.get_session("s0", last=3)
    say(session, 40, "more")
    return lambda: manager.save(session)


@operation()
def save_a_stale_copy(manager):
    session = manager.get_session("s0")
    manager.append("s0", *said(40, "theirs"))
    say(session, 40, "mine")
    session.set_state("key", "value")
    return lambda: manager.save(session)


@operation()
def rewrite_a_stale_copy(manager):
    session = manager.get_session("s0")
    manager.append("s0", *said(40, "theirs"))
    if has(session, "message3"):
        session.remove_message("message3")
    return lambda: manager.save(session)


@operation()
def overwrite(manager):
    session = Session(session_id="s0", user_id="bob")
    say(session, 40, "mine")
    return lambda: manager.save(session, on_conflict="overwrite")


@operation()
def increment(manager):
    session = manager.get_session("s0")
    if session.get_state("count") is None:
        session.increment_state("count")
        session.extend_state("cart", ["tea"])
    return lambda: manager.save(session)


@operation()
def replace(manager):
    session = manager.get_session("s0")
    session.replace_message("message10", content="edited")
    return lambda: manager.save(session)


@operation()
def shorten(manager):
    session = manager.get_session("s0")
    while session.message_count > 5:
        session.pop()
    return lambda: manager.save(session)


@operation()
def clear_messages(manager):
    session = manager.get_session("s0")
    session.clear_messages()
    return lambda: manager.save(session)


@operation()
def rewind(manager):
    session = manager.get_session("s0")
    if has(session, "more2"):
        return nothing
    session.rewind("message20")
    say(session, 3, "more")
    return lambda: manager.save(session)


@operation()
def rewind_far(manager):
    session = manager.get_session("s0")
    if has(session, "more39"):
        return nothing
    session.rewind("message40")
    say(session, 40, "more")
    return lambda: manager.save(session)


def leave_a_branch(manager, session_id="s0"):
    session = manager.get_session(session_id)
    session.rewind("message20")
    say(session, 40, "more")
    manager.save(session)


@operation(leave_a_branch)
def switch(manager):
    session = manager.get_session("s0")
    if has(session, "message40"):
        return nothing
    branch = session.branches[0]
    return lambda: manager.switch("s0", branch)


@operation(leave_a_branch)
def prune(manager):
    session = manager.get_session("s0")
    session.prune()
    return lambda: manager.save(session)


@operation()
def give_away(manager):
    session = manager.get_session("s0")
    session.user_id = "bob"
    return lambda: manager.save(session)


@operation()
def append(manager):
    return lambda: manager.append("s0", *said(2))


@operation()
def append_to_a_full_tail(manager):
    return lambda: manager.append("s0", *said(40))


@operation()
def append_pages(manager):
    return lambda: manager.append("s0", *said(70))


@operation()
def append_again(manager):
    manager.append("s0", *said(1, "first"))
    return lambda: manager.append("s0", *said(3))


PIECES = ("Once ", "upon ", "a time")


def cut_into_runs(manager):
    """Store a session whose head names so many runs of pages that the next change joins some."""
    session = manager.create_session("bob", session_id="new")
    for n in range(160):
        session.add_message("user", "x" * 4_000, message_id=f"long{n}")
    manager.save(session)
    for n in range(2, 160, 4):
        if len(json.loads(manager.store.mapping["session/new"])["sealed"]) <= MAX_RUNS - 2:
            manager.replace_message("new", f"long{n}", metadata={"rating": n})


# Messages of a session that is not in hand ----------------------------------------------------------------------------


@operation(returns=True)
def replace_a_message(manager):
    return lambda: manager.replace_message("s0", "message3", content="edited")


@operation(returns=True)
def rate_the_last_message(manager):
    return lambda: manager.replace_message("s0", "message69", metadata={"rating": 5})


@operation()
def remove_a_message(manager):
    return lambda: manager.get_message("s0", "message40") and manager.remove_message("s0", "message40") and None


@operation()
def pop_a_message(manager):
    return lambda: manager.get_message("s0", "message69") and manager.pop_message("s0") and None


@operation()
def clear_messages_unseen(manager):
    return lambda: manager.clear_messages("s0")


@operation()
def rewind_unseen(manager):
    return lambda: manager.get_message("s0", "message51") and manager.rewind("s0", "message50") and None


@operation(returns=True, grows=True)
def stream(manager):
    def act():
        if manager.get_message("s0", "answer"):  # of one who died while it grew
            manager.replace_message("s0", "answer", content="".join(PIECES))
            return
        with manager.stream("s0", every=0, message_id="answer") as answer:
            for piece in PIECES:
                answer.write(piece)

    return act


@operation(cut_into_runs, returns=True)
def replace_a_message_of_a_head_in_pieces(manager):
    return lambda: manager.replace_message("new", "long64", metadata={"rating": 5}).content


@operation(cut_into_runs)
def save_a_session_in_pieces(manager):
    session = manager.get_session("new")
    session.replace_message("long64", metadata={"rating": 5})
    say(session, 2, "more")
    return lambda: manager.save(session)


@operation()
def renew(manager):
    sliding = SessionManager(KVSessionStore(manager.store.mapping, ttl=10**9), clock=manager.store.clock)
    sliding.append("s0", *said(70))
    return lambda: sliding.get_session("s0", last=0, renew=True)


@operation()
def save_a_title_alone(manager):
    session = manager.get_session("s0")
    session.title = "To Vienna"
    return lambda: manager.save(session)


# Forks that go on -----------------------------------------------------------------------------------------------------


def store_a_fork(manager):
    manager.fork("s0", 50, new_id="new", user_id="bob")


def store_an_orphan(manager):
    store_a_fork(manager)
    manager.delete("s0")


def store_a_fork_with_a_branch(manager):
    manager.fork("s0", new_id="new", user_id="bob")
    leave_a_branch(manager, "new")


@operation(store_a_fork)
def save_a_fork(manager):
    session = manager.get_session("new")
    say(session, 40, "more")
    return lambda: manager.save(session)


@operation(store_an_orphan)
def rewrite_a_fork(manager):
    session = manager.get_session("new")
    session.replace_message("message3", content="edited")
    return lambda: manager.save(session)


@operation(store_a_fork)
def rewrite_a_parent(manager):
    return replace(manager)


@operation(store_a_fork_with_a_branch)
def switch_a_fork(manager):
    session = manager.get_session("new")
    if has(session, "message60"):
        return nothing
    branch = session.branches[0]
    return lambda: manager.switch("new", branch)


@operation(store_a_fork)
def replace_a_message_of_a_fork(manager):
    return lambda: manager.replace_message("new", "message3", content="edited")


@operation(store_a_fork)
def remove_a_message_that_a_fork_has(manager):
    return lambda: manager.get_message("s0", "message3") and manager.remove_message("s0", "message3") and None


@operation(store_a_fork)
def append_to_a_fork(manager):
    return lambda: manager.append("new", *said(40))


# Statuses -------------------------------------------------------------------------------------------------------------


@operation()
def archive(manager):
    def act():
        with suppress(SessionArchivedError):
            manager.archive("s0")

    return act


@operation(lambda manager: manager.archive("s0"))
def restore(manager):
    return lambda: manager.restore("s0")


@operation()
def archive_inactive(manager):
    return lambda: manager.archive_inactive(days=90 / 24 / 60)


# What goes ------------------------------------------------------------------------------------------------------------


@operation(returns=True)
def delete(manager):
    return lambda: manager.delete("s0")


@operation(returns=True)
def delete_a_revision(manager):
    session = manager.get_session("s0")
    return lambda: manager.delete("s0", if_revision=session.revision if session else None)


@operation(leave_a_branch, returns=True)
def delete_with_a_branch(manager):
    return lambda: manager.delete("s0")


@operation(store_a_fork, returns=True)
def delete_a_parent(manager):
    return lambda: manager.delete("s0")


@operation(store_a_fork, returns=True)
def delete_a_fork(manager):
    return lambda: manager.delete("new")


@operation(store_an_orphan, returns=True)
def delete_the_last(manager):
    return lambda: manager.delete("new")


@operation(store_a_fork)
def delete_user(manager):
    return lambda: manager.delete_user("ada")


@operation(store_a_fork)
def delete_user_by_a_scan(manager):
    return lambda: manager.delete_user("ada", scan=True)


@operation(store_a_fork)
def delete_inactive(manager):
    return lambda: manager.delete_inactive(days=90 / 24 / 60)


@operation(store_mortals)
def purge_expired(manager):
    return manager.purge_expired


def store_foreign(manager):
    store_a_fork_with_a_branch(manager)
    manager.store.mapping["theirs"] = "kept"


@operation(store_foreign, kept=("kept",))
def clear_all(manager):
    return manager.clear_all


def tell_a_secret(manager):
    """Put a message's text into a page, a branch and a fork of the same user."""
    manager.fork("s0", new_id="child", user_id="ada")
    leave_a_branch(manager)
    session = manager.get_session("s0")
    session.set_state("note", "as said in message 10, which is long")
    manager.save(session)


@operation(tell_a_secret, stepwise=True)
def redact(manager):
    return lambda: manager.redact("s0", "message10", text="message 10")


@operation(store_a_fork, stepwise=True)
def redact_in_a_parent(manager):
    return lambda: manager.redact("s0", "message10")


# Upkeep ---------------------------------------------------------------------------------------------------------------


def write_unlisted(manager):
    """Put a session into the mapping without list entries, as another program might."""
    other = SessionManager()
    session = other.create_session("ada", session_id="unlisted")
    say(session, 3)
    other.save(session)
    manager.store.mapping["session/unlisted"] = other.store.mapping["session/unlisted"]


@operation(write_unlisted, mends=True)
def reindex(manager):
    return manager.reindex


DAMAGED = ('[{"role":"user","content":"cut', '{"format":1,')


def damage(manager):
    """Cut a page, leave an orphan page and an unreadable head, and remove a list entry."""
    mapping = manager.store.mapping
    page = min(key for key in mapping if key.startswith("messages/s0/"))
    mapping[page], mapping["session/bad"] = DAMAGED
    mapping["messages/s1/lost/0"] = "[]"
    write_unlisted(manager)


@operation(damage, mends=True, kept=DAMAGED)
def repair(manager):
    def act():
        assert manager.verify(repair=True)

    return act


def store_states(manager):
    """Store the state of two users, one of it damaged and set aside before."""
    manager.update_user_state("ada", {"n": 1, "a": {"b": 1}})
    manager.update_user_state("carol", {"n": 2})
    manager.store.mapping["state/user:carol"] = '{"format":1}'
    manager.verify(repair=True)
    manager.update_user_state("carol", {"n": 3})


@operation(store_states)
def change_the_state_of_a_user(manager):
    return lambda: manager.update_user_state("ada", {"a": {"c": 2}}, remove=["n"])


@operation(store_states, together=True)
def update_with_states(manager):
    texts = said(2, "more")

    def act():
        manager.update("s1", *texts, state={"mood": "gay"}, user_state={"a": {"c": 2}}, user_id="ada")

    return act


@operation(store_states)
def copy_a_state_from_another_store(manager):
    source = SessionManager({}, clock=StoppedClock(NOW + timedelta(hours=1)))
    source.update_user_state("ada", {"n": 5}, ttl=10_000)

    def act():
        report = source.copy_sessions(manager)
        return report.states, report.different_states

    return act


@operation(store_states)
def delete_a_user_with_a_state(manager):
    return lambda: bool(manager.delete_user("carol", scan=True)) and None


OLD = {"old": b"o" * 32}
BOTH = {**OLD, "new": b"n" * 32}


@operation(store_a_fork_with_a_branch, rings=(OLD, BOTH))
def rotate_keys(manager):
    return manager.rotate_keys


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
