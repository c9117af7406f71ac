"""Operations that begin a session or change one."""

import json
from contextlib import suppress

from pyai_sessions import KVSessionStore, Session, SessionExistsError, SessionManager
from pyai_sessions.testing import NOON, StoppedClock
from tests.faults.operations.table import operation
from tests.faults.operations.worlds import (
    NOW,
    cut_into_runs,
    fork_and_delete_the_parent,
    has,
    leave_a_branch,
    nothing,
    said,
    say,
    store_a_fork,
    store_a_fork_with_a_branch,
    store_an_orphan,
    store_mortals,
)

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
