"""Operations that end sessions, and those on many sessions, states or documents."""

from contextlib import suppress
from datetime import timedelta

from pyai_sessions import SessionArchivedError, SessionManager
from pyai_sessions.testing import StoppedClock
from tests.faults.operations.table import operation
from tests.faults.operations.worlds import (
    DAMAGED,
    NOW,
    damage,
    leave_a_branch,
    said,
    store_a_fork,
    store_a_fork_with_a_branch,
    store_an_orphan,
    store_foreign,
    store_mortals,
    store_states,
    tell_a_secret,
    write_unlisted,
)

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


@operation(store_foreign, kept=("kept",))
def clear_all(manager):
    return manager.clear_all


@operation(tell_a_secret, stepwise=True)
def redact(manager):
    return lambda: manager.redact("s0", "message10", text="message 10")


@operation(store_a_fork, stepwise=True)
def redact_in_a_parent(manager):
    return lambda: manager.redact("s0", "message10")


# Upkeep ---------------------------------------------------------------------------------------------------------------


@operation(write_unlisted, mends=True)
def reindex(manager):
    return manager.reindex


@operation(damage, mends=True, kept=DAMAGED)
def repair(manager):
    def act():
        assert manager.verify(repair=True)

    return act


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
