"""The calls that are interrupted: what each needs, and what must be stored when it was repeated."""

import io
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import pytest

from pyai_sessions import (
    Message,
    Session,
    SessionDeletedError,
    SessionExistsError,
    SessionManager,
    SessionStateError,
)
from pyai_sessions.testing import StoppedClock
from tests.faults.loops import Awaited

_numbers = count()


@dataclass
class Call:
    """A call to interrupt.

    Attributes:
        prepare: Stores, by a manager, what the call needs, and returns it: a session, its expected texts, and more.
        act: Makes the call, given a manager and what it needs. It may be made again.
        check: Asserts, by any manager, that the call was applied once.
        scans: Whether the call reads all sessions.

    """

    prepare: object
    act: object
    check: object
    scans: bool = False


def _fresh():
    return f"s{next(_numbers)}"


def _stored(manager, size=3, pages=0):
    name = _fresh()
    session = manager.create_session(f"user of {name}", session_id=name)
    for n in range(size + pages * 40):
        session.add_message("user", f"before {n}", message_id=f"before {n}")
    manager.save(session)
    return session


def texts_of(manager, session_id):
    """Return the texts of a session, or None if there is no such session."""
    session = manager.get_session(session_id)
    return None if session is None else [each.content for each in session.messages]


def _added(session, *contents):
    before = [each.content for each in session.messages]
    for each in contents:
        session.add_message("user", each, message_id=each)
    return session, [*before, *contents]


def _check_texts(manager, needs):
    session, texts = needs
    found = texts_of(manager, session.session_id)
    assert found is not None, "lost: the session"
    found = [each for each in found if not each.startswith("handler ")]
    counted = Counter(found)
    assert not [each for each in texts if not counted[each]], "lost: messages"
    assert max(counted.values()) == 1, "doubled: messages"
    assert found == texts


def _create(manager, needs):
    with suppress(SessionExistsError):  # by the call that was interrupted
        manager.create_session("ada", session_id=needs[0].session_id)


def _named(_):
    return _Named(_fresh()), []


@dataclass
class _Named:
    session_id: str


def _stale(manager):
    session = _stored(manager)
    manager.append(session.session_id, Message("user", "theirs", message_id="theirs"))
    texts = [*(each.content for each in session.messages), "theirs", "mine"]
    session.add_message("user", "mine", message_id="mine")
    return session, texts


def _fork(manager, needs):
    with suppress(SessionExistsError):
        manager.fork(needs[0].session_id, new_id=needs[0].session_id + "-fork")


def _check_fork(manager, needs):
    _check_texts(manager, needs)
    assert texts_of(manager, needs[0].session_id + "-fork") == needs[1], "lost: of the fork"


def _branched(manager):
    session = _stored(manager, pages=1)
    texts = [each.content for each in session.messages]
    session.rewind(2)
    manager.save(session)
    return session, texts, session.branches[0].branch_id


def _switch(manager, needs):
    session, _, branch = needs
    if branch in [each.branch_id for each in manager.get_session(session.session_id).branches]:
        with suppress(SessionStateError):  # the call that was interrupted was still at work, and has ended since
            manager.switch(session.session_id, branch)


def _delete(manager, needs):
    with suppress(SessionDeletedError):
        manager.delete(needs[0].session_id)


def _check_gone(manager, needs):
    assert manager.get_session(needs[0].session_id) is None, "lost: a deletion"
    assert not manager.list_sessions(needs[0].user_id), "lost: a deletion from a list"


def _archive(manager, needs):
    manager.archive(needs[0].session_id)


def _check_archived(manager, needs):
    assert not manager.list_sessions(needs[0].user_id), "lost: an archiving"
    _check_texts(manager, needs)


def _check_updated(manager, needs):
    _check_texts(manager, needs)
    assert manager.get_session(needs[0].session_id).state["key"] == {"a": 1}, "lost: a change of the state"


def _read(manager, needs):
    _check_texts(manager, needs)
    assert manager.get_session(needs[0].session_id, last=2).messages


def _list(manager, needs):
    session = needs[0]
    theirs = [each.session_id for each in manager.list_sessions(session.user_id)]
    assert theirs == [session.session_id], "lost: of a list"
    assert manager.count(session.user_id) == 1
    newest = [each.session_id for each in manager.list_sessions(limit=3)]
    assert session.session_id in newest, "lost: of the list of all"


def _check_exists(manager, needs):
    assert manager.get_session(needs[0].session_id) is not None, "lost: the session"


def _of_a_user(manager):
    named, texts = _named(manager)
    manager.update_user_state(named.session_id, {"a": {"before": 1}})
    return named, texts


def _update_state(manager, needs):
    manager.update_user_state(needs[0].session_id, {"a": {"b": 1}}, remove=["c"])


def _check_state(manager, needs):
    assert manager.user_state(needs[0].session_id) == {"a": {"before": 1, "b": 1}}, "lost: a change of a user's state"


def _update_with_state(manager, needs):
    message = Message("user", "a", message_id="a")
    state = {"user_state": {"a": {"b": 1}}, "remove_user_state": ["c"], "user_id": needs[0].session_id}
    manager.update(needs[0].session_id, message, state={"key": {"a": 1}}, create=True, **state)


def _check_both(manager, needs):
    _check_new(manager, needs)
    _check_state(manager, needs)


CALLS = {
    "create": Call(_named, _create, _check_exists),
    "save": Call(lambda m: _added(_stored(m), "a", "b"), lambda m, n: m.save(n[0]), _check_texts),
    "save a page": Call(
        lambda m: _added(_stored(m), *(f"{n} " + "x" * 300 for n in range(40))), lambda m, n: m.save(n[0]), _check_texts
    ),
    "save a stale copy": Call(_stale, lambda m, n: m.save(n[0]), _check_texts),
    "append": Call(
        lambda m: (s := _stored(m), [*(each.content for each in s.messages), "a"]),
        lambda m, n: m.append(n[0].session_id, Message("user", "a", message_id="a")),
        _check_texts,
    ),
    "update": Call(
        lambda m: (s := _stored(m), [*(each.content for each in s.messages), "a"]),
        lambda m, n: m.update(n[0].session_id, Message("user", "a", message_id="a"), state={"key": {"a": 1}}),
        _check_updated,
    ),
    "update with states": Call(_of_a_user, _update_with_state, _check_both),
    "update the state of a user": Call(_of_a_user, _update_state, _check_state),
    "read": Call(lambda m: _added(_stored(m, pages=1)), _read, _check_texts),
    "list": Call(lambda m: _added(_stored(m)), _list, _list, scans=True),
    "fork": Call(lambda m: _added(_stored(m, pages=1)), _fork, _check_fork),
    "switch": Call(_branched, _switch, lambda m, n: _check_texts(m, n[:2])),
    "archive": Call(lambda m: _added(_stored(m)), _archive, _check_archived),
    "delete": Call(lambda m: _added(_stored(m, pages=1)), _delete, _check_gone),
}


# Calls on any number of sessions -------------------------------------------------------------------------------------

_TTL = 3600


def options_of(name):
    """Return the store options that a call needs. Calls on old sessions need a clock that can be set back."""
    return {"purge": {"clock": StoppedClock(), "ttl": _TTL}, "archive what is idle": {"clock": StoppedClock()}}.get(
        name, {}
    )


def _unstored(_):
    made = SessionManager()
    return *_added(_stored(made, pages=1)), _stored(made)


def _import(manager, needs):
    session, _, another = needs
    done = manager.import_sessions([session.to_dict(), another.to_dict()])
    assert (done.inserted + done.identical, done.different) == (2, 0)


def _check_imported(manager, needs):
    _check_texts(manager, needs[:2])
    assert len(texts_of(manager, needs[2].session_id)) == 3, "lost: of what was imported"


def _export(manager, needs):
    file = io.StringIO()
    assert manager.export_sessions(file, user_id=needs[0].user_id) == 1, "lost: of the export"
    assert [each.content for each in Session.from_json(file.getvalue()).messages] == needs[1]


def _read_pages(manager, needs):
    session_id, texts = needs[0].session_id, needs[1]
    up = [manager.get_messages(session_id, limit=20)]
    while up[-1].has_older:
        up.append(manager.get_messages(session_id, before=up[-1][0], limit=20))
    assert [each.content for page in reversed(up) for each in page] == texts, "lost: of the pages"
    down = manager.get_messages(session_id, after=up[-1][0], limit=None)
    assert [each.content for each in down] == texts[1:], "lost: of what follows"


def _read_one(manager, needs):
    session_id, texts = needs[0].session_id, needs[1]
    assert manager.get_message(session_id, "before 7").content == texts[7], "lost: a message"
    assert manager.get_message(session_id, "nothing") is None


def _read_several(manager, needs):
    session, texts = needs
    found = manager.get_sessions([session.session_id, "nobody"])
    assert list(found) == [session.session_id], "lost: of several"
    assert [each.content for each in found[session.session_id].messages] == texts, "lost: of one of several"


def _update_new(manager, needs):
    message = Message("user", "a", message_id="a")
    manager.update(needs[0].session_id, message, state={"key": {"a": 1}}, create=True, user_id="ada")


def _check_new(manager, needs):
    _check_updated(manager, (needs[0], ["a"]))


def _to_copy(manager):
    return *_added(_stored(manager, pages=1)), {}


def _copy(manager, needs):
    target = SessionManager(needs[2])
    done = manager.copy_sessions(target)
    assert not done.different, "other: a copy differs"
    assert texts_of(target, needs[0].session_id) == needs[1], "lost: of a copy"


def _forked(manager):
    session = _stored(manager, pages=1)
    texts = [each.content for each in session.messages]
    manager.fork(session.session_id, new_id=session.session_id + "-fork")
    return session, ["gone" if each == "before 1" else each for each in texts]


def _redact(manager, needs):
    manager.redact(needs[0].session_id, "before 1", content="gone")


def _repair(manager, needs):
    assert not manager.verify(repair=True).problems
    _check_texts(manager, needs)


def _reindex(manager, needs):
    assert manager.reindex() > 1
    _list(manager, needs)


def _old(manager):
    """Return a session of two hours ago."""
    clock = manager.store.clock
    clock.advance(seconds=-2 * _TTL)
    try:
        return _added(_stored(manager, pages=1))
    finally:
        clock.advance(seconds=2 * _TTL)


def _restored(manager):
    session = _stored(manager)
    manager.archive(session.session_id)
    return _added(session)


def _load_history(manager, needs):
    session = manager.get_session(needs[0].session_id, last=2)
    manager.load_history(session)
    assert [each.content for each in session.messages] == needs[1]


def _without(start):
    """Return what prepares a session of a page and more, and its texts before number *start*."""

    def prepare(manager):
        session = _stored(manager, pages=1)
        texts = [each.content for each in session.messages]
        return session, texts[:start]

    return prepare


def _replaced(manager):
    session, texts = _added(_stored(manager, pages=1))
    return session, ["gone" if each == "before 1" else each for each in texts]


def _removed(manager):
    session, texts = _added(_stored(manager, pages=1))
    return session, [each for each in texts if each != "before 1"]


def _remove(manager, needs):
    with suppress(SessionStateError):  # by the call that was interrupted
        manager.remove_message(needs[0].session_id, "before 1")


def _clear(manager, needs):
    manager.clear_messages(needs[0].session_id)


def _check_cleared(manager, needs):
    assert texts_of(manager, needs[0].session_id) == [], "lost: the removal of all messages"


def _rewind(manager, needs):
    if manager.get_message(needs[0].session_id, "before 21"):
        with suppress(SessionStateError):  # the call that was interrupted was still at work, and has ended since
            manager.rewind(needs[0].session_id, "before 20")


_PIECES = ("Once ", "upon ", "a time")


def _stream(manager, needs):
    session_id = needs[0].session_id
    if manager.get_message(session_id, "answer"):
        manager.replace_message(session_id, "answer", content="".join(_PIECES))
    elif isinstance(manager, Awaited):
        manager.run(_stream_awaited(manager.manager, session_id))
    else:
        with manager.stream(session_id, every=0, message_id="answer") as answer:
            for piece in _PIECES:
                answer.write(piece)


async def _stream_awaited(manager, session_id):
    async with manager.stream(session_id, every=0, message_id="answer") as answer:
        for piece in _PIECES:
            await answer.write(piece)


def _fork_with_state(manager, needs):
    with suppress(SessionExistsError):
        manager.fork(needs[0].session_id, new_id=needs[0].session_id + "-fork", state={"key": {"a": 1}})


def _check_fork_with_state(manager, needs):
    _check_fork(manager, needs)
    assert manager.get_session(needs[0].session_id + "-fork").state["key"] == {"a": 1}, "lost: the state of a fork"


def _delete_revision(manager, needs):
    session = manager.get_session(needs[0].session_id, last=0)
    if session is not None:
        manager.delete(session.session_id, if_revision=session.revision)


CHANGES = {
    "replace a message": Call(
        _replaced, lambda m, n: m.replace_message(n[0].session_id, "before 1", content="gone"), _check_texts
    ),
    "remove a message": Call(_removed, _remove, _check_texts),
    "clear": Call(_without(0), _clear, _check_cleared),
    "rewind": Call(_without(21), _rewind, _check_texts),
    "stream": Call(lambda m: _added(_stored(m), "Once upon a time"), _stream, _check_texts),
    "fork with a state": Call(lambda m: _added(_stored(m, pages=1)), _fork_with_state, _check_fork_with_state),
    "delete a revision": Call(lambda m: _added(_stored(m, pages=1)), _delete_revision, _check_gone),
}
"""Calls that change a session which is not in hand, or end it."""

BULK = CHANGES | {
    "update, created": Call(_named, _update_new, _check_new),
    "pages": Call(lambda m: _added(_stored(m, pages=1)), _read_pages, _read_pages),
    "one message": Call(lambda m: _added(_stored(m, pages=1)), _read_one, _read_one),
    "several": Call(lambda m: _added(_stored(m, pages=1)), _read_several, _read_several),
    "copy": Call(_to_copy, _copy, _copy, scans=True),
    "load the history": Call(lambda m: _added(_stored(m, pages=1)), _load_history, _check_texts),
    "restore": Call(_restored, lambda m, n: m.restore(n[0].session_id), _list),
    "import": Call(_unstored, _import, _check_imported),
    "export": Call(lambda m: _added(_stored(m, pages=1)), _export, _check_texts),
    "redact": Call(_forked, _redact, _check_fork),
    "delete a user": Call(
        lambda m: _added(_stored(m, pages=1)),
        lambda m, n: m.delete_user(n[0].user_id, scan=True),
        _check_gone,
        scans=True,
    ),
    "verify": Call(lambda m: _added(_stored(m, pages=1)), _repair, _repair, scans=True),
    "reindex": Call(lambda m: _added(_stored(m, pages=1)), _reindex, _reindex, scans=True),
    "purge": Call(_old, lambda m, _: m.purge_expired(), _check_gone, scans=True),
    "archive what is idle": Call(_old, lambda m, _: m.archive_inactive(_TTL / 86400), _check_archived, scans=True),
}
"""Calls that work on any number of sessions, and those that differ little from one of `CALLS`."""


SHORT = ("save", "append", "read", "delete")
"""The calls of the short form, where kinds differ little."""


def in_short(calls, chosen=SHORT):
    """Return names of calls as parameters, those that were not chosen for the long form."""
    return [each if each in chosen else pytest.param(each, marks=pytest.mark.long) for each in calls]


def each_in_short(kinds, calls, whole):
    """Likewise of pairs of a kind and a call: all calls of the kinds in *whole*, those of `SHORT` of the others."""
    return [
        pytest.param(
            kind,
            name,
            id=f"{getattr(kind, '__name__', kind)}-{name}",
            marks=() if kind in whole or name in SHORT else pytest.mark.long,
        )
        for kind in kinds
        for name in calls
    ]
