"""Fails each read of every call that reads. The call must raise and change nothing, and its repetition succeed."""

import io
from itertools import count

import pytest

from pyai_sessions import SessionManager, StorageError, StorageLockedError
from tests.faults.operations.worlds import leave_a_branch, store_a_fork, store_world


def whole(session):
    return session and session.to_dict()


def page(found):
    return [each.to_dict() for each in found], found.has_older, found.has_newer


def in_pages(manager):
    """Read a session page by page, up from its end and down from its beginning."""
    up = [manager.get_messages("s0", limit=30)]
    while up[-1].has_older:
        up.append(manager.get_messages("s0", before=up[-1][0], limit=30))
    down = [manager.get_messages("s0", after=up[-1][0], limit=30)]
    while down[-1].has_newer:
        down.append(manager.get_messages("s0", after=down[-1][-1], limit=30))
    return [page(each) for each in (*up, *down)]


def exported(manager, **options):
    file = io.StringIO()
    manager.export_sessions(file, **options)
    return sorted(file.getvalue().splitlines())


def copied(manager):
    target = SessionManager({})
    report = manager.copy_sessions(target)
    return report, exported(target)


def loaded(manager):
    session = manager.get_session("s0", last=3)
    manager.load_history(session)
    return whole(session)


READS = {
    "get_session": lambda m: whole(m.get_session("s0")),
    "get_session, the last": lambda m: m.get_session("s0", last=3).messages,
    "get_session of a fork": lambda m: whole(m.get_session("new")),
    "get_sessions": lambda m: {key: whole(each) for key, each in m.get_sessions(["s0", "nobody", "new", "s2"]).items()},
    "get_sessions_for_user": lambda m: list(map(whole, m.get_sessions_for_user("ada"))),
    "load_history": loaded,
    "get_messages": in_pages,
    "get_messages of a fork": lambda m: page(m.get_messages("new", before="message45", limit=40)),
    "get_message": lambda m: m.get_message("s0", "message3").to_dict(),
    "get_message that is not there": lambda m: m.get_message("s0", "nothing"),
    "list_sessions": lambda m: [each.to_dict() for each in m.list_sessions("ada", status=None)],
    "list_sessions, where": lambda m: [each.to_dict() for each in m.list_sessions(where={"channel": "web"})],
    "count": lambda m: (m.count(), m.count("ada")),
    "users": lambda m: sorted(m.users()),
    "user_state": lambda m: (m.user_state("ada"), m.user_state("nobody"), m.app_state()),
    "export_sessions": exported,
    "export_sessions of a user": lambda m: exported(m, user_id="ada", scan=True),
    "copy_sessions": copied,
    "verify": lambda m: m.verify().problems,
}


def store_all(manager):
    store_world(manager)
    store_a_fork(manager)
    leave_a_branch(manager)
    manager.archive("s1")
    manager.update_user_state("ada", {"n": 1})
    manager.update_app_state({"n": 2})


def dumped(place):
    """Return all that lies in a place."""
    with place.open() as manager:
        return {key: bytes(value) if isinstance(value, memoryview) else value for key, value in items(manager)}


def items(manager):
    mapping = manager.store.mapping
    return [(key, mapping[key]) for key in mapping if key != "pyai_sessions/probe"]


@pytest.mark.parametrize("place", ["dict", "sqlite", pytest.param("valkey", marks=pytest.mark.long)], indirect=True)
@pytest.mark.parametrize("name", READS)
@pytest.mark.usefixtures("proxy")
def test_a_read_that_fails(place, name, long_form, tell):
    """The call raises or retries. It never returns less, and neither does a later call."""
    read = READS[name]
    with place.open() as manager:
        store_all(manager)
    before = dumped(place)
    with place.open() as manager:
        expected = read(manager)
    ways = [each for each in place.WAYS if "dies" not in each]
    for at in count(1):
        tried = ways if long_form else [ways[at % len(ways)]]
        copies = [(place.copy(), way) for way in tried]
        failed = [fails(copy, read, expected, way, at) for copy, way in copies]
        assert all(dumped(copy) == before for copy, _ in copies)
        if not any(failed):
            break
    tell(at - 1)

    assert at > 1


def fails(place, read, expected, way, at):
    """Let the n-th read fail, and read again with the same manager. Return whether there was an n-th read."""
    with place.open() as manager:
        place.fail(at, way, reads=True)
        found = caught = None
        try:
            found = read(manager)
        except StorageError as err:
            caught = err
        failed = place.mend()
        if way in place.HIDDEN:
            assert caught is None or isinstance(caught, StorageLockedError)
        assert caught is not None or found == expected
        assert read(manager) == expected
    return failed
